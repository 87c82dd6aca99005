"""What the agent does about copies of packets from and to provider networks: asks, answers, takes note. Pure."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from ovsnet.openflow.notices import PacketIn
from ovsnet.pipeline import fields, tables
from ovsnet.responders import nd, neighbour
from ovsnet.responders.packet import read

TABLES = frozenset({tables.OUTSIDE.id, tables.NEIGHBOUR.id})
"""The tables that such copies come from."""
_VLAN_BITS = 12


class Heard(msgspec.Struct, frozen=True, array_like=True, tag="heard"):
    """Somebody on a provider network has said who it is: ``segment`` is the number of that network on this host."""

    segment: int
    ip: bytes
    mac: bytes


class Sent(NamedTuple):
    """A frame to be sent out of an OpenFlow port."""

    ofport: int
    frame: bytes


def heard(copied: PacketIn) -> Heard | None:
    """What a copy tells of a neighbour."""
    found = neighbour.told(copied.frame) if copied.table == tables.OUTSIDE.id else None
    return None if found is None else Heard(copied.field(fields.SEGMENT), *found)


def answer(copied: PacketIn) -> Sent | None:
    """The frame that a copy asks for: a question for the next hop that is not known, an answer to a solicitation."""
    segment = copied.field(fields.SEGMENT)
    packet = read(copied.frame)
    if packet is None:
        return None
    if copied.table == tables.OUTSIDE.id:
        frame = nd.answer(packet, packet.eth_dst)  # its flow has put there the MAC that the answer is about
        vid = segment & (1 << _VLAN_BITS) - 1 if copied.in_port == segment >> _VLAN_BITS else 0
        return None if frame is None else Sent(copied.in_port, neighbour.tagged(frame, vid))
    wide = packet.family == 6
    target = copied.field(fields.VIA6 if wide else fields.VIA[3]).to_bytes(16 if wide else 4, "big")
    return out(segment, neighbour.question(packet.eth_src, packet.source, target))


def out(segment: int, frame: bytes) -> Sent:
    """A frame of this host's into a provider network."""
    return Sent(segment >> _VLAN_BITS, neighbour.tagged(frame, segment & (1 << _VLAN_BITS) - 1))
