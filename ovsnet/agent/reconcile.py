"""The loop that keeps a switch at what is desired: one thread that owns the compiler and the account of the switch.

What comes in (changes of VPCs, facts of the switch, connections made and lost) is noted by other threads and taken all
at once, so that a burst costs one bundle.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from ovsnet.agent.config import AUDIT_EVERY
from ovsnet.agent.enforce import OTHER_METERS, Enforcer, Hold, named_vnis
from ovsnet.agent.numbering import NumbersFile
from ovsnet.agent.observe import LocalPorts
from ovsnet.agent.zones import ZoneKeeper, filtered
from ovsnet.compiler import HostCompiler
from ovsnet.desired import HOST, Delta, Subject
from ovsnet.facts import Facts
from ovsnet.features.base import Translation, Uplink
from ovsnet.http.metrics import Distribution
from ovsnet.log import about
from ovsnet.model.outside import zones_of
from ovsnet.model.types import VpcState
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.errors import SwitchError
from ovsnet.pipeline import fields
from ovsnet.pipeline.template import Row
from ovsnet.transport.changes import COLLECTIONS, Patch, Put, vnis_of
from ovsnet.transport.view import Change

log = logging.getLogger(__name__)
T = TypeVar("T")
OnOutside = Callable[[Mapping[str, Uplink], frozenset[Translation]], None]

RETRY = (0.1, 5.0)
"""Shortest and longest pause after a failure while the connection stands, in seconds."""
LATENCIES = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)
"""Bounds, in seconds, by which the time from a change's acceptance to its barrier is counted."""
TIDY_AFTER = 1.0
"""Seconds from a step to the release of zones that it left without flows: by then datapaths have none cached either."""
AUDIT_SHARE = 50
"""With very many flows audits become rarer: their processor time at most one part in so many."""


@dataclass(frozen=True)
class Status:
    """Where enforcement stands. ``enforced``: revision by VPC, proven on the present connection.

    ``through`` is the number of the last change that was fed and has been through the switch, counted from 1;
    ``facts`` are those that the flows in the switch were made of.
    """

    synced: bool = False
    fault: str = "not started"
    enforced: Mapping[str, int] = field(default_factory=dict)
    held: Mapping[str, Hold] = field(default_factory=dict)
    through: int = 0
    facts: Facts = field(default_factory=Facts)
    steps: int = 0
    flows: int = 0
    repairs: int = 0
    audits: int = 0


@dataclass
class _Waiter:
    """Somebody who waits for a change, for as long as the future is held by him."""

    serial: int
    future: weakref.ref[Future[Status]]


