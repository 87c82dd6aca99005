"""``ovsnet lint``: every code with its place, exit codes, and what rules cost, held to what is compiled."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import ovsnet
from ovsnet.lint import KINDS, Report, lint
from ovsnet.model.loader import load_placed
from tests.unit.test_cli_basics import DEMO, run

HEAD = """\
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
vpcs:
  shop:
    networks:
      web: {vni: 5001, subnets: [{cidr: 192.168.1.0/24}]}
      db: {vni: 5002, subnets: [{cidr: 192.168.2.0/24}]}
"""
MODEL = f"""{HEAD}\
    address_groups:
      office: [198.51.100.0/24]
      lost: [198.51.101.0/24]
    security_groups:
      web:
        rules:
          - {{direction: ingress, protocol: tcp, port: 80}}
          - {{direction: ingress, protocol: tcp, port: [80-90, 443]}}
          - {{direction: ingress, protocol: tcp, port: 22, priority: 10, action: drop}}
          - {{direction: ingress, protocol: tcp, port: 22, remote: {{address_group: office}}}}
          - {{direction: ingress, protocol: icmpv6, type: 135}}
          - {{direction: ingress, ethertype: ipv6, remote: {{group: web}}}}
          - {{direction: ingress, protocol: udp, port: 53, action: reject}}
          - {{direction: ingress, protocol: udp, port: 50-60}}
          - {{direction: ingress, remote: {{group: db}}}}
          - {{direction: ingress, ethertype: ipv6, remote: {{address_group: office}}}}
          - {{direction: ingress, ethertype: ipv6, protocol: sctp}}
          - {{direction: egress, protocol: tcp}}
          - {{direction: ingress, protocol: udp, port: 1-10, priority: 5, action: reject}}
          - {{direction: ingress, protocol: udp, port: 11-20, priority: 6, action: drop}}
          - {{direction: ingress, protocol: udp, port: 5-15, priority: 7, remote: {{group: web}}}}
      db:
        default_egress: deny
        rules:
          - {{direction: ingress, protocol: tcp, port: 3306, remote: {{cidr: 192.168.2.0/24}}}}
          - {{direction: ingress, protocol: tcp, port: 3306, remote: {{group: db}}}}
      open: {{rules: []}}
      nobody: {{rules: [{{direction: egress, remote: {{group: nobody}}}}]}}
    ports:
      web1: {{network: web, host: hv1, ips: [192.168.1.11], security_groups: [web, open]}}
      web2: {{network: web, host: hv2, ips: [192.168.1.12], security_groups: [web, open]}}
      db1: {{network: db, host: hv2, security_groups: [db]}}
"""
WEB = "vpcs.shop.security_groups.web"
FOUND = {
    ("unused-address-group", 10, 7, "vpcs.shop.address_groups.lost", "no rule refers to address group lost"),
    ("egress-open", 12, 7, WEB, "every port of group web is also in open, which allows all egress"),
    ("covered-rule", 14, 13, f"{WEB}.rules[0]", "web.rules[1] allows all that it allows"),
    ("shadowed-rule", 17, 13, f"{WEB}.rules[3]", "web.rules[2] comes before it and drops all that it matches"),
    ("not-subject", 18, 13, f"{WEB}.rules[4]", "no group is asked about these ICMPv6 types, which always pass"),
    ("remote-family", 19, 13, f"{WEB}.rules[5]", "no member of group web has an IPv6 address"),
    (
        "contradicting-rules", 21, 13, f"{WEB}.rules[7]",
        "at priority 1000 web.rules[6] match part of what it matches: reject wins over allow",
    ),
    ("remote-elsewhere", 22, 13, f"{WEB}.rules[8]", "members of group db are in db, ports of web in web"),
    ("empty-address-group", 23, 13, f"{WEB}.rules[9]", "address group office has no IPv6 address"),
    ("local-family", 24, 13, f"{WEB}.rules[10]", "no port of group web has an IPv6 address"),
    (
        "shadowed-rule", 28, 13, f"{WEB}.rules[14]",
        "web.rules[12] and web.rules[13] come before it and together decide (drop, reject) on all that it matches",
    ),
    (
        "decided-before-today", 33, 13, "vpcs.shop.security_groups.db.rules[1]",
        "on all ports of db rules that come before it, or beside it, decide on all that it matches",
    ),
    (
        "unused-group", 35, 7, "vpcs.shop.security_groups.nobody",
        "no port is in group nobody, and no other group's rule refers to it",
    ),
    (
        "empty-remote-group", 35, 24, "vpcs.shop.security_groups.nobody.rules[0]",
        "no port is in group nobody; without an egress rule the group allows all egress, unless it says "
        "'default_egress: deny'",
    ),
}  # fmt: skip


def report(tmp_path: Path, text: str) -> Report:
    file = tmp_path / "model.yaml"
    file.write_text(text)
    read = load_placed(file)
    return lint(read.model, read.root, read.order)


def test_every_code_with_its_place_and_reason(tmp_path: Path) -> None:
    findings = report(tmp_path, MODEL).findings
    assert {(one.code, one.line, one.column, one.path, one.reason) for one in findings} == FOUND
    assert {one.code for one in findings} == set(KINDS)
    assert [one.line for one in findings] == sorted(one.line for one in findings)
    assert all(one.remedy == KINDS[one.code].remedy and one.level == KINDS[one.code].level for one in findings)


def test_levels_and_exit_codes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(MODEL)
    code, out, err = run(capsys, "lint", str(file))
    assert (code, err, len(out.splitlines())) == (1, "", 11)
    assert out.startswith(f"{file}:10:7: warning: unused-address-group: vpcs.shop.address_groups.lost: no rule refers")
    assert "4 notes not shown" in out.splitlines()[-1]
    assert len(run(capsys, "lint", str(file), "--level", "note")[1].splitlines()) == 15
    assert run(capsys, "lint", DEMO) == (0, "0 findings.\n", "")
    code, out, _ = run(capsys, "lint", str(file), "--json")
    data = json.loads(out)
    assert (code, data["ok"], len(data["findings"]), len(data["rules"])) == (1, False, 10, 18)
    assert [path.name for path in tmp_path.iterdir()] == ["model.yaml"]


def test_a_wrong_model_is_not_looked_through(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(MODEL.replace("group: db", "group: bd"))
    code, out, err = run(capsys, "lint", str(file))
    assert (code, out) == (2, "") and "unknown-security-group" in err


def test_notes_alone_are_no_failure(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "model.yaml"
    file.write_text(f"""{HEAD}\
    security_groups:
      web: {{rules: [{{direction: ingress}}, {{direction: ingress, protocol: tcp, action: drop}}]}}
    ports: {{web1: {{network: web, host: hv1, security_groups: [web]}}}}
