"""Meters: the rates at which copies of packets come to us, and beyond which none are made (OpenFlow 1.4, 5.7).

Only meters with ids of our own range are read, changed and removed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ovsnet.openflow import wire
from ovsnet.openflow.api import SwitchPort
from ovsnet.pipeline.verdicts import LOG_METER, NEIGHBOUR_METER, PORT_METERS, REJECT_METER, ROUTER_METER

OWN = range(1001, 1017)
"""The ids of the meters that a whole switch has; those of its ports are ``PORT_METERS``."""
ADD, MODIFY, DELETE = 0, 1, 2
_PKTPS, _BURST, _STATS = 2, 4, 8
_FLAGS = _PKTPS | _BURST
_BAND_DROP = 1
_ALL = 0xFFFFFFFF

_MOD = struct.Struct("!HHI")
_CONFIG = struct.Struct("!HHI")  # length, flags, id
_BAND = struct.Struct("!HHII4x")
_REQUEST = struct.Struct("!I4x")
_STATISTICS = struct.Struct("!IH6xIQQII")
_BAND_STATISTICS = struct.Struct("!QQ")


@dataclass(frozen=True, slots=True)
class Meter:
    """At most ``rate`` packets a second in the long run, ``burst`` at once; what exceeds that is dropped."""

    id: int
    rate: int
    burst: int


METERS = (
    Meter(REJECT_METER, 500, 500), Meter(LOG_METER, 100, 100), Meter(ROUTER_METER, 500, 500),
    Meter(NEIGHBOUR_METER, 200, 200),
)  # fmt: skip
"""The meters that each of our switches has."""
PORT_RATE, PORT_BURST = 10, 20
"""What one port may ask of its addresses, in packets: a client that gets a lease sends two or three."""


def of_port(number: int) -> Meter:
    """A port's own meter."""
    return Meter(number, PORT_RATE, PORT_BURST)


def meter_mod(command: int, meter: Meter) -> bytes:
    """The body of OFPT_METER_MOD; a removal carries no band."""
    band = b"" if command == DELETE else _BAND.pack(_BAND_DROP, _BAND.size, meter.rate, meter.burst)
    return _MOD.pack(command, _FLAGS, meter.id) + band


def all_meters() -> bytes:
    """The body of a request for all meters' configuration or statistics."""
    return _REQUEST.pack(_ALL)


def parse_config(bodies: Iterable[bytes]) -> dict[int, Meter | None]:
    """The meters of OFPMP_METER_CONFIG by id; ``None`` for one that is of another kind than ours."""
    found: dict[int, Meter | None] = {}
    for body in bodies:
        offset = 0
        while offset + _CONFIG.size <= len(body):
            length, flags, number = _CONFIG.unpack_from(body, offset)
            found[number] = None
            if flags & ~_STATS == _FLAGS and length == _CONFIG.size + _BAND.size:
                kind, _, rate, burst = _BAND.unpack_from(body, offset + _CONFIG.size)
                found[number] = Meter(number, rate, burst) if kind == _BAND_DROP else None
            offset += max(length, _CONFIG.size)
    return found


def parse_dropped(bodies: Iterable[bytes]) -> dict[int, int]:
    """The packets that exceeded each meter, by its id, out of OFPMP_METER."""
    found = {}
    for body in bodies:
        offset = 0
        while offset + _STATISTICS.size <= len(body):
            number, length, *_ = _STATISTICS.unpack_from(body, offset)
            bands = body[offset + _STATISTICS.size : offset + length]
            found[number] = sum(packets for packets, _bytes in _BAND_STATISTICS.iter_unpack(bands))
            offset += max(length, _STATISTICS.size)
    return found


def steps(present: Mapping[int, Meter | None], wanted: Iterable[Meter]) -> Iterator[tuple[int, Meter]]:
    """The commands that lead from the meters of a switch to the wanted ones; another's meters are left alone."""
    names = {meter.id: meter for meter in wanted}
    for number, meter in names.items():
        if number not in present:
            yield ADD, meter
        elif present[number] != meter:
            yield MODIFY, meter
    for number in present:
        if (number in OWN or number in PORT_METERS) and number not in names:
            yield DELETE, Meter(number, 0, 0)


def lacking(port: SwitchPort, wanted: Iterable[Meter] = METERS, timeout: float = 10.0) -> list[tuple[int, Meter]]:
    """The commands that a switch needs to have the wanted meters. Raises SwitchError."""
    return list(steps(parse_config(port.multipart(wire.MP_METER_CONFIG, all_meters(), timeout)), wanted))


def keep_meters(port: SwitchPort, wanted: Iterable[Meter] = METERS, timeout: float = 10.0) -> bool:
    """Bring our meters in a switch to the wanted ones; whether any had to be added.

    A flow takes hold of its meter when it is added, and a switch takes flows whose meter does not exist: their copies
    are then not limited. So this comes before any flows, and flows that were there before a meter are added again.
    Raises SwitchError, also when the datapath has no meters.
    """
    commands = lacking(port, wanted, timeout)
    if commands:
        port.order(wire.METER_MOD, [meter_mod(*command) for command in commands], timeout)
    return any(command == ADD for command, _meter in commands)


def change_meters(port: SwitchPort, command: int, changed: Iterable[Meter], timeout: float = 10.0) -> None:
    """Have ``command`` done to meters, before anything that is asked for later. Raises SwitchError."""
    bodies = [meter_mod(command, meter) for meter in changed]
    if bodies:
        port.order(wire.METER_MOD, bodies, timeout)


def dropped(port: SwitchPort, timeout: float = 2.0) -> tuple[int, int]:
    """How many packets our meters have kept from us since they were added: the switch's and its ports'.

    Raises SwitchError.
    """
    counts = parse_dropped(port.multipart(wire.MP_METER, all_meters(), timeout))
    switch, ports = (sum(n for number, n in counts.items() if number in of) for of in (OWN, PORT_METERS))
    return switch, ports
