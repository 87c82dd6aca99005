"""Copies of packets for the agent: what a packet-in says of one, and what is told of those that rules log. Pure."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ovsnet.pipeline import fields
from ovsnet.pipeline.fields import RegisterField
from ovsnet.pipeline.template import COOKIE_OWNER
from ovsnet.pipeline.verdicts import LOGGED
from ovsnet.responders.packet import Packet

_PACKET_IN = struct.Struct("!8xIHBBQHH")  # OpenFlow 1.4, 7.4.1: header; buffer, length, reason, table, cookie; match
_COOKIE_AT = 16
_OWNER = COOKIE_OWNER.to_bytes(8, "big")[:2]
_OXM = struct.Struct("!HBB")
_IN_PORT = 0x8000, 0
_NXM_1, _REGISTERS = 0x0001, range(16)
_TUNNEL_SOURCES = 31, 109  # NXM_NX_TUN_IPV4_SRC, NXM_NX_TUN_IPV6_SRC


KEYS = 4096
"""Above so many keys of a limiter, those that have been silent for long are forgotten."""


class PacketIn(NamedTuple):
    """A copy of a packet from a flow of ours.

    ``table`` is the id of the table that made it. ``registers`` are the pipeline's by number, those that are not 0;
    ``tunnelled`` says that it came out of a tunnel, and else ``in_port`` is its sender's. ``frame`` is as much of it as
    the flow asked for.
    """

    table: int
    in_port: int
    registers: Mapping[int, int]
    tunnelled: bool
    frame: bytes

    def field(self, field: RegisterField) -> int:
        """The value of a register field when the copy was made."""
        words = range(field.register, field.register + max(field.bits // 32, 1))
        value = 0
        for number in words:  # the first of several is the highest
            value = value << 32 | self.registers.get(number, 0)
        return value >> field.low & field.full_mask


class Notice(msgspec.Struct, frozen=True, array_like=True, tag="logged"):
    """What is told of a packet whose rule says ``log``.

    ``policy``, ``rule``, ``verdict`` and ``way`` are the registers' numbers; ``ofport`` is the OpenFlow port whose
    groups judged it, which ``sent`` it or was to receive it. ``ports`` are as in ``responders.packet.Packet``.
    """

    net: int
    policy: int
    rule: int
    verdict: int
    way: int
    ofport: int
    sent: bool
    source: str
    destination: str
    protocol: int
    ports: tuple[int, int] | None


def is_ours(raw: bytes) -> bool:
    """Whether a packet-in stems from a flow of ours."""
    return raw[_COOKIE_AT : _COOKIE_AT + 2] == _OWNER


def parse(raw: bytes) -> PacketIn | None:
    """A PACKET_IN message; ``None`` if it is malformed."""
    if len(raw) < _PACKET_IN.size:
        return None
    *_, table, _cookie, _match_type, match_length = _PACKET_IN.unpack_from(raw)
    offset, end = _PACKET_IN.size, _PACKET_IN.size - 4 + match_length
    frame_at = _PACKET_IN.size - 4 + (match_length + 7 & ~7) + 2
    if match_length < 4 or frame_at > len(raw):
        return None
    in_port, registers, tunnelled = 0, {}, False
    while offset + _OXM.size <= end:
        space, number, length = _OXM.unpack_from(raw, offset)
        number >>= 1  # without the bit that says that a mask follows
        value = int.from_bytes(raw[offset + _OXM.size : offset + _OXM.size + length], "big")
        offset += _OXM.size + length
        if (space, number) == _IN_PORT:
            in_port = value
        elif space == _NXM_1 and number in _REGISTERS:
            registers[number] = value
        elif space == _NXM_1 and number in _TUNNEL_SOURCES:
            tunnelled |= bool(value)
    return PacketIn(table, in_port, registers, tunnelled, raw[frame_at:])


def notice(copied: PacketIn, packet: Packet) -> Notice | None:
    """What is told of a packet; ``None`` if its rule does not say ``log``."""
    verdict, sent = copied.field(fields.VERDICT), not copied.field(fields.SIDE)
    if not verdict & LOGGED:
        return None
    family = socket.AF_INET if packet.family == 4 else socket.AF_INET6
    return Notice(
        net=copied.field(fields.NET),
        policy=copied.field(fields.POLICY),
        rule=copied.field(fields.RULE),
        verdict=verdict & ~LOGGED,
        way=copied.field(fields.WAY),
        ofport=copied.in_port if sent else copied.field(fields.OUT),
        sent=sent,
        source=socket.inet_ntop(family, packet.source),
        destination=socket.inet_ntop(family, packet.destination),
        protocol=packet.protocol,
        ports=packet.ports,
    )


class Limiter:
    """At most ``rate`` a second in the long run and ``burst`` at once, for each key by itself."""

    def __init__(self, rate: float, burst: int) -> None:
        self._rate, self._burst = rate, burst
        self._kept: dict[int, tuple[float, float]] = {}  # key -> what is left, and when that was

    def take(self, key: int, now: float) -> bool:
        """Whether one more for ``key`` is within the limit at the time ``now``, in seconds."""
        left, when = self._kept.get(key, (float(self._burst), now))
        left = min(self._burst, left + (now - when) * self._rate)
        self._kept[key] = (left - (left >= 1), now)
        if len(self._kept) > KEYS:
            self._kept = {k: kept for k, kept in self._kept.items() if (now - kept[1]) * self._rate < self._burst}
        return left >= 1
