"""The OpenFlow app against a real ovs-vswitchd (dummy datapath): bundles, dumps, and other os-ken apps beside it."""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from openflow_kit import COOKIE, OFP, PARSER, flow, flows, payload, start_switch, until, wire_of
from os_ken.base.app_manager import SERVICE_BRICKS, OSKenApp
from os_ken.controller import dpset, ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from ovsnet.lab.ovs import OvsInstance
from ovsnet.openflow import SwitchDisconnected, SwitchError, SwitchTimeout
from ovsnet.openflow.app import OvsnetApp, start_app
from ovsnet.openflow.dump import FlowEntry, parse_flow_stats
from ovsnet.openflow.events import EventEnforced, EventSwitchConnected, EventSwitchDisconnected


@pytest.fixture(scope="module")
def switch() -> Iterator[OvsInstance]:
    run_dir = Path(tempfile.mkdtemp(prefix="of-app-", dir="/tmp"))
    ovs = start_switch(run_dir)
    yield ovs
    ovs.stop()
    shutil.rmtree(run_dir)


@pytest.fixture
def app(switch: OvsInstance) -> Iterator[OvsnetApp]:
    switch.ofctl("del-flows", "br-int")
    app = start_app(switch.mgmt_target("br-int"))
    app.wait_connected(5)
    yield app
    app.stop()


def dumped(app: OvsnetApp, **options: int) -> list[FlowEntry]:
    return list(parse_flow_stats(app.dump_flows(**options)))


def test_handshake(app: OvsnetApp, switch: OvsInstance) -> None:
    assert app.connected
    assert app.generation == 1
    assert app.datapath is not None
    shown = switch.ofctl("show", "br-int")
    assert f"dpid:{app.datapath.id:016x}" in shown
    app.barrier(1)


def test_a_bundle_is_committed_as_a_whole(app: OvsnetApp) -> None:
    result = app.apply_bundle(payload(flows(50)), 50)
    assert result.committed
    assert not result.refusals
    assert len(dumped(app)) == 50


def test_a_bundle_is_ordered(app: OvsnetApp) -> None:
    last = wire_of(flow(7, port=1))
    messages = [wire_of(flow(7)), wire_of(flow(7, command=OFP.OFPFC_DELETE)), last]
    assert app.apply_bundle(payload(messages), 3).committed
    (entry,) = dumped(app)
    assert entry.instructions == last[-24:]


UNKNOWN_ACTION = flows(1)[0][:-16] + b"\x00\x63" + flows(1)[0][-14:]
NO_PREREQUISITE = wire_of(PARSER.OFPFlowMod(flow().datapath, match=PARSER.OFPMatch(ipv4_dst=1), instructions=[]))


@pytest.mark.parametrize(
    ("bad", "kind", "code"),
    [
        (wire_of(flow(port=0xFFFFFE00)), OFP.OFPET_BAD_ACTION, OFP.OFPBAC_BAD_OUT_PORT),
        (UNKNOWN_ACTION, OFP.OFPET_BAD_ACTION, OFP.OFPBAC_BAD_TYPE),
        (NO_PREREQUISITE, OFP.OFPET_BAD_MATCH, OFP.OFPBMC_BAD_PREREQ),
    ],
)
def test_a_refused_message_is_named_and_nothing_is_committed(app: OvsnetApp, bad: bytes, kind: int, code: int) -> None:
    messages = flows(20)
    messages[4] = messages[13] = bad
    result = app.apply_bundle(payload(messages), 20)
    assert not result.committed
    assert [(r.index, r.type, r.code) for r in result.refusals] == [(4, kind, code), (13, kind, code)]
    assert dumped(app) == []
    assert app.apply_bundle(payload(flows(5)), 5).committed
    assert len(dumped(app)) == 5


def test_a_full_table_is_found_at_the_commit(app: OvsnetApp, switch: OvsInstance) -> None:
    switch.vsctl(
        *("--", "--id=@t", "create", "Flow_Table", "flow_limit=5", "--", "set", "bridge", "br-int", "flow_tables:3=@t")
    )
    messages = flows(4) + flows(9, table=3)
    result = app.apply_bundle(payload(messages), 13)
    assert not result.committed
    assert [(r.index, r.type, r.code) for r in result.refusals] == [
        (9, OFP.OFPET_FLOW_MOD_FAILED, OFP.OFPFMFC_TABLE_FULL)
    ]
    assert dumped(app) == []


def test_an_empty_bundle_is_committed(app: OvsnetApp) -> None:
    assert app.apply_bundle(payload([]), 0).committed


def test_ten_thousand_flows_in_one_bundle(app: OvsnetApp) -> None:
    assert app.apply_bundle(payload(flows(10_000)), 10_000).committed
    assert len(dumped(app)) == 10_000


