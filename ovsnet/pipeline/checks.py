"""Checks of the declared pipeline, run when the features are imported: a mistake never reaches a switch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations

from ovsnet.pipeline.fields import ETH_IPV4, ETH_IPV6, IP_TTL, VLAN_VID, Field, RegisterField
from ovsnet.pipeline.tables import Table
from ovsnet.pipeline.template import (
    LANES,
    Action,
    Call,
    Choose,
    Commit,
    Copy,
    DecTtl,
    FlowTemplate,
    Goto,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    SetField,
    Track,
    Translate,
)

REGISTER_BITS = 32


class PipelineError(Exception):
    """The pipeline's declaration contradicts itself."""


def check_pipeline(
    tables: Sequence[Table], registers: Sequence[RegisterField], templates: Sequence[FlowTemplate]
) -> None:
    """Check the whole declaration; raises PipelineError that names the offending declaration."""
    order = {table.name: position for position, table in enumerate(tables)}
    _check_tables(tables, order)
    _check_registers(registers, order)
    _unique((t.name for t in templates), "template")
    _unique((f"{t.cookie:#x}" for t in templates), "cookie of a template")
    for template in templates:
        _check_template(template, order)
    shapes: dict[object, list[FlowTemplate]] = {}
    for template in templates:
        fields = frozenset((term.field, term.mask is None) for term in template.match)
        shapes.setdefault((template.table, fields), []).append(template)
    for alike in shapes.values():
        for one, other in combinations(alike, 2):
            apart = None not in (one.lane, other.lane) and one.lane != other.lane
            if not apart and _may_be_one(one.priority, other.priority) and _same_shape(one, other):
                raise PipelineError(f"{one.name} and {other.name} may write one flow key in table {one.table.name}")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise PipelineError(f"{what} {name} is declared twice")
        seen.add(name)


def _check_tables(tables: Sequence[Table], order: dict[str, int]) -> None:
    _unique((t.name for t in tables), "table")
    _unique((str(t.id) for t in tables), "table id")
    if [t.id for t in tables] != sorted(t.id for t in tables):
        raise PipelineError("tables are not declared in the order of their ids")
    reached = {tables[0].name}
    for table in tables:
        for target in (*table.next, *table.calls, *([table.miss] if table.miss != "drop" else [])):
            if target not in order:
                raise PipelineError(f"table {table.name} goes to {target}, which is not declared")
            if order[target] <= order[table.name]:
                raise PipelineError(f"table {table.name} goes backwards to {target}")
            if table.name in reached:
                reached.add(target)
        for target in table.back:
            if target not in order or order[target] >= order[table.name]:
                raise PipelineError(f"table {table.name} goes back to {target}, which is not before it")
    for table in tables:
        if table.name not in reached:
            raise PipelineError(f"table {table.name} cannot be reached")


def _check_registers(registers: Sequence[RegisterField], order: dict[str, int]) -> None:
    _unique((r.name for r in registers), "register field")
    for field in registers:
        if field.low < 0 or field.low + field.bits > REGISTER_BITS:
            raise PipelineError(f"field {field.name} has bits outside register {field.register}")
        if field.low % 8 or field.bits % 8:
            raise PipelineError(f"field {field.name} is not aligned to bytes, which the codec needs")
        if field.first not in order or field.last not in order or order[field.first] > order[field.last]:
            raise PipelineError(
                f"field {field.name} lives from {field.first} to {field.last}, which is no span of tables"
            )
    for one, other in combinations(registers, 2):
        overlap = one.low < other.low + other.bits and other.low < one.low + one.bits
        alive = order[one.first] <= order[other.last] and order[other.first] <= order[one.last]
        if one.register == other.register and overlap and alive:
            raise PipelineError(f"fields {one.name} and {other.name} overlap while both live")


def _check_template(template: FlowTemplate, order: dict[str, int]) -> None:
    table = template.table
    where = f"template {template.name} in table {table.name}"
    if order.get(table.name) is None:
        raise PipelineError(f"{where}: the table is not declared")
    if template.feature not in (*table.features, "pipeline"):
        raise PipelineError(f"{where}: the table does not list feature {template.feature}")
    if isinstance(template.priority, int) and not 0 <= template.priority <= 0xFFFF:
        raise PipelineError(f"{where}: priority {template.priority} is out of range")
    if template.lane is not None and not (isinstance(template.priority, str) and 0 <= template.lane < LANES):
        raise PipelineError(f"{where}: lane {template.lane} is not possible")
    matched = {term.field.name: term.value for term in template.match}
    if len(matched) != len(template.match):
        raise PipelineError(f"{where}: a field is matched twice")
    _unique((t.field.oxm for t in template.match if isinstance(t.field, RegisterField)), f"{where}: a match on")
    for term in template.match:
        _check_value(term.field, term.value, where)
        _check_use(term.field, table.reads, table, order, f"{where} matches {term.field.name}")
        _check_prerequisites(term.field, matched, f"{where} matches {term.field.name}")
    _check_actions(template, matched, order, where)


