"""Flow templates to OpenFlow bytes: each template is serialised once through os-ken, its rows are filled in bulk.

A template goes through os-ken twice with different placeholder values. Where the bytes differ is where parameters
stand; any number of rows is then a byte matrix with columns filled by NumPy. Everything is OpenFlow 1.4, wrapped for a
bundle (OpenFlow 1.4.1, 7.3.9.6).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from os_ken.ofproto.nicira_ext import NX_CT_F_COMMIT, NX_CT_RECIRC_NONE

from ovsnet.features import BY_COOKIE
from ovsnet.model.numbers import ip_text, mac_text
from ovsnet.openflow.dump import FlowEntry, canonical_match
from ovsnet.openflow.osken import PARSER, PROTOCOL, ExtendedSetField, ToController, match_of, nxm_name
from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.template import (
    COOKIE_MASK,
    Action,
    Call,
    Commit,
    Copy,
    FlowTemplate,
    Goto,
    Key,
    Move,
    Output,
    Row,
    SetField,
    Track,
    Value,
)
from ovsnet.pipeline.verdicts import CONTROLLER_ID
from ovsnet.plan import Actual, Plan, Stray

OFP_VERSION = 5  # 1.4
ADD, DELETE_STRICT = 0, 4
OFPT_FLOW_MOD, OFPT_BUNDLE_ADD_MESSAGE = 14, 34
WRAPPER = struct.Struct("!BBHIIHH")  # OpenFlow header, bundle id, padding, flags
XID_OFFSETS = (4, WRAPPER.size + 4)
BUNDLE_ID_OFFSET = 8
BUNDLE_FLAGS = 0b11  # atomic and ordered
FLOW_MOD_FIXED = 48  # bytes of a flow mod before its match
OFPP_IN_PORT = 0xFFFFFFF8
OFPP_IN_PORT16 = 0xFFF8  # as Nicira's actions write it
PRIORITY_AT = 30  # bytes into a flow mod
OFPP_ANY = OFPG_ANY = 0xFFFFFFFF
NO_BUFFER = 0xFFFFFFFF

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Slot:
    """Where a parameter stands in a message: ``width`` bytes at ``offset``, the low-order ones of the value."""

    param: int
    offset: int
    width: int


@dataclass(frozen=True)
class Form:
    """The wire form of one template and command: a message with gaps, and where the parameters go."""

    prototype: Bytes
    slots: tuple[Slot, ...]
    match: slice  # the OXM TLVs, without the match's header and padding
    instructions: slice

    @property
    def size(self) -> int:
        """The length of a message in bytes, wrapper included."""
        return len(self.prototype)


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
        buffer_id=NO_BUFFER,
        out_port=OFPP_ANY,
        out_group=OFPG_ANY,
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
    if isinstance(action, Track | Commit):
        flags, table = (0, action.table.id) if isinstance(action, Track) else (NX_CT_F_COMMIT, NX_CT_RECIRC_NONE)
        return PARSER.NXActionCT(flags, action.zone.oxm, _span(action.zone), table, 0, [])
    if isinstance(action, Copy):
        return ToController(action.length, CONTROLLER_ID, action.meter)
    if isinstance(action, Call):
        return PARSER.NXActionResubmitTable(in_port=OFPP_IN_PORT16, table_id=action.table.id)
    if not isinstance(action, SetField):
        raise TypeError(f"{action} is an instruction")
    field, value = action.field, _resolve(action.value, values)
    if isinstance(field, RegisterField):
        return PARSER.NXActionRegLoad(_span(field), field.oxm, value)
    if field.oxm in ExtendedSetField.HEADERS:
        return ExtendedSetField(field.oxm, value)
    return PARSER.OFPActionSetField(**{field.oxm: _user(field, value)})


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


@functools.cache
def form(template: FlowTemplate, command: int, canonical: bool = False) -> Form:
    """The wire form of a template, learnt from os-ken's serialisation; cached.

    With ``canonical`` the TLVs of the match are in the order of ``dump.canonical_match``, to compare with what a
    switch lists; sent they are in an order that meets their prerequisites.
    """
    patterns = [_placeholders(template, which) for which in (0, 1)]
    first, second = (serialize(Row(template, tuple(values)), command) for values in patterns)
    header = WRAPPER.pack(OFP_VERSION, OFPT_BUNDLE_ADD_MESSAGE, WRAPPER.size + len(first), 0, 0, 0, BUNDLE_FLAGS)
    one, other = header + first, header + second
    match_at = WRAPPER.size + FLOW_MOD_FIXED
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
    prototype = np.frombuffer(one, np.uint8).copy()
    return Form(prototype, tuple(slots), match, slice(instructions_at, len(one)))


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


def encode_rows(
    rows: Sequence[Row], command: int, canonical: bool = False
) -> tuple[list[Bytes], list[NDArray[np.intp]]]:
    """Rows as byte matrices, one per template, xids and bundle id still 0; beside each, the rows' positions."""
    groups: dict[FlowTemplate, list[int]] = {}
    for position, row in enumerate(rows):
        groups.setdefault(row[0], []).append(position)
    matrices, positions = [], []
    for template, members in groups.items():
        wire = form(template, command, canonical)
        matrix = np.empty((len(members), wire.size), np.uint8)
        matrix[:] = wire.prototype
        columns = list(zip(*(rows[i][1] for i in members), strict=True))
        filled = {index: _column(columns[index]) for index in {slot.param for slot in wire.slots}}
        for slot in wire.slots:
            matrix[:, slot.offset : slot.offset + slot.width] = filled[slot.param][:, -slot.width :]
        matrices.append(matrix)
        positions.append(np.array(members, np.intp))
    return matrices, positions


