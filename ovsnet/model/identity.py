"""What follows from a name alone: a port's id, its MAC address and its link-local address."""

from __future__ import annotations

from hashlib import sha1, sha256
from uuid import UUID

from ovsnet.model import numbers

NAMESPACE = UUID("5b0f8d0e-6c62-5d2a-9e0b-8f1a3c7d4e21")
"""The UUIDv5 namespace of port names. It never changes: interfaces out there carry ids that derive from it."""

_NAMESPACE_BYTES = NAMESPACE.bytes


def port_id(vpc: str, name: str) -> str:
    """The UUIDv5 (RFC 9562, section 5.5) of ``VPC/NAME``, as text."""
    digest = bytearray(sha1(_NAMESPACE_BYTES + f"{vpc}/{name}".encode(), usedforsecurity=False).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x50
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def derive_mac(port_id: str, attempt: int = 0) -> str:
    """A locally administered unicast MAC that follows from a port's id; ``attempt`` gives others, after a collision."""
    seed = f"{port_id}#{attempt}" if attempt else port_id
    digest = bytearray(sha256(seed.encode()).digest()[:6])
    digest[0] = digest[0] & 0xFC | 0x02
    return digest.hex(":")


def link_local(mac: str) -> str:
    """The IPv6 link-local address that follows from a MAC: modified EUI-64 (RFC 4291, appendix A), canonical text."""
    return numbers.ip_text(numbers.link_local(numbers.mac_int(mac)), 128)
