"""What a rule matches, as regions: whoever its remote's members may be, or with the members that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ovsnet.errors import Path
from ovsnet.lint.regions import ADDRESSES, DETAILS, NO_DETAIL, PROTOCOLS, Ranges, Region
from ovsnet.model.addresses import parse_cidr
from ovsnet.model.identity import link_local
from ovsnet.model.routes import joined
from ovsnet.model.rules import ICMPV6, effective_groups, family, groups_of, merged_ranges, port_ranges, protocol_number
from ovsnet.model.types import Port, Remote, Rule, Vpc

ND_AND_MLD = (*range(130, 138), 143)
"""ICMPv6 types that no group is asked about: neighbour discovery (RFC 4861), multicast listeners (RFC 3810)."""

EXEMPT = Region(6, ((ICMPV6, ICMPV6),), ((130 * 256, 138 * 256 - 1), (143 * 256, 144 * 256 - 1)), ADDRESSES[6])
"""The packets that no group is asked about."""

_FRAGMENT_HEADER = 44
"""The protocol that later fragments of IPv6 show."""
LATER = 256
"""What stands for it here, so that they are told apart from packets of that very protocol."""

_ACTIONS = {"drop": 0, "reject": 1, "allow": 2}
Peers = Callable[[Remote, int], Ranges]
"""The addresses of a family that a remote stands for."""


@dataclass(frozen=True, eq=False)
class Line:
    """One rule where it stands: ``path`` in the model, and its group. Two lines are equal only if they are one."""

    path: Path
    group: str
    stateful: bool
    rule: Rule

    @cached_property
    def rank(self) -> tuple[int, int]:
        """Its place in a port's list: the lower comes first, equal ones are of one priority and action."""
        return self.rule.priority, _ACTIONS[self.rule.action]

    @cached_property
    def families(self) -> tuple[int, ...]:
        """The IP versions that it matches."""
        only = family(self.rule)
        return (4, 6) if only is None else (only,)

    @cached_property
    def span(self) -> tuple[int, int, int, int]:
        """First and last protocol and detail: lines whose spans are apart have nothing in common."""
        if not self.stateful:
            return 0, LATER, 0, NO_DETAIL
        first, last = self._protocols[0]
        return first, last, self._details[0][0], self._details[-1][1]

    @cached_property
    def remote_group(self) -> str | None:
        """The group whose members are its remote."""
        return None if self.rule.remote is None else self.rule.remote.group

    @property
    def name(self) -> str:
        """As messages name it: ``web.rules[2]``."""
        return f"{self.group}.rules[{self.path[-1]}]"

    def regions(self, peers: Peers) -> tuple[Region, ...]:
        """What it matches; none that is empty."""
        found = []
        for one in self.families:
            addresses = ADDRESSES[one] if self.rule.remote is None else peers(self.rule.remote, one)
            found += [Region(one, self._protocols, self._details, addresses), *self._later(one, addresses)]
        return tuple(region for region in found if not region.empty)

    def _later(self, of: int, peers: Ranges) -> Iterator[Region]:
        """Of later fragments, which have neither ports nor type, and in IPv6 do not show their protocol.

        An allow rule of a stateless group takes those for its own that may be, others only those that surely are.
        """
        allows = self.rule.action == "allow"
        if self.stateful:
            return
        if of == 4 and (allows or not self._given):
            yield Region(4, self._protocols, ((NO_DETAIL, NO_DETAIL),), peers)
        if of == 6 and (allows or protocol_number(self.rule) in {None, _FRAGMENT_HEADER}):
            yield Region(6, ((LATER, LATER),), ((NO_DETAIL, NO_DETAIL),), peers)

    @cached_property
    def _protocols(self) -> Ranges:
        number = protocol_number(self.rule)
        return PROTOCOLS if number is None else ((number, number),)

    @cached_property
    def _given(self) -> Ranges:
        """The details that the rule names; none for any."""
        rule = self.rule
        if rule.type is not None:
            first = rule.type * 256
            return ((first, first + 255),) if rule.code is None else ((first + rule.code, first + rule.code),)
        ports = port_ranges(rule)
        return () if ports == DETAILS else ports

    @property
    def _details(self) -> Ranges:
        return self._given or DETAILS


Meaning = Callable[[Line], tuple[Region, ...]]
"""The regions that a line matches, in a certain light."""


