"""Reading an Ethernet frame as far as answers and log entries need it; a frame may be cut short after any byte."""

from __future__ import annotations

import struct
from dataclasses import dataclass

ETHERNET = struct.Struct("!6s6sH")
IPV4 = struct.Struct("!BBHHHBBH4s4s")
IPV6 = struct.Struct("!IHBB16s16s")
ETH_IPV4, ETH_IPV6 = 0x0800, 0x86DD
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132

_FRAGMENT_OFFSET, _MORE_FRAGMENTS = 0x1FFF, 0x2000  # of IPv4's field; the offset is in units of 8 bytes
_FRAGMENT = 44
_EXTENSIONS = {0: 8, 43: 8, 60: 8, 51: 4}
"""IPv6 extension headers that are passed over (hop-by-hop, routing, destination options, AH), and their unit."""


@dataclass(frozen=True, slots=True)
class Packet:
    """An IP packet in its Ethernet frame.

    ``ip`` is what was seen of the packet from its IP header on, without Ethernet's padding; ``length`` is how long it
    really is, in bytes. ``protocol`` is that of the upper layer, whose header begins at ``start`` (behind IPv6's
    extension headers); ``upper`` is what was seen from there on. A ``later`` fragment has none; ``fragment`` says that
    it is one, the first or a later one.
    """

    eth_dst: bytes
    eth_src: bytes
    family: int
    source: bytes
    destination: bytes
    protocol: int
    ip: bytes
    length: int
    start: int
    later: bool
    fragment: bool

    @property
    def upper(self) -> bytes:
        """What was seen of the upper layer's header and data; nothing for a later fragment."""
        return b"" if self.later else self.ip[self.start :]

    @property
    def ports(self) -> tuple[int, int] | None:
        """Source and destination port of TCP, UDP and SCTP; ICMP's type and code; ``None`` where there are none."""
        upper = self.upper
        if self.protocol in (TCP, UDP, SCTP) and len(upper) >= 4:
            return int.from_bytes(upper[:2], "big"), int.from_bytes(upper[2:4], "big")
        if self.protocol == (ICMP if self.family == 4 else ICMPV6) and len(upper) >= 2:
            return upper[0], upper[1]
        return None


def read(frame: bytes) -> Packet | None:
    """The IP packet in an untagged frame; ``None`` when there is none, or its IP headers are malformed or cut."""
    if len(frame) < ETHERNET.size:
        return None
    eth_dst, eth_src, eth_type = ETHERNET.unpack_from(frame)
    ip = frame[ETHERNET.size :]
    if eth_type == ETH_IPV4:
        return _ipv4(eth_dst, eth_src, ip)
    return _ipv6(eth_dst, eth_src, ip) if eth_type == ETH_IPV6 else None


def _ipv4(eth_dst: bytes, eth_src: bytes, ip: bytes) -> Packet | None:
    if len(ip) < IPV4.size:
        return None
    version, _, length, _, fragment, _, protocol, _, source, destination = IPV4.unpack_from(ip)
    start = (version & 0xF) * 4
    if version >> 4 != 4 or start < IPV4.size or length < start or len(ip) < start:
        return None
    later, fragmented = bool(fragment & _FRAGMENT_OFFSET), bool(fragment & (_FRAGMENT_OFFSET | _MORE_FRAGMENTS))
    return Packet(eth_dst, eth_src, 4, source, destination, protocol, ip[:length], length, start, later, fragmented)


def _ipv6(eth_dst: bytes, eth_src: bytes, ip: bytes) -> Packet | None:
    if len(ip) < IPV6.size:
        return None
    version, payload, protocol, _, source, destination = IPV6.unpack_from(ip)
    if version >> 28 != 6:
        return None
    length, start, later, fragmented = IPV6.size + payload, IPV6.size, False, False
    ip = ip[:length]
    while (protocol in _EXTENSIONS or protocol == _FRAGMENT) and not later:
        if len(ip) < start + 8:
            return None
        if protocol == _FRAGMENT:
            where, size = int.from_bytes(ip[start + 2 : start + 4], "big"), 8
            later, fragmented = bool(where >> 3), fragmented or bool(where >> 3 or where & 1)
        else:
            unit = _EXTENSIONS[protocol]
            size = 8 + ip[start + 1] * unit
        protocol, start = ip[start], start + size
    if length < start:
        return None
    return Packet(eth_dst, eth_src, 6, source, destination, protocol, ip, length, start, later, fragmented)
