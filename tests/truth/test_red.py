"""A compiler that is wrong turns the truth tables red: flows dropped, masks widened, zones swapped, one at a time.

The flows are made wrong in the switch, once the agents that would mend them are dead.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.patience import PATIENCE as SLOWNESS
from ovsnet.pipeline.tables import EGRESS_VERDICT, INGRESS_VERDICT, POLICY, RULES
from tests.mutation.mutants import Flow, mutants, read_flows
from tests.truth import bench as benches
from tests.truth.check import check, differences
from tests.truth.rig import Rig
from tests.truth.scenario import Scenario, model_of, named

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(120)]
HOST = "hv2"
Flows = list[Flow]
Wrong = Iterator[tuple[str, Flows]]


def dropped(flows: Flows) -> Wrong:
    """Each rule that let something pass, gone."""
    for flow in flows:
        if flow.table == RULES.id and flow.packets and any(action.startswith("load:0x1->") for action in flow.actions):
            yield flow.text, [other for other in flows if other is not flow]


def widened(flows: Flows) -> Wrong:
    """The ranges 1024-1025 and 65534-65535 with one bit less."""
    for mutant in mutants(flows, [1, 2], 0):
        if mutant.kind == "wider mask" and re.search(r"ct_tp_dst=(0x400|0xfffe)/0xfffe,", mutant.flow.text + ","):
            assert mutant.wrong is not None
            yield str(mutant), [mutant.wrong if other is mutant.flow else other for other in flows]


def swapped(flows: Flows) -> Wrong:
    """The zones of two ports with different rules, and of connections when they are remembered."""
    one, other = [flow for flow in flows if flow.table == POLICY.id and flow.priority][:2]
    yield (
        f"{one.text} <=> {other.text}",
        [
            *(flow for flow in flows if flow not in (one, other)),
            replace(one, actions=other.actions),
            replace(other, actions=one.actions),
        ],
    )
    for flow in flows:
        if flow.table in (EGRESS_VERDICT.id, INGRESS_VERDICT.id) and flow.packets and "commit" in flow.text:
            wrong = [action.replace("NXM_NX_REG2[0..15]", "NXM_NX_REG1[0..15]") for action in flow.actions]
            yield flow.text, [replace(flow, actions=tuple(wrong)) if other is flow else other for other in flows]


@pytest.fixture
def rig(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    name = f"red{os.getpid()}"
    try:
        made = Rig(Lab.up(model_of(named(request.param).steps[0], tmp_path), name))
        yield made
        made.bench.close()
    finally:
        with contextlib.suppress(UserError):
            down(name)


@pytest.mark.parametrize(
    ("rig", "scenario", "ways", "least"),
    [
        ("port-ranges-edges", named("port-ranges-edges"), dropped, 8),
        ("port-ranges-edges", named("port-ranges-edges"), widened, 2),
        ("remote-group", named("remote-group"), swapped, 2),
    ],
    ids=["dropped", "widened", "swapped"],
    indirect=["rig"],
)
def test_every_wrong_flow_turns_the_table_red(
    rig: Rig,
    scenario: Scenario,
    ways: Callable[[Flows], Wrong],
    least: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not differences(rig, scenario, tmp_path)
    monkeypatch.setattr(benches, "PATIENCE", 1.0 * SLOWNESS)  # what is red stays red
    for host in rig.lab.topology.hosts:
        rig.lab.kill_agent(host)
    right = read_flows(rig.lab.ovs(HOST).ofctl("dump-flows", INTEGRATION))
    hiding, tried = [], 0
    for said, wrong in ways(right):
        write(rig, wrong)
        tried += 1
        if not check(rig, scenario, scenario.steps[0]):
            hiding.append(said)
    assert tried >= least, "the ways to be wrong were not found"
    assert not hiding, "\n".join(hiding)
    write(rig, right)
    assert not check(rig, scenario, scenario.steps[0]), "the control: as compiled, it is right again"


def write(rig: Rig, flows: Flows) -> None:
    """Put flows in the place of what the switch has, and let it forget what it knew by the others."""
    text = "\n".join(flow.text for flow in flows).encode()
    rig.lab.ovs(HOST).ofctl("replace-flows", INTEGRATION, "-", stdin=text)
    rig.lab.ovs(HOST).appctl("revalidator/purge")
    rig.forget_connections()
