"""The advertisement that answers a solicitation for a gateway's address (RFC 4861, 7.2.4)."""

from __future__ import annotations

from ovsnet.responders.headers import Ends, icmp_frame
from ovsnet.responders.packet import ICMPV6, Packet

_SOLICITATION, _ADVERTISEMENT = 135, 136
_FIXED = 24
"""Bytes of a solicitation before its options: type, code, checksum, reserved, target."""
_ROUTER_SOLICITED_OVERRIDE = bytes((0xE0, 0, 0, 0))
_TARGET_LINK_LAYER = 2
_HOPS = 255


def answer(packet: Packet, mac: bytes) -> bytes | None:
    """The frame that says that a solicitation's target has ``mac``; ``None`` for what is no whole solicitation.

    Duplicate address detection, which has no source to answer to, is left alone.
    """
    message = packet.upper
    whole = packet.protocol == ICMPV6 and len(message) >= _FIXED and message[:2] == bytes((_SOLICITATION, 0))
    if not whole or packet.later or not any(packet.source) or packet.eth_src[0] & 1:
        return None
    target = message[8:_FIXED]
    option = bytes((_TARGET_LINK_LAYER, 1)) + mac
    body = bytes((_ADVERTISEMENT, 0, 0, 0)) + _ROUTER_SOLICITED_OVERRIDE + target + option
    return icmp_frame(Ends(mac, packet.eth_src, target, packet.source), ICMPV6, body, hops=_HOPS)
