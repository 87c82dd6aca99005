"""The agent put together: what it holds, the disk, the switch's database, and the loop that enforces."""

from __future__ import annotations

import contextlib
import logging
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ovsnet.agent.reconcile import AUDIT_EVERY, Reconciler, Status
from ovsnet.agent.store import Store
from ovsnet.compiler import Owned, compile_states
from ovsnet.errors import UserError
from ovsnet.facts import Facts
from ovsnet.features import TEMPLATES
from ovsnet.model.types import VpcState
from ovsnet.openflow.codec import decode
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.process import SwitchProcess
from ovsnet.ovsdb import Ovsdb, OvsdbError, SwitchState
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
class Config:
    """An agent's own configuration; ``vtep`` is the host's tunnel address, ``datapath`` ``netdev`` or ``system``."""

    host: str
    vtep: str
    ovsdb: str
    openflow: str
    state_dir: Path
    bridge: str = "br-int"
    datapath: str = "system"
    audit_every: float = AUDIT_EVERY


@dataclass(frozen=True)
class Ticket:
    """A change on its way: ``asked`` for, on disk when ``stored`` is done, in the switch when ``enforced`` is.

    ``change`` lacks the operations that were done already.
    """

    asked: tuple[Operation, ...]
    change: Change
    stored: Future[None]
    enforced: Future[Status]


class Agent:
    """One host's agent. Raises UserError when the state directory cannot be used."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.store = Store(config.state_dir)
        states, self.damage = self.store.load()
        for line in self.damage:
            log.error("%s", line)
        self.view = HostView(config.host, states)
        self.ovsdb = Ovsdb(config.ovsdb, config.bridge)
        self.switch = SwitchProcess(config.openflow)
        self.reconciler = Reconciler(
            config.host,
            self.switch,
            states.values(),
            on_synced=self._synced,
            on_status=self._news,
            audit_every=config.audit_every,
        )
        self.unsaved: set[str] = set()
        self._saving: Counter[str] = Counter()
        self._save_due = False
        self._watchers: list[Callable[[], None]] = []
        self.fault = ""
        self.refusal: UserError | None = None
        self.configured = threading.Event()
        self._in_place = False
        self._reported: set[str] = set()
        self._lock = threading.Lock()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="disk")
        self._noted = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._watch_switch, name="switch config", daemon=True)

    def start(self) -> Agent:
        """Start everything; returns at once."""
        log.info("holding %d VPCs for host %s", len(self.view.states), self.config.host)
        self.ovsdb.on_change(self._noted.set)
        self.ovsdb.on_change(self._news)
        self.ovsdb.start()
        self.reconciler.start()
        self._thread.start()
        return self

    def stop(self) -> None:
        """End everything; the flows stay in the switch."""
        self._stopping = True
        self._noted.set()
        self._thread.join()
        self.reconciler.stop()
        self.switch.stop()
        self.ovsdb.close()
        self._disk.shutdown()
        self.store.close()

    def change(self, operations: Iterable[Operation], *, adopt: bool = False) -> Ticket:
        """Take operations over, all or none. Raises ConflictError or ModelError, and then nothing has changed."""
        asked = tuple(operations)
        with self._lock:
            change = self.view.check(asked, adopt=adopt)
            if not change.operations:
                done: Future[None] = Future()
                done.set_result(None)
                return Ticket(asked, change, done, self.reconciler.feed(change))
            self.view.commit(change)
            states = {vpc: state for vpc, state in change.states.items() if state is not None}
            self._saving.update(change.states.keys())
            stored = self._disk.submit(self._save, change, states)
            return Ticket(asked, change, stored, self.reconciler.feed(change))

    def watch(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called, on any thread, when what the agent tells about itself may have changed.

        It must only take note.
        """
        self._watchers.append(listener)

    def unstored(self) -> set[str]:
        """The VPCs of which the last change is not on disk, or not yet."""
        return self.unsaved | {vpc for vpc, count in list(self._saving.items()) if count > 0}

    def preview(self, operations: Iterable[Operation], *, adopt: bool = False) -> Plan:
        """What operations would change in the switch; changes nothing. Raises ConflictError or ModelError."""
        with self._lock:
            change = self.view.check(operations, adopt=adopt)
        states = [state for state in change.states.values() if state is not None]
        desired = compile_states(states, self.config.host, self.facts())
        for key, owned in list(desired.flows.items()):
            if not owned.subject.vpc:
                del desired.flows[key]
        present = self.reconciler.call(lambda: self._flows_of(change.states.keys())).result()
        return plan(desired, Actual({key: owned.row for key, owned in present.items()}))

    def flows(self) -> list[Owned]:
        """The flows that the switch has, as far as is known."""
        return self.reconciler.call(lambda: list(self.reconciler.enforcer.flows.values())).result()

    def facts(self) -> Facts:
        """The switch's facts as they are now."""
        return facts_of(self.ovsdb.state)

    def misplaced(self) -> list[dict[str, str]]:
        """The interfaces here whose ports are declared on another host, or on none."""
        found = []
        for iface_id, interface in sorted(self.ovsdb.interfaces().items()):
            vpc, name = self.view.port_of(iface_id) or ("", "")
            state = self.view.states.get(vpc)
            port = None if state is None else state.ports.get(name)
            if port is not None and port.host != self.config.host:
                declared = port.host or ""
                found.append({"port": f"{vpc}/{name}", "interface": interface.name, "declared_host": declared})
        return found

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
        finally:
            with self._lock:
                self._saving.subtract(change.states.keys())
                self._saving = +self._saving
            self._news()
        self.unsaved.difference_update(change.states)
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

    def _news(self) -> None:
        for listener in self._watchers:
            listener()

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
                self.reconciler.set_facts(self.facts())

    def _correct(self) -> None:
        """Bring the switch's configuration to what it should be; what hinders that is the agent's ``fault``."""
        try:
            self.ovsdb.ensure_bridge(self.config.datapath)
            self.ovsdb.ensure_tunnel(self.config.vtep)
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
            f"iface-id {c.iface_id} is on {c.chosen}, and on {', '.join(c.others)}, ignored" for c in state.conflicts
        }
        news |= {f"{i.name}: {i.error}" for i in state.interfaces.values() if i.error}
        news |= {
            f"{m['port']} is plugged here as {m['interface']}, declared on {m['declared_host'] or 'no host'}: not bound"
            for m in self.misplaced()
        }
        if state.tunnel is not None and state.tunnel.error:
            news.add(f"tunnel port {state.tunnel.name}: {state.tunnel.error}")
        for line in sorted(news - self._reported):
            log.warning("%s", line)
        self._reported = news


def facts_of(state: SwitchState) -> Facts:
    """The compiler's facts from those of the database: only interfaces that work count."""
    return Facts(
        ofports={iface: i.ofport for iface, i in state.interfaces.items() if i.ofport is not None},
        tunnel_ofport=None if state.tunnel is None else state.tunnel.ofport,
        nd_responder=state.nd_responder,
    )


_OXM_IN_PORT_HEADER = 0x80000004  # OXM_OF_IN_PORT, four bytes (OpenFlow 1.4.1, 7.2.3.7)
_OXM_IN_PORT = struct.Struct("!II")
_REFUSING = {template.cookie: template for template in TEMPLATES if template.name.endswith("-refused")}
