"""Rows and a real switch: what is sent comes back as the same rows, and a refusal stays its VPC's affair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ovsnet import Switch
from ovsnet.desired import Desired, Owned, Subject
from ovsnet.features import TEMPLATES, l2
from ovsnet.lab.ovs import OvsInstance
from ovsnet.pipeline.render import flow_ofctl
from ovsnet.pipeline.template import FlowTemplate, Row

SAMPLE = {
    "ip": {32: 0x0A000000, 128: 0x20010DB8 << 96},
    "mask": {16: 0xFFF0, 32: 0xFFFF0000, 128: ((1 << 64) - 1) << 64},
    "vtep": {32: 0x0A000001, 128: (0xFD00 << 112) + 1},
    "target": {32: 0x0A000001, 128: (0xFD00 << 112) + 1},
    "mac": {48: 0x020000000101},
    "ofport": {16: 2, 32: 2},
    "tunnel": {32: 1},
    "net": {24: 5001, 64: 5001},
    "domain": {24: 9001, 64: 9001},
    "segment": {32: 9 << 12 | 100},
    "vid": {16: 0x1064},
    "address": {32: 0xCB00710A, 128: (0x20010DB8 << 96) + 10},
    "inside": {32: 0xC0A8010B, 128: (0x20010DB8 << 96) + 11},
    "gateway": {32: 0x0A000001, 128: (0x20010DB8 << 96) + 1},
    "hop": {8: 1},
    "last": {16: 2},
    "policy": {32: 70000},
    "bank": {16: 1},
    "zone": {16: 7},
    **{f"ip{word}": {32: (0x2001 + word) << 16} for word in range(4)},
    **{f"{kind}{word}": {32: 1 << word} for kind in ("groups", "sets") for word in range(3)},
    "priority": {16: 1100},
    "way": {8: 0x81},
    "under": {8: 0x81},
    "bit": {32: 0x100},
    "proto": {8: 6},
    "port": {16: 8000},
    "type": {16: 8},
    "code": {16: 0},
    "verdict": {8: 1},
    "rule": {32: 3},
    "meter": {32: 0x10005},
}


def sample(template: FlowTemplate) -> Row:
    row = Row(template, tuple(SAMPLE[p.name][p.field.bits] for p in template.params))
    if template.lane is None:
        return row
    at = [p.name for p in template.params].index("priority")
    return Row(template, (*row.values[:at], row.values[at] + template.lane, *row.values[at + 1 :]))


def owned(rows: list[Row], vpc: str = "shop") -> list[Owned]:
    return [Owned(row, Subject("port", vpc, "web1")) for row in rows]


@pytest.fixture(scope="module")
def ovs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OvsInstance]:
    instance = OvsInstance(tmp_path_factory.mktemp("tables"), dummy=True)
    try:
        instance.start()
        instance.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail-mode=secure")
        yield instance
    finally:
        instance.stop()


@pytest.fixture
def switch(ovs: OvsInstance) -> Iterator[Switch]:
    ovs.ofctl("del-flows", "br0")
    with Switch(ovs.mgmt_target("br0")) as connected:
        yield connected


def dump(ovs: OvsInstance) -> list[str]:
    text = ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "dump-flows", ovs.mgmt_target("br0"))
    return sorted(text.strip().splitlines())


def test_every_template_comes_back_as_the_row_that_was_sent(switch: Switch) -> None:
    desired = Desired(owned([sample(template) for template in TEMPLATES]))
    assert not switch.apply(desired).refused
    actual = switch.actual()
    assert actual.rows == {key: flow.row for key, flow in desired.flows.items()}
    assert not actual.strays
    assert not switch.plan(desired)


def test_the_text_for_ofctl_is_the_same_flows(ovs: OvsInstance, switch: Switch, tmp_path: Path) -> None:
    rows = [sample(template) for template in TEMPLATES]
    switch.apply(Desired(owned(rows)))
    by_codec = dump(ovs)
    ovs.ofctl("del-flows", "br0")
    ovs.ofctl("add-flows", "br0", "-", stdin="\n".join(flow_ofctl(row) for row in rows).encode())
    assert dump(ovs) == by_codec
    assert len(by_codec) == len(TEMPLATES)


def test_the_difference_alone_is_applied(ovs: OvsInstance, switch: Switch) -> None:
    first = owned([l2.DELIVER_ANY.row(5001, mac, 2) for mac in range(10)])
    other = owned([l2.DELIVER_ANY.row(5001, mac, 3 if mac == 5 else 2) for mac in range(3, 12)])
    switch.apply(Desired(first))
    done = switch.apply(Desired(other))
    assert done.applied.counts == {"added": 2, "changed": 1, "removed": 3}
    assert len(dump(ovs)) == 9
    assert not switch.plan(Desired(other))


def test_strays_go_and_foreign_flows_stay(ovs: OvsInstance, switch: Switch) -> None:
    cookie = l2.DELIVER_ANY.cookie
    for flow in (
        f"cookie={cookie:#x},table=50,priority=50,reg0=5001/0xffffff,dl_dst=00:00:00:00:00:01,actions=output:9,output:8",
        f"cookie={cookie:#x},table=50,priority=51,dl_dst=00:00:00:00:00:01,actions=drop",
        "cookie=0x4f56000000000007,table=7,priority=7,tcp,tp_dst=7,reg3=5,actions=drop",
        "cookie=0x77,table=50,priority=9,dl_dst=00:00:00:00:00:01,actions=drop",
    ):
        ovs.ofctl("add-flow", "br0", flow)
    desired = Desired(owned([l2.DELIVER_ANY.row(5001, 1, 2)]))
    assert switch.plan(desired).counts == {"added": 1, "changed": 0, "removed": 3}
    switch.apply(desired)
    assert not switch.plan(desired)
    assert [line for line in dump(ovs) if "cookie=0x77," in line]
    assert len(dump(ovs)) == 2


@pytest.mark.parametrize("position", [0, 3])
def test_a_refused_flow_is_its_vpcs_affair(ovs: OvsInstance, switch: Switch, position: int) -> None:
    """Port 0xffffffff is no output (OFPBAC_BAD_OUT_PORT): its VPC keeps what it had, the other VPC moves on."""
    before = owned([l2.DELIVER_ANY.row(1, mac, 2) for mac in range(3)], "bad")
    switch.apply(Desired([*before, *owned([l2.DELIVER_ANY.row(2, 9, 2)], "good")]))
    bad = owned([l2.DELIVER_ANY.row(1, mac, 2) for mac in range(1, 6)], "bad")
    bad[position] = Owned(l2.DELIVER_ANY.row(1, 40, 0xFFFFFFFF), Subject("port", "bad", "culprit"))
    good = owned([l2.DELIVER_ANY.row(2, mac, 2) for mac in range(4)], "good")
    outcome = switch.apply(Desired([*bad, *good]), before=Desired(before))
    assert set(outcome.refused) == {"bad"}
    assert outcome.refused["bad"].flow.subject.name == "culprit"
    assert "vpcs.bad.ports.culprit" in str(outcome.refused["bad"])
    rows = set(switch.actual().rows.values())
    assert {flow.row for flow in before} <= rows
    assert {flow.row for flow in good} <= rows
    assert len(rows) == len(before) + len(good)
