"""Conntrack zones on a real switch with real connection tracking: flushed, kept, released, whenever somebody dies."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from openflow_kit import start_switch, until

from ovsnet.agent.zones import ZoneKeeper
from ovsnet.openflow import SwitchDisconnected, wire
from ovsnet.openflow.process import SwitchProcess
from ovsnet.ovsdb import Ovsdb, ZoneRecord

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

FRAME = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),"
FRAME += "ipv4(src=10.1.0.3,dst=10.1.0.4,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)"


class Bench:
    """A switch with its database, and keepers that come and go as agents do."""

    def __init__(self, run_dir: Path) -> None:
        self.ovs = start_switch(run_dir)
        self.db = Ovsdb(self.ovs.db_target).start()
        self.switch = SwitchProcess(self.ovs.mgmt_target("br-int"))
        self.nobody = SwitchProcess(f"unix:{run_dir / 'nobody.mgmt'}")
        assert self.db.wait(lambda s: s.exists, 20)
        self.switch.wait_connected(20)

    def reset(self) -> None:
        """No zone is anybody's, and nothing is tracked."""
        self.ovs.vsctl("clear", "bridge", "br-int", "external_ids", "--", "--if-exists", "del-br", "br-other")
        self.ovs.ofctl("del-flows", "br-int")
        self.ovs.appctl("revalidator/purge")
        self.ovs.appctl("dpctl/flush-conntrack")
        until(lambda: self.db.state.zones == ZoneRecord())

    def close(self) -> None:
        self.switch.stop()
        self.nobody.stop()
        self.db.close()
        for pid in (self.ovs.ovsdb_pid, self.ovs.vswitchd_pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def keeper(self, *, cut_off: bool = False) -> ZoneKeeper:
        """What an agent that has just started has; ``cut_off``: it never gets as far as OpenFlow."""
        return ZoneKeeper(self.db, self.nobody if cut_off else self.switch)

    def written(self) -> dict[str, str]:
        """Our keys in OVSDB, and whoever else's."""
        text = self.ovs.vsctl("get", "bridge", "br-int", "external_ids").strip().strip("{}")
        pairs = [item.split("=", 1) for item in text.split(", ")] if text else []
        return {key.strip('"').removeprefix("ovsnet-zone-"): value.strip('"') for key, value in pairs}

    def connect(self, zone: int) -> None:
        """Have a connection tracked in a zone."""
        self.ovs.ofctl("add-flow", "br-int", f"in_port=1,udp,actions=ct(commit,zone={zone})")
        self.ovs.appctl("revalidator/purge")  # the datapath's cache may still have the flow before
        self.ovs.appctl("netdev-dummy/receive", "p1", FRAME)
        until(lambda: self.entries(zone))

    def entries(self, zone: int) -> int:
        """How many connections are tracked in a zone."""
        return len(self.ovs.appctl("dpctl/dump-conntrack", f"zone={zone}").splitlines())


@pytest.fixture(scope="module")
def switch() -> Iterator[Bench]:
    run_dir = Path(tempfile.mkdtemp(prefix="zones-", dir="/tmp"))
    one = Bench(run_dir)
    try:
        yield one
    finally:
        one.close()
        shutil.rmtree(run_dir, ignore_errors=True)


@pytest.fixture
def bench(switch: Bench) -> Bench:
    switch.reset()
    return switch


def test_a_flush_takes_the_entries_of_its_zones_alone(bench: Bench) -> None:
    for zone in (5, 6, 7, 65535):
        bench.connect(zone)
    bench.switch.flush_zones([5, 65535])
    assert [bench.entries(zone) for zone in (5, 6, 7, 65535)] == [0, 1, 1, 0]
    bench.switch.flush_zones([])
    bench.switch.flush_zones(range(6, 500))
    assert [bench.entries(zone) for zone in (6, 7)] == [0, 0]
    with pytest.raises(SwitchDisconnected):
        bench.nobody.flush_zones([1])


def test_the_switch_reads_what_we_write(bench: Bench) -> None:
    shown = bench.ovs.run("ovs-ofctl", "ofp-print", wire.flush_zone(7, 513).hex())
    assert shown.strip() == "NXT_CT_FLUSH_ZONE (OF1.4) (xid=0x7): zone_id=513"


def test_taken_kept_and_released(bench: Bench) -> None:
    bench.ovs.vsctl("set", "bridge", "br-int", "external_ids:theirs=kept", "external_ids:ovsnet=integration")
    bench.connect(1)
    bench.connect(2)
    bench.connect(3)
    keeper = bench.keeper()
    keeper.settle({"a": "red", "b": "blue"})
    assert keeper.ready == {"a": 1, "b": 2}
    assert [bench.entries(zone) for zone in (1, 2, 3)] == [0, 0, 1]
    theirs = {"theirs": "kept", "ovsnet": "integration"}
    assert bench.written() == theirs | {"a": "1,flush", "b": "2,flush", "ovsnet-last-zone": "2"}
    assert keeper.release({"a": "red", "b": "blue"}, ())
    assert (bench.written()["a"], bench.written()["b"]) == ("1", "2")

    bench.connect(1)
    bench.connect(2)
    again = bench.keeper()
    again.settle({"a": "red", "b": "blue"})
    assert again.ready == {"a": 1, "b": 2}
    assert again.release({"a": "red", "b": "blue"}, ())
    assert [bench.entries(zone) for zone in (1, 2)] == [1, 1], "who starts again flushes nothing"

    again.settle({"b": "blue"})
    assert bench.written()["a"] == "1", "its flows may still be there"
    assert again.release({"b": "blue"}, {"red"})
    assert (bench.written()["a"], bench.entries(1)) == ("1", 1), "they are: VPC red is held at its last good flows"
    assert again.release({"b": "blue"}, {"blue"})
    assert "a" not in bench.written()
    assert [bench.entries(zone) for zone in (1, 2)] == [0, 1]
    again.settle({"a": "red", "b": "blue"})
    assert again.ready == {"a": 3, "b": 2}, "the number that was released has to wait"
    assert bench.written().items() >= theirs.items()


def test_killed_between_number_and_flush(bench: Bench) -> None:
    bench.connect(1)
    dying = bench.keeper(cut_off=True)
    dying.settle({"a": "red"})
    assert (dying.ready, bench.written()["a"], bench.entries(1)) == ({}, "1,flush", 1)
    assert "no OpenFlow connection" in dying.lacking["red"]
    after = bench.keeper()
    after.settle({"a": "red"})
    assert (after.ready, bench.entries(1)) == ({"a": 1}, 0)
    assert after.release({"a": "red"}, ())
    assert bench.written()["a"] == "1"


def test_killed_between_number_and_flush_and_the_port_is_gone(bench: Bench) -> None:
    bench.connect(1)
    bench.keeper(cut_off=True).settle({"a": "red"})
    after = bench.keeper()
    after.settle({})
    assert after.release({}, ())
    assert (after.ready, bench.entries(1), bench.written()) == ({}, 0, {"ovsnet-last-zone": "1"})


def test_killed_between_flows_and_the_mark(bench: Bench) -> None:
    bench.keeper().settle({"a": "red"})
    after = bench.keeper()
    after.settle({"a": "red"})
    assert after.ready == {"a": 1}
    assert after.release({"a": "red"}, ())
    assert bench.written()["a"] == "1"


def test_killed_before_the_flush_of_a_release(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red", "b": "red"})
    assert keeper.release({"a": "red", "b": "red"}, ())
    bench.connect(1)
    bench.connect(2)
    dying = bench.keeper(cut_off=True)
    dying.settle({"b": "red"})
    assert not dying.release({"b": "red"}, ())
    assert (bench.written()["a"], bench.entries(1)) == ("1", 1)
    after = bench.keeper()
    after.settle({"b": "red"})
    assert after.release({"b": "red"}, {"blue"})
    assert "a" in bench.written(), "whose it was is not known any more, so it may be that VPC's"
    assert after.release({"b": "red"}, ())
    assert "a" not in bench.written()
    assert [bench.entries(zone) for zone in (1, 2)] == [0, 1]


def test_killed_between_the_flush_of_a_release_and_the_key(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red"})
    assert keeper.release({"a": "red"}, ())
    keeper.settle({})
    bench.switch.flush_zones([1])
    after = bench.keeper()
    after.settle({})
    assert after.release({}, ())
    assert "a" not in bench.written()


def test_a_port_that_was_away_starts_clean(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red"})
    assert keeper.release({"a": "red"}, ())
    bench.connect(1)
    keeper.settle({})
    keeper.settle({"a": "red"})
    assert (keeper.ready, bench.entries(1)) == ({"a": 1}, 0)
    assert keeper.release({"a": "red"}, ())
    bench.connect(1)
    keeper.settle({"a": "blue"})
    assert keeper.ready == {"a": 2}, "a port that went to another VPC leaves all it had"
    assert keeper.release({"a": "blue"}, ())
    assert (bench.entries(1), bench.written()) == (0, {"a": "2", "ovsnet-last-zone": "2"})


def test_what_makes_no_sense_is_put_right(bench: Bench) -> None:
    wrong = {"a": "5", "b": "5", "c": "x", "d": "0", "e": "70000", "f": "6"}
    ids = [f"external_ids:ovsnet-zone-{key}={value}" for key, value in wrong.items()]
    bench.ovs.vsctl("set", "bridge", "br-int", *ids, "external_ids:ovsnet-last-zone=65534")
    other = ["external_ids:ct-zone-lp1=1", "external_ids:ovsnet-zone-z=2,flush"]
    bench.ovs.vsctl("add-br", "br-other", "--", "set", "bridge", "br-other", *other)
    until(lambda: bench.db.state.zones.elsewhere == {1, 2})
    until(lambda: bench.db.state.zones.last == 65534)
    wanted = dict.fromkeys("abcdf", "red")
    keeper = bench.keeper()
    keeper.settle(wanted)
    assert keeper.ready == {"a": 5, "b": 65535, "c": 3, "d": 4, "f": 6}, "round, past what other bridges have"
    assert keeper.release(wanted, ())
    expected = {**{k: str(v) for k, v in keeper.ready.items()}, "ovsnet-last-zone": "4"}
    assert bench.written() == expected

    bench.ovs.vsctl("remove", "bridge", "br-int", "external_ids", "ovsnet-zone-a")
    bench.ovs.vsctl("set", "bridge", "br-int", "external_ids:ovsnet-zone-b=9")
    until(lambda: "a" not in bench.db.state.zones.zones and bench.db.state.zones.zones["b"].number == 9)
    keeper.settle(wanted)
    assert bench.written() == expected, "what flows use is what counts"


def test_what_is_not_in_force_yet_is_not_released(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red"})
    keeper.settle({"a": "red", "b": "red"})
    assert keeper.release({"a": "red"}, ()), "the flows in force are those of before b came"
    assert bench.written() == {"a": "1", "b": "2,flush", "ovsnet-last-zone": "2"}


def test_what_others_write_meanwhile_is_noticed(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red"})
    bench.ovs.vsctl("set", "bridge", "br-int", "external_ids:ovsnet-zone-b=7")
    until(lambda: "b" in bench.db.state.zones.zones)
    assert keeper.release({"a": "red"}, ())
    assert keeper.astray
    keeper.settle({"a": "red"})
    assert not keeper.astray
    assert bench.written() == {"a": "1", "ovsnet-last-zone": "1"}


def test_a_database_that_is_away(bench: Bench) -> None:
    keeper = bench.keeper()
    keeper.settle({"a": "red"})
    assert keeper.release({"a": "red"}, ())
    pid = bench.ovs.ovsdb_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not bench.db.connected)
    keeper.settle({"a": "red", "b": "blue"})
    assert keeper.ready == {"a": 1}, "what is there goes on"
    assert "not connected" in keeper.lacking["blue"]
    bench.ovs.start_ovsdb()
    until(lambda: bench.db.connected)
    bench.switch.wait_connected(20)
    keeper.settle({"a": "red", "b": "blue"})
    assert (keeper.ready, keeper.lacking) == ({"a": 1, "b": 2}, {})


def test_nothing_is_given_before_the_database_has_been_read(bench: Bench) -> None:
    unread = Ovsdb(bench.ovs.db_target)
    keeper = ZoneKeeper(unread, bench.switch)
    keeper.settle({"a": "red"})
    assert (keeper.ready, keeper.lacking) == ({}, {"red": "the switch's database has not been read yet"})
    unread.close()
