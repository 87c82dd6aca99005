"""What happened, kept for a while for those who follow it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

KEPT = 4096
"""Events that are kept for those who come back."""


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
        self._listeners: set[Callable[[], None]] = set()
        self.closed = False

    def add(self, kind: str, data: Any) -> int:
        """Take an event down; returns its serial."""
        with self._lock:
            self.last += 1
            if len(self._events) == self._events.maxlen:
                self._first += 1
            self._events.append(Event(self.last, kind, data))
            serial = self.last
        self._notify()
        return serial

    def close(self) -> None:
        """End all streams."""
        self.closed = True
        self._notify()

    def since(self, serial: int) -> list[Event]:
        """The events after ``serial``; one ``reset`` when some of them are not kept any more, or it is none of ours.

        After a reset the reader asks for the state as a whole, and follows from the serial that it carries.
        """
        with self._lock:
            if serial + 1 < self._first or serial > self.last:
                return [Event(self.last, "reset", {"asked": serial, "first": self._first, "last": self.last})]
            return [event for event in self._events if event.serial > serial]

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Have ``listener()`` called after each event and at the end, on any thread; call what this returns to stop."""
        with self._lock:
            self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def _notify(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()
