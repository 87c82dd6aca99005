"""Addresses as integers: the fast half of the address handling (validation is the loader's)."""

from __future__ import annotations

import socket


def mac_int(text: str) -> int:
    """A canonical MAC (``02:00:00:00:01:01``) as an integer of 48 bits."""
    return int(text.replace(":", ""), 16)


def mac_text(value: int) -> str:
    """The inverse of ``mac_int``."""
    digits = f"{value:012x}"
    return ":".join(digits[i : i + 2] for i in range(0, 12, 2))


def ip_int(text: str) -> tuple[int, int]:
    """An address as (integer, bits), bits 32 or 128. Raises OSError for what is no address."""
    if ":" in text:
        return int.from_bytes(socket.inet_pton(socket.AF_INET6, text), "big"), 128
    return int.from_bytes(socket.inet_pton(socket.AF_INET, text), "big"), 32


def ip_text(value: int, bits: int) -> str:
    """The inverse of ``ip_int``; IPv6 in the form of RFC 5952."""
    family = socket.AF_INET if bits == 32 else socket.AF_INET6
    return socket.inet_ntop(family, value.to_bytes(bits // 8, "big"))


def cidr_int(text: str) -> tuple[int, int, int]:
    """An address or CIDR as (integer, mask, bits); without a prefix length it is one address."""
    address, _, length = text.partition("/")
    value, bits = ip_int(address)
    prefix = int(length) if length else bits
    mask = ((1 << prefix) - 1) << (bits - prefix)
    return value & mask, mask, bits


def link_local(mac: int) -> int:
    """The link-local IPv6 address that a MAC makes (EUI-64, RFC 4291 appendix A), as an integer."""
    mac ^= 1 << 41
    return 0xFE80 << 112 | (mac >> 24) << 40 | 0xFFFE << 24 | mac & 0xFFFFFF
