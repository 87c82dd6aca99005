"""``ovsnet lab`` as a person or a script uses it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.agent_kit import until
from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]


HASTY = {"OVSNET_LAB_PATIENCE": "0.3"}
"""What a red matrix waits for never comes."""


def ovsnet(*argv: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "ovsnet.cli", *argv], env=env, capture_output=True, text=True, timeout=90, check=False
    )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "shop.yaml"
    path.write_text(
        "version: 1\n"
        "hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}\n"
        "vpcs:\n"
        "  shop:\n"
        "    networks: {web: {subnets: [{cidr: 192.168.1.0/24}]}}\n"
        "    ports:\n"
        "      web1: {network: web, host: hv1}\n"
        "      web2: {network: web, host: hv2}\n"
        "      spare: {network: web}\n"
    )
    return path


def test_the_life_of_a_lab(lab_name: str, model: Path) -> None:
    up = ovsnet("lab", "up", str(model), "--name", lab_name)
    assert up.returncode == 0, up.stderr
    assert f"lab {lab_name}: 2 hosts, 2 ports, all in force." in up.stdout
    assert model.with_suffix(".lock.yaml").exists()
    status = json.loads(ovsnet("lab", "status", "--name", lab_name, "--json").stdout)
    assert status["healthy"]
    for host in status["hosts"].values():
        assert Path(f"/proc/{host['agent_pid']}").exists()
        assert Path(f"/proc/{host['vswitchd_pid']}").exists()
        assert Path(host["run_dir"]).is_dir()
        assert host["revision"] == 1
    there = status["ports"]["shop/web2"]["addresses"][0].split("/")[0]
    ping = ovsnet("lab", "exec", "web1", "--name", lab_name, "--", "ping", "-c1", "-W2", there)
    assert ping.returncode == 0, ping.stdout
    assert ovsnet("lab", "exec", "--name", lab_name, "shop/web1", "--", "sh", "-c", "exit 9").returncode == 9
    tested = ovsnet("lab", "test", "--name", lab_name)
    assert tested.returncode == 0, tested.stdout
    assert "4 of 4 as declared, 2 allowed, 2 forbidden" in tested.stdout
    spare = ovsnet("lab", "exec", "spare", "--name", lab_name, "--", "true")
    assert (spare.returncode, "has no host" in spare.stderr) == (2, True)
    assert ovsnet("lab", "down", "--name", lab_name).returncode == 0
    assert left_of(lab_name) == []


def test_a_red_matrix_has_an_exit_code_and_details(lab_name: str, model: Path) -> None:
    assert ovsnet("lab", "up", str(model), "--name", lab_name).returncode == 0
    status = json.loads(ovsnet("lab", "status", "--name", lab_name, "--json").stdout)
    host = status["hosts"]["hv2"]
    os.kill(host["agent_pid"], 9)
    target = f"unix:{host['run_dir']}/br-int.mgmt"
    subprocess.run(["ovs-ofctl", "-OOpenFlow14", "del-flows", target], check=True)
    tested = ovsnet("lab", "test", "--name", lab_name, env=HASTY)
    assert tested.returncode == 1
    assert "shop/web1 to shop/web2" in tested.stdout
    assert "received by nobody instead of shop/web2 (1)" in " ".join(tested.stdout.split())
    data = json.loads(ovsnet("lab", "test", "--name", lab_name, "--json", env=HASTY).stdout)
    assert not data["ok"]
    assert {(one["src"], one["dst"]) for one in data["differs"]} >= {("shop/web1", "shop/web2")}
    status = ovsnet("lab", "status", "--name", lab_name)
    assert status.returncode == 1
    assert "hv2: agent does not run" in status.stdout


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["lab", "status", "--name", "no-such"], 2, "no lab is named no-such"),
        (["lab", "down", "--name", "no-such"], 2, "no lab is named no-such"),
        (["lab", "test", "--name", "No Such"], 2, "not a lab's name"),
        (["lab", "up", "/no/such.yaml"], 2, "/no/such.yaml"),
        (["lab", "up", str(ROOT / "examples/models/demo.yaml"), "--datapath", "dpdk"], 2, "netdev or system"),
        (["lab", "up", str(ROOT / "examples/models/demo.yaml"), "--name", "UP"], 2, "not a lab's name"),
    ],
)
def test_mistakes_are_told_in_one_message(argv: list[str], code: int, message: str) -> None:
    done = ovsnet(*argv)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_control_plane_is_broken_and_mended(lab_name: str, model: Path) -> None:
    name = ("--name", lab_name)
    up = ovsnet("lab", "up", str(model), *name, "--transport", "nats")
    assert up.returncode == 0, up.stderr
    assert ovsnet("plan", str(model), "--lab", lab_name, "--exit-code").stdout == "nothing to do\n"
    text = model.read_text()
    model.write_text(text.replace("spare: {network: web}", "spare: {network: web, host: hv2}"))
    assert "~ vpcs.shop.ports.spare" in ovsnet("plan", str(model), "--lab", lab_name).stdout
    applied = ovsnet("apply", str(model), "--lab", lab_name)
    assert (applied.returncode, applied.stdout.splitlines()[-1]) == (0, "enforced: shop @ 2"), applied.stderr
    model.write_text(text)
    assert ovsnet("lab", "up", str(model), *name, "--transport", "nats").returncode == 0
    for words in (("kill", "controller"), ("kill", "nats"), ("kill", "hv1"), ("partition", "hv2")):
        assert ovsnet("lab", *words, *name).returncode == 0, words
    status = ovsnet("lab", "status", *name, "--json")
    assert status.returncode == 1
    assert set(json.loads(status.stdout)["problems"]) == {
        "controller does not run",
        "nats-server does not run",
        "hv1: agent does not run",
        "hv2: cut off from the control plane",
    }
    assert "transport nats: controller - · nats-server -" in ovsnet("lab", "status", *name).stdout
    again = ovsnet("lab", "up", str(model), *name)
    assert (again.returncode, again.stderr) == (
        2,
        f"lab {lab_name} has transport nats: take it down before you change that.\n",
    )
    for words in (("start", "nats"), ("start", "controller"), ("start", "hv1"), ("heal", "hv2"), ("power-off", "hv2")):
        assert ovsnet("lab", *words, *name).returncode == 0, words
    assert json.loads(ovsnet("lab", "status", *name, "--json").stdout)["problems"] == ["hv2: the host does not run"]
    assert ovsnet("lab", "power-on", "hv2", *name).returncode == 0
    until(lambda: ovsnet("lab", "status", *name).returncode == 0, timeout=30)
    assert ovsnet("lab", "test", *name).returncode == 0
