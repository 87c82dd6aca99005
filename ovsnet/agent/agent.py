"""The agent put together: what it holds, the disk, the switch's database, and the loop that enforces."""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ovsnet.agent import report
from ovsnet.agent.arrival import Arrivals, Listener
from ovsnet.agent.boot import BootHold, read_boot_id
from ovsnet.agent.config import Config
from ovsnet.agent.lookout import Lookout
from ovsnet.agent.numbering import NumbersFile
from ovsnet.agent.observe import LocalPorts, Observer
from ovsnet.agent.packetlog import packet_log_of
from ovsnet.agent.picture import Named, Pending, Scene, misplaced
from ovsnet.agent.reconcile import Reconciler, Status
from ovsnet.agent.seen import bridges_of, facts_of, missing_bridges
from ovsnet.agent.store import Store
from ovsnet.agent.surroundings import Surroundings
from ovsnet.agent.zones import ZoneKeeper, filtered
from ovsnet.compiler import compile_states
from ovsnet.desired import Owned
from ovsnet.errors import UserError
from ovsnet.facts import Facts
from ovsnet.features import TEMPLATES
from ovsnet.http.events import EventLog
from ovsnet.log import about, about_port
from ovsnet.model.names import inner_mtu
from ovsnet.model.outside import zones_of
from ovsnet.model.types import VpcState
from ovsnet.numbers import Numbers
from ovsnet.openflow import SwitchPort
from ovsnet.openflow.codec import decode
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.notices import Notice
from ovsnet.openflow.outside import Heard
from ovsnet.ovsdb import Ovsdb, OvsdbError
from ovsnet.pipeline.template import COOKIE_MASK, COOKIE_OWNER, Key
from ovsnet.plan import Actual, Plan, plan
from ovsnet.transport.changes import Operation
from ovsnet.transport.view import Change, HostView

log = logging.getLogger(__name__)

TUNNEL_PATIENCE = 2.0
"""Seconds to wait at the start for the tunnel port's number, without which everything would be compiled twice."""
SAVE_AGAIN = 2.0
"""Seconds until what the disk has not taken is written again."""
CORRECT_EVERY = 1.0
"""Seconds between two corrections of the switch's configuration, in case somebody keeps changing it."""


@dataclass(frozen=True)
class Ticket:
    """A change on its way: ``asked`` for, on disk when ``stored`` is done, in the switch when ``enforced`` is.

    ``change`` lacks the operations that were done already.
    """

    asked: tuple[Operation, ...]
    change: Change
    stored: Future[None]
    enforced: Future[Status]


Edit = Callable[[Mapping[str, VpcState]], Iterable[Operation]]
"""Makes operations of the states that are held, by VPC."""


class BusView(Protocol):
    """What is known of the bus that the agent is on, if it is on one."""

    def faults(self) -> tuple[str, ...]:
        """What is wrong with the bus, in words."""

    def counts(self) -> dict[str, int]:
        """What has happened on it so far, by name."""


