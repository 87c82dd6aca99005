"""The connectivity matrix: what the model says of a test packet from every port to every other."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Literal, NamedTuple

from ovsnet.lab.expectation import Expectation, Prefix, assigned
from ovsnet.lab.filtering import Direction, Filter, Guard, groups_of
from ovsnet.lab.frames import TEST_PORT
from ovsnet.lab.headers import Address
from ovsnet.lab.routing import domains
from ovsnet.lab.segments import ICMP, ICMPV6, UDP, Segment
from ovsnet.model.types import Model, Port

Family = Literal[4, 6]
_ECHO = {4: (ICMP, 8, 0), 6: (ICMPV6, 128, 129)}
"""Protocol, type of a request and type of its reply, by IP version."""


class Pair(NamedTuple):
    """One entry of the connectivity matrix, for one destination address of ``dst``.

    ``allowed`` says whether a UDP datagram to the lab's test port arrives, ``echo`` whether a ping is answered.
    ``owner`` is the port that a packet from ``src`` to ``dst_ip`` belongs to: ``dst`` if allowed; with overlapping
    addresses perhaps a port of the sender's own network; else ``None``. ``routed``: the way is through a router.
    """

    src: str
    dst: str
    family: Family
    src_ip: str
    dst_ip: str
    allowed: bool
    reason: str
    owner: str | None
    echo: bool = False
    routed: bool = False


class _Groups:
    """The groups of a model between two of its ports; every question is about connections that nobody knows yet."""

    def __init__(self, model: Model) -> None:
        self._filter = Filter(model)
        self._known = {(f"{v}/{p}"): (v, port) for v, vpc in model.vpcs.items() for p, port in vpc.ports.items()}

    def _guard(self, name: str) -> Guard | None:
        vpc, port = self._known[name]
        groups = groups_of(port)
        return None if groups is None else Guard(self._filter, (vpc, port.network), groups)

    def refusal(self, src: str, dst: str, *packets: Segment) -> str | None:
        """Which end refuses one of the packets, that go to and fro in turn; ``None``: they all pass."""
        guards = self._guard(src), self._guard(dst)
        for turn, packet in enumerate(packets):
            ends: tuple[tuple[Guard | None, Direction], ...]
            ends = ((guards[turn % 2], "egress"), (guards[1 - turn % 2], "ingress"))
            for guard, direction in ends:
                if guard is not None and not guard.passes(direction, packet).passes:
                    return f"{direction}-refused"
        return None


def reachability(model: Model) -> Iterator[Pair]:
    """Every placed port to every other port, at each of its addresses, in a stable order.

    The source address is the sender's in the destination's subnet if it has one there, else its first of that family;
    a family that the sender does not have is left out. Allowed: both in one network, or in networks that one router
    joins, the destination placed, and the groups of both let a datagram to the test port pass. Raises ValueError for
    an address or VNI that is not assigned.
    """
    expectation, groups, joined = Expectation(model), _Groups(model), domains(model)
    ports = [(f"{v}/{p}", v, port) for v, vpc in model.vpcs.items() for p, port in vpc.ports.items()]
    for src, src_vpc, sender in ports:
        if sender.host is None:
            continue
        for dst, dst_vpc, receiver in ports:
            if dst == src:
                continue
            domain = joined.get((src_vpc, sender.network))
            routed = domain is not None and sender.network != receiver.network
            routed = routed and domain is joined.get((dst_vpc, receiver.network))
            apart = _apart(src_vpc, sender, dst_vpc, receiver, routed=routed)
            prefixes = [ip_network(s.cidr) for s in model.vpcs[dst_vpc].networks[receiver.network].subnets]
            for dst_ip in assigned(receiver.ips, dst):
                src_ip = _source_for(sender, ip_address(dst_ip), prefixes)
                if src_ip is not None:
                    ends = ip_address(src_ip), ip_address(dst_ip)
                    reason = apart or groups.refusal(src, dst, Segment(*ends, UDP, sport=TEST_PORT, dport=TEST_PORT))
                    yield Pair(
                        src,
                        dst,
                        6 if ":" in dst_ip else 4,
                        src_ip,
                        dst_ip,
                        reason is None,
                        reason or ("routed" if routed else "same-network"),
                        dst if routed and reason is None else expectation.owner(src, dst_ip),
                        apart is None and groups.refusal(src, dst, *_ping(*ends)) is None,
                        routed,
                    )


def _ping(src: Address, dst: Address) -> tuple[Segment, Segment]:
    protocol, request, reply = _ECHO[dst.version]
    return (
        Segment(src, dst, protocol, kind=request, code=0, ident=1),
        Segment(dst, src, protocol, kind=reply, code=0, ident=1),
    )


def _apart(src_vpc: str, sender: Port, dst_vpc: str, receiver: Port, *, routed: bool) -> str | None:
    """Why two ports cannot reach each other, whatever their groups say; ``None``: they can."""
    if src_vpc != dst_vpc:
        return "other-vpc"
    if sender.network != receiver.network and not routed:
        return "other-network"
    return "unplaced" if receiver.host is None else None


def _source_for(sender: Port, destination: Address, prefixes: list[Prefix]) -> str | None:
    own = [ip for ip in sender.ips or () if ip_address(ip).version == destination.version]
    near = [ip for ip in own if any(ip_address(ip) in p and destination in p for p in prefixes)]
    return next(iter(near + own), None)
