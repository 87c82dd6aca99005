"""What is told of a logged packet, what its rule is called, and the limits; without a switch."""

from __future__ import annotations

import struct
from typing import Any

import msgspec
import pytest

from ovsnet.agent.packetlog import RulePaths, _Tally, entry_of
from ovsnet.features.security_groups import INGRESS, JUDGED
from ovsnet.numbers import Numbers
from ovsnet.openflow.meters import ADD, DELETE, MODIFY, Meter, steps
from ovsnet.openflow.notices import KEYS, Limiter, Notice, is_ours, parse
from ovsnet.pipeline.verdicts import ALLOW, REJECT

NOTICE = Notice(5001, 1, 7, REJECT, JUDGED | INGRESS, 3, False, "192.0.2.1", "192.0.2.2", 6, (4000, 80))


def told(**changes: Any) -> dict[str, Any]:
    return entry_of(msgspec.structs.replace(NOTICE, **changes), "vpcs.a.security_groups.g.rules[1]", "a/p")


def test_an_entry_is_from_the_ports_point_of_view() -> None:
    one = told()
    assert (one["address"], one["peer"], one["direction"], one["verdict"]) == (
        "192.0.2.2", "192.0.2.1", "ingress", "reject",
    )  # fmt: skip
    assert (one["protocol"], one["ports"], one["sent"]) == ("tcp", [4000, 80], False)
    reply = told(sent=True, verdict=ALLOW)
    assert (reply["address"], reply["peer"], reply["direction"]) == ("192.0.2.1", "192.0.2.2", "ingress")


def test_icmp_has_type_and_code_and_others_neither() -> None:
    assert {key: told(protocol=58, ports=(128, 0)).get(key) for key in ("protocol", "type", "code", "ports")} == {
        "protocol": "icmpv6", "type": 128, "code": 0, "ports": None,
    }  # fmt: skip
    assert told(protocol=200, ports=None)["protocol"] == "200"
    assert "ports" not in told(protocol=47, ports=None)


def test_a_rules_path_follows_its_place_and_outlives_it_by_one_change() -> None:
    numbers = Numbers()
    first, second = numbers.rules("shop", "web", ["a", "b"])
    paths = RulePaths(numbers.rule_places, lambda: numbers.changes)
    assert paths(first) == "vpcs.shop.security_groups.web.rules[0]"
    assert paths(second) == "vpcs.shop.security_groups.web.rules[1]"
    numbers.rules("shop", "web", ["b"])
    assert paths(second) == "vpcs.shop.security_groups.web.rules[0]"
    assert paths(first) == "vpcs.shop.security_groups.web.rules[0]", "it was, when the packet came"
    numbers.rules("shop", "web", ["c"])
    assert paths(first) is None


def test_a_limit_is_for_each_key_by_itself() -> None:
    limiter = Limiter(rate=2, burst=3)
    assert [limiter.take(1, 0.0) for _ in range(5)] == [True, True, True, False, False]
    assert limiter.take(2, 0.0)
    assert [limiter.take(1, 0.4), limiter.take(1, 0.5), limiter.take(1, 0.5)] == [False, True, False]
    assert [limiter.take(1, 100.0) for _ in range(4)] == [True, True, True, False]
    for key in range(2 * KEYS):
        limiter.take(key, 200.0 + key)
    assert len(limiter._kept) <= KEYS


def test_a_count_that_begins_anew_goes_on() -> None:
    tally = _Tally()
    for count in (3, 5, 5, 0, 2, 1):
        tally.see(count)
    assert tally.total == 5 + 2 + 1


def test_steps_leave_other_peoples_meters_alone() -> None:
    wanted = [Meter(1001, 1, 1), Meter(1002, 2, 2), Meter(1003, 3, 3)]
    present = {1002: Meter(1002, 9, 2), 1003: Meter(1003, 3, 3), 1016: None, 5: None, 1017: Meter(1017, 1, 1)}
    assert list(steps(present, wanted)) == [(ADD, wanted[0]), (MODIFY, wanted[1]), (DELETE, Meter(1016, 0, 0))]


def packet_in(match: bytes, length: int | None = None, cookie: int = 0x4F56 << 48) -> bytes:
    body = struct.pack("!IHBBQHH", 0xFFFFFFFF, 60, 0, 36, cookie, 1, 4 + len(match) if length is None else length)
    return struct.pack("!BBHI", 5, 10, 0, 0) + body + match.ljust(-(-(4 + len(match)) // 8) * 8 - 4, b"\0") + b"\0\0ABC"


@pytest.mark.parametrize(
    ("oxm", "tunnelled"),
    [(b"", False), (bytes.fromhex("00013e0401020304"), True), (bytes.fromhex("00013e0400000000"), False)],
)
def test_a_packet_in_is_read(oxm: bytes, tunnelled: bool) -> None:
    match = bytes.fromhex("8000000400000009 0001000400001389 0001060400030181 000112041234abcd") + oxm
    copied = parse(packet_in(match))
    assert copied is not None
    assert (copied.in_port, copied.tunnelled, copied.frame) == (9, tunnelled, b"ABC")
    assert copied.registers == {0: 5001, 3: 0x30181, 9: 0x1234ABCD}


def test_a_malformed_packet_in_is_nothing() -> None:
    whole = packet_in(bytes.fromhex("8000000400000009"))
    assert parse(whole) is not None
    assert all(parse(whole[:size]) is None for size in range(len(whole) - 3))
    assert parse(packet_in(b"", length=3)) is None
    assert parse(packet_in(b"", length=0xFFFF)) is None


def test_only_copies_of_our_flows_are_ours() -> None:
    assert is_ours(packet_in(b""))
    assert not is_ours(packet_in(b"", cookie=0x4F57 << 48))
