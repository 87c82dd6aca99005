"""The laws by which conntrack zones are given, over random comings and goings, with few numbers to give."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.agent import zones
from ovsnet.agent.zones import Held, allocate, assign

FEW = 6
ROUNDS = settings(max_examples=100, deadline=None)
PORTS = [f"p{i}" for i in range(9)]
wants = st.dictionaries(st.sampled_from(PORTS), st.sampled_from(("red", "blue")))
numbers = st.integers(1, FEW)


@ROUNDS
@given(st.lists(st.sampled_from(PORTS), unique=True), st.frozensets(numbers), st.integers(0, FEW))
def test_allocation_goes_round(ports: list[str], used: frozenset[int], last: int) -> None:
    with patch.object(zones, "HIGHEST", FEW):
        given_, end = allocate(ports, used, last)
    free = [n for n in (*range(last + 1, FEW + 1), *range(1, last + 1)) if n not in used]
    assert list(given_.items()) == list(zip(ports, free, strict=False)), "in the order given, the next ones after last"
    assert end == (list(given_.values()) or [last])[-1]


@ROUNDS
@given(st.lists(st.tuples(wants, st.booleans()), max_size=12), st.frozensets(numbers, max_size=2))
def test_comings_and_goings(history: list[tuple[dict[str, str], bool]], elsewhere: frozenset[int]) -> None:
    held: dict[str, Held] = {}
    before: set[str] = set()
    last = 0
    for wanted, released in history:
        with patch.object(zones, "HIGHEST", FEW):
            after, last = assign(wanted, held, before, elsewhere, last)
        given_ = [one.number for one in after.values()]
        assert len(given_) == len(set(given_)), "nobody shares one"
        assert not set(given_) & elsewhere
        assert all(1 <= number <= FEW for number in given_)
        for port, vpc in wanted.items():
            had, has = held.get(port), after.get(port)
            if had is not None and had.vpc == vpc:
                assert has is not None and has.number == had.number
                assert has.clean == (had.clean and port in before), "who was away starts clean"
            elif has is not None:
                assert (has.vpc, has.clean, has.written_clean) == (vpc, False, False)
                assert had is None or has.number != had.number, "no tenant gets another's"
            else:
                assert len(set(given_) | elsewhere | {one.number for one in held.values()}) == FEW, (
                    "there was none left"
                )
        assert {p: o for p, o in after.items() if p not in wanted} == {p: o for p, o in held.items() if p not in wanted}
        held = {port: one._replace(clean=True, written_clean=True) for port, one in after.items()}
        if released:
            held = {port: one for port, one in held.items() if port in wanted}
        before = set(wanted)
