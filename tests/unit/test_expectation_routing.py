"""The independent reading of routers, against docs/routing.md's table, worked out by hand."""

from __future__ import annotations

import msgspec
import pytest

from ovsnet.lab.expectation import Answer, Delivery, Error, Expectation, Frame, Kind, Reason, Wire
from ovsnet.lab.fate import ICMP_OF
from ovsnet.model.types import (
    AllowedAddress,
    Host,
    Model,
    Network,
    NextHop,
    Port,
    Remote,
    Route,
    Router,
    Rule,
    SecurityGroup,
    Subnet,
    Vpc,
)
from tests.property import packets as p

GATEWAY = "02:6f:76:00:00:01"
GATEWAY_LL = "fe80::6f:76ff:fe00:1"
WEB1, FW1, FW2, WEB2, DB1, DB2, ISLE = (f"02:00:00:00:00:0{n}" for n in range(1, 8))
WEB1_LL = "fe80::ff:fe00:1"
OPEN = SecurityGroup(rules=(Rule(direction="ingress"),))
ANY = AllowedAddress(ip="10.50.0.0/16")


def port(network: str, host: str | None, mac: str, *ips: str, groups: tuple[str, ...] = ("open",), any4: bool = False,
         ) -> Port:  # fmt: skip
    allowed = (ANY,) if any4 else ()
    return Port(network=network, host=host, mac=mac, ips=ips, security_groups=groups, allowed_addresses=allowed)


def model() -> Model:
    networks = {
        "web": Network(vni=7, subnets=(Subnet(cidr="192.168.1.0/24"), Subnet(cidr="2001:db8:1::/64"))),
        "db": Network(vni=8, subnets=(Subnet(cidr="192.168.2.0/24", gateway="192.168.2.254"),)),
        "isle": Network(vni=9, subnets=(Subnet(cidr="192.168.3.0/24", gateway="192.168.3.1"),)),
    }
    ports = {
        "web1": port("web", "hv1", WEB1, "192.168.1.11", "2001:db8:1::11", any4=True),
        "web2": port("web", "hv2", WEB2, "192.168.1.12", "2001:db8:1::12"),
        "fw1": port("web", "hv2", FW1, "192.168.1.250", any4=True),
        "fw2": port("db", "hv1", FW2, "192.168.2.250"),
        "db1": port("db", "hv1", DB1, "192.168.2.11"),
        "db2": port("db", "hv2", DB2, "192.168.2.12", groups=("shy",)),
        "gone": port("db", None, "02:00:00:00:00:0a", "192.168.2.13"),
        "isle": port("isle", "hv1", ISLE, "192.168.3.11"),
    }
    one, two, gone = NextHop(port="fw1"), NextHop(ip="192.168.2.250"), NextHop(port="gone")
    routes = (
        Route(to="10.0.0.0/8", via=gone),
        Route(to="10.50.0.0/16", via=(one, two, gone)),
        Route(to="10.50.9.0/24", via=(one, NextHop(ip="192.168.2.99"))),
        Route(to="10.66.0.0/16", blackhole=True),
        Route(to="2001:db8:50::/48", via=one),
    )
    groups = {"open": OPEN, "shy": SecurityGroup(rules=(Rule(direction="ingress", remote=Remote(group="open")),))}
    vpc = Vpc(
        networks=networks,
        ports=ports,
        security_groups=groups,
        routers={"r1": Router(vni=99, networks=("web", "db"), routes=routes)},
    )
    hosts = {"hv1": Host(vtep="192.0.2.1"), "hv2": Host(vtep="192.0.2.2")}
    return Model(name="m", hosts=hosts, vpcs={"shop": vpc})


def to_gateway(packet: bytes, sender: str = "shop/web1", src: str = WEB1) -> Frame:
    return Frame(sender, p.ethernet(GATEWAY, src, p.IPV6 if packet[0] >> 4 == 6 else p.IPV4, packet))


def udp(dst: str, src: str = "", ttl: int = 64) -> bytes:
    src = src or ("2001:db8:1::11" if ":" in dst else "192.168.1.11")
    return (p.ipv6 if ":" in dst else p.ipv4)(src, dst, p.udp(b"data"), ttl=ttl)


def fate(packet: bytes) -> Delivery:
    return Expectation(model()).delivered(to_gateway(packet))


@pytest.mark.parametrize(
    ("target", "mac"),
    [("192.168.1.1", GATEWAY), ("192.168.2.254", None), ("192.168.2.1", None), ("192.168.2.11", None)],
)
def test_arp_tells_of_the_own_networks_gateways_only(target: str, mac: str | None) -> None:
    request = p.ethernet(p.BROADCAST, WEB1, p.ARP, p.arp(1, WEB1, "192.168.1.11", p.NO_MAC, target))
    answer = Expectation(model()).delivered(Frame("shop/web1", request)).answer
    assert answer == (None if mac is None else Answer("arp", GATEWAY, target, WEB1, "192.168.1.11"))


