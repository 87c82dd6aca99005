"""Every code of the table of problems, on every kind of object it applies to: a model, and what is said about it.

The text beside each input is the expected output; running this file writes it anew, for reading in the diff.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from ovsnet.model import Lock, ModelError, Problem, assign, check_state, decode_state, load, load_assigned
from ovsnet.model.problems import PROBLEMS

GOLDENS = Path(__file__).parents[1] / "golden" / "errors"
INPUTS = sorted(path for path in GOLDENS.iterdir() if path.is_dir() or path.suffix in {".yaml", ".json"})
SHAPES = (
    ("allowed_address", r"vpcs\S+\.allowed_addresses\[\d+\].*"),
    ("remote", r"vpcs\S+\.rules\[\d+\]\.remote.*"),
    ("rule", r"vpcs\S+\.rules\[\d+\].*"),
    ("security_group", r"vpcs(\.[^.\[]+|\['[^']+'\])\.security_groups[.\[].+"),
    ("address_group", r"vpcs(\.[^.\[]+|\['[^']+'\])\.address_groups[.\[].+"),
    ("floating_ip", r"vpcs(\.[^.\[]+|\['[^']+'\])\.floating_ips[.\[].+"),
    ("port", r"vpcs(\.[^.\[]+|\['[^']+'\])\.ports[.\[].+"),
    ("subnet", r"vpcs(\.[^.\[]+|\['[^']+'\])\.networks[.\[].+\.subnets\[\d+\].*"),
    ("network", r"vpcs(\.[^.\[]+|\['[^']+'\])\.networks[.\[].+"),
    ("next_hop", r"vpcs(\.[^.\[]+|\['[^']+'\])\.routers[.\[].+\.routes\[\d+\]\.via.*"),
    ("route", r"vpcs(\.[^.\[]+|\['[^']+'\])\.routers[.\[].+\.routes\[\d+\].*"),
    ("router", r"vpcs(\.[^.\[]+|\['[^']+'\])\.routers[.\[].+"),
    ("vpc", r"vpcs[.\[].+"),
    ("provider_network", r"provider_networks[.\[].+"),
    ("host", r"hosts[.\[].+"),
    ("underlay", r"underlay.*"),
    ("model", r".*"),
)


def split(path: Path) -> tuple[str, str]:
    """The code and the kind of object that an input's name gives: ``CODE-KIND[.VARIANT]``."""
    code, _, kind = path.name.split(".")[0].rpartition("-")
    return code, kind


def kind_of(path: str) -> str:
    return next(kind for kind, shape in SHAPES if re.fullmatch(shape, path))


def problems_of(path: Path) -> list[Problem]:
    """All that is said about an input; files are named from the goldens' directory."""
    code, kind = split(path)
    os.chdir(GOLDENS)
    name = Path(path.name)
    try:
        if kind == "state":
            return check_state(decode_state(name.read_bytes(), path.name))
        site = name / "site" / "site.yaml"
        model = load(name, site if site.exists() else None)
        if code in {"assignment-missing", "subnet-full"}:
            load_assigned(name, write=code == "subnet-full")
        assign(model, Lock())
    except ModelError as error:
        return list(error.problems)
    return []


@pytest.mark.parametrize("path", INPUTS, ids=lambda path: path.name)
def test_golden(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDENS)
    code, kind = split(path)
    problems = problems_of(path)
    assert any(
        one.code == code and (kind in {"file", "lock", "state"} or kind_of(one.path) == kind) for one in problems
    ), f"{path.name} does not show {code} for a {kind}"
    text = "".join(f"{problem}\n" for problem in problems)
    assert text == GOLDENS.joinpath(f"{path.name}.txt").read_text()


def test_every_code_has_a_golden_for_every_kind() -> None:
    wanted = {(code, kind) for code, one in PROBLEMS.items() for kind in one.applies_to}
    assert {split(path) for path in INPUTS} == wanted


def test_no_golden_is_left_over() -> None:
    expected = {f"{path.name}.txt" for path in INPUTS}
    assert {path.name for path in GOLDENS.glob("*.txt")} == expected


if __name__ == "__main__":
    for one in INPUTS:
        GOLDENS.joinpath(f"{one.name}.txt").write_text("".join(f"{problem}\n" for problem in problems_of(one)))
        sys.stdout.write(f"{one.name}\n")
