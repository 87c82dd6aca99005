"""The scenarios and the independent reading say the same, cell by cell and rule by rule: no switch needed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.truth.reading import problems
from tests.truth.scenario import Scenario, all_scenarios, model_of

SCENARIOS = all_scenarios()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_the_reading_agrees_with_the_scenario(scenario: Scenario, tmp_path: Path) -> None:
    found = []
    for number, step in enumerate(scenario.steps):
        found += [f"step {number}: {line}" for line in problems(model_of(step, tmp_path), step.cells)]
    assert not found, "\n".join(found)


def test_there_are_many_scenarios_of_every_verdict() -> None:
    verdicts = {said.verdict for one in SCENARIOS for step in one.steps for said in step.cells.values()}
    assert verdicts == {"allow", "oneway", "reject", "drop"}
    assert len(SCENARIOS) >= 40
