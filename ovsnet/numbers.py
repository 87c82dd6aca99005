"""The numbers that stand for names in the flows of security groups: each is kept for as long as its name is in use.

A *policy* is the set of groups of a port, a *bank* gives up to so many remote groups and ranges of one VPC a bit each.
Which number a name has does not follow from the model, but from what was there before; so the numbers are an input of
the compiler, and the agent keeps them. Pure: no I/O, no clock; the same calls in the same order give the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import msgspec

from ovsnet.pipeline import fields

POLICY_NUMBERS = RULE_NUMBERS = (1 << 32) - 1
BANK_NUMBERS = (1 << 16) - 1
"""The highest number of each kind; 0 stands for none."""

GROUP_BITS, SET_BITS = 32 * len(fields.GROUPS), 32 * len(fields.SETS)
"""How many remote groups and how many ranges a bank has bits for."""

Groups = tuple[str, ...]
"""The groups of a policy, sorted, none twice."""


class OutOfNumbersError(Exception):
    """Every number of a kind is in use."""


@dataclass(frozen=True)
class Bank:
    """A bank as it is now: for every remote group and every range that its policies speak of, the number of its bit."""

    id: int
    group_bits: Mapping[str, int]
    set_bits: Mapping[str, int]


class PolicyNumber(msgspec.Struct, frozen=True):
    """A policy's number, written down."""

    vpc: str
    groups: Groups
    number: int


class RuleNumbers(msgspec.Struct, frozen=True):
    """The numbers of a group's rules, in their order, written down; a rule is known by its contents."""

    vpc: str
    group: str
    rules: tuple[tuple[str, int], ...]


class BankUser(msgspec.Struct, frozen=True):
    """What a policy needs bits for, written down; names are sorted."""

    policy: Groups
    groups: tuple[str, ...]
    sets: tuple[str, ...]


class BankNumbers(msgspec.Struct, frozen=True):
    """A bank, written down."""

    vpc: str
    number: int
    group_bits: dict[str, int]
    set_bits: dict[str, int]
    users: tuple[BankUser, ...]


class Snapshot(msgspec.Struct, frozen=True):
    """All numbers as plain data; ``last_...`` is the one that was given last, from which the next ones are counted."""

    last_policy: int = 0
    last_rule: int = 0
    last_bank: int = 0
    policies: tuple[PolicyNumber, ...] = ()
    rules: tuple[RuleNumbers, ...] = ()
    banks: tuple[BankNumbers, ...] = ()


class _Counter:
    """Gives numbers from 1 to ``limit`` in turn; one that was given back comes again only after a whole round."""

    def __init__(self, kind: str, limit: int, last: int = 0, live: Iterable[int] = ()) -> None:
        self.kind, self.limit, self.last = kind, limit, last
        self.live: set[int] = set()
        if not 0 <= last <= limit:
            raise ValueError(f"the last number of {kind} is {last}")
        for number in live:
            if not 1 <= number <= limit or number in self.live:
                raise ValueError(f"number {number} of {kind} is out of bounds or there twice")
            self.live.add(number)

    def take(self) -> int:
        if len(self.live) >= self.limit:
            raise OutOfNumbersError(f"all {self.limit} numbers of {self.kind} are in use")
        while True:
            self.last = self.last % self.limit + 1
            if self.last not in self.live:
                self.live.add(self.last)
                return self.last

    def free(self, number: int) -> None:
        self.live.discard(number)


Need = tuple[frozenset[str], frozenset[str]]
"""The remote groups and the ranges that a policy needs bits for."""


@dataclass
class _Bank:
    vpc: str
    bits: tuple[dict[str, int], dict[str, int]] = field(default_factory=lambda: ({}, {}))  # groups, sets
    users: dict[Groups, Need] = field(default_factory=dict)

    def names(self, without: Groups | None = None) -> tuple[set[str], set[str]]:
        """What its policies, except one, need bits for."""
        needs = [need for policy, need in self.users.items() if policy != without]
        groups, sets = ({name for need in needs for name in need[kind]} for kind in (0, 1))
        return groups, sets


