"""What a router says about packets: ICMP errors (RFC 792, RFC 1812, RFC 4443), and the answer to who pings it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from ovsnet.responders import values
from ovsnet.responders.headers import Ends, back, checksum, icmp_frame, pseudo_header
from ovsnet.responders.packet import ETHERNET, ICMP, ICMPV6, IPV4, IPV6, Packet, read

SNAP = ETHERNET.size + 1280 - IPV6.size - 8
"""How many bytes of a frame the longest error needs."""

_HEADER = 8
_MAX_ERROR = {4: 576, 6: 1280}
"""The longest ICMP error, its IP header included (RFC 1812, 4.3.2.3; RFC 4443, 3.1)."""
_INTERNETWORK_CONTROL = 0xC0  # the precedence of IPv4's errors (RFC 1812, 4.3.2.5)
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
_ICMPV6_INFORMATIONAL, _ICMPV6_REDIRECT = 128, 137
_DONT_FRAGMENT = 0x40  # in the first byte of IPv4's fragment field
_FRAGMENT_FIELD = 6
_ECHO = {4: (ICMP, 8, 0), 6: (ICMPV6, 128, 129)}
"""The protocol of each family's ping, and the types of request and reply."""


class Error(Enum):
    """What is wrong: type and code in IPv4, and those in IPv6."""

    NO_ROUTE = (3, 0), (1, 0)
    HOST_UNREACHABLE = (3, 1), (1, 3)
    PORT_UNREACHABLE = (3, 3), (1, 4)
    PROHIBITED = (3, 13), (1, 1)
    TIME_EXCEEDED = (11, 0), (3, 0)
    TOO_BIG = (3, 4), (2, 0)


@dataclass(frozen=True)
class Router:
    """A router's leg in a network: its MAC, and all its addresses there, IPv4 and IPv6, in text.

    Raises ValueError for text that is none.
    """

    mac: str
    ips: tuple[str, ...]

    def __post_init__(self) -> None:
        _ = self.wire

    @cached_property
    def wire(self) -> tuple[bytes, dict[int, tuple[bytes, ...]]]:
        """The same in bytes, the addresses by family."""
        four = tuple(values.ipv4(ip, "Router.ips") for ip in self.ips if ":" not in ip)
        six = tuple(values.ipv6(ip, "Router.ips") for ip in self.ips if ":" in ip)
        return values.mac(self.mac, "Router.mac"), {4: four, 6: six}


def error(frame: bytes, why: Error, router: Router, mtu: int = 0) -> bytes | None:
    """The frame in which a router tells a packet's sender what is wrong; ``None`` where it has to be silent.

    It comes from the router's first address of the packet's family; a router without one says nothing. ``mtu``, in
    bytes, is what the packet is too big for, and belongs to ``TOO_BIG`` alone: a packet that says that it may be
    fragmented is then no reason for an error (RFC 1191, 3).
    """
    packet = read(frame)
    if packet is None:
        return None
    mac, ips = router.wire
    if not ips[packet.family]:
        return None
    if why is Error.TOO_BIG and packet.family == 4 and not packet.ip[_FRAGMENT_FIELD] & _DONT_FRAGMENT:
        return None
    return about(packet, why, mac, ips[packet.family][0], mtu)


def about(packet: Packet, why: Error, mac: bytes, ip: bytes, mtu: int = 0) -> bytes | None:
    """The ICMP error about a packet from any station, with as much of the packet as it may hold; ``None``: silence.

    Only what has one sender and one receiver is answered, and of a packet in fragments only the first; an error is not
    (RFC 1812, 4.3.2.7; RFC 4443, 2.4).
    """
    if packet.later or not between_two(packet) or _is_error(packet):
        return None
    header, protocol, tos = (IPV4.size, ICMP, _INTERNETWORK_CONTROL) if packet.family == 4 else (IPV6.size, ICMPV6, 0)
    original = packet.ip[: _MAX_ERROR[packet.family] - header - _HEADER]
    kind, code = why.value[packet.family == 6]
    # IPv4 has 16 bits for the MTU, IPv6 has 32 (RFC 1191, 4; RFC 4443, 3.2).
    message = struct.pack("!BBHI", kind, code, 0, mtu if packet.family == 6 else min(mtu, 0xFFFF)) + original
    return icmp_frame(Ends(mac, packet.eth_src, ip, packet.source), protocol, message, tos=tos)


def echo(frame: bytes, router: Router) -> bytes | None:
    """The answer to a ping of one of the router's addresses; ``None`` for all else, and for one in fragments or cut."""
    packet = read(frame)
    if packet is None or packet.fragment or packet.length != len(packet.ip) or not between_two(packet):
        return None
    protocol, request, reply = _ECHO[packet.family]
    message = packet.upper
    if packet.protocol != protocol or message[:2] != bytes([request, 0]) or len(message) < _HEADER:
        return None
    mac, ips = router.wire
    pseudo = pseudo_header(packet.source, packet.destination, protocol, len(message)) if packet.family == 6 else b""
    if packet.destination not in ips[packet.family] or checksum(pseudo + message):
        return None
    ends = back(packet)._replace(eth_src=mac)
    return icmp_frame(ends, protocol, bytes([reply, 0, 0, 0]) + message[4:])


def between_two(packet: Packet) -> bool:
    """Whether both link-layer and both IP addresses name one station each."""
    if packet.eth_dst[0] & 1 or packet.eth_src[0] & 1:
        return False
    if packet.family == 4:
        return packet.source[0] not in (0, 127) and packet.source[0] < 224 and packet.destination[0] < 224
    return int.from_bytes(packet.source, "big") > 1 and packet.source[0] != 0xFF and packet.destination[0] != 0xFF


def _is_error(packet: Packet) -> bool:
    """Whether it is an ICMP error, or a redirect, or may be one: its type was not seen."""
    kind = packet.upper[:1]
    if packet.family == 4:
        return packet.protocol == ICMP and (not kind or kind[0] in _ICMP_ERRORS)
    if packet.protocol == ICMPV6:
        return not kind or kind[0] < _ICMPV6_INFORMATIONAL or kind[0] == _ICMPV6_REDIRECT
    return False