def _column(values: tuple[int, ...]) -> Bytes:
    """One parameter of many rows as big-endian bytes: 8 wide, or 16 for what needs it."""
    if max(values) >> 64:
        return np.frombuffer(b"".join(v.to_bytes(16, "big") for v in values), np.uint8).reshape(-1, 16)
    narrow = np.array(values, dtype=">u8").view(np.uint8).reshape(-1, 8)
    wide = np.zeros((len(values), 16), np.uint8)
    wide[:, 8:] = narrow
    return wide


def encode_bundle(adds: Sequence[Row], deletes: Sequence[Row], bundle_id: int, first_xid: int) -> bytes:
    """The bundle-add messages of a change, ready for the wire: all adds before all deletes.

    The message of ``adds[i]`` has xid ``first_xid + i``, that of ``deletes[j]`` ``first_xid + len(adds) + j``: a
    refusal's xid tells its row.
    """
    parts = []
    for rows, command, base in ((adds, ADD, first_xid), (deletes, DELETE_STRICT, first_xid + len(adds))):
        for matrix, positions in zip(*encode_rows(rows, command), strict=True):
            xids = (positions + base).astype(">u4").view(np.uint8).reshape(-1, 4)
            for offset in XID_OFFSETS:
                matrix[:, offset : offset + 4] = xids
            matrix[:, BUNDLE_ID_OFFSET : BUNDLE_ID_OFFSET + 4] = np.frombuffer(struct.pack("!I", bundle_id), np.uint8)
            parts.append(matrix.tobytes())
    return b"".join(parts)


def encode_strays(strays: Sequence[Stray], bundle_id: int, first_xid: int) -> bytes:
    """Bundle-add messages that delete flows known only by their table, priority and match bytes."""
    parts = []
    for index, stray in enumerate(strays):
        match = struct.pack("!HH", 1, 4 + len(stray.match)) + stray.match
        match += bytes(-len(match) % 8)
        fixed = struct.pack(
            "!QQBBHHHIIIHH", 0, 0, stray.table, DELETE_STRICT, 0, 0, stray.priority, NO_BUFFER, OFPP_ANY, OFPG_ANY, 0, 0
        )
        xid, length = first_xid + index, 8 + len(fixed) + len(match)
        header = struct.pack("!BBHI", OFP_VERSION, OFPT_FLOW_MOD, length, xid)
        wrapper = WRAPPER.pack(
            OFP_VERSION, OFPT_BUNDLE_ADD_MESSAGE, WRAPPER.size + length, xid, bundle_id, 0, BUNDLE_FLAGS
        )
        parts += [wrapper, header, fixed, match]
    return b"".join(parts)