class Numbers:
    """Gives numbers to names and keeps them until they are released. ``changes`` counts what has changed so far.

    ``group_bits`` and ``set_bits``: how many remote groups and how many ranges one bank has bits for.
    """

    def __init__(self, group_bits: int = GROUP_BITS, set_bits: int = SET_BITS) -> None:
        self.changes = 0
        self._room = (group_bits, set_bits)
        self._policies: dict[tuple[str, Groups], int] = {}
        self._rules: dict[tuple[str, str], tuple[tuple[str, int], ...]] = {}
        self._banks: dict[int, _Bank] = {}
        self._bank_of: dict[tuple[str, Groups], int] = {}
        self._counters = _counters(Snapshot())

    def policy(self, vpc: str, groups: Collection[str]) -> int:
        """The number of a set of groups of a VPC, 32 bits, never 0. Raises OutOfNumbersError."""
        key = (vpc, _policy(groups))
        number = self._policies.get(key)
        if number is None:
            number = self._policies[key] = self._counters[0].take()
            self.changes += 1
        return number

    def rules(self, vpc: str, group: str, contents: Sequence[str]) -> tuple[int, ...]:
        """The numbers of all rules of a group, 32 bits, never 0; ``contents`` tells rules apart, such as by a hash.

        A rule keeps its number wherever it moves in the list. One whose contents are new gets a new number, and the
        numbers of those that are not there any more are released. Raises OutOfNumbersError, and then nothing changed.
        """
        before = self._rules.get((vpc, group), ())
        if tuple(content for content, _ in before) == tuple(contents):
            return tuple(number for _, number in before)
        counter = self._counters[1]
        known: dict[str, list[int]] = {}
        for content, number in reversed(before):
            known.setdefault(content, []).append(number)
        if len(counter.live) + len(contents) > counter.limit:
            raise OutOfNumbersError(f"all {counter.limit} numbers of {counter.kind} are in use")
        numbers = [known[content].pop() if known.get(content) else counter.take() for content in contents]
        for number in (number for left in known.values() for number in left):
            counter.free(number)
        self._rules[vpc, group] = tuple(zip(contents, numbers, strict=True))
        if not numbers:
            del self._rules[vpc, group]
        self.changes += 1
        return tuple(numbers)

    def rule_places(self) -> dict[int, tuple[str, str, int]]:
        """By a rule's number, its VPC, its group and its place among the group's rules."""
        return {
            number: (vpc, group, index)
            for (vpc, group), given in self._rules.items()
            for index, (_content, number) in enumerate(given)
        }

    def bank(self, vpc: str, policy: Collection[str], groups: Collection[str], sets: Collection[str]) -> Bank:
        """The bank with bits for all remote groups and ranges that a policy's rules speak of.

        The policy stays in its bank while that has room, else goes to another of the VPC that has, with the fewest new
        bits, else to a new one. What was needed before and is not any more loses its bit. Raises ValueError for more
        than a bank has bits for, OutOfNumbersError.
        """
        key, need = _policy(policy), (frozenset(groups), frozenset(sets))
        if any(len(names) > room for names, room in zip(need, self._room, strict=True)):
            raise ValueError(f"a policy of VPC {vpc} needs bits for more than {self._room} remote groups and ranges")
        current = self._bank_of.get((vpc, key))
        if current is not None and self._banks[current].users[key] == need:
            return self._shown(current)
        chosen = self._choose(vpc, key, need, current)
        if current not in {None, chosen}:
            self._leave(vpc, key)
        self._bank_of[vpc, key] = chosen
        self._banks[chosen].users[key] = need
        self._tidy(chosen)
        self.changes += 1
        return self._shown(chosen)

    def banks(self, vpc: str) -> tuple[Bank, ...]:
        """The banks of a VPC, by their numbers."""
        return tuple(self._shown(number) for number, bank in sorted(self._banks.items()) if bank.vpc == vpc)

    def release_policy(self, vpc: str, groups: Collection[str]) -> None:
        """No port has this set of groups any more: its number goes, and its bits that nobody else needs."""
        key = (vpc, _policy(groups))
        number = self._policies.pop(key, None)
        if number is not None:
            self._counters[0].free(number)
            self.changes += 1
        if key in self._bank_of:
            self._leave(*key)
            self.changes += 1

    def release_rules(self, vpc: str, group: str) -> None:
        """A group is gone, or no policy here has it any more."""
        self.rules(vpc, group, ())

    def release_vpc(self, vpc: str) -> None:
        """A VPC is gone."""
        self.retain(
            {key for key in self._policies.keys() | self._bank_of.keys() if key[0] != vpc},
            {key for key in self._rules if key[0] != vpc},
        )

    def retain_vpc(self, vpc: str, policies: Collection[Groups], groups: Collection[str]) -> None:
        """Release all of a VPC but these policies and the rules of these groups."""
        others = {key for key in self._policies.keys() | self._bank_of.keys() if key[0] != vpc}
        rules = {key for key in self._rules if key[0] != vpc}
        self.retain(others | {(vpc, policy) for policy in policies}, rules | {(vpc, group) for group in groups})

    def retain_vpcs(self, vpcs: Collection[str]) -> None:
        """Release all of other VPCs: those that went while nobody was here to say so."""
        for vpc in {key[0] for key in (*self._policies, *self._bank_of, *self._rules)}.difference(vpcs):
            self.release_vpc(vpc)

    def retain(self, policies: Collection[tuple[str, Groups]], rules: Collection[tuple[str, str]]) -> None:
        """Release all but these: policies as (VPC, groups), rules as (VPC, group)."""
        kept = {(vpc, _policy(groups)) for vpc, groups in policies}
        for key in sorted((self._policies.keys() | self._bank_of.keys()) - kept):
            self.release_policy(*key)
        for vpc, group in sorted(self._rules.keys() - set(rules)):
            self.release_rules(vpc, group)

    def snapshot(self) -> Snapshot:
        """All of it as plain data; the same for the same numbers."""
        policies = (PolicyNumber(vpc, groups, number) for (vpc, groups), number in sorted(self._policies.items()))
        rules = (RuleNumbers(vpc, group, given) for (vpc, group), given in sorted(self._rules.items()))
        banks = (
            BankNumbers(one.vpc, number, dict(one.bits[0]), dict(one.bits[1]), _users(one))
            for number, one in sorted(self._banks.items())
        )
        policy, rule, bank = (counter.last for counter in self._counters)
        return Snapshot(policy, rule, bank, tuple(policies), tuple(rules), tuple(banks))

    @classmethod
    def restore(cls, data: Snapshot, group_bits: int = GROUP_BITS, set_bits: int = SET_BITS) -> Numbers:
        """The numbers that a snapshot was made of. Raises ValueError for one that contradicts itself."""
        made = cls(group_bits, set_bits)
        made._counters = _counters(data)
        made._policies = {(one.vpc, _checked_policy(one.groups)): one.number for one in data.policies}
        made._rules = {(one.vpc, one.group): one.rules for one in data.rules if one.rules}
        if (len(made._policies), len(made._rules)) != (len(data.policies), len(data.rules)):
            raise ValueError("a name is there twice, or stands for nothing")
        for one in data.banks:
            made._banks[one.number] = _checked_bank(one, made._room)
            for user in one.users:
                if made._bank_of.setdefault((one.vpc, user.policy), one.number) != one.number:
                    raise ValueError(f"a policy of VPC {one.vpc} is in two banks")
        return made

    def _choose(self, vpc: str, policy: Groups, need: Need, current: int | None) -> int:
        """The number of the bank for a policy; a new one if it fits nowhere."""
        fitting = []
        for number, bank in self._banks.items():
            others = bank.names(without=policy)
            if bank.vpc == vpc and all(len(others[kind] | need[kind]) <= self._room[kind] for kind in (0, 1)):
                new = sum(len(need[kind] - bank.bits[kind].keys()) for kind in (0, 1))
                fitting.append((number != current, new, number))
        if fitting:
            return min(fitting)[2]
        number = self._counters[2].take()
        self._banks[number] = _Bank(vpc)
        return number

    def _leave(self, vpc: str, policy: Groups) -> None:
        number = self._bank_of.pop((vpc, policy))
        del self._banks[number].users[policy]
        self._tidy(number)

    def _tidy(self, number: int) -> None:
        """Give a bank's names their bits, the lowest that are free, and take those of names that nobody needs."""
        bank = self._banks[number]
        if not bank.users:
            del self._banks[number]
            self._counters[2].free(number)
            return
        for bits, names, room in zip(bank.bits, bank.names(), self._room, strict=True):
            for name in bits.keys() - names:
                del bits[name]
            free = iter(sorted(set(range(room)) - set(bits.values())))
            bits.update((name, next(free)) for name in sorted(names - bits.keys()))

    def _shown(self, number: int) -> Bank:
        groups, sets = self._banks[number].bits
        return Bank(number, MappingProxyType(dict(groups)), MappingProxyType(dict(sets)))


