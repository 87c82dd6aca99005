"""The tree that is tested, and the files in it that belong to the project."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = {".venv", "__pycache__", "build", "dist", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
"""Directories that tools make: what .gitignore names."""


def files_of_the_tree() -> list[str]:
    """Every file of the project, from the tree's root: git's list, or without git all but what tools make. Sorted."""
    if (ROOT / ".git").exists() and shutil.which("git"):
        words = [
            "git",
            "-c",
            "safe.directory=*",
            "-C",
            str(ROOT),
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]
        listed = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        return sorted(name for name in listed if (ROOT / name).is_file())
    found = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return sorted(str(path) for path in found if not any(part in MADE or ".egg-info" in part for part in path.parts))


def copy_tree(place: Path) -> None:
    """Copy every file of the project into a directory, which is made if it is not there."""
    for name in files_of_the_tree():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
