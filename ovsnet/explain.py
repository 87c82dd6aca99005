"""Where a frame goes and why: walks the compiled tables by name and names the model object that decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ovsnet.desired import Desired, Owned
from ovsnet.pipeline import fields as f
from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.tables import TABLES, Table
from ovsnet.pipeline.template import (
    Action,
    Call,
    Choose,
    DecTtl,
    FlowTemplate,
    ForgetInPort,
    Goto,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Row,
    SetField,
    Track,
    Translate,
)

VLAN_PRESENT = 0x1000
"""The bit of ``vlan_vid`` that says that there is a tag (ovs-fields(7))."""
Packet = Mapping[Field, int]
Tracker = Callable[[int, Packet], Packet]
"""What the connection tracker says of a packet in a zone: the tracker's fields, with their values."""


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
class Resumption:
    """Where a frame goes on behind the connection tracker: in ``table``, with step ``index``, as ``packet``."""

    index: int
    table: Table
    packet: Packet


@dataclass(frozen=True)
class Walk:
    """A frame's way through one host: the tables in order, what left the switch, and where the tracker was asked."""

    steps: tuple[Step, ...]
    emissions: tuple[Emission, ...]
    resumed: tuple[Resumption, ...] = ()

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
        for template, flows in sorted(present.items(), key=_precedence):
            self._by_table[template.table.name].append((template, flows))

    def walk(self, packet: Packet, tracker: Tracker | None = None) -> Walk:
        """The way of a frame that enters at the first table; ``tracker`` left out, it is its connection's first."""
        way = _Way(dict(packet), tracker or first_packet)
        self._follow(TABLES[0], way)
        return Walk(tuple(way.steps), tuple(way.emissions), tuple(way.resumed))

    def _follow(self, table: Table | None, way: _Way) -> None:
        while table is not None:
            flow = self._lookup(table, way.packet)
            way.steps.append(Step(table, flow))
            table = None
            for action in flow.row.template.actions:
                if isinstance(action, Goto):
                    table = action.table
                elif isinstance(action, Call):
                    self._follow(action.table, way)
                elif isinstance(action, Track | Translate):
                    way.packet.update(way.tracker(_seen(action.zone, way.packet) or 0, way.packet))
                    if isinstance(action, Translate):
                        way.packet[action.field] = _number(action.value, flow.row.named())
                    table = action.table
                    way.resumed.append(Resumption(len(way.steps), table, dict(way.packet)))
                else:
                    _execute(action, flow.row, way)

    def _lookup(self, table: Table, packet: Packet) -> Owned:
        best: Owned | None = None
        for template, flows in self._by_table[table.name]:
            if best is not None and isinstance(template.priority, int) and template.priority < best.row.priority:
                break  # those with a priority of their own come first, then the rest in descending order
            found = self._find(template, flows, packet)
            if found is not None and (best is None or found.row.priority > best.row.priority):
                best = found
        if best is None:
            raise ValueError(f"table {table.name} has no miss flow")
        return best

    def _find(self, template: FlowTemplate, flows: list[Owned], packet: Packet) -> Owned | None:
        """The flow of a template that matches, the one of the highest priority."""
        if isinstance(template.priority, int) and not any(isinstance(term.mask, str) for term in template.match):
            return self._exact(template, packet)
        matching = (flow for flow in flows if _matches(flow.row, packet))
        return max(matching, key=lambda flow: flow.row.priority, default=None)

    def _exact(self, template: FlowTemplate, packet: Packet) -> Owned | None:
        values: dict[str, int] = {}
        for term in template.match:
            seen = _seen(term.field, packet)
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


@dataclass
class _Way:
    """A walk in progress."""

    packet: dict[Field, int]
    tracker: Tracker
    steps: list[Step] = field(default_factory=list)
    emissions: list[Emission] = field(default_factory=list)
    resumed: list[Resumption] = field(default_factory=list)


_TRACKED = (
    (f.ETH_IPV4, f.CT_NW_SRC, f.IPV4_SRC), (f.ETH_IPV4, f.CT_NW_DST, f.IPV4_DST),
    (f.ETH_IPV6, f.CT_IPV6_SRC, f.IPV6_SRC), (f.ETH_IPV6, f.CT_IPV6_DST, f.IPV6_DST),
)  # fmt: skip
_SOURCES = (f.TCP_SRC, f.UDP_SRC, f.SCTP_SRC, f.ICMP_TYPE, f.ICMPV6_TYPE)
_TARGETS = (f.TCP_DST, f.UDP_DST, f.SCTP_DST, f.ICMP_CODE, f.ICMPV6_CODE)


