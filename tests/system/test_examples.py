"""The examples that bring up a lab of their own: what they print is what their READMEs show."""

from __future__ import annotations

import pytest

from tests.examples_kit import as_written, run
from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@pytest.mark.parametrize("example", ["two-tenants", "tiers"])
def test_a_lab_does_what_its_readme_shows(lab_name: str, example: str) -> None:
    as_written(example, run(f"examples/{example}/run.py", lab_name))
    assert left_of(lab_name) == []


def test_nothing_but_ipv6_is_on_the_wire(lab_name: str) -> None:
    (frames,) = as_written("ipv6-only", run("examples/ipv6-only/run.py", lab_name))
    assert frames >= 30, "three of four pings go over a tunnel, five times there and back"
    assert left_of(lab_name) == []


def test_twenty_hosts_have_the_flows_that_are_declared(lab_name: str) -> None:
    numbers = as_written("twenty-hosts", run("examples/twenty-hosts/run.py", lab_name))
    assert numbers[0::2] == numbers[1::2]
    assert left_of(lab_name) == []


@pytest.mark.alone
def test_a_machine_moves_while_it_is_pinged(lab_name: str) -> None:
    received, _ = as_written("migration", run("examples/migration/run.py", lab_name))
    assert received >= 245
    assert left_of(lab_name) == []
