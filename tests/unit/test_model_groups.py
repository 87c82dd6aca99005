"""Groups of a model: read as they are written, made canonical, and handed on with the states of their VPC."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
import yaml

from ovsnet.model import (
    Model,
    ModelError,
    Remote,
    Rule,
    SecurityGroup,
    canonical_state,
    decode_state,
    load,
    load_assigned,
    vpc_states,
)

SHOP = """
version: 1
name: shop-demo
hosts: {hv1: {vtep: 10.0.0.11}}
vpcs:
  shop:
    networks: {web: {vni: 5001, subnets: [{cidr: 192.168.1.0/24}]}}
    address_groups:
      office: [198.51.100.0/24, "2001:DB8:FF::/48", 192.0.2.7]
    security_groups:
      web:
        description: the shop's front end
        rules:
          - {direction: ingress, protocol: tcp, port: 80}
          - {direction: ingress, protocol: tcp, port: [8000-8010, 9090], remote: {address_group: office}}
          - {direction: ingress, protocol: icmp, type: 8, code: 0, remote: {cidr: 192.168.0.0/16}}
          - {direction: egress, ethertype: ipv6, protocol: 17, port: 0-65535, remote: {cidr: "2001:DB8::1"}}
      db:
        default_egress: deny
        stateful: false
        rules:
          - {direction: ingress, protocol: tcp, port: 3306, remote: {group: web}, priority: 10, action: drop, log: true}
    ports:
      web1: {network: web, host: hv1, ips: [192.168.1.11], security_groups: [web]}
      db1: {network: web, host: hv1, ips: [192.168.1.12], security_groups: [db]}
      plain: {network: web, ips: [192.168.1.13]}
      closed: {network: web, ips: [192.168.1.14], security_groups: []}
      free: {network: web, ips: [192.168.1.15], port_security: false}
"""


def written(directory: Path, text: str, name: str = "shop.yaml") -> Path:
    path = directory / name
    path.write_text(text)
    return path


def check_shop(model: Model) -> None:
    shop = model.vpcs["shop"]
    assert shop.address_groups == {"office": ("198.51.100.0/24", "2001:db8:ff::/48", "192.0.2.7/32")}
    assert shop.security_groups["web"] == SecurityGroup(
        description="the shop's front end",
        rules=(
            Rule(direction="ingress", protocol="tcp", port=80),
            Rule(direction="ingress", protocol="tcp", port=("8000-8010", 9090), remote=Remote(address_group="office")),
            Rule(direction="ingress", protocol="icmp", type=8, code=0, remote=Remote(cidr="192.168.0.0/16")),
            Rule(
                direction="egress",
                ethertype="ipv6",
                protocol=17,
                port="0-65535",
                remote=Remote(cidr="2001:db8::1/128"),
            ),
        ),
    )
    rule = Rule(
        direction="ingress",
        protocol="tcp",
        port=3306,
        remote=Remote(group="web"),
        priority=10,
        action="drop",
        log=True,
    )
    assert shop.security_groups["db"] == SecurityGroup(rules=(rule,), default_egress="deny", stateful=False)
    groups = {name: port.security_groups for name, port in shop.ports.items()}
    assert groups == {"web1": ("web",), "db1": ("db",), "plain": None, "closed": (), "free": None}


def test_groups_are_read_alike_from_yaml_and_json(tmp_path: Path) -> None:
    check_shop(load(written(tmp_path, SHOP)))
    check_shop(load(written(tmp_path, json.dumps(yaml.safe_load(SHOP)), "shop.json")))


def test_states_carry_the_groups_and_what_an_agent_decodes_is_the_same(tmp_path: Path) -> None:
    model = load_assigned(written(tmp_path, SHOP))
    state = vpc_states(model)["shop"]
    assert state.security_groups == model.vpcs["shop"].security_groups
    assert state.address_groups == model.vpcs["shop"].address_groups
    assert canonical_state(decode_state(msgspec.json.encode(state)), "hv1") == state


def test_files_join_their_groups(tmp_path: Path) -> None:
    written(tmp_path, SHOP, "a.yaml")
    more = "version: 1\nvpcs: {shop: {security_groups: {extra: {rules: [{direction: egress, remote: {group: db}}]}}}}"
    written(tmp_path, more, "b.yaml")
    assert load(tmp_path).vpcs["shop"].security_groups.keys() == {"web", "db", "extra"}


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ("security_groups: [web]", ["wrong-type"]),
        ("security_groups: {web: {rules: [{direction: ingress, protocol: [tcp], port: 80}]}}", ["wrong-type"]),
        ("security_groups: {web: {rules: [{direction: ingress, remote: {cdir: 10.0.0.0/8}}]}}", ["unknown-key"]),
        ("security_groups: {web: {rules: [{direction: ingress, protocol: tpc, port: 80}]}}", ["unknown-protocol"]),
        ("address_groups: office", ["wrong-type"]),
    ],
)
def test_what_follows_from_a_fault_of_a_group_is_not_reported(tmp_path: Path, lines: str, wanted: list[str]) -> None:
    rule = "{direction: ingress, remote: {address_group: office}}"
    other = "security_groups: {more: {rules: [" + rule + "]}}" if lines.startswith("address") else "address_groups: {}"
    port = (
        "{network: web, ips: [], security_groups: [web]}" if lines.startswith("security") else "{network: web, ips: []}"
    )
    rest = f"    {other}\n    networks: {{web: {{vni: 7}}}}\n    ports: {{a: {port}}}\n"
    text = f"version: 1\nvpcs:\n  shop:\n    {lines}\n{rest}"
    with pytest.raises(ModelError) as caught:
        load(written(tmp_path, text))
    assert [problem.code for problem in caught.value.problems] == wanted
