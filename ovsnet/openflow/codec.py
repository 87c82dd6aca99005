"""Flows to OpenFlow bytes and back: the wire form of a template is filled with the numbers of many rows at once.

Any number of rows of one template is a byte matrix with columns filled by NumPy. Everything is OpenFlow 1.4, wrapped
for a bundle (OpenFlow 1.4.1, 7.3.9.6).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ovsnet.features import BY_COOKIE
from ovsnet.openflow.dump import FlowEntry
from ovsnet.openflow.forms import ADD, DELETE_STRICT, Bytes, form
from ovsnet.openflow.wire import ANY, BUNDLE_ADD, BUNDLED, FLOW_MOD, HEADER, NO_BUFFER, ORDERED_ATOMIC, VERSION
from ovsnet.pipeline.template import FlowTemplate, Key, Row
from ovsnet.plan import Actual, Plan, Stray

if TYPE_CHECKING:
    from typing_extensions import Buffer

XID_OFFSETS = (4, BUNDLED.size + 4)
BUNDLE_ID_OFFSET = 8
PRIORITY_AT = 30  # bytes into a flow mod


def encode_rows(rows: Sequence[Row], command: int, canonical: bool = False) -> Iterator[tuple[Bytes, NDArray[np.intp]]]:
    """Rows as byte matrices, one per template, xids and bundle id still 0; with each, the rows' positions."""
    groups: dict[FlowTemplate, list[int]] = {}
    for position, row in enumerate(rows):
        groups.setdefault(row[0], []).append(position)
    for template, members in groups.items():
        wire = form(template, command, canonical)
        matrix = np.empty((len(members), wire.size), np.uint8)
        matrix[:] = wire.prototype
        columns = list(zip(*(rows[i][1] for i in members), strict=True))
        filled = {index: _column(columns[index]) for index in {slot.param for slot in wire.slots}}
        for slot in wire.slots:
            matrix[:, slot.offset : slot.offset + slot.width] = filled[slot.param][:, -slot.width :]
        yield matrix, np.array(members, np.intp)


def _column(values: tuple[int, ...]) -> Bytes:
    """One parameter of many rows as big-endian bytes: 8 wide, or 16 for what needs it."""
    if max(values) >> 64:
        return np.frombuffer(b"".join(v.to_bytes(16, "big") for v in values), np.uint8).reshape(-1, 16)
    narrow = np.array(values, dtype=">u8").view(np.uint8).reshape(-1, 8)
    wide = np.zeros((len(values), 16), np.uint8)
    wide[:, 8:] = narrow
    return wide


def encode_bundle(adds: Sequence[Row], deletes: Sequence[Row], bundle_id: int, first_xid: int) -> Iterator[Buffer]:
    """The bundle-add messages of a change, ready for the wire, a part per template: all adds before all deletes.

    The message of ``adds[i]`` has xid ``first_xid + i``, that of ``deletes[j]`` ``first_xid + len(adds) + j``: a
    refusal's xid tells its row.
    """
    for rows, command, base in ((adds, ADD, first_xid), (deletes, DELETE_STRICT, first_xid + len(adds))):
        for matrix, positions in encode_rows(rows, command):
            xids = (positions + base).astype(">u4").view(np.uint8).reshape(-1, 4)
            for offset in XID_OFFSETS:
                matrix[:, offset : offset + 4] = xids
            matrix[:, BUNDLE_ID_OFFSET : BUNDLE_ID_OFFSET + 4] = np.frombuffer(struct.pack("!I", bundle_id), np.uint8)
            yield matrix.data


def encode_strays(strays: Sequence[Stray], bundle_id: int, first_xid: int) -> bytes:
    """Bundle-add messages that delete flows known only by their table, priority and match bytes."""
    parts = []
    for index, stray in enumerate(strays):
        match = struct.pack("!HH", 1, 4 + len(stray.match)) + stray.match
        match += bytes(-len(match) % 8)
        fixed = struct.pack(
            "!QQBBHHHIIIHH", 0, 0, stray.table, DELETE_STRICT, 0, 0, stray.priority, NO_BUFFER, ANY, ANY, 0, 0
        )
        xid, length = first_xid + index, 8 + len(fixed) + len(match)
        header = HEADER.pack(VERSION, FLOW_MOD, length, xid)
        wrapper = BUNDLED.pack(VERSION, BUNDLE_ADD, BUNDLED.size + length, xid, bundle_id, 0, ORDERED_ATOMIC)
        parts += [wrapper, header, fixed, match]
    return b"".join(parts)


def encode_plan(plan: Plan, bundle_id: int, first_xid: int) -> Iterator[Buffer]:
    """A plan as bundle-add messages, in the order of its fields: strays first, then adds and changes, then removals."""
    if plan.strays:
        yield encode_strays(plan.strays, bundle_id, first_xid)
    rows = [flow.row for flow in (*plan.add, *plan.change)]
    yield from encode_bundle(rows, plan.remove, bundle_id, first_xid + len(plan.strays))


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
    at = BUNDLED.size + PRIORITY_AT
    if isinstance(template.priority, str):
        matrix[:, at : at + 2] = np.array([e.priority for e in members], ">u2").view(np.uint8).reshape(-1, 2)
    columns: list[list[int]] = []
    for param in range(len(template.params)):
        slot = next(slot for slot in wire.slots if slot.param == param)
        columns.append(_integers(matrix[:, slot.offset : slot.offset + slot.width]))
    values = list(zip(*columns, strict=True)) if columns else [()] * len(members)
    again = next(encode_rows([Row(template, v) for v in values], ADD, canonical=True))[0]
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
