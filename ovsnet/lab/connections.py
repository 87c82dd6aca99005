"""Who opened a connection: what a port's host remembers of the packets that it let pass, as the reference has it.

A connection is named by the first packet of it that was let pass. TCP and UDP are told apart by addresses and ports,
ICMP queries by addresses, identifier and type; of every other protocol, two addresses have one connection. How long an
idle connection is remembered is not part of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ovsnet.lab.headers import Address
from ovsnet.lab.segments import ICMP, ICMPV6, TCP, UDP, Segment

_REPLY_TO = {(ICMP, 8): 0, (ICMP, 13): 14, (ICMP, 15): 16, (ICMPV6, 128): 129}
"""The ICMP queries that open a connection, and the type of their answer."""
_FIN, _SYN, _RST, _PSH, _ACK, _URG = 1, 2, 4, 8, 16, 32

Key = tuple[int, Address, int, Address, int, int]


class Role(StrEnum):
    """What a packet is to the connections known so far."""

    OPENING = "opening"
    FORTH = "forth"
    BACK = "back"
    INVALID = "invalid"


@dataclass(frozen=True)
class Place:
    """A packet's role, and the packet that opened the connection that it belongs to (itself if it opens one)."""

    role: Role
    opener: Segment


class Connections:
    """The connections of one port on one host."""

    def __init__(self) -> None:
        self._opened: dict[Key, Segment] = {}

    def place(self, packet: Segment) -> Place:
        """What ``packet`` is here. Nothing is remembered by asking."""
        if packet.is_error:
            return self._error(packet)
        forth, back = _keys(packet)
        for key, role in ((forth, Role.FORTH), (back, Role.BACK)):
            if key is not None and key in self._opened:
                return Place(role, self._opened[key])
        return Place(Role.OPENING if forth is not None and _may_open(packet) else Role.INVALID, packet)

    def remember(self, packet: Segment) -> None:
        """Note that a packet opened a connection, for it was let pass."""
        key = _keys(packet)[0]
        if key is not None:
            self._opened[key] = packet

    def _error(self, packet: Segment) -> Place:
        """An error belongs to the connection that it is about, and goes the other way than the packet it quotes.

        It must go to who sent that packet.
        """
        if packet.about is None or packet.about.is_error or packet.about.src != packet.dst:
            return Place(Role.INVALID, packet)
        forth, back = _keys(packet.about)
        for key, role in ((forth, Role.BACK), (back, Role.FORTH)):
            if key is not None and key in self._opened:
                return Place(role, self._opened[key])
        return Place(Role.INVALID, packet)


def _keys(packet: Segment) -> tuple[Key | None, Key | None]:
    """The connection's name if the packet goes the opener's way, and if it goes the other; ``None``: impossible."""
    if packet.is_icmp:
        if packet.kind is None or packet.ident is None:
            return None, None
        query = next((k for (p, k), reply in _REPLY_TO.items() if (p, reply) == (packet.protocol, packet.kind)), None)
        forth = (packet.protocol, packet.src, 0, packet.dst, packet.ident, packet.kind)
        back = (packet.protocol, packet.dst, 0, packet.src, packet.ident, -1 if query is None else query)
        return forth if (packet.protocol, packet.kind) in _REPLY_TO else None, None if query is None else back
    sport, dport = (packet.sport or 0, packet.dport or 0) if packet.protocol in (TCP, UDP) else (0, 0)
    return (packet.protocol, packet.src, sport, packet.dst, dport, 0), (
        packet.protocol,
        packet.dst,
        dport,
        packet.src,
        sport,
        0,
    )


def _may_open(packet: Segment) -> bool:
    """Whether a packet of an unknown connection may open one: no answer does, and no TCP flags that make no sense."""
    if packet.protocol in (TCP, UDP) and (packet.sport is None or packet.dport is None):
        return False
    if packet.protocol != TCP:
        return True
    flags = packet.flags
    if flags & _SYN:
        return not flags & (_RST | _FIN | _ACK | _PSH | _URG)
    return bool(flags & _ACK or (flags & _RST and not flags & (_FIN | _PSH | _URG)))