def _check_actions(template: FlowTemplate, matched: dict[str, int | str], order: dict[str, int], where: str) -> None:
    table, now = template.table, dict(matched)
    for position, action in enumerate(template.actions):
        if isinstance(action, Goto) and position != len(template.actions) - 1:
            raise PipelineError(f"{where}: a goto has to be the last action")
        if isinstance(action, SetField | Move):
            target = action.field if isinstance(action, SetField) else action.target
            _check_use(target, table.writes, table, order, f"{where} sets {target.name}")
            _check_prerequisites(target, now, f"{where} sets {target.name}")
            _check_written(action, now, where)
        else:
            _check_step(action, table, now, where)


def _check_step(action: Action, table: Table, now: dict[str, int | str], where: str) -> None:
    """What leads on or out."""
    if isinstance(action, Goto | Track | Translate) and action.table.name not in (*table.next, table.miss):
        raise PipelineError(f"{where} goes to {action.table.name}, which the table does not declare")
    if isinstance(action, Call) and action.table.name not in (*table.calls, *table.back):
        raise PipelineError(f"{where} calls {action.table.name}, which the table does not declare")
    if isinstance(action, Output) and not table.output:
        raise PipelineError(f"{where} sends a frame out, which the table does not declare")
    if isinstance(action, Copy) and not table.copies:
        raise PipelineError(f"{where} copies a frame to the agent, which the table does not declare")
    if isinstance(action, PushVlan) and VLAN_VID not in table.writes:
        raise PipelineError(f"{where} tags a frame, which the table does not declare")
    if isinstance(action, PopVlan) and not now.get(VLAN_VID.name):
        raise PipelineError(f"{where} takes a tag off that it neither matched nor put on")
    if isinstance(action, Translate):
        _check_prerequisites(action.field, now, f"{where} translates {action.field.name}")
    looks = isinstance(action, Track | Translate | Commit | DecTtl | Choose)
    if looks and now.get("dl_type") not in (ETH_IPV4, ETH_IPV6):
        raise PipelineError(f"{where} looks at an IP header without matching IPv4 or IPv6")
    if isinstance(action, DecTtl) and IP_TTL not in table.writes:
        raise PipelineError(f"{where} lowers the TTL, which the table does not declare")
    if isinstance(action, Choose) and action.field not in table.writes:
        raise PipelineError(f"{where} chooses {action.field.name}, which the table does not declare")


def _check_written(action: SetField | Move, now: dict[str, int | str], where: str) -> None:
    if isinstance(action, SetField):
        _check_value(action.field, action.value, where)
        now[action.field.name] = action.value
        return
    if action.source.bits != action.target.bits:
        raise PipelineError(f"{where} moves {action.source.name} to {action.target.name} of another width")
    _check_prerequisites(action.source, now, f"{where} reads {action.source.name}")


def _check_value(field: Field, value: int | str, where: str) -> None:
    if isinstance(value, int) and not 0 <= value <= field.full_mask:
        raise PipelineError(f"{where}: {value:#x} does not fit into {field.name}")


def _check_use(field: Field, declared: tuple[Field, ...], table: Table, order: dict[str, int], what: str) -> None:
    if field not in declared:
        raise PipelineError(f"{what}, which the table does not declare")
    if isinstance(field, RegisterField) and not order[field.first] <= order[table.name] <= order[field.last]:
        raise PipelineError(f"{what} outside its life from {field.first} to {field.last}")


def _check_prerequisites(field: Field, matched: dict[str, int | str], what: str) -> None:
    for name, value in field.requires:
        if matched.get(name) != value:
            raise PipelineError(f"{what} without {name}={value:#x}, which it requires")


def _same_shape(one: FlowTemplate, other: FlowTemplate) -> bool:
    """Whether some values of the two match the very same key: the same fields and masks, no constant that differs."""
    theirs = {term.field: term for term in other.match}
    return set(theirs) == {term.field for term in one.match} and all(
        _may_equal(term, theirs[term.field]) for term in one.match
    )


def _may_equal(one: Match, other: Match) -> bool:
    if (one.mask is None) != (other.mask is None):
        return False
    return _may_be_one(one.value, other.value) and _may_be_one(one.mask, other.mask)


def _may_be_one(one: int | str | None, other: int | str | None) -> bool:
    """Whether two constants are equal; a parameter may be anything."""
    return isinstance(one, str) or isinstance(other, str) or one == other
