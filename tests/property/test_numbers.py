"""The laws of the compiler's numbers, over random histories: nobody shares one, nobody loses one for nothing."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet import numbers as module
from ovsnet.numbers import Numbers, OutOfNumbersError, Snapshot

ROOM = (4, 3)
VPCS, GROUPS, CONTENTS = ("red", "blue"), ("a", "b", "c"), ("x", "y", "z")
NAMES = [f"n{i}" for i in range(7)]

policies = st.frozensets(st.sampled_from(GROUPS), max_size=3)
steps = st.one_of(
    st.tuples(st.just("policy"), st.sampled_from(VPCS), policies),
    st.tuples(
        *(st.just("bank"), st.sampled_from(VPCS), policies),
        *(st.frozensets(st.sampled_from(NAMES), max_size=room) for room in ROOM),
    ),
    st.tuples(st.just("rules"), st.sampled_from(VPCS), st.sampled_from(GROUPS), st.lists(st.sampled_from(CONTENTS))),
    st.tuples(st.just("release_policy"), st.sampled_from(VPCS), policies),
    st.tuples(st.just("release_rules"), st.sampled_from(VPCS), st.sampled_from(GROUPS)),
    st.tuples(st.just("release_vpc"), st.sampled_from(VPCS)),
)
histories = st.lists(steps, max_size=30)
ROUNDS = settings(max_examples=60, deadline=None)


def play(history: list[tuple[Any, ...]], numbers: Numbers | None = None) -> Numbers:
    numbers = numbers or Numbers(*ROOM)
    for what, *arguments in history:
        getattr(numbers, what)(*arguments)
    return numbers


def distinct(values: list[int]) -> bool:
    return len(values) == len(set(values)) and all(values)


@ROUNDS
@given(histories)
def test_no_two_share_a_number(history: list[tuple[Any, ...]]) -> None:
    seen = play(history).snapshot()
    assert distinct([one.number for one in seen.policies])
    assert distinct([number for one in seen.rules for _, number in one.rules])
    assert distinct([one.number for one in seen.banks])
    for bank in seen.banks:
        for bits, room, needed in (
            (bank.group_bits, ROOM[0], {name for user in bank.users for name in user.groups}),
            (bank.set_bits, ROOM[1], {name for user in bank.users for name in user.sets}),
        ):
            assert bits.keys() == needed
            assert sorted(set(bits.values())) == sorted(bits.values())
            assert all(0 <= bit < room for bit in bits.values())


@ROUNDS
@given(histories, histories)
def test_restored_goes_on_as_if_nothing_had_happened(
    before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    numbers = play(before)
    text = msgspec.json.encode(numbers.snapshot())
    again = Numbers.restore(msgspec.json.decode(text, type=Snapshot), *ROOM)
    assert again.snapshot() == numbers.snapshot()
    assert play(after, again).snapshot() == play(after, numbers).snapshot()


@ROUNDS
@given(histories, steps)
def test_who_asks_for_nothing_new_keeps_everything(history: list[tuple[Any, ...]], step: tuple[Any, ...]) -> None:
    numbers = play([*history, step])
    changes, seen = numbers.changes, numbers.snapshot()
    play([step], numbers)
    assert (numbers.changes, numbers.snapshot()) == (changes, seen)


@ROUNDS
@given(histories, steps)
def test_nobody_else_is_touched(history: list[tuple[Any, ...]], step: tuple[Any, ...]) -> None:
    """A step changes nothing of other policies and groups: neither their numbers, nor their banks, nor their bits."""
    numbers = play(history)
    before = numbers.snapshot()
    play([step], numbers)
    after = numbers.snapshot()
    what, vpc = step[:2]
    mine = {(vpc, tuple(sorted(step[2])))} if what in {"policy", "bank", "release_policy"} else set()

    def policies_of(seen: Snapshot) -> dict[Any, int]:
        found = {(one.vpc, one.groups): one.number for one in seen.policies}
        return {k: v for k, v in found.items() if k not in mine and not (what == "release_vpc" and k[0] == vpc)}

    def bits_of(seen: Snapshot) -> dict[Any, Any]:
        return {
            (bank.vpc, user.policy): (bank.number, [bank.group_bits[n] for n in user.groups], user.sets)
            for bank in seen.banks
            for user in bank.users
            if (bank.vpc, user.policy) not in mine and not (what == "release_vpc" and bank.vpc == vpc)
        }

    def rules_of(seen: Snapshot) -> dict[Any, Any]:
        kept = {(one.vpc, one.group): one.rules for one in seen.rules}
        return {k: v for k, v in kept.items() if what not in {"rules", "release_rules", "release_vpc"} or k[0] != vpc}

    assert policies_of(after) == policies_of(before)
    assert bits_of(after) == bits_of(before)
    assert rules_of(after) == rules_of(before)


@ROUNDS
@given(histories, st.lists(st.sampled_from(CONTENTS)), st.lists(st.sampled_from(CONTENTS)))
def test_a_rule_keeps_its_number_wherever_it_moves(
    history: list[tuple[Any, ...]], before: list[str], after: list[str]
) -> None:
    numbers = play(history)
    old, new = numbers.rules("red", "a", before), numbers.rules("red", "a", after)
    for content in CONTENTS:
        had = [n for c, n in zip(before, old, strict=True) if c == content]
        has = [n for c, n in zip(after, new, strict=True) if c == content]
        assert has[: len(had)] == had[: len(has)]
    assert distinct(list(new))


def test_a_policy_stays_then_extends_then_moves_then_opens_a_bank() -> None:
    numbers = Numbers(4, 3)
    first = numbers.bank("red", ["a"], ["g0", "g1"], [])
    assert (dict(first.group_bits), first.id) == ({"g0": 0, "g1": 1}, 1)
    assert numbers.bank("red", ["b"], ["g1", "g2"], ["s"]).group_bits == {"g0": 0, "g1": 1, "g2": 2}
    assert numbers.bank("red", ["c"], ["g7", "g8"], []).id == 2, "only one bit is left in the first"
    extended = numbers.bank("red", ["a"], ["g0", "g1", "g3"], [])
    assert (extended.id, extended.group_bits["g3"]) == (1, 3)
    moved = numbers.bank("red", ["a"], ["g0", "g1", "g3", "g4"], [])
    assert moved.id == 3, "neither its own bank nor the second has room for all of it"
    assert [(b.id, dict(b.group_bits)) for b in numbers.banks("red")] == [
        (1, {"g1": 1, "g2": 2}),
        (2, {"g7": 0, "g8": 1}),
        (3, {"g0": 0, "g1": 1, "g3": 2, "g4": 3}),
    ]
    assert numbers.bank("red", ["a"], ["g7"], []).id == 3, "it stays where it is"
    assert numbers.bank("blue", ["a"], ["g1"], []).id == 4, "another VPC, another bank"
    assert numbers.bank("red", ["d"], ["g8"], []).id == 2, "the one that has the bit already"
    numbers.release_vpc("red")
    assert [b.id for b in (*numbers.banks("red"), *numbers.banks("blue"))] == [4]
    with pytest.raises(ValueError, match="more than"):
        numbers.bank("red", ["a"], [f"g{i}" for i in range(5)], [])


def test_numbers_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLICY_NUMBERS", 3)
    numbers = Numbers()
    assert [numbers.policy("red", [group]) for group in "ab"] == [1, 2]
    assert numbers.policy("red", ["b", "a", "b"]) == numbers.policy("red", ("a", "b")) == 3
    numbers.release_policy("red", ["a"])
    numbers.release_policy("red", ["b"])
    assert (numbers.policy("red", ["c"]), numbers.policy("red", ["a"])) == (1, 2)
    with pytest.raises(OutOfNumbersError, match="all 3 numbers of policies"):
        numbers.policy("red", ["d"])


def test_retain_releases_the_rest() -> None:
    numbers = play(
        [("policy", "red", "a"), ("policy", "red", "b"), ("bank", "red", "b", ["x"], []), ("rules", "red", "a", "xy")]
    )
    numbers.retain({("red", ("a",))}, ())
    seen = numbers.snapshot()
    assert ([one.groups for one in seen.policies], seen.rules, seen.banks) == ([("a",)], (), ())


@pytest.mark.parametrize(
    "damage",
    [
        {"policies": [{"vpc": "red", "groups": ["a"], "number": 1}, {"vpc": "red", "groups": ["b"], "number": 1}]},
        {"policies": [{"vpc": "red", "groups": ["a"], "number": 1}, {"vpc": "red", "groups": ["a"], "number": 2}]},
        {"policies": [{"vpc": "red", "groups": ["b", "a"], "number": 1}]},
        {"policies": [{"vpc": "red", "groups": ["a"], "number": 0}]},
        {"rules": [{"vpc": "red", "group": "a", "rules": [["x", 5], ["y", 5]]}]},
        {"rules": [{"vpc": "red", "group": "a", "rules": []}]},
        {"banks": [{"vpc": "red", "number": 1, "group_bits": {}, "set_bits": {}, "users": []}]},
        {"last_bank": 1 << 16},
        *(
            {
                "banks": [
                    {
                        "vpc": "red",
                        "number": 1,
                        "group_bits": bits,
                        "set_bits": {},
                        "users": [{"policy": [], "groups": ["x", "y"], "sets": []}],
                    }
                ]
            }
            for bits in ({"x": 0, "y": 0}, {"x": 0, "y": 64}, {"x": 0}, {"x": 0, "y": 1, "z": 2})
        ),
    ],
)
def test_a_snapshot_that_contradicts_itself_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"twice|stands for|order|nobody|last number|bits of bank"):
        Numbers.restore(msgspec.convert(damage, Snapshot))
