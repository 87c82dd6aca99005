"""Frames, octet by octet: what a workload could put on its interface, honest or not."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
BROADCAST = "ff:ff:ff:ff:ff:ff"
NO_MAC = "00:00:00:00:00:00"
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
CHECKSUM_AT = {ICMP: 2, TCP: 16, UDP: 6}
"""Where the checksum of a segment is."""


def mac_bytes(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def ethernet(dst: str, src: str, ethertype: int, payload: bytes, tags: tuple[tuple[int, int], ...] = ()) -> bytes:
    """One frame; ``tags`` are (TPID, TCI) pairs, outermost first."""
    stack = b"".join(struct.pack("!HH", tpid, tci) for tpid, tci in tags)
    return mac_bytes(dst) + mac_bytes(src) + stack + struct.pack("!H", ethertype) + payload


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def summed(src: str, dst: str, payload: bytes, protocol: int) -> bytes:
    """A segment with its checksum, if it has room for one and none yet."""
    at = CHECKSUM_AT.get(protocol)
    if at is None or len(payload) < at + 2 or payload[at : at + 2] != b"\0\0":
        return payload
    pseudo = ip_address(src).packed + ip_address(dst).packed + struct.pack("!II", len(payload), protocol)
    total = checksum((b"" if protocol == ICMP else pseudo) + payload) or 0xFFFF
    return payload[:at] + struct.pack("!H", total) + payload[at + 2 :]


def ipv4(src: str, dst: str, payload: bytes, protocol: int = UDP, ttl: int = 64, flags: int = 0, options: bytes = b"",
         length: int | None = None) -> bytes:  # fmt: skip
    """An IPv4 packet; ``flags`` is the fragment word, ``length`` overrides the total length.

    A whole packet has its segment's checksum.
    """
    if not flags & 0x3FFF:
        payload = summed(src, dst, payload, protocol)
    header = 20 + len(options)
    total = header + len(payload) if length is None else length
    head = struct.pack("!BBHHHBBH", 0x40 | header // 4, 0, total, 7, flags, ttl, protocol, 0)
    head += IPv4Address(src).packed + IPv4Address(dst).packed + options
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + payload


def ipv6(src: str, dst: str, payload: bytes, protocol: int = UDP, ttl: int = 64, length: int | None = None) -> bytes:
    """An IPv6 packet with its segment's checksum; ``length`` overrides the payload length."""
    payload = summed(src, dst, payload, protocol)
    size = len(payload) if length is None else length
    head = struct.pack("!IHBB", 6 << 28, size, protocol, ttl)
    return head + IPv6Address(src).packed + IPv6Address(dst).packed + payload


def udp(payload: bytes = b"", sport: int = 40000, dport: int = 9) -> bytes:
    return struct.pack("!HHHH", sport, dport, 8 + len(payload), 0) + payload


def tcp(sport: int = 40000, dport: int = 80, flags: int = 2, seq: int = 1, ack: int = 0, data: bytes = b"") -> bytes:
    """A TCP segment, by default one that opens a connection."""
    return struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 1024, 0, 0) + data


def sctp(sport: int, dport: int) -> bytes:
    """An SCTP packet with an empty DATA chunk; nobody looks at its checksum."""
    return struct.pack("!HHII", sport, dport, 1, 0) + struct.pack("!BBHIHHI", 0, 3, 16, 1, 0, 0, 0)


def icmp(kind: int, code: int = 0, rest: bytes = bytes(4), data: bytes = b"") -> bytes:
    """An ICMP message without its checksum."""
    return struct.pack("!BBH", kind, code, 0) + rest + data


def ip(src: str, dst: str, payload: bytes, protocol: int = UDP) -> tuple[int, bytes]:
    """An IPv4 or IPv6 packet by the addresses' family, with its ethertype."""
    if ip_address(dst).version == 4:
        return IPV4, ipv4(src, dst, payload, protocol)
    return IPV6, ipv6(src, dst, payload, protocol)


def icmpv6(src: str, dst: str, kind: int, body: bytes, code: int = 0) -> bytes:
    """An ICMPv6 message with its checksum, without the IPv6 header."""
    message = struct.pack("!BBH", kind, code, 0) + body
    pseudo = IPv6Address(src).packed + IPv6Address(dst).packed + struct.pack("!II", len(message), ICMPV6)
    return message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]


def arp(op: int, sha: str, spa: str, tha: str, tpa: str, lengths: tuple[int, int] = (6, 4)) -> bytes:
    head = struct.pack("!HHBBH", 1, 0x0800, *lengths, op)
    return head + mac_bytes(sha) + IPv4Address(spa).packed + mac_bytes(tha) + IPv4Address(tpa).packed


def option(kind: int, mac: str) -> bytes:
    """A source (1) or target (2) link-layer address option of ND."""
    return bytes([kind, 1]) + mac_bytes(mac)


def solicited_node(target: str) -> tuple[str, str]:
    """The multicast MAC and address that a solicitation for ``target`` goes to (RFC 4291, 2.7.1)."""
    low = IPv6Address(target).packed[13:]
    return "33:33:ff:" + low.hex(":"), str(IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + low))


def solicitation(src: str, dst: str, target: str, options: bytes = b"", code: int = 0) -> bytes:
    body = bytes(4) + IPv6Address(target).packed + options
    return ipv6(src, dst, icmpv6(src, dst, 135, body, code), ICMPV6, 255)


def advertisement(src: str, dst: str, target: str, options: bytes = b"", flags: int = 0x60000000) -> bytes:
    body = struct.pack("!I", flags) + IPv6Address(target).packed + options
    return ipv6(src, dst, icmpv6(src, dst, 136, body), ICMPV6, 255)


def router_advertisement(src: str, dst: str) -> bytes:
    return icmpv6(src, dst, 134, struct.pack("!BBHII", 64, 0, 1800, 0, 0))


def redirect(src: str, dst: str, target: str, destination: str) -> bytes:
    return icmpv6(src, dst, 137, bytes(4) + IPv6Address(target).packed + IPv6Address(destination).packed)


def mld(src: str, dst: str, kind: int, group: str = "ff02::1:ff00:1") -> bytes:
    """An MLD message about one group, behind the router alert that RFC 3810 asks for; 143 is a second report."""
    head = struct.pack("!HHBBH", 0, 1, 4, 0, 0) if kind == 143 else bytes(4)
    hop_by_hop = bytes([ICMPV6, 0, 5, 2, 0, 0, 1, 0])
    return ipv6(src, dst, hop_by_hop + icmpv6(src, dst, kind, head + IPv6Address(group).packed), 0, 1)


def extended(
    src: str, dst: str, headers: list[tuple[int, bytes]], protocol: int, payload: bytes, ttl: int = 255
) -> bytes:
    """An IPv6 packet with extension headers: (number, octets from the second on), in order."""
    kinds = [number for number, _ in headers] + [protocol]
    if all(number != 44 for number, _ in headers):
        payload = summed(src, dst, payload, protocol)
    chain = b"".join(bytes([kinds[i + 1]]) + rest for i, (_, rest) in enumerate(headers))
    return ipv6(src, dst, chain + payload, kinds[0], ttl)


def fragment_header(offset: int, more: bool) -> tuple[int, bytes]:
    """A fragment header for ``extended``; ``offset`` in octets."""
    return 44, struct.pack("!BHI", 0, offset | more, 99)


DESTINATION_OPTIONS = (60, bytes([0, 1, 4, 0, 0, 0, 0]))
