"""The checker of linearizability: it accepts what can have happened, and refuses what cannot."""

from __future__ import annotations

import functools
import itertools
import math
import random
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearize import (
    LOST,
    Delete,
    Document,
    Documents,
    Done,
    Get,
    Operation,
    Put,
    Recorder,
    Refused,
    Seen,
    linearizable,
    partitioned,
)

SPEC = Documents()


def op(start: float, end: float, call: object, answer: object = LOST, client: str = "a") -> Operation:
    return Operation(client, start, end, call, answer)


def ok(*history: Operation) -> bool:
    return linearizable(history, SPEC, Document()).ok


def test_one_client_after_the_other() -> None:
    assert ok(
        op(0, 1, Put("p", 1), Done(1)),
        op(2, 3, Get("p"), Seen(1, 1)),
        op(4, 5, Put("p", 1), Done(1)),
        op(6, 7, Put("q", 2, if_match=1), Done(2)),
        op(8, 9, Put("q", 3, if_match=1), Refused(2)),
        op(10, 11, Delete("p"), Done(3)),
        op(12, 13, Delete("p"), Done(3)),
        op(14, 15, Get("p"), Seen(None, 3)),
    )


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([op(0, 1, Put("p", 1), Done(1)), op(2, 3, Get("p"), Seen(None, 0))], id="a stale read"),
        pytest.param([op(0, 1, Put("p", 1), Done(1)), op(2, 3, Get("p"), Seen(2, 1))], id="a value nobody wrote"),
        pytest.param(
            [op(0, 1, Put("p", 1), Done(1)), op(2, 3, Put("p", 2), Done(2)), op(4, 5, Get("p"), Seen(1, 2))],
            id="a lost update",
        ),
        pytest.param(
            [op(0, 9, Put("p", 1, if_match=0), Done(1)), op(0, 9, Put("p", 2, if_match=0), Done(2))],
            id="two winners of one compare-and-set",
        ),
        pytest.param(
            [
                op(0, 9, Put("p", 1), Done(1)),
                op(0, 1, Get("p"), Seen(1, 1)),
                op(2, 3, Get("p"), Seen(None, 0)),
            ],
            id="a value that goes back under a write on its way",
        ),
        pytest.param([op(0, 1, Put("p", 1), Done(1)), op(2, 3, Put("q", 1), Done(1))], id="one revision twice"),
        pytest.param([op(0, 1, Put("p", 1), Done(2))], id="a revision that skips"),
        pytest.param(
            [op(0, math.inf, Put("p", 1)), op(1, 2, Get("p"), Seen(1, 1)), op(3, 4, Get("p"), Seen(None, 0))],
            id="a lost call that happened and did not",
        ),
        pytest.param(
            [op(0, 1, Get("p"), Seen(1, 1)), op(2, math.inf, Put("p", 1))],
            id="a lost call seen before it began",
        ),
        pytest.param([op(0, 1, Put("p", 1, if_match=0), Refused(0))], id="refused without a reason"),
    ],
)
def test_what_cannot_have_happened(history: list[Operation]) -> None:
    verdict = linearizable(history, SPEC, Document())
    assert not verdict.ok
    assert verdict.stuck
    assert "none of these can come next" in str(verdict)


def test_concurrent_calls_take_effect_in_any_order() -> None:
    writes = [op(0, 10, Put("p", 1), Done(2), "a"), op(0, 10, Put("p", 2), Done(1), "b")]
    assert ok(*writes, op(11, 12, Get("p"), Seen(1, 2)))
    assert not ok(*writes, op(11, 12, Get("p"), Seen(2, 2)))


def test_a_lost_call_happened_late_or_never() -> None:
    lost = op(0, math.inf, Put("p", 1))
    assert ok(lost, op(1, 2, Get("p"), Seen(None, 0)))
    assert ok(lost, op(1, 2, Get("p"), Seen(None, 0)), op(3, 4, Get("p"), Seen(1, 1)))
    assert ok(lost, op(1, 2, Put("p", 2), Done(1)), op(3, 4, Get("p"), Seen(1, 2)))


