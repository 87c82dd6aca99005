"""Flow templates to their wire forms: os-ken serialises each twice, with different placeholder values.

Where the bytes differ is where parameters stand. What is learnt so is kept in ``forms.json``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from os_ken.ofproto.nicira_ext import NX_CT_F_COMMIT, NX_CT_RECIRC_NONE, NX_MP_ALG_HRW

from ovsnet.model.numbers import ip_text, mac_text
from ovsnet.openflow import wire
from ovsnet.openflow.dump import canonical_match
from ovsnet.openflow.forms import ADD, DELETE_STRICT, KINDS, Form, Kept, KeptForm, Slot, shape
from ovsnet.openflow.osken import PARSER, PROTOCOL, ExtendedSetField, ToController, match_of, nxm_name
from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.template import (
    COOKIE_MASK,
    Action,
    Call,
    Choose,
    Commit,
    Copy,
    DecTtl,
    FlowTemplate,
    ForgetInPort,
    Goto,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Row,
    SetField,
    Track,
    Translate,
    Value,
)
from ovsnet.pipeline.verdicts import CONTROLLER_ID

FLOW_MOD_FIXED = 48  # bytes of a flow mod before its match
OFPP_IN_PORT = 0xFFFFFFF8
_SYMMETRIC_L3 = 6  # NX_HASH_FIELDS_SYMMETRIC_L3, which os-ken has no name for
OFPP_IN_PORT16 = 0xFFF8  # as Nicira's actions write it
NX_NAT_F_SRC, NX_NAT_F_DST = 1, 2  # nicira-ext.h, enum nx_nat_flags


def kept(templates: Iterable[FlowTemplate]) -> dict[str, Kept]:
    """All forms of templates, by name, as ``forms.json`` has them."""
    return {
        template.name: Kept(
            shape(template), {kind: KeptForm.of(learn(template, *asked)) for asked, kind in KINDS.items()}
        )
        for template in templates
    }


def flow_mod(row: Row, command: int = ADD) -> Any:
    """The row as os-ken's own OFPFlowMod: the measure that ``encode`` is held to."""
    template, values = row.template, row.named()
    instructions = []
    if command == ADD:
        actions = [_action(a, values) for a in template.actions if not isinstance(a, Goto)]
        if actions:
            instructions.append(PARSER.OFPInstructionActions(4, actions))
        instructions += [PARSER.OFPInstructionGotoTable(a.table.id) for a in template.actions if isinstance(a, Goto)]
    return PARSER.OFPFlowMod(
        PROTOCOL,
        cookie=template.cookie,
        cookie_mask=COOKIE_MASK if command == DELETE_STRICT else 0,
        table_id=template.table.id,
        command=command,
        priority=row.priority,
        buffer_id=wire.NO_BUFFER,
        out_port=wire.ANY,
        out_group=wire.ANY,
        match=_match(template, values),
        instructions=instructions,
    )


def serialize(row: Row, command: int = ADD) -> bytes:
    """The row's flow mod as os-ken serialises it, xid 0."""
    message = flow_mod(row, command)
    message.set_xid(0)
    message.serialize()
    return bytes(message.buf)


def _match(template: FlowTemplate, values: dict[str, int]) -> Any:
    fields: dict[str, Any] = {}
    for term in template.match:
        value, mask = _resolve(term.value, values), None if term.mask is None else _resolve(term.mask, values)
        if isinstance(term.field, RegisterField):
            fields[term.field.oxm] = _register(term.field, value, mask)
            continue
        given = _user(term.field, value)
        fields[term.field.oxm] = given if mask is None else (given, _user(term.field, mask))
    return match_of(fields)


def _register(field: RegisterField, value: int, mask: int | None) -> int | tuple[int, int]:
    """A match on a field of a register; without a mask if it is on all bits, as a switch lists it."""
    whole = (field.full_mask if mask is None else mask) << field.low
    return value << field.low if whole == 0xFFFFFFFF else (value << field.low, whole)


def _action(action: Action, values: dict[str, int]) -> Any:
    if isinstance(action, Output):
        return _output(action, values)
    if isinstance(action, Move):
        source, target = nxm_name(action.source.oxm), nxm_name(action.target.oxm)
        at = action.target.low if isinstance(action.target, RegisterField) else 0
        return PARSER.NXActionRegMove(src_field=source, dst_field=target, n_bits=action.source.bits, dst_ofs=at)
    if isinstance(action, Track | Translate | Commit):
        return _track(action, values)
    if isinstance(action, SetField):
        return _set(action, values)
    return _act(action, values)


def _track(action: Track | Translate | Commit, values: dict[str, int]) -> Any:
    flags = 0 if isinstance(action, Track) else NX_CT_F_COMMIT
    table = NX_CT_RECIRC_NONE if isinstance(action, Commit) else action.table.id
    inner = []
    if isinstance(action, Track) and action.restore:
        inner = [PARSER.NXActionNAT(0)]
    elif isinstance(action, Translate):
        end = NX_NAT_F_SRC if action.field.name.endswith("src") else NX_NAT_F_DST
        family = "range_ipv4_min" if action.field.bits == 32 else "range_ipv6_min"
        inner = [PARSER.NXActionNAT(end, **{family: _user(action.field, _resolve(action.value, values))})]
    return PARSER.NXActionCT(flags, action.zone.oxm, _span(action.zone), table, 0, inner)


