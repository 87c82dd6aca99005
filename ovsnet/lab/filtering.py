"""What security groups let pass: an independent reading of the model, written without looking at the compiler.

A port's list per direction holds all rules of all its groups; the lowest priority number comes first, at a tie drop
wins over reject over allow, and what no rule matches is refused. With stateful groups a packet is judged as the packet
that opened its connection, against the direction in which that one went; with stateless ones it is judged as it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Literal

from ovsnet.lab.connections import Connections, Role
from ovsnet.lab.headers import Address, addresses_of
from ovsnet.lab.segments import SCTP, Segment
from ovsnet.model.types import Model, Port, Remote, RemoteEndpoint, Rule, SecurityGroup, Vpc

Direction = Literal["ingress", "egress"]
Action = Literal["allow", "drop", "reject"]
Where = tuple[str, str]
"""A network: the VPC's name and its own."""

_DEFAULT = "default"
_BUILT_IN = SecurityGroup(rules=(Rule(direction="ingress", remote=Remote(group=_DEFAULT)),))
_STRENGTH: dict[str, int] = {"drop": 0, "reject": 1, "allow": 2}
_NUMBERS = {"icmp": 1, "igmp": 2, "tcp": 6, "udp": 17, "gre": 47, "esp": 50, "ah": 51, "icmpv6": 58, "sctp": 132}
_NUMBERS |= {"ipv6-icmp": 58, "ospf": 89, "vrrp": 112, "udplite": 136, "ipip": 94, "pim": 103}


@dataclass(frozen=True)
class Verdict:
    """What is done, and the rules that say so: ``GROUP[INDEX]``, or ``GROUP.default_egress``; none where none matched.

    Several rules of one priority and action may decide together. ``certain`` is false for fragments of what stateful
    groups filter, which not all datapaths can put together: those that pass are at least allowed.
    """

    action: Action
    rules: tuple[str, ...] = ()
    certain: bool = True

    @property
    def passes(self) -> bool:
        """Whether the packet goes on."""
        return self.action == "allow"


REFUSED = Verdict("drop")


class Filter:
    """The groups of a model: who is in which, and what their rules say."""

    def __init__(self, model: Model, endpoints: Mapping[str, Mapping[str, RemoteEndpoint]] | None = None) -> None:
        """Index ``model``; ``endpoints`` by VPC and name may be members of groups too."""
        self._vpcs = model.vpcs
        self._members: dict[Where, dict[Address, set[str]]] = {}
        self._domains = {
            (name, network): [(name, one) for one in router.networks]
            for name, vpc in model.vpcs.items()
            for router in vpc.routers.values()
            for network in router.networks
        }
        for vpc_name, vpc in model.vpcs.items():
            for port in vpc.ports.values():
                if port.hosts:  # nobody is at the addresses of a port that has no host
                    self._join((vpc_name, port.network), groups_of(port) or (), _member_addresses(port))
            for endpoint in (endpoints or {}).get(vpc_name, {}).values():
                self._join((vpc_name, endpoint.network), endpoint.groups, addresses_of(endpoint.ips, endpoint.mac))

    def _join(self, where: Where, groups: tuple[str, ...], addresses: Iterable[Address]) -> None:
        members = self._members.setdefault(where, defaultdict(set))
        for address in addresses:
            members[address].update(groups)

    def stateful(self, vpc: str, groups: tuple[str, ...]) -> bool:
        """Whether connections are remembered for ports of these groups; all groups of a port say the same."""
        return all(_group(self._vpcs[vpc], name).stateful for name in groups)

    def judge(self, where: Where, groups: tuple[str, ...], direction: Direction, packet: Segment) -> Verdict:
        """What the rules of ``groups`` say of ``packet`` in ``direction``, taken as it is."""
        vpc = self._vpcs[where[0]]
        found: dict[tuple[int, int], list[str]] = defaultdict(list)
        for name in groups:
            group = _group(vpc, name)
            for index, rule in enumerate(group.rules):
                if rule.direction == direction and self._matches(where, rule, direction, packet):
                    found[rule.priority, _STRENGTH[rule.action]].append(f"{name}[{index}]")
            silent = all(rule.direction != "egress" for rule in group.rules)
            if direction == "egress" and silent and group.default_egress == "allow":
                found[1001, _STRENGTH["allow"]].append(f"{name}.default_egress")
        if not found:
            return REFUSED
        best = min(found)
        action: Action = ("drop", "reject", "allow")[best[1]]
        return Verdict(action, tuple(found[best]))

    def _matches(self, where: Where, rule: Rule, direction: Direction, packet: Segment) -> bool:
        if rule.ethertype is not None and rule.ethertype != f"ipv{packet.version}":
            return False
        if rule.protocol is not None and not _protocol_matches(rule, rule.protocol, packet):
            return False
        peer = packet.dst if direction == "egress" else packet.src
        return _ports_match(rule, packet) and self._remote_matches(where, rule.remote, peer)

    def _remote_matches(self, where: Where, remote: Remote | None, peer: Address) -> bool:
        if remote is None:
            return True
        if remote.cidr is not None:
            return peer in ip_network(remote.cidr)
        if remote.group is not None:
            return any(remote.group in self._members.get(one, {}).get(peer, ()) for one in self._near(where, peer))
        ranges = self._vpcs[where[0]].address_groups[remote.address_group or ""]
        return any(peer in ip_network(cidr) for cidr in ranges)

    def _near(self, where: Where, peer: Address) -> Sequence[Where]:
        """The networks whose members may be at an address: the routed domain's, and for link-local ones its own."""
        return [where] if peer.is_link_local else self._domains.get(where, [where])


