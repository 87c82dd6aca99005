"""The commands that look at, change and trace what runs, as a person or a script uses them; and how they end."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ovsnet.lab import netns
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.topology import prefix
from tests.agent_kit import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]

MODEL = """\
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
x-subnets: &subnets [{cidr: 192.168.1.0/24}, {cidr: "2001:db8:1::/64"}]
vpcs:
  shop:
    networks: {web: {vni: 5001, subnets: *subnets}}
    ports:
      web1: {network: web, host: hv1, ips: [192.168.1.11, "2001:db8:1::11"]}
      web2: {network: web, host: hv2, ips: [192.168.1.12, "2001:db8:1::12"]}
      web3: {network: web, host: hv2, ips: [192.168.1.13, "2001:db8:1::13"]}
  club:
    networks: {web: {subnets: *subnets}}
    ports:
      web1: {network: web, host: hv1, ips: [192.168.1.11, "2001:db8:1::11"]}
      bar: {network: web, host: hv2, ips: [192.168.1.22, "2001:db8:1::22"]}
"""
EDITED = MODEL.replace(
    '      web2: {network: web, host: hv2, ips: [192.168.1.12, "2001:db8:1::12"]}\n'
    '      web3: {network: web, host: hv2, ips: [192.168.1.13, "2001:db8:1::13"]}\n',
    '      web2: {network: web, host: hv1, ips: [192.168.1.12, "2001:db8:1::12"]}\n'
    '      web4: {network: web, host: hv2, ips: [192.168.1.14, "2001:db8:1::14"]}\n',
)
BROKEN = MODEL.replace("host: hv2, ips: [192.168.1.13", "host: hv9, ips: [192.168.1.12")


@dataclass
class Desk:
    """A directory with a model file, labs of its own, and the command."""

    dir: Path
    labs: list[str]

    @property
    def model(self) -> Path:
        return self.dir / "cloud.yaml"

    def command(self, *argv: str) -> list[str]:
        return [sys.executable, "-m", "ovsnet.cli", *argv]

    def __call__(self, *argv: str, code: int = 0, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*before, *self.command(*argv)], capture_output=True, text=True, timeout=60, check=False, cwd=self.dir
        )
        assert done.returncode == code, f"{argv}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stdout + done.stderr
        assert (code in {0, 1}) or (done.stderr.strip() and not done.stdout.strip()), (
            "a mistake is told on stderr alone"
        )
        return done

    def json(self, *argv: str, code: int = 0) -> Any:
        return json.loads(self(*argv, "--json", code=code).stdout)


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    one = Desk(Path(tempfile.mkdtemp(prefix="ovscli-")), [f"c{os.getpid()}a", f"c{os.getpid()}b"])
    patch = pytest.MonkeyPatch()
    patch.setenv("OVSNET_LAB_DIR", str(one.dir / "labs"))
    patch.setenv("PYTHONPATH", str(ROOT))
    one.model.write_text(MODEL)
    try:
        yield one
    finally:
        for name in one.labs:
            subprocess.run(one.command("lab", "down", "--name", name), capture_output=True, check=False)
        patch.undo()
        shutil.rmtree(one.dir)


@pytest.fixture
def lab(desk: Desk) -> Lab:
    """The desk's first lab, as the model says."""
    desk.model.write_text(MODEL)
    desk("lab", "up", str(desk.model), "--name", desk.labs[0])
    return Lab.open(desk.labs[0])


def flows(lab: Lab, host: str) -> dict[str, str]:
    """The switch's own account of its flows: table, priority and match to actions."""
    found = {}
    for line in lab.ovs(host).ofctl("dump-flows", INTEGRATION, "--no-stats").splitlines():
        head, actions = line.strip().split(" actions=")
        found[re.sub(r"^cookie=\S+ ", "", head)] = actions
    return found


def test_plan_apply_and_up_after_an_edit(desk: Desk, lab: Lab) -> None:
    model, where = str(desk.model), ("--lab", lab.name)
    assert desk("plan", model, *where, "--exit-code").stdout == "hv1  +0 ~0 -0\nhv2  +0 ~0 -0\n"
    desk.model.write_text(EDITED)
    before = {host: flows(lab, host) for host in ("hv1", "hv2")}
    plan = desk.json("plan", model, *where)
    assert desk("plan", model, *where, "--exit-code", code=1).stdout.startswith(
        "hv1  +{added} ~{changed} -{removed}\n".format(**plan["hv1"]["counts"])
    )
    assert {host: flows(lab, host) for host in ("hv1", "hv2")} == before, "a plan changes nothing"
    assert desk.json("apply", model, *where)["enforced"]
    for host, old in before.items():
        new = flows(lab, host)
        counts = {
            "added": len(new.keys() - old.keys()),
            "changed": sum(old[key] != new[key] for key in old.keys() & new.keys()),
            "removed": len(old.keys() - new.keys()),
        }
        assert plan[host]["counts"] == counts, host
        assert min(counts["added"], counts["removed"]) > 0
        assert all("# vpcs.shop" in line for line in plan[host]["added"]), "the other tenant is not concerned"
    assert desk("apply", model, *where).stdout.startswith("hv1: nothing to do\nhv2: nothing to do\n")
    desk("plan", model, *where, "--exit-code")
    # The workloads follow with ``lab up``, and then packets go where the edited model says.
    desk("lab", "up", model, "--name", lab.name)
    assert desk.json("lab", "test", "--name", lab.name)["ok"]
    ports = desk.json("lab", "status", "--name", lab.name)["ports"]
    assert {name: port["host"] for name, port in ports.items() if name.startswith("shop")} == {
        "shop/web1": "hv1",
        "shop/web2": "hv1",
        "shop/web4": "hv2",
    }


