"""check, schema and port: what they print, and their exit codes."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ovsnet.cli import main

ROOT = Path(__file__).parents[2]
DEMO = str(ROOT / "examples/models/demo.yaml")
TWO = str(ROOT / "examples/models/two-hosts.yaml")
BAD = str(ROOT / "tests/golden/errors/duplicate-mac-port.yaml")


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command."""
    sys.argv = ["ovsnet", *argv]
    try:
        main()
        code = 0
    except SystemExit as end:
        code = int(end.code or 0)
    out, err = capsys.readouterr()
    return code, out, err


def test_check_says_what_a_model_has(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(capsys, "check", DEMO) == (0, "demo: 3 hosts, 2 vpcs, 4 networks, 10 ports, 0 unplaced.\n", "")
    code, out, _ = run(capsys, "check", DEMO, "--json")
    assert (code, json.loads(out)["ok"], json.loads(out)["unassigned"]) == (0, True, [])
    file = tmp_path / "open.yaml"
    file.write_text(
        "version: 1\nvpcs: {v: {networks: {n: {subnets: [{cidr: 10.0.0.0/24}]}}, ports: {p: {network: n}}}}\n"
    )
    code, out, _ = run(capsys, "check", str(file))
    assert (code, out.splitlines()[1].split(": ")[1]) == (0, "vpcs.v.networks.n.vni, vpcs.v.ports.p.ips")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["open.yaml"]
    file.write_text("version: 1\nvpcs: {v: {networks: {n: {vni: 1}}, routers: {r: {networks: [n]}, s: {vni: 2}}}}\n")
    code, out, _ = run(capsys, "check", str(file))
    assert (code, out.splitlines()[0]) == (0, "open: 0 hosts, 1 vpc, 1 network, 2 routers, 0 ports, 0 unplaced.")
    assert out.splitlines()[1].split(": ")[1] == "vpcs.v.routers.r.vni"


def test_check_reports_problems_with_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "check", BAD)
    assert (code, out) == (2, "")
    assert err.startswith(f"{BAD}:11:30: duplicate-mac: vpcs.shop.ports.b.mac: ")
    code, out, err = run(capsys, "check", BAD, "--json")
    problems = json.loads(out)["problems"]
    assert (code, err, [(one["code"], one["line"], one["column"]) for one in problems]) == (
        2,
        "",
        [("duplicate-mac", 11, 30)],
    )


def test_every_mistake_ends_with_2_and_without_a_traceback(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for argv in (
        ["check"],
        ["check", str(tmp_path / "none.yaml")],
        ["check", DEMO, "--site", str(tmp_path / "none.yaml")],
        ["port", "xml", "web1", "-m", DEMO],
        ["port", "xml", "red/web9", "-m", DEMO],
        ["port", "xml", "nobody", "-m", DEMO],
        ["port", "list", "-m", BAD],
        ["compile", TWO, "--host", "hv9"],
        ["chekc"],
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, ""), argv
        assert err and "Traceback" not in err


def test_port_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert "blue/web1, red/web1" in run(capsys, "port", "xml", "web1", "-m", DEMO)[2]
    assert "'red/web3'" in run(capsys, "port", "xml", "red/wbe3", "-m", DEMO)[2]
    assert run(capsys, "port", "xml", "web1", "-m", TWO)[1] == run(capsys, "port", "xml", "shop/web1", "-m", TWO)[1]


def test_port_xml_is_what_libvirt_takes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "port", "xml", "red/web1", "--model", DEMO)
    interface = ElementTree.fromstring(out)
    listed = json.loads(run(capsys, "port", "list", "-m", DEMO, "--json", "--vpc", "red", "--host", "hv1")[1])
    assert (code, [one["name"] for one in listed]) == (0, ["red/web1"])
    found = {
        "type": interface.get("type"),
        "bridge": interface.find("source").get("bridge"),  # type: ignore[union-attr]
        "virtualport": interface.find("virtualport").get("type"),  # type: ignore[union-attr]
        "id": interface.find("virtualport/parameters").get("interfaceid"),  # type: ignore[union-attr]
        "mac": interface.find("mac").get("address"),  # type: ignore[union-attr]
        "mtu": interface.find("mtu").get("size"),  # type: ignore[union-attr]
    }
    assert found == {
        "type": "bridge",
        "bridge": "br-int",
        "virtualport": "openvswitch",
        "id": listed[0]["id"],
        "mac": "02:00:00:00:01:01",
        "mtu": "1450",
    }


def test_port_mtu_follows_the_tunnel_s_family(capsys: pytest.CaptureFixture[str]) -> None:
    six = str(ROOT / "examples/models/ipv6-only.yaml")
    assert json.loads(run(capsys, "port", "xml", "f1", "-m", six, "--json")[1])["mtu"] == 1600 - 70


def test_port_list_is_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "port", "list", "-m", DEMO)
    assert len(out.splitlines()) == 11
    assert "23c9521a-aa33-53e6-9eed-cb1a4ac491ce" in out and "\x1b" not in out


def test_schema_prints_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Model" in json.loads(run(capsys, "schema")[1])["$defs"]
    assert "VpcState" in json.loads(run(capsys, "schema", "--state")[1])["$defs"]


@pytest.mark.parametrize(
    "command", [["check"], ["lint"], ["schema"], ["port", "list"], ["port", "xml"], ["compile"], ["trace"], ["explain"]]
)
def test_every_help_has_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    code, out, _ = run(capsys, *command, "--help")
    assert code == 0
    assert "Example" in out


def test_starting_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, ovsnet.cli;"
        "heavy = {'numpy', 'os_ken', 'ovs', 'ovsdbapp', 'litestar', 'uvicorn', 'pyroute2', 'yaml'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    before = os.times()
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    after = os.times()
    assert done.stdout == "[]\n"
    computed = after.children_user + after.children_system - before.children_user - before.children_system
    assert computed < 0.5, "seconds of a processor's time, however busy the machine is"


def test_colours_on_a_terminal_only() -> None:
    leader, follower = pty.openpty()
    env = os.environ | {"TERM": "xterm", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "ovsnet.cli", "check", BAD]
    done = subprocess.run(command, stderr=follower, stdout=subprocess.DEVNULL, env=env, check=False)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert done.returncode == 2
    assert "\x1b[" in shown and "duplicate-mac" in shown
    piped = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert "\x1b" not in piped.stderr