def _act(action: Action, values: dict[str, int]) -> Any:
    if isinstance(action, Copy):
        return ToController(action.length, CONTROLLER_ID, _resolve(action.meter, values))
    if isinstance(action, Call):
        return PARSER.NXActionResubmitTable(in_port=OFPP_IN_PORT16, table_id=action.table.id)
    if isinstance(action, DecTtl):
        return PARSER.OFPActionDecNwTtl()
    if isinstance(action, ForgetInPort):
        return PARSER.NXActionRegLoad(15, "in_port_nxm", 0)
    if isinstance(action, PushVlan):
        return PARSER.OFPActionPushVlan(0x8100)
    if isinstance(action, PopVlan):
        return PARSER.OFPActionPopVlan()
    if not isinstance(action, Choose):
        raise TypeError(f"{action} is an instruction")
    last, where = _resolve(action.last, values), action.field
    return PARSER.NXActionMultipath(_SYMMETRIC_L3, 0, NX_MP_ALG_HRW, last, 0, _span(where), where.oxm)


def _set(action: SetField, values: dict[str, int]) -> Any:
    field, value = action.field, _resolve(action.value, values)
    if isinstance(field, RegisterField) and field.bits <= 32:
        return PARSER.NXActionRegLoad(_span(field), field.oxm, value)
    if field.oxm in ExtendedSetField.HEADERS:
        return ExtendedSetField(field.oxm, value)
    given = value if isinstance(field, RegisterField) else _user(field, value)
    return PARSER.OFPActionSetField(**{field.oxm: given})


def _output(action: Output, values: dict[str, int]) -> Any:
    if isinstance(action.port, RegisterField):
        return PARSER.NXActionOutputReg(_span(action.port), action.port.oxm, 0)
    return PARSER.OFPActionOutput(OFPP_IN_PORT if action.port is None else _resolve(action.port, values), 0)


def _span(field: RegisterField) -> int:
    """Where a field is in its register, as Nicira's actions say it (``ofs_nbits``)."""
    return field.low << 6 | field.bits - 1


def _resolve(value: Value, values: dict[str, int]) -> int:
    return values[value] if isinstance(value, str) else value


def _user(field: Field, value: int) -> int | str:
    """A value in the form in which os-ken takes it."""
    if field.kind == "mac":
        return mac_text(value)
    if field.kind in ("ipv4", "ipv6"):
        return ip_text(value, field.bits)
    return value


def learn(template: FlowTemplate, command: int, canonical: bool) -> Form:
    """What os-ken makes of a template; see ``forms.form``, which keeps it. Raises ValueError."""
    patterns = [_placeholders(template, which) for which in (0, 1)]
    first, second = (serialize(Row(template, tuple(values)), command) for values in patterns)
    size = wire.BUNDLED.size + len(first)
    header = wire.BUNDLED.pack(wire.VERSION, wire.BUNDLE_ADD, size, 0, 0, 0, wire.ORDERED_ATOMIC)
    one, other = header + first, header + second
    match_at = wire.BUNDLED.size + FLOW_MOD_FIXED
    match_length = struct.unpack_from("!H", one, match_at + 2)[0]
    match = slice(match_at + 4, match_at + match_length)
    if canonical:
        one, other = (m[: match.start] + canonical_match(m[match]) + m[match.stop :] for m in (one, other))
    slots = list(_slots(one, other, patterns[0]))
    used = {slot.param for slot in slots}
    wanted = range(template.match_params if command == DELETE_STRICT else len(template.params))
    if used != set(wanted):
        raise ValueError(f"template {template.name}: parameters {used} found on the wire, {set(wanted)} expected")
    instructions_at = match_at + (match_length + 7) // 8 * 8
    return Form(np.frombuffer(one, np.uint8), tuple(slots), match, slice(instructions_at, len(one)))


def _placeholders(template: FlowTemplate, which: int) -> list[int]:
    """Values whose bytes tell the parameter: small ones, and masks that keep every bit of those."""
    masks = dict.fromkeys(term.mask for term in template.match if isinstance(term.mask, str))
    bytes_of = dict(zip(masks, ((0x7F, 0xBF), (0x5F, 0x9F), (0xDF, 0x3F)), strict=False))
    digits = [bytes_of.get(p.name, (2 * i + 1, 2 * i + 2))[which] for i, p in enumerate(template.params)]
    widths = [(p.field.bits + 7) // 8 for p in template.params]
    return [int.from_bytes(bytes([digit]) * width, "big") for digit, width in zip(digits, widths, strict=True)]


def _slots(one: bytes, other: bytes, values: Sequence[int]) -> Iterator[Slot]:
    """The places where the messages differ; ``values`` are the placeholders of ``one``, told apart by their bytes."""
    at = 0
    while at < len(one):
        if one[at] == other[at]:
            at += 1
            continue
        end = at
        while end < len(one) and one[end] != other[end] and one[end] == one[at]:
            end += 1
        param = next((i for i, value in enumerate(values) if value & 0xFF == one[at]), None)
        if param is None:
            raise ValueError("a parameter does not stand in whole bytes")
        end = min(end, at + (values[param].bit_length() + 7) // 8)  # a value and its mask may stand side by side
        yield Slot(param, at, end - at)
        at = end