@pytest.mark.parametrize("command", ["plan", "apply", "up"])
def test_a_broken_model_changes_nothing(desk: Desk, lab: Lab, command: str) -> None:
    lock = desk.model.with_suffix(".lock.yaml")
    before = {host: flows(lab, host) for host in ("hv1", "hv2")}, lock.read_bytes(), desk.json("status")
    desk.model.write_text(BROKEN)
    words = ("lab", "up", "--name") if command == "up" else (command, "--lab")
    told = desk(*words, lab.name, str(desk.model), code=2).stderr
    assert f"{desk.model}:10:" in told
    assert "unknown-host" in told
    assert "duplicate-address" in told
    assert ({host: flows(lab, host) for host in ("hv1", "hv2")}, lock.read_bytes(), desk.json("status")) == before


def test_status(desk: Desk, lab: Lab) -> None:
    seen = desk.json("status", "--lab", lab.name)
    assert {host: one["ready"] for host, one in seen.items()} == {"hv1": True, "hv2": True}
    assert [port["port"] for port in seen["hv2"]["ports"]] == ["club/bar", "shop/web2", "shop/web3"]
    assert all(vpc["revision"] == vpc["enforced"] for one in seen.values() for vpc in one["vpcs"].values())
    lab.kill_agent("hv2")
    told = desk("status", "--lab", lab.name, code=1).stdout
    assert "no agent answers on" in told
    assert "hv1  ready" in told
    assert desk.json("status", "--lab", lab.name, code=1)["hv2"]["ready"] is False
    assert "agent does not run" in desk("lab", "status", "--name", lab.name, code=1).stdout
    for argv in (("plan", str(desk.model)), ("apply", str(desk.model)), ("trace", "shop/web1", "shop/web2")):
        assert "Is it running?" in desk(*argv, "--lab", lab.name, code=3).stderr
    desk("lab", "up", str(desk.model), "--name", lab.name)
    desk("status", "--lab", lab.name)


def test_an_agent_that_is_late(desk: Desk, lab: Lab) -> None:
    """``apply`` says that it is not enforced yet, and why, with its own exit code."""
    desk.model.write_text(EDITED)
    pid = lab.ovs("hv1").vswitchd_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        late = desk("apply", str(desk.model), "--lab", lab.name, "--wait", "1.5", code=1)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert re.search("^hv1: .*no answer (for|to)", late.stdout, re.MULTILINE)
    assert "hv2: enforced" in late.stdout
    until(lambda: all(one["ready"] for one in desk.json("status", "--lab", lab.name).values()))


def test_trace(desk: Desk, lab: Lab) -> None:
    where = ("--lab", lab.name)
    told = desk("trace", "shop/web1", "shop/web2", "--tcp", "80", *where).stdout
    assert "tcp 192.168.1.11 -> 192.168.1.12" in told
    assert told.count("the switch agrees") == 3  # the question, the frame on hv1 and on hv2
    assert "delivered to shop/web2 by ingress_verdict on hv2" in told
    for argv, target in (
        (("web1", "192.168.1.12"), "ambiguous"),
        (("web2", "web3"), "shop/web3"),
        (("shop/web1", "shop/web2", "-6"), "shop/web2"),
        (("shop/web1", "192.168.1.13"), "shop/web3"),
        (("shop/web1", "2001:db8:1::13", "--udp", "53"), "shop/web3"),
    ):
        if target == "ambiguous":
            assert "club/web1, shop/web1" in desk("trace", *argv, *where, code=2).stderr
            continue
        found = desk.json("trace", *argv, *where)
        assert (found["delivered"], found["reached"]) == (True, [target])
        assert {hop["switch"] for hop in found["hops"]} == {"agrees"}
        if "-6" in argv:
            assert any("2001:db8:1::12" in hop["what"] for hop in found["hops"])


