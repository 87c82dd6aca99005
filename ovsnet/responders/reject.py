"""The answer to a packet that a rule rejects: a reset for TCP, and "administratively prohibited" for all else.

An answer is always a reset or an ICMP error, and neither is ever answered. So whoever rejects whose answers, nothing
goes to and fro.
"""

from __future__ import annotations

import struct

from ovsnet.responders import icmp
from ovsnet.responders.headers import back, checksum, ip_frame, pseudo_header
from ovsnet.responders.packet import TCP, Packet

SNAP = icmp.SNAP
"""How many bytes of a frame the longest answer needs."""

_TCP = struct.Struct("!HHIIBBHHH")
_FIN, _SYN, _RST, _ACK = 0x01, 0x02, 0x04, 0x10


def answer(packet: Packet) -> bytes | None:
    """The frame that tells a packet's sender that it was rejected, as if its receiver sent it; ``None``: silence."""
    if packet.protocol != TCP:
        return icmp.about(packet, icmp.Error.PROHIBITED, packet.eth_dst, packet.destination)
    return None if packet.later or not icmp.between_two(packet) else _reset(packet)


def _reset(packet: Packet) -> bytes | None:
    """RST by the rules for a connection that does not exist (RFC 9293, 3.5.2, group 1)."""
    if len(packet.upper) < _TCP.size:
        return None
    source, destination, seq, ack, offset, flags, *_ = _TCP.unpack_from(packet.upper)
    data = packet.length - packet.start - (offset >> 4) * 4
    if flags & _RST or offset >> 4 < 5 or data < 0:
        return None
    if flags & _ACK:
        seq, ack, flags = ack, 0, _RST
    else:
        length = data + bool(flags & _SYN) + bool(flags & _FIN)
        seq, ack, flags = 0, seq + length & 0xFFFFFFFF, _RST | _ACK
    segment = _TCP.pack(destination, source, seq, ack, 5 << 4, flags, 0, 0, 0)
    ends = back(packet)
    value = checksum(pseudo_header(ends.source, ends.destination, TCP, len(segment)) + segment)
    return ip_frame(ends, TCP, segment[:16] + struct.pack("!H", value) + segment[18:])