def first_packet(_zone: int, packet: Packet) -> Packet:
    """What the tracker says of the first packet of a connection: it is new, and the connection's tuple is its own."""
    fields = {tracked: packet[own] for kind, tracked, own in _TRACKED if packet.get(f.ETH_TYPE) == kind}
    source = next((packet[field] for field in _SOURCES if field in packet), 0)
    target = next((packet[field] for field in _TARGETS if field in packet), 0)
    state = {f.CT_STATE: f.ct_state(trk=True, new=True)[0], f.CT_NW_PROTO: packet.get(f.IP_PROTO, 0)}
    return fields | state | {f.CT_TP_SRC: source, f.CT_TP_DST: target}


_REGISTERS = Field("registers", 512, "hex", "", "all registers in one number, the last one lowest")


def registers(packet: Packet) -> dict[int, int]:
    """The values of those registers of a packet that are not 0, by their numbers."""
    whole = packet.get(_REGISTERS, 0)
    values = {number: whole >> 32 * (15 - number) & 0xFFFFFFFF for number in range(16)}
    return {number: value for number, value in values.items() if value}


def _seen(field: Field, packet: Packet) -> int | None:
    """A field's value; registers and the tracker's state are 0 until they are set."""
    if isinstance(field, RegisterField):
        return packet.get(_REGISTERS, 0) >> _offset(field) & field.full_mask
    return packet.get(field, 0 if field is f.CT_STATE else None)


def _write(packet: dict[Field, int], field: Field, value: int) -> None:
    if isinstance(field, RegisterField):
        others = packet.get(_REGISTERS, 0) & ~(field.full_mask << _offset(field))
        packet[_REGISTERS] = others | value << _offset(field)
    else:
        packet[field] = value


def _offset(field: RegisterField) -> int:
    """Where a field's lowest bit is among all registers; of a field of several the last one is the lowest."""
    last = field.register + max(field.bits // 32, 1) - 1
    return 32 * (15 - last) + field.low


def _matches(row: Row, packet: Packet) -> bool:
    values = row.named()
    return all(_term_matches(term, values, packet) for term in row.template.match)


def _term_matches(term: Match, values: Mapping[str, int], packet: Packet) -> bool:
    seen = _seen(term.field, packet)
    if seen is None:
        return False
    mask = term.field.full_mask if term.mask is None else _number(term.mask, values)
    return seen & mask == _number(term.value, values) & mask


def _number(value: int | str, values: Mapping[str, int]) -> int:
    return values[value] if isinstance(value, str) else value


def _execute(action: Action, row: Row, way: _Way) -> None:
    """Carry out an action that neither leads on nor looks up."""
    packet, values = way.packet, row.named()
    if isinstance(action, SetField):
        _write(packet, action.field, _number(action.value, values))
    elif isinstance(action, Move):
        _write(packet, action.target, _seen(action.source, packet) or 0)
    elif isinstance(action, DecTtl):
        packet[f.IP_TTL] = max(packet.get(f.IP_TTL, 0) - 1, 0)
    elif isinstance(action, ForgetInPort):
        packet[f.IN_PORT] = 0
    elif isinstance(action, PushVlan | PopVlan):
        packet[f.VLAN_VID] = VLAN_PRESENT if isinstance(action, PushVlan) else 0
    elif isinstance(action, Choose):
        _write(packet, action.field, 0)  # the first stands for all of them
    elif isinstance(action, Output):
        port = action.port
        if isinstance(port, RegisterField):
            way.emissions.append(Emission(_seen(port, packet), dict(packet)))
        else:
            way.emissions.append(Emission(None if port is None else _number(port, values), dict(packet)))


def _precedence(item: tuple[FlowTemplate, list[Owned]]) -> int:
    """Those whose priority differs from flow to flow first, then the highest first."""
    priority = item[0].priority
    return -priority if isinstance(priority, int) else -0x10000


def arrival(packet: Packet, tunnel_ofport: int) -> Packet:
    """The frame as the other host's tunnel port hands it to the first table: registers and VTEPs are gone."""
    gone = {f.TUN_DST, f.TUN_IPV6_DST, _REGISTERS, *f.TRACKER_FIELDS}
    return {field: value for field, value in packet.items() if field not in gone} | {f.IN_PORT: tunnel_ofport}
