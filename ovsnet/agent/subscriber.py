"""The agent on the bus: a thread that follows a publisher and reports to it.

The connection's thread only hands messages over, so that a snapshot that takes long to decode and apply stalls neither
the connection nor the order of messages.
"""

from __future__ import annotations

import logging
import queue
import random
import secrets
import threading
import time
from collections.abc import Iterable
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from ovsnet.agent.follow import Action, Apply, Confirm, Follower, Outcome, Say, TellChanges, revision_of
from ovsnet.agent.followed import Followed
from ovsnet.errors import UserError
from ovsnet.log import about
from ovsnet.transport.bus import Bus, BusOptions, Incoming
from ovsnet.transport.chunks import Assembler, ChunkError
from ovsnet.transport.messages import (
    ChangeMessage,
    HeadsMessage,
    Item,
    MalformedError,
    Message,
    ReportMessage,
    UnknownVersionError,
    decode,
    encode,
)
from ovsnet.transport.operations import operations_of
from ovsnet.transport.reports import FULL_EVERY, Difference, Pace, Picture, Reporter
from ovsnet.transport.subjects import CHANGE, CHUNK, HEADS, HELLO, PREFIX, REPORT, Subjects
from ovsnet.transport.view import ConflictError

log = logging.getLogger(__name__)
R = TypeVar("R", Picture, Difference)

MAX_WAITING = 256 << 20
"""Bytes of messages that wait to be handled; what comes beyond is dropped, and the next heads show it."""

_GAPS = {"revision-gap", "unknown-vpc", "stale-revision", "revision-reused"}


@dataclass(frozen=True)
class _Connected:
    """There is a connection."""


@dataclass(frozen=True)
class _Lost:
    """The connection is gone."""


@dataclass(frozen=True)
class _Noted:
    """What is reported may have changed."""


@dataclass(frozen=True)
class _Ended:
    """The subscriber is to end."""


_Event = Incoming | _Connected | _Lost | _Noted | _Ended


