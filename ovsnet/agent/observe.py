"""Looks at ports and VPCs after whatever may have changed them, and takes down as events what did."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from ovsnet.http.events import EventLog
from ovsnet.model.types import Port, VpcState
from ovsnet.transport.changes import Patch
from ovsnet.transport.view import Change

log = logging.getLogger(__name__)

PAUSE = 0.04
"""Seconds from a change to the look at it, so that a burst of changes costs one."""


class LocalPorts:
    """The ports that are, or are about to be, on this host, by VPC.

    ``by_vpc`` and what is in it are only ever replaced, so that any thread may read them.
    """

    def __init__(self, host: str, states: Iterable[VpcState]) -> None:
        self.host = host
        self.by_vpc: dict[str, dict[str, Port]] = {state.name: self._of(state.ports) for state in states}

    def follow(self, change: Change) -> None:
        """Take note of a change that was made."""
        by_vpc = dict(self.by_vpc)
        whole = {operation.vpc for operation in change.operations if not isinstance(operation, Patch)}
        for vpc in whole:
            state = change.states[vpc]
            by_vpc.pop(vpc, None)
            if state is not None:
                by_vpc[vpc] = self._of(state.ports)
        for operation in change.operations:
            if isinstance(operation, Patch) and operation.vpc not in whole:
                by_vpc[operation.vpc] = self._patched(by_vpc.get(operation.vpc, {}), operation.ports)
        self.by_vpc = by_vpc

    def _patched(self, before: dict[str, Port], changed: Mapping[str, Port | None]) -> dict[str, Port]:
        here = self._of(changed)
        gone = before.keys() & changed.keys() - here.keys()
        if not here and not gone:
            return before
        after = before | here
        for name in gone:
            del after[name]
        return after

    def _of(self, ports: Mapping[str, Port | None]) -> dict[str, Port]:
        return {name: port for name, port in ports.items() if port is not None and self.host in port.hosts}


Look = Callable[[], Mapping[str, Mapping[str, Any]]]
"""What may have changed since the last look: by kind of event and key, a value that says all of it (a msgspec struct).

``None`` for what is gone.
"""


class Observer:
    """Calls ``look`` after each ``poke``, in a thread of its own, and takes differences down in ``events``.

    A thing that is gone is an event with its key and ``gone``.
    """

    def __init__(self, look: Look, events: EventLog) -> None:
        self._look, self._events = look, events
        self._seen: dict[tuple[str, str], Any] = {}
        self._woken, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        """Start to look."""
        self._thread.start()
        self.poke()

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._woken.set()
        self._thread.join()

    def poke(self) -> None:
        """Something may have changed; returns at once."""
        self._woken.set()

    def _run(self) -> None:
        while True:
            self._woken.wait()
            if self._stopping.wait(PAUSE):
                return
            self._woken.clear()
            try:
                self._compare(self._look())
            except Exception:
                log.exception("looking at ports and VPCs failed")

    def _compare(self, news: Mapping[str, Mapping[str, Any]]) -> None:
        for kind, things in news.items():
            for key, value in things.items():
                if self._seen.get((kind, key)) == value:
                    continue
                if value is None:
                    del self._seen[kind, key]
                    self._events.add(kind, {"id": key, "gone": True})
                else:
                    self._seen[kind, key] = value
                    self._events.add(kind, {"id": key, **msgspec.to_builtins(value)})
