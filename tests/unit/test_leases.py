"""What ports are told, derived from models; and that a trace says it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ovsnet.library import compile
from ovsnet.model import Model, load_assigned
from ovsnet.responders.dhcp4 import Route
from ovsnet.responders.lease import Lease, answer
from ovsnet.trace import places, trace

MODEL = """
version: 1
underlay: {{mtu: 1600}}
hosts: {{hv1: {{vtep: {vtep}}}}}
vpcs:
  shop:
    networks:
      web: {{vni: 5001, {web} subnets: [{{cidr: 192.168.1.0/24{sub}}}, {{cidr: "2001:db8:1::/64"{sub6}}}]}}
      db: {{vni: 5002, subnets: [{{cidr: 192.168.2.0/24}}]}}
    routers: {{{routers}}}
    ports:
      web1: {{network: web, host: hv1, mac: "02:00:00:00:01:01", ips: [192.168.1.11, "2001:db8:1::{ip6}"]}}
      db1: {{network: db, host: hv1, mac: "02:00:00:00:02:01", ips: [192.168.2.11]}}
"""
ROUTER = "r1: {vni: 9001, networks: [web, db], routes: [{to: 10.0.0.0/8, via: {port: db1}}]}"


def model(tmp_path: Path, **given: str) -> Model:
    """The model with some of its words given."""
    words = {"vtep": "10.0.0.11", "web": "", "sub": "", "sub6": "", "routers": "", "ip6": "11"} | given
    file = tmp_path / "model.yaml"
    file.write_text(MODEL.format(**words))
    return load_assigned([file])


def told(tmp_path: Path, **given: str) -> Lease:
    """What web1 is told."""
    leases = compile(model(tmp_path, **given), "hv1").leases
    return next(lease for lease in leases.values() if lease.mac == "02:00:00:00:01:01")


def fields(one: Any, *names: str) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(one).items() if name in names}


def test_without_a_router_there_is_no_way_out(tmp_path: Path) -> None:
    lease = told(tmp_path)
    assert lease.v4 and lease.v6 and lease.said
    assert fields(lease.v4, "ip", "router", "routes", "mtu", "server_ip", "hostname", "domain") == {
        "ip": "192.168.1.11",
        "router": None,
        "routes": (),
        "mtu": 1550,
        "server_ip": "169.254.0.1",
        "hostname": "web1",
        "domain": None,
    }
    assert lease.v6.ips == ("2001:db8:1::11",)
    assert (lease.said.lifetime, lease.said.managed, lease.said.prefixes[0].autonomous) == (0, True, False)


def test_a_router_is_told_with_all_that_lies_behind_it(tmp_path: Path) -> None:
    lease = told(tmp_path, routers=ROUTER)
    assert lease.v4 and lease.said
    assert (lease.v4.router, lease.v4.server_ip) == ("192.168.1.1", "192.168.1.1")
    assert lease.v4.routes == (Route("192.168.2.0/24", "192.168.1.1"), Route("10.0.0.0/8", "192.168.1.1"))
    assert lease.said.lifetime > 0


@pytest.mark.parametrize(
    ("vtep", "web", "mtu"),
    [("10.0.0.11", "", 1550), ('"2001:db8::1"', "", 1530), ("10.0.0.11", "mtu: 1300,", 1300)],
)
def test_the_mtu_is_what_fits(tmp_path: Path, vtep: str, web: str, mtu: int) -> None:
    lease = told(tmp_path, vtep=vtep, web=web)
    assert lease.v4 and lease.said
    assert (lease.v4.mtu, lease.said.mtu) == (mtu, mtu)


def test_an_address_is_made_by_the_port_only_where_it_is_the_declared_one(tmp_path: Path) -> None:
    for ip6, making in (("ff:fe00:101", True), ("11", False)):
        lease = told(tmp_path, sub6=", ra: slaac", ip6=ip6)
        assert lease.said
        assert (lease.said.prefixes[0].autonomous, lease.said.managed) == (making, not making)


def test_what_is_off_is_not_answered(tmp_path: Path) -> None:
    off = {"sub": ", dhcp: false", "sub6": ", dhcp: false"}
    assert all(lease.mac != "02:00:00:00:01:01" for lease in compile(model(tmp_path, **off), "hv1").leases.values())
    lease = told(tmp_path, sub=", dhcp: false", sub6=", ra: none")
    assert (lease.v4, lease.said) == (None, None)
    assert lease.v6
    lease = told(tmp_path, sub=", dhcp: false", sub6=", dhcp: false, ra: slaac")
    assert (lease.v4, lease.v6) == (None, None)
    assert lease.said and not lease.said.other


def test_a_frame_of_somebody_else_s_is_not_answered(tmp_path: Path) -> None:
    assert answer(bytes(60), told(tmp_path)) is None


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("dhcp", "answered by the agent on hv1: 192.168.1.11/24, router 192.168.1.1, MTU 1550"),
        ("dhcpv6", "answered by the agent on hv1: 2001:db8:1::11"),
        ("routers", "answered by the agent on hv1: 2001:db8:1::/64, ask by DHCPv6, a default router, MTU 1550"),
    ],
)
def test_a_trace_says_what_a_port_is_told(tmp_path: Path, asked: str, words: str) -> None:
    declared = model(tmp_path, routers=ROUTER)
    found = trace(declared, places(declared), "shop/web1", asked)
    assert (found.delivered, found.reason) == (True, words)
    mute = model(tmp_path, sub=", dhcp: false", sub6=", dhcp: false")
    assert not trace(mute, places(mute), "shop/web1", asked).delivered
