"""A model that changes all the time, and what each of its revisions says of connections that stay open. Pure."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import msgspec

from ovsnet.lab.filtering import Direction, Filter, groups_of
from ovsnet.lab.segments import TCP, UDP, Segment
from ovsnet.model.types import Model, Remote, Rule, SecurityGroup, Vpc
from tests.truth.scenario import PORTS, Stream, addresses, mac

SERVICES, FIRST = 20, 9000
"""How many ports there are services on, and the first."""
TOGGLED = 12
"""Of so many of them the rules come and go; those of the others stay."""
MEMBERS = tuple(f"m{i}" for i in range(4))
STEADY = ("a", "b", "c")
"""Ports that stay members of all groups; the others come and go."""
EFFECTIVE = 0.2
"""How often a change is one that cuts connections or gives them back."""


@dataclass
class Wishes:
    """What is allowed now: which services have their rule, and who is a member of what."""

    rules: dict[int, int] = field(default_factory=lambda: dict.fromkeys(range(SERVICES), 1000))
    members: dict[str, set[str]] = field(default_factory=lambda: {port: set(MEMBERS) for port in PORTS})
    noise: int = 0


def bare_ports() -> dict[str, Any]:
    """The ports of the lab without groups, as a model has them."""
    return {
        name: {"network": "net", "host": host, "mac": mac(name), "ips": list(addresses(name))}
        for name, host in PORTS.items()
    }


def vpc_of(before: Vpc, wishes: Wishes) -> Vpc:
    """The VPC that the wishes make of another with the same ports."""
    rules = tuple(
        Rule(direction="ingress", protocol=protocol, port=FIRST + service, priority=priority,
             remote=Remote(group=MEMBERS[service % len(MEMBERS)]))
        for service, priority in sorted(wishes.rules.items())
        for protocol in ("tcp", "udp")
    )  # fmt: skip
    groups = {"srv": SecurityGroup(rules=rules), **{name: SecurityGroup() for name in MEMBERS}}
    groups["idle"] = SecurityGroup(description=str(wishes.noise))
    ports = {
        name: msgspec.structs.replace(port, security_groups=("srv", *sorted(wishes.members[name])))
        for name, port in before.ports.items()
    }
    ranges = {"far": (f"198.51.{wishes.noise % 256}.0/24",)}
    return msgspec.structs.replace(before, security_groups=groups, ports=ports, address_groups=ranges)


def change(rng: random.Random, wishes: Wishes) -> tuple[str, ...]:
    """Change one thing; returns the names of what connections it may matter to: services (numbers) and ports."""
    wishes.noise += 1
    if rng.random() >= EFFECTIVE:
        kept = [service for service in wishes.rules if service >= TOGGLED]
        if rng.random() < 0.5:  # another priority of a rule that stays: nobody may notice
            wishes.rules[rng.choice(kept)] = rng.randrange(1, 1001)
        return ()
    if rng.random() < 0.5:
        service = rng.randrange(TOGGLED)
        if wishes.rules.pop(service, None) is None:
            wishes.rules[service] = rng.randrange(1, 1001)
        return (str(service),)
    port = rng.choice([name for name in PORTS if name not in STEADY])
    wishes.members[port] ^= {rng.choice(MEMBERS)}
    return (port,)


def difference(before: Vpc, after: Vpc) -> dict[str, dict[str, Any]]:
    """The objects that differ, as a change of a VPC names them."""
    kinds = ("security_groups", "address_groups", "ports")
    found = {
        kind: {
            name: value for name, value in getattr(after, kind).items() if getattr(before, kind).get(name) != value
        }
        for kind in kinds
    }  # fmt: skip
    return {kind: changed for kind, changed in found.items() if changed}


def streams(rng: random.Random, count: int) -> Iterator[Stream]:
    """Connections between all ports: TCP and UDP, IPv4 and IPv6, either end sending."""
    for number in range(count):
        src, dst = rng.sample(sorted(PORTS), 2)
        service = number % SERVICES
        yield Stream(f"s{number}", src, dst, ("tcp", "udp")[number // 2 % 2], FIRST + service,
                     ("client", "server")[number // 4 % 2], ("4", "6")[number % 2])  # fmt: skip


def allowed(model: Model, stream: Stream) -> bool:
    """Whether a connection may go on under a model, by the independent reading."""
    rules, vpc = Filter(model), model.vpcs["t"]
    family = stream.family == "6"
    ends = ip_address(addresses(stream.src)[family]), ip_address(addresses(stream.dst)[family])
    protocol = TCP if stream.protocol == "tcp" else UDP
    opener = Segment(*ends, protocol, sport=40000, dport=stream.port)
    sides: tuple[tuple[Direction, str], ...] = (("egress", stream.src), ("ingress", stream.dst))
    return all(
        rules.judge(("t", "net"), groups_of(vpc.ports[port]) or (), direction, opener).passes
        for direction, port in sides
    )


def touches(stream: Stream, concerned: tuple[str, ...]) -> bool:
    """Whether a change of these services and ports can matter to a connection."""
    return any(one in (str(stream.port - FIRST), stream.src, stream.dst) for one in concerned)


@dataclass
class Verdicts:
    """For one connection, the revisions at which what is said of it changes: (revision, allowed), in order."""

    changes: list[tuple[int, bool]]

    def at(self, revision: int) -> bool:
        """What a revision says."""
        return self.changes[bisect_right(self.changes, (revision, True)) - 1][1]

    def all_between(self, first: int, last: int, what: bool) -> bool:
        """Whether every revision from ``first`` to ``last`` says ``what``."""
        inside = (said for revision, said in self.changes if first < revision <= last)
        return self.at(first) == what and all(said == what for said in inside)


@dataclass
class Course:
    """When revisions were told to, and enforced by, one host: the moments rise with the revisions."""

    told: list[tuple[float, int]] = field(default_factory=list)
    enforced: list[tuple[float, int]] = field(default_factory=list)

    def span(self, start: float, end: float) -> tuple[int, int]:
        """The revisions that may have been in force between two moments: the first and the last of them."""
        return _latest(self.enforced, start), _latest(self.told, end)


def _latest(course: list[tuple[float, int]], moment: float) -> int:
    at = bisect_right(course, (moment, 1 << 60))
    return course[max(at - 1, 0)][1]
