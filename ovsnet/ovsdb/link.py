"""The connection to one ovsdb-server: a thread that owns the replica, its liveness and its transactions."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from ovsnet.ovsdb.pythonovs import idl as ovs_idl
from ovsnet.ovsdb.pythonovs import jsonrpc
from ovsnet.ovsdb.pythonovs import poller as ovs_poller
from ovsnet.ovsdb.schema import TABLES, schema_json

log = logging.getLogger(__name__)
T = TypeVar("T")

PROBE_AFTER = 0.25
"""Seconds of silence after which the server is probed."""
DEAD_AFTER = 0.5
"""Seconds without an answer to a probe after which the server is given up."""
HANDSHAKE = 3.0
"""Seconds for the first copy of the database to arrive."""
BACKOFF = (0.05, 1.0)
"""Shortest and longest pause between two attempts to connect, in seconds."""

Change = Callable[[Mapping[str, Any], Any], T]
"""Edits rows of the replica's tables (first argument) within a transaction (second) and returns a result.

It is called again when the transaction has to be retried, so it must derive what it does from the rows alone.
"""

Note = Callable[[str, Any, "frozenset[str] | None"], None]


class OvsdbError(Exception):
    """The database refused a transaction, did not answer in time, or is not connected."""


class _Replica(ovs_idl.Idl):  # type: ignore[misc]
    """The library's replica of the database for the life of one connection: it is never reconnected, but replaced.

    The library's own reconnection waits a second at least, and it does not probe unix sockets at all.
    """

    def __init__(self, target: str, note: Note) -> None:
        helper = ovs_idl.SchemaHelper(schema_json=schema_json())
        for table, columns in TABLES.items():
            helper.register_columns(table, list(columns))
        super().__init__(target, helper, leader_only=False)
        self._note = note
        self._seqno: int | None = None

    def notify(self, event: str, row: Any, updates: Any = None) -> None:
        """Called by the library for each row that was created, changed or deleted; ``updates``: what was before."""
        self._note(row._table.name, row.uuid, None if updates is None else frozenset(updates._data))

    def cooperative_yield(self) -> None:
        """Let other threads run between the rows of a large update."""
        time.sleep(0)

    def step(self) -> bool:
        """Process what has arrived; false when the connection is gone."""
        self.run()
        session = self._session
        if self._seqno is None:
            self._seqno = session.get_seqno()
        return bool(self._seqno == session.get_seqno() and (session.rpc is not None or session.stream is not None))

    @property
    def received(self) -> int:
        """Bytes received so far."""
        rpc = self._session.rpc
        return 0 if rpc is None else int(rpc.get_received_bytes())

    @property
    def ready(self) -> bool:
        """Whether the replica is a complete copy."""
        return bool(self.state == self.IDL_S_MONITORING)

    def probe(self) -> None:
        """Send an echo request (RFC 7047, section 4.1.11); the library swallows its answer."""
        request = jsonrpc.Message.create_request("echo", [])
        request.id = "echo"
        self._session.send(request)


class _Liveness:
    """Says when to probe a connection and when it is dead, from the bytes that arrive."""

    def __init__(self) -> None:
        self.received = 0
        self.heard = time.monotonic()
        self.probed: float | None = None

    def check(self, replica: _Replica, now: float) -> bool:
        """False when the server is dead. Call it right after input was drained, so that our own delays do not count."""
        if replica.received != self.received:
            self.received, self.heard, self.probed = replica.received, now, None
        elif self.probed is None and now - self.heard >= PROBE_AFTER:
            replica.probe()
            self.probed = now
        return self.probed is None or now - self.probed < DEAD_AFTER

    def timeout(self, now: float) -> float:
        """Seconds until the next check."""
        due = self.heard + PROBE_AFTER if self.probed is None else self.probed + DEAD_AFTER
        return max(0.0, due - now) + 0.001


class _Job:
    """One transaction that a caller waits for."""

    def __init__(self, change: Change[Any]) -> None:
        self.change = change
        self.future: Future[Any] = Future()
        self.txn: Any = None
        self.result: Any = None
        self.retry_at = 0.0

    def advance(self, replica: _Replica, now: float) -> bool:
        """Go on with the transaction; true when it is finished."""
        if self.future.cancelled():
            return True
        if self.txn is None:
            if now < self.retry_at:
                return False
            self.txn = ovs_idl.Transaction(replica)
            try:
                self.result = self.change(replica.tables, self.txn)
            except Exception as exc:
                self.txn.abort()
                self._finish(error=exc)
                return True
        status = self.txn.commit()
        if status == ovs_idl.Transaction.INCOMPLETE:
            return False
        if status == ovs_idl.Transaction.TRY_AGAIN:
            self.restart(now + 0.02)
            return False
        if status in {ovs_idl.Transaction.SUCCESS, ovs_idl.Transaction.UNCHANGED}:
            self._finish()
        else:
            self._finish(error=OvsdbError(f"the OVSDB server refused a transaction: {self.txn.get_error()}"))
        return True

    def restart(self, not_before: float) -> None:
        """Begin again later, from the rows as they are then."""
        self.txn = None
        self.retry_at = not_before

    def _finish(self, error: Exception | None = None) -> None:
        with contextlib.suppress(InvalidStateError):  # the caller may give up at this very moment
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(self.result)


class Link:
    """A connection to ``target`` that restores itself.

    ``on_rows(tables)`` is called with the replica's tables when the first copy is complete and after each batch of
    changes; ``on_lost(reason)`` once when the connection goes; ``note(table, row uuid, columns)`` for each row that was
    created, changed (only then are there columns) or deleted. All are called on the link's thread and must be quick.
    """

    def __init__(
        self,
        target: str,
        *,
        on_rows: Callable[[Mapping[str, Any]], None],
        on_lost: Callable[[str], None],
        note: Note,
    ) -> None:
        self.target = target
        self._on_rows, self._on_lost, self._note = on_rows, on_lost, note
        self._jobs: deque[_Job] = deque()
        self.closing = False
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="ovsdb", daemon=True)
        self._ready = False

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """End the thread and the connection."""
        self.closing = True
        self._alert()
        if self._thread.is_alive():
            self._thread.join()
        os.close(self._wake)

    def transact(self, change: Change[T], timeout: float) -> T:
        """Run ``change`` in a transaction, again after a conflict or a reconnection; returns its result.

        Raises OvsdbError when the server refuses it or ``timeout`` seconds pass, and whatever ``change`` raises.
        """
        job = _Job(change)
        self._jobs.append(job)
        self._alert()
        try:
            result: T = job.future.result(timeout)
        except FutureTimeout:
            job.future.cancel()
            what = "did not answer" if self._ready else "is not connected"
            raise OvsdbError(f"{self.target}: the OVSDB server {what} within {timeout:g} s") from None
        return result

    def _alert(self) -> None:
        os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        shortest, longest = BACKOFF
        pause = shortest
        while not self.closing:
            replica = _Replica(self.target, self._note)
            try:
                reason = self._serve(replica)
            except Exception as exc:  # a defect in the library must not end the agent's sight of the switch
                log.exception("the OVSDB connection failed unexpectedly")
                reason = f"unexpected {type(exc).__name__}: {exc}"
            finally:
                replica.close()
            if self._jobs:
                self._jobs[0].restart(0.0)
            if self._ready:
                self._ready = False
                pause = shortest
                self._on_lost(reason)
            if not self.closing:
                time.sleep(pause)
                pause = min(longest, pause * 2)

    def _serve(self, replica: _Replica) -> str:
        """Serve one connection until it ends; returns why it did."""
        poller = ovs_poller.Poller()
        liveness = _Liveness()
        deadline = time.monotonic() + HANDSHAKE
        seen = None
        while not self.closing:
            if not replica.step():
                return "the connection was closed" if self._ready else "cannot connect"
            now = time.monotonic()
            if replica.ready:
                if replica.change_seqno != seen:
                    seen = replica.change_seqno
                    self._ready = True
                    self._on_rows(replica.tables)
                if not liveness.check(replica, now):
                    return f"no answer for {now - liveness.heard:.1f} s"
                self._advance_jobs(replica, now)
                wait = liveness.timeout(now)
            elif now > deadline:
                return f"no copy of the database within {HANDSHAKE:g} s"
            else:
                wait = 0.1
            self._block(replica, poller, wait)
        return "closed"

    def _advance_jobs(self, replica: _Replica, now: float) -> None:
        while self._jobs and self._jobs[0].advance(replica, now):
            self._jobs.popleft()

    def _block(self, replica: _Replica, poller: Any, wait: float) -> None:
        if self._jobs and self._jobs[0].txn is None:
            wait = min(wait, 0.02)
        replica.wait(poller)
        poller.fd_wait(self._wake, select.POLLIN)
        poller.timer_wait(int(wait * 1000) + 1)
        poller.block()
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._wake)
