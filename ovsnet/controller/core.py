"""The controller's core: one call, one transaction of the store, and then the truth in memory becomes the same."""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from ovsnet.controller import records
from ovsnet.controller.commit import Committed, OnCommit, VpcCommit
from ovsnet.controller.errors import NotFoundError, StoreError, TakenError
from ovsnet.controller.history import AuditEntry, Backward, Revision
from ovsnet.controller.planning import plan_request
from ovsnet.controller.pools import QUARANTINE
from ovsnet.controller.requests import RaiseRevision, Request
from ovsnet.controller.store import InDoubtError, Stale, Store, Taken
from ovsnet.controller.truth import Clock, OwnedHost, Plan, Truth, VpcPlan, wall_clock
from ovsnet.http.metrics import Distribution
from ovsnet.model.types import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.digest import digest_text

log = logging.getLogger(__name__)
T = TypeVar("T")

ATTEMPTS = 12
"""How often a call is planned anew when another controller was faster."""
PAUSE = 0.005
"""Seconds, times the number of attempts so far, that it waits before that at most: else both might go on in step."""
KEEP_REVISIONS = 1000
"""Revisions of each VPC that history keeps."""
KEEP_AUDIT = 100_000
"""Entries that the audit log keeps."""
_BOUNDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
MAX_REFUSALS = 1000
"""Refused calls that wait to be written to the audit log; more are counted only."""


