"""DHCP for IPv6: the answer to a port's message, which follows from the message and the port's lease alone.

An address is assigned by the model and belongs to its port, so a lease is never made, kept or given back: what a server
would remember is in ``Lease6``, and every host that has it gives the same answer (RFC 8415).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from ovsnet.responders import values
from ovsnet.responders.headers import UDP_HEADER, Ends, udp_frame
from ovsnet.responders.packet import IPV6, UDP, read

LEASE_SECONDS = 86400
SERVER_PORT, CLIENT_PORT = 547, 546

_SERVERS = bytes.fromhex("ff020000000000000000000000010002")
_MULTICAST = 0xFF
_LINK_LOCAL, _LINK_LOCAL_MASK = 0xFE80, 0xFFC0
_DUID_LL = bytes.fromhex("00030001")
_OPTION = struct.Struct("!HH")
_IA, _CODE = struct.Struct("!4sII"), struct.Struct("!H")

_SOLICIT, _ADVERTISE, _REQUEST, _CONFIRM, _RENEW, _REBIND, _REPLY, _RELEASE, _DECLINE, _INFORM = (*range(1, 10), 11)
_CLIENT, _SERVER, _NA, _TA, _ADDRESS, _WANTED, _PREFERENCE, _STATUS, _RAPID, _PD = 1, 2, 3, 4, 5, 6, 7, 13, 14, 25
_DNS, _SEARCH, _SNTP, _REFRESH, _NTP = 23, 24, 31, 32, 56
_NTP_ADDRESS = 1
_SUCCESS, _NO_ADDRESSES, _NO_BINDING, _NOT_ON_LINK, _USE_MULTICAST, _NO_PREFIX = 0, 2, 3, 4, 5, 6

_TO_THIS_SERVER = frozenset({_REQUEST, _RENEW, _RELEASE, _DECLINE})
_TO_ANY_SERVER = frozenset({_SOLICIT, _CONFIRM, _REBIND})
_GIVING_BACK = frozenset({_RELEASE, _DECLINE})
_LONGEST = 1500 - IPV6.size - UDP_HEADER.size  # message; only one that repeats itself would get a longer answer
_LONGEST_LEASE = 1024
_AT_ONCE = 255  # the preference that spares a client its wait for other servers


@dataclass(frozen=True)
class Lease6:
    """What one port is told by DHCPv6, in text and numbers as a message carries them.

    ``mac`` is the port's, ``ips`` are its IPv6 addresses without the link-local one; none means that it is told the
    rest alone. ``prefixes`` are its network's ranges, like ``2001:db8:1::/64``. ``server_mac`` is whose the answers
    are, the same on every host: the server's DUID follows from it, and so does ``server_ip``, its link-local address,
    unless it is given. ``search`` are the domains that a resolver tries, ``seconds`` is how long addresses hold (1 to
    0xFFFFFFFF, which is for ever). Raises ValueError, with the field, for what cannot be sent.
    """

    mac: str
    ips: tuple[str, ...]
    prefixes: tuple[str, ...]
    server_mac: str
    server_ip: str | None = None
    dns: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    ntp: tuple[str, ...] = ()
    seconds: int = LEASE_SECONDS

    def __post_init__(self) -> None:
        _ = self.wire

    @cached_property
    def wire(self) -> Wire6:
        """The same in bytes."""
        seconds = values.number(self.seconds, 1, 0xFFFFFFFF, "Lease6.seconds")
        server_mac = values.mac(self.server_mac, "Lease6.server_mac")
        given = self.server_ip
        ips = tuple(values.ipv6(one, "Lease6.ips") for one in self.ips)
        addresses = b"".join(_option(_ADDRESS, ip + struct.pack("!II", seconds, seconds)) for ip in ips)
        options = {code: _option(code, value) for code, value in _options(self).items() if value}
        size = len(addresses) + sum(map(len, options.values()))
        if size > _LONGEST_LEASE:
            raise ValueError(f"Lease6: {size} bytes of options are more than {_LONGEST_LEASE}; give fewer addresses.")
        return Wire6(
            mac=values.mac(self.mac, "Lease6.mac"),
            ips=ips,
            prefixes=tuple(values.network6(one, "Lease6.prefixes") for one in self.prefixes),
            server_mac=server_mac,
            server_ip=values.link_local(server_mac) if given is None else values.ipv6(given, "Lease6.server_ip"),
            duid=_DUID_LL + server_mac,
            times=struct.pack("!II", seconds // 2, seconds * 4 // 5),
            addresses=addresses,
            options=options,
        )


class Wire6(NamedTuple):
    """A lease in bytes.

    ``times`` say when to ask again, first the server and then any; ``addresses`` are the options that assign them, and
    ``options`` those that a client may ask for, by their codes.
    """

    mac: bytes
    ips: tuple[bytes, ...]
    prefixes: tuple[tuple[bytes, int], ...]
    server_mac: bytes
    server_ip: bytes
    duid: bytes
    times: bytes
    addresses: bytes
    options: Mapping[int, bytes]


class _Message(NamedTuple):
    """A client's message; ``ias`` are its identity associations: the option's code and what is in it."""

    kind: int
    xid: bytes
    options: Mapping[int, bytes]
    ias: list[tuple[int, bytes]]


def answer(frame: bytes, lease: Lease6) -> bytes | None:
    """The frame that answers a DHCPv6 message in a frame; ``None``: silence.

    Only a whole message of the port itself is answered, never one that a relay passed on. Its UDP checksum is not
    looked at: a virtual machine's is often still to be filled in.
    """
    wire, packet = lease.wire, read(frame)
    if packet is None or packet.family != 6 or packet.protocol != UDP or packet.fragment or packet.eth_src != wire.mac:
        return None
    if int.from_bytes(packet.source[:2], "big") & _LINK_LOCAL_MASK != _LINK_LOCAL:
        return None
    message = _read(packet.upper)
    if message is None or not _is_for(message, wire):
        return None
    if packet.destination == _SERVERS:
        said = _said(message, wire)
    elif packet.destination[0] != _MULTICAST and message.kind in _TO_THIS_SERVER:
        said = _status(_USE_MULTICAST, "send to ff02::1:2")
    else:
        return None
    if said is None:
        return None
    kind = _ADVERTISE if message.kind == _SOLICIT and _RAPID not in message.options else _REPLY
    client = _option(_CLIENT, message.options[_CLIENT]) if _CLIENT in message.options else b""
    reply = bytes([kind]) + message.xid + client + _option(_SERVER, wire.duid) + said
    if len(reply) > _LONGEST:
        return None
    ends = Ends(wire.server_mac, wire.mac, wire.server_ip, packet.source)
    return udp_frame(ends, SERVER_PORT, CLIENT_PORT, reply)


def _read(datagram: bytes) -> _Message | None:
    """The message in a UDP datagram; ``None`` when there is none for a server, or it is malformed or cut."""
    if len(datagram) < UDP_HEADER.size + 4:
        return None
    _, port, length, _ = UDP_HEADER.unpack_from(datagram)
    if port != SERVER_PORT or not UDP_HEADER.size + 4 <= length <= len(datagram):
        return None
    options = _parse(datagram[UDP_HEADER.size + 4 : length])
    if options is None:
        return None
    ias = [(code, value) for code, value in options if code in (_NA, _TA, _PD)]
    if any(len(value) < (4 if code == _TA else _IA.size) for code, value in ias):
        return None
    return _Message(datagram[UDP_HEADER.size], datagram[UDP_HEADER.size + 1 : UDP_HEADER.size + 4], dict(options), ias)


def _parse(area: bytes) -> list[tuple[int, bytes]] | None:
    """The options in a message, or in another option, in their order; ``None`` when one goes beyond the end."""
    found, at = [], 0
    while at < len(area):
        if at + _OPTION.size > len(area):
            return None
        code, length = _OPTION.unpack_from(area, at)
        at += _OPTION.size + length
        if at > len(area):
            return None
        found.append((code, area[at - length : at]))
    return found


def _is_for(message: _Message, wire: Wire6) -> bool:
    """Whether a message is one that this server has to look at (RFC 8415, 16)."""
    client, server = message.options.get(_CLIENT), message.options.get(_SERVER)
    if message.kind == _INFORM:
        return server in (None, wire.duid) and not message.ias
    if not client:
        return False
    return server == wire.duid if message.kind in _TO_THIS_SERVER else message.kind in _TO_ANY_SERVER and server is None


def _said(message: _Message, wire: Wire6) -> bytes | None:
    """The options of an answer, without those that name client and server; ``None``: silence."""
    if message.kind == _CONFIRM:
        return _confirmed(message, wire)
    if message.kind in _GIVING_BACK:
        return _status(_SUCCESS, "the address stays the port's") + b"".join(_unbound(message, wire))
    said = b"".join(_bound(message, wire))
    if message.kind == _SOLICIT:
        said += _option(_RAPID, b"") if _RAPID in message.options else _option(_PREFERENCE, bytes([_AT_ONCE]))
    wanted = message.options.get(_WANTED, b"")
    for code in dict.fromkeys(code for (code,) in _CODE.iter_unpack(wanted[: len(wanted) & ~1])):
        if code != _REFRESH or message.kind == _INFORM:
            said += wire.options.get(code, b"")
    return said


def _confirmed(message: _Message, wire: Wire6) -> bytes | None:
    """Whether all addresses that a client has are of this network; nothing when it names none (RFC 8415, 18.3.3)."""
    ips = [ip for code, value in message.ias for ip in _addresses(code, value)]
    if not ips:
        return None
    if _on_link(ips, wire):
        return _status(_SUCCESS, "all addresses are of this network")
    return _status(_NOT_ON_LINK, "not all addresses are of this network")


def _on_link(ips: Iterable[bytes], wire: Wire6) -> bool:
    return all(any(values.within(ip, prefix) for prefix in wire.prefixes) for ip in ips)


def _bound(message: _Message, wire: Wire6) -> Iterator[bytes]:
    """The answers to the identity associations of a message: the first for addresses gets all that the port has.

    What a client has beside that is taken from it, by lifetimes of 0 (RFC 8415, 18.3.4).
    """
    having = message.kind in (_RENEW, _REBIND)
    first = True
    for code, value in message.ias:
        stray = [ip for ip in _addresses(code, value) if ip not in wire.ips]
        if message.kind == _REQUEST and not _on_link(stray, wire):
            yield _refused(code, value, _NOT_ON_LINK, "not all addresses are of this network")
        elif code == _NA and first and wire.ips:
            first = False
            gone = b"".join(_option(_ADDRESS, ip + bytes(8)) for ip in stray if having)
            yield _option(_NA, value[:4] + wire.times + wire.addresses + gone)
        elif having:
            yield _refused(code, value, _NO_BINDING, "nothing is assigned to this association")
        elif code == _PD:
            yield _refused(code, value, _NO_PREFIX, "no prefix is delegated to this port")
        else:
            yield _refused(code, value, _NO_ADDRESSES, "the port has no address beyond its declared ones")


def _unbound(message: _Message, wire: Wire6) -> Iterator[bytes]:
    """The associations that a client gives back, or declines, without having any address of the port's in them."""
    for code, value in message.ias:
        if code != _NA or not any(ip in wire.ips for ip in _addresses(code, value)):
            yield _refused(code, value, _NO_BINDING, "nothing is assigned to this association")


