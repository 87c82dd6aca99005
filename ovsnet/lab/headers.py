"""What can be read of a frame, from its bytes alone: for the independent reading of the model.

Sources: RFC 826 (ARP), RFC 4291 (EUI-64), RFC 4861 (ND), RFC 6946 (atomic fragments), RFC 8200 (extension headers).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv6Address, ip_address

Address = IPv4Address | IPv6Address

ARP, IPV4, IPV6 = 0x0806, 0x0800, 0x86DD
TAGS = frozenset({0x8100, 0x88A8})
ICMPV6 = 58
FRAGMENT = 44
RS, RA, NS, NA, REDIRECT = ND = 133, 134, 135, 136, 137
MLD = frozenset({130, 131, 132, 143})
UNSPECIFIED = IPv6Address("::")
NO_MAC = "00:00:00:00:00:00"


def link_local(mac: str) -> IPv6Address:
    """The link-local address of a MAC: modified EUI-64 below fe80::/64 (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(b"\xfe\x80" + bytes(6) + bytes([octets[0] ^ 2]) + octets[1:3] + b"\xff\xfe" + octets[3:])


def addresses_of(ips: Iterable[str], mac: str) -> frozenset[Address]:
    """The addresses of a port: the declared ones, and the link-local one if there is IPv6 among them."""
    declared = frozenset(map(ip_address, ips))
    return declared | {link_local(mac)} if any(ip.version == 6 for ip in declared) else declared


@dataclass(frozen=True)
class Parsed:
    """What a switch can read of a frame; ``None`` or zero where the header is absent or broken."""

    dst: str
    src: str
    ethertype: int
    tagged: bool = False
    ip_src: Address | None = None
    ip_dst: Address | None = None
    icmp_type: int | None = None
    fragment: bool = False
    arp_op: int = 0
    sender_mac: str = NO_MAC
    target_mac: str = NO_MAC
    target: Address | None = None

    @property
    def multicast(self) -> bool:
        """Whether the destination is a group address, broadcast included."""
        return is_group(self.dst)


def parse(data: bytes) -> Parsed:
    """Read a frame's headers. ARP's SPA and TPA are ``ip_src`` and ``target``. Raises ValueError below 14 octets."""
    if len(data) < 14:
        raise ValueError(f"a frame of {len(data)} octets has no Ethernet header")
    ethertype = int.from_bytes(data[12:14], "big")
    parsed = Parsed(_mac(data[:6]), _mac(data[6:12]), ethertype, tagged=ethertype in TAGS)
    payload = data[14:]
    if ethertype == ARP:
        return _parse_arp(parsed, payload)
    if ethertype == IPV4:
        return _parse_ipv4(parsed, payload)
    if ethertype == IPV6:
        return _parse_ipv6(parsed, payload)
    return parsed


def _parse_arp(parsed: Parsed, body: bytes) -> Parsed:
    if len(body) < 28 or body[:6] != b"\0\1\x08\0\6\4":
        return parsed
    return replace(
        parsed,
        arp_op=int.from_bytes(body[6:8], "big"),
        sender_mac=_mac(body[8:14]),
        ip_src=IPv4Address(body[14:18]),
        target_mac=_mac(body[18:24]),
        target=IPv4Address(body[24:28]),
    )


def _parse_ipv4(parsed: Parsed, body: bytes) -> Parsed:
    if len(body) < 20:
        return parsed
    header, total = (body[0] & 15) * 4, int.from_bytes(body[2:4], "big")
    if not 20 <= header <= total <= len(body):
        return parsed
    return replace(parsed, ip_src=IPv4Address(body[12:16]), ip_dst=IPv4Address(body[16:20]))


def _parse_ipv6(parsed: Parsed, body: bytes) -> Parsed:
    if len(body) < 40:
        return parsed
    length = int.from_bytes(body[4:6], "big")
    if length > len(body) - 40:
        return parsed
    parsed = replace(parsed, ip_src=IPv6Address(body[8:24]), ip_dst=IPv6Address(body[24:40]))
    protocol, payload, fragment = _upper_layer(body[6], body[40 : 40 + length])
    if protocol != ICMPV6 or len(payload) < 4:
        return parsed
    parsed = replace(parsed, icmp_type=payload[0], fragment=fragment)
    return _parse_nd(parsed, payload) if payload[0] in (NS, NA) and payload[1] == 0 else parsed


def _upper_layer(protocol: int, payload: bytes) -> tuple[int, bytes, bool]:
    """Walk the extension headers; returns the upper layer and whether the packet is a first fragment.

    A later fragment has no upper layer, and an atomic one (RFC 6946) is no fragment.
    """
    fragment = False
    while protocol in (0, 43, FRAGMENT, 51, 60):
        if len(payload) < 8:
            return -1, b"", fragment
        if protocol == FRAGMENT:
            offset = int.from_bytes(payload[2:4], "big")
            if offset & 0xFFF8:
                return FRAGMENT, b"", True
            fragment, size = bool(offset), 8
        else:
            size = (payload[1] + 2) * 4 if protocol == 51 else (payload[1] + 1) * 8
        if size > len(payload):
            return -1, b"", fragment
        protocol, payload = payload[0], payload[size:]
    return protocol, payload, fragment


def _parse_nd(parsed: Parsed, message: bytes) -> Parsed:
    """Read the target and the link-layer options; broken or repeated options make the message unreadable."""
    if len(message) < 24:
        return parsed
    found: dict[int, str] = {}
    options = message[24:]
    while len(options) >= 8:
        kind, size = options[0], options[1] * 8
        if not 0 < size <= len(options) or (size == 8 and found.get(kind, NO_MAC) != NO_MAC):
            return parsed
        if kind in (1, 2) and size == 8:
            found[kind] = _mac(options[2:8])
        options = options[size:]
    return replace(
        parsed,
        target=IPv6Address(message[8:24]),
        sender_mac=found.get(1, NO_MAC),
        target_mac=found.get(2, NO_MAC),
    )


def _mac(octets: bytes) -> str:
    return octets.hex(":")


def is_group(mac: str) -> bool:
    """Whether a MAC is a group address, broadcast included."""
    return bool(int(mac[:2], 16) & 1)
