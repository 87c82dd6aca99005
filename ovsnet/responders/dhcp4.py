"""DHCP for IPv4: the answer to a port's request, which follows from the request and the port's lease alone.

An address is assigned by the model and belongs to its port, so a lease is never made, kept or given back: what a server
would remember is in ``Lease4``, and every host that has it gives the same answer (RFC 2131, RFC 2132).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ovsnet.responders import values
from ovsnet.responders.headers import UDP_HEADER, Ends, udp_frame
from ovsnet.responders.packet import IPV4, UDP, read

LEASE_SECONDS = 86400
SERVER_PORT, CLIENT_PORT = 67, 68

_HEAD = struct.Struct("!4BIHH4s4s4s4s16s64s128s4s")  # RFC 2131, 2, with the magic cookie
_REQUEST, _REPLY, _ETHERNET, _MAC_LENGTH, _COOKIE = 1, 2, 1, 6, bytes.fromhex("63825363")
_BROADCAST_FLAG = 0x8000
_NOBODY, _EVERYBODY, _EVERY_MAC = bytes(4), b"\xff" * 4, b"\xff" * 6
_SHORTEST = 300  # of a message, for clients of BOOTP (RFC 1542, 2.1)
_LEAST_ROOM, _MOST_ROOM = 576, 1500  # for an answer with its headers; the first is what every client has

_BOOTP, _DISCOVER, _OFFER, _ASK, _ACK, _NAK, _INFORM = -1, 1, 2, 3, 5, 6, 8
_PAD, _END = 0, 255
_MASK, _ROUTER, _DNS, _HOSTNAME, _DOMAIN, _MTU, _BROADCAST, _NTP = 1, 3, 6, 12, 15, 26, 28, 42
_SEARCH, _ROUTES, _ROUTES_OF_MICROSOFT = 119, 121, 249
_WANTED_IP, _SECONDS, _OVERLOAD, _KIND, _SERVER, _WANTED, _MESSAGE, _ROOM = 50, 51, 52, 53, 54, 55, 56, 57
_RENEWAL, _REBINDING, _CLIENT = 58, 59, 61
_LENGTHS = {_WANTED_IP: 4, _OVERLOAD: 1, _KIND: 1, _SERVER: 4, _ROOM: 2}
_LAST_OF_BOOTP = 18  # the last code of RFC 1497
_DEFAULT_ROUTE = "0.0.0.0/0"


@dataclass(frozen=True)
class Route:
    """A route that a client is told: to a range like ``10.50.0.0/16``, by way of an address like ``192.168.1.250``."""

    to: str
    via: str


@dataclass(frozen=True)
class Lease4:
    """What one port is told by DHCP, in text and numbers as a message carries them.

    ``mac`` is the port's, ``ip`` and ``prefix`` (0 to 32) its address; ``server_mac`` and ``server_ip`` are whose the
    answers are, the same on every host. ``routes`` are those beside the default route, which goes to ``router``.
    ``search`` are the domains that a resolver tries, ``mtu`` is in bytes (68 to 65535), ``seconds`` is how long the
    lease holds (1 to 0xFFFFFFFF, which is for ever). Raises ValueError, with the field, for what cannot be sent.
    """

    mac: str
    ip: str
    prefix: int
    server_mac: str
    server_ip: str
    router: str | None = None
    routes: tuple[Route, ...] = ()
    dns: tuple[str, ...] = ()
    domain: str | None = None
    search: tuple[str, ...] = ()
    hostname: str | None = None
    ntp: tuple[str, ...] = ()
    mtu: int | None = None
    seconds: int = LEASE_SECONDS

    def __post_init__(self) -> None:
        _ = self.wire

    @cached_property
    def wire(self) -> Wire4:
        """The same in bytes."""
        values.number(self.prefix, 0, 32, "Lease4.prefix")
        values.number(self.seconds, 1, 0xFFFFFFFF, "Lease4.seconds")
        return Wire4(
            mac=values.mac(self.mac, "Lease4.mac"),
            ip=values.ipv4(self.ip, "Lease4.ip"),
            server_mac=values.mac(self.server_mac, "Lease4.server_mac"),
            server_ip=values.ipv4(self.server_ip, "Lease4.server_ip"),
            times=_times(self.seconds),
            options={code: _option(code, value) for code, value in _options(self).items()},
        )


class Wire4(NamedTuple):
    """A lease in bytes.

    ``times`` are the options that say how long it holds, ``options`` those that a client may ask for, by their codes.
    """

    mac: bytes
    ip: bytes
    server_mac: bytes
    server_ip: bytes
    times: bytes
    options: Mapping[int, bytes]


class _Request(NamedTuple):
    """A client's message; ``kind`` is that of the DHCP message, ``_BOOTP`` for what is none."""

    kind: int
    xid: int
    flags: int
    ciaddr: bytes
    options: Mapping[int, bytes]