def test_a_dump_equals_ofctls(app: OvsnetApp, switch: OvsInstance) -> None:
    messages = flows(300) + flows(20, table=7, port=1, cookie=COOKIE + 5, priority=9)
    assert app.apply_bundle(payload(messages), len(messages)).committed
    switch.appctl("netdev-dummy/receive", "p1", "in_port(1),eth(src=2:0:0:0:0:1,dst=2:0:0:0:0:2),eth_type(0x0800),ipv4(src=1.2.3.4,dst=10.0.0.9,proto=17,tos=0,ttl=9,frag=no),udp(src=1,dst=2)")  # fmt: skip  # noqa: E501
    pattern = (
        r"cookie=0x([0-9a-f]+),.*table=(\d+), n_packets=(\d+), n_bytes=(\d+), "
        r"priority=(\d+),ip,nw_dst=10\.0\.(\d+)\.(\d+) "
    )

    def told() -> list[tuple[int, ...]]:
        found = re.findall(pattern, switch.ofctl("dump-flows", "br-int"))
        return sorted((int(c, 16), *map(int, rest[:-2]), int(rest[-2]) << 8 | int(rest[-1])) for c, *rest in found)

    until(lambda: any(row[2] for row in told()))
    ours = sorted(
        (e.cookie, e.table, e.packets, e.bytes, e.priority, e.match[-2] << 8 | e.match[-1]) for e in dumped(app)
    )
    assert ours == told()
    assert len(ours) == 320


def test_a_dump_may_be_narrowed(app: OvsnetApp) -> None:
    messages = flows(30) + flows(20, table=7, cookie=COOKIE + 5)
    assert app.apply_bundle(payload(messages), 50).committed
    assert len(dumped(app, cookie=COOKIE + 5, cookie_mask=0xFFFF_FFFF_FFFF_FFFF)) == 20
    assert len(dumped(app, cookie=COOKIE, cookie_mask=0xFFFF_0000_0000_0000)) == 50
    assert len(dumped(app, table=0)) == 30


def test_a_flood_of_errors_wedges_nothing(app: OvsnetApp) -> None:
    bad = [UNKNOWN_ACTION] * 10_000
    result = app.apply_bundle(payload(bad), len(bad))
    assert [r.index for r in result.refusals] == list(range(10_000))
    app.barrier(2)
    assert app.apply_bundle(payload(flows(3)), 3).committed


