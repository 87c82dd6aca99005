"""What the ports of one VPC on one host are filtered by: which policies there are, and their rows. Pure, incremental.

A *policy* is the set of groups of a port here; its *bank* has a bit for every remote group and range that its rules
speak of (``ovsnet.features.security_groups``).
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from ovsnet.features import security_groups as sg
from ovsnet.model.numbers import cidr_int
from ovsnet.model.rules import (
    BUILT_IN_DEFAULT,
    DEFAULT_GROUP,
    family,
    port_masks,
    port_ranges,
    protocol_number,
    range_name,
)
from ovsnet.model.types import AddressGroup, Rule, SecurityGroup
from ovsnet.numbers import Bank, Numbers
from ovsnet.pipeline.template import Key, Row
from ovsnet.pipeline.verdicts import ALLOW, DROP, LOGGED, REJECT

Policy = tuple[str, ...]
"""The groups of a port, sorted."""

_ACTIONS = {"allow": ALLOW, "drop": DROP, "reject": REJECT}
_encode = msgspec.json.Encoder(order="deterministic").encode


class Stem(NamedTuple):
    """A row and the object of the VPC that it stems from: ``security_group`` or ``address_group``, and its name."""

    kind: str
    name: str
    row: Row


@dataclass(frozen=True)
class Numbered:
    """A policy's numbers; ``bank`` has the bits that its rules match."""

    number: int
    bank: Bank
    stateful: bool


@dataclass
class Touched:
    """What a settlement concerns: policies with other rows, or other numbers in their ports' rows; groups whose members
    have other bits; whether ranges have other rows.
    """

    policies: set[Policy] = field(default_factory=set)
    ports: set[Policy] = field(default_factory=set)
    groups: set[str] = field(default_factory=set)
    ranges: bool = False


