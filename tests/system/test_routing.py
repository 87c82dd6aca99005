"""Routers between real workloads: what arrives and how, who answers, and what is told of what does not arrive."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator

import msgspec
import pytest

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model.types import Model, NextHop, Route, Router
from tests.agent_kit import until
from tests.system.conftest import loaded, temporary_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

MODEL = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
vpcs:
  shop: &shop
    networks: &networks
      web: {subnets: [{cidr: 192.168.1.0/24}, {cidr: "2001:db8:1::/64"}]}
      db: {subnets: [{cidr: 192.168.2.0/24}, {cidr: "2001:db8:2::/64"}]}
      isle: {subnets: [{cidr: 192.168.3.0/24}]}
    security_groups: &groups
      default: {rules: [{direction: ingress}]}
      front: {rules: [{direction: ingress}]}
      back:
        rules:
          - {direction: ingress, protocol: tcp, port: 7000, remote: {group: front}}
          - {direction: ingress, protocol: icmp}
    routers:
      r1:
        networks: [web, db]
        routes:
          - {to: 10.50.0.0/16, via: {port: fw1}}
          - {to: 10.60.0.0/16, via: [{port: fw1}, {port: fw2}]}
          - {to: 10.66.0.0/16, blackhole: true}
    ports:
      web1: {network: web, host: hv1, ips: [192.168.1.11, "2001:db8:1::11"], security_groups: [front]}
      web2: {network: web, host: hv2, ips: [192.168.1.12, "2001:db8:1::12"]}
      fw1:
        network: web
        host: hv2
        ips: [192.168.1.250, "2001:db8:1::250"]
        allowed_addresses: [{ip: 10.50.0.0/16}, {ip: 10.60.0.0/16}]
      fw2:
        network: db
        host: hv1
        ips: [192.168.2.250, "2001:db8:2::250"]
        allowed_addresses: [{ip: 10.60.0.0/16}]
      db1: {network: db, host: hv1, ips: [192.168.2.11, "2001:db8:2::11"]}
      db2: {network: db, host: hv2, ips: [192.168.2.12, "2001:db8:2::12"], security_groups: [back]}
      isle: {network: isle, host: hv1, ips: [192.168.3.11]}
  club:
    networks: *networks
    security_groups: *groups
    routers: {r1: {networks: [web, db]}}
    ports:
      web1: {network: web, host: hv2, ips: [192.168.1.11, "2001:db8:1::11"]}
      db1: {network: db, host: hv2, ips: [192.168.2.11, "2001:db8:2::11"]}
"""
WEB1, DB1, DB2 = "shop/web1", "shop/db1", "shop/db2"
GATEWAY_MAC = "02:6f:76:00:00:01"
GATEWAYS = ("192.168.1.1", "192.168.2.1", "2001:db8:1::1", "2001:db8:2::1", "fe80::6f:76ff:fe00:1%eth0")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab(loaded(MODEL)) as made:
        yield made


def changed(model: Model, **router: object) -> Model:
    """The model with something else in the first VPC's router."""
    shop = model.vpcs["shop"]
    new = msgspec.structs.replace(shop.routers["r1"], **router)
    return with_routers(model, {"r1": new})


def with_routers(model: Model, routers: dict[str, Router]) -> Model:
    return msgspec.structs.replace(
        model, vpcs=model.vpcs | {"shop": msgspec.structs.replace(model.vpcs["shop"], routers=routers)}
    )


def pings(lab: Lab, port: str, target: str, *options: str) -> bool:
    """Whether one of a few echo requests is answered: a user-space datapath may lose the first."""
    return lab.run(port, "ping", "-c", "3", "-i", "0.2", "-W", "2", *options, target).returncode == 0


def complaint(lab: Lab, port: str, target: str, *options: str) -> str:
    """What ping prints of the errors that it is told."""
    return lab.run(port, "ping", "-c", "2", "-i", "0.3", "-W", "1", *options, target).stdout


def test_everything_goes_as_declared_and_what_is_not_routed_stays_apart(lab: Lab) -> None:
    result = lab.test()
    assert result.ok, result.as_dict()
    routed = [entry.pair for entry in result.entries if entry.pair.routed and entry.pair.allowed]
    hosts = {(lab.port(pair.src).host, lab.port(pair.dst).host, pair.family) for pair in routed}
    assert hosts == {(a, b, family) for a in ("hv1", "hv2") for b in ("hv1", "hv2") for family in (4, 6)}
    assert not [entry for entry in result.entries if "isle" in entry.pair.dst and entry.pair.allowed]