class Agent:
    """One host's agent, at a ``switch`` that ends with it. Raises UserError when the state cannot be used."""

    def __init__(self, config: Config, switch: SwitchPort) -> None:
        self.config, self.switch = config, switch
        self.store = Store(config.state_dir)
        states, self.damage = self.store.load()
        self.view = HostView(config.host, states)
        self.boot = BootHold(config.state_dir / "boot", read_boot_id(config.boot_id_file), states)
        self.ovsdb = Ovsdb(config.ovsdb, config.bridge)
        self.local = LocalPorts(config.host, states.values())
        self.numbers = NumbersFile(config.state_dir / "numbers.json", expected=bool(states))
        self.damage += self.numbers.damage
        for line in self.damage:
            log.error("%s", line)
        self.zones = ZoneKeeper(self.ovsdb, self.switch)
        self.surroundings = Surroundings(self.switch, config.state_dir / "neighbours.json", self._noted_now)
        self.events = EventLog()
        self.lookout = Lookout(self._scene, lambda: self.reconciler.status.through)
        self.reconciler = Reconciler(
            config.host,
            self.switch,
            states.values(),
            on_synced=self._synced,
            on_status=self._news,
            on_drift=self._drifted,
            on_outside=self.surroundings.serve,
            audit_every=config.audit_every,
            zones=self.zones,
            numbers=self.numbers,
        )
        self.packets = packet_log_of(self)
        self.arrivals = Arrivals(self.switch, self._arriving)
        self.arrivals.listen(lambda _vpc, _port: self._news())
        self.unsaved: set[str] = set()
        self._saving: Counter[str] = Counter()
        self._save_due = False
        self.observer = Observer(report.Sights(self).changes, self.events)
        self._watchers: list[Callable[[], None]] = [self.observer.poke]
        self.bus: BusView | None = None
        self.fault = ""
        self.refusal: UserError | None = None
        self.configured = threading.Event()
        self._in_place = False
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._facts_lock = threading.Lock()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._noted = threading.Event()
        self._stopping = False
        self._grace: threading.Timer | None = None
        self._thread = threading.Thread(target=self._watch_switch, name="switch config", daemon=True)

    def start(self) -> Agent:
        """Start everything; returns at once."""
        log.info("holding %d VPCs for host %s", len(self.view.states), self.config.host)
        self._disk.submit(self._save_boot)
        if self.boot.waiting:
            log.warning("the host was booted: the ports of %d VPCs wait to be confirmed", len(self.boot.waiting))
            if self.config.boot_policy == "open":
                self._grace = threading.Timer(self.config.boot_grace, self.confirm)
                self._grace.daemon = True
                self._grace.start()
        self.ovsdb.on_change(self._noted.set)
        self.ovsdb.on_change(self._news)
        self.ovsdb.start()
        self.reconciler.start()
        self.switch.on_notice(self._noticed)
        self.surroundings.start()
        self.arrivals.start()
        self._thread.start()
        self.observer.start()
        return self

    def stop(self) -> None:
        """End everything; the flows stay in the switch."""
        self._stopping = True
        self._noted.set()
        self._thread.join()
        if self._grace is not None:
            self._grace.cancel()
        self.arrivals.stop()
        self.observer.stop()
        self.surroundings.stop()
        self.reconciler.stop()
        self.switch.stop()
        self.packets.stop()
        self.ovsdb.close()
        self._disk.shutdown()
        self.store.close()

    def change(self, operations: Iterable[Operation], *, adopt: bool = False) -> Ticket:
        """Take operations over, all or none. Raises ConflictError or ModelError, and then nothing has changed.

        Who tells of a VPC confirms it, even if it tells nothing new.
        """
        return self.edit(lambda _: operations, adopt=adopt)

    def edit(self, make: Edit, *, adopt: bool = False) -> Ticket:
        """Take over the operations that ``make`` makes of what is held, all or none; nobody changes that in between.

        Raises ConflictError, ModelError and whatever ``make`` raises; then nothing has changed.
        """
        with self._lock:
            asked = tuple(make(self.view.states))
            change = self.view.check(asked, adopt=adopt)
            stored: Future[None] = Future()
            if change.operations:
                with self.lookout.changing:
                    self.view.commit(change)
                    self.local.follow(change)
                    self.lookout.note(change, self.reconciler.fed + 1, self.local.by_vpc)
                states = {vpc: state for vpc, state in change.states.items() if state is not None}
                self._saving.update(change.states.keys())
                stored = self._disk.submit(self._save, change, states)
            else:
                stored.set_result(None)
            with self._facts_lock:
                confirmed = self.boot.confirm({operation.vpc for operation in asked})
                facts = self._seen() if confirmed and self.configured.is_set() else None
                enforced = self.reconciler.feed(change, facts)
            if confirmed:
                self._disk.submit(self._save_boot)
        if any(state is None or state.provider_networks for state in change.states.values()):
            self._noted.set()  # other bridges may be wanted
        self.arrivals.look()
        return Ticket(asked, change, stored, enforced)

    def confirm(self, vpcs: Iterable[str] | None = None) -> None:
        """The ports of these VPCs (``None``: all) are still placed on this host, after a boot: they may come up."""
        with self._facts_lock:
            if not self.boot.confirm(vpcs):
                return
            if self.configured.is_set():
                self.reconciler.set_facts(self._seen())
        self._disk.submit(self._save_boot)
        self.arrivals.look()
        self._news()

    def on_active(self, listener: Listener) -> None:
        """Have ``listener(vpc, port)`` called, on a thread of the agent's, when a port that moves here has arrived."""
        self.arrivals.listen(listener)

    def watch(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener()`` called, on any thread, when what the agent tells about itself may have changed.

        It must only take note. Returns what ends it.
        """
        self._watchers = [*self._watchers, listener]

        def end() -> None:
            self._watchers = [one for one in self._watchers if one is not listener]

        return end

    def unstored(self) -> set[str]:
        """The VPCs of which the last change is not on disk, or not yet."""
        return self.unsaved | {vpc for vpc, count in list(self._saving.items()) if count > 0}

    def _scene(self, pending: Mapping[Named, Pending]) -> Scene:
        return Scene(
            host=self.config.host,
            states=self.view.states,
            local=self.local.by_vpc,
            pending=pending,
            switch=self.ovsdb.state,
            status=self.reconciler.status,
            waiting=self.boot.waiting,
            active=self.arrivals.active.intersection(self.view.arriving),
            unsaved=frozenset(self.unsaved),
            unstored=frozenset(self.unstored()),
            port_of=self.view.port_of,
            disk=str(self.config.state_dir),
        )

    def preview(self, make: Edit, *, adopt: bool = False) -> Plan:
        """What operations would change in the switch; changes nothing. Raises as :meth:`edit` does."""
        with self._lock:
            change = self.view.check(tuple(make(self.view.states)), adopt=adopt)
        states = [state for state in change.states.values() if state is not None]
        local = filtered(LocalPorts(self.config.host, states).by_vpc)
        local |= zones_of(self.config.host, {state.name: state for state in states})
        facts = replace(
            self._seen(),
            down=self.boot.waiting.difference(change.states),
            zones=self.zones.foreseen(local),
        )
        kept = self.reconciler.call(self.numbers.numbers.snapshot).result()
        desired = compile_states(states, self.config.host, facts, Numbers.restore(kept))
        for key, owned in list(desired.flows.items()):
            if not owned.subject.vpc:
                del desired.flows[key]
        present = self.reconciler.call(lambda: self._flows_of(change.states.keys())).result()
        return plan(desired, Actual({key: owned.row for key, owned in present.items()}))

    def flows(self) -> list[Owned]:
        """The flows that the switch has, as far as is known."""
        return self.reconciler.call(lambda: list(self.reconciler.enforcer.flows.values())).result()

    def facts(self) -> Facts:
        """The switch's facts as they are now, with the zones that ports have."""
        return replace(self._seen(), zones=self.zones.ready)

    def _seen(self) -> Facts:
        """The facts without zones: the loop that enforces has those itself."""
        mtu = inner_mtu(self.config.underlay_mtu, self.config.vtep)
        known = self.surroundings.known
        return replace(facts_of(self.ovsdb.state), down=self.boot.waiting, mtu=mtu, neighbours=known)

    def dropped(self, ofport: int) -> int:
        """Frames that port security has refused from an OpenFlow port. Raises SwitchError."""
        in_port = _OXM_IN_PORT.pack(_OXM_IN_PORT_HEADER, ofport)
        entries = [
            entry
            for table in {template.table.id for template in _REFUSING.values()}
            for entry in parse_flow_stats(self.switch.dump_flows(COOKIE_OWNER, COOKIE_MASK, table))
            if entry.cookie in _REFUSING and in_port in entry.match
        ]
        return sum(
            entry.packets
            for entry in entries
            for row in decode([entry]).rows.values()
            if row.named()["ofport"] == ofport
        )

    def _arriving(self) -> dict[tuple[str, str], int]:
        """The OpenFlow ports of those that are about to move here, are plugged and not kept down."""
        found: dict[tuple[str, str], int] = {}
        interfaces = self.ovsdb.interfaces() if self.view.arriving else {}
        for vpc, name in tuple(self.view.arriving):
            state = self.view.states.get(vpc)
            port = None if state is None or vpc in self.boot.waiting else state.ports.get(name)
            interface = None if port is None else interfaces.get(port.id)
            if interface is not None and interface.ofport is not None:
                found[vpc, name] = interface.ofport
        return found

    def _save_boot(self) -> None:
        try:
            self.boot.save()
        except OSError as exc:
            log.error("cannot write to %s: %s", self.config.state_dir, exc.strerror or exc)

    def _flows_of(self, vpcs: Iterable[str]) -> dict[Key, Owned]:
        names = set(vpcs)
        return {key: o for key, o in self.reconciler.enforcer.flows.items() if o.subject.vpc in names}

    def _save(self, change: Change, states: dict[str, VpcState]) -> None:
        """Write a change; after a failure its VPCs are marked, and written whole as soon as the disk takes them."""
        try:
            self.store.write(change.operations, states)
        except OSError as exc:
            self.unsaved.update(change.states)
            self._save_later(exc)
            raise
        else:
            self.unsaved.difference_update(change.states)
        finally:
            with self._lock:
                self._saving.subtract(change.states.keys())
                self._saving = +self._saving
            self._news()
        if self.unsaved:
            self._save_rest()

    def _save_rest(self) -> None:
        """Write what is not on disk; what waits to be written with a change of its own is left to that."""
        with self._lock:
            rest = {vpc: self.view.states.get(vpc) for vpc in self.unsaved if not self._saving[vpc]}
        try:
            for vpc, state in rest.items():
                self.store.rewrite(vpc, state)
                self.unsaved.discard(vpc)
        except OSError as exc:
            self._save_later(exc)
        self._news()

    def _save_later(self, exc: OSError) -> None:
        log.error("cannot write to %s: %s", self.config.state_dir, exc.strerror or exc)
        if not self._save_due:
            self._save_due = True
            timer = threading.Timer(SAVE_AGAIN, self._save_now)
            timer.daemon = True
            timer.start()

    def _save_now(self) -> None:
        self._save_due = False
        with contextlib.suppress(RuntimeError):  # the agent has ended
            self._disk.submit(self._save_rest)

    def _noted_now(self) -> None:
        self._noted.set()

    def _noticed(self, notice: Notice | Heard) -> None:
        """The switch's process tells of a packet."""
        if isinstance(notice, Heard):
            self.surroundings.take(notice)
        else:
            self.packets.take(notice)

    def _news(self) -> None:
        for listener in self._watchers:
            listener()

    def _drifted(self, lines: list[str]) -> None:
        self.events.add("drift", {"flows": len(lines), "examples": lines[:10]})

    def _synced(self) -> None:
        self._in_place = True
        self._noted.set()

    def _watch_switch(self) -> None:
        """Keep the switch's configuration right, and hand its facts on."""
        corrected, due = float("-inf"), True
        while True:
            again = due and self.ovsdb.connected
            if self._noted.wait(max(0.0, corrected + CORRECT_EVERY - time.monotonic()) if again else None):
                self._noted.clear()
                due = True
            if self._stopping:
                return
            if not self.ovsdb.connected:
                continue
            if self._in_place:
                self._release()
            now = time.monotonic()
            if due and now - corrected >= CORRECT_EVERY:
                self._correct()
                due, corrected = bool(self.fault), now
                if not self.configured.is_set() and not self.fault:
                    self.ovsdb.wait(lambda s: s.tunnel is not None and s.tunnel.ofport is not None, TUNNEL_PATIENCE)
                    self.configured.set()
            self._report_interfaces()
            if self.configured.is_set():
                with self._facts_lock:
                    self.reconciler.set_facts(self._seen())
                self.arrivals.look()

    def _correct(self) -> None:
        """Bring the switch's configuration to what it should be; what hinders that is the agent's ``fault``."""
        try:
            self.ovsdb.ensure_bridge(self.config.datapath)
            self.ovsdb.ensure_tunnel(self.config.vtep, self.config.encapsulation)
            self.ovsdb.ensure_patches(bridges_of(self.view.states.values(), self.config.host))
            if self.config.datapath == "system":
                self.ovsdb.arm_restore_wait()
        except UserError as exc:
            self.refusal = exc
            self._set_fault(str(exc))
        except OvsdbError as exc:
            self._set_fault(str(exc))
        else:
            self._set_fault("")

    def _release(self) -> None:
        """Let an ovs-vswitchd go that was started again and waits for its flows, now that they are in place.

        Only a kernel datapath forwards in the meantime, from its cache; in user space there is nothing to wait for.
        """
        self._in_place = False
        if self.config.datapath == "system":
            try:
                self.ovsdb.release_restore_wait()
            except OvsdbError as exc:
                self._in_place = True
                self._set_fault(str(exc))

    def _set_fault(self, fault: str) -> None:
        if fault and fault != self.fault:
            log.error("%s", fault)
        if fault != self.fault:
            self.fault = fault
            self._news()

    def _report_interfaces(self) -> None:
        """Log what is wrong with interfaces, once."""
        state = self.ovsdb.state
        news = {
            f"iface-id {c.iface_id} is on {c.chosen}, and on {', '.join(c.others)}, ignored": self._about(c.iface_id)
            for c in state.conflicts
        }
        news |= {f"{i.name}: {i.error}": self._about(iface) for iface, i in state.interfaces.items() if i.error}
        news |= dict.fromkeys(missing_bridges(self.view.states.values(), self.config.host, state), about())
        for m in misplaced(self.lookout.scene()):
            where = f"declared on {m.declared_host or 'no host'}"
            vpc, _, name = m.port.partition("/")
            news[f"{m.port} is plugged here as {m.interface}, {where}: not bound"] = about_port(vpc, name)
        if state.tunnel is not None and state.tunnel.error:
            news[f"tunnel port {state.tunnel.name}: {state.tunnel.error}"] = about()
        for line in sorted(news.keys() - self._reported):
            log.warning("%s", line, extra=news[line])
        self._reported = set(news)

    def _about(self, iface_id: str) -> dict[str, Any]:
        """That a line is about the port that has an id, if any has."""
        port = self.view.port_of(iface_id)
        return about() if port is None else about_port(*port)


_OXM_IN_PORT_HEADER = 0x80000004  # OXM_OF_IN_PORT, four bytes (OpenFlow 1.4.1, 7.2.3.7)
_OXM_IN_PORT = struct.Struct("!II")
_REFUSING = {template.cookie: template for template in TEMPLATES if template.name.endswith("-refused")}
