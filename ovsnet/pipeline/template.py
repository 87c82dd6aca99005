"""Flow templates: a flow's shape, declared once; a row is a template with the numbers of one flow."""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.tables import Table

COOKIE_OWNER = 0x4F56 << 48  # "OV": flows with these upper 16 bits are ours, and no others
COOKIE_MASK = 0xFFFF << 48
FEATURE_MASK = 0xFFFFFFFF << 32  # the bits of a cookie that a feature's flows have in common

Value = int | str  # a constant, or the name of a parameter


@dataclass(frozen=True)
class Match:
    """``field`` equals ``value`` under ``mask`` (``None``: all bits); either may be a parameter's name."""

    field: Field
    value: Value
    mask: Value | None = None


@dataclass(frozen=True)
class SetField:
    """Write ``value`` into ``field``."""

    field: Field
    value: Value


@dataclass(frozen=True)
class Move:
    """Copy one field into another of the same width."""

    source: Field
    target: Field


@dataclass(frozen=True)
class Output:
    """Send the frame out of an OpenFlow port: a value, what a field says, or (``None``) the port it came in on."""

    port: Value | RegisterField | None


@dataclass(frozen=True)
class Track:
    """Let the connection tracker see the packet in the zone that ``zone`` says, and go on in ``table``.

    With ``restore`` packets of a connection that ``Translate`` has seen have their addresses replaced.
    """

    zone: RegisterField
    table: Table
    restore: bool = False


@dataclass(frozen=True)
class Translate:
    """As ``Track``, and of a new connection remember that ``field`` is to be ``value``: its source or destination.

    Replies have it put back (ovs-actions(7), ct with commit and nat).
    """

    zone: RegisterField
    table: Table
    field: Field
    value: Value


@dataclass(frozen=True)
class Commit:
    """Have the connection tracker remember the packet's connection in the zone that ``zone`` says."""

    zone: RegisterField


@dataclass(frozen=True)
class Copy:
    """A copy of the packet for the agent, ``length`` bytes of it at most, if the meter lets it pass."""

    meter: Value
    length: int


@dataclass(frozen=True)
class Call:
    """Look the packet up in a table and those after it, then carry on with the next action here."""

    table: Table


@dataclass(frozen=True)
class DecTtl:
    """Lower the TTL or hop limit by one; a packet that has none left goes no further (ovs-actions(7), dec_ttl)."""


@dataclass(frozen=True)
class Choose:
    """Write into ``field`` one of 0 to ``last``, by the packet's two IP addresses, the same both ways.

    Highest random weight (ovs-actions(7), multipath): when the last one goes, only what was on it moves.
    """

    field: RegisterField
    last: Value


@dataclass(frozen=True)
class ForgetInPort:
    """Let the frame leave by the port that it came in on, which no frame does otherwise (ovs-actions(7), output)."""


@dataclass(frozen=True)
class PushVlan:
    """Give the frame an 802.1Q tag; which VLAN, the next action says."""


@dataclass(frozen=True)
class PopVlan:
    """Take the frame's outermost 802.1Q tag off."""


@dataclass(frozen=True)
class Goto:
    """Go on in a later table."""

    table: Table


Action = (
    SetField
    | Move
    | Output
    | Track
    | Translate
    | Commit
    | Copy
    | Call
    | DecTtl
    | Choose
    | ForgetInPort
    | PushVlan
    | PopVlan
    | Goto
)


@dataclass(frozen=True)
class Param:
    """A parameter: its name and the field that says how wide it is and how it reads."""

    name: str
    field: Field


class Row(NamedTuple):
    """One flow: a template and the values of its parameters, in the order of ``template.params``."""

    template: FlowTemplate
    values: tuple[int, ...]

    @property
    def key(self) -> Key:
        """What identifies the flow in a switch: the template and the values that it matches."""
        return (self.template, self.values[: self.template.match_params])

    @property
    def priority(self) -> int:
        """The OpenFlow priority."""
        priority = self.template.priority
        return priority if isinstance(priority, int) else self.named()[priority]

    def named(self) -> dict[str, int]:
        """The values by parameter name."""
        return dict(zip((p.name for p in self.template.params), self.values, strict=True))


LANES = 4
"""How many templates of one shape may have priorities of their own."""


@dataclass(frozen=True, eq=False)
class FlowTemplate:
    """The shape of a flow.

    ``priority`` may be a parameter's name; with a ``lane`` it is then that number modulo ``LANES``, so that templates
    of one shape in different lanes never write one key. ``params`` lists the parameters: first those of the match, in
    order of appearance, and the priority (they are the flow's identity together with the template), then those that
    only actions use. ``doc`` says in a sentence which frames such a flow
    is for; a trace says it where a frame's way ends.
    """

    name: str
    feature: str
    table: Table
    priority: int | str
    match: tuple[Match, ...]
    actions: tuple[Action, ...]
    doc: str
    lane: int | None = None
    params: tuple[Param, ...] = field(init=False)
    match_params: int = field(init=False)

    def __post_init__(self) -> None:
        """Collect the parameters in the order in which they first appear."""
        found: dict[str, Param] = {}
        for term in self.match:
            _collect(found, term.value, term.field)
            _collect(found, term.mask, term.field)
        if isinstance(self.priority, str):
            _collect(found, self.priority, _PRIORITY)
        object.__setattr__(self, "match_params", len(found))
        for action in self.actions:
            if isinstance(action, SetField | Translate):
                _collect(found, action.value, action.field)
            elif isinstance(action, Choose):
                _collect(found, action.last, _LINK)
            elif isinstance(action, Copy):
                _collect(found, action.meter, _METER)
            elif isinstance(action, Output) and not isinstance(action.port, RegisterField):
                _collect(found, action.port, _OFPORT)
        object.__setattr__(self, "params", tuple(found.values()))

    def __repr__(self) -> str:
        """The name is enough: there is one template of a name."""
        return f"<FlowTemplate {self.name}>"

    def row(self, *values: int) -> Row:
        """A flow of this shape; ``values`` in the order of ``params``."""
        return Row(self, values)

    @property
    def cookie(self) -> int:
        """Owner (16 bits), feature (16 bits), template (32 bits): stable across versions, since names are."""
        feature = zlib.crc32(self.feature.encode()) & 0xFFFF
        return COOKIE_OWNER | feature << 32 | zlib.crc32(self.name.encode())


Key = tuple[FlowTemplate, tuple[int, ...]]
_OFPORT = Field("ofport", 32, "int", "in_port", "OpenFlow port number")
_LINK = Field("last", 16, "int", "", "number of the last of several")
_METER = Field("meter", 32, "int", "", "number of a meter")
_PRIORITY = Field("priority", 16, "int", "", "OpenFlow priority")


def _collect(found: dict[str, Param], value: Value | None, of: Field) -> None:
    if isinstance(value, str) and value not in found:
        found[value] = Param(value, of)


def miss_templates(tables: Iterable[Table], by_name: dict[str, Table]) -> dict[str, FlowTemplate]:
    """The table-miss flow of each table (priority 0), by table name, so that misses are counted too."""
    return {
        table.name: FlowTemplate(
            f"miss-{table.name}",
            "pipeline",
            table,
            0,
            (),
            () if table.miss == "drop" else (Goto(by_name[table.miss]),),
            table.missed,
        )
        for table in tables
    }