def test_a_network_without_router_has_no_gateway() -> None:
    meaning = Expectation(model())
    request = p.ethernet(p.BROADCAST, ISLE, p.ARP, p.arp(1, ISLE, "192.168.3.11", p.NO_MAC, "192.168.3.1"))
    assert meaning.delivered(Frame("shop/isle", request)).reason == Reason.UNKNOWN_TARGET
    packet = udp("192.168.1.11", "192.168.3.11")
    assert meaning.delivered(to_gateway(packet, "shop/isle", ISLE)).reason == Reason.UNKNOWN_MAC
    assert fate(udp("192.168.3.11")).reason == Reason.NO_ROUTE


@pytest.mark.parametrize(("responder", "by"), [(True, "switch"), (False, "agent")])
@pytest.mark.parametrize("target", ["2001:db8:1::1", GATEWAY_LL])
def test_neighbour_discovery_tells_of_gateways(target: str, responder: bool, by: str) -> None:
    mac, group = p.solicited_node(target)
    packet = p.solicitation("2001:db8:1::11", group, target, p.option(1, WEB1))
    found = Expectation(model(), nd_responder=responder).delivered(
        Frame("shop/web1", p.ethernet(mac, WEB1, p.IPV6, packet))
    )
    assert found.answer is not None
    assert found.answer.by == by
    assert (found.answer.mac, found.answer.ip, found.answer.to_mac) == (GATEWAY, target, WEB1)


@pytest.mark.parametrize(("somewhere", "reason"), [(True, Reason.ANSWERED), (False, Reason.NOT_ROUTABLE)])
def test_the_link_local_gateway_is_that_of_a_domain_with_ipv6(somewhere: bool, reason: Reason) -> None:
    """Whether or not the sender's own network has a range of it: a router answers for all that it joins."""
    packet = p.ipv6("fe80::ff:fe00:5", GATEWAY_LL, p.icmpv6("fe80::ff:fe00:5", GATEWAY_LL, 128, b"\0\1\0\1"), p.ICMPV6)
    insecure = msgspec.structs.replace(model().vpcs["shop"].ports["db1"], port_security=False, security_groups=None)
    changed = model()
    changed.vpcs["shop"].ports["db1"] = insecure
    if not somewhere:
        for name, network in changed.vpcs["shop"].networks.items():
            ipv4 = tuple(subnet for subnet in network.subnets if ":" not in subnet.cidr)
            changed.vpcs["shop"].networks[name] = msgspec.structs.replace(network, subnets=ipv4)
    assert Expectation(changed).delivered(to_gateway(packet, "shop/db1", DB1)).reason == reason


@pytest.mark.parametrize(("gateway", "ttl"), [("192.168.1.1", 64), ("192.168.2.254", 64), ("192.168.1.1", 1)])
def test_gateways_answer_pings(gateway: str, ttl: int) -> None:
    found = fate(p.ipv4("192.168.1.11", gateway, p.icmp(8), p.ICMP, ttl=ttl))
    assert found.answer == Answer("echo", GATEWAY, gateway, WEB1, "192.168.1.11")


@pytest.mark.parametrize("src", ["2001:db8:1::11", WEB1_LL])
@pytest.mark.parametrize("gateway", ["2001:db8:1::1", GATEWAY_LL])
def test_gateways_answer_pings_of_ipv6(src: str, gateway: str) -> None:
    found = fate(p.ipv6(src, gateway, p.icmpv6(src, gateway, 128, b"\0\1\0\1"), p.ICMPV6))
    assert found.answer == Answer("echo", GATEWAY, gateway, WEB1, src)


def told(kind: Kind, source: str = "192.168.1.1", to: str = "192.168.1.11", forbidden: str | None = None) -> Error:
    return Error(kind, source, WEB1, to, forbidden)