def answer(frame: bytes, lease: Lease4) -> bytes | None:
    """The frame that answers a DHCP or BOOTP request in a frame; ``None``: silence.

    Only a whole request of the port itself is answered, never one that a relay passed on. Its UDP checksum is not
    looked at: a virtual machine's is often still to be filled in.
    """
    wire = lease.wire
    request = _read(frame, wire.mac)
    kind = None if request is None else _verdict(request, wire)
    if request is None or kind is None:
        return None
    ciaddr = _NOBODY if kind in (_OFFER, _NAK) else request.ciaddr
    yiaddr = _NOBODY if kind == _NAK or request.kind == _INFORM else wire.ip
    if kind != _NAK and ciaddr != _NOBODY:
        mac, ip = wire.mac, ciaddr
    elif kind == _NAK or request.flags & _BROADCAST_FLAG:
        mac, ip = _EVERY_MAC, _EVERYBODY
    else:
        mac, ip = wire.mac, yiaddr
    head = _HEAD.pack(
        *(_REPLY, _ETHERNET, _MAC_LENGTH, 0, request.xid, 0, request.flags, ciaddr, yiaddr, _NOBODY, _NOBODY),
        *(wire.mac, b"", b"", _COOKIE),
    )
    room = _room(request.options) - len(head) - IPV4.size - UDP_HEADER.size - 1
    message = head + _said(request, kind, wire, room) + bytes([_END])
    ends = Ends(wire.server_mac, mac, wire.server_ip, ip)
    return udp_frame(ends, SERVER_PORT, CLIENT_PORT, message.ljust(_SHORTEST, b"\0"))


def _read(frame: bytes, mac: bytes) -> _Request | None:
    """The request of a client with a MAC in a frame; ``None`` when there is none, or it is malformed or cut."""
    packet = read(frame)
    if packet is None or packet.family != 4 or packet.protocol != UDP or packet.fragment:
        return None
    datagram = packet.upper
    if len(datagram) < UDP_HEADER.size + _HEAD.size:
        return None
    _, port, length, _ = UDP_HEADER.unpack_from(datagram)
    if port != SERVER_PORT or not UDP_HEADER.size + _HEAD.size <= length <= len(datagram):
        return None
    op, hardware, size, _, xid, _, flags, ciaddr, _, _, giaddr, chaddr, sname, file, cookie = _HEAD.unpack_from(
        datagram, UDP_HEADER.size
    )
    if (op, hardware, size, giaddr, cookie) != (_REQUEST, _ETHERNET, _MAC_LENGTH, _NOBODY, _COOKIE):
        return None
    options = _parse(datagram[UDP_HEADER.size + _HEAD.size : length], sname, file)
    if options is None or chaddr[:_MAC_LENGTH] != mac:
        return None
    return _Request(options[_KIND][0] if _KIND in options else _BOOTP, xid, flags, ciaddr, options)


def _parse(area: bytes, sname: bytes, file: bytes) -> dict[int, bytes] | None:
    """The options of a message by their codes; ``None`` when one is malformed."""
    found: dict[int, bytes] = {}
    if not _gather(area, found):
        return None
    overload = int.from_bytes(found.get(_OVERLOAD, b""), "big")
    for bit, more in ((1, file), (2, sname)):
        if overload & bit and not _gather(more, found):
            return None
    if len(found.get(_CLIENT, b"")) > 255 or any(len(found.get(c, bytes(n))) != n for c, n in _LENGTHS.items()):
        return None
    return found


def _gather(area: bytes, found: dict[int, bytes]) -> bool:
    """Add an area's options; one in several parts is their sum (RFC 3396). False: one goes beyond the end."""
    at = 0
    while at < len(area) and area[at] != _END:
        if area[at] == _PAD:
            at += 1
            continue
        if at + 2 > len(area) or at + 2 + area[at + 1] > len(area):
            return False
        end = at + 2 + area[at + 1]
        found[area[at]] = found.get(area[at], b"") + area[at + 2 : end]
        at = end
    return True


def _verdict(request: _Request, wire: Wire4) -> int | None:
    """The kind of the answer; ``None``: silence, as for what gives an address back or declines it."""
    if request.kind == _ASK:
        return _verdict_on_address(request, wire)
    if request.kind == _INFORM:
        return _ACK if request.ciaddr != _NOBODY and request.ciaddr[0] < 224 else None
    return {_DISCOVER: _OFFER, _BOOTP: _BOOTP}.get(request.kind)


