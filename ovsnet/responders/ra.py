"""Router advertisements: what a network's router says of it, asked or not (RFC 4861, RFC 8106)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ovsnet.responders import values
from ovsnet.responders.headers import Ends, checksum, icmp_frame, pseudo_header
from ovsnet.responders.packet import ICMPV6, read

LIFETIME = 1800
"""Seconds that a host keeps a router for: thrice the longest pause between two advertisements (RFC 4861, 6.2.1)."""
PREFIX_SECONDS = 86400

_SOLICITATION, _ADVERTISEMENT = b"\x85\0", 134  # the one with its code, which is 0
_HOPS = 255  # so that it is certain that no router forwarded it
_HOPS_AT, _OPTIONS_AT = 7, 8
_CURRENT_HOPS = 64
_MANAGED, _OTHER = 0x80, 0x40
_ON_LINK, _AUTONOMOUS = 0x80, 0x40
_SOURCE, _PREFIX, _MTU, _RDNSS, _DNSSL = 1, 3, 5, 25, 31
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_UNSPECIFIED, _MULTICAST = bytes(16), 0xFF


@dataclass(frozen=True)
class Prefix:
    """A range of the network, like ``2001:db8:1::/64``.

    ``autonomous`` lets hosts make an address in it by themselves (SLAAC): right where that is the address that the port
    is declared with (``is_eui64``), and where it is not, the port would drop what the host then sends. ``on_link`` says
    that all its addresses are reached without a router.
    """

    cidr: str
    autonomous: bool = False
    on_link: bool = True


@dataclass(frozen=True)
class Advertisement:
    """What a router says to one port, in text and numbers as a message carries them.

    ``mac`` is the router's, and ``ip`` its link-local address, which follows from the MAC when it is left out.
    ``managed`` says that addresses come by DHCPv6, ``other`` that all else does. ``lifetime`` is for how many seconds
    the router is a default router (0 to 9000; 0: it is none), ``seconds`` is how long the prefixes hold. ``dns`` and
    ``search`` are resolvers and the domains that they try, ``mtu`` is in bytes (1280 to 65535). Raises ValueError, with
    the field, for what cannot be sent.
    """

    mac: str
    ip: str | None = None
    prefixes: tuple[Prefix, ...] = ()
    managed: bool = False
    other: bool = False
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    mtu: int | None = None
    lifetime: int = LIFETIME
    seconds: int = PREFIX_SECONDS

    def __post_init__(self) -> None:
        _ = self.unasked

    @cached_property
    def _ends(self) -> Ends:
        """From the router to all nodes."""
        mac = values.mac(self.mac, "Advertisement.mac")
        ip = values.link_local(mac) if self.ip is None else values.ipv6(self.ip, "Advertisement.ip")
        return Ends(mac, _ALL_NODES_MAC, ip, _ALL_NODES)

    @cached_property
    def _message(self) -> bytes:
        values.number(self.lifetime, 0, 9000, "Advertisement.lifetime")
        values.number(self.seconds, 1, 0xFFFFFFFF, "Advertisement.seconds")
        flags = _MANAGED * self.managed | _OTHER * self.other
        head = struct.pack("!BBHBBHII", _ADVERTISEMENT, 0, 0, _CURRENT_HOPS, flags, self.lifetime, 0, 0)
        return head + b"".join(_options(self))

    @cached_property
    def unasked(self) -> bytes:
        """The frame that tells all nodes, for a router to send every now and then."""
        return icmp_frame(self._ends, ICMPV6, self._message, hops=_HOPS)

    def asked_by(self, mac: bytes, ip: bytes) -> bytes:
        """The frame that tells one host."""
        return icmp_frame(self._ends._replace(eth_dst=mac, destination=ip), ICMPV6, self._message, hops=_HOPS)


def answer(frame: bytes, said: Advertisement) -> bytes | None:
    """The advertisement for who sent a router solicitation; ``None`` when the frame is no sound one (RFC 4861, 6.1.1).

    Who has no address yet is answered by what is for all nodes.
    """
    packet = read(frame)
    if packet is None or packet.family != 6 or packet.protocol != ICMPV6 or packet.fragment:
        return None
    message = packet.upper
    if message[:2] != _SOLICITATION or packet.ip[_HOPS_AT] != _HOPS or packet.length != len(packet.ip):
        return None
    pseudo = pseudo_header(packet.source, packet.destination, ICMPV6, len(message))
    kinds = _kinds(message[_OPTIONS_AT:]) if len(message) >= _OPTIONS_AT and not checksum(pseudo + message) else None
    if kinds is None or packet.source[0] == _MULTICAST or packet.eth_src[0] & 1:
        return None
    if packet.source == _UNSPECIFIED:
        return None if _SOURCE in kinds else said.unasked
    return said.asked_by(packet.eth_src, packet.source)


def is_eui64(ip: str, cidr: str, mac: str) -> bool:
    """Whether an address is the one that a host with a MAC makes in a range by itself (RFC 4862, 5.5.3; RFC 2464)."""
    base, length = values.network6(cidr, "cidr")
    return length == 64 and values.ipv6(ip, "ip") == base[:8] + values.interface_id(values.mac(mac, "mac"))


def _kinds(options: bytes) -> set[int] | None:
    """The types of a message's options; ``None`` when one has no length, or a length beyond the end."""
    found = set()
    while options:
        size = options[1] * 8 if len(options) > 1 else 0
        if not 0 < size <= len(options):
            return None
        found.add(options[0])
        options = options[size:]
    return found


def _options(said: Advertisement) -> Iterator[bytes]:
    yield _option(_SOURCE, values.mac(said.mac, "Advertisement.mac"))
    if said.mtu is not None:
        yield _option(_MTU, struct.pack("!HI", 0, values.number(said.mtu, 1280, 65535, "Advertisement.mtu")))
    for prefix in said.prefixes:
        base, length = values.network6(prefix.cidr, "Prefix.cidr")
        flags = _ON_LINK * prefix.on_link | _AUTONOMOUS * prefix.autonomous
        yield _option(_PREFIX, struct.pack("!BBIII", length, flags, said.seconds, said.seconds, 0) + base)
    seconds = said.lifetime or LIFETIME
    if said.dns:
        resolvers = b"".join(values.ipv6(one, "Advertisement.dns") for one in said.dns)
        yield _option(_RDNSS, struct.pack("!HI", 0, seconds) + resolvers)
    if said.search:
        names = b"".join(values.name(one, "Advertisement.search") for one in said.search)
        yield _option(_DNSSL, struct.pack("!HI", 0, seconds) + names)


def _option(kind: int, value: bytes) -> bytes:
    """An option, whose length is in units of 8 bytes; zeros fill the last one."""
    units = (2 + len(value) + 7) // 8
    return (bytes([kind, values.number(units, 1, 255, "Advertisement")]) + value).ljust(units * 8, b"\0")
