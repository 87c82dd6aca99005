"""MAC and IP addresses and ranges as canonical text and packed bytes.

Packed bytes (4 or 16, network order) compare like numbers within one family, and are quick to make: a model has
hundreds of thousands of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv6Address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from ovsnet.gateway import GATEWAY_MAC

_CANONICAL_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")
_ANY_MAC = re.compile(r"[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}")
_LENGTH = re.compile(r"0|[1-9][0-9]{0,2}")

_MAPPED = bytes(10) + b"\xff\xff"


def parse_ip(text: str) -> bytes | None:
    """The packed bytes of an IPv4 or IPv6 address, ``None`` if it is none (no zone, no prefix, no leading zeros)."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):
        return None


def ip_text(packed: bytes) -> str:
    """Canonical text: dotted quad, or compressed lower case (RFC 5952)."""
    if len(packed) == 4:
        return inet_ntop(AF_INET, packed)
    if packed[:10] == _MAPPED[:10]:  # the C library writes these with a dotted quad
        return str(IPv6Address(packed))
    return inet_ntop(AF_INET6, packed)


def not_unicast(packed: bytes) -> str | None:
    """Why an address cannot belong to an interface, as words that follow "is", or ``None`` if it can."""
    return _not_unicast4(packed) if len(packed) == 4 else _not_unicast6(packed)


def _not_unicast4(packed: bytes) -> str | None:
    first = packed[0]
    if first == 127:
        return "a loopback address"
    if first == 0:
        return "in 0.0.0.0/8, which is no host's address"
    if first == 169 and packed[1] == 254:
        return "a link-local address"
    if first < 224:
        return None
    if first < 240:
        return "a multicast address"
    return "the broadcast address" if packed == b"\xff\xff\xff\xff" else None


def _not_unicast6(packed: bytes) -> str | None:
    first = packed[0]
    if first == 255:
        return "a multicast address"
    if first == 254 and packed[1] & 0xC0 == 0x80:
        return "a link-local address"
    if first == 0 and packed[:12] == _MAPPED:
        return "an IPv4-mapped address"
    if first == 0 and packed[:15] == bytes(15) and packed[15] < 2:
        return "a loopback address" if packed[15] else "the unspecified address"
    return None


def canonical_mac(text: str) -> str | None:
    """Lower case with colons; ``None`` if the text is no MAC. Accepts upper case, and dashes."""
    if _CANONICAL_MAC.fullmatch(text):
        return text
    return text.lower().replace("-", ":") if _ANY_MAC.fullmatch(text) else None


def mac_fault(mac: str) -> str | None:
    """Why a canonical MAC cannot belong to an interface, as words that follow "is", or ``None`` if it can."""
    if mac[1] in "13579bdf":
        return "a multicast or broadcast address"
    if mac == GATEWAY_MAC:
        return "the MAC of every gateway"
    return "all zero" if mac == "00:00:00:00:00:00" else None


@dataclass(frozen=True, slots=True)
class Cidr:
    """An address range: packed first and last address, and the prefix length in bits."""

    first: bytes
    last: bytes
    length: int

    @property
    def bits(self) -> int:
        """The width of the family's addresses: 32 or 128."""
        return len(self.first) * 8

    def __contains__(self, packed: bytes) -> bool:
        return len(packed) == len(self.first) and self.first <= packed <= self.last

    def __str__(self) -> str:
        return f"{ip_text(self.first)}/{self.length}"

    def overlaps(self, other: Cidr) -> bool:
        """True if an address is in both ranges."""
        return other.first in self or self.first in other

    def reserved(self, packed: bytes) -> str | None:
        """Which reserved address of an IPv4 range this is (``None``: a host's); /31 and /32 have none (RFC 3021)."""
        if len(self.first) == 16 or self.length > 30:
            return None
        if packed == self.first:
            return "network address"
        return "broadcast address" if packed == self.last else None


def parse_cidr(text: str, *, bare: bool = False) -> tuple[Cidr, bytes] | None:
    """A range and the packed address as written (which shows host bits), or ``None`` if the text is no range.

    With ``bare`` an address without a prefix length stands for itself alone.
    """
    address, slash, length_text = text.partition("/")
    packed = parse_ip(address)
    if packed is None or (slash and not _LENGTH.fullmatch(length_text)) or not (slash or bare):
        return None
    bits = len(packed) * 8
    length = int(length_text) if slash else bits
    if length > bits:
        return None
    host_mask = (1 << (bits - length)) - 1
    number = int.from_bytes(packed, "big")
    first, last = number & ~host_mask, number | host_mask
    return Cidr(first.to_bytes(len(packed), "big"), last.to_bytes(len(packed), "big"), length), packed


def unusable_range(cidr: Cidr) -> str | None:
    """Why no interface can have an address of this range, as words that follow "is in", or ``None``."""
    for name, text in _UNUSABLE:
        parsed = parse_cidr(text)
        if parsed and cidr.length >= parsed[0].length and cidr.first in parsed[0]:
            return f"{text}, which is {name}"
    return None


_UNUSABLE = (
    ("no host's address", "0.0.0.0/8"),
    ("loopback", "127.0.0.0/8"),
    ("link-local", "169.254.0.0/16"),
    ("multicast", "224.0.0.0/4"),
    ("broadcast", "255.255.255.255/32"),
    ("unspecified", "::/128"),
    ("loopback", "::1/128"),
    ("IPv4-mapped", "::ffff:0:0/96"),
    ("link-local", "fe80::/10"),
    ("multicast", "ff00::/8"),
)