def test_a_lost_call_does_not_happen_after_its_end() -> None:
    lost = op(0, 5, Put("p", 1))
    assert ok(lost, op(6, 7, Get("p"), Seen(1, 1)))
    assert ok(lost, op(6, 7, Get("p"), Seen(None, 0)))
    assert not ok(lost, op(6, 7, Get("p"), Seen(None, 0)), op(8, 9, Get("p"), Seen(1, 1)))


def test_many_lost_calls_do_not_multiply() -> None:
    """Each end of the server loses the calls of five clients, one of which took effect."""
    history = []
    for end in range(0, 400, 10):
        history += [op(end + n / 10, end + 5, Put("p", end * 10 + n)) for n in range(5)]
        history.append(op(end + 6, end + 7, Get("q"), Seen(None, end // 10 + 1)))
    assert ok(*history)


def test_a_read_that_does_not_tell_the_revision() -> None:
    write = op(0, 1, Put("p", 1), Done(1))
    assert ok(write, op(2, 3, Get("q"), Seen(None, None)))
    assert not ok(write, op(2, 3, Get("p"), Seen(None, None)))


def test_keys_are_checked_by_themselves() -> None:
    history = [
        ("v", op(0, 1, Put("p", 1), Done(1))),
        ("w", op(0, 1, Put("p", 1), Done(8))),
        ("v", op(2, 3, Get("p"), Seen(None, 0))),
    ]
    verdicts = partitioned(history, SPEC, {"v": Document(), "w": Document(7)})
    assert [verdicts["v"].ok, verdicts["w"].ok] == [False, True]


def brute(history: list[Operation]) -> bool:
    """Every order of every choice of the lost calls, without any cleverness."""
    sure = [one for one in history if one.answer is not LOST]
    lost = [one for one in history if one.answer is LOST]
    for count in range(len(lost) + 1):
        for chosen in itertools.combinations(lost, count):
            for order in itertools.permutations([*sure, *chosen]):
                late = any(b.end < a.start for a, b in itertools.combinations(order, 2))
                state: Document | None = Document()
                for one in order:
                    state = None if state is None else SPEC.step(state, one.call, one.answer)
                if state is not None and not late:
                    return True
    return False


calls = st.one_of(
    st.builds(Get, st.just("p")),
    st.builds(Put, st.just("p"), st.integers(1, 2), st.sampled_from([None, 0, 1])),
    st.builds(Delete, st.just("p"), st.sampled_from([None, 1])),
)
answers = st.one_of(
    st.just(LOST),
    st.builds(Seen, st.sampled_from([None, 1, 2]), st.integers(0, 2)),
    st.builds(Done, st.integers(0, 2)),
    st.builds(Refused, st.integers(0, 2)),
)
operations = st.builds(
    lambda start, length, call, answer: op(start, start + length, call, answer),
    st.integers(0, 6),
    st.sampled_from([1, 2, 3, 4, 5, math.inf]),
    calls,
    answers,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(operations, max_size=5))
def test_it_agrees_with_trying_everything(history: list[Operation]) -> None:
    assert linearizable(history, SPEC, Document()).ok == brute(history)


class Register:
    """A register for several threads. A broken one reads and writes in two steps; some answers are lost."""

    def __init__(self, broken: bool) -> None:
        self.broken, self.lock, self.state = broken, threading.Lock(), Document()

    def serve(self, call: Get | Put | Delete, rng: random.Random) -> object:
        if self.broken and isinstance(call, Put):
            before = self.state
            time.sleep(0.0005)
            self.state, answer = SPEC.apply(before, call)
            return answer
        with self.lock:
            self.state, answer = SPEC.apply(self.state, call)
        return LOST if rng.random() < 0.05 else answer

    def client(self, number: int, recorder: Recorder) -> None:
        rng = random.Random(number)
        for _ in range(60):
            guess = self.state.revision if rng.random() < 0.3 else None
            name = rng.choice("pq")
            call = rng.choice([Get(name), Put(name, recorder.unique(), guess), Delete(name, guess)])
            recorder.record("v", f"c{number}", call, functools.partial(self.serve, call, rng))


@pytest.mark.parametrize("broken", [False, True])
def test_a_register_under_threads(broken: bool) -> None:
    recorder, register = Recorder(), Register(broken)
    threads = [threading.Thread(target=register.client, args=(number, recorder)) for number in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    verdict = partitioned(recorder.history, SPEC, {"v": Document()})["v"]
    assert verdict.ok is not broken, verdict
