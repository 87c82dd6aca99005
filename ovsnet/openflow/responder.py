"""Takes copies of packets: answers what rules reject, what routers do not pass on and what ports ask of their
addresses, tells of what rules log.

It has a thread of its own, so that no packet delays the connection. What is more than it can take is dropped and
counted; so is everything while there is no connection, and a rejected packet is then a dropped one.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from ovsnet.openflow import notices, outside, routers
from ovsnet.openflow.datapath import SwitchDatapath
from ovsnet.openflow.jobs import Jobs
from ovsnet.openflow.leases import Leases
from ovsnet.openflow.notices import Limiter, Notice, PacketIn
from ovsnet.openflow.osken import PARSER
from ovsnet.pipeline import fields, tables
from ovsnet.pipeline.verdicts import LOGGED, REJECT
from ovsnet.responders.packet import read
from ovsnet.responders.reject import answer

WAITING = 256
"""Copies that may wait to be looked at."""
LOG_RATE, LOG_BURST = 10, 20
"""Log entries a second, and at once, for each set of groups that ports here have."""
_ROUTERS = frozenset({tables.ND.id, tables.ROUTE_ERROR.id})
_RESUBMIT_IN_PORT = 0xFFF8


class Responder(Jobs):
    """Looks at copies of packets; ``tell(notice)`` is called for what is logged, on its thread."""

    def __init__(
        self,
        name: str,
        counters: Counter[str],
        tell: Callable[[Notice | outside.Heard], None],
        leases: Leases | None = None,
    ) -> None:
        self._counters, self._tell, self._leases = counters, tell, leases
        self._limiter = Limiter(LOG_RATE, LOG_BURST)
        self._waiting = 0
        super().__init__(f"responder {name}")

    def received(self, datapath: SwitchDatapath, raw: bytes) -> None:
        """Take a packet-in, unless too many wait; returns at once."""
        with self._ready:
            if self._waiting >= WAITING:
                self._counters["suppressed"] += 1
                return
            self._waiting += 1
        self.post(lambda: self._look(datapath, raw))

    def _look(self, datapath: SwitchDatapath, raw: bytes) -> None:
        with self._ready:
            self._waiting -= 1
        copied = notices.parse(raw)
        if copied is not None and copied.table in outside.TABLES:
            self._outside(datapath, copied)
            return
        packet = None if copied is None else read(copied.frame)
        if copied is None or packet is None:
            return
        if copied.table == tables.PORT_SECURITY.id:
            if self._leases is not None:
                self._leases.answer(datapath, copied)
            return
        if copied.table in _ROUTERS:
            frame = routers.answer(copied, packet)
            straight = [PARSER.OFPActionOutput(copied.in_port, 0)]
            if frame is not None and datapath.send_packet_out(actions=straight, data=frame):
                self._counters["answered"] += 1
            return
        if copied.field(fields.VERDICT) & ~LOGGED == REJECT:
            frame = answer(packet)
            if frame is not None and datapath.send_packet_out(actions=way_back(copied, frame), data=frame):
                self._counters["rejected"] += 1
        notice = notices.notice(copied, packet)
        if notice is None:
            return
        if self._limiter.take(notice.policy, time.monotonic()):
            self._counters["logged"] += 1
            self._tell(notice)
        else:
            self._counters["suppressed"] += 1

    def _outside(self, datapath: SwitchDatapath, copied: PacketIn) -> None:
        """A copy from or to a provider network."""
        heard = outside.heard(copied)
        if heard is not None:
            self._tell(heard)
            return
        sent = outside.answer(copied)
        if sent is not None:
            out = [PARSER.OFPActionOutput(sent.ofport, 0)]
            if datapath.send_packet_out(actions=out, data=sent.frame):
                self._counters["answered"] += 1


def way_back(copied: PacketIn, frame: bytes) -> list[Any]:
    """The actions that bring an answer to the sender of the packet.

    A sender on this host gets it straight, past its own groups. One on another host, or behind a router, is found by
    the tables; its host takes the answer for what it is, a reply or an error about a connection that the sender opened.
    """
    if not copied.tunnelled and not routers.goes_through(frame):
        return [PARSER.OFPActionOutput(copied.in_port, 0)]
    loads = [
        PARSER.NXActionRegLoad(field.low << 6 | field.bits - 1, field.oxm, copied.field(field))
        for field in (fields.NET, fields.DOMAIN)
    ]
    return [*loads, PARSER.NXActionResubmitTable(in_port=_RESUBMIT_IN_PORT, table_id=tables.ROUTE.id)]
