"""The shell completes names: bash, with the function that ``ovsnet`` gives it, of model files, labs and agents."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from ovsnet.lab.lab import Lab
from ovsnet.model.types import Model
from tests.agent_kit import AgentHost, state
from tests.tree import ROOT

MODELS = ROOT / "examples/models"
ASK = """
eval "$(_OVSNET_COMPLETE=source_bash ovsnet)"
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
function=$(complete -p ovsnet | sed -E 's/.* -F (\\S+) .*/\\1/')
$function ovsnet "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*words: str, **environment: str) -> list[str]:
    """What bash offers for the last of the words behind ``ovsnet``. Fails if anything is said besides."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = os.environ | {"PATH": path, "PYTHONPATH": str(ROOT), "OVSNET_LAB_DIR": "/nonexistent"}  # others run labs
    done = subprocess.run(
        ["bash", "--norc", "-c", ASK, "bash", "ovsnet", *words],
        env=env | environment, cwd=MODELS, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stderr == ""
    return done.stdout.split()


SHOP = ["shop/web1", "shop/web2", "shop/db1", "shop/dns1", "shop/desk1", "shop/guest1"]


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("explain -m shop.yaml ,", SHOP),
        ("explain -m shop.yaml web1 shop/d", ["shop/db1", "shop/dns1", "shop/desk1"]),
        ("trace --model shop.yaml we", ["web1", "web2"]),
        ("trace -m demo.yaml we", []),  # red's and blue's: neither is meant by that name
        ("trace -m demo.yaml red/w", ["red/web1", "red/web2", "red/web3"]),
        ("port xml -m demo.yaml blue/db", ["blue/db1", "blue/db2"]),
        ("port list -m demo.yaml --vpc b", ["blue"]),
        ("port list -m demo.yaml -m two-hosts.yaml --host ,", ["hv1", "hv2", "hv3"]),
        ("compile demo.yaml --host ,", ["hv1", "hv2", "hv3"]),
        ("compile demo.yaml -H hv3", ["hv3"]),
        ("compile --host ,", []),
        ("explain -m gone.yaml ,", []),
        ("explain -m ../library.py ,", []),
    ],
)
def test_names_of_a_model_file(line: str, names: list[str]) -> None:
    assert offered(*("" if word == "," else word for word in line.split())) == names


def test_a_model_need_not_be_right(tmp_path: Path) -> None:
    model = tmp_path / "m.yaml"
    model.write_text("version: 7\nhosts: {hv1: {}, hv2: 3}\nvpcs: {a: {ports: {p1: {}, p2: }}, b: [], c: {ports: x}}\n")
    assert offered("compile", str(model), "--host", "h") == ["hv1", "hv2"]
    assert offered("explain", "-m", str(model), "a/") == ["a/p1", "a/p2"]
    site = tmp_path / "site.yaml"
    site.write_text("version: 1\nhosts: {lab1: {vtep: 10.0.0.1}}\n")
    assert offered("compile", str(model), "--site", str(site), "--host", "") == ["lab1"]


def test_a_model_that_is_too_large_is_left_alone(tmp_path: Path) -> None:
    model = tmp_path / "m.yaml"
    model.write_text("version: 1\nhosts: {hv1: {}}\n# " + 256 * 1024 * "x")
    assert offered("compile", str(model), "--host", "") == []


def test_it_is_quick_with_the_largest_model_that_is_read(tmp_path: Path) -> None:
    line = (
        '    p{}: {{network: web, host: hv1, mac: "02:00:00:00:01:01", ips: [192.168.1.11], security_groups: [web]}}\n'
    )
    model = tmp_path / "m.yaml"
    text = "version: 1\nvpcs:\n  a:\n   ports:\n"
    model.write_text(text + "".join(line.format(number) for number in range(2300)))
    assert 200 * 1024 < model.stat().st_size < 256 * 1024
    env = {"_OVSNET_COMPLETE": "complete_bash", "COMP_WORDS": f"ovsnet explain -m {model} a/p22", "COMP_CWORD": "4"}
    command = [str(Path(sys.executable).parent / "ovsnet")]
    before = os.times()
    done = subprocess.run(
        command, env=os.environ | env | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    after = os.times()
    assert len(done.stdout.split()) == 111, done.stderr
    computed = after.children_user + after.children_system - before.children_user - before.children_system
    assert computed < 0.5, "seconds of a processor's time, however busy the machine is"


@pytest.fixture
def labs() -> Iterator[str]:
    """A place for labs that nobody else has, short enough for their sockets."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        yield place


@pytest.mark.root
def test_names_of_labs_and_of_the_one_that_runs(
    lab_name: str, cloud: Model, monkeypatch: pytest.MonkeyPatch, labs: str
) -> None:
    monkeypatch.setenv("OVSNET_LAB_DIR", labs)
    lab = Lab.up(cloud, lab_name, agents=False)
    here = partial(offered, OVSNET_LAB_DIR=labs)
    try:
        ports = [f"acme/web{number}" for number in (1, 2, 3)]
        assert here("lab", "exec", "ac") == ports
        assert here("lab", "exec", "--name", "", "x") == []
        assert here("lab", "exec", "--name", lab_name[:1]) == [lab_name]
        assert here("trace", "--lab", lab_name, "acme/web1", "ac") == ports
        assert here("lab", "partition", "") == ["hv1", "hv2"]
        assert here("lab", "kill", "") == ["controller", "nats", "hv1", "hv2"]
        assert here("explain", "-m", "shop.yaml", "") == SHOP, "a model that is named comes first"
    finally:
        lab.down()


@pytest.mark.root
def test_names_of_an_agent() -> None:
    host = AgentHost()
    try:
        host.ovs.start()
        host.start()
        host.client.put(state(local=1, remote=2))
        socket = ("--socket", str(host.dir / "run/agent.sock"))
        assert offered("explain", *socket, "") == ["shop/p1"], "the host's own"
        assert offered("explain", *socket, "p1", "shop/") == ["shop/p1", "shop/p2", "shop/p3"]
        host.end()
        assert offered("explain", *socket, "") == [], "nobody answers"
    finally:
        host.close()