def encode_plan(plan: Plan, bundle_id: int, first_xid: int) -> bytes:
    """A plan as bundle-add messages, in the order of its fields: strays first, then adds and changes, then removals."""
    strays = encode_strays(plan.strays, bundle_id, first_xid)
    rows = [flow.row for flow in (*plan.add, *plan.change)]
    return strays + encode_bundle(rows, plan.remove, bundle_id, first_xid + len(plan.strays))


def decode(entries: Iterable[FlowEntry]) -> Actual:
    """What a switch reports as rows; whatever is not exactly a row of its cookie's template is a stray."""
    groups: dict[tuple[int, int, int], list[FlowEntry]] = {}
    for entry in entries:
        groups.setdefault((entry.cookie, len(entry.match), len(entry.instructions)), []).append(entry)
    rows: dict[Key, Row] = {}
    strays: list[Stray] = []
    for (cookie, _, _), members in groups.items():
        template = BY_COOKIE.get(cookie)
        good = _decode_group(template, members) if template else None
        if template is None or good is None:
            strays += [Stray(e.table, e.priority, e.match) for e in members]
            continue
        for entry, values in zip(members, good, strict=True):
            if values is None:
                strays.append(Stray(entry.table, entry.priority, entry.match))
            else:
                row = Row(template, values)
                rows[row.key] = row
    return Actual(rows, tuple(strays))


def _decode_group(template: FlowTemplate, members: Sequence[FlowEntry]) -> list[tuple[int, ...] | None] | None:
    """The values of entries of one cookie and size; ``None`` where the bytes are not the template's."""
    wire = form(template, ADD, canonical=True)
    sizes = wire.match.stop - wire.match.start, wire.instructions.stop - wire.instructions.start
    if (len(members[0].match), len(members[0].instructions)) != sizes:
        return None
    matrix = np.empty((len(members), wire.size), np.uint8)
    matrix[:] = wire.prototype
    for where, parts in (
        (wire.match, [e.match for e in members]),
        (wire.instructions, [e.instructions for e in members]),
    ):
        if where.stop > where.start:
            matrix[:, where] = np.frombuffer(b"".join(parts), np.uint8).reshape(len(members), -1)
    at = WRAPPER.size + PRIORITY_AT
    if isinstance(template.priority, str):
        matrix[:, at : at + 2] = np.array([e.priority for e in members], ">u2").view(np.uint8).reshape(-1, 2)
    columns: list[list[int]] = []
    for param in range(len(template.params)):
        slot = next(slot for slot in wire.slots if slot.param == param)
        columns.append(_integers(matrix[:, slot.offset : slot.offset + slot.width]))
    values = list(zip(*columns, strict=True)) if columns else [()] * len(members)
    again = encode_rows([Row(template, v) for v in values], ADD, canonical=True)[0][0]
    same = (again == matrix).all(axis=1)
    return [
        v if ok and (e.table, e.priority) == (template.table.id, Row(template, v).priority) else None
        for v, ok, e in zip(values, same, members, strict=True)
    ]


def _integers(columns: Bytes) -> list[int]:
    """Big-endian byte columns as integers."""
    count, width = columns.shape
    if width > 8:
        data = columns.tobytes()
        return [int.from_bytes(data[i * width : (i + 1) * width], "big") for i in range(count)]
    wide = np.zeros((count, 8), np.uint8)
    wide[:, 8 - width :] = columns
    return [int(v) for v in wide.view(">u8").ravel().tolist()]
