"""What simulated hosts hold and count: the benchmark's figures rest on it."""

from __future__ import annotations

import msgspec
import pytest

from benchmarks.dissemination.holding import GapError, Holding, Tally
from ovsnet.model import Network, Port, VpcState, port_id
from ovsnet.transport.changes import Patch
from ovsnet.transport.digest import digest_text, state_sum
from ovsnet.transport.messages import ReportMessage, VpcReport, decode
from ovsnet.transport.operations import patch_item, put_item, withdraw_item


def _port(name: str, host: str) -> Port:
    return Port(network="net", host=host, mac="02:00:00:00:00:01", ips=("10.0.0.2",), id=port_id("shop", name))


STATE = VpcState(
    name="shop",
    revision=4,
    owner="controller",
    networks={"net": Network(vni=5001)},
    ports={"a": _port("a", "h0"), "b": _port("b", "h1")},
    hosts={"h0": "10.1.0.1", "h1": "10.1.0.2"},
)
CHANGE = Patch(vpc="shop", previous=4, revision=5, ports={"b": None, "c": _port("c", "h1")})


def test_a_change_leaves_the_state_and_the_digest_of_the_whole() -> None:
    holding = Holding("h0", Tally())
    holding.take([put_item(STATE)])
    assert holding.take([patch_item(CHANGE)]) == {"shop": VpcReport(5, 5)}
    after = msgspec.structs.replace(STATE, revision=5, ports={"a": STATE.ports["a"], "c": _port("c", "h1")})
    assert holding.states["shop"][0] == after
    assert holding.heads() == {"shop": (5, digest_text(state_sum(after)))}


def test_a_gap_leaves_everything_as_it_was() -> None:
    tally = Tally()
    holding = Holding("h0", tally)
    holding.take([put_item(STATE)])
    other = msgspec.structs.replace(STATE, name="other", revision=1)
    with pytest.raises(GapError):
        holding.take([put_item(other), patch_item(Patch(vpc="shop", previous=3, revision=6))])
    assert set(holding.states) == {"shop"}
    assert tally.arrived({"other": 1}) == (0, 0.0)


def test_arrivals_are_counted_over_hosts_and_vpcs_and_the_last_one_is_kept() -> None:
    tally = Tally()
    first, second = Holding("h0", tally), Holding("h1", tally)
    first.take([put_item(STATE)])
    one, early = tally.arrived({"shop": 4})
    second.take([put_item(STATE), put_item(msgspec.structs.replace(STATE, name="other"))])
    both, late = tally.arrived({"shop": 4, "other": 4})
    assert (one, both) == (1, 3)
    assert late > early
    assert tally.arrived({"shop": 5}) == (0, 0.0)


def test_endpoints_elsewhere_and_foreign_ones_are_told_apart() -> None:
    tally = Tally()
    Holding("h0", tally).take([put_item(STATE)])
    assert (tally.endpoints, tally.foreign) == (1, 0)
    Holding("h7", tally).take([put_item(STATE)])
    assert (tally.endpoints, tally.foreign) == (3, 2)


def test_a_vpc_that_is_withdrawn_is_reported_gone() -> None:
    holding = Holding("h0", Tally())
    holding.take([put_item(STATE)])
    told = holding.take([withdraw_item("shop", 4)])
    report: ReportMessage = decode(holding.report(told, full=False), ReportMessage)
    assert (report.serial, report.vpcs) == (1, {"shop": None})
    assert holding.heads() == {}


def test_hosts_that_agree_are_counted_once() -> None:
    tally = Tally()
    holding = Holding("h0", tally)
    for agrees in (True, True, False, True):
        holding.agree(agrees)
    assert tally.agreeing == 1


def test_a_revision_that_is_told_twice_has_arrived_once() -> None:
    tally = Tally()
    holding = Holding("h0", tally)
    holding.take([put_item(STATE)])
    holding.take([put_item(STATE)])
    assert tally.arrived({"shop": 4})[0] == 1
