"""Notices that a workload has arrived: its first frame on the host that it was about to move to.

A hypervisor stops the guest on the source and starts it on the target by itself, and QEMU announces it with a RARP
frame. So while a port is about to move here, the counter of the flow that takes its frames in is looked at; whatever it
sends counts, since a guest that sleeps sends nothing.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from ovsnet.features.l2 import FROM_PORT
from ovsnet.log import about_port
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.codec import decode
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.errors import SwitchError
from ovsnet.pipeline.template import FEATURE_MASK

log = logging.getLogger(__name__)

POLL_EVERY = 0.1
"""Seconds between two looks while a port is about to move here."""
_PATIENCE = 5.0
"""Seconds that the switch may take to list the flows."""

Listener = Callable[[str, str], None]


class Arrivals:
    """Watches the ports that are about to move here.

    ``watched()`` gives their OpenFlow ports by (VPC, name), as far as they are plugged. ``active`` are those that have
    sent something, for as long as they are about to move here; it is only ever replaced as a whole.
    """

    def __init__(self, switch: SwitchPort, watched: Callable[[], Mapping[tuple[str, str], int]]) -> None:
        self.active: frozenset[tuple[str, str]] = frozenset()
        self._switch = switch
        self._watched = watched
        self._listeners: list[Listener] = []
        self._wake = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="arrivals", daemon=True)

    def listen(self, listener: Listener) -> None:
        """Have ``listener(vpc, port)`` called, on the watching thread, for each port that has arrived."""
        self._listeners.append(listener)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._wake.set()
        self._thread.join()

    def look(self) -> None:
        """Something has changed: there may be ports to watch, or none any more."""
        self._wake.set()

    def _run(self) -> None:
        waiting = False
        while True:
            if self._wake.wait(POLL_EVERY if waiting else None):
                self._wake.clear()
            if self._stopping:
                return
            watched = self._watched()
            self.active = frozenset(watched.keys() & self.active)
            waiting = len(self.active) < len(watched)
            if waiting:
                self._poll({ofport: port for port, ofport in watched.items() if port not in self.active})

    def _poll(self, asleep: Mapping[int, tuple[str, str]]) -> None:
        try:
            bodies = self._switch.dump_flows(FROM_PORT.cookie, FEATURE_MASK, FROM_PORT.table.id, _PATIENCE)
        except SwitchError:
            return  # without a connection nobody can tell; the next look may
        heard = [entry for entry in parse_flow_stats(bodies) if entry.packets]
        for row in decode(heard).rows.values():
            port = asleep.get(row.named().get("ofport", -1))
            if port is None:
                continue
            self.active |= {port}
            log.info("%s/%s has arrived: it sends from here", *port, extra=about_port(*port))
            for listener in self._listeners:
                listener(*port)
