"""What a rule's words mean: protocols, families, port ranges and their masks, and who is in which group."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.model.rules import (
    BUILT_IN_DEFAULT,
    effective_groups,
    family,
    groups_of,
    merged_ranges,
    port_masks,
    port_ranges,
    protocol_number,
)
from ovsnet.model.types import Port, Remote, RemoteEndpoint, Rule, SecurityGroup

PORTS = st.integers(0, 65535)
RANGES = st.tuples(PORTS, PORTS).map(lambda pair: (min(pair), max(pair)))


def rule(**words: object) -> Rule:
    return Rule(direction="ingress", **words)  # type: ignore[arg-type]


def test_a_port_that_says_nothing_of_groups_is_in_the_default_one() -> None:
    assert groups_of(Port(network="web")) == ("default",)
    assert groups_of(Port(network="web", security_groups=())) == ()
    assert groups_of(Port(network="web", security_groups=("a", "b"))) == ("a", "b")


def test_a_port_without_port_security_is_in_no_group() -> None:
    assert groups_of(Port(network="web", port_security=False)) == ()


def test_an_endpoint_is_in_the_groups_it_names_alone() -> None:
    endpoint = RemoteEndpoint(network="web", mac="02:00:00:00:00:01", vtep="10.0.0.1")
    assert groups_of(endpoint) == ()


def test_a_declared_default_group_replaces_the_built_in_one() -> None:
    mine = SecurityGroup(default_egress="deny")
    assert effective_groups({"default": mine}) == {"default": mine}
    assert effective_groups({"web": mine}) == {"web": mine, "default": BUILT_IN_DEFAULT}


@pytest.mark.parametrize(
    ("protocol", "number"),
    [(None, None), ("tcp", 6), ("icmp", 1), ("icmpv6", 58), ("ipv6-icmp", 58), ("vrrp", 112), (0, 0), (255, 255)],
)
def test_protocols_by_name_and_by_number(protocol: str | int | None, number: int | None) -> None:
    assert protocol_number(rule(protocol=protocol)) == number


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({}, None),
        ({"protocol": "tcp"}, None),
        ({"ethertype": "ipv6"}, 6),
        ({"protocol": "icmp"}, 4),
        ({"protocol": 58}, 6),
        ({"remote": Remote(cidr="10.0.0.0/8")}, 4),
        ({"remote": Remote(cidr="::/0")}, 6),
        ({"remote": Remote(group="web")}, None),
    ],
)
def test_what_implies_a_family(words: dict[str, object], wanted: int | None) -> None:
    assert family(rule(**words)) == wanted


@pytest.mark.parametrize(
    ("port", "wanted"),
    [
        (None, ()),
        (80, ((80, 80),)),
        ("8000-8010", ((8000, 8010),)),
        ((9090, "8000-8010", 8011, "8005-8020", 80), ((80, 80), (8000, 8020), (9090, 9090))),
        (("0-65535", 1), ((0, 65535),)),
    ],
)
def test_port_ranges(port: object, wanted: object) -> None:
    assert port_ranges(rule(protocol="tcp", port=port)) == wanted


@given(st.lists(RANGES, max_size=5))
def test_merged_ranges_hold_the_same_numbers_and_are_apart(ranges: list[tuple[int, int]]) -> None:
    merged = merged_ranges(ranges)
    assert {n for a, b in ranges for n in range(a, b + 1)} == {n for a, b in merged for n in range(a, b + 1)}
    assert all(one[1] + 1 < other[0] for one, other in pairwise(merged))


@given(RANGES)
def test_masks_match_each_port_of_a_range_once_and_no_other(pair: tuple[int, int]) -> None:
    first, last = pair
    matched = [value + low for value, mask in port_masks(first, last) for low in range(65536 - mask)]
    assert matched == list(range(first, last + 1))
    assert all(value & ~mask == 0 for value, mask in port_masks(first, last))


@pytest.mark.parametrize(
    ("first", "last", "count"),
    [(80, 80, 1), (0, 65535, 1), (1024, 65535, 6), (8000, 8010, 3), (1, 65534, 30), (0, 0, 1)],
)
def test_masks_are_the_fewest_prefixes(first: int, last: int, count: int) -> None:
    assert len(port_masks(first, last)) == count