def _addresses(code: int, value: bytes) -> Iterator[bytes]:
    """The addresses in an identity association; none in one for prefixes."""
    for inner, content in _parse(value[4 if code == _TA else _IA.size :]) or ():
        if code in (_NA, _TA) and inner == _ADDRESS and len(content) >= 16:
            yield content[:16]


def _refused(code: int, value: bytes, status: int, words: str) -> bytes:
    """An identity association with nothing in it but the reason."""
    return _option(code, (value[:4] if code == _TA else _IA.pack(value[:4], 0, 0)) + _status(status, words))


def _status(code: int, words: str) -> bytes:
    return _option(_STATUS, struct.pack("!H", code) + words.encode())


def _options(lease: Lease6) -> dict[int, bytes]:
    ntp = [values.ipv6(one, "Lease6.ntp") for one in lease.ntp]
    return {
        _DNS: b"".join(values.ipv6(one, "Lease6.dns") for one in lease.dns),
        _SEARCH: b"".join(values.name(one, "Lease6.search") for one in lease.search),
        _SNTP: b"".join(ntp),
        _REFRESH: struct.pack("!I", max(lease.seconds, 600)),  # the least that a client takes (RFC 8415, 21.23)
        _NTP: b"".join(_option(_NTP_ADDRESS, ip) for ip in ntp),
    }


def _option(code: int, value: bytes) -> bytes:
    return _OPTION.pack(code, len(value)) + value
