"""The switch's database as the agent sees it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Any

from ovsnet.model.types import Encapsulation
from ovsnet.ovsdb import changes, patches, plugs, zones
from ovsnet.ovsdb.link import Link, OvsdbError
from ovsnet.ovsdb.plugs import Plugged
from ovsnet.ovsdb.state import Interface, StateView, SwitchState
from ovsnet.ovsdb.zones import Zone

log = logging.getLogger(__name__)


class Ovsdb:
    """One Open vSwitch's database, through its socket ``target`` (``unix:PATH`` or ``tcp:ADDRESS:PORT``).

    A thread of its own keeps a copy of the few columns that matter, notices within a second that the server is gone or
    hangs, and reconnects by itself. While it is disconnected :attr:`state` keeps the last known facts. All methods are
    thread-safe; those that change something raise OvsdbError when that cannot be done within ``timeout`` seconds.
    """

    def __init__(self, target: str, bridge: str = "br-int") -> None:
        self.target = target
        self.bridge = bridge
        self._view = StateView(bridge)
        self._link = Link(target, on_rows=self._rows, on_lost=self._lost, note=self._view.note)
        self._changed = threading.Condition()
        self._state = SwitchState(bridge)
        self._connected = False
        self._listeners: list[Callable[[], None]] = []

    def start(self) -> Ovsdb:
        """Begin to connect; returns at once."""
        self._link.start()
        return self

    def close(self) -> None:
        """End the connection and its thread."""
        self._link.close()

    @property
    def connected(self) -> bool:
        """Whether the copy follows the server at present."""
        return self._connected

    @property
    def state(self) -> SwitchState:
        """The facts as last known."""
        return self._state

    def interfaces(self) -> Mapping[str, Interface]:
        """The interfaces of the integration bridge by their ``iface-id``."""
        return self._state.interfaces

    def tunnel_ofport(self) -> int | None:
        """The OpenFlow port number of our tunnel port, ``None`` while it has none."""
        tunnel = self._state.tunnel
        return None if tunnel is None else tunnel.ofport

    def on_change(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called after each change of :attr:`state`, its ``zones`` apart, or :attr:`connected`.

        It runs on the connection's thread and must only take note; a burst of updates makes one call.
        """
        self._listeners.append(listener)

    def wait(self, condition: Callable[[SwitchState], bool], timeout: float) -> bool:
        """Wait until the connected switch's state fulfils ``condition``; false after ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self._connected and condition(self._state), timeout)

    def wait_connected(self, timeout: float) -> bool:
        """Wait until connected; false after ``timeout`` seconds."""
        return self.wait(lambda _: True, timeout)

    def ensure_bridge(self, datapath_type: str = "system", timeout: float = 5.0) -> list[str]:
        """Create or correct the integration bridge; returns what was changed, in words.

        ``datapath_type`` is ``netdev`` (user space) or ``system`` (kernel). The bridge is made fail-mode secure,
        without controllers, with in-band control disabled. Raises UserError when it belongs to somebody else.
        """
        changed: list[str] = self._link.transact(changes.integration_bridge(self.bridge, datapath_type), timeout)
        return _logged(changed)

    def ensure_tunnel(
        self, local_ip: str, encapsulation: Encapsulation = "vxlan", *, timeout: float = 5.0
    ) -> list[str]:
        """Create or correct the one tunnel port, whose peers and VNIs flows choose; returns what was changed, in words.

        ``local_ip`` is the host's VTEP address, IPv4 or IPv6. Ours of another encapsulation goes. Raises UserError when
        a port of its name (``vxlan0``, ``geneve0``) is somebody else's.
        """
        change = changes.tunnel_port(self.bridge, encapsulation, local_ip)
        return _logged(self._link.transact(change, timeout))

    def ensure_patches(self, bridges: Collection[str], timeout: float = 5.0) -> list[str]:
        """Create or correct a pair of patch ports to each of these bridges that is there; those of ours to others go.

        Returns what was changed, in words. Raises UserError when a port of such a name is somebody else's.
        """
        return _logged(self._link.transact(patches.pairs(self.bridge, bridges), timeout))

    def arm_restore_wait(self, timeout: float = 5.0) -> bool:
        """Make the next start of ovs-vswitchd keep the datapath's flows until :meth:`release_restore_wait`.

        A running ovs-vswitchd ignores ``other_config:flow-restore-wait``; one that starts leaves the kernel's cached
        flows alone and handles no packet until it is false (ovs-vswitchd.conf.db(5)). That concerns all bridges, so it
        is armed only while every bridge is ours, and taken back when another appears. Returns whether it is armed.
        """
        return self._link.transact(changes.arm, timeout)

    def release_restore_wait(self, timeout: float = 10.0) -> bool:
        """Let an ovs-vswitchd that waits for its flows go, wait until it does, and arm again; false if never armed.

        Raises OvsdbError when ovs-vswitchd does not follow within ``timeout`` seconds; the setting then stays false.
        """
        end = time.monotonic() + timeout
        serial = self._link.transact(changes.release, timeout)
        if serial is None:
            return False
        self._wait_applied(serial, end, timeout)
        return self.arm_restore_wait(max(0.5, end - time.monotonic()))

    def plugged(self, iface_id: str, timeout: float = 5.0) -> Plugged | None:
        """The interface of the integration bridge that claims an iface-id, ``None`` if none does."""
        return self._link.transact(plugs.plugged(self.bridge, iface_id), timeout)

    def plug(self, name: str, iface_id: str, port: str, mac: str, kind: str, timeout: float = 5.0) -> Plugged:
        """Put an interface on the integration bridge for a port (``VPC/NAME``), or bind it where it is; idempotent.

        ``kind`` says what it is (``veth``, ``tap``, ``existing``), for whoever unplugs it. Raises UserError when the
        interface belongs to another port or bridge.
        """
        return self._link.transact(plugs.plug(self.bridge, name, iface_id, port, mac, kind), timeout)

    def unplug(self, port: str, timeout: float = 5.0) -> list[Plugged]:
        """Take what :meth:`plug` put there for a port off the bridge; returns what that was."""
        return self._link.transact(plugs.unplug(self.bridge, port), timeout)

    def write_zones(self, wanted: Mapping[str, Zone | None], last: int, timeout: float = 5.0) -> None:
        """Write down the conntrack zones of ports by their ids, ``None`` for one that is gone; the others stay.

        ``last`` is the number that was given last. :attr:`state` has it when this returns. Raises UserError without the
        bridge.
        """
        self._link.transact(zones.write(self.bridge, wanted, last), timeout)

    def sync(self, timeout: float = 5.0) -> None:
        """Wait until ovs-vswitchd has applied the configuration as it is now. Raises OvsdbError after ``timeout`` s."""
        end = time.monotonic() + timeout
        self._wait_applied(self._link.transact(changes.request_pass, timeout), end, timeout)

    def _wait_applied(self, serial: int, end: float, timeout: float) -> None:
        if not self.wait(lambda state: state.cur_cfg >= serial, max(0.0, end - time.monotonic())):
            raise OvsdbError(f"ovs-vswitchd did not apply the configuration within {timeout:g} s; is it running?")

    def _rows(self, tables: Mapping[str, Any]) -> None:
        state = self._view.build(tables)
        if not self._connected:
            log.info("connected to the OVSDB server at %s", self.target)
        elif state == self._state:
            return
        elif replace(state, zones=self._state.zones) == self._state:
            with self._changed:
                self._state = state
                self._changed.notify_all()
            return
        self._publish(state, connected=True)

    def _lost(self, reason: str) -> None:
        if not self._link.closing:
            log.warning("lost the OVSDB server at %s: %s", self.target, reason)
        self._publish(self._state, connected=False)

    def _publish(self, state: SwitchState, *, connected: bool) -> None:
        with self._changed:
            self._state, self._connected = state, connected
            self._changed.notify_all()
        for listener in self._listeners:
            listener()


def _logged(changed: list[str]) -> list[str]:
    for line in changed:
        log.info("%s", line)
    return changed