""")
    assert run(capsys, "lint", str(file))[0] == 0
    assert "contradicting-rules" in run(capsys, "lint", str(file), "--level", "note")[1]


RULES = """
          - {direction: ingress}
          - {direction: ingress, protocol: tcp, port: [1-6, 8, 100-200], remote: {group: web}}
          - {direction: ingress, protocol: udp, port: "0-65535", log: true, priority: 3}
          - {direction: egress, protocol: sctp, port: 80-81, action: reject}
          - {direction: egress, protocol: sctp, remote: {cidr: 10.0.0.0/8}}
          - {direction: ingress, protocol: icmp, type: 8}
          - {direction: ingress, protocol: icmpv6, type: 1, code: 4, action: drop}
          - {direction: ingress, protocol: gre, remote: {address_group: office}}
          - {direction: egress, protocol: 58}
"""


TOLD = "          - {direction: egress, protocol: sctp, port: 90}\n"
"""A rule that errors about connections concern too; of a stateless group it would share flows with another's."""


@pytest.mark.parametrize("stateful", ["true", "false"])
def test_costs_are_those_of_the_compiled_rules(tmp_path: Path, stateful: str) -> None:
    text = f"""{HEAD}\
    address_groups: {{office: [198.51.100.0/24]}}
    security_groups:
      web: {{stateful: {stateful}, rules: [{{direction: egress, protocol: tcp, port: 1-3}}]}}
      more:
        stateful: {stateful}
        rules:{RULES}{TOLD * (stateful == "true")}
    ports:
      web1: {{network: web, host: hv1, security_groups: [web]}}
      web2: {{network: web, host: hv1, security_groups: [web, more]}}
      web3: {{network: web, host: hv1, security_groups: [more]}}
      web4: {{network: web, host: hv2, security_groups: [more]}}
"""
    found = report(tmp_path, text)
    model = load_placed(tmp_path / "model.yaml").model
    at = {}
    for host in ("hv1", "hv2"):
        flows = [flow for flow in ovsnet.compile(model, host) if flow.row.template.table.name == "rules"]
        at[host] = Counter(flow.subject.path for flow in flows if "rules[" in flow.subject.path)
    shared = 0 if stateful == "true" else 1  # rules about one peer share the flow of IPv6's later fragments
    assert {host: found.hosts[host] - count.total() for host, count in at.items()} == {"hv1": shared, "hv2": 0}
    assert sum(one.most - at["hv1"][one.path] for one in found.rules) == shared
    assert [one.flows for one in found.rules if ".more." in one.path] == [
        at["hv2"][one.path] for one in found.rules if ".more." in one.path
    ]
    assert {(one.policies, one.hosts, one.busiest) for one in found.rules} == {(2, 1, "hv1"), (2, 2, "hv1")}


def test_one_rule_shadows_many(tmp_path: Path) -> None:
    rules = "\n".join(
        f"          - {{direction: ingress, protocol: tcp, port: {1000 + one}, remote: {{cidr: 10.{one}.0.0/16}}}}"
        for one in range(90)
    )
    broad = "          - {direction: ingress, protocol: tcp, remote: {cidr: 10.0.0.0/8}, action: drop}"
    text = f"{HEAD}    security_groups:\n      web:\n        rules:\n{rules}\n{broad}\n"
    found = report(tmp_path, f"{text}    ports: {{web1: {{network: web, host: hv1, security_groups: [web]}}}}\n")
    assert Counter(one.code for one in found.findings) == {"shadowed-rule": 90}