@dataclass(frozen=True)
class Scene:
    """A VPC's groups as the checks need them: every rule with its place, who is in which group, who has which address.

    ``policies``: the ports of each set of groups that some port has, by that set; ``members``: the addresses of a
    group's members that have a host, by (group, domain, family); ``routers`` is the router of each network that has
    one, which is the domain of its addresses.
    """

    name: str
    vpc: Vpc
    lines: Mapping[str, tuple[Line, ...]]
    policies: Mapping[tuple[str, ...], tuple[Port, ...]]
    members: Mapping[tuple[str, str, int], Ranges]
    routers: Mapping[str, str]
    _cache: dict[tuple[Line, str], tuple[Region, ...]] = field(default_factory=dict, repr=False)

    @cached_property
    def ports_of(self) -> Mapping[str, tuple[Port, ...]]:
        """The ports of each group that has some."""
        found: dict[str, list[Port]] = {}
        for groups, ports in self.policies.items():
            for group in groups:
                found.setdefault(group, []).extend(ports)
        return {group: tuple(ports) for group, ports in found.items()}

    def domain(self, network: str) -> str:
        """Within what a network's addresses are one's own: its router, as ``/NAME``, or the network itself."""
        return _domain(self.routers, network)

    def ranges(self, name: str, of: int) -> Ranges:
        """The addresses of a family in an address group."""
        return ranges_of(self.vpc.address_groups.get(name, ()), of)

    def always(self, assumed: str | None) -> Meaning:
        """What lines match for peers that are in group ``assumed`` (``None``: in no group), and perhaps in others."""

        def meaning(line: Line) -> tuple[Region, ...]:
            if line.remote_group not in {None, assumed}:
                return ()
            return self._kept(line, "", lambda remote, of: ADDRESSES[of] if remote.group else self._fixed(remote, of))

        return meaning

    def today(self, network: str) -> Meaning:
        """What lines match on a port in ``network`` with the members that there are."""

        def peers(remote: Remote, of: int) -> Ranges:
            if remote.group is not None:
                return self.members.get((remote.group, domain, of), ())
            return self._fixed(remote, of)

        domain = self.domain(network)
        return lambda line: self._kept(line, domain, peers)

    def _kept(self, line: Line, domain: str, peers: Peers) -> tuple[Region, ...]:
        """The regions of a line, computed once: only those of a group's members differ by domain."""
        key = (line, domain if line.remote_group else "")
        if key not in self._cache:
            self._cache[key] = line.regions(peers)
        return self._cache[key]

    def _fixed(self, remote: Remote, of: int) -> Ranges:
        if remote.cidr is not None:
            return ranges_of((remote.cidr,), of)
        return self.ranges(remote.address_group or "", of)


def scene(name: str, vpc: Vpc) -> Scene:
    """What the checks need of a VPC that has passed the model's own checks and has all its addresses."""
    policies: dict[tuple[str, ...], list[Port]] = {}
    routers = joined(vpc.routers)
    addresses: dict[tuple[str, str, int], list[int]] = {}
    for port in vpc.ports.values():
        groups = tuple(sorted(groups_of(port)))
        if groups:
            policies.setdefault(groups, []).append(port)
        for of, number in addresses_of(port) if groups and port.host is not None else ():
            for group in groups:
                addresses.setdefault((group, _domain(routers, port.network), of), []).append(number)
    lines = {
        group: tuple(
            Line(("vpcs", name, "security_groups", group, "rules", index), group, declared.stateful, rule)
            for index, rule in enumerate(declared.rules)
        )
        for group, declared in effective_groups(vpc.security_groups).items()
    }
    members = {key: merged_ranges((one, one) for one in numbers) for key, numbers in addresses.items()}
    return Scene(name, vpc, lines, {key: tuple(ports) for key, ports in policies.items()}, members, routers)


def _domain(routers: Mapping[str, str], network: str) -> str:
    return f"/{routers[network]}" if network in routers else network


def ranges_of(texts: tuple[str, ...], of: int) -> Ranges:
    """The addresses of a family in some ranges, addresses, or both."""
    parsed = [one[0] for text in texts if (one := parse_cidr(text, bare=True))]
    ends = [(one.first, one.last) for one in parsed if _of(one.bits) == of]
    return merged_ranges((int.from_bytes(first, "big"), int.from_bytes(last, "big")) for first, last in ends)


def families_of(port: Port) -> set[int]:
    """The IP versions that a port may send, by its own addresses and those that it is allowed."""
    texts = [*(port.ips or ()), *(one.ip for one in port.allowed_addresses)]
    return {6 if ":" in text else 4 for text in texts}


def _of(bits: int) -> int:
    return 6 if bits == 128 else 4


def addresses_of(port: Port) -> list[tuple[int, int]]:
    """The (family, address) that make a port a member: declared, link-local, allowed singly (a range is none)."""
    texts = [*(port.ips or ()), *(one.ip for one in port.allowed_addresses)]
    if port.mac and any(":" in text for text in port.ips or ()):
        texts.append(link_local(port.mac))
    parsed = [one[0] for text in texts if (one := parse_cidr(text, bare=True))]
    return [(_of(one.bits), int.from_bytes(one.first, "big")) for one in parsed if one.length == one.bits]
