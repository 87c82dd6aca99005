"""Asking for, answering for and announcing addresses: ARP (RFC 826, RFC 5227) and neighbour discovery (RFC 4861).

Addresses are packed, four or sixteen bytes; MACs six. Frames are untagged, ``tagged`` puts them into a VLAN.
"""

from __future__ import annotations

import struct

from ovsnet.responders.headers import Ends, icmp_frame
from ovsnet.responders.packet import ETHERNET, ICMPV6, read

_ETH_ARP, _ETH_IPV4, _ETH_VLAN = 0x0806, 0x0800, 0x8100
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_BROADCAST, _NOBODY = b"\xff" * 6, bytes(6)
_REQUEST, _REPLY = 1, 2
_SOLICITATION, _ADVERTISEMENT = 135, 136
_OVERRIDE = bytes((0x20, 0, 0, 0))
_SOURCE_OPTION, _TARGET_OPTION = 1, 2
_FIXED, _OPTION = 24, 8
_HOPS, _HOPS_AT = 255, 7
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_SOLICITED_NODE = bytes.fromhex("ff0200000000000000000001ff")


def question(mac: bytes, ip: bytes, target: bytes) -> bytes:
    """Who has ``target``? Asked by ``mac``, which has ``ip``."""
    if len(target) == 4:
        return ETHERNET.pack(_BROADCAST, mac, _ETH_ARP) + _arp(_REQUEST, mac, ip, _NOBODY, target)
    group = _SOLICITED_NODE + target[-3:]
    message = bytes((_SOLICITATION, 0, 0, 0, 0, 0, 0, 0)) + target + bytes((_SOURCE_OPTION, 1)) + mac
    return icmp_frame(Ends(mac, _multicast_mac(group), ip, group), ICMPV6, message, hops=_HOPS)


def announcement(mac: bytes, ip: bytes) -> bytes:
    """``ip`` is at ``mac`` now: a gratuitous ARP request (RFC 5227, 3), or an advertisement to all nodes."""
    if len(ip) == 4:
        return ETHERNET.pack(_BROADCAST, mac, _ETH_ARP) + _arp(_REQUEST, mac, ip, _NOBODY, ip)
    message = bytes((_ADVERTISEMENT, 0, 0, 0)) + _OVERRIDE + ip + bytes((_TARGET_OPTION, 1)) + mac
    return icmp_frame(Ends(mac, _multicast_mac(_ALL_NODES), ip, _ALL_NODES), ICMPV6, message, hops=_HOPS)


def told(frame: bytes) -> tuple[bytes, bytes] | None:
    """The (address, MAC) that a sound ARP reply or advertisement tells; ``None`` for all else."""
    if len(frame) >= ETHERNET.size + _ARP.size and ETHERNET.unpack_from(frame)[2] == _ETH_ARP:
        kind, protocol, mac_size, ip_size, operation, mac, ip, _, _ = _ARP.unpack_from(frame, ETHERNET.size)
        sound = (kind, protocol, mac_size, ip_size, operation) == (1, _ETH_IPV4, 6, 4, _REPLY)
        return (ip, mac) if sound and _station(mac) else None
    packet = read(frame)
    if packet is None or packet.family != 6 or packet.protocol != ICMPV6 or packet.fragment:
        return None
    message = packet.upper
    if len(message) < _FIXED or message[:2] != bytes((_ADVERTISEMENT, 0)) or packet.ip[_HOPS_AT] != _HOPS:
        return None
    option = message[_FIXED : _FIXED + _OPTION]  # the first is the only one that is usual (RFC 4861, 4.4)
    mac = option[2:] if option[:2] == bytes((_TARGET_OPTION, 1)) and len(option) == _OPTION else packet.eth_src
    return (message[8:_FIXED], mac) if _station(mac) else None


def tagged(frame: bytes, vid: int) -> bytes:
    """The frame in VLAN ``vid`` (IEEE 802.1Q); as it is for 0."""
    return frame[:12] + struct.pack("!HH", _ETH_VLAN, vid) + frame[12:] if vid else frame


def _arp(operation: int, mac: bytes, ip: bytes, target_mac: bytes, target: bytes) -> bytes:
    return _ARP.pack(1, _ETH_IPV4, 6, 4, operation, mac, ip, target_mac, target)


def _multicast_mac(group: bytes) -> bytes:
    """RFC 2464, section 7."""
    return b"\x33\x33" + group[-4:]


def _station(mac: bytes) -> bool:
    """Whether a MAC is one station's."""
    return not mac[0] & 1 and any(mac)