class Subscriber:
    """Keeps ``followed`` at what a publisher says, and reports to it.

    ``source`` is the owner whose VPCs are followed, "" for the first that announces itself.
    """

    def __init__(self, followed: Followed, options: BusOptions, *, source: str = "", prefix: str = PREFIX) -> None:
        self.followed = followed
        self.follower = Follower(followed.host, followed.vtep, followed.boot, secrets.token_hex(8), source)
        self.subjects = Subjects(prefix)
        self.dropped = 0
        self.bus = Bus(
            options,
            on_connected=lambda: self._events.put(_Connected()),
            on_lost=lambda _reason: self._events.put(_Lost()),
        )
        self.bus.subscribe(self.subjects.all_to_host(followed.host), self._receive)
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._waiting = 0
        self._lock = threading.Lock()
        self._noted = False
        self._assembler = Assembler()
        self._reporter = Reporter(followed.host, secrets.token_hex(8))
        self._pace = Pace()
        self._report_at: float | None = None
        self._full_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="subscriber", daemon=True)

    def start(self) -> Subscriber:
        """Start to connect; returns at once."""
        self.followed.watch(self._note)
        self._thread.start()
        self.bus.start()
        return self

    def stop(self) -> None:
        """End; what is held stays as it is."""
        self._events.put(_Ended())
        self._thread.join()
        self.bus.close()

    def faults(self) -> tuple[str, ...]:
        """What is wrong with the bus, in words."""
        found = self.follower.faults(time.monotonic())
        return found if self.bus.connected else (*found, f"no connection to the bus: {self.bus.last_error}")

    def counts(self) -> dict[str, int]:
        """What has happened so far: connections, changes applied and old, gaps, hellos, what was not understood."""
        return {"connections": self.bus.statistics.connections, "dropped": self.dropped, **vars(self.follower.counts)}

    def _receive(self, message: Incoming) -> None:
        with self._lock:
            if self._waiting + len(message.body) > MAX_WAITING:
                self.dropped += 1
                return
            self._waiting += len(message.body)
        self._events.put(message)

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            self._events.put(_Noted())

    def _run(self) -> None:
        while True:
            try:
                event: _Event | None = self._events.get(timeout=self._pause())
            except queue.Empty:
                event = None
            if isinstance(event, _Ended):
                return
            try:
                if event is not None:
                    self._handle(event)
                self._timers()
            except Exception:
                log.exception("the bus's subscriber failed; the next heads mend what was lost")

    def _pause(self) -> float | None:
        """Seconds until something is due, ``None`` for ever."""
        times = [at for at in (self.follower.due, self._report_at, self._full_at) if at is not None]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _handle(self, event: _Event) -> None:
        if isinstance(event, Incoming):
            with self._lock:
                self._waiting -= len(event.body)
            self._message(event)
        elif isinstance(event, _Connected):
            self._do(self.follower.connected(self.followed.held(), time.monotonic()))
        elif isinstance(event, _Lost):
            self.follower.disconnected()
            self._report_at = self._full_at = None
        elif isinstance(event, _Noted):
            self._noted = False
            if self._report_at is None and self.bus.connected:
                now = time.monotonic()
                self._report_at = now + self._pace.delay(now)

    def _message(self, message: Incoming) -> None:
        _, kind = self.subjects.parse(message.subject)
        now = time.monotonic()
        try:
            if kind == CHUNK:
                self.follower.progress(now)
                body = self._assembler.add(message.headers, message.body, now)
                if body is not None:
                    self._change(body)
            elif kind == CHANGE:
                self._change(message.body)
            elif kind == HEADS:
                heads = decode(message.body, HeadsMessage)
                self._do(self.follower.heads(heads, self.followed.held(), now))
        except UnknownVersionError as exc:
            self.follower.unknown_version(exc.version, now)
            self._note()
        except (MalformedError, ChunkError) as exc:
            log.warning("a message on %s is ignored: %s", message.subject, exc)

    def _change(self, body: bytes) -> None:
        change = decode(body, ChangeMessage)
        self._do(self.follower.change(change, self.followed.held(), time.monotonic()))

    def _timers(self) -> None:
        now = time.monotonic()
        self._assembler.expire(now)
        if self.follower.due is not None and now >= self.follower.due:
            self._do(self.follower.tick(self.followed.held(), now))
        if self._full_at is not None and now >= self._full_at:
            self._report_all()
        elif self._report_at is not None and now >= self._report_at:
            self._report_at = None
            self._send(self._reporter.delta(self._with_faults(self.followed.changes(self.follower.source))))

    def _do(self, actions: Iterable[Action]) -> None:
        for action in actions:
            if isinstance(action, Apply):
                outcome = self._apply(action.items)
                self._do(self.follower.outcome(action, outcome, self.followed.held(), time.monotonic()))
            elif isinstance(action, Say):
                log.info("bus: hello, %s", action.hello.reason)
                self._publish(HELLO, action.hello)
            elif isinstance(action, Confirm):
                self.followed.confirm(action.vpcs)
            elif isinstance(action, TellChanges):
                self._note()
            else:
                self._report_all()

    def _apply(self, items: tuple[Item, ...]) -> Outcome:
        """Apply items together; if that is refused, those of each VPC alone, so that one does not hinder the others."""
        try:
            self.followed.change(operations_of(items)).add_done_callback(self._stored)
        except (UserError, msgspec.MsgspecError) as exc:
            if isinstance(exc, ConflictError) and exc.code in _GAPS:
                return Outcome(gap=True)
            vpcs = list(dict.fromkeys(item.vpc for item in items))
            if len(vpcs) == 1:
                log.error("VPC %s is refused: %s", vpcs[0], exc, extra=about(vpcs[0], revision=revision_of(items[-1])))
                return Outcome(refused={vpcs[0]: str(exc).partition("\n")[0]})
            parts = [self._apply(tuple(item for item in items if item.vpc == vpc)) for vpc in vpcs]
            refused = {vpc: reason for part in parts for vpc, reason in part.refused.items()}
            return Outcome(refused, gap=any(part.gap for part in parts))
        return Outcome()

    def _stored(self, _done: Future[None]) -> None:
        self._note()

    def _with_faults(self, found: R) -> R:
        return replace(found, faults=tuple(dict.fromkeys((*found.faults, *self.faults()))))

    def _report_all(self) -> None:
        self._report_at = None
        self._full_at = time.monotonic() + FULL_EVERY * random.uniform(0.75, 1.25)
        self._send(self._reporter.full(self._with_faults(self.followed.picture(self.follower.source))))

    def _send(self, reports: Iterable[ReportMessage]) -> None:
        for report in reports:
            self._publish(REPORT, report)

    def _publish(self, kind: str, message: Message) -> None:
        self.bus.publish([(self.subjects.from_host(self.followed.host, kind), encode(message), None)])
