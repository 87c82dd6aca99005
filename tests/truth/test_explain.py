"""``explain`` names the rules that the independent reading names, for every combination of rules in the scenarios."""

from __future__ import annotations

from pathlib import Path

import pytest

from ovsnet.lab.expectation import Delivery, Expectation
from ovsnet.lab.filtering import Verdict
from ovsnet.reasons import Probe, explain
from ovsnet.trace import places
from tests.truth.reading import judge
from tests.truth.scenario import Cell, Scenario, Step, all_scenarios, model_of

PROTOCOLS = {"tcp": "tcp", "udp": "udp", "closed": "udp", "sctp": "sctp"}


def cells_of(meaning: Expectation, step: Step) -> dict[Cell, Delivery]:
    """Of all cells that the same rules decide, the first, with what the reading says of it.

    Those of link-local addresses and fragments are not asked about.
    """
    found: dict[object, tuple[Cell, Delivery]] = {}
    for cell in step.cells:
        if cell.family != "ll" and cell.service.kind != "fragments":
            meaning.forget()
            outcome, fate = judge(meaning, cell)
            found.setdefault((outcome, fate.egress, fate.ingress, cell.service.kind), (cell, fate))
    return dict(found.values())


def probe_of(cell: Cell) -> Probe:
    kind, number = cell.service.kind, cell.service.number
    family = int(cell.family)
    if kind == "icmp":
        return Probe(protocol="icmp", icmp=(number, 0), family=family)
    if kind == "proto":
        return Probe(protocol=number, family=family)
    return Probe(protocol=PROTOCOLS[kind], port=number, family=family)


def paths_of(judged: Verdict | None) -> set[str]:
    """The paths of the rules that decide, each of which may be named, or of groups that allow all egress."""
    if judged is None or not judged.rules:
        return {""}
    named = (rule.removesuffix(".default_egress").replace("[", ".rules[") for rule in judged.rules)
    return {f"vpcs.t.security_groups.{rule}" for rule in named}


@pytest.mark.parametrize("scenario", all_scenarios(), ids=lambda scenario: scenario.name)
def test_explain_names_the_rules_that_decide(scenario: Scenario, tmp_path: Path) -> None:
    wrong = []
    for number, step in enumerate(scenario.steps[:1]):
        model = model_of(step, tmp_path)
        for cell, fate in cells_of(Expectation(model), step).items():
            answer, _ = explain(model, places(model), f"t/{cell.src}", f"t/{cell.dst}", probe_of(cell))
            named: dict[str, str] = {end.direction: end.object for end in answer.ends}
            for direction, judged in (("egress", fate.egress), ("ingress", fate.ingress)):
                if named.get(direction, "") not in paths_of(judged):
                    wrong.append(f"step {number}: {cell}: at {direction} {named.get(direction)}, not {judged}")
            if answer.allowed != (fate.receiver is not None):
                wrong.append(f"step {number}: {cell}: {answer.reason}, not {fate.reason}")
    assert not wrong, "\n".join(wrong)
