"""``ovsnet explain --live`` on a lab: what it says is what switches and packets do, and its change works."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ovsnet.cli import main
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples/models/shop.yaml"
NAME = f"x{os.getpid()}"


def command(*argv: str, code: int = 0) -> str:
    """What the command prints on standard output, as it ends with ``code``."""
    out = io.StringIO()
    before, sys.argv = sys.argv, ["ovsnet", *argv]
    try:
        with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as end:
            main()
    finally:
        sys.argv = before
    assert (end.value.code or 0) == code, f"{argv}: {end.value.code}\n{out.getvalue()}"
    return out.getvalue()


def explained(*argv: str, code: int = 0) -> Any:
    return json.loads(command("explain", *argv, "--lab", NAME, "--live", "--json", code=code))


def pinged(source: str, address: str) -> bool:
    ping = ["ping", "-c", "1", "-W", "1", address]
    argv = [sys.executable, "-m", "ovsnet.cli", "lab", "exec", "--name", NAME, source, "--", *ping]
    return subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    command("lab", "up", str(SHOP), "--name", NAME)
    try:
        yield Lab.open(NAME)
    finally:
        command("lab", "down", "--name", NAME)


@pytest.mark.parametrize(
    ("probe", "reason", "decided_by"),
    [
        (("web1", "db1", "--tcp", "3306", "--family", "6"), "allowed", "db.rules[0]"),
        (("web1", "db1", "--tcp", "3307"), "ingress-refused", ""),
        (("db1", "web1", "--tcp", "80"), "egress-refused", ""),
        (("guest1", "web1", "--tcp", "80"), "ingress-dropped", "web.rules[4]"),  # both on one host
        (("desk1", "dns1", "--udp", "53"), "allowed", "dns.rules[0]"),
        (("guest1", "desk1", "--sctp", "9"), "allowed", "default.rules[0]"),
        (("guest1", "desk1", "--protocol", "gre"), "allowed", "default.rules[0]"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else None,
)
def test_the_switches_agree(lab: Lab, probe: tuple[str, ...], reason: str, decided_by: str) -> None:
    found = explained(*probe, code=0 if reason == "allowed" else 1)
    assert found["reason"] == reason
    decider = next(end for end in found["ends"] if end["direction"] == found["end"])
    assert decider.get("object", "").startswith("vpcs.shop.security_groups." if decided_by else "")
    assert decider.get("object", "").endswith(decided_by)
    assert {one["word"] for one in found["live"]["switches"]} == {"agrees"}
    assert found["live"]["held"] == ""


def test_what_it_says_is_what_packets_do_and_its_change_helps(lab: Lab, tmp_path: Path) -> None:
    before = explained("web1", "guest1", code=1)
    assert (before["reason"], pinged("shop/web1", "192.168.1.66")) == ("ingress-refused", False)
    assert not any(one["connections"] for one in before["live"]["switches"])
    declared = yaml.safe_load(SHOP.read_text())
    for edit in before["change"]:
        *way, last = [int(one) if one.isdigit() else one for one in re.findall(r"[a-z0-9_-]+", edit["path"])]
        into = declared
        for step in way:
            into = into[step]
        assert edit["op"] == "add" and last not in into
        into[last] = edit["value"]
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(declared))
    try:
        command("apply", str(changed), "--lab", NAME)
        assert pinged("shop/web1", "192.168.1.66")
        after = explained("web1", "guest1")
        connections = [line for one in after["live"]["switches"] for line in one["connections"]]
        assert any(line.startswith("icmp,orig=(src=192.168.1.11,dst=192.168.1.66,") for line in connections)
        told = command("explain", "web1", "guest1", "-m", str(SHOP), "--lab", NAME, "--live", code=1)
        assert "THE HOSTS HOLD ANOTHER MODEL: allowed, decided by vpcs.shop.security_groups.default.rules[1]" in told
    finally:
        command("apply", str(SHOP), "--lab", NAME)
    assert not pinged("shop/web1", "192.168.1.66")


def test_a_switch_that_differs_is_shown(lab: Lab) -> None:
    lab.ovs("hv2").ofctl("add-flow", INTEGRATION, "table=86,priority=9999,actions=drop")
    try:
        found = explained("web1", "db1", "--tcp", "3306", code=1)
        told = command("explain", "web1", "db1", "--tcp", "3306", "--lab", NAME, "--live", code=1)
    finally:
        lab.ovs("hv2").ofctl("del-flows", INTEGRATION, "cookie=0/-1")
    assert (found["allowed"], [one["word"] for one in found["live"]["switches"]]) == (True, ["agrees", "differs"])
    assert "hv2: THE SWITCH DIFFERS" in told and "priority 9999" in told
    command("explain", "web1", "db1", "--tcp", "3306", "--lab", NAME, "--live")