class Guard:
    """The filter at one port on one host, with the connections that it knows. ``groups`` as of ``groups_of``."""

    def __init__(self, rules: Filter, where: Where, groups: tuple[str, ...]) -> None:
        self._rules, self._where, self._groups = rules, where, groups
        self._stateful = rules.stateful(where[0], groups)
        self._known = Connections()

    def passes(self, direction: Direction, packet: Segment | None, *, remember: bool = True) -> Verdict:
        """Judge a packet that leaves the port (``egress``) or comes to it; a connection that it opens is remembered.

        Without ``remember`` it is only asked what would happen.
        """
        if packet is None or not self._groups:
            return REFUSED
        if not self._stateful:
            return self._rules.judge(self._where, self._groups, direction, packet)
        if packet.part != "whole":
            return self._fragment(direction, packet)
        place = self._known.place(packet)
        if place.role == Role.INVALID:
            return REFUSED
        way: Direction = direction if place.role != Role.BACK else ("ingress" if direction == "egress" else "egress")
        verdict = self._rules.judge(self._where, self._groups, way, _as_opened(packet, place.opener, place.role))
        if remember and verdict.passes and place.role == Role.OPENING:
            self._known.remember(packet)
        return verdict

    def forget(self) -> None:
        """Forget all connections."""
        self._known = Connections()

    def _fragment(self, direction: Direction, packet: Segment) -> Verdict:
        """Whatever connection it may belong to: it passes at most if the groups let anything of its protocol pass."""
        there = self._rules.judge(self._where, self._groups, direction, replace(packet, part="later"))
        other: Direction = "ingress" if direction == "egress" else "egress"
        turned = replace(packet, part="later", src=packet.dst, dst=packet.src)
        back = self._rules.judge(self._where, self._groups, other, turned)
        return replace(there if there.passes else back, certain=not (there.passes or back.passes))


def groups_of(port: Port) -> tuple[str, ...] | None:
    """The groups that a port is in; ``None``: it is not filtered at all."""
    if not port.port_security:
        return None
    return (_DEFAULT,) if port.security_groups is None else port.security_groups


def _group(vpc: Vpc, name: str) -> SecurityGroup:
    return vpc.security_groups[name] if name in vpc.security_groups or name != _DEFAULT else _BUILT_IN


def _member_addresses(port: Port) -> Iterator[Address]:
    if port.mac is not None:
        yield from addresses_of(port.ips or (), port.mac)
    for allowed in port.allowed_addresses:
        network = ip_network(allowed.ip)
        if network.num_addresses == 1:
            yield network.network_address


def _protocol_matches(rule: Rule, protocol: str | int, packet: Segment) -> bool:
    """Whether the protocol is the rule's. A later fragment of IPv6 does not show it: only allowing rules fit."""
    number = protocol if isinstance(protocol, int) else _NUMBERS[protocol]
    if number in (1, 58) and packet.version != (4 if number == 1 else 6):
        return False
    if packet.version == 6 and packet.part == "later":
        return rule.action == "allow"
    return packet.protocol == number


def _ports_match(rule: Rule, packet: Segment) -> bool:
    """Whether ports, or type and code, are those of the rule. Where none are shown, only allowing rules fit."""
    if rule.port is None and rule.type is None:
        return True
    if packet.part == "later" or (packet.protocol == SCTP and packet.dport is None):
        return rule.action == "allow"
    if rule.port is not None:
        given = rule.port if isinstance(rule.port, tuple) else (rule.port,)
        return packet.dport is not None and any(_in_range(packet.dport, one) for one in given)
    return packet.kind == rule.type and rule.code in (None, packet.code)


def _in_range(number: int, wanted: int | str) -> bool:
    first, _, last = str(wanted).partition("-")
    return int(first) <= number <= int(last or first)


def _as_opened(packet: Segment, opener: Segment, role: Role) -> Segment:
    """The packet that is judged. SCTP's ports are the packet's own, since all of two addresses is one connection.

    An error about SCTP shows no ports. One that goes the opener's way comes from who sends it, be it the opener or
    somebody on the way.
    """
    if packet.is_error:
        if opener.protocol == SCTP:
            opener = replace(opener, sport=None, dport=None)
        return replace(opener, src=packet.src) if role == Role.FORTH else opener
    if packet.protocol != SCTP:
        return opener
    ports = (packet.dport, packet.sport) if role == Role.BACK else (packet.sport, packet.dport)
    return replace(opener, sport=ports[0], dport=ports[1])