@pytest.mark.parametrize("target", ["club/bar", "192.168.1.99", "2001:db8:1::99", "192.168.1.22"])
def test_trace_of_what_is_not_delivered(desk: Desk, lab: Lab, target: str) -> None:
    found = desk.json("trace", "shop/web1", target, "--lab", lab.name, code=1)
    assert (found["delivered"], found["reached"]) == (False, [])
    assert {hop["switch"] for hop in found["hops"]} == {"agrees"}
    assert found["reason"]
    assert found["decided_by"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("trace", "web9", "shop/web1"), "There is no port 'web9'"),
        (("trace", "shop/web1", "web9"), "There is no port 'web9'"),
        (("trace", "shop/web1", "192.168.1"), "192.168.1"),
        (("trace", "shop/web1", "192.168.1.300"), "192.168.1.300"),
        (("trace", "shop/web1", "fe80::zz"), "fe80::zz"),
        (("lab", "exec", "web1", "--", "true"), "web1"),
        (("lab", "exec", "nobody", "--", "true"), "nobody"),
        (("status", "--lab", "no-such-lab"), "no lab is named no-such-lab"),
        (("plan", "/no/such/model.yaml"), "/no/such/model.yaml"),
        (("status", "--socket", "/no/such.sock", "--lab", "x"), "exclude each other"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_mistakes(desk: Desk, lab: Lab, argv: tuple[str, ...], message: str) -> None:
    assert message in desk(*argv, code=2).stderr


def test_a_switch_that_differs_is_shown(desk: Desk, lab: Lab) -> None:
    where = ("trace", "shop/web1", "shop/web2", "--lab", lab.name)
    lab.ovs("hv1").ofctl("add-flow", INTEGRATION, "table=40,priority=999,actions=drop")
    try:
        told = desk(*where, code=1).stdout
        found = desk.json(*where, code=1)
        red = desk.json("lab", "test", "--name", lab.name, code=1)
    finally:
        lab.ovs("hv1").ofctl("del-flows", INTEGRATION, "cookie=0/-1")
    assert "THE SWITCH DIFFERS" in told
    assert [(hop["host"], hop["switch"]) for hop in found["hops"]] == [
        ("hv1", "agrees"),
        ("hv1", "differs"),
        ("hv2", "agrees"),
    ]
    assert "priority 999" in found["hops"][1]["ofproto_trace"]
    assert red["as_declared"] < red["total"]
    desk(*where)


@pytest.mark.parametrize("how", ["killed", "hanging"])
def test_a_switch_that_does_not_answer(desk: Desk, lab: Lab, how: str) -> None:
    pid = lab.ovs("hv2").vswitchd_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL if how == "killed" else signal.SIGSTOP)
    try:
        found = desk.json("trace", "shop/web1", "shop/web2", "--lab", lab.name, code=1)
        assert [(hop["host"], hop["switch"]) for hop in found["hops"]] == [
            ("hv1", "agrees"),
            ("hv1", "agrees"),
            ("hv2", "no answer"),
        ]
        assert "THE SWITCH DOES NOT ANSWER" in desk("trace", "shop/web1", "shop/web2", "--lab", lab.name, code=1).stdout
        # Nothing is new, and yet it is not in force.
        again = desk("apply", str(desk.model), "--lab", lab.name, "--wait", "0.3", code=1).stdout
        assert "hv1: nothing to do" in again
        assert "hv2: no OpenFlow connection" in again
    finally:
        if how == "hanging":
            os.kill(pid, signal.SIGCONT)
    if how == "killed":
        desk("lab", "up", str(desk.model), "--name", lab.name)
    assert "hv2: nothing to do" in desk("apply", str(desk.model), "--lab", lab.name).stdout
    assert desk.json("lab", "test", "--name", lab.name)["ok"]


def test_two_labs_side_by_side(desk: Desk, lab: Lab) -> None:
    first, second = desk.labs
    desk("lab", "up", str(desk.model), "--name", second)
    for argv in (("lab", "test"), ("lab", "status"), ("lab", "down"), ("status",), ("plan", str(desk.model))):
        told = desk(*argv, code=2).stderr
        assert first in told
        assert second in told
    assert desk.json("lab", "test", "--name", second)["ok"]
    desk("lab", "down", "--name", second)
    assert desk.json("lab", "test", "--name", first)["ok"]
    assert f"no lab is named {second}" in desk("lab", "status", "--name", second, code=2).stderr
    desk("lab", "status")


def test_not_root(desk: Desk) -> None:
    for argv in (("up", str(desk.model)), ("down", "--name", desk.labs[0])):
        assert "sudo" in desk("lab", *argv, code=2, before=("unshare", "--user")).stderr


def started(name: str) -> Callable[[], bool]:
    return lambda: len(netns.names(prefix(name))) >= 3


def agents_started(name: str, labs: Path) -> Callable[[], bool]:
    return lambda: bool(list((labs / name).glob("h/*/agent.lab-pid")))


@pytest.mark.parametrize("moment", ["namespaces", "agents"])
def test_interrupted_up_leaves_nothing(desk: Desk, moment: str) -> None:
    name = desk.labs[1]
    base = desk.dir / "labs"
    process = subprocess.Popen(
        desk.command("lab", "up", str(desk.model), "--name", name), stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    until(started(name) if moment == "namespaces" else agents_started(name, base), timeout=30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in out + err
    assert b"Interrupted" in err
    assert netns.names(prefix(name)) == []
    assert not (base / name).exists()
    inside = f"{base / name}/".encode()
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if inside in read(p)]


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
