"""What can be read of a packet above its IP header: protocol, ports, ICMP, and what an ICMP error quotes.

Sources: RFC 768 (UDP), RFC 792 (ICMP), RFC 4443 (ICMPv6), RFC 8200 (extension headers), RFC 9260 (SCTP),
RFC 9293 (TCP).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from ovsnet.lab.headers import FRAGMENT, IPV4, IPV6, Address

ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
WITH_PORTS = frozenset({TCP, UDP, SCTP})
_EXTENSIONS = frozenset({0, 43, FRAGMENT, 51, 60})
_ERRORS = {4: frozenset({3, 4, 5, 11, 12}), 6: frozenset({1, 2, 3, 4})}
Part = Literal["whole", "first", "later"]


@dataclass(frozen=True)
class Segment:
    """A packet between two addresses. ``sport`` and ``dport`` are ``None`` where the packet shows none.

    ``kind``, ``code`` and ``ident`` are ICMP's. ``part`` tells fragments. ``about`` is the packet that an ICMP error
    quotes, as far as it can be read. ``flags`` are TCP's.
    """

    src: Address
    dst: Address
    protocol: int
    part: Part = "whole"
    sport: int | None = None
    dport: int | None = None
    kind: int | None = None
    code: int | None = None
    ident: int | None = None
    flags: int = 0
    about: Segment | None = None

    @property
    def version(self) -> Literal[4, 6]:
        """The IP version."""
        return 6 if isinstance(self.src, IPv6Address) else 4

    @property
    def is_icmp(self) -> bool:
        """Whether it is ICMP in the family that it belongs to."""
        return self.protocol == (ICMP if self.version == 4 else ICMPV6)

    @property
    def is_error(self) -> bool:
        """Whether it is an ICMP error, which speaks of another packet."""
        return self.is_icmp and self.kind in _ERRORS[self.version]


def read(frame: bytes) -> Segment | None:
    """The packet in an untagged Ethernet frame; ``None`` for a frame that holds no sound IP packet."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == IPV4:
        return _ipv4(frame[14:], whole=True)
    return _ipv6(frame[14:], whole=True) if ethertype == IPV6 else None


def _ipv4(packet: bytes, *, whole: bool) -> Segment | None:
    if len(packet) < 20 or packet[0] >> 4 != 4:
        return None
    header, total = (packet[0] & 15) * 4, int.from_bytes(packet[2:4], "big")
    if not 20 <= header <= min(total, len(packet)) or (whole and total > len(packet)):
        return None
    word = int.from_bytes(packet[6:8], "big")
    part: Part = "later" if word & 0x1FFF else "first" if word & 0x2000 else "whole"
    segment = Segment(IPv4Address(packet[12:16]), IPv4Address(packet[16:20]), packet[9], part)
    return _upper(segment, packet[header:total])


def _ipv6(packet: bytes, *, whole: bool) -> Segment | None:
    if len(packet) < 40 or packet[0] >> 4 != 6:
        return None
    length = int.from_bytes(packet[4:6], "big")
    if whole and length > len(packet) - 40:
        return None
    protocol, body, part = packet[6], packet[40 : 40 + length], "whole"
    segment = Segment(IPv6Address(packet[8:24]), IPv6Address(packet[24:40]), protocol)
    while protocol in _EXTENSIONS:
        if len(body) < 8:
            return None
        size = (body[1] + 1) * 8
        if protocol == FRAGMENT:
            word, size = int.from_bytes(body[2:4], "big"), 8
            part = "later" if word & 0xFFF8 else "first" if word & 1 else "whole"
        elif protocol == 51:
            size = (body[1] + 2) * 4
        protocol, body = body[0], body[size:]
        if part == "later":
            return replace(segment, protocol=protocol, part="later")
    return _upper(replace(segment, protocol=protocol, part="first" if part == "first" else "whole"), body)


def _upper(segment: Segment, body: bytes) -> Segment:
    if segment.part == "later":
        return segment
    if segment.protocol in WITH_PORTS and len(body) >= 4:
        flags = body[13] if segment.protocol == TCP and len(body) >= 14 else 0
        sport, dport = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:4], "big")
        return replace(segment, sport=sport, dport=dport, flags=flags)
    if segment.is_icmp and len(body) >= 2:
        segment = replace(segment, kind=body[0], code=body[1])
        if segment.is_error:
            read_inner = _ipv4 if segment.version == 4 else _ipv6
            return replace(segment, about=read_inner(body[8:], whole=False))
        return replace(segment, ident=int.from_bytes(body[4:6], "big")) if len(body) >= 6 else segment
    return segment
