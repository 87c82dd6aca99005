"""For tests of pages whose commands run (scripts/pages.py): each in a directory and with a lab name of its own."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.lab import record
from ovsnet.lab.lab import down
from scripts.pages import LABS, File, Reader, steps, surroundings
from tests.tree import ROOT

HERE = Path(sys.executable).parent
"""Where the tree's own programs are."""


def follow(page: str, lab: str, programs: Path = HERE, also: dict[str, str] | None = None) -> None:
    """Do what a page says, and compare what its commands print.

    A lab of the page is called ``lab`` here, and nothing is left of it. ``also``: further words of the page, and what
    stands for them here.
    """
    todo = list(steps((ROOT / page).read_text()))
    names = [re.search(r"^name: (\S+)$", one.text, re.M) for one in todo if isinstance(one, File)]
    aliases = {name[1]: lab for name in names if name}
    with tempfile.TemporaryDirectory(dir="/tmp") as place, tempfile.TemporaryDirectory(dir="/tmp") as labs:
        environment = surroundings(programs, Path(labs))
        environment |= {"PYTHONPATH": str(ROOT)} if programs == HERE else {}
        try:
            Reader(Path(place), environment, {LABS: labs, **aliases, **(also or {})}).read(todo)
        finally:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("OVSNET_LAB_DIR", labs)
                for left in record.labs():
                    with contextlib.suppress(UserError):
                        down(left)
