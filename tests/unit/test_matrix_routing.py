"""The matrix through routers: what it sends, asks and holds against a switch, without one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from ovsnet.lab import frames
from ovsnet.lab.matrix import Observation, Result, judge
from ovsnet.lab.probes import Probe, pairs, probes, requests
from ovsnet.lab.topology import topology
from tests.property import packets as p
from tests.unit.test_expectation_routing import DB2, GATEWAY, model

TOKENS = frames.Tokens(b"8 octets")
TO_DB2 = "shop/web1 to shop/db2"


def observed(change: Callable[[Probe, bytes], bytes | None] = lambda probe, frame: frame) -> Result:
    """A run in which everything went as it must, but for what ``change`` makes of received frames (``None``: lost)."""
    cloud = model()
    matrix = pairs(cloud)
    seen = Observation(cloud, topology(cloud, "unit", "netdev"), TOKENS)
    sent, asked = list(probes(cloud, matrix, TOKENS, True)), list(requests(cloud, matrix))
    for probe in sent:
        got = None if probe.receiver is None else change(probe, probe.routed or probe.frame)
        if got is not None:
            seen.note(str(probe.receiver), got)
        seen.wires[probe.number] = Counter(probe.wires)
        if probe.told:
            seen.note(probe.sender, error(probe, *probe.told[0]))
    for request in asked:
        if request.answer is not None:
            seen.answers.setdefault((request.pair.src, request.asked), set()).add(request.answer)
    return judge(sent, asked, seen)


def error(probe: Probe, kind: int, code: int) -> bytes:
    """An ICMP error that quotes a probe, to its sender."""
    quoted = probe.frame[14:]
    ends = ("2001:db8:1::1", "2001:db8:1::11") if quoted[0] >> 4 == 6 else ("192.168.1.1", "192.168.1.11")
    body = p.icmp(kind, code, bytes(4), quoted)
    ethertype, packet = p.ip(*ends, body, p.ICMPV6 if quoted[0] >> 4 == 6 else p.ICMP)
    return p.ethernet(probe.frame[6:12].hex(":"), GATEWAY, ethertype, packet)


def faults(result: Result) -> list[str]:
    return [fault for entry in result.wrong for fault in entry.faults] + result.stray


def test_what_goes_through_a_router_is_as_declared() -> None:
    result = observed()
    assert result.ok, faults(result)
    ways = {(e.pair.src, e.pair.dst, e.pair.family): (e.pair.reason, e.pair.owner) for e in result.entries}
    assert ways["shop/web1", "shop/db2", 4] == ("routed", "shop/db2")
    assert ways["shop/web1", "shop/gone", 4] == ("unplaced", None)
    assert ways["shop/web1", "shop/isle", 4] == ("other-network", None)


def test_probes_and_questions_go_to_the_gateways() -> None:
    cloud = model()
    matrix = pairs(cloud)
    sent = {probe.what: probe for probe in probes(cloud, matrix, TOKENS, True)}
    assert sent[TO_DB2].frame[:6].hex(":") == GATEWAY
    assert sent[TO_DB2].routed is not None and sent[TO_DB2].routed[:6].hex(":") == DB2
    apart = sent["shop/web1 through its gateway to shop/isle"]
    assert (apart.receiver, apart.wires, apart.told) == (None, (), ((3, 0),))
    asked = {(one.pair.src, one.asked): one.answer for one in requests(cloud, matrix) if one.pair.routed}
    assert asked["shop/web1", "192.168.1.1"] == GATEWAY
    assert asked["shop/web1", "192.168.2.12"] is None


@pytest.mark.parametrize(
    ("what", "wrong"),
    [
        ("instead of", lambda frame, probe: frame[:22] + b"\x40" + frame[23:]),
        ("received by nobody", lambda frame, probe: None),
        ("was told ICMP 3/1", lambda frame, probe: error(probe, 3, 1)),
    ],
)
def test_a_wrong_router_is_seen(what: str, wrong: Callable[[bytes, Probe], bytes | None]) -> None:
    result = observed(lambda probe, frame: wrong(frame, probe) if probe.what == TO_DB2 else frame)
    assert not result.ok
    assert any(what in fault for fault in faults(result)), faults(result)