class Core:
    """The truth of one controller. Every method may be called from any thread.

    ``on_commit`` callbacks get each transaction in the order of commits, when it is durable and before the call that
    asked for it returns; one that raises is logged, and disturbs nothing. They must not call ``transact`` themselves.
    """

    def __init__(self, store: Store, name: str, clock: Clock = wall_clock) -> None:
        """Load the truth from a store. Raises StoreError."""
        self.store = store
        self.name = name
        self.on_commit: list[OnCommit] = []
        self._clock = clock
        self._writer = threading.Lock()  # one transaction at a time; taken before the other
        self._memory = threading.Lock()  # the truth is read or changed; never held during I/O but at the start
        self._doubt: tuple[Plan, float] | None = None
        self._published: list[tuple[str, int]] = []
        self._refusals: list[AuditEntry] = []
        self.commits = 0
        self.durations = Distribution(_BOUNDS)
        """Seconds from a call's planning to its commit."""
        with store.read() as connection:
            self._truth = records.load_truth(connection, name)

    def read(self, look: Callable[[Truth], T]) -> T:
        """What ``look`` finds in the committed truth. It must be quick, and keep nothing that changes in place."""
        with self._memory:
            return look(self._truth)

    def wanted(self, host: str) -> dict[str, Head]:
        """What a host should hold: by VPC that concerns it, revision and digest."""
        return self.read(lambda truth: truth.wanted(host))

    def state(self, vpc: str) -> VpcState:
        """A VPC's whole state, as hosts are told it. Raises NotFoundError."""
        found = self._state(vpc)
        if found is None:
            raise NotFoundError("unknown-vpc", f"there is no VPC {vpc}")
        return found

    def hosts(self) -> dict[str, OwnedHost]:
        """The hosts of the site, by name."""
        return self.read(lambda truth: dict(truth.hosts))

    def plan(self, build: Callable[[Truth], Request]) -> Plan:
        """A dry run: what ``transact`` would do. Raises as it does."""
        with self._writer:
            self._settle()
            plan = plan_request(self._truth, build(self._truth), "")
            plan.abandon()
            return plan

    def transact(self, build: Callable[[Truth], Request]) -> Committed:
        """Carry out the request that ``build`` makes of the truth (it may be asked more than once).

        Raises ModelError (TakenError), ConflictError, PreconditionError, NotFoundError and, with nothing changed,
        StoreError.
        """
        with self._writer:
            for attempt in range(ATTEMPTS):
                time.sleep(attempt * PAUSE * random.random())
                try:
                    return self._transact(build)
                except Stale as stale:
                    self._reload(stale.vpcs)
                except TakenError as refused:
                    changed = self._changed_elsewhere() & set(refused.holders)
                    if not changed:
                        raise
                    self._reload(changed)  # they may have let go of it
                except Taken:
                    self._reload(self._changed_elsewhere())  # then what was assigned is assigned anew
        raise StoreError("store-unavailable", "other controllers change the same VPCs all the time. Try again")

    def raise_revision(self, vpc: str, above: int) -> None:
        """Give a VPC a revision above ``above``, its contents as they are. Raises NotFoundError, StoreError."""
        request = Request((RaiseRevision(vpc, above),), self.name, self.name, f"a host holds revision {above} of {vpc}")
        self.transact(lambda _: request)

    def confirmed(self, host: str, revisions: Mapping[str, int | None]) -> None:
        """A host enforces these revisions (``None``: it does not hold the VPC), so what they released may be reused."""
        with self._memory:
            for vpc, revision in revisions.items():
                self._truth.quarantine.confirmed(host, vpc, revision)

    def leftover(self) -> list[tuple[str, str, PatchBody]]:
        """What may not have been published before the last end: (tx, vpc, change). Raises StoreError."""
        with self.store.read() as connection:
            return records.read_outbox(connection)

    def published(self, revisions: Iterable[tuple[str, int]]) -> None:
        """These revisions of VPCs are with the hosts; the outbox forgets them at the next housekeeping."""
        with self._memory:
            self._published += revisions

    def history(self, vpc: str, limit: int = 100) -> list[Revision]:
        """The latest revisions of a VPC, the last one first. Raises StoreError."""
        with self.store.read() as connection:
            return records.read_history(connection, vpc, limit)

    def back(self, vpc: str, revision: int) -> list[Backward]:
        """What leads a VPC back to a revision. Raises NotFoundError if history does not reach that far, StoreError."""
        with self.store.read() as connection:
            steps = records.read_back(connection, vpc, revision)
        if steps is None:
            raise NotFoundError("unknown-revision", f"history does not have revision {revision} of VPC {vpc}")
        return steps

    def audit(self, *, before: int | None = None, limit: int = 100) -> list[AuditEntry]:
        """The latest entries of the audit log, refusals too, the last one first. Raises StoreError."""
        self.housekeeping()
        return self.store.audit(before=before, limit=limit)

    def refused(self, who: str, what: str, outcome: str, detail: str) -> None:
        """Note a refused call for the audit log; written with the next housekeeping."""
        with self._memory:
            if len(self._refusals) < MAX_REFUSALS:
                entry = AuditEntry(
                    id=0, at=self._clock(), who=who, what=what, tx="", outcome=outcome, detail=detail[:1000]
                )
                self._refusals.append(entry)

    def housekeeping(self, *, prune: bool = False) -> None:
        """To be called every few seconds: what rests and is over, what is published, what was refused.

        ``prune``: also forget old history and audit entries. Raises StoreError.
        """
        now = self._clock()
        with self._writer:
            self._settle()
            with self._memory:
                self._truth.quarantine.expire(now)
                published, refusals = list(self._published), list(self._refusals)
            if published or refusals:
                with self.store.write() as connection:
                    records.clear_outbox(connection, published)
                    for entry in refusals:
                        records.write_audit(connection, entry)
                with self._memory:
                    del self._published[: len(published)], self._refusals[: len(refusals)]
            if prune:
                self.store.prune(revisions=KEEP_REVISIONS, audit=KEEP_AUDIT, now=now)

    def close(self) -> None:
        """Write what waits to be written, and close the store."""
        try:
            self.housekeeping()
        except StoreError as exc:
            log.warning("at the end: %s", exc)
        self.store.close()

    def _state(self, vpc: str) -> VpcState | None:
        def look(truth: Truth) -> VpcState | None:
            held = truth.vpcs.get(vpc)
            return None if held is None else held.snapshot()

        return self.read(look)

    def _transact(self, build: Callable[[Truth], Request]) -> Committed:
        self._settle()
        now, started = self._clock(), time.perf_counter()
        until = now + QUARANTINE
        request = build(self._truth)  # only those who hold the writer's lock change the truth
        plan = plan_request(self._truth, request, secrets.token_hex(8))
        if not plan:
            plan.abandon()
            return Committed("")
        try:
            with self.store.write() as connection:
                records.write_plan(connection, plan, request, now, until)
        except InDoubtError:
            self._doubt = (plan, until)
            committed = self._settle()
            if committed is None:
                raise StoreError("store-unavailable", "the store was lost; nothing was changed. Try again") from None
            return committed
        except BaseException:
            with self._memory:
                plan.abandon()
            raise
        self.durations.add(time.perf_counter() - started)
        return self._committed(plan, until)

    def _committed(self, plan: Plan, until: float) -> Committed:
        """The truth becomes what the store has, and all who want to know are told."""
        with self._memory:
            before = {name: one.before.interested if one.before else frozenset() for name, one in plan.vpcs.items()}
            self._truth.apply(plan, until)
            commits = {name: self._commit_of(one, before[name]) for name, one in plan.vpcs.items()}
        self.commits += 1
        committed = Committed(plan.tx, commits, plan.hosts, plan)
        for callback in self.on_commit:
            try:
                callback(committed)
            except Exception:
                log.exception("a listener failed at transaction %s", plan.tx)
        return committed

    def _commit_of(self, plan: VpcPlan, before: frozenset[str]) -> VpcCommit:
        after = frozenset() if plan.deleted else self._truth.vpcs[plan.name].interested
        return VpcCommit(
            name=plan.name,
            previous=plan.previous,
            revision=plan.revision,
            patch=plan.patch,
            digest=digest_text(plan.total),
            created=plan.before is None,
            deleted=plan.deleted,
            hosts_before=before,
            hosts_after=after,
            state=lambda: self._state(plan.name),
        )

    def _settle(self) -> Committed | None:
        """Find out what became of a transaction whose commit broke off: the commit, ``None`` if it was not done.

        Raises StoreError while that cannot be known; until then nothing else is written.
        """
        if self._doubt is None:
            return None
        plan, until = self._doubt
        done = self.store.has_transaction(plan.tx)
        self._doubt = None
        if done:
            return self._committed(plan, until)
        with self._memory:
            plan.abandon()
        return None

    def _changed_elsewhere(self) -> set[str]:
        """The VPCs that other controllers have made, changed or deleted, and that are not so in memory."""
        with self.store.read() as connection:
            stored = records.read_revisions(connection)
        held = {name: vpc.live.revision for name, vpc in self._truth.vpcs.items()}
        return {name for name in stored.keys() | held.keys() if stored.get(name) != held.get(name)}

    def _reload(self, vpcs: Iterable[str]) -> None:
        """Another controller has changed VPCs: read them anew, with the hosts that they may name."""
        with self.store.read() as connection, self._memory:
            records.load_hosts(connection, self._truth)
            for vpc in vpcs:
                records.load_vpc(connection, self._truth, vpc)
