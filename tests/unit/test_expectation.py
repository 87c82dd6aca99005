"""The independent reading of the model, against cases worked out by hand."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from ovsnet.lab.expectation import Expectation, Frame, Reason, Wire, delivered
from ovsnet.lab.headers import link_local
from ovsnet.lab.reachability import reachability
from ovsnet.model.types import AllowedAddress, Host, Model, Network, Port, Rule, SecurityGroup, Subnet, Vpc
from tests.property import packets as p

A, B, C, D = (f"02:00:00:00:00:0{n}" for n in "abcd")
VRRP = "00:00:5e:00:01:05"
LL_A = "fe80::ff:fe00:a"


def port(host: str | None, mac: str, *ips: str, **more: Any) -> Port:
    groups = ("open",) if more.get("port_security", True) else None
    return Port(network=more.pop("network", "web"), host=host, mac=mac, ips=ips, security_groups=groups, **more)


def model() -> Model:
    subnets = (Subnet(cidr="10.0.0.0/24"), Subnet(cidr="2001:db8::/64"))
    networks = {"web": Network(vni=7, subnets=subnets), "db": Network(vni=8, subnets=subnets)}
    allowed = (AllowedAddress(ip="10.9.0.0/16"), AllowedAddress(ip="10.0.0.100", mac=VRRP))
    shop = {
        "a": port("hv1", A, "10.0.0.1", "2001:db8::1", allowed_addresses=allowed),
        "b": port("hv2", B, "10.0.0.2", "2001:db8::2"),
        "c": port("hv1", C, "10.0.0.3", port_security=False),
        "d": port("hv1", D, "10.0.0.4", network="db"),
        "e": port(None, "02:00:00:00:00:0e", "10.0.0.5"),
    }
    bank = {"b": port("hv1", B, "10.0.0.2"), "a": port("hv2", A, "10.0.0.1")}
    hosts = {"hv1": Host(vtep="192.0.2.1"), "hv2": Host(vtep="192.0.2.2")}
    groups = {"open": SecurityGroup(rules=(Rule(direction="ingress"),))}
    vpcs = {
        "shop": Vpc(networks=networks, ports=shop, security_groups=groups),
        "bank": Vpc(networks={"web": Network(vni=9, subnets=subnets[:1])}, ports=bank, security_groups=groups),
    }
    return Model(name="m", hosts=hosts, vpcs=vpcs)


def frame(sender: str, src: str, dst: str, ip_src: str, ip_dst: str) -> Frame:
    ethertype, payload = p.ip(ip_src, ip_dst, p.udp())
    return Frame(sender, p.ethernet(dst, src, ethertype, payload))


def arp(sender: str, src: str, spa: str, tpa: str, op: int = 1, sha: str | None = None) -> Frame:
    return Frame(sender, p.ethernet(p.BROADCAST, src, p.ARP, p.arp(op, sha or src, spa, p.NO_MAC, tpa)))


def nd(sender: str, src: str, ip_src: str, target: str, option: str | None = None) -> Frame:
    mac, group = p.solicited_node(target)
    options = b"" if option is None else p.option(1, option)
    return Frame(sender, p.ethernet(mac, src, p.IPV6, p.solicitation(ip_src, group, target, options)))


UNICAST = [
    (frame("shop/a", A, B, "10.0.0.1", "10.0.0.2"), Reason.DELIVERED, "shop/b"),
    (frame("shop/a", A, C, LL_A, "ff02::1"), Reason.DELIVERED, "shop/c"),  # no security at the receiver
    (frame("shop/a", A, B, "10.0.0.1", "10.0.0.3"), Reason.FOREIGN_ADDRESS, None),
    (frame("shop/a", A, B, "10.9.1.1", "10.0.0.2"), Reason.DELIVERED, "shop/b"),
    (frame("shop/a", VRRP, B, "10.0.0.100", "10.0.0.2"), Reason.DELIVERED, "shop/b"),
    (frame("shop/a", A, B, "10.0.0.100", "10.0.0.2"), Reason.SPOOFED_IP, None),
    (frame("shop/a", VRRP, B, "10.0.0.1", "10.0.0.2"), Reason.SPOOFED_IP, None),
    (frame("shop/b", B, A, "10.0.0.2", "10.9.1.1"), Reason.FOREIGN_ADDRESS, None),  # allowed means sending only
    (frame("shop/a", A, B, "127.0.0.1", "10.0.0.2"), Reason.SPOOFED_IP, None),
    (frame("shop/c", A, B, "127.0.0.1", "10.0.0.2"), Reason.DELIVERED, "shop/b"),
    (frame("shop/c", "03:00:00:00:00:01", B, "10.0.0.3", "10.0.0.2"), Reason.MULTICAST_SOURCE, None),
    (frame("shop/a", B, C, "10.0.0.1", "10.0.0.3"), Reason.SPOOFED_MAC, None),
    (frame("shop/a", A, D, "10.0.0.1", "10.0.0.4"), Reason.UNKNOWN_MAC, None),
    (frame("shop/a", A, "02:00:00:00:00:0e", "10.0.0.1", "10.0.0.5"), Reason.UNKNOWN_MAC, None),
    (frame("shop/a", A, A, "10.0.0.1", "10.0.0.1"), Reason.OWN_MAC, None),
    (frame("shop/a", A, p.BROADCAST, "10.0.0.1", "255.255.255.255"), Reason.MULTICAST, None),
    (frame("bank/b", B, A, "10.0.0.2", "10.0.0.1"), Reason.DELIVERED, "bank/a"),
    (Frame("shop/a", p.ethernet(B, A, p.IPV4, b"", ((0x8100, 0),))), Reason.VLAN_TAG, None),
    (Frame("shop/c", p.ethernet(B, A, p.IPV4, b"", ((0x88A8, 5),))), Reason.VLAN_TAG, None),
    (Frame("shop/a", p.ethernet(C, A, 0x88CC, b"")), Reason.ETHERTYPE, None),
    (Frame("shop/c", p.ethernet(B, C, 0x88CC, b"")), Reason.FOREIGN_ADDRESS, None),
    (Frame("shop/a", b"short"), Reason.MALFORMED, None),
]

ADDRESS_RESOLUTION = [
    (arp("shop/a", A, "10.0.0.1", "10.0.0.2"), Reason.ANSWERED, B),
    (arp("shop/a", A, "0.0.0.0", "10.0.0.2"), Reason.ANSWERED, B),
    (arp("shop/a", VRRP, "10.0.0.100", "10.0.0.2"), Reason.ANSWERED, B),
    (arp("shop/a", A, "10.0.0.1", "10.0.0.1"), Reason.OWN_TARGET, None),
    (arp("shop/a", A, "10.0.0.1", "10.0.0.4"), Reason.UNKNOWN_TARGET, None),
    (arp("shop/a", A, "10.0.0.1", "10.0.0.5"), Reason.UNKNOWN_TARGET, None),
    (arp("shop/a", A, "10.0.0.2", "10.0.0.3"), Reason.SPOOFED_ARP, None),
    (arp("shop/a", A, "10.0.0.1", "10.0.0.2", sha=B), Reason.SPOOFED_ARP, None),
    (arp("shop/a", A, "0.0.0.0", "10.0.0.2", op=2), Reason.SPOOFED_ARP, None),
    (arp("shop/a", A, "10.0.0.1", "10.0.0.2", op=2), Reason.ARP_STAYS, None),
    (arp("shop/c", B, "10.0.0.2", "10.0.0.1", sha=D), Reason.ANSWERED, A),
    (nd("shop/a", A, LL_A, "2001:db8::2", A), Reason.ANSWERED, B),
    (nd("shop/a", A, LL_A, "fe80::ff:fe00:b", A), Reason.ANSWERED, B),
    (nd("shop/a", A, LL_A, "fe80::ff:fe00:b"), Reason.MULTICAST, None),
    (nd("shop/a", A, LL_A, LL_A, A), Reason.OWN_TARGET, None),
    (nd("shop/a", A, "::", LL_A), Reason.OWN_TARGET, None),
    (nd("shop/a", A, "::", "2001:db8::2"), Reason.SPOOFED_ND, None),
    (nd("shop/c", C, "::", "2001:db8::2"), Reason.DUPLICATE_DETECTION, None),
    (nd("shop/a", A, LL_A, "2001:db8::9", A), Reason.UNKNOWN_TARGET, None),
    (nd("shop/a", A, LL_A, "2001:db8::2", B), Reason.SPOOFED_ND, None),
    (nd("shop/a", A, "2001:db8::2", "2001:db8::2", A), Reason.SPOOFED_IP, None),
]


@pytest.mark.parametrize(("sent", "reason", "receiver"), UNICAST)
def test_a_frame_reaches_one_port_or_none(sent: Frame, reason: Reason, receiver: str | None) -> None:
    fate = delivered(model(), sent)
    assert (fate.reason, fate.receiver, fate.answer) == (reason, receiver, None)


@pytest.mark.parametrize(("sent", "reason", "mac"), ADDRESS_RESOLUTION)
def test_requests_are_answered_at_the_source(sent: Frame, reason: Reason, mac: str | None) -> None:
    fate = delivered(model(), sent)
    assert (fate.reason, fate.answer.mac if fate.answer else None) == (reason, mac)
    assert (fate.receiver, fate.wires) == (None, ())


def test_a_frame_crosses_the_wire_only_towards_a_known_mac_elsewhere() -> None:
    wire = Wire("192.0.2.1", "192.0.2.2", 7)
    assert delivered(model(), frame("shop/a", A, B, "10.0.0.1", "10.0.0.2")).wires == (wire,)
    assert delivered(model(), frame("shop/a", A, B, "10.0.0.1", "10.0.0.9")).wires == (wire,)
    assert delivered(model(), frame("shop/a", A, C, "10.0.0.1", "10.0.0.3")).wires == ()


def test_without_a_responder_a_solicitation_goes_to_the_owner_of_its_target() -> None:
    fate = Expectation(model(), nd_responder=False).delivered(nd("shop/a", A, LL_A, "2001:db8::2", A))
    assert (fate.receiver, fate.redirected, fate.answer) == ("shop/b", B, None)
    assert fate.wires == (Wire("192.0.2.1", "192.0.2.2", 7),)


@pytest.mark.parametrize(
    ("kind", "reason"), [(128, Reason.DELIVERED), (134, Reason.ROUTER_MESSAGE), (137, Reason.ROUTER_MESSAGE)]
)
def test_extension_headers_hide_nothing(kind: int, reason: Reason) -> None:
    message = p.icmpv6(LL_A, "2001:db8::2", kind, bytes(36))
    packet = p.extended(LL_A, "2001:db8::2", [p.DESTINATION_OPTIONS], p.ICMPV6, message)
    assert delivered(model(), Frame("shop/a", p.ethernet(B, A, p.IPV6, packet))).reason == reason


def test_an_unplaced_or_unknown_port_cannot_send() -> None:
    for name in ("shop/e", "shop/x"):
        with pytest.raises(ValueError, match="not a placed port"):
            delivered(model(), frame(name, A, B, "10.0.0.1", "10.0.0.2"))


@pytest.mark.parametrize("change", [{"mac": None}, {"ips": None}])
def test_a_model_must_be_assigned(change: dict[str, None]) -> None:
    declared = model()
    declared.vpcs["shop"].ports["a"] = msgspec.structs.replace(declared.vpcs["shop"].ports["a"], **change)
    with pytest.raises(ValueError, match="not assigned"):
        Expectation(declared)


def test_the_matrix_names_every_ordered_pair_and_family() -> None:
    pairs = list(reachability(model()))
    allowed = {(pair.src, pair.dst, pair.family) for pair in pairs if pair.allowed}
    near = {("shop/a", "shop/b"), ("shop/a", "shop/c"), ("shop/b", "shop/c"), ("bank/a", "bank/b")}
    both_ways = near | {(dst, src) for src, dst in near}
    assert allowed == {(*pair, 4) for pair in both_ways} | {("shop/a", "shop/b", 6), ("shop/b", "shop/a", 6)}
    assert {pair.dst for pair in pairs if pair.reason == "unplaced"} == {"shop/e"}
    assert not any(pair.src == "shop/e" for pair in pairs)
    ports = 6 * 6 + 2  # six senders, six other ports each, of which two pairs in IPv6 as well
    assert len(pairs) == ports


def test_the_matrix_says_whose_an_overlapping_address_is() -> None:
    owners = {(pair.src, pair.dst): pair.owner for pair in reachability(model()) if pair.family == 4}
    assert owners["shop/a", "shop/b"] == "shop/b"
    assert owners["shop/a", "bank/b"] == "shop/b"
    assert owners["shop/a", "bank/a"] == "shop/a"
    assert owners["shop/a", "shop/d"] is None


def test_link_local_addresses_are_modified_eui_64() -> None:
    assert str(link_local("00:16:3e:5a:00:01")) == "fe80::216:3eff:fe5a:1"


def test_the_oracle_shares_no_code_with_what_it_judges() -> None:
    judged = ("ovsnet.pipeline", "ovsnet.features", "ovsnet.compiler", "ovsnet.plan", "ovsnet.openflow")
    code = "import sys, ovsnet.lab.reachability; print(*[m for m in sys.modules if m.startswith('ovsnet')])"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"ovsnet.lab.expectation", "ovsnet.lab.filtering"} <= set(loaded)
    assert not [module for module in loaded if module.startswith(judged)]