def _policy(groups: Collection[str]) -> Groups:
    return tuple(sorted(set(groups)))


def _checked_policy(groups: Groups) -> Groups:
    if groups != _policy(groups):
        raise ValueError(f"the groups {groups} are not in order")
    return groups


def _counters(data: Snapshot) -> tuple[_Counter, _Counter, _Counter]:
    """Those of policies, rules and banks. Raises ValueError when a number is given twice."""
    rules = (number for one in data.rules for _, number in one.rules)
    return (
        _Counter("policies", POLICY_NUMBERS, data.last_policy, (one.number for one in data.policies)),
        _Counter("rules", RULE_NUMBERS, data.last_rule, rules),
        _Counter("banks", BANK_NUMBERS, data.last_bank, (one.number for one in data.banks)),
    )


def _users(bank: _Bank) -> tuple[BankUser, ...]:
    return tuple(BankUser(p, tuple(sorted(g)), tuple(sorted(s))) for p, (g, s) in sorted(bank.users.items()))


def _checked_bank(one: BankNumbers, room: tuple[int, int]) -> _Bank:
    users = {_checked_policy(user.policy): (frozenset(user.groups), frozenset(user.sets)) for user in one.users}
    bank = _Bank(one.vpc, (dict(one.group_bits), dict(one.set_bits)), users)
    if not users or len(users) != len(one.users):
        raise ValueError(f"bank {one.number} has nobody in it, or a policy twice")
    for bits, names, size in zip(bank.bits, bank.names(), room, strict=True):
        numbers = set(bits.values())
        if bits.keys() != names or len(numbers) != len(bits) or not all(0 <= bit < size for bit in numbers):
            raise ValueError(f"the bits of bank {one.number} do not fit what its policies need")
    return bank