@pytest.mark.parametrize(("target", "family"), [("db1", 4), ("db2", 4), ("db1", 6)])
def test_the_receiver_sees_one_hop_and_the_gateways_mac(lab: Lab, target: str, family: int) -> None:
    address = lab.port(f"shop/{target}").addresses[0 if family == 4 else 1].split("/")[0]
    match = ["icmp[0] == 8"] if family == 4 else ["icmp6 and ip6[40] == 128"]
    with netns.inside(lab.port(f"shop/{target}").netns):
        listening = subprocess.Popen(
            ["tcpdump", "-i", "eth0", "-Q", "in", "-c", "1", "-n", "-e", "-v", *match],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert listening.stderr is not None
    listening.stderr.readline()  # it listens
    assert pings(lab, WEB1, address, "-t", "9")
    shown, _ = listening.communicate(timeout=20)
    assert f"{GATEWAY_MAC} > {lab.port(f'shop/{target}').mac}" in shown
    assert ("ttl 8" if family == 4 else "hlim 8") in shown


@pytest.mark.parametrize("gateway", GATEWAYS)
def test_every_gateway_answers_pings(lab: Lab, gateway: str) -> None:
    assert pings(lab, WEB1, gateway)
    answer = lab.run(WEB1, "ping", "-c", "1", "-W", "2", gateway).stdout
    assert "ttl=64" in answer


def test_a_network_of_no_router_has_no_gateway_and_no_way_out(lab: Lab) -> None:
    assert not pings(lab, "shop/isle", "192.168.3.1")
    assert "default" not in lab.run("shop/isle", "ip", "route").stdout
    assert not pings(lab, WEB1, "192.168.3.11")


@pytest.mark.parametrize("way", [[], ["-I"]], ids=["udp", "icmp"])
@pytest.mark.parametrize(
    ("target", "gateway"), [("192.168.2.11", "192.168.1.1"), ("2001:db8:2::11", "2001:db8:1::1")], ids=["v4", "v6"]
)
def test_traceroute_shows_the_gateway_and_the_target(lab: Lab, way: list[str], target: str, gateway: str) -> None:
    family = "-6" if ":" in target else "-4"
    shown = lab.run(WEB1, "traceroute", family, "-n", "-q", "2", "-w", "2", "-m", "5", *way, target)
    hops = [line.split()[1] for line in shown.stdout.splitlines()[1:]]
    assert hops == [gateway, target], shown


def test_what_does_not_arrive_is_told(lab: Lab) -> None:
    assert "From 192.168.1.1 icmp_seq=1 Time to live exceeded" in complaint(lab, WEB1, "192.168.2.11", "-t", "1")
    assert "From 192.168.1.1 icmp_seq=1 Destination Host Unreachable" in complaint(lab, WEB1, "192.168.2.99")
    assert "From 192.168.1.1 icmp_seq=1 Destination Net Unreachable" in complaint(lab, WEB1, "198.51.100.1")
    assert "Time exceeded: Hop limit" in complaint(lab, WEB1, "2001:db8:2::11", "-t", "1")
    assert "Address unreachable" in complaint(lab, WEB1, "2001:db8:2::99")
    assert "No route" in complaint(lab, WEB1, "2001:db8:99::1")


def test_a_black_hole_is_silent(lab: Lab) -> None:
    assert "From" not in complaint(lab, WEB1, "10.66.0.1")


def test_a_gateway_refuses_tcp_and_udp(lab: Lab) -> None:
    for kind in ("STREAM", "DGRAM"):
        code = f"import socket as s; c = s.socket(type=s.SOCK_{kind}); c.settimeout(3); c.connect(('192.168.1.1', 9))"
        code += "; c.send(b'x'); c.recv(9)"
        assert "ConnectionRefusedError" in lab.run(WEB1, "python3", "-c", code).stderr


def behind(lab: Lab, port: str, *addresses: str) -> None:
    """Let a port be a firewall that has these addresses behind it, and sends their answers through its gateway."""
    netns.sysctl(lab.port(port).netns, {"ipv4/ip_forward": "1"})
    for address in addresses:
        lab.run(port, "ip", "address", "replace", f"{address}/32", "dev", "lo")


def echoes_at(lab: Lab, port: str) -> int:
    """How many echo requests the kernel of a port has taken."""
    return int(lab.run(port, "nstat", "-asz", "IcmpInEchos").stdout.split()[-2])


def test_a_static_route_leads_through_a_firewall(lab: Lab) -> None:
    inner, link = "fwi", lab.port("shop/fw1").netns
    behind(lab, "shop/fw1")
    try:
        for words in (
            ["netns", "add", f"{link}-in"],
            ["-n", link, "link", "add", inner, "type", "veth", "peer", "name", "eth0", "netns", f"{link}-in"],
            ["-n", link, "address", "add", "10.50.0.1/16", "dev", inner],
            ["-n", link, "link", "set", inner, "up"],
            ["-n", f"{link}-in", "address", "add", "10.50.0.9/16", "dev", "eth0"],
            ["-n", f"{link}-in", "link", "set", "eth0", "up"],
            ["-n", f"{link}-in", "route", "add", "default", "via", "10.50.0.1"],
        ):
            subprocess.run(["ip", *words], check=True, capture_output=True)
        assert pings(lab, WEB1, "10.50.0.9")
        assert pings(lab, DB1, "10.50.0.9"), "from another network as well"
    finally:
        netns.unplug(link, inner)
        netns.delete(f"{link}-in")


def test_two_next_hops_share_and_one_takes_over() -> None:
    targets = [f"10.60.0.{n}" for n in range(1, 33)]
    with temporary_lab(loaded(MODEL)) as lab:
        for port in ("shop/fw1", "shop/fw2"):
            behind(lab, port, *targets)
        for target in targets:
            assert pings(lab, WEB1, target)
        shares = [echoes_at(lab, port) for port in ("shop/fw1", "shop/fw2")]
        assert min(shares) >= 3, f"32 pairs of addresses, and the next hops got {shares} requests"
        shop = lab.model.vpcs["shop"]
        gone = msgspec.structs.replace(shop.ports["fw2"], host=None)
        without = msgspec.structs.replace(shop, ports=shop.ports | {"fw2": gone})
        Lab.up(msgspec.structs.replace(lab.model, vpcs=lab.model.vpcs | {"shop": without}), lab.name)
        for target in targets:
            assert pings(lab, WEB1, target), "who is left takes over"


def test_two_vpcs_with_the_same_addresses_stay_apart(lab: Lab) -> None:
    before = echoes_at(lab, DB1), echoes_at(lab, "club/db1")
    assert pings(lab, "club/web1", "192.168.2.11")
    assert echoes_at(lab, DB1) == before[0]
    assert echoes_at(lab, "club/db1") > before[1]
    assert not pings(lab, "club/web1", "192.168.2.12"), "the other VPC has that address"


SERVER = """
import socket
with socket.create_server(("0.0.0.0", 7000)) as server:
    while True:
        peer = server.accept()[0]
        while data := peer.recv(99):
            peer.sendall(data)
"""
CLIENT = """
import socket, sys, time
peer = socket.create_connection(("192.168.2.12", 7000), timeout=5)
peer.settimeout(60)
for number in range(10**6):
    peer.sendall(b"%09d" % number)
    peer.recv(9)
    print(number, flush=True)
    time.sleep(0.02)
"""


class Talk:
    """A TCP connection that sends something again and again, from a port to the server at another."""

    def __init__(self, lab: Lab, port: str) -> None:
        self._processes = [start(lab, DB2, SERVER)]
        until(lambda: "7000" in lab.run(DB2, "ss", "-tln").stdout)
        self._processes.append(start(lab, port, CLIENT))

        out = self._processes[1].stdout
        assert out is not None
        self._out = out

        os.set_blocking(out.fileno(), False)

    def advanced(self) -> bool:
        """Whether anything came back since the last question."""
        return bool(self._out.read())

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()


def start(lab: Lab, port: str, code: str) -> subprocess.Popen[bytes]:
    with netns.inside(lab.port(port).netns):
        return subprocess.Popen(["python3", "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_a_remote_group_holds_across_the_router(lab: Lab) -> None:
    talk = Talk(lab, WEB1)
    try:
        until(talk.advanced)
        code = 'import socket; socket.create_connection(("192.168.2.12", 7000), timeout=2)'
        refused = lab.run("shop/web2", "python3", "-c", code)
        assert refused.returncode != 0, "who is not in the group does not come in"
    finally:
        talk.close()


def test_without_the_router_connections_stop_and_with_it_they_go_on() -> None:
    with temporary_lab(loaded(MODEL)) as lab:
        model, talk = lab.model, Talk(lab, WEB1)
        try:
            until(talk.advanced)
            alone = Router(vni=model.vpcs["shop"].routers["r1"].vni, networks=("web",))
            for less in (with_routers(model, {}), with_routers(model, {"r1": alone})):
                Lab.up(less, lab.name)
                time.sleep(1.0)
                talk.advanced()
                time.sleep(1.0)
                assert not talk.advanced(), "without the router nothing comes back"
                Lab.up(model, lab.name)
                until(talk.advanced)
        finally:
            talk.close()


def test_a_route_that_is_added_leads_and_one_that_is_taken_away_does_not() -> None:
    with temporary_lab(loaded(MODEL)) as lab:
        behind(lab, "shop/fw1", "10.50.7.7")
        assert pings(lab, WEB1, "10.50.7.7")
        Lab.up(changed(lab.model, routes=()), lab.name)
        assert "Destination Net Unreachable" in complaint(lab, WEB1, "10.50.7.7")
        Lab.up(changed(lab.model, routes=(Route(to="10.50.0.0/16", via=NextHop(ip="192.168.1.250")),)), lab.name)
        assert pings(lab, WEB1, "10.50.7.7")
