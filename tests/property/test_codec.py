"""Templates in bulk are, byte for byte, what os-ken serialises flow by flow."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.features import TEMPLATES
from ovsnet.openflow import codec, forms, learning
from ovsnet.openflow.dump import FlowEntry, canonical_match
from ovsnet.pipeline.template import FlowTemplate, Row
from ovsnet.plan import Plan, Stray

ROUNDS = settings(max_examples=15, deadline=None)


def values(template: FlowTemplate) -> st.SearchStrategy[tuple[int, ...]]:
    """Any values that are a flow: masks are prefixes, neither empty nor full, and addresses lie under them."""
    masks = {term.mask for term in template.match if isinstance(term.mask, str)}
    one = []
    for param in template.params:
        bits = param.field.bits
        if param.name in masks:
            one.append(st.integers(1, bits - 1).map(lambda p, bits=bits: ((1 << p) - 1) << (bits - p)))
        else:
            one.append(st.integers(0, param.field.full_mask))
    return st.tuples(*one).map(lambda v: under_mask(template, v))


def under_mask(template: FlowTemplate, chosen: tuple[int, ...]) -> tuple[int, ...]:
    named = dict(zip((p.name for p in template.params), chosen, strict=True))
    for term in template.match:
        if isinstance(term.mask, str) and isinstance(term.value, str):
            named[term.value] &= named[term.mask]
    return tuple(named.values())


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
@ROUNDS
@given(data=st.data())
def test_bulk_bytes_are_os_kens(template: FlowTemplate, data: st.DataObject) -> None:
    rows = [Row(template, v) for v in data.draw(st.lists(values(template), min_size=1, max_size=4))]
    for command in (codec.ADD, codec.DELETE_STRICT):
        ((matrix, _),) = codec.encode_rows(rows, command)
        for row, got in zip(rows, matrix, strict=True):
            assert got.tobytes()[codec.BUNDLED.size :] == learning.serialize(row, command)


@ROUNDS
@given(data=st.data())
def test_what_was_encoded_is_decoded(data: st.DataObject) -> None:
    rows = [Row(template, data.draw(values(template))) for template in TEMPLATES]
    entries = []
    for row in rows:
        wire = codec.form(row.template, codec.ADD)
        sent = next(codec.encode_rows([row], codec.ADD))[0][0].tobytes()
        match, instructions = canonical_match(sent[wire.match]), sent[wire.instructions]
        place = row.template.table.id, row.priority
        entries.append(FlowEntry(*place, row.template.cookie, match, instructions, 0, 0))
    actual = codec.decode(entries)
    assert actual.rows == {row.key: row for row in rows}
    assert not actual.strays


@ROUNDS
@given(data=st.data())
def test_a_tampered_flow_is_a_stray_or_another_row(data: st.DataObject) -> None:
    """Whatever byte of a flow is changed, it is never taken for the row that it was."""
    template = data.draw(st.sampled_from([t for t in TEMPLATES if t.actions and t.match]))
    row = Row(template, data.draw(values(template)))
    wire = codec.form(template, codec.ADD)
    sent = next(codec.encode_rows([row], codec.ADD))[0][0].tobytes()
    parts = [bytearray(sent[wire.match]), bytearray(sent[wire.instructions])]
    part = data.draw(st.integers(0, 1))
    parts[part][data.draw(st.integers(0, len(parts[part]) - 1))] ^= data.draw(st.integers(1, 255))
    entry = FlowEntry(template.table.id, row.priority, template.cookie, bytes(parts[0]), bytes(parts[1]), 0, 0)
    assert codec.decode([entry]).rows.get(row.key) != row
    moved = FlowEntry(
        template.table.id, row.priority ^ 1, template.cookie, sent[wire.match], sent[wire.instructions], 0, 0
    )
    assert codec.decode([moved]).rows.get(row.key) != row


def test_xids_tell_the_row() -> None:
    rows = [Row(t, under_mask(t, tuple(range(1, len(t.params) + 1)))) for t in (*TEMPLATES, *TEMPLATES[::-1])]
    plan = Plan(remove=tuple(rows), strays=(Stray(3, 4, b""),))
    payload, at, xids = b"".join(map(bytes, codec.encode_plan(plan, 77, 1000))), 0, {}
    while at < len(payload):
        size, xid, bundle = (int.from_bytes(payload[at + a : at + b], "big") for a, b in ((2, 4), (4, 8), (8, 12)))
        inner = payload[at + codec.BUNDLED.size : at + size]
        assert bundle == 77
        assert int.from_bytes(inner[4:8], "big") == xid
        assert int.from_bytes(inner[2:4], "big") == len(inner)
        xids[xid] = inner[:4] + bytes(4) + inner[8:]
        at += size
    assert sorted(xids) == list(range(1000, 1001 + len(rows)))
    for index, row in enumerate(rows):
        assert xids[1001 + index] == learning.serialize(row, codec.DELETE_STRICT)


def test_a_kept_form_of_another_shape_is_not_used() -> None:
    """A template that was changed, and whose forms have not been written anew, is learnt."""
    old = next(template for template in TEMPLATES if template.name == "member")
    changed = FlowTemplate(old.name, old.feature, old.table, old.priority, old.match, old.actions[1:], old.doc)
    assert forms.shape(changed) != forms.shape(old)
    row = Row(changed, tuple(range(1, len(changed.params) + 1)))
    ((matrix, _),) = codec.encode_rows([row], codec.ADD)
    assert matrix.tobytes()[codec.BUNDLED.size :] == learning.serialize(row)
