"""The independent reading of security groups, against cases worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import msgspec
import pytest

from ovsnet.lab.connections import Connections, Role
from ovsnet.lab.filtering import Direction, Filter, Guard, Verdict
from ovsnet.lab.segments import ICMP, ICMPV6, TCP, UDP, Segment, read
from ovsnet.model.types import AllowedAddress, Model, Network, Port, Remote, RemoteEndpoint, Rule, SecurityGroup, Vpc
from tests.property import packets as p

WEB1, WEB2, DB1, STRANGER = "10.0.0.11", "10.0.0.12", "10.0.0.21", "198.51.100.7"
WHERE = ("shop", "net")


def rule(direction: Direction = "ingress", **more: Any) -> Rule:
    remote = {key: more.pop(key) for key in ("cidr", "group", "address_group") if key in more}
    return Rule(direction=direction, remote=Remote(**remote) if remote else None, **more)


def port(ip: str, last: int, *groups: str, **more: Any) -> Port:
    ips = (ip, f"2001:db8::{last}")
    return Port(
        network="net", host="hv1", mac=f"02:00:00:00:00:{last:02x}", ips=ips, security_groups=groups or None, **more
    )


def model(**groups: SecurityGroup) -> Model:
    ports = {
        "web1": port(
            WEB1, 11, "web", allowed_addresses=(AllowedAddress(ip="10.9.0.1"), AllowedAddress(ip="10.8.0.0/16"))
        ),
        "web2": port(WEB2, 12, "web"),
        "db1": port(DB1, 21, "db"),
        "idle": msgspec.structs.replace(port("10.0.0.50", 50, "web"), host=None),
        "plain1": port("10.0.0.31", 31),
        "plain2": port("10.0.0.32", 32),
        "open": Port(network="net", mac="02:00:00:00:00:33", ips=("10.0.0.33",), port_security=False),
    }
    declared = {"web": SecurityGroup(), "db": SecurityGroup(), **groups}
    ranges = {"office": ("198.51.100.0/24", "2001:db8:ff::/48")}
    vpc = Vpc(networks={"net": Network(vni=7)}, ports=ports, security_groups=declared, address_groups=ranges)
    return Model(name="m", vpcs={"shop": vpc})


def segment(src: str, dst: str, protocol: int = TCP, dport: int | None = 80, **more: Any) -> Segment:
    sport = None if dport is None else 40000
    return Segment(ip_address(src), ip_address(dst), protocol, sport=sport, dport=dport, **more)


def back(packet: Segment) -> Segment:
    return replace(packet, src=packet.dst, dst=packet.src, sport=packet.dport, dport=packet.sport)


def ask(declared: Model, groups: tuple[str, ...], direction: Direction, packet: Segment) -> Verdict:
    return Filter(declared).judge(WHERE, groups, direction, packet)


def test_what_no_rule_allows_is_refused_and_egress_is_open_until_a_rule_says_otherwise() -> None:
    declared = model(db=SecurityGroup(default_egress="deny"))
    assert ask(declared, ("web",), "ingress", segment(DB1, WEB1)) == Verdict("drop")
    assert ask(declared, ("web",), "egress", segment(WEB1, DB1)) == Verdict("allow", ("web.default_egress",))
    assert ask(declared, ("db",), "egress", segment(DB1, WEB1)) == Verdict("drop")
    one = model(web=SecurityGroup(rules=(rule("egress", protocol="tcp", port=443),)))
    assert ask(one, ("web",), "egress", segment(WEB1, DB1)) == Verdict("drop")
    # The other group is silent on egress, so it allows all of it for a port that is in both.
    assert ask(one, ("web", "db"), "egress", segment(WEB1, DB1)) == Verdict("allow", ("db.default_egress",))


def test_the_lowest_priority_number_comes_first_and_at_a_tie_the_stronger_action() -> None:
    rules = (
        rule(protocol="tcp", priority=20),
        rule(protocol="tcp", priority=10, action="reject", port="79-81"),
        rule(protocol="tcp", priority=10, port=80),
        rule(protocol="tcp", priority=10, action="reject", port=80),
    )
    declared = model(web=SecurityGroup(rules=rules))
    assert ask(declared, ("web",), "ingress", segment(DB1, WEB1)) == Verdict("reject", ("web[1]", "web[3]"))
    assert ask(declared, ("web",), "ingress", segment(DB1, WEB1, dport=82)).rules == ("web[0]",)
    both = model(web=SecurityGroup(rules=rules), db=SecurityGroup(rules=(rule(priority=10, action="drop"),)))
    assert ask(both, ("web", "db"), "ingress", segment(DB1, WEB1)) == Verdict("drop", ("db[0]",))


@pytest.mark.parametrize(
    ("src", "member"),
    [
        (WEB1, True),
        (DB1, False),
        ("2001:db8::12", True),
        ("fe80::ff:fe00:b", True),
        ("10.9.0.1", True),
        ("10.8.0.1", False),
        (STRANGER, False),
        ("10.0.0.41", True),
        ("10.0.0.33", False),
        ("10.0.0.50", False),
    ],
)
def test_members_are_placed_and_have_declared_addresses_single_allowed_ones_and_link_local_ones(
    src: str, member: bool
) -> None:
    declared = model(db=SecurityGroup(rules=(rule(group="web"),)))
    far = {"shop": {"far": RemoteEndpoint(network="net", mac="02:00:00:00:00:41", ips=("10.0.0.41",), vtep="192.0.2.9",
                                          groups=("web",))}}  # fmt: skip
    dst = DB1 if "." in src else "2001:db8::21"
    found = Filter(declared, far).judge(WHERE, ("db",), "ingress", segment(src, dst))
    assert found.passes is member
    elsewhere = Filter(declared, far).judge(("shop", "other"), ("db",), "ingress", segment(src, dst))
    assert not elsewhere.passes


def test_a_member_without_ipv6_has_no_link_local_member_address() -> None:
    declared = model(db=SecurityGroup(rules=(rule(group="web"),)))
    declared.vpcs["shop"].ports["web1"] = Port(
        network="net", host="hv1", mac="02:00:00:00:00:0b", ips=(WEB1,), security_groups=("web",)
    )
    assert not ask(declared, ("db",), "ingress", segment("fe80::ff:fe00:b", "2001:db8::21")).passes


def test_the_built_in_default_lets_its_members_talk_and_gives_way_to_a_declared_one() -> None:
    assert ask(model(), ("default",), "ingress", segment("10.0.0.32", "10.0.0.31")).rules == ("default[0]",)
    assert not ask(model(), ("default",), "ingress", segment("10.0.0.33", "10.0.0.31")).passes
    assert ask(model(), ("default",), "egress", segment("10.0.0.31", STRANGER)).passes
    closed = model(default=SecurityGroup(default_egress="deny"))
    assert not ask(closed, ("default",), "ingress", segment("10.0.0.32", "10.0.0.31")).passes
    assert not ask(closed, ("default",), "egress", segment("10.0.0.31", STRANGER)).passes


@pytest.mark.parametrize(
    ("one", "packet", "fits"),
    [
        (rule(address_group="office"), segment(STRANGER, WEB1), True),
        (rule(address_group="office"), segment("2001:db8:ff::1", "2001:db8::11"), True),
        (rule(cidr="10.0.0.16/28"), segment(DB1, WEB1), True),
        (rule(cidr="0.0.0.0/0"), segment("2001:db8::21", "2001:db8::11"), False),
        (rule(ethertype="ipv6"), segment(DB1, WEB1), False),
        (rule(protocol="tcp", port=("1-79", 81)), segment(DB1, WEB1), False),
        (rule(protocol="udp", port="79-80"), segment(DB1, WEB1, UDP), True),
        (rule(protocol=6), segment(DB1, WEB1), True),
        (rule(protocol="icmp"), segment(DB1, WEB1, ICMP, None, kind=8, code=0), True),
        (rule(protocol="icmp", type=8), segment(DB1, WEB1, ICMP, None, kind=8, code=3), True),
        (rule(protocol="icmp", type=8, code=0), segment(DB1, WEB1, ICMP, None, kind=8, code=3), False),
        (rule(protocol="icmp"), segment("2001:db8::21", "2001:db8::11", ICMPV6, None, kind=128), False),
        (rule(protocol="icmpv6", type=128), segment("2001:db8::21", "2001:db8::11", ICMPV6, None, kind=128), True),
    ],
)
def test_every_field_of_a_rule_must_fit(one: Rule, packet: Segment, fits: bool) -> None:
    assert ask(model(web=SecurityGroup(rules=(one,))), ("web",), "ingress", packet).passes is fits


def test_a_later_fragment_fits_allowing_rules_by_protocol_and_peer_alone() -> None:
    later = segment(DB1, WEB1, UDP, None, part="later")
    allow, drop = rule(protocol="udp", port=53), rule(protocol="udp", port=53, priority=1, action="drop")
    assert ask(model(web=SecurityGroup(rules=(allow,))), ("web",), "ingress", later).passes
    assert ask(model(web=SecurityGroup(rules=(allow, drop))), ("web",), "ingress", later).rules == ("web[0]",)
    assert not ask(model(web=SecurityGroup(rules=(allow,))), ("web",), "ingress", replace(later, protocol=TCP)).passes
    whole = model(web=SecurityGroup(rules=(allow, rule(protocol="udp", priority=1, action="drop"))))
    assert not ask(whole, ("web",), "ingress", later).passes


def test_a_later_fragment_of_ipv6_shows_no_protocol() -> None:
    later = segment("2001:db8::21", "2001:db8::11", UDP, None, part="later")
    drop = rule(protocol="udp", priority=1, action="drop")
    assert ask(model(web=SecurityGroup(rules=(rule(protocol="tcp"), drop))), ("web",), "ingress", later).rules == (
        "web[0]",
    )
    ending = rule(priority=1, action="drop")
    assert not ask(model(web=SecurityGroup(rules=(rule(protocol="udp"), ending))), ("web",), "ingress", later).passes


def guard(declared: Model, *groups: str) -> Guard:
    return Guard(Filter(declared), WHERE, groups)


def test_replies_are_judged_as_what_opened_them_and_only_while_that_is_allowed() -> None:
    one = guard(model(web=SecurityGroup(rules=(rule(protocol="tcp", port=80),), default_egress="deny")), "web")
    opening = segment(DB1, WEB1, flags=2)
    reply = replace(back(opening), flags=18)
    assert not one.passes("egress", reply).passes
    assert one.passes("ingress", opening).rules == ("web[0]",)
    assert one.passes("egress", reply) == Verdict("allow", ("web[0]",))
    assert not one.passes("egress", replace(reply, dport=40001)).passes


def test_stateless_groups_judge_every_packet_by_itself() -> None:
    rules = (rule(protocol="udp", port=53),)
    one = guard(model(web=SecurityGroup(rules=rules, default_egress="deny", stateful=False)), "web")
    assert one.passes("ingress", segment(DB1, WEB1, UDP, 53)).passes
    assert not one.passes("egress", back(segment(DB1, WEB1, UDP, 53))).passes
    assert (
        guard(model(web=SecurityGroup(rules=rules, stateful=False)), "web")
        .passes("egress", segment(WEB1, DB1, UDP, 53))
        .passes
    )


def test_an_empty_list_lets_nothing_in_and_nothing_out() -> None:
    for direction in ("ingress", "egress"):
        assert not guard(model(), *()).passes(direction, segment(DB1, WEB1)).passes


def test_fragments_of_stateful_groups_pass_at_most() -> None:
    one = guard(model(web=SecurityGroup(rules=(rule(protocol="udp", port=53),), default_egress="deny")), "web")
    first = segment(DB1, WEB1, UDP, 53, part="first")
    assert (one.passes("ingress", first).passes, one.passes("ingress", first).certain) == (True, False)
    assert one.passes("ingress", replace(first, protocol=TCP)) == Verdict("drop")


def echo(src: str, dst: str, kind: int) -> Segment:
    return segment(src, dst, ICMP, None, kind=kind, code=0, ident=5)


def test_what_a_packet_is_to_the_connections_known() -> None:
    known = Connections()
    opening = segment(DB1, WEB1, UDP, 53)
    assert known.place(opening).role == Role.OPENING
    known.remember(opening)
    assert known.place(opening).role == Role.FORTH
    assert known.place(back(opening)) == known.place(back(opening))
    assert (known.place(back(opening)).role, known.place(back(opening)).opener) == (Role.BACK, opening)
    assert known.place(segment(WEB1, DB1, UDP, 53)).role == Role.OPENING
    error = segment(WEB1, DB1, ICMP, None, kind=3, code=4, about=opening)
    assert known.place(replace(error, dst=ip_address(WEB2))).role == Role.INVALID
    assert (known.place(error).role, known.place(error).opener) == (Role.BACK, opening)
    assert known.place(replace(error, dst=opening.dst, about=back(opening))).role == Role.FORTH
    assert known.place(replace(error, about=segment(DB1, WEB1, UDP, 54))).role == Role.INVALID
    assert known.place(echo(WEB1, DB1, 0)).role == Role.INVALID
    known.remember(echo(DB1, WEB1, 8))
    assert known.place(echo(WEB1, DB1, 0)).role == Role.BACK
    assert known.place(echo(WEB1, DB1, 8)).role == Role.OPENING
    assert known.place(segment(WEB1, DB1, flags=18)).role == Role.INVALID
    assert known.place(segment(WEB1, DB1, flags=16)).role == Role.OPENING


def test_packets_are_read_from_their_bytes() -> None:
    udp = p.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", *p.ip(WEB1, DB1, p.udp(b"x", 5, 53)))
    assert read(udp) == Segment(ip_address(WEB1), ip_address(DB1), UDP, sport=5, dport=53)
    cited = p.ipv4(WEB1, DB1, p.tcp(7, 80), p.TCP)[:28]
    error = p.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", p.IPV4,
                       p.ipv4(DB1, WEB1, b"\x03\x04" + bytes(6) + cited, p.ICMP))  # fmt: skip
    found = read(error)
    assert found is not None and found.about is not None
    assert (found.kind, found.code, found.about.sport, found.about.dport) == (3, 4, 7, 80)
    fragment = p.extended("2001:db8::1", "2001:db8::2", [p.fragment_header(64, False)], p.UDP, p.udp())
    later = p.ethernet("02:00:00:00:00:01", "02:00:00:00:00:02", p.IPV6, fragment)
    found = read(later)
    assert found is not None
    assert (found.part, found.protocol, found.dport) == ("later", UDP, None)
    assert read(b"\0" * 60) is None