class Filters:
    """The policies of one VPC's ports on one host.

    ``groups`` and ``address_groups`` are the VPC's, ``users`` the names of the ports here by policy: change them, note
    the change with ``changed``, then ``settle``.
    """

    def __init__(self, vpc: str, numbers: Numbers) -> None:
        self.vpc = vpc
        self.groups: dict[str, SecurityGroup] = {}
        self.address_groups: dict[str, AddressGroup] = {}
        self.users: dict[Policy, set[str]] = {}
        self._numbers = numbers
        self._policies: dict[Policy, Numbered] = {}
        self._rules: dict[str, tuple[int, ...]] = {}
        self._bits: dict[str, tuple[tuple[int, int], ...]] = {}
        self._member_of: dict[tuple[str, ...], tuple[tuple[int, int], ...]] = {}  # what was found in ``_bits``
        self._banks: tuple[Bank, ...] = ()
        self._speakers: dict[str, tuple[str, str]] = {}
        self._other_groups: set[str] = set()
        self._other_ranges = False

    def change_group(self, name: str) -> None:
        """Note that a group is another now."""
        self._other_groups.add(name)

    def change_ranges(self) -> None:
        """Note that an address group is another now."""
        self._other_ranges = True

    def add(self, policy: Policy, port: str) -> bool:
        """A port here has these groups; whether it is the first."""
        users = self.users.setdefault(policy, set())
        users.add(port)
        return len(users) == 1

    def remove(self, policy: Policy, port: str) -> bool:
        """It has them no more; whether it was the last."""
        users = self.users[policy]
        users.discard(port)
        if users:
            return False
        del self.users[policy]
        return True

    def policy(self, policy: Policy) -> Numbered:
        """A policy's numbers, as settled."""
        return self._policies[policy]

    def member_of(self, groups: Collection[str]) -> tuple[tuple[int, int], ...]:
        """(bank, bits) for the groups among these that rules here speak of."""
        known = tuple(groups)
        member_of = self._member_of.get(known)
        if member_of is None:
            member_of = self._member_of[known] = self._find_member_of(known)
        return member_of

    def _find_member_of(self, groups: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
        found: dict[int, int] = {}
        for group in groups:
            for bank, bit in self._bits.get(group, ()):
                found[bank] = found.get(bank, 0) | 1 << bit
        return tuple(sorted(found.items()))

    def settle(self) -> Touched:
        """Number what there is now; says what that concerns. Raises OutOfNumbersError."""
        touched = Touched(ranges=self._other_ranges)
        before, bits, banks = self._policies, self._bits, self._banks
        named = {group for policy in self.users for group in policy}
        self._numbers.retain_vpc(self.vpc, self.users, named)
        self._rules = {
            name: self._numbers.rules(self.vpc, name, _contents(self._group(name))) for name in sorted(named)
        }
        numbers = {policy: self._number(policy) for policy in sorted(self.users)}
        self._banks = self._numbers.banks(self.vpc)
        by_id = {bank.id: bank for bank in self._banks}
        self._policies = {
            policy: Numbered(number, by_id[bank], self._stateful(policy)) for policy, (number, bank) in numbers.items()
        }
        self._bits = _bits_of_groups(self._banks)
        self._member_of = {}
        touched.groups = {name for name in bits.keys() | self._bits.keys() if bits.get(name) != self._bits.get(name)}
        spoke, self._speakers = self._speakers, self._find_speakers()
        touched.ranges |= spoke != self._speakers
        touched.ranges |= [(b.id, b.set_bits) for b in banks] != [(b.id, b.set_bits) for b in self._banks]
        for policy in before.keys() | self._policies.keys():
            old, new = before.get(policy), self._policies.get(policy)
            if self._other_groups.intersection(policy) or old is None or new is None or old != new:
                touched.policies.add(policy)
            if old is None or new is None or _shown(old) != _shown(new):
                touched.ports.add(policy)
        self._other_groups, self._other_ranges = set(), False
        return touched

    def policy_rows(self, policy: Policy) -> Iterator[Stem]:
        """The rows of a policy's rules, each with the rule that it stems from; none for one without ports here."""
        numbered = self._policies.get(policy)
        if numbered is None:
            return
        found: dict[Key, Stem] = {}
        for name, rule, number in self._rules_of(policy):
            spoken = self._spoken(rule, number, numbered.bank)
            for row in sg.rule_rows(numbered.number, numbered.stateful, spoken):
                known = found.get(row.key)
                if known is None or (rule.log and not _logs(known.row)):
                    found[row.key] = Stem("security_group", name, row)
        yield from found.values()
        for name in policy:
            if self._all_egress(name):
                everything = sg.Rule(False, 0, None, (), None, None, sg.IMPLICIT, ALLOW, 0)
                for row in sg.rule_rows(numbered.number, numbered.stateful, everything):
                    yield Stem("security_group", name, row)
                return  # one is enough

    def range_rows(self) -> Iterator[Stem]:
        """The rows that look up ranges, for all banks; each names one object that speaks of the range."""
        for bank in self._banks:
            sets: dict[tuple[int, int, int], int] = {}
            names: dict[tuple[int, int, int], str] = {}
            for name, bit in sorted(bank.set_bits.items()):
                for prefix in (prefix for cidr in self._cidrs(name) for prefix in _prefixes(cidr)):
                    sets[prefix] = sets.get(prefix, 0) | 1 << bit
                    names.setdefault(prefix, name)
            for (width, ip, length), bits in _inherited(sets).items():
                row = sg.range_row(bank.id, ip, length, width == 128, bits)
                yield Stem(*self._speakers.get(names[width, ip, length], ("address_group", "")), row)

    def _group(self, name: str) -> SecurityGroup:
        group = self.groups.get(name)
        if group is not None:
            return group
        return BUILT_IN_DEFAULT if name == DEFAULT_GROUP else SecurityGroup()

    def _stateful(self, policy: Policy) -> bool:
        return any(self._group(name).stateful for name in policy)

    def _all_egress(self, name: str) -> bool:
        group = self._group(name)
        return group.default_egress == "allow" and all(rule.direction != "egress" for rule in group.rules)

    def _rules_of(self, policy: Policy) -> Iterator[tuple[str, Rule, int]]:
        """The rules of a policy with their names within the VPC and their numbers."""
        for name in policy:
            for index, (rule, number) in enumerate(zip(self._group(name).rules, self._rules[name], strict=True)):
                yield f"{name}.rules[{index}]", rule, number

    def _number(self, policy: Policy) -> tuple[int, int]:
        remotes = [rule.remote for name in policy for rule in self._group(name).rules if rule.remote is not None]
        groups = {remote.group for remote in remotes if remote.group is not None}
        sets = {name for name in map(range_name, (r for g in policy for r in self._group(g).rules)) if name is not None}
        return self._numbers.policy(self.vpc, policy), self._numbers.bank(self.vpc, policy, groups, sets).id

    def _spoken(self, rule: Rule, number: int, bank: Bank) -> sg.Rule:
        action = _ACTIONS[rule.action]
        peer: tuple[str, int] | None = None
        if rule.remote is not None and rule.remote.group is not None:
            peer = ("group", bank.group_bits[rule.remote.group])
        elif (name := range_name(rule)) is not None:
            peer = ("set", bank.set_bits[name])
        return sg.Rule(
            ingress=rule.direction == "ingress",
            family=family(rule) or 0,
            protocol=protocol_number(rule),
            ports=_port_masks(rule),
            icmp=None if rule.type is None else (rule.type, rule.code),
            peer=peer,
            priority=sg.priority(rule.priority, action),
            verdict=action | LOGGED * rule.log,
            number=number,
        )

    def _cidrs(self, name: str) -> tuple[str, ...]:
        kind, _, what = name.partition(":")
        return (what,) if kind == "cidr" else self.address_groups.get(what, ())

    def _find_speakers(self) -> dict[str, tuple[str, str]]:
        """By set, an object that speaks of it: the address group, or the first rule with that range."""
        found: dict[str, tuple[str, str]] = {}
        for policy in sorted(self.users):
            for name, rule, _ in self._rules_of(policy):
                spoken = range_name(rule)
                if spoken is not None:
                    kind, _, what = spoken.partition(":")
                    found.setdefault(spoken, ("security_group", name) if kind == "cidr" else ("address_group", what))
        return found


def _port_masks(rule: Rule) -> tuple[tuple[int, int], ...]:
    """Ports as (value, mask); none for all of them, since a match has to have a bit."""
    masks = tuple(mask for first, last in port_ranges(rule) for mask in port_masks(first, last))
    return () if masks == ((0, 0),) else masks


def _prefixes(cidr: str) -> Iterator[tuple[int, int, int]]:
    """A range as (width, address, prefix length); all addresses are two halves, since a match has to have a bit."""
    ip, mask, width = cidr_int(cidr)
    if mask:
        yield width, ip, mask.bit_count()
    else:
        yield width, 0, 1
        yield width, 1 << width - 1, 1


def _contents(group: SecurityGroup) -> tuple[str, ...]:
    return tuple(blake2b(_encode(rule), digest_size=8).hexdigest() for rule in group.rules)


def _bits_of_groups(banks: Iterable[Bank]) -> dict[str, tuple[tuple[int, int], ...]]:
    found: dict[str, list[tuple[int, int]]] = {}
    for bank in banks:
        for name, bit in bank.group_bits.items():
            found.setdefault(name, []).append((bank.id, bit))
    return {name: tuple(bits) for name, bits in found.items()}


def _shown(numbered: Numbered) -> tuple[int, int, bool]:
    """What of a policy's numbers is in the rows of its ports."""
    return numbered.number, numbered.bank.id, numbered.stateful


def _logs(row: Row) -> bool:
    return bool(row.named()["verdict"] & LOGGED)


def _inherited(sets: Mapping[tuple[int, int, int], int]) -> dict[tuple[int, int, int], int]:
    """The bits of each prefix together with those of the prefixes around it: the longest match says all."""
    lengths = sorted({(width, length) for width, _, length in sets})
    found = {}
    for (width, ip, length), own in sets.items():
        around = [(width, ip >> width - n << width - n, n) for other, n in lengths if other == width and n < length]
        found[width, ip, length] = functools.reduce(operator.or_, (sets.get(one, 0) for one in around), own)
    return found
