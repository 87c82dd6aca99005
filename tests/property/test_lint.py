"""What lint calls removable can be removed: an evaluator of groups, written for this test, sees no verdict change."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network
from itertools import product
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.lint import lint
from ovsnet.lint.regions import Region, difference, intersection, uncovered
from ovsnet.model import Host, Model, Network, Port, Subnet, Vpc
from ovsnet.model.types import AllowedAddress, Remote, Rule, SecurityGroup

MODELS = 300
"""How many random models each test looks at."""
GROUPS = ("a", "b", "c")
NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "gre": 47}
PEERS = ("10.0.0.11", "10.0.0.12", "10.0.0.13", "10.1.0.11", "172.16.0.1", "fd00::11", "fd00::12", "fd01::1")
DETAILS: dict[int, tuple[tuple[int, ...], ...]] = {
    6: ((0,), (79,), (80,), (81,), (65535,), ()),
    17: ((53,), (80,), ()),
    1: ((0, 0), (8, 0), (8, 1), ()),
    58: ((1, 0), (128, 0), (135, 0), (143, 0), ()),
    47: ((),),
}
ADDRESS_GROUPS = {"some": ("10.0.0.12/32", "fd00::/64"), "four": ("10.0.0.0/8",), "none": ()}


@dataclass(frozen=True)
class Packet:
    """``detail``: the destination port, or type and code; empty: a protocol without, or a later fragment."""

    protocol: int
    detail: tuple[int, ...]
    peer: str


PACKETS = tuple(
    Packet(protocol, detail, peer)
    for (protocol, details), peer in product(DETAILS.items(), PEERS)
    if protocol not in {1, 58} or (protocol == 58) == (":" in peer)
    for detail in details
)


def members(vpc: Vpc, group: str, network: str) -> Iterator[str]:
    """The addresses by which ports of ``network`` are members (none has a link-local one that is asked for)."""
    for port in vpc.ports.values():
        if group in (port.security_groups or ()) and port.network == network:
            yield from port.ips or ()
            yield from (one.ip for one in port.allowed_addresses if "/" not in one.ip)


@cache
def inside(address: str, cidr: str) -> bool:
    return ip_address(address) in ip_network(cidr)


def speaks(rule: Rule, packet: Packet, stateful: bool) -> bool:
    """Whether a rule is about such packets, whoever the peer is."""
    six, protocol = ":" in packet.peer, None if rule.protocol is None else NUMBERS[str(rule.protocol)]
    if rule.ethertype not in {None, "ipv6" if six else "ipv4"} or (protocol in {1, 58} and (protocol == 58) != six):
        return False
    anything = rule.type is None and rule.port in {None, "0-65535"}
    if not packet.detail and packet.protocol != NUMBERS["gre"]:  # a later fragment: no ports, in IPv6 no protocol
        assert not stateful
        if rule.action == "allow":
            return six or protocol in {None, packet.protocol}
        return protocol is None or (not six and protocol == packet.protocol and anything)
    if protocol not in {None, packet.protocol}:
        return False
    if anything:
        return True
    if rule.type is not None:
        return rule.type == packet.detail[0] and rule.code in {None, packet.detail[1]}
    parts = rule.port if isinstance(rule.port, tuple) else (rule.port,)
    bounds = [[int(number) for number in str(part).split("-")] for part in parts]
    return any(one[0] <= packet.detail[0] <= one[-1] for one in bounds)


def matches(vpc: Vpc, port: Port, rule: Rule, packet: Packet, stateful: bool) -> bool:
    remote = rule.remote
    if remote is None or not speaks(rule, packet, stateful):
        return remote is None and speaks(rule, packet, stateful)
    if remote.group is not None:
        return packet.peer in members(vpc, remote.group, port.network)
    ranges = ADDRESS_GROUPS[remote.address_group] if remote.address_group else (str(remote.cidr),)
    return any(inside(packet.peer, one) for one in ranges)


def verdict(vpc: Vpc, port: Port, direction: str, packet: Packet) -> tuple[str, bool]:
    """allow, drop or reject, and whether it is logged."""
    if packet.protocol == 58 and packet.detail and packet.detail[0] in {*range(130, 138), 143}:
        return "allow", False
    mine = [vpc.security_groups[name] for name in port.security_groups or ()]
    listed = [(rule, group.stateful) for group in mine for rule in group.rules if rule.direction == direction]
    listed = [(rule, stateful) for rule, stateful in listed if matches(vpc, port, rule, packet, stateful)]
    if listed:
        order = {"drop": 0, "reject": 1, "allow": 2}
        best = min((rule.priority, order[rule.action]) for rule, _ in listed)
        first = [rule for rule, _ in listed if (rule.priority, order[rule.action]) == best]
        return first[0].action, any(rule.log for rule in first)
    if direction == "egress":
        open_ = (all(one.direction == "ingress" for one in g.rules) and g.default_egress == "allow" for g in mine)
        if any(open_):
            return "allow", False
    return "refused", False


def verdicts(vpc: Vpc, stateful: bool) -> list[tuple[str, bool]]:
    packets = [one for one in PACKETS if one.detail or one.protocol == 47 or not stateful]
    return [
        verdict(vpc, port, direction, packet)
        for port in vpc.ports.values() for direction in ("ingress", "egress") for packet in packets
    ]  # fmt: skip


def a_remote(random: Random, cidr: bool = True) -> Remote | None:
    kind = random.randrange(5 if cidr else 4)
    if kind < 2:
        return None
    if kind == 2:
        return Remote(group=random.choice(GROUPS))
    if kind == 3:
        return Remote(address_group=random.choice(sorted(ADDRESS_GROUPS)))
    return Remote(cidr=random.choice(("10.0.0.0/24", "10.0.0.12/32", "0.0.0.0/0", "fd00::/64")))


def a_rule(random: Random) -> Rule:
    protocol = random.choice((None, "tcp", "tcp", "tcp", "udp", "icmp", "icmpv6", "gre"))
    remote = a_remote(random, cidr=protocol not in {"icmp", "icmpv6"})
    fields: dict[str, Any] = {"protocol": protocol, "remote": remote}
    if protocol in {"tcp", "udp"}:
        fields["port"] = random.choice((None, 80, "79-81", (53, "80-65535"), "0-79", "0-65535"))
    if protocol in {"icmp", "icmpv6"}:
        fields["type"] = random.choice((None, 8, 128, 135))
        fields["code"] = None if fields["type"] is None else random.choice((None, 0, 1))
    elif remote is None or remote.cidr is None:
        fields["ethertype"] = random.choice((None, None, "ipv4", "ipv6"))
    return Rule(
        direction=random.choice(("ingress", "ingress", "egress")), priority=random.choice((1, 1000, 1000)),
        action=random.choice(("allow", "allow", "drop", "reject")), log=random.random() < 0.2, **fields,
    )  # fmt: skip


def some_ports(random: Random) -> dict[str, Port]:
    allowed = ((), (AllowedAddress(ip="172.16.0.1"),), (AllowedAddress(ip="fd01::/64"),))
    unicast = PEERS[:4] + PEERS[5:7]
    return {
        f"p{index}": Port(
            network=random.choice("nnm"), host="h", mac=f"02:00:00:00:00:0{index}",
            ips=tuple(random.sample(unicast, random.randrange(3))), allowed_addresses=random.choice(allowed),
            security_groups=tuple(random.sample(GROUPS, random.randint(1, 2))),
        )
        for index in range(random.randint(1, 4))
    }  # fmt: skip


def a_vpc(random: Random, stateful: bool) -> Vpc:
    groups = {
        name: SecurityGroup(
            rules=tuple(a_rule(random) for _ in range(random.randint(1, 7))), stateful=stateful,
            default_egress=random.choice(("allow", "deny")),
        )
        for name in GROUPS
    }  # fmt: skip
    networks = {name: Network(vni=1, subnets=(Subnet(cidr="10.0.0.0/8"),)) for name in "nm"}
    return Vpc(networks=networks, ports=some_ports(random), security_groups=groups, address_groups=ADDRESS_GROUPS)


MATCHLESS = {"not-subject", "empty-address-group", "empty-remote-group", "remote-family", "remote-elsewhere"}
COVERED = {"covered-rule", "shadowed-rule"}


def without(vpc: Vpc, codes: set[str]) -> Vpc:
    """The VPC without the rules that have findings of these codes."""
    model = Model(name="m", hosts={"h": Host(vtep="10.9.9.9")}, vpcs={"v": vpc})
    findings = [one for one in lint(model).findings if one.code in codes]
    paths = {one.path for one in findings}
    matchless = {one.path for one in findings if one.code in MATCHLESS}
    groups = {}
    for name, group in vpc.security_groups.items():
        placed = {f"vpcs.v.security_groups.{name}.rules[{index}]": rule for index, rule in enumerate(group.rules)}
        left = [rule for path, rule in placed.items() if path not in paths]
        egress = {path for path, rule in placed.items() if rule.direction == "egress"}
        default = "deny" if egress and egress <= matchless else group.default_egress
        groups[name] = msgspec.structs.replace(group, rules=tuple(left), default_egress=default)
    return msgspec.structs.replace(vpc, security_groups=groups)


@pytest.mark.parametrize("stateful", [True, False])
def test_all_rules_without_effect_can_be_removed_together(stateful: bool) -> None:
    removed = 0
    for seed in range(MODELS):
        vpc = a_vpc(Random(seed), stateful)
        changed = without(vpc, MATCHLESS | COVERED | {"decided-before-today"})
        assert verdicts(changed, stateful) == verdicts(vpc, stateful), f"seed {seed}: {vpc}"
        removed += changed != vpc
    assert removed > MODELS / 2


@pytest.mark.parametrize("stateful", [True, False])
def test_covered_rules_can_be_removed_whoever_becomes_a_member(stateful: bool) -> None:
    removed = 0
    for seed in range(MODELS):
        random = Random(seed)
        vpc = a_vpc(random, stateful)
        later = some_ports(random)
        before = msgspec.structs.replace(vpc, ports=later)
        after = msgspec.structs.replace(without(vpc, COVERED), ports=later)
        assert verdicts(after, stateful) == verdicts(before, stateful), f"seed {seed}: {vpc} then {later}"
        removed += after != before
    assert removed > MODELS / 4


numbers = st.frozensets(st.integers(0, 7))


def as_ranges(some: frozenset[int]) -> tuple[tuple[int, int], ...]:
    starts = [one for one in sorted(some) if one - 1 not in some]
    return tuple((one, next(last for last in range(one, 9) if last + 1 not in some)) for one in starts)


@given(numbers, numbers)
def test_ranges_are_sets(a: frozenset[int], b: frozenset[int]) -> None:
    assert intersection(as_ranges(a), as_ranges(b)) == as_ranges(a & b)
    assert difference(as_ranges(a), as_ranges(b)) == as_ranges(a - b)


boxes = st.tuples(st.sampled_from((4, 6)), numbers, numbers, numbers)


@given(boxes, st.lists(boxes, max_size=5))
def test_regions_are_covered_exactly_when_every_point_is(one: tuple, others: list[tuple]) -> None:  # type: ignore[type-arg]
    def points(box: tuple) -> set[tuple[int, ...]]:  # type: ignore[type-arg]
        return {(box[0], *rest) for rest in product(*box[1:])}

    def region(box: tuple) -> Region:  # type: ignore[type-arg]
        return Region(box[0], *(as_ranges(part) for part in box[1:]))

    left = uncovered(region(one), [region(other) for other in others])
    rest = points(one).difference(*(points(other) for other in others))
    assert (left is None) == (not rest)
    if left is not None:
        first = (left.family, left.protocols[0][0], left.details[0][0], left.peers[0][0])
        assert first in rest
