"""Flow statistics from bytes, without a switch."""

from __future__ import annotations

import itertools
import random
import struct

import pytest

from ovsnet.openflow.dump import FlowEntry, canonical_match, parse_flow_stats

IN_PORT = bytes.fromhex("8000000400000001")
ETH_TYPE = bytes.fromhex("80000a020800")
ETH_DST_MASKED = bytes.fromhex("8000070c010000000000010000000000")
REG0 = bytes.fromhex("0001000400001389")
EXPERIMENTER_A = bytes.fromhex("ffff02080000232000000001")
EXPERIMENTER_B = bytes.fromhex("ffff02084f4e460000000001")
SORTED = [REG0, IN_PORT, ETH_DST_MASKED, ETH_TYPE, EXPERIMENTER_A, EXPERIMENTER_B]


def entry(match: bytes, instructions: bytes = b"", *, table: int = 3, priority: int = 9, packets: int = 0) -> bytes:
    padding = bytes(-(4 + len(match)) % 8)
    tail = struct.pack("!HH", 1, 4 + len(match)) + match + padding + instructions
    fixed = struct.pack("!BxIIHHHHHxxQQQ", table, 7, 8, priority, 10, 11, 12, 13, 0xC0, packets, packets * 60)
    return struct.pack("!H", 2 + len(fixed) + len(tail)) + fixed + tail


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_gives_the_same_bytes(order: tuple[int, ...]) -> None:
    assert canonical_match(b"".join(SORTED[i] for i in order)) == b"".join(SORTED[:4])


def test_experimenters_of_one_header_are_sorted_by_what_follows() -> None:
    assert canonical_match(EXPERIMENTER_B + EXPERIMENTER_A) == EXPERIMENTER_A + EXPERIMENTER_B


def test_a_sorted_match_is_returned_as_it_is() -> None:
    match = b"".join(SORTED[:5])
    assert canonical_match(match) is match
    assert canonical_match(b"") == b""


@pytest.mark.parametrize(
    "bad", [IN_PORT[:-1], IN_PORT + ETH_TYPE[:3], ETH_TYPE + IN_PORT[:5], ETH_TYPE + IN_PORT + b"\x80"]
)
def test_a_cut_match_is_an_error(bad: bytes) -> None:
    with pytest.raises(ValueError, match="malformed match"):
        canonical_match(bad)


def test_flows_are_read_across_bodies() -> None:
    random.seed(4)
    rows = []
    bodies = [b"", b""]
    for n in range(40):
        fields = random.sample(SORTED, random.randrange(len(SORTED)))
        instructions = random.randbytes(8 * random.randrange(4))
        rows.append(FlowEntry(n, 9, 0xC0, b"".join(sorted(fields)), instructions, n * 5, n * 300))
        bodies[n // 25] += entry(b"".join(fields), instructions, table=n, packets=n * 5)
    assert list(parse_flow_stats(bodies)) == rows


def test_no_flows_are_no_entries() -> None:
    assert list(parse_flow_stats([])) == []
    assert list(parse_flow_stats([b""])) == []


@pytest.mark.parametrize("size", [1, 40, 50, 60, 71])
def test_a_body_that_is_cut_is_an_error(size: int) -> None:
    whole = entry(IN_PORT + ETH_TYPE)
    assert len(whole) == 72
    with pytest.raises(ValueError, match="in the middle of a flow"):
        list(parse_flow_stats([whole + whole[:size]]))
