"""Where a frame goes and why: walks the compiled tables by name and names the model object that decides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ovsnet.compiler import Desired, Owned
from ovsnet.pipeline import fields as f
from ovsnet.pipeline.fields import Field
from ovsnet.pipeline.tables import TABLES, Table
from ovsnet.pipeline.template import FlowTemplate, Goto, Match, Move, Output, Row, SetField

Packet = Mapping[Field, int]


@dataclass(frozen=True)
class Step:
    """One table visited: the flow that matched, and the model object that the flow stems from."""

    table: Table
    flow: Owned


@dataclass(frozen=True)
class Emission:
    """A frame that leaves the switch: the OpenFlow port (``None``: back where it came from) and its fields then."""

    port: int | None
    packet: Packet


@dataclass(frozen=True)
class Walk:
    """A frame's way through one host: the tables in order, and what left the switch."""

    steps: tuple[Step, ...]
    emissions: tuple[Emission, ...]

    @property
    def last(self) -> Step:
        """Where the frame's way ended."""
        return self.steps[-1]


class Tables:
    """Compiled flows, indexed for walking: a lookup costs the number of templates, not the number of flows."""

    def __init__(self, desired: Desired) -> None:
        self._desired = desired
        present: dict[FlowTemplate, list[Owned]] = {}
        for flow in desired:
            present.setdefault(flow.row.template, []).append(flow)
        self._by_table: dict[str, list[tuple[FlowTemplate, list[Owned]]]] = {table.name: [] for table in TABLES}
        for template, flows in sorted(present.items(), key=lambda item: -item[0].priority):
            self._by_table[template.table.name].append((template, flows))

    def walk(self, packet: Packet) -> Walk:
        """The way of a frame that enters at the first table."""
        table, now = TABLES[0], dict(packet)
        steps: list[Step] = []
        emissions: list[Emission] = []
        while True:
            flow = self._lookup(table, now)
            steps.append(Step(table, flow))
            following = _execute(flow.row, now, emissions)
            if following is None:
                return Walk(tuple(steps), tuple(emissions))
            table = following

    def _lookup(self, table: Table, packet: Packet) -> Owned:
        for template, flows in self._by_table[table.name]:
            if any(isinstance(term.mask, str) for term in template.match):
                found = next((flow for flow in flows if _matches(flow.row, packet)), None)
            else:
                found = self._exact(template, packet)
            if found is not None:
                return found
        raise ValueError(f"table {table.name} has no miss flow")

    def _exact(self, template: FlowTemplate, packet: Packet) -> Owned | None:
        values: dict[str, int] = {}
        for term in template.match:
            seen = packet.get(term.field)
            if seen is None:
                return None
            if isinstance(term.mask, int):
                seen &= term.mask
            if isinstance(term.value, str):
                if values.setdefault(term.value, seen) != seen:
                    return None
            elif seen != term.value:
                return None
        key = tuple(values[param.name] for param in template.params[: template.match_params])
        return self._desired.flows.get((template, key))


def _matches(row: Row, packet: Packet) -> bool:
    values = row.named()
    return all(_term_matches(term, values, packet) for term in row.template.match)


def _term_matches(term: Match, values: Mapping[str, int], packet: Packet) -> bool:
    seen = packet.get(term.field)
    if seen is None:
        return False
    mask = term.field.full_mask if term.mask is None else _number(term.mask, values)
    return seen & mask == _number(term.value, values) & mask


def _number(value: int | str, values: Mapping[str, int]) -> int:
    return values[value] if isinstance(value, str) else value


def _execute(row: Row, packet: dict[Field, int], emissions: list[Emission]) -> Table | None:
    """Carry out a flow's actions on ``packet``; returns the next table, ``None`` at the end."""
    values = row.named()
    for action in row.template.actions:
        if isinstance(action, SetField):
            packet[action.field] = _number(action.value, values)
        elif isinstance(action, Move):
            packet[action.target] = packet.get(action.source, 0)
        elif isinstance(action, Output):
            port = None if action.port is None else _number(action.port, values)
            emissions.append(Emission(port, dict(packet)))
        elif isinstance(action, Goto):
            return action.table
    return None


def arrival(packet: Packet, tunnel_ofport: int) -> Packet:
    """The frame as the other host's tunnel port hands it to the first table: registers and VTEPs are gone."""
    gone = {f.TUN_DST, f.TUN_IPV6_DST, *f.REGISTER_FIELDS}
    return {field: value for field, value in packet.items() if field not in gone} | {f.IN_PORT: tunnel_ofport}