@pytest.mark.parametrize(
    ("packet", "reason", "error"),
    [
        (udp("192.168.2.254"), Reason.AT_GATEWAY, told(Kind.PORT_UNREACHABLE)),
        (udp(GATEWAY_LL), Reason.AT_GATEWAY, told(Kind.PORT_UNREACHABLE, "2001:db8:1::1", "2001:db8:1::11")),
        (p.ipv4("192.168.1.11", "192.168.2.254", p.tcp(), p.TCP), Reason.AT_GATEWAY, told(Kind.RESET, "192.168.2.254")),
        (p.ipv4("192.168.1.11", "192.168.1.1", bytes(20), 47), Reason.AT_GATEWAY, None),
        (p.ipv4("192.168.1.11", "192.168.1.1", p.icmp(13), p.ICMP), Reason.AT_GATEWAY, None),
        (udp("224.0.0.1"), Reason.NOT_ROUTABLE, None),
        (udp("255.255.255.255"), Reason.NOT_ROUTABLE, None),
        (udp("192.168.2.255"), Reason.NOT_ROUTABLE, None),
        (udp("127.0.0.1"), Reason.NOT_ROUTABLE, None),
        (udp("169.254.0.1"), Reason.NOT_ROUTABLE, None),
        (udp("0.0.0.0"), Reason.NOT_ROUTABLE, None),
        (udp("ff02::1"), Reason.NOT_ROUTABLE, None),
        (udp("fe80::1"), Reason.NOT_ROUTABLE, None),
        (udp("2001:db8:50::1", WEB1_LL), Reason.NOT_ROUTABLE, None),
        (udp("224.0.0.1", ttl=1), Reason.NOT_ROUTABLE, None),
        (udp("192.168.2.11", ttl=1), Reason.TTL_SPENT, told(Kind.TIME_EXCEEDED)),
        (udp("192.168.2.11", ttl=0), Reason.TTL_SPENT, told(Kind.TIME_EXCEEDED)),
        (udp("10.66.0.1", ttl=1), Reason.TTL_SPENT, told(Kind.TIME_EXCEEDED)),
        (udp("192.168.2.99"), Reason.NO_HOST, told(Kind.HOST_UNREACHABLE)),
        (udp("192.168.2.13"), Reason.NO_HOST, told(Kind.HOST_UNREACHABLE)),
        (udp("10.1.0.1"), Reason.NO_HOST, told(Kind.HOST_UNREACHABLE)),
        (udp("10.1.0.1", "10.50.0.1"), Reason.NO_HOST, told(Kind.HOST_UNREACHABLE, to="10.50.0.1")),
        (udp("2001:db8:1::99"), Reason.NO_HOST, told(Kind.HOST_UNREACHABLE, "2001:db8:1::1", "2001:db8:1::11")),
        (udp("10.66.0.1"), Reason.BLACKHOLE, None),
        (udp("198.51.100.1"), Reason.NO_ROUTE, told(Kind.NO_ROUTE)),
        (udp("2001:db8:99::1"), Reason.NO_ROUTE, told(Kind.NO_ROUTE, "2001:db8:1::1", "2001:db8:1::11")),
        (udp("192.168.1.11"), Reason.COMES_BACK, None),
        (udp("192.168.2.11", "192.168.1.99"), Reason.SPOOFED_IP, None),
    ],
)
def test_drops_and_what_is_said_of_them(packet: bytes, reason: Reason, error: Error | None) -> None:
    found = fate(packet)
    assert (found.reason, found.error, found.copies, found.wires, found.answer) == (reason, error, [], (), None)


def test_errors_come_from_the_gateway_of_the_senders_subnet() -> None:
    changed = model()
    subnets = (Subnet(cidr="172.16.0.0/24"), *changed.vpcs["shop"].networks["web"].subnets)
    changed.vpcs["shop"].networks["web"] = Network(vni=7, subnets=subnets)
    for src, source in (("192.168.1.11", "192.168.1.1"), ("10.50.0.1", "172.16.0.1")):
        error = Expectation(changed).delivered(to_gateway(udp("198.51.100.1", src))).error
        assert error == told(Kind.NO_ROUTE, source, src)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (p.ipv4("192.168.1.11", "198.51.100.1", p.icmp(8), p.ICMP), None),
        (p.ipv4("192.168.1.11", "198.51.100.1", p.icmp(3, 1, data=udp("192.168.1.11")), p.ICMP), "error"),
        (p.ipv4("192.168.1.11", "198.51.100.1", p.udp(bytes(56)), flags=8), "fragment"),
        (p.ipv4("192.168.1.11", "198.51.100.1", p.udp(bytes(56)), flags=0x2000), None),
        (p.ipv4("192.168.1.11", "192.168.1.1", p.tcp(flags=4), p.TCP), "reset"),
    ],
)
def test_about_some_packets_nothing_may_be_said(packet: bytes, why: str | None) -> None:
    groups = {"open": OPEN, "shy": OPEN}
    lawless = model()
    lawless.vpcs["shop"].ports["web1"] = port("web", "hv1", WEB1, "192.168.1.11")
    stateless = {name: msgspec.structs.replace(group, stateful=False) for name, group in groups.items()}
    lawless.vpcs["shop"].security_groups.update(stateless)
    error = Expectation(lawless).delivered(to_gateway(packet)).error
    assert error is not None
    assert error.forbidden is None if why is None else why in str(error.forbidden)


