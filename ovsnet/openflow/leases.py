"""What ports are told of their addresses: answers to those who ask, and advertisements to all, every now and then."""

from __future__ import annotations

import heapq
import logging
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from ovsnet.openflow.datapath import SwitchDatapath
from ovsnet.openflow.notices import PacketIn
from ovsnet.openflow.osken import PARSER
from ovsnet.responders import lease as leases
from ovsnet.responders.lease import Lease
from ovsnet.responders.ra import Advertisement

LOG = logging.getLogger(__name__)

FIRST = (0.0, 4.0, 16.0)
"""Seconds after a port is plugged, or is to be told otherwise, at which it is told of its routers (RFC 4861, 6.2.4)."""
EVERY = 450.0, 600.0
"""Seconds between two advertisements from then on, at random; a third of the time that a router is kept for."""


class Leases:
    """The leases by OpenFlow port, and a thread that advertises routers to those that have one.

    ``datapath()`` is the present connection's; without one nothing is sent.
    """

    def __init__(self, name: str, counters: Counter[str], datapath: Callable[[], SwitchDatapath | None]) -> None:
        self._counters, self._datapath = counters, datapath
        self._changed = threading.Condition()  # guards all that follows
        self._held: dict[int, Lease] = {}
        self._due: list[tuple[float, int, int, int]] = []  # when, which port, which advertisement of which telling
        self._telling: dict[int, int] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=f"advertiser {name}", daemon=True)
        self._thread.start()

    def tell(self, changes: Mapping[int, Lease | None]) -> None:
        """Take leases that have changed."""
        with self._changed:
            for ofport, lease in changes.items():
                before = self._held.pop(ofport, None)
                self._telling[ofport] = self._telling.get(ofport, 0) + 1
                if lease is None:
                    continue
                self._held[ofport] = lease
                said, old = lease.said, None if before is None else before.said
                if said is None and old is not None and old.lifetime:
                    self._send(ofport, replace(old, lifetime=0))  # it is no router any more (RFC 4861, 6.2.5)
                if said is not None:
                    heapq.heappush(self._due, (time.monotonic(), ofport, 0, self._telling[ofport]))
            self._changed.notify()

    def answer(self, datapath: SwitchDatapath, copied: PacketIn) -> None:
        """Answer a port that asks, if it has a lease."""
        with self._changed:
            lease = self._held.get(copied.in_port)
        told = None if lease is None else leases.answer(copied.frame, lease)
        if told is not None and datapath.send_packet_out(actions=_only(copied.in_port), data=told.frame):
            self._counters[told.kind] += 1

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                while self._due and self._due[0][0] <= now:
                    self._advertise(*heapq.heappop(self._due))
                self._changed.wait(self._due[0][0] - time.monotonic() if self._due else None)

    def _advertise(self, when: float, ofport: int, count: int, telling: int) -> None:
        """Send what is due to a port, unless it has been told otherwise since, and note when the next is."""
        lease = self._held.get(ofport)
        if lease is None or lease.said is None or telling != self._telling[ofport]:
            return
        self._send(ofport, lease.said)
        first = count + 1 < len(FIRST)
        pause = FIRST[count + 1] - FIRST[count] if first else random.uniform(*EVERY)
        heapq.heappush(self._due, (when + pause, ofport, count + 1, telling))

    def _send(self, ofport: int, said: Advertisement) -> None:
        datapath = self._datapath()
        try:
            if datapath and datapath.send_packet_out(actions=_only(ofport), data=said.unasked):
                self._counters["advertised"] += 1
        except Exception:  # the thread serves all other ports too
            LOG.exception("an advertisement to port %d failed", ofport)


def _only(ofport: int) -> list[Any]:
    return [PARSER.OFPActionOutput(ofport, 0)]
