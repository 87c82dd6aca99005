"""For the tests of the examples: scripts are run as their READMEs say, and held to the output that is written there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ovsnet.model import Lock, Model, assign, load

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"


def run(*argv: str, inside: Sequence[str] = ()) -> str:
    """What a script prints; it is started from the project's directory, by the command ``inside`` if there is one."""
    done = subprocess.run(
        [*inside, sys.executable, *argv], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=280,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def as_written(example: str, printed: str) -> list[float]:
    """The numbers for which the README has ``...``. Fails if anything else is not as it is written there."""
    shown = re.search(r"^Output:\n\n```text\n(.*?)^```$", (EXAMPLES / example / "README.md").read_text(), re.M | re.S)
    assert shown, f"examples/{example}/README.md shows no output"
    same = re.fullmatch(re.escape(shown[1]).replace(r"\.\.\.", r"(\d+(?:\.\d+)?)"), printed)
    assert same or printed == shown[1]
    return [float(number) for number in same.groups()] if same else []


def model_of(file: str) -> Model:
    """An example's model, with everything assigned."""
    return assign(load([EXAMPLES / file]), Lock())[0]


def imports_of(script: str) -> set[str]:
    """The packages that a script of the examples imports."""
    return set(re.findall(r"^\s*(?:from|import) (\w+)", (EXAMPLES / script).read_text(), re.M))
