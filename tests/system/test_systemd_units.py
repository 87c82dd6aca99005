"""The units in packaging/systemd: sound to systemd, and what they start runs, says that it is ready, and ends."""

from __future__ import annotations

import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from ovsnet.controller.client import ControllerClient
from tests.agent_kit import AgentHost

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "packaging" / "systemd").glob("*.service"))
MODULES = {"ovsnet-agent": "ovsnet.agent.main", "ovsnet-controller": "ovsnet.controller.main"}
RUN, STATE = Path("/run"), Path("/var/lib")


def settings(unit: Path) -> dict[str, str]:
    """What a unit says, by key; of a key that stands there twice the last."""
    lines = [line for line in unit.read_text().splitlines() if "=" in line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def verified(unit: Path) -> str:
    """What systemd has to say against a unit."""
    words = ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr + ("" if done.returncode == 0 else f"exit status {done.returncode}")


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_nothing_wrong(unit: Path, tmp_path: Path) -> None:
    assert verified(unit) == ""
    wrong = tmp_path / unit.name
    wrong.write_text(unit.read_text().replace("RestartSec=", "RestartSecs="))
    assert "RestartSecs" in verified(wrong), "the control: it looks"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_directories_are_those_that_the_program_uses(unit: Path) -> None:
    """What systemd makes, and leaves writable, is where the program writes by default."""
    said, module = settings(unit), MODULES[unit.stem]
    shown = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    text = re.sub(r"\s+", "", shown.stdout)
    assert f"default:{RUN / said['RuntimeDirectory']})" in text
    assert str(STATE / said["StateDirectory"]) in text


def command(unit: Path, variables: Mapping[str, str]) -> list[str]:
    """``ExecStart`` as systemd runs it (systemd.service(5)): ``${A}`` is one word, ``$A`` may be many."""
    words: list[str] = []
    for word in shlex.split(settings(unit)["ExecStart"]):
        if re.fullmatch(r"\$\w+", word):
            words += variables.get(word[1:], "").split()
        else:
            words.append(re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], ""), word))
    return words


def programs_of_the_tree(directory: Path) -> Path:
    """A directory with programs that run what is in the tree."""
    programs = directory / "bin"
    programs.mkdir()
    for name, module in MODULES.items():
        program = programs / name
        program.write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m {module} "$@"\n')
        program.chmod(0o755)
    return programs


@contextmanager
def started(
    unit: Path, directory: Path, variables: Mapping[str, str], programs: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """What the unit starts, once it has said that it is ready; it has to end well at SIGTERM, in the time it has.

    ``programs`` stands for /opt/ovsnet/bin, which is on the unit's PATH.
    """
    said, log = settings(unit), directory / "log"
    assert said["Type"] == "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, log.open("wb") as out:
        notify.bind(str(directory / "notify"))
        notify.settimeout(20)
        path = said["Environment"].removeprefix("PATH=").replace("/opt/ovsnet/bin", str(programs))
        environment = {"PATH": path, "NOTIFY_SOCKET": str(directory / "notify"), **variables}
        process = subprocess.Popen(command(unit, variables), env=environment, cwd="/", stdout=out, stderr=out)
        try:
            assert notify.recv(100) == b"READY=1", log.read_text()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(float(said["TimeoutStopSec"]))
    assert ended == 0, log.read_text()
    assert all(line.startswith("{") for line in log.read_text().splitlines()), "it logs JSON, as the unit says"


def unit_of(name: str) -> Path:
    return next(unit for unit in UNITS if unit.stem == name)


def test_the_controllers_unit_starts_it(tmp_path: Path) -> None:
    options = f"--run-dir {tmp_path} --store sqlite:///{tmp_path / 'c.db'}"
    with started(unit_of("ovsnet-controller"), tmp_path, {"OVSNET_OPTIONS": options}, programs_of_the_tree(tmp_path)):
        assert ControllerClient(tmp_path / "controller.sock").ready() == {"ready": True, "reasons": []}


@pytest.mark.root
def test_the_agents_unit_starts_it(tmp_path: Path) -> None:
    host = AgentHost()
    try:
        host.ovs.start()
        run, state = host.dir / "run", host.dir / "state"
        options = f"--ovsdb {host.ovs.db_target} --datapath netdev --run-dir {run} --state-dir {state}"
        names = {"OVSNET_HOST": "hv7", "OVSNET_VTEP": "10.0.0.17", "OVSNET_OPTIONS": options}
        with started(unit_of("ovsnet-agent"), tmp_path, names, programs_of_the_tree(tmp_path)):
            seen = host.client.host()
            assert (seen["host"], seen["vtep"]) == ("hv7", "10.0.0.17")
            host.client.close()
    finally:
        host.close()
