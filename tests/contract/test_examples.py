"""The example scripts, run as a reader would run them, against a real switch."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from lxml import etree

from ovsnet.lab.ovs import OvsInstance

ROOT = Path(__file__).parents[2]
MODEL = "examples/models/two-hosts.yaml"
DOMAIN = Path("/usr/share/libvirt/schemas/domain.rng")  # of Debian's libvirt0


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    instance = OvsInstance(tmp_path_factory.mktemp("ex"), dummy=True)
    try:
        instance.start()
        instance.vsctl("add-br", "br0", "--", "set", "bridge", "br0", "datapath_type=dummy", "fail-mode=secure")
        yield instance.mgmt_target("br0")
    finally:
        instance.stop()


def run(script: str, *argv: str) -> str:
    done = subprocess.run(
        [sys.executable, f"examples/{script}", *argv], cwd=ROOT, env={"PYTHONPATH": str(ROOT)}, timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_library(target: str) -> None:
    printed = run("library.py", MODEL, "hv1", target).splitlines()
    assert printed[0].startswith("hv1 needs ")
    count = int(printed[0].split()[2])
    assert f"to do:   {{'added': {count}, 'changed': 0, 'removed': 0}}" in printed
    assert printed[-2:] == ["refused: []", "to do:   {'added': 0, 'changed': 0, 'removed': 0}"]


def test_app_hears_of_the_revision(target: str) -> None:
    printed = run("app.py", MODEL, "hv1", target)
    assert "connected to datapath " in printed
    assert " is enforced at revision 1" in printed


def test_app_is_as_short_as_promised() -> None:
    assert len((ROOT / "examples/app.py").read_text().splitlines()) <= 40


def test_libvirt_takes_the_domain() -> None:
    schema = etree.RelaxNG(etree.parse(DOMAIN))
    printed = run("libvirt/run.py")
    schema.assertValid(etree.fromstring(printed))
    wrong = printed.replace("interfaceid=", "interface=")
    assert not schema.validate(etree.fromstring(wrong)), "the control: another attribute is refused"


def test_the_table_names_every_example() -> None:
    found = {path.name for path in (ROOT / "examples").iterdir() if path.name not in {"README.md", "__pycache__"}}
    listed = set(re.findall(r"^\| \[(.+?)\]\(\1\)", (ROOT / "examples/README.md").read_text(), re.M))
    assert found - {"machines.py", "models"} == listed


@pytest.mark.parametrize("script", sorted(path.relative_to(ROOT) for path in ROOT.glob("examples/*/*.py")), ids=str)
def test_an_example_is_short(script: Path) -> None:
    assert len((ROOT / script).read_text().splitlines()) <= 60
