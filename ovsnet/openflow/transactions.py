"""Our own requests to a switch and their answers: barriers, dumps and bundles.

Answers and errors are told by their transaction ids, on the connection's thread, and never pass through an event queue:
a flood of errors is a list that grows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from ovsnet.openflow import wire
from ovsnet.openflow.api import BundleResult, PayloadMaker, Refusal
from ovsnet.openflow.connection import Connection, Session
from ovsnet.openflow.errors import SwitchDisconnected, SwitchError, SwitchTimeout

if TYPE_CHECKING:
    from typing_extensions import Buffer


FLUSH_WEIGHT = 1000
"""How many flows a zone's flush counts for in the patience with a switch: it walks the whole connection table."""


class _Waiter:
    """One request that waits for its answer."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._failure: SwitchError | None = None
        self.replies: list[bytes] = []
        self.error: tuple[int, int, bytes] | None = None

    def feed(self, kind: int, raw: bytes) -> None:
        """An answer, on the connection's thread."""
        if kind == wire.ERROR:
            self.error = wire.error_fields(raw)
        else:
            self.replies.append(raw)
            if kind == wire.MULTIPART_REPLY and wire.multipart_flags(raw) & wire.MP_MORE:
                return
        self._event.set()

    def fail(self, failure: SwitchError) -> None:
        """There will be no answer."""
        self._failure = failure
        self._event.set()

    def wait(self, deadline: float, what: str) -> None:
        """Raises SwitchTimeout after ``deadline``, or why there is no answer."""
        if not self._event.wait(max(0.0, deadline - time.monotonic())):
            raise SwitchTimeout(f"no answer to {what} in time")
        if self._failure is not None:
            raise self._failure


class _Bundle:
    """The messages of the bundle under way, and what was refused of them."""

    def __init__(self, first_xid: int, count: int) -> None:
        self.first_xid = first_xid
        self.count = count
        self.refusals: list[Refusal] = []


