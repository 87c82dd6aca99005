"""What happened, kept for a while, and as a stream of server-sent events (HTML Living Standard, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import msgspec

KEPT = 4096
"""Events that are kept for those who come back."""
HEARTBEAT = 5.0
"""Seconds between two comments in a stream where nothing happens, so that both ends notice the other's death."""


class Event(NamedTuple):
    """``serial`` counts up, also across restarts (it begins at the milliseconds since 1970); ``data`` is JSON's."""

    serial: int
    kind: str
    data: Any


class EventLog:
    """The last ``kept`` events; any thread may add, any number of streams follow."""

    def __init__(self, kept: int = KEPT) -> None:
        self.last = int(time.time() * 1000)
        self._events: deque[Event] = deque(maxlen=kept)
        self._first = self.last + 1
        self._lock = threading.Lock()
        self._wakers: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._closed = False

    def add(self, kind: str, data: Any) -> int:
        """Take an event down; returns its serial."""
        with self._lock:
            self.last += 1
            if len(self._events) == self._events.maxlen:
                self._first += 1
            self._events.append(Event(self.last, kind, data))
            serial = self.last
            wakers = list(self._wakers)
        _wake(wakers)
        return serial

    def close(self) -> None:
        """End all streams."""
        with self._lock:
            self._closed = True
            wakers = list(self._wakers)
        _wake(wakers)

    def since(self, serial: int) -> list[Event]:
        """The events after ``serial``; one ``reset`` when some of them are not kept any more, or it is none of ours.

        After a reset the reader asks for the state as a whole, and follows from the serial that it carries.
        """
        with self._lock:
            if serial + 1 < self._first or serial > self.last:
                return [Event(self.last, "reset", {"asked": serial, "first": self._first, "last": self.last})]
            return [event for event in self._events if event.serial > serial]

    async def follow(self, since: int | None, heartbeat: float = HEARTBEAT) -> AsyncIterator[bytes]:
        """A stream of events in the form of server-sent events, until it is closed; ``None``: from now on."""
        serial = self.last if since is None else since
        woken = asyncio.Event()
        waker = (asyncio.get_running_loop(), woken)
        with self._lock:
            self._wakers.add(waker)
        try:
            yield b": ovsnet\n\n"
            while not self._closed:
                woken.clear()
                events = self.since(serial)
                if events:
                    serial = events[-1].serial
                    yield b"".join(_text(event) for event in events)
                    continue
                try:
                    await asyncio.wait_for(woken.wait(), heartbeat)
                except TimeoutError:
                    yield b":\n\n"
        finally:
            with self._lock:
                self._wakers.discard(waker)


def _wake(wakers: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    for loop, woken in wakers:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody reads
            loop.call_soon_threadsafe(woken.set)


def _text(event: Event) -> bytes:
    body = msgspec.json.encode(event.data).decode()
    return f"id: {event.serial}\nevent: {event.kind}\ndata: {body}\n\n".encode()
