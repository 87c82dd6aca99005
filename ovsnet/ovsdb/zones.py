"""Which port has which conntrack zone, as the integration bridge's ``external_ids`` say: it outlives the agent.

``ovsnet-zone-ID`` is the number of the port with that id; followed by ``,flush`` as long as the zone may have entries
of somebody before it. ``ovsnet-last-zone`` is the number that was given last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

from ovsnet.errors import UserError

PREFIX = "ovsnet-zone-"
LAST = "ovsnet-last-zone"
OVN_PREFIX = "ct-zone-"
"""The keys in which OVN keeps the zones of its own bridge."""
UNFLUSHED = ",flush"
HIGHEST = 65535
"""Zones are 1 to 65535; 0 is where the connections of the host itself are."""

Tables = Mapping[str, Any]


class Zone(NamedTuple):
    """A port's zone: its number, and whether it has been flushed since it was taken, so that flows may use it."""

    number: int
    clean: bool


@dataclass(frozen=True)
class ZoneRecord:
    """What a switch's database says of conntrack zones.

    ``zones`` by the ports' ids; ``unusable`` the ids whose entry makes no sense, or has a number that another has too.
    ``last`` is the number that was given last (0: none), ``elsewhere`` are numbers that other bridges claim.
    """

    zones: Mapping[str, Zone] = field(default_factory=lambda: MappingProxyType({}))
    unusable: frozenset[str] = frozenset()
    last: int = 0
    elsewhere: frozenset[int] = frozenset()


def read(bridge: str, external_ids: Mapping[str, Mapping[str, str]]) -> ZoneRecord:
    """The record from the ``external_ids`` of all bridges, by their names."""
    ours = external_ids.get(bridge, {})
    zones: dict[str, Zone] = {}
    unusable = set()
    taken: set[int] = set()
    for key in sorted(key for key in ours if key.startswith(PREFIX)):
        number = _number(ours[key].removesuffix(UNFLUSHED))
        if number in taken or not number:
            unusable.add(key.removeprefix(PREFIX))
            continue
        taken.add(number)
        zones[key.removeprefix(PREFIX)] = Zone(number, not ours[key].endswith(UNFLUSHED))
    others = (ids for name, ids in external_ids.items() if name != bridge)
    claims = (value for ids in others for key, value in ids.items() if key.startswith((PREFIX, OVN_PREFIX)))
    elsewhere = frozenset(_number(value.removesuffix(UNFLUSHED)) for value in claims) - {0}
    return ZoneRecord(MappingProxyType(zones), frozenset(unusable), _number(ours.get(LAST, "")), elsewhere)


def write(bridge_name: str, wanted: Mapping[str, Zone | None], last: int) -> Callable[[Tables, Any], None]:
    """Write zones by ports' ids, ``None`` for one to be removed; touches no other key.

    Raises UserError when the bridge does not exist.
    """
    keys = {PREFIX + port: None if zone is None else _text(zone) for port, zone in wanted.items()} | {LAST: str(last)}

    def change(tables: Tables, _txn: Any) -> None:
        bridge = next((row for row in tables["Bridge"].rows.values() if row.name == bridge_name), None)
        if bridge is None:
            raise UserError(f"bridge {bridge_name} does not exist; conntrack zones are written down with it")
        for key, value in keys.items():
            if value is None:
                bridge.delkey("external_ids", key)
            else:
                bridge.setkey("external_ids", key, value)

    return change


def _text(zone: Zone) -> str:
    return f"{zone.number}{'' if zone.clean else UNFLUSHED}"


def _number(text: str) -> int:
    """The number of a zone; 0 for what is none."""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) <= 5 else 0
    return number if number <= HIGHEST else 0
