"""Truth tables with real connections: every scenario in one lab that stays up, its model changed from step to step."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.lab.lab import Lab, down
from tests.truth.check import differences
from tests.truth.rig import Rig
from tests.truth.scenario import Scenario, all_scenarios, model_of

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    name = f"truth{os.getpid()}"
    directory = tmp_path_factory.mktemp("first")
    try:
        made = Rig(Lab.up(model_of(all_scenarios()[0].steps[0], directory), name))
        yield made
        made.bench.close()
    finally:
        with contextlib.suppress(UserError):
            down(name)


@pytest.mark.parametrize(
    "scenario", [one for one in all_scenarios() if not one.kernel], ids=lambda scenario: scenario.name
)
def test_connections_are_as_the_scenario_says(rig: Rig, scenario: Scenario, tmp_path: Path) -> None:
    problems = differences(rig, scenario, tmp_path)
    assert not problems, "\n".join(problems)
