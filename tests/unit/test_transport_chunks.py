from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.transport.chunks import CHUNK, HASH, LENGTH, MAX_LENGTH, PATIENCE, Assembler, ChunkError, split


@given(st.binary(max_size=400), st.integers(1, 50), st.randoms(use_true_random=False))
def test_parts_in_any_order_and_doubled_make_the_message(body: bytes, size: int, rng: random.Random) -> None:
    parts = split(body, size)
    assert all(len(part.body) <= size for part in parts)
    doubled = parts[:-1] + rng.sample(parts[:-1], len(parts) // 2 if len(parts) > 1 else 0)
    rng.shuffle(doubled)
    assembler = Assembler()
    assert [assembler.add(part.headers, part.body, 0.0) for part in doubled] == [None] * len(doubled)
    assert assembler.add(parts[-1].headers, parts[-1].body, 1.0) == body
    assert assembler.forgotten == 0


def test_another_message_makes_an_incomplete_one_forgotten() -> None:
    first, second = split(b"first" * 10, 10), split(b"second" * 10, 10)
    assembler = Assembler()
    for part in first[:-1]:
        assembler.add(part.headers, part.body, 0.0)
    assert [assembler.add(part.headers, part.body, 0.0) for part in second][-1] == b"second" * 10
    assert assembler.add(first[-1].headers, first[-1].body, 0.0) is None
    assert assembler.forgotten == 1


def test_an_incomplete_message_is_forgotten_after_a_while() -> None:
    parts = split(b"x" * 30, 10)
    assembler = Assembler()
    assembler.add(parts[0].headers, parts[0].body, 100.0)
    assembler.add(parts[1].headers, parts[1].body, 110.0)
    assembler.expire(110.0 + PATIENCE)
    assert assembler.forgotten == 0
    assembler.expire(110.1 + PATIENCE)
    assert assembler.forgotten == 1
    assert assembler.add(parts[2].headers, parts[2].body, 150.0) is None


GOOD = split(b"hello world", 6)[0].headers


@pytest.mark.parametrize(
    "wrong",
    [
        {CHUNK: "x"},
        {CHUNK: "x/2/2"},
        {CHUNK: "x/0/999999"},
        {HASH: "abc"},
        {LENGTH: "-1"},
        {LENGTH: str(MAX_LENGTH + 1)},
        {LENGTH: ""},
    ],
)
def test_wrong_headers_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ChunkError):
        Assembler().add(GOOD | wrong, b"hello ", 0.0)


@pytest.mark.parametrize("bodies", [[b"hello ", b"xorld"], [b"hello ", b"worl"], [b"hello ", b"world!"]])
def test_other_contents_than_announced_are_refused(bodies: list[bytes]) -> None:
    assembler = Assembler()
    with pytest.raises(ChunkError):
        for part, body in zip(split(b"hello world", 6), bodies, strict=True):
            assembler.add(part.headers, body, 0.0)
    whole = [assembler.add(part.headers, part.body, 0.0) for part in split(b"hello world", 6)]
    assert whole[-1] == b"hello world", "the next one is not harmed"