class Transactions:
    """Requests over a connection; any number of threads may ask, bundles go one after the other."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # guards _waiting
        self._waiting: dict[int, _Waiter] = {}
        self._bundle: _Bundle | None = None
        self._bundle_turn = threading.Lock()
        self._bundle_xids = wire.Xids(wire.Xids.BUNDLES)
        self._bundle_ids = wire.Xids((1, wire.ANY))

    # ---- on the connection's thread ------------------------------------------------------------------------------

    def received(self, kind: int, xid: int, raw: bytes) -> bool:
        """Take a message if it answers one of ours, an error of a finished request included; says whether it did."""
        if xid < wire.Xids.CONTROL[0]:
            return False
        waiter = self._waiting.get(xid)
        bundle = self._bundle
        if waiter is not None:
            waiter.feed(kind, raw)
        elif kind == wire.ERROR and bundle is not None and 0 <= xid - bundle.first_xid < bundle.count:
            bundle.refusals.append(Refusal(xid - bundle.first_xid, *wire.error_fields(raw)))
        else:
            self._connection.counters["late_replies"] += 1
        return True

    def session_down(self, reason: str) -> None:
        """Fail whatever waits."""
        with self._lock:
            waiting = list(self._waiting.values())
        for waiter in waiting:
            waiter.fail(SwitchDisconnected(f"{self._connection.target}: {reason}"))

    # ---- for any thread ------------------------------------------------------------------------------------------

    def barrier(self, timeout: float) -> None:
        """See SwitchPort.barrier."""
        xid = self._xid()
        with _Waits(self, xid) as (waiter,):
            self._send(self._session(), wire.message(wire.BARRIER_REQUEST, xid))
            waiter.wait(time.monotonic() + timeout, "a barrier")

    def flush_zones(self, zones: Sequence[int], timeout: float) -> None:
        """See SwitchPort."""
        barrier, *xids = (self._xid() for _ in range(len(zones) + 1))
        with (
            self._connection.busy(FLUSH_WEIGHT * len(zones)),
            _Waits(self, barrier, *xids) as (done, *flushes),
        ):
            session = self._session()
            requests = (wire.flush_zone(xid, zone) for xid, zone in zip(xids, zones, strict=True))
            self._send(session, b"".join((*requests, wire.message(wire.BARRIER_REQUEST, barrier))))
            done.wait(time.monotonic() + timeout, "the flush of conntrack zones")
        for zone, flush in zip(zones, flushes, strict=True):
            if flush.error is not None:
                kind, code, _ = flush.error
                raise SwitchError(f"{self._connection.target}: flush of zone {zone} refused, type {kind}, code {code}")

    def multipart(self, kind: int, body: bytes, timeout: float, what: str = "a multipart request") -> list[bytes]:
        """See SwitchPort.multipart; ``what`` it is in words, for errors."""
        xid = self._xid()
        with _Waits(self, xid) as (waiter,):
            self._send(self._session(), wire.multipart_request(xid, kind, body))
            waiter.wait(time.monotonic() + timeout, what)
        self._raise_for(waiter.error, what)
        return [raw[16:] for raw in waiter.replies]

    def dump_flows(self, cookie: int, mask: int, table: int, timeout: float) -> list[bytes]:
        """See SwitchPort.dump_flows."""
        return self.multipart(wire.MP_FLOW, wire.flow_stats(table, cookie, mask), timeout, "a dump of the flows")

    def order(self, kind: int, bodies: Sequence[bytes], timeout: float) -> None:
        """See SwitchPort.order."""
        xids = [self._xid() for _ in bodies]
        barrier = self._xid()
        with _Waits(self, *xids, barrier) as waiters:
            messages = [wire.message(kind, xid, body) for xid, body in zip(xids, bodies, strict=True)]
            self._send(self._session(), b"".join((*messages, wire.message(wire.BARRIER_REQUEST, barrier))))
            waiters[-1].wait(time.monotonic() + timeout, "a barrier")
        for waiter in waiters:
            self._raise_for(waiter.error, f"a message of type {kind}")

    def _raise_for(self, error: tuple[int, int, bytes] | None, what: str) -> None:
        if error is not None:
            raise SwitchError(f"{self._connection.target}: {what} was refused, type {error[0]}, code {error[1]}")

    def apply_bundle(self, make_payload: PayloadMaker, count: int, timeout: float) -> BundleResult:
        """See SwitchPort.apply_bundle."""
        bundle_id, first_xid = self._bundle_ids.take(), self._bundle_xids.take(max(count, 1))
        return self.send_bundle(bundle_id, first_xid, make_payload(bundle_id, first_xid), count, timeout)

    def send_bundle(
        self, bundle_id: int, first_xid: int, payload: Iterable[Buffer], count: int, timeout: float
    ) -> BundleResult:
        """The same for a payload of which the caller has taken the numbers, from the bundles' range."""
        deadline = time.monotonic() + timeout
        if not self._bundle_turn.acquire(timeout=timeout):
            raise SwitchTimeout("another bundle is still under way")
        try:
            self._bundle = bundle = _Bundle(first_xid, count)
            with self._connection.busy(count):
                return self._transact(bundle, bundle_id, payload, deadline)
        finally:
            self._bundle = None
            self._bundle_turn.release()

    def _transact(self, bundle: _Bundle, bundle_id: int, payload: Iterable[Buffer], deadline: float) -> BundleResult:
        # The switch commits what it accepted even if it refused other messages of the bundle when they were added, so
        # the commit waits for the answer to CLOSE: by then every such refusal has come.
        session = self._session()
        opening, closing, commit, barrier = (self._xid() for _ in range(4))
        with _Waits(self, opening, closing, commit, barrier) as waiters:
            opened, closed, committed, done = waiters
            self._send(session, wire.bundle_control(opening, bundle_id, wire.BUNDLE_OPEN))
            try:
                for part in payload:
                    self._send(session, part)
            except SwitchDisconnected:
                raise
            except Exception:  # what has made it so far
                self._discard(session, bundle_id, deadline)
                raise
            self._send(session, wire.bundle_control(closing, bundle_id, wire.BUNDLE_CLOSE))
            try:
                closed.wait(deadline, "a bundle")
            except SwitchTimeout:
                self._send(session, wire.bundle_control(self._xid(), bundle_id, wire.BUNDLE_DISCARD))
                raise
            whole = [waiter.error for waiter in (opened, closed) if waiter.error is not None]
            if bundle.refusals or whole:
                self._discard(session, bundle_id, deadline)
                return BundleResult(False, bundle.refusals or [Refusal(None, *error) for error in whole])
            self._send(session, wire.bundle_control(commit, bundle_id, wire.BUNDLE_COMMIT))
            self._send(session, wire.message(wire.BARRIER_REQUEST, barrier))
            done.wait(deadline, "a bundle's commit")
            if committed.error is None:
                return BundleResult(True, [])
            return BundleResult(False, bundle.refusals or [Refusal(None, *committed.error)])

    def _discard(self, session: Session, bundle_id: int, deadline: float) -> None:
        xid = self._xid()
        with _Waits(self, xid) as (waiter,):
            self._send(session, wire.bundle_control(xid, bundle_id, wire.BUNDLE_DISCARD))
            waiter.wait(deadline, "a bundle's discard")

    def _session(self) -> Session:
        session = self._connection.session
        if session is None:
            raise SwitchDisconnected(f"{self._connection.target}: {self._connection.last_error or 'not connected'}")
        return session

    def _send(self, session: Session, data: Buffer) -> None:
        self._connection.send(session, data)

    def _xid(self) -> int:
        return self._connection.xids.take()

    def expect(self, *xids: int) -> list[_Waiter]:
        """Register waiters, before anything is sent that they wait for."""
        waiters = [_Waiter() for _ in xids]
        with self._lock:
            self._waiting.update(zip(xids, waiters, strict=True))
        return waiters

    def forget(self, *xids: int) -> None:
        """Stop waiting."""
        with self._lock:
            for xid in xids:
                self._waiting.pop(xid, None)


class _Waits:
    """The waiters of some transaction ids, while inside."""

    def __init__(self, owner: Transactions, *xids: int) -> None:
        self._owner = owner
        self._xids = xids

    def __enter__(self) -> list[_Waiter]:
        return self._owner.expect(*self._xids)

    def __exit__(self, *_: object) -> None:
        self._owner.forget(*self._xids)
