"""``ovsnet explain`` on models: every reason, what is printed, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ovsnet.reasons import REASONS
from tests.unit.test_cli_basics import ROOT, run

SHOP = str(ROOT / "examples/models/shop.yaml")
MODEL = """\
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
vpcs:
  shop:
    networks:
      web: {vni: 5001, subnets: [{cidr: 192.168.1.0/24}, {cidr: "2001:db8::/64"}]}
      db: {vni: 5002, subnets: [{cidr: 192.168.2.0/24}]}
    address_groups: {office: [192.168.1.12/32]}
    security_groups:
      strict:
        default_egress: deny
        rules:
          - {direction: egress, protocol: udp, port: 53}
          - {direction: egress, protocol: tcp, priority: 1, port: 22, action: drop}
          - {direction: egress, protocol: tcp, port: 23, action: reject}
          - {direction: ingress, protocol: tcp, port: 80, action: reject, remote: {address_group: office}}
          - {direction: ingress, protocol: tcp, port: 81, action: drop}
          - {direction: ingress, protocol: icmp, type: 8}
    ports:
      a: {network: web, host: hv1, ips: [192.168.1.11, "2001:db8::11"]}
      b: {network: web, host: hv2, ips: [192.168.1.12]}
      s: {network: web, host: hv2, ips: [192.168.1.13], security_groups: [strict]}
      none: {network: web, host: hv1, ips: [192.168.1.14], security_groups: []}
      free: {network: web, host: hv2, ips: [192.168.1.15], port_security: false}
      away: {network: web, ips: [192.168.1.16]}
      d: {network: db, host: hv1, ips: [192.168.2.11]}
      six: {network: web, host: hv1, ips: ["2001:db8::17"]}
  club:
    networks: {web: {vni: 6001, subnets: [{cidr: 192.168.1.0/24}]}}
    ports: {x: {network: web, host: hv1, ips: [192.168.1.12]}}
"""


@pytest.fixture
def model(tmp_path: Path) -> str:
    file = tmp_path / "model.yaml"
    file.write_text(MODEL)
    return str(file)


@pytest.mark.parametrize(
    ("probe", "reason"),
    [
        ("a b", "allowed"),
        ("a s", "allowed"),
        ("a free --tcp 81", "allowed"),
        ("free a --tcp 22", "ingress-refused"),
        ("s a --tcp 22", "egress-dropped"),
        ("s a --tcp 23", "egress-rejected"),
        ("s a --tcp 24", "egress-refused"),
        ("none a", "egress-no-groups"),
        ("a none", "ingress-no-groups"),
        ("b s --tcp 80", "ingress-rejected"),
        ("a s --tcp 80", "ingress-refused"),
        ("b s --tcp 81", "ingress-dropped"),
        ("away a", "source-unplaced"),
        ("a away", "target-unplaced"),
        ("shop/a club/x", "other-vpc"),
        ("a d", "other-network"),
        ("b six", "no-common-family"),
        ("a b --family 6", "no-common-family"),
        ("a 192.168.1.99", "unknown-address"),
        ("a 192.168.1.12", "allowed"),
        ("a six --icmp 135", "port-security"),
    ],
)
def test_reasons(capsys: pytest.CaptureFixture[str], model: str, probe: str, reason: str) -> None:
    code, out, err = run(capsys, "explain", *probe.split(), "-m", model, "--json")
    found = json.loads(out)
    assert (found["reason"], found["allowed"], code, err) == (reason, reason == "allowed", int(reason != "allowed"), "")
    assert found["text"] and reason in REASONS
    # what reaches an unfiltered port can only be stopped where it leaves, and there all egress is allowed by no rule
    turnable = reason.startswith(("egress", "ingress", "allowed")) and not probe.startswith("a free")
    assert bool(found["change"]) == turnable
    assert (found["end"] is None) == (not reason.startswith(("egress", "ingress", "allowed")))


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "desk1", "db1", "--tcp", "3306", "-m", SHOP)
    add = "add to vpcs.shop.security_groups.db.rules: {direction: ingress,"
    assert code == 1
    assert out.splitlines() == [
        "not allowed shop/desk1 -> shop/db1  tcp 192.168.1.130 -> 192.168.1.21, port 3306",
        "  ingress-refused: ingress of shop/db1: no rule of db allows it.",
        "  egress   shop/desk1 on hv2: vpcs.shop.security_groups.default allows it",
        "  ingress  shop/db1 on hv2: no rule allows it",
        f"  to allow it: {add} protocol: tcp, port: 3306, remote: {{cidr: 192.168.1.130/32}}}}",
        f"  or: {add} ethertype: ipv4, protocol: tcp, port: 3306, remote: {{group: default}}}}",
        "  or: set vpcs.shop.ports.desk1.security_groups: [default, web]",
    ]
    code, out, _ = run(capsys, "explain", "web1", "db1", "--tcp", "3306", "-m", SHOP)
    assert code == 0
    assert f"  egress   shop/web1 on hv1: vpcs.shop.security_groups.web allows it  ({SHOP}:18:7)" in out.splitlines()
    rule = "{direction: ingress, protocol: tcp, port: 3306, remote: {group: web}}"
    assert f"db.rules[0] allows it  {rule}  ({SHOP}:28:13)" in out
    assert "to stop it: add to vpcs.shop.security_groups.db.rules: " in out
    assert "shop/dns1 is stateless" in run(capsys, "explain", "desk1", "dns1", "--udp", "53", "-m", SHOP)[1]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ("a b --tcp 1 --udp 2", "--tcp and --udp exclude each other"),
        ("a b --icmp 8/x", "is no type and code"),
        ("a b --icmp 300", "is no type and code"),
        ("a b --protocol no-such", "is not known"),
        ("a b --protocol 256", "is not known"),
        ("a b --family 5", "is no IP version"),
        ("a b --tcp 65536", "65535"),
        ("a nobody", "There is no port 'nobody'"),
        ("nobody a", "There is no port 'nobody'"),
        ("a 192.168.1.300", "neither a port"),
        ("a b --lab none", "Add --live"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], model: str, argv: str, message: str) -> None:
    code, out, err = run(capsys, "explain", *argv.split(), "-m", model)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err


def edits_of(capsys: pytest.CaptureFixture[str], model: str, probe: str) -> list[list[dict[str, Any]]]:
    found = json.loads(run(capsys, "explain", *probe.split(), "-m", model, "--json")[1])
    return [found["change"], *found["alternatives"]]


def test_changes_are_the_smallest_and_safe(capsys: pytest.CaptureFixture[str], model: str) -> None:
    group = "vpcs.shop.security_groups.strict.rules"
    first = edits_of(capsys, model, "s a --tcp 22")[0]
    assert [(one["op"], one["path"]) for one in first[:2]] == [("remove", f"{group}[1]"), ("add", group)]
    blocked = edits_of(capsys, model, "b s --tcp 81")
    assert blocked[0] == [
        {
            "op": "add",
            "path": group,
            "value": {
                "direction": "ingress", "protocol": "tcp", "port": 81, "remote": {"cidr": "192.168.1.12/32"},
                "priority": 999,
            },
        }
    ]  # fmt: skip
    assert all(len(edits) <= 2 for edits in blocked)
    own = edits_of(capsys, model, "none b --tcp 22")[0]
    assert [(one["op"], one["path"].partition("shop.")[2]) for one in own] == [
        ("add", "security_groups.none"),
        ("replace", "ports.none.security_groups"),
        ("add", "security_groups.default"),
    ]
    assert own[0]["value"]["default_egress"] == "deny", "no more is allowed than the packet"