def _verdict_on_address(request: _Request, wire: Wire4) -> int | None:
    """Which it says depends on the client's state: what it was offered and had before in an option, what it has in the
    header (RFC 2131, 4.3.2). None of these may be another address than the port's.
    """
    if request.options.get(_SERVER, wire.server_ip) != wire.server_ip:
        return None
    wanted = {request.options.get(_WANTED_IP, _NOBODY), request.ciaddr} - {_NOBODY}
    if not wanted:
        return None
    return _ACK if wanted == {wire.ip} else _NAK


def _room(options: Mapping[int, bytes]) -> int:
    """How long the answer may be, its IP header included."""
    return min(max(int.from_bytes(options.get(_ROOM, b""), "big"), _LEAST_ROOM), _MOST_ROOM)


def _said(request: _Request, kind: int, wire: Wire4, room: int) -> bytes:
    """The options of an answer: what it has to have, and then what was asked for, as far as there is room for it."""
    if kind == _BOOTP:
        said, wanted = b"", [code for code in wire.options if code <= _LAST_OF_BOOTP]
    else:
        said = _option(_KIND, bytes([kind])) + _option(_SERVER, wire.server_ip)
        wanted = [] if kind == _NAK else _wanted(request.options, wire)
    if kind == _NAK:
        said += _option(_MESSAGE, f"the port's address is {'.'.join(map(str, wire.ip))}".encode())
    elif request.kind in (_DISCOVER, _ASK):
        said += wire.times
    if _CLIENT in request.options and kind != _BOOTP:
        said += _option(_CLIENT, request.options[_CLIENT])  # RFC 6842
    for code in wanted:
        option = wire.options.get(code, b"")
        if len(said) + len(option) <= room:
            said += option
    return said


def _wanted(options: Mapping[int, bytes], wire: Wire4) -> list[int]:
    """The codes of what is asked for, in that order, but the mask before the router (RFC 2132, 3.3)."""
    if _WANTED not in options:
        return [code for code in wire.options if code != _ROUTES_OF_MICROSOFT]
    wanted = list(dict.fromkeys(options[_WANTED]))
    if _MASK in wanted and _ROUTER in wanted and wanted.index(_ROUTER) < wanted.index(_MASK):
        wanted.remove(_MASK)
        wanted.insert(wanted.index(_ROUTER), _MASK)
    return wanted


def _option(code: int, value: bytes) -> bytes:
    """An option, in parts if it is longer than 255 bytes (RFC 3396)."""
    parts = [value[at : at + 255] for at in range(0, len(value), 255)]
    return b"".join(bytes([code, len(part)]) + part for part in parts)


def _times(seconds: int) -> bytes:
    """How long a lease holds, and when to ask again: first its server, then any (RFC 2131, 4.4.5)."""
    times = {_SECONDS: seconds, _RENEWAL: seconds // 2, _REBINDING: seconds * 7 // 8}
    return b"".join(_option(code, value.to_bytes(4, "big")) for code, value in times.items())


def _options(lease: Lease4) -> dict[int, bytes]:
    host_bits = (1 << 32 - lease.prefix) - 1
    ip = int.from_bytes(values.ipv4(lease.ip, "Lease4.ip"), "big")
    router = values.ipv4(lease.router, "Lease4.router") if lease.router is not None else b""
    routes = _routes(lease)
    found = {
        _MASK: (host_bits ^ 0xFFFFFFFF).to_bytes(4, "big"),
        _ROUTER: router,
        _DNS: b"".join(values.ipv4(one, "Lease4.dns") for one in lease.dns),
        _HOSTNAME: values.label(lease.hostname, "Lease4.hostname") if lease.hostname is not None else b"",
        _DOMAIN: values.label(lease.domain, "Lease4.domain") if lease.domain is not None else b"",
        _MTU: struct.pack("!H", values.number(lease.mtu, 68, 65535, "Lease4.mtu")) if lease.mtu is not None else b"",
        _BROADCAST: (ip | host_bits).to_bytes(4, "big") if lease.prefix < 31 else b"",
        _NTP: b"".join(values.ipv4(one, "Lease4.ntp") for one in lease.ntp),
        _SEARCH: b"".join(values.name(one, "Lease4.search") for one in lease.search),
        _ROUTES: routes,
        _ROUTES_OF_MICROSOFT: routes,
    }
    return {code: value for code, value in found.items() if value}


def _routes(lease: Lease4) -> bytes:
    """Classless static routes (RFC 3442); who takes them ignores the router option, so they say the default too."""
    routes = lease.routes
    if routes and lease.router is not None and all(route.to != _DEFAULT_ROUTE for route in routes):
        routes = (*routes, Route(to=_DEFAULT_ROUTE, via=lease.router))
    packed = b""
    for route in routes:
        base, length = values.network4(route.to, "Lease4.routes.to")
        packed += bytes([length]) + base[: (length + 7) // 8] + values.ipv4(route.via, "Lease4.routes.via")
    return packed
