"""The tutorial, command by command as it is written: from the tree, and from the wheel outside of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.package_kit import build_all, installed
from tests.pages_kit import follow
from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PAGE = "docs/tutorial.md"


def test_the_tutorial_does_what_it_shows(lab_name: str) -> None:
    follow(PAGE, lab_name)
    assert left_of(lab_name) == []


def test_the_tutorial_works_with_what_is_installed(
    lab_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    prefix = installed(build_all(tmp_path).wheel, tmp_path / "opt")
    follow(PAGE, lab_name, prefix / "bin")
    assert left_of(lab_name) == []