class Reconciler:
    """Keeps ``switch`` at what the states and facts say for ``host``; ``fed`` counts the changes that it was fed.

    ``on_synced()`` is called on the loop's thread after the flows of a new connection are in place, ``on_status()``
    after each change of ``status`` (it must only take note), ``on_drift(lines)`` when an audit finds differences,
    ``on_outside(uplinks, served)`` when the host has other provider networks or serves other addresses there.
    ``zones`` gives ports their conntrack zones; left out, they are as the facts say. ``numbers`` is where the
    compiler's numbers are kept; left out, nowhere.
    """

    def __init__(
        self,
        host: str,
        switch: SwitchPort,
        states: Iterable[VpcState] = (),
        *,
        on_synced: Callable[[], None] = lambda: None,
        on_status: Callable[[], None] = lambda: None,
        on_drift: Callable[[list[str]], None] = lambda _: None,
        audit_every: float = AUDIT_EVERY,
        on_outside: OnOutside = lambda _uplinks, _served: None,
        zones: ZoneKeeper | None = None,
        numbers: NumbersFile | None = None,
    ) -> None:
        self.switch = switch
        self.status = Status()
        self.compiler = HostCompiler(host, None if numbers is None else numbers.numbers)
        self.enforcer = Enforcer(switch)
        self.fed = 0
        self.latency = Distribution(LATENCIES)
        self._on_synced, self._on_status, self._on_drift = on_synced, on_status, on_drift
        self._on_outside = on_outside
        self._outside: tuple[Mapping[str, Uplink], frozenset[Translation]] = ({}, frozenset())
        self._audit_every = audit_every
        self._zones, self._numbers = zones, numbers
        self._states = {state.name: state for state in states}
        self._local = LocalPorts(host, self._states.values())
        self._wake = threading.Condition()
        self._inbox: list[Change] = []
        self._taken: list[tuple[int, float]] = []  # serial and time of each change that is not in the switch yet
        self._calls: list[tuple[Callable[[], Any], Future[Any]]] = []
        self._waiters: list[_Waiter] = []
        self._facts: Facts | None = None
        self._given_facts: Facts | None = None
        self._compiled_facts: Facts | None = None
        self._dirty = True
        self._synced_generation = 0
        self._proven: dict[str, int] = {}  # revisions by VPC, and the connection that they were proven on
        self._proven_on = 0
        self._broken: dict[str, Hold] = {}
        self._tidy_at: float | None = None
        self._in_force: tuple[Mapping[str, str], frozenset[str]] = ({}, frozenset())  # for ZoneKeeper.release
        self._repairs = self._audits = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, name="reconcile", daemon=True),
            threading.Thread(target=self._audit_loop, name="audit", daemon=True),
        ]

    def start(self) -> Reconciler:
        """Start; nothing happens to the switch before the first facts."""
        for vpc, state in self._states.items():
            self.compiler.put_vpc(state)
            self.enforcer.claim(vpc, _vnis(state))
        self.switch.on_connect(lambda _generation: self._poke())
        self.switch.on_disconnect(self._lost)
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End the threads; the switch keeps its flows."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for thread in self._threads:
            thread.join()

    def feed(self, change: Change, facts: Facts | None = None) -> Future[Status]:
        """Take a checked change; the future is done once a step that includes it has been through the switch.

        ``facts`` are those of the switch that hold from this change on, in the same step.
        """
        future: Future[Status] = Future()
        with self._wake:
            self._inbox.append(change)
            self._facts = facts or self._facts
            self.fed += 1
            self._taken.append((self.fed, time.monotonic()))
            self._waiters = [waiter for waiter in self._waiters if waiter.future() is not None]
            self._waiters.append(_Waiter(self.fed, weakref.ref(future)))
            self._dirty = True
            self._wake.notify_all()
        return future

    def set_facts(self, facts: Facts) -> None:
        """Take the facts of the switch as they are now."""
        with self._wake:
            if facts != self._facts:
                self._facts = facts
                self._dirty = True
                self._wake.notify_all()

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Have ``function()`` run on the loop's thread, between steps."""
        future: Future[T] = Future()
        with self._wake:
            self._calls.append((function, future))
            self._wake.notify_all()
        return future

    def _poke(self) -> None:
        with self._wake:
            self._dirty = True
            self._wake.notify_all()

    def _lost(self, reason: str) -> None:
        with self._wake:
            self._synced_generation = 0
            self._report(fault=f"no OpenFlow connection: {reason}")
        log.warning("lost the OpenFlow connection: %s", reason)

    def _loop(self) -> None:
        pause = RETRY[0]
        while True:
            with self._wake:
                rest = None if self._tidy_at is None else max(0.0, self._tidy_at - time.monotonic())
                self._wake.wait_for(lambda: self._dirty or self._calls or self._stopping, rest)
                calls, self._calls = self._calls, []
                work, self._dirty = self._dirty and not self._stopping, False
            if self._tidy_at is not None and (self._stopping or time.monotonic() >= self._tidy_at):
                self._tidy()
            if self._stopping:
                return
            for function, future in calls:
                _run(function, future)
            if not work:
                continue
            if self._step():
                pause = RETRY[0]
            else:
                with self._wake:
                    self._wake.wait_for(lambda: self._stopping or self._dirty, pause)
                    self._dirty = True
                pause = min(RETRY[1], pause * 2)

    def _step(self) -> bool:
        """Take everything that came in and bring it into the switch; false to try again soon."""
        with self._wake:
            changes, self._inbox = self._inbox, []
            facts, serial = self._facts, self.fed
        for change in changes:
            self._take(change)
        if facts is None:
            self._report(fault="the switch's database has not been read yet")
            return True
        wanted = self._settle(facts)
        delta = self._compile()
        if delta.leases:
            self.switch.tell(delta.leases)
        saved = self._numbers is None or self._numbers.save()
        generation = self.switch.generation
        if not self.switch.connected:
            self._synced_generation = 0
            self._report(fault=f"no OpenFlow connection: {self.switch.last_error or 'connecting'}")
            return True  # a connection wakes us
        try:
            self._enforce(delta, generation)
        except SwitchError as exc:
            self._synced_generation = 0
            self._report(fault=str(exc))
            if self.switch.connected:
                log.warning("%s; reading the tables back", exc)
            return not self.switch.connected
        self._finish(serial, generation, facts)
        self._tell_outside()
        if self._zones is None:
            return saved
        self._in_force = (wanted, frozenset(self.enforcer.held.keys() | self._broken.keys()))
        self._tidy_at = self._tidy_at or time.monotonic() + TIDY_AFTER
        return saved and not self._zones.lacking

    def _tell_outside(self) -> None:
        """Once flows are in place: which provider networks the host has, and what it serves there."""
        served = frozenset(one for ones in self.compiler.served.values() for one in ones)
        outside = (self.compiler.uplinks.present(), served)
        if outside != self._outside:
            self._outside = outside
            self._on_outside(*outside)

    def _settle(self, facts: Facts) -> dict[str, str]:
        """Take zones for what needs one, and hand the facts on; the VPCs of those, by their names."""
        wanted = filtered(self._local.by_vpc) | zones_of(self.compiler.host, self._states)
        zones = facts.zones
        if self._zones is not None:
            self._zones.settle(wanted)
            zones = self._zones.ready
        if facts is not self._given_facts or self._compiled_facts is None or zones is not self._compiled_facts.zones:
            self._given_facts, self._compiled_facts = facts, replace(facts, zones=zones)
            self.compiler.set_facts(self._compiled_facts)
        return wanted

    def _tidy(self) -> None:
        """Give up the zones that no flow uses any more."""
        done = self._zones is None or self._zones.release(*self._in_force)
        self._tidy_at = None if done else time.monotonic() + TIDY_AFTER

    def _enforce(self, delta: Delta, generation: int) -> None:
        started = time.monotonic()
        fresh = self._synced_generation != generation
        desired = self.compiler.desired
        self.enforcer.frozen = frozenset(self._broken)
        if fresh:
            self.enforcer.adopt(self.enforcer.read_with_meters(desired), desired, self._attribute)
            changed = self.enforcer.converge(desired)
        else:
            changed = self.enforcer.advance(desired, delta)
        if fresh or changed:
            took = (time.monotonic() - started) * 1000
            log.info("%d flows, %d of them changed%s in %.1f ms", len(desired), changed, " (resync)" * fresh, took)
        if fresh:
            self._on_synced()

    def _finish(self, serial: int, generation: int, facts: Facts) -> None:
        held = self.enforcer.held | self._broken
        if self._zones is not None:
            waiting = {vpc: Hold(f"waits for a conntrack zone: {why}") for vpc, why in self._zones.lacking.items()}
            held = waiting | held
        enforced = dict(self._proven) if self._proven_on == generation else {}
        for vpc, state in self._states.items():
            if vpc not in held:
                enforced[vpc] = state.revision
        enforced = {vpc: revision for vpc, revision in enforced.items() if vpc in self._states}
        news = {vpc: revision for vpc, revision in enforced.items() if self.status.enforced.get(vpc) != revision}
        with self._wake:
            if not self.switch.connected or self.switch.generation != generation:
                return  # lost meanwhile; what comes next is a resync
            self._synced_generation = self._proven_on = generation
            self._proven = enforced
            self._report("", serial, enforced, held, facts)
            done = [waiter for waiter in self._waiters if waiter.serial <= serial]
            self._waiters = [waiter for waiter in self._waiters if waiter.serial > serial]
            through = [taken for number, taken in self._taken if number <= serial]
            self._taken = [one for one in self._taken if one[0] > serial]
        now = time.monotonic()
        for taken in through:
            self.latency.add(now - taken)
        for waiter in done:
            future = waiter.future()
            if future is not None and future.set_running_or_notify_cancel():
                future.set_result(self.status)
        if news:
            self.switch.enforced(news)

    def _report(
        self,
        fault: str,
        through: int | None = None,
        enforced: Mapping[str, int] | None = None,
        held: Mapping[str, Hold] | None = None,
        facts: Facts | None = None,
    ) -> None:
        """Replace the status; it is only ever replaced as a whole, so that any thread may read it."""
        old = self.status
        self.status = Status(
            synced=not fault,
            fault=fault,
            enforced=enforced or {},
            held=old.held if held is None else held,
            through=old.through if through is None else through,
            facts=facts or old.facts,
            steps=old.steps + (enforced is not None),
            flows=len(self.enforcer.flows),
            repairs=self._repairs,
            audits=self._audits,
        )
        self._on_status()

    def _take(self, change: Change) -> None:
        self._local.follow(change)
        for vpc, state in change.states.items():
            before = self._states.pop(vpc, None)
            if state is not None:
                self._states[vpc] = state
            if before is None or state is None or not _same_vnis(before, state):
                self.enforcer.claim(vpc, _vnis(state))
            if self._broken.pop(vpc, None) is not None:
                self._synced_generation = 0
                if state is not None:
                    self.compiler.put_vpc(state)
        for operation in change.operations:
            if isinstance(operation, Put):
                self.compiler.put_vpc(operation.state)
            elif isinstance(operation, Patch):
                self.compiler.patch_vpc(operation.vpc, **{kind: getattr(operation, kind) for kind in COLLECTIONS})
            else:
                self.compiler.drop_vpc(operation.vpc)

    def _compile(self) -> Delta:
        """The difference since the last time; a VPC that cannot be compiled is put aside and reported, not the rest."""
        try:
            return self.compiler.update()
        except Exception:
            log.exception("compiling failed; finding the VPC that is to blame")
        before = self.compiler.desired.leases
        while True:
            self.compiler = HostCompiler(self.compiler.host, self.compiler.numbers)
            self.compiler.set_facts(self._compiled_facts or Facts())
            culprit = self._compile_all()
            if culprit is None:
                break
            vpc, reason = culprit
            log.error("VPC %s cannot be compiled: %s", vpc, reason, extra=about(vpc))
            self._broken[vpc] = Hold(f"cannot be compiled: {reason}", path=f"vpcs.{vpc}")
        self._synced_generation = 0
        after = self.compiler.desired.leases
        return Delta(leases={**dict.fromkeys(before.keys() - after.keys()), **after})

    def _compile_all(self) -> tuple[str, str] | None:
        """Compile VPC by VPC; the first that fails, with the reason."""
        for vpc, state in self._states.items():
            if vpc in self._broken:
                continue
            try:
                self.compiler.put_vpc(state)
                self.compiler.update()
            except Exception as exc:
                return vpc, f"{type(exc).__name__}: {exc}"
        self.compiler.update()
        return None

    def _attribute(self, row: Row) -> Subject:
        """Whose flow this was, from the network, the routed domain or the port that it names."""
        values = {param.field: value for param, value in zip(row.template.params, row.values, strict=True)}
        vnis = frozenset(named_vnis(row))
        facts = self._compiled_facts or Facts()
        ofport = values.get(fields.IN_PORT)
        ids = {iface for iface, number in facts.ofports.items() if number == ofport}
        for vpc, state in self._states.items():
            if not vnis.isdisjoint(vnis_of(state)):
                return Subject("vpc", vpc)
            if ids and any(port.id in ids for port in state.ports.values()):
                return Subject("vpc", vpc)
        return HOST

    def _audit_loop(self) -> None:
        took = 0.0
        while True:
            with self._wake:
                pause = max(self._audit_every, took * AUDIT_SHARE) * random.uniform(0.9, 1.1)
                if self._wake.wait_for(lambda: self._stopping, pause):
                    return
                generation, steps = self._synced_generation, self.status.steps
            if generation:
                started = time.thread_time()
                try:
                    actual, lacks = self.enforcer.read(), self.enforcer.lacks_meters()
                except SwitchError as exc:
                    log.info("audit put off: %s", exc)
                    continue
                took = time.thread_time() - started
                self.call(lambda: self._audited(generation, steps, actual, lacks))  # noqa: B023

    def _audited(self, generation: int, steps: int, actual: Any, lacks_meters: bool) -> None:
        """Compare what was read with the account, unless that has moved on since."""
        if (generation, steps) != (self._synced_generation, self.status.steps):
            return
        self._audits += 1
        if self._zones is not None and self._zones.astray:
            self._poke()
        differences = self.enforcer.differences(actual) + [OTHER_METERS] * lacks_meters
        for text, subject in differences[:10]:
            extra = about() if subject is None else about(subject.vpc, subject.path)
            log.warning("drift in the switch: %s", text, extra=extra)
        if differences or self.enforcer.held:
            log.warning("audit: %d flows differ, %d VPCs held; repairing", len(differences), len(self.enforcer.held))
            self._repairs += len(differences)
            if differences:
                self._on_drift([one.text for one in differences])
            self._synced_generation = 0
            self._poke()


def _vnis(state: VpcState | None) -> frozenset[int]:
    return frozenset(vnis_of(state)) if state is not None else frozenset()


def _same_vnis(before: VpcState, state: VpcState) -> bool:
    """Whether none can be another; an unchanged collection is the same one."""
    return before.networks is state.networks and before.routers is state.routers


def _run(function: Callable[[], T], future: Future[T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(function())
    except Exception as exc:
        future.set_exception(exc)
