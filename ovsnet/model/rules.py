"""What a security group's words mean, as pure functions: groups of a port, protocols, port ranges and their masks.

The functions take rules that have passed the model's checks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from ovsnet.model.types import Port, Remote, RemoteEndpoint, Rule, SecurityGroup

DEFAULT_GROUP = "default"
"""The group of a port that says nothing of groups."""

BUILT_IN_DEFAULT = SecurityGroup(rules=(Rule(direction="ingress", remote=Remote(group=DEFAULT_GROUP)),))
"""The group ``default`` of a VPC that declares none: anything from its own members, and all egress."""

MAX_GROUPS, MAX_RANGES = 64, 96
"""How many different remote groups, and how many different ranges and address groups, rules of one port may name."""

EVERYTHING = ("0.0.0.0/0", "::/0")
"""Ranges that are no more than a family."""

ICMP, ICMPV6 = 1, 58
PORT_PROTOCOLS = frozenset({6, 17, 132})
"""TCP, UDP and SCTP: the protocols whose rules may name ports."""

MAX_PORT = 65535

PROTOCOLS: Mapping[str, int] = {
    "hopopt": 0,
    "icmp": ICMP,
    "igmp": 2,
    "ggp": 3,
    "ipencap": 4,
    "st": 5,
    "tcp": 6,
    "egp": 8,
    "igp": 9,
    "pup": 12,
    "udp": 17,
    "hmp": 20,
    "xns-idp": 22,
    "rdp": 27,
    "iso-tp4": 29,
    "dccp": 33,
    "xtp": 36,
    "ddp": 37,
    "idpr-cmtp": 38,
    "ipv6": 41,
    "ipv6-route": 43,
    "ipv6-frag": 44,
    "idrp": 45,
    "rsvp": 46,
    "gre": 47,
    "esp": 50,
    "ah": 51,
    "skip": 57,
    "icmpv6": ICMPV6,
    "ipv6-icmp": ICMPV6,
    "ipv6-nonxt": 59,
    "ipv6-opts": 60,
    "rspf": 73,
    "vmtp": 81,
    "eigrp": 88,
    "ospf": 89,
    "ax.25": 93,
    "ipip": 94,
    "etherip": 97,
    "encap": 98,
    "pim": 103,
    "ipcomp": 108,
    "vrrp": 112,
    "l2tp": 115,
    "isis": 124,
    "sctp": 132,
    "fc": 133,
    "mobility-header": 135,
    "udplite": 136,
    "mpls-in-ip": 137,
    "manet": 138,
    "hip": 139,
    "shim6": 140,
    "wesp": 141,
    "rohc": 142,
    "ethernet": 143,
}
"""IP protocol numbers by name: those of IANA's registry that /etc/protocols has, in lower case."""


def groups_of(nic: Port | RemoteEndpoint) -> tuple[str, ...]:
    """The groups that a port or an endpoint is a member of.

    A port without port security is in none: it is not filtered (which is not the same as an empty list).
    """
    if isinstance(nic, RemoteEndpoint):
        return nic.groups
    if not nic.port_security:
        return ()
    return (DEFAULT_GROUP,) if nic.security_groups is None else nic.security_groups


def effective_groups(groups: Mapping[str, SecurityGroup]) -> Mapping[str, SecurityGroup]:
    """A VPC's groups by name, with the built-in ``default`` unless it declares one."""
    return groups if DEFAULT_GROUP in groups else {**groups, DEFAULT_GROUP: BUILT_IN_DEFAULT}


def protocol_number(rule: Rule) -> int | None:
    """The IP protocol number (0..255) that a rule matches, ``None`` if any.

    Raises KeyError for a name that is not known.
    """
    return PROTOCOLS[rule.protocol] if isinstance(rule.protocol, str) else rule.protocol


def family(rule: Rule) -> Literal[4, 6] | None:
    """The IP version that a rule matches, as its ethertype, protocol or remote range says; ``None``: both."""
    if rule.ethertype is not None:
        return 4 if rule.ethertype == "ipv4" else 6
    number = protocol_number(rule)
    if number in (ICMP, ICMPV6):
        return 4 if number == ICMP else 6
    if rule.remote is not None and rule.remote.cidr is not None:
        return 6 if ":" in rule.remote.cidr else 4
    return None


def range_name(rule: Rule) -> str | None:
    """What a rule's remote range is called: ``cidr:...``, or ``group:...`` for an address group.

    ``None`` if it speaks of no range, or of all addresses of a family.
    """
    if rule.remote is None:
        return None
    if rule.remote.address_group is not None:
        return f"group:{rule.remote.address_group}"
    cidr = rule.remote.cidr
    return None if cidr is None or cidr in EVERYTHING else f"cidr:{cidr}"


def port_ranges(rule: Rule) -> tuple[tuple[int, int], ...]:
    """The destination ports that a rule matches as (first, last), sorted, apart from each other; empty: any."""
    if rule.port is None:
        return ()
    given = rule.port if isinstance(rule.port, tuple) else (rule.port,)
    return merged_ranges(_range(one) for one in given)


def _range(port: int | str) -> tuple[int, int]:
    if isinstance(port, int):
        return port, port
    first, _, last = port.partition("-")
    return int(first), int(last)


def merged_ranges(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """The same numbers in as few (first, last) as possible, sorted."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def port_masks(first: int, last: int) -> tuple[tuple[int, int], ...]:
    """The fewest (value, mask) of 16 bits that match exactly the ports ``first`` to ``last``, each port once.

    Masks are prefixes: ones, then zeros. Over ranges as of :func:`port_ranges` the sum is the fewest, too.
    """
    masks = []
    while first <= last:
        size = first & -first or MAX_PORT + 1
        while size > last - first + 1:
            size >>= 1
        masks.append((first, MAX_PORT + 1 - size))
        first += size
    return tuple(masks)
