"""The examples, run as their READMEs say: what they print is what is written there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def written(example: str) -> str:
    """The output that an example's README shows; ``...`` in it stands for what differs from run to run."""
    found = re.search(r"^Output:\n\n```text\n(.*?)^```$", (EXAMPLES / example / "README.md").read_text(), re.M | re.S)
    assert found, f"examples/{example}/README.md shows no output"
    return found[1]


def as_written(example: str, printed: str) -> None:
    """Fail where what was printed differs from the README."""
    checker, wanted = doctest.OutputChecker(), doctest.Example("", written(example))
    same = checker.check_output(wanted.want, printed, doctest.ELLIPSIS)
    assert same, checker.output_difference(wanted, printed, doctest.ELLIPSIS | doctest.REPORT_NDIFF)


def run(script: str, *argv: str) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *argv], env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=100,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("example", ["two-tenants", "tiers", "ipv6-only", "twenty-hosts"])
def test_a_lab_does_what_its_readme_shows(lab_name: str, example: str) -> None:
    as_written(example, run(f"{example}/run.py", lab_name))
    assert left_of(lab_name) == []
