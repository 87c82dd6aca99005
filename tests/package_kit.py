"""For tests of the package: built of a copy of the tree, and installed in an environment of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from ovsnet._version import VERSION
from tests.tree import copy_tree


@dataclass(frozen=True)
class Built:
    """What a build made: the source distribution, a wheel of it, and a wheel of the tree itself."""

    sdist: Path
    wheel: Path
    direct: Path


def build_all(place: Path) -> Built:
    """Built in a directory, of a copy of the tree, since a build leaves its traces."""
    tree, out, direct = (place / name for name in ("tree", "out", "direct"))
    copy_tree(tree)
    _build(tree, out)
    _build(tree, direct, "--wheel")
    name = f"ovsnet-{VERSION}"
    wheel = f"{name}-py3-none-any.whl"
    return Built(out / f"{name}.tar.gz", out / wheel, direct / wheel)


def _build(source: Path, out: Path, *options: str) -> None:
    words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(source)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def installed(wheel: Path, place: Path) -> Path:
    """A virtual environment with the wheel in it, beside the packages that it depends on."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    pip = [sys.executable, "-I", "-m", "pip", "--python", str(place / "bin/python"), "--disable-pip-version-check"]
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)]
    subprocess.run(install, check=True, env=outside, cwd=place)
    packages = next(place.glob("lib/python*/site-packages"))
    (packages / "dependencies.pth").write_text(f"{sysconfig.get_path('platlib')}\n")
    return place
