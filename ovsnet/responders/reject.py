"""The answer to a packet that a rule rejects: a reset for TCP, and "administratively prohibited" for all else.

An answer is always a reset or an ICMP error, and neither is ever answered. So whoever rejects whose answers, nothing
goes to and fro.
"""

from __future__ import annotations

import struct

from ovsnet.responders.packet import (
    ETH_IPV4,
    ETH_IPV6,
    ETHERNET,
    ICMP,
    ICMPV6,
    IPV4,
    IPV6,
    TCP,
    Packet,
)

SNAP = ETHERNET.size + 1280 - IPV6.size - 8
"""How many bytes of a frame the longest answer needs."""

_TCP = struct.Struct("!HHIIBBHHH")
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10
_ICMP_HEADER = 8
_MAX_ERROR = {4: 576, 6: 1280}
"""The longest ICMP error, its IP header included (RFC 1812, 4.3.2.3; RFC 4443, 3.1)."""
_PROHIBITED = {4: (3, 13), 6: (1, 1)}
"""Destination unreachable: communication administratively prohibited (RFC 1812, 5.2.7.1; RFC 4443, 3.1)."""
_ICMP_ERRORS = frozenset({3, 4, 5, 11, 12})
_ICMPV6_INFORMATIONAL, _ICMPV6_REDIRECT = 128, 137
_HOP_LIMIT = 64
_DONT_FRAGMENT = 0x4000
_INTERNETWORK_CONTROL = 0xC0  # the precedence of IPv4's errors (RFC 1812, 4.3.2.5)


def answer(packet: Packet) -> bytes | None:
    """The frame that tells a packet's sender that it was rejected, as if its receiver sent it; ``None``: silence.

    Only what has one sender and one receiver is answered, and of a packet in fragments only the first (RFC 1812,
    4.3.2.7; RFC 4443, 2.4).
    """
    if packet.later or not _between_two(packet):
        return None
    if packet.protocol == TCP:
        return _reset(packet)
    return None if _is_error(packet) else _error(packet)


def _between_two(packet: Packet) -> bool:
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


def _reset(packet: Packet) -> bytes | None:
    """RST by the rules for a connection that does not exist (RFC 9293, 3.5.2, group 1)."""
    if len(packet.upper) < _TCP.size:
        return None
    source, destination, seq, ack, offset, flags, *_ = _TCP.unpack_from(packet.upper)
    data = packet.length - packet.start - (offset >> 4) * 4
    if flags & _RST or offset >> 4 < 5 or data < 0:
        return None
    if flags & _ACK:
        seq, ack, flags = ack, 0, _RST
    else:
        length = data + bool(flags & _SYN) + bool(flags & _FIN)
        seq, ack, flags = 0, seq + length & 0xFFFFFFFF, _RST | _ACK
    segment = _TCP.pack(destination, source, seq, ack, 5 << 4, flags, 0, 0, 0)
    checksum = _checksum(_pseudo_header(packet, TCP, len(segment)) + segment)
    return _frame(packet, TCP, segment[:16] + struct.pack("!H", checksum) + segment[18:], 0)


def _error(packet: Packet) -> bytes:
    """The ICMP error with as much of the packet as it may hold."""
    header = IPV4.size if packet.family == 4 else IPV6.size
    original = packet.ip[: _MAX_ERROR[packet.family] - header - _ICMP_HEADER]
    kind, code = _PROHIBITED[packet.family]
    message = struct.pack("!BBHI", kind, code, 0, 0) + original
    protocol = ICMP if packet.family == 4 else ICMPV6
    pseudo = _pseudo_header(packet, protocol, len(message)) if packet.family == 6 else b""
    checksum = _checksum(pseudo + message)
    return _frame(packet, protocol, message[:2] + struct.pack("!H", checksum) + message[4:], _INTERNETWORK_CONTROL)


def _pseudo_header(packet: Packet, protocol: int, length: int) -> bytes:
    """What the checksums of TCP and ICMPv6 cover beside the message; both families' forms add up to the same sum."""
    return packet.destination + packet.source + struct.pack("!HH", protocol, length)


def _frame(packet: Packet, protocol: int, payload: bytes, tos: int) -> bytes:
    """A frame back to the packet's sender; ``tos`` is for IPv4 alone."""
    if packet.family == 6:
        ethernet = ETHERNET.pack(packet.eth_src, packet.eth_dst, ETH_IPV6)
        ipv6 = IPV6.pack(6 << 28, len(payload), protocol, _HOP_LIMIT, packet.destination, packet.source)
        return ethernet + ipv6 + payload
    ethernet = ETHERNET.pack(packet.eth_src, packet.eth_dst, ETH_IPV4)
    ends = (packet.destination, packet.source)
    length = IPV4.size + len(payload)
    fields = (0x45, tos, length, 0, _DONT_FRAGMENT, _HOP_LIMIT, protocol)
    checksum = _checksum(IPV4.pack(*fields, 0, *ends))
    return ethernet + IPV4.pack(*fields, checksum, *ends) + payload


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): a number's remainder by 0xFFFF is the one's complement sum of its words."""
    return -int.from_bytes(data + b"\0" * (len(data) & 1), "big") % 0xFFFF
