"""The package: built, installed in a clean environment, and used from an empty directory outside the tree."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovsnet._version import VERSION
from ovsnet.controller.client import ControllerClient
from tests.agent_kit import AgentHost
from tests.package_kit import Built, build_all, installed
from tests.system.test_lab_lifecycle import left_of
from tests.system.test_systemd_units import started
from tests.tree import ROOT, files_of_the_tree

pytestmark = [pytest.mark.timeout(180)]
DATA = {
    "packaging/systemd/*.service": "lib/systemd/system",
    "packaging/systemd/*.env": "share/doc/ovsnet",
    "packaging/man/*.1": "share/man/man1",
    "packaging/man/*.8": "share/man/man8",
    "examples/models/*.yaml": "share/doc/ovsnet/examples/models",
}
"""What is installed below the prefix, and where."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_all(tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def prefix(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return installed(built.wheel, tmp_path_factory.mktemp("opt") / "ovsnet")


@pytest.fixture
def away(tmp_path: Path, prefix: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to be in, with the installed programs on the path, and nothing that leads to the tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    monkeypatch.setenv("PATH", f"{prefix / 'bin'}:{os.environ['PATH']}")
    return tmp_path


def said(*words: str) -> str:
    """The output of a command, which has to succeed."""
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_source_distribution_is_the_tree(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        files = {one.name.partition("/")[2]: one for one in archive if one.isfile()}
    made = {name for name in files if name.startswith("ovsnet.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert set(files) - made == set(files_of_the_tree())
    assert all(files[name].mode & 0o111 for name in ("demo", "test"))


def test_the_source_distribution_builds_the_same_wheel(built: Built) -> None:
    contents = []
    for wheel in (built.wheel, built.direct):
        with zipfile.ZipFile(wheel) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist()})
    assert contents[0] == contents[1]


def test_the_wheel_has_the_package_and_its_data_and_nothing_else(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = [name for name in archive.namelist() if not name.startswith(f"ovsnet-{VERSION}.dist-info/")]
        metadata = archive.read(f"ovsnet-{VERSION}.dist-info/METADATA").decode()
        assert f"ovsnet-{VERSION}.dist-info/licenses/LICENSE" in archive.namelist()
    expected = [name for name in files_of_the_tree() if name.startswith("ovsnet/")]
    for pattern, place in DATA.items():
        found = sorted(ROOT.glob(pattern))
        assert found, pattern
        expected += [f"ovsnet-{VERSION}.data/data/{place}/{path.name}" for path in found]
    assert sorted(names) == sorted(expected)
    assert "License-Expression: Apache-2.0\n" in metadata
    assert metadata.endswith((ROOT / "README.md").read_text())


@pytest.mark.usefixtures("away")
def test_the_programs_are_the_installed_ones(prefix: Path) -> None:
    for name in ("ovsnet", "ovsnet-agent", "ovsnet-controller"):
        assert said(name, "--version") == f"{name} {VERSION}\n"
        assert "Usage: " in said(name, "--help").replace("usage", "Usage")
    where = said(str(prefix / "bin/python"), "-c", "import ovsnet; print(ovsnet.__file__)")
    assert Path(where.strip()).is_relative_to(prefix)


@pytest.mark.usefixtures("away")
def test_a_model_is_checked_and_compiled(prefix: Path) -> None:
    model = str(prefix / "share/doc/ovsnet/examples/models/demo.yaml")
    assert said("ovsnet", "check", model) == "demo: 3 hosts, 2 vpcs, 4 networks, 10 ports, 0 unplaced.\n"
    flows = json.loads(said("ovsnet", "compile", model, "--host", "hv1", "--json"))
    assert any(flow["object"] == "vpcs.red.ports.web1" for flow in flows)
    example = said(str(prefix / "bin/python"), str(ROOT / "examples/library.py"), model, "hv1")
    assert example.startswith(f"hv1 needs {len(flows)} flows")


def test_types_are_seen_from_outside(away: Path, prefix: Path) -> None:
    program = away / "program.py"
    program.write_text("import ovsnet\nmodel = ovsnet.load(['m.yaml'])\nreveal_type(model)\nmodel.nonsense\n")
    words = ["--strict", "--cache-dir", str(away / "cache"), "--python-executable", str(prefix / "bin/python")]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, str(program)], capture_output=True, text=True, check=False
    )
    assert 'Revealed type is "ovsnet.model.types.Model"' in done.stdout, done.stdout + done.stderr
    assert 'has no attribute "nonsense"' in done.stdout
    assert "Found 1 error in 1 file" in done.stdout, "nothing is wrong with the package's own types"


def unit(prefix: Path, name: str) -> Path:
    return prefix / "lib/systemd/system" / f"{name}.service"


@contextmanager
def agent_host() -> Iterator[AgentHost]:
    host = AgentHost()
    try:
        host.ovs.start()
        yield host
    finally:
        host.close()


@pytest.mark.usefixtures("away")
def test_the_controllers_unit_starts_the_installed_one(prefix: Path, tmp_path: Path) -> None:
    options = f"--run-dir {tmp_path} --store sqlite:///{tmp_path / 'c.db'}"
    with started(unit(prefix, "ovsnet-controller"), tmp_path, {"OVSNET_OPTIONS": options}, prefix / "bin"):
        assert ControllerClient(tmp_path / "controller.sock").ready() == {"ready": True, "reasons": []}


@pytest.mark.root
@pytest.mark.usefixtures("away")
def test_the_agents_unit_starts_the_installed_one_as_the_example_says(prefix: Path, tmp_path: Path) -> None:
    lines = (prefix / "share/doc/ovsnet/agent.env").read_text().splitlines()
    names = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    with agent_host() as host:
        options = f"--ovsdb {host.ovs.db_target} --datapath netdev"
        names["OVSNET_OPTIONS"] += f"{options} --run-dir {host.dir / 'run'} --state-dir {host.dir / 'state'}"
        with started(unit(prefix, "ovsnet-agent"), tmp_path, names, prefix / "bin"):
            seen = host.client.host()
            assert (seen["host"], seen["vtep"]) == ("hv1", "10.0.0.11")
            host.client.close()


@pytest.mark.root
@pytest.mark.usefixtures("away")
def test_a_lab_lives_and_goes(prefix: Path, lab_name: str) -> None:
    model = prefix / "share/doc/ovsnet/examples/models/two-hosts.yaml"
    assert f"lab {lab_name}: 2 hosts" in said("ovsnet", "lab", "up", str(model), "--name", lab_name)
    status = json.loads(said("ovsnet", "lab", "status", "--name", lab_name, "--json"))
    for host in status["hosts"].values():
        command = Path(f"/proc/{host['agent_pid']}/cmdline").read_bytes().split(b"\0")
        assert command[0].decode() == str(prefix / "bin/python")
    assert json.loads(said("ovsnet", "lab", "test", "--name", lab_name, "--json"))["ok"]
    said("ovsnet", "lab", "down", "--name", lab_name)
    assert left_of(lab_name) == []