def test_a_routed_frame_differs_in_macs_and_ttl() -> None:
    found = fate(udp("192.168.2.12"))
    assert (found.reason, found.receiver) == (Reason.DELIVERED, "shop/db2")
    assert found.wires == (Wire("192.0.2.1", "192.0.2.2", 8),)
    assert found.routed == p.ethernet(DB2, GATEWAY, p.IPV4, udp("192.168.2.12", ttl=63))
    near = fate(udp("2001:db8:1::12", ttl=2))
    assert near.routed == p.ethernet(WEB2, GATEWAY, p.IPV6, udp("2001:db8:1::12", ttl=1))
    assert near.wires == (Wire("192.0.2.1", "192.0.2.2", 7),)


def test_the_longest_prefix_decides_and_absent_next_hops_do_not_count() -> None:
    alone = fate(udp("10.50.9.1"))
    assert (alone.receiver, alone.choices) == ("shop/fw1", ())
    assert alone.routed == p.ethernet(FW1, GATEWAY, p.IPV4, udp("10.50.9.1", ttl=63))
    assert fate(udp("2001:db8:50::1")).receiver == "shop/fw1"


def test_of_several_next_hops_exactly_one_receives() -> None:
    found = fate(udp("10.50.0.1"))
    assert (found.reason, found.copies, found.route) == (Reason.ONE_OF_SEVERAL, [], ("shop/r1", "10.50.0.0/16"))
    assert [choice.receiver for choice in found.choices] == ["shop/fw1", "shop/fw2"]
    assert [choice.wires for choice in found.choices] == [(Wire("192.0.2.1", "192.0.2.2", 7),), ()]
    assert [choice.routed and choice.routed[:6].hex(":") for choice in found.choices] == [FW1, FW2]


def test_a_next_hop_that_was_not_chosen_knows_no_connection() -> None:
    changed = model()
    changed.vpcs["shop"].security_groups["shut"] = SecurityGroup(
        default_egress="deny", rules=(Rule(direction="ingress"),)
    )
    for name in ("fw1", "fw2"):
        old = changed.vpcs["shop"].ports[name]
        changed.vpcs["shop"].ports[name] = msgspec.structs.replace(
            old, security_groups=("shut",), allowed_addresses=(ANY,)
        )
    meaning, sent = Expectation(changed), to_gateway(udp("10.50.0.1"))
    found = meaning.delivered(sent)
    asked = meaning.chosen(sent, found, found.choices[0], remember=False)
    taken = meaning.chosen(sent, found, found.choices[1])
    assert (asked.receiver, taken.receiver) == ("shop/fw1", "shop/fw2")
    reply = p.ipv4("10.50.0.1", "192.168.1.11", p.udp(b"data", 9, 40000))
    assert meaning.delivered(to_gateway(reply, "shop/fw1", FW1)).reason == Reason.EGRESS_REFUSED
    assert meaning.delivered(to_gateway(reply, "shop/fw2", FW2)).receiver == "shop/web1"


def test_the_host_of_a_next_hop_delivers_its_ranges_and_no_others() -> None:
    meaning = Expectation(model())
    for dst, reason in (("10.50.0.1", Reason.DELIVERED), ("10.51.0.1", Reason.FOREIGN_ADDRESS)):
        frame = p.ethernet(FW1, WEB1, p.IPV4, udp(dst))
        assert meaning.delivered(Frame("shop/web1", frame)).reason == reason
        assert meaning.arrived("hv2", 7, frame).reason == reason
        assert meaning.arrived("hv2", 99, frame).reason == Reason.UNKNOWN_MAC


def test_a_next_hop_gets_nothing_of_its_own_back() -> None:
    back = Expectation(model()).delivered(to_gateway(udp("10.50.9.1", "192.168.1.250"), "shop/fw1", FW1))
    assert (back.reason, back.copies) == (Reason.COMES_BACK, [])


def test_what_comes_through_a_tunnel_is_not_routed() -> None:
    frame = to_gateway(udp("192.168.2.12")).data
    assert Expectation(model()).arrived("hv2", 7, frame).reason == Reason.UNKNOWN_MAC


def test_a_member_is_one_in_every_network_of_the_routed_domain() -> None:
    changed = model()
    changed.vpcs["shop"].security_groups["few"] = OPEN
    assert Expectation(changed).delivered(to_gateway(udp("192.168.2.12"))).receiver == "shop/db2"
    changed.vpcs["shop"].ports["web1"] = port("web", "hv1", WEB1, "192.168.1.11", groups=("few",))
    assert Expectation(changed).delivered(to_gateway(udp("192.168.2.12"))).reason == Reason.INGRESS_REFUSED


def test_every_icmp_error_has_its_type_in_both_families() -> None:
    assert set(ICMP_OF) == set(Kind) - {Kind.RESET}
    assert ICMP_OF[Kind.HOST_UNREACHABLE] == {4: (3, 1), 6: (1, 3)}
    assert ICMP_OF[Kind.NO_ROUTE] == {4: (3, 0), 6: (1, 0)}