def test_bundles_from_several_threads_do_not_mix(app: OvsnetApp) -> None:
    outcomes = []

    def work(table: int) -> None:
        for round_ in range(5):
            messages = flows(100, table=table)
            if round_ == 2:
                messages[table] = UNKNOWN_ACTION
            result = app.apply_bundle(payload(messages), 100)
            outcomes.append((table, round_, [r.index for r in result.refusals]))

    threads = [threading.Thread(target=work, args=(table,)) for table in range(10, 14)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(outcomes) == [(t, r, [t] if r == 2 else []) for t in range(10, 14) for r in range(5)]


@pytest.fixture
def others() -> set[str]:
    """The apps that other tests' switches keep running in this process."""
    return set(SERVICE_BRICKS)


class Watcher(OSKenApp):
    """Somebody else's app."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[object] = []
        self.hold = threading.Event()
        self.hold.set()

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def packet_in(self, ev: ofp_event.EventOFPMsgBase) -> None:
        self.seen.append(("packet", ev.msg.match["in_port"], bytes(ev.msg.data)))

    @set_ev_cls(ofp_event.EventOFPErrorMsg, MAIN_DISPATCHER)
    def error(self, ev: ofp_event.EventOFPMsgBase) -> None:
        self.hold.wait(20)
        self.seen.append(("error", ev.msg.type))

    @set_ev_cls(ofp_event.EventOFPSwitchFeatures, CONFIG_DISPATCHER)
    def features(self, ev: ofp_event.EventOFPMsgBase) -> None:
        self.seen.append(("features", ev.msg.datapath_id))

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def state(self, ev: ofp_event.EventOFPStateChange) -> None:
        self.seen.append(("state", ev.state))

    @set_ev_cls(ofp_event.EventOFPPortStateChange, MAIN_DISPATCHER)
    def port(self, ev: ofp_event.EventOFPPortStateChange) -> None:
        self.seen.append(("port", sorted(p.name for p in ev.datapath.ports.values())))

    @set_ev_cls([EventSwitchConnected, EventSwitchDisconnected])
    def link(self, ev: EventSwitchConnected) -> None:
        self.seen.append((type(ev).__name__, ev.target))

    @set_ev_cls(EventEnforced)
    def revision(self, ev: EventEnforced) -> None:
        self.seen.append(("enforced", ev.revisions))


def test_another_app_sees_what_the_switch_says(switch: OvsInstance, others: set[str]) -> None:
    target = switch.mgmt_target("br-int")
    switch.ofctl("del-flows", "br-int")
    app = start_app(target, Watcher)
    try:
        app.wait_connected(5)
        watcher = SERVICE_BRICKS["Watcher"]
        punt = wire_of(flow(9, port=OFP.OFPP_CONTROLLER))
        assert app.apply_bundle(payload([punt]), 1).committed
        frame = "0200000000020200000000010800" + "45000014000000000911000001020304" + "0a000009" + "00" * 26
        app.enforced({"shop": 4})
        until(lambda: ("enforced", {"shop": 4}) in watcher.seen)
        switch.appctl("revalidator/wait")  # what the datapath has cached may still be from before
        switch.appctl("netdev-dummy/receive", "p1", frame)
        until(lambda: any(item[0] == "packet" for item in watcher.seen))
        assert ("packet", 1, bytes.fromhex(frame)) in watcher.seen
        assert app.datapath is not None
        assert [item for item in watcher.seen if item[0] in {"features", "state", "EventSwitchConnected"}] == [
            ("features", app.datapath.id),
            ("state", "main"),
            ("EventSwitchConnected", target),
        ]
        switch.vsctl("add-port", "br-int", "p3", "--", "set", "interface", "p3", "type=dummy")
        until(lambda: any(item[0] == "port" and b"p3" in item[1] for item in watcher.seen))
    finally:
        app.stop()
    assert watcher.seen[-2:] == [("state", "dead"), ("EventSwitchDisconnected", target)]
    assert set(SERVICE_BRICKS) == others


def test_errors_of_another_app_are_bounded_and_block_nothing(switch: OvsInstance) -> None:
    app = start_app(switch.mgmt_target("br-int"), Watcher)
    try:
        app.wait_connected(5)
        watcher = SERVICE_BRICKS["Watcher"]
        watcher.hold.clear()
        assert app.datapath is not None
        for _ in range(10_000):
            assert app.datapath.send(b"\x05\x22\x00\x10" + bytes(12))  # no such bundle message: an error each
        app.barrier(5)
        assert app.apply_bundle(payload(flows(3)), 3).committed
        until(lambda: app.counters().get("dropped_messages", 0) > 1000)
        watcher.hold.set()
        until(lambda: sum(item[0] == "error" for item in watcher.seen) > 500)
        assert app.generation == 1
    finally:
        watcher.hold.set()
        app.stop()


class DpsetUser(OSKenApp):
    """An app with a context that is an app itself, as many of Ryu's examples have."""

    _CONTEXTS = {"dpset": dpset.DPSet}

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.dpset = kwargs["dpset"]


def test_several_switches_share_one_instance_of_an_app(switch: OvsInstance, others: set[str]) -> None:
    before = set(threading.enumerate())
    switch.vsctl("--may-exist", "add-br", "br-two", "--", "set", "bridge", "br-two", "datapath_type=dummy")
    one = start_app(switch.mgmt_target("br-int"), DpsetUser)
    two = start_app(switch.mgmt_target("br-two"), DpsetUser)
    try:
        one.wait_connected(5)
        two.wait_connected(5)
        user = SERVICE_BRICKS["DpsetUser"]
        until(lambda: len(user.dpset.get_all()) == 2)
        one.stop()
        until(lambda: len(user.dpset.get_all()) == 1)
        two.barrier(1)
    finally:
        one.stop()
        two.stop()
    assert set(SERVICE_BRICKS) == others
    until(lambda: set(threading.enumerate()) <= before)


class OldApp(OSKenApp):
    OFP_VERSIONS = [4]


def test_an_app_for_another_openflow_is_refused(switch: OvsInstance, others: set[str]) -> None:
    with pytest.raises(SwitchError, match="OldApp declares OFP_VERSIONS"):
        start_app(switch.mgmt_target("br-int"), OldApp)
    assert set(SERVICE_BRICKS) == others


class Broken(OSKenApp):
    def __init__(self, *args: object, **kwargs: object) -> None:
        raise RuntimeError("no")


def test_an_app_that_fails_to_start_leaves_nothing(switch: OvsInstance, others: set[str]) -> None:
    before = set(threading.enumerate())
    with pytest.raises(RuntimeError, match="no"):
        start_app(switch.mgmt_target("br-int"), Watcher, Broken)
    assert set(SERVICE_BRICKS) == others
    until(lambda: set(threading.enumerate()) <= before)


def test_without_a_switch_calls_say_so(tmp_path: Path, others: set[str]) -> None:
    app = start_app(f"unix:{tmp_path}/none")
    try:
        with pytest.raises(SwitchTimeout, match="No such file"):
            app.wait_connected(0.1)
        with pytest.raises(SwitchDisconnected, match="No such file"):
            app.barrier(1)
        with pytest.raises(SwitchDisconnected):
            app.apply_bundle(payload(flows(1)), 1)
    finally:
        app.stop()
    with pytest.raises(ValueError, match="is no OpenFlow target"):
        start_app("br-int")
    assert set(SERVICE_BRICKS) == others
