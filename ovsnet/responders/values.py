"""What leases and routers say in text, as the bytes that packets carry.

``place`` is what an error begins with: the field that the text stands in.
"""

from __future__ import annotations

import re
import socket

_MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
_LABEL = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_MAX_NAME = 255


def mac(text: str, place: str) -> bytes:
    """The 6 bytes of a MAC address that names one station. Raises ValueError for any other text."""
    packed = bytes.fromhex(text.replace(":", "")) if _MAC.fullmatch(text) else b"\1"
    if packed[0] & 1:
        raise ValueError(f"{place}: {text!r} is not the MAC address of a station; write it like 02:00:00:00:01:01.")
    return packed


def ipv4(text: str, place: str) -> bytes:
    """The 4 bytes of an IPv4 address. Raises ValueError for any other text."""
    return _ip(socket.AF_INET, text, f"{place}: {text!r} is not an IPv4 address; write it like 192.168.1.11.")


def ipv6(text: str, place: str) -> bytes:
    """The 16 bytes of an IPv6 address. Raises ValueError for any other text."""
    return _ip(socket.AF_INET6, text, f"{place}: {text!r} is not an IPv6 address; write it like 2001:db8::11.")


def network4(text: str, place: str) -> tuple[bytes, int]:
    """An IPv4 range, like 10.50.0.0/16: address and prefix length. Raises ValueError for text that is none."""
    address, length = _halves(text, place, 32)
    return _without_host_bits(ipv4(address, place), length, text, place)


def network6(text: str, place: str) -> tuple[bytes, int]:
    """An IPv6 range, like 2001:db8::/64: address and prefix length. Raises ValueError for text that is none."""
    address, length = _halves(text, place, 128)
    return _without_host_bits(ipv6(address, place), length, text, place)


def within(address: bytes, network: tuple[bytes, int]) -> bool:
    """Whether a packed address is in a range of its family."""
    base, length = network
    host_bits = len(base) * 8 - length
    return int.from_bytes(address, "big") >> host_bits == int.from_bytes(base, "big") >> host_bits


def number(value: int, low: int, high: int, place: str) -> int:
    """The value, which has to lie between two others. Raises ValueError if it does not."""
    if not low <= value <= high:
        raise ValueError(f"{place}: {value} is out of range; give {low} to {high}.")
    return value


def name(text: str, place: str) -> bytes:
    """A domain name as DNS writes it, uncompressed (RFC 1035, 3.1). Raises ValueError for text that is none."""
    labels = text.removesuffix(".").split(".")
    packed = b"".join(bytes([len(label)]) + label.encode() for label in labels if _LABEL.fullmatch(label)) + b"\0"
    if len(packed) > _MAX_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError(f"{place}: {text!r} is not a domain name; write it like cloud.example, in ASCII.")
    return packed


def label(text: str, place: str) -> bytes:
    """The name of a machine, without a dot or with its domain, as text. Raises ValueError for text that is none."""
    name(text, place)
    return text.removesuffix(".").encode()


def interface_id(packed_mac: bytes) -> bytes:
    """The modified EUI-64 of a MAC (RFC 4291, appendix A): the lower half of the address that SLAAC makes."""
    return bytes([packed_mac[0] ^ 2]) + packed_mac[1:3] + b"\xff\xfe" + packed_mac[3:]


def link_local(packed_mac: bytes) -> bytes:
    """The IPv6 link-local address that follows from a MAC."""
    return b"\xfe\x80".ljust(8, b"\0") + interface_id(packed_mac)


def _ip(family: int, text: str, otherwise: str) -> bytes:
    try:
        return socket.inet_pton(family, text)
    except (OSError, ValueError):
        raise ValueError(otherwise) from None


def _halves(text: str, place: str, longest: int) -> tuple[str, int]:
    address, slash, length = text.partition("/")
    if not slash or not (length.isascii() and length.isdigit()) or int(length) > longest:
        raise ValueError(
            f"{place}: {text!r} has no prefix length up to {longest}; write it like ADDRESS/{longest // 2}."
        )
    return address, int(length)


def _without_host_bits(address: bytes, length: int, text: str, place: str) -> tuple[bytes, int]:
    host_bits = len(address) * 8 - length
    if int.from_bytes(address, "big") & (1 << host_bits) - 1:
        raise ValueError(f"{place}: {text!r} has bits behind its prefix; give the range's first address.")
    return address, length
