"""Writing the headers of answers: Ethernet, IP, UDP, ICMP, with their lengths and checksums."""

from __future__ import annotations

import struct
from typing import NamedTuple

from ovsnet.responders.packet import ETH_IPV4, ETH_IPV6, ETHERNET, ICMPV6, IPV4, IPV6, UDP, Packet

HOPS = 64
UDP_HEADER = struct.Struct("!HHHH")

_DONT_FRAGMENT = 0x4000


class Ends(NamedTuple):
    """Who sends a frame to whom, as packed MAC and IP addresses."""

    eth_src: bytes
    eth_dst: bytes
    source: bytes
    destination: bytes


def back(packet: Packet) -> Ends:
    """The way back to a packet's sender, from the one that it was sent to."""
    return Ends(packet.eth_dst, packet.eth_src, packet.destination, packet.source)


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071): a number's remainder by 0xFFFF is the one's complement sum of its words."""
    return -int.from_bytes(data + b"\0" * (len(data) & 1), "big") % 0xFFFF


def pseudo_header(source: bytes, destination: bytes, protocol: int, length: int) -> bytes:
    """What checksums of TCP, UDP and ICMPv6 cover beside the message; both families' forms add up to the same sum."""
    return source + destination + struct.pack("!HH", protocol, length)


def ip_frame(ends: Ends, protocol: int, payload: bytes, *, tos: int = 0, hops: int = HOPS) -> bytes:
    """A frame with an IP packet, of the family of its addresses; ``tos`` is for IPv4 alone."""
    if len(ends.source) == 16:
        ethernet = ETHERNET.pack(ends.eth_dst, ends.eth_src, ETH_IPV6)
        return ethernet + IPV6.pack(6 << 28, len(payload), protocol, hops, ends.source, ends.destination) + payload
    ethernet = ETHERNET.pack(ends.eth_dst, ends.eth_src, ETH_IPV4)
    fields = (0x45, tos, IPV4.size + len(payload), 0, _DONT_FRAGMENT, hops, protocol)
    header = IPV4.pack(*fields, 0, ends.source, ends.destination)
    return ethernet + IPV4.pack(*fields, checksum(header), ends.source, ends.destination) + payload


def udp_frame(ends: Ends, source_port: int, destination_port: int, data: bytes) -> bytes:
    """A frame with a UDP datagram."""
    length = UDP_HEADER.size + len(data)
    pseudo = pseudo_header(ends.source, ends.destination, UDP, length)
    value = checksum(pseudo + UDP_HEADER.pack(source_port, destination_port, length, 0) + data)
    # A sum of 0 would say that there is none; 0xFFFF is the same sum (RFC 768).
    header = UDP_HEADER.pack(source_port, destination_port, length, value or 0xFFFF)
    return ip_frame(ends, UDP, header + data)


def icmp_frame(ends: Ends, protocol: int, message: bytes, *, tos: int = 0, hops: int = HOPS) -> bytes:
    """A frame with an ICMP or ICMPv6 message, whose checksum is still 0."""
    pseudo = pseudo_header(ends.source, ends.destination, protocol, len(message)) if protocol == ICMPV6 else b""
    value = checksum(pseudo + message)
    return ip_frame(ends, protocol, message[:2] + value.to_bytes(2, "big") + message[4:], tos=tos, hops=hops)
