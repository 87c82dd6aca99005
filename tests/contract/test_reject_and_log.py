"""Copies of packets to the switch's process, with a real ovs-vswitchd and flows made by hand."""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openflow_kit import DESC, OFP, PARSER, payload, until, wire_of
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Ether

from ovsnet.agent.packetlog import PacketLog
from ovsnet.http.events import EventLog
from ovsnet.openflow import SwitchError
from ovsnet.openflow.app import start_app
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.meters import METERS, Meter, dropped, keep_meters
from ovsnet.openflow.notices import Notice
from ovsnet.openflow.osken import ToController
from ovsnet.openflow.process import SwitchProcess
from ovsnet.openflow.responder import LOG_BURST, LOG_RATE
from ovsnet.pipeline import fields
from ovsnet.pipeline.template import COOKIE_OWNER
from ovsnet.pipeline.verdicts import ALLOW, CONTROLLER_ID, DROP, LOG_LENGTH, LOG_METER, LOGGED, REJECT, REJECT_METER
from ovsnet.responders.reject import SNAP
from tests.property.harness import TUNNEL, VTEPS, DummySwitch, read_vxlan, write_vxlan

VNI, POLICY, RULE, WAY = 5001, 0x00C0FFEE, 0x0000BEEF, 0x81
A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
A4, B4, A6, B6 = "192.168.1.11", "192.168.1.12", "2001:db8::11", "2001:db8::12"
V4, V6 = Ether(src=A, dst=B) / IP(src=A4, dst=B4), Ether(src=A, dst=B) / IPv6(src=A6, dst=B6)
HERE, THERE = VTEPS["hv1"][0], VTEPS["hv2"][0]
REJECTED, LOGGED_REJECTED, LOGGED_ALLOWED, ALLOWED, LOGGED_DROPPED = 80, 81, 82, 83, 84
"""What befalls a packet, by its destination port; without one it is rejected and logged."""


def load(field: fields.RegisterField, value: int) -> str:
    return f"load:{value:#x}->NXM_NX_REG{field.register}[{field.low}..{field.low + field.bits - 1}]"


def copy(meter: int, length: int) -> str:
    return f"controller(max_len={length},id={CONTROLLER_ID},meter_id={meter})"


def judged(verdict: int) -> str:
    values = {fields.POLICY: POLICY, fields.RULE: RULE, fields.WAY: WAY, fields.VERDICT: verdict}
    return ",".join(load(field, value) for field, value in values.items())


def tables(switch: DummySwitch) -> str:
    """What comes from w0 is judged by its port; what comes from the tunnel is for w1, and rejected there."""
    tunnel, w0, w1 = (switch.ofports[name] for name in (TUNNEL, "w0", "w1"))
    rejecting, logging = copy(REJECT_METER, SNAP), copy(LOG_METER, LOG_LENGTH)
    arrived = ",".join(load(f, v) for f, v in ((fields.NET, VNI), (fields.SIDE, 1), (fields.OUT, w1)))
    ends = {
        REJECTED: f"{judged(REJECT)},{rejecting}",
        LOGGED_REJECTED: f"{judged(REJECT | LOGGED)},{rejecting}",
        LOGGED_ALLOWED: f"{judged(ALLOW | LOGGED)},{logging},output:{w1}",
        ALLOWED: f"output:{w1}",
        LOGGED_DROPPED: f"{judged(DROP | LOGGED)},{logging}",
    }
    flows = [
        f"table=0,priority=9,in_port={w0},actions={load(fields.NET, VNI)},resubmit(,36)",
        f"table=0,priority=9,in_port={tunnel},tun_id={VNI},actions={arrived},resubmit(,56)",
        f"table=36,priority=1,actions={ends[LOGGED_REJECTED]}",
        f"table=56,priority=1,actions={ends[LOGGED_REJECTED]}",
        "table=37,priority=1,actions=resubmit(,40)",
        f"table=40,priority=9,reg0={VNI}/0xffffff,dl_dst={A},"
        f"actions=set_field:{VNI}->tun_id,set_field:{THERE}->tun_dst,output:{tunnel}",
        *(f"table=36,priority=9,{kind},tp_dst={p},actions={do}" for p, do in ends.items() for kind in KINDS),
    ]
    return "".join(f"cookie={COOKIE_OWNER:#x},{flow}\n" for flow in flows)


KINDS = ("tcp", "udp", "tcp6", "udp6")


@pytest.fixture(scope="module")
def switch() -> Iterator[DummySwitch]:
    run_dir = Path(tempfile.mkdtemp(prefix="of-rej-", dir="/tmp"))
    switch = DummySwitch(run_dir, "hv1").prepare()
    yield switch
    switch.stop()
    shutil.rmtree(run_dir)


class Told(list[Notice]):
    """What was told, and what was counted, since the start of a test."""

    def __init__(self, port: SwitchProcess) -> None:
        super().__init__()
        self._port, self._before = port, dict[str, int]()

    def again(self) -> None:
        self.clear()
        self._before = self._port.counters()

    def counted(self, *what: str) -> int:
        now = self._port.counters()
        return sum(now.get(one, 0) - self._before.get(one, 0) for one in what)


@pytest.fixture(scope="module")
def process(switch: DummySwitch) -> Iterator[tuple[SwitchProcess, Told]]:
    port = SwitchProcess(switch.mgmt_target("br-int"))
    told = Told(port)
    port.on_notice(told.append)
    port.wait_connected(20)
    yield port, told
    port.stop()


@pytest.fixture
def port(switch: DummySwitch, process: tuple[SwitchProcess, Told]) -> SwitchProcess:
    switch.ofctl("del-flows", "br-int")
    switch.ofctl("del-meter", "br-int", "meter=all")
    return process[0]


@pytest.fixture
def notices(switch: DummySwitch, port: SwitchProcess, process: tuple[SwitchProcess, Told]) -> Told:
    """What is told, with meters and flows in place."""
    assert keep_meters(port)
    install(switch)
    for pcap in (*switch.pcaps.values(), switch.uplink):
        pcap.new()
    time.sleep(3 / LOG_RATE)  # a test before may have used up what the process lets through
    process[1].again()
    return process[1]


def install(switch: DummySwitch) -> None:
    switch.ofctl("add-flows", "br-int", "-", stdin=tables(switch).encode())
    switch.forget()


def send(switch: DummySwitch, *frames: Any) -> None:
    for frame in frames:
        switch.receive("w0", bytes(frame))
    switch.settle()


def came(switch: DummySwitch, nic: str, patience: float = 2.0) -> list[Any]:
    """The frames that a workload was sent, as soon as there are any."""
    end, frames = time.monotonic() + patience, switch.pcaps[nic].new()
    while not frames and time.monotonic() < end:
        time.sleep(0.005)
        frames = switch.pcaps[nic].new()
    return [Ether(frame) for frame in frames]


# ---- the wire --------------------------------------------------------------------------------------------------------


def test_the_action_is_what_ofctl_makes(switch: DummySwitch, port: SwitchProcess) -> None:
    switch.ofctl("add-flow", "br-int", f"cookie=5,table=3,ip,actions={copy(REJECT_METER, SNAP)}")
    (theirs,) = parse_flow_stats(port.dump_flows(table=3))
    ours = wire_of(
        PARSER.OFPFlowMod(
            DESC, cookie=5, table_id=4, out_port=OFP.OFPP_ANY, out_group=OFP.OFPG_ANY, match=PARSER.OFPMatch(),
            instructions=[PARSER.OFPInstructionActions(4, [ToController(SNAP, CONTROLLER_ID, REJECT_METER)])],
        )
    )  # fmt: skip
    assert ours.endswith(theirs.instructions)
    assert port.apply_bundle(payload([ours]), 1).committed
    (echoed,) = parse_flow_stats(port.dump_flows(table=4))
    assert echoed.instructions == theirs.instructions


def test_our_meters_are_kept_and_nobody_elses(switch: DummySwitch, port: SwitchProcess) -> None:
    def meters() -> set[tuple[int, int, int]]:
        text = switch.ofctl("dump-meters", "br-int").replace("\n", " ")
        found = re.findall(r"meter=(\d+) pktps burst (?:stats )?bands= type=drop rate=(\d+) burst_size=(\d+)", text)
        return {(int(a), int(b), int(c)) for a, b, c in found}

    wanted = {(m.id, m.rate, m.burst) for m in METERS}
    assert keep_meters(port)
    assert meters() == wanted
    assert not keep_meters(port)
    switch.ofctl("mod-meter", "br-int", f"meter={LOG_METER},pktps,burst,bands=type=drop,rate=1,burst_size=1")
    switch.ofctl("add-meter", "br-int", "meter=1016,kbps,bands=type=drop,rate=1")
    switch.ofctl("add-meter", "br-int", "meter=7,pktps,burst,bands=type=drop,rate=1,burst_size=1")
    assert not keep_meters(port)
    assert meters() == wanted | {(7, 1, 1)}
    switch.ofctl("mod-meter", "br-int", f"meter={LOG_METER},kbps,bands=type=drop,rate=100")
    switch.ofctl("del-meter", "br-int", f"meter={REJECT_METER}")
    assert keep_meters(port)
    assert meters() == wanted | {(7, 1, 1)}


def test_a_meter_that_the_switch_refuses_is_an_error(port: SwitchProcess) -> None:
    with pytest.raises(SwitchError, match="a message of type 29 was refused, type 12, code 6"):
        keep_meters(port, [Meter(1001, 0, 0)])
    assert keep_meters(port), "the connection goes on"


# ---- registers -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frame", "verdict", "protocol", "ports"),
    [
        (V4 / TCP(sport=4000, dport=LOGGED_REJECTED), REJECT, 6, (4000, LOGGED_REJECTED)),
        (V6 / UDP(sport=4000, dport=LOGGED_ALLOWED) / bytes(900), ALLOW, 17, (4000, LOGGED_ALLOWED)),
        (V4 / UDP(sport=4000, dport=LOGGED_DROPPED), DROP, 17, (4000, LOGGED_DROPPED)),
        (V6 / ICMPv6EchoRequest(), REJECT, 58, (128, 0)),
        (V4 / ICMP(type=8), REJECT, 1, (8, 0)),
    ],
    ids=["tcp", "udp6", "udp", "icmp6", "icmp"],
)
def test_what_is_logged_comes_with_its_registers(
    switch: DummySwitch, notices: Told, frame: Any, verdict: int, protocol: int, ports: tuple[int, int]
) -> None:
    send(switch, frame)
    until(lambda: notices)
    source, destination = (A4, B4) if IP in frame else (A6, B6)
    ofport = switch.ofports["w0"]
    assert notices == [
        Notice(VNI, POLICY, RULE, verdict, WAY, ofport, True, source, destination, protocol, ports)
    ]  # fmt: skip


def test_at_the_receivers_end_the_port_is_the_receivers(switch: DummySwitch, notices: Told) -> None:
    from_tunnel(switch, bytes(V4 / TCP(sport=4000, dport=443)))
    until(lambda: notices)
    assert (notices[0].ofport, notices[0].sent, notices[0].net) == (switch.ofports["w1"], False, VNI)


# ---- answers ---------------------------------------------------------------------------------------------------------


def from_tunnel(switch: DummySwitch, inner: bytes) -> None:
    switch.receive("p0", write_vxlan(THERE, HERE, VNI, inner))
    switch.settle()


def test_a_rejected_packet_is_answered_to_its_sender(switch: DummySwitch, notices: Told) -> None:
    send(switch, V4 / TCP(sport=4000, dport=REJECTED, seq=9, flags="S"))
    (reset,) = came(switch, "w0")
    assert (reset.src, reset.dst, reset[IP].src, reset[IP].dst) == (B, A, B4, A4)
    assert (reset[TCP].flags, reset[TCP].sport, reset[TCP].ack) == ("RA", REJECTED, 10)
    send(switch, V6 / UDP(sport=4000, dport=REJECTED) / bytes(5000))
    (error,) = came(switch, "w0")
    assert (error[ICMPv6DestUnreach].code, len(error)) == (1, 14 + 1280)
    send(switch, V4 / ICMP(type=8))
    (error,) = came(switch, "w0")
    assert (error[ICMP].type, error[ICMP].code) == (3, 13)
    assert not came(switch, "w1", 0)
    assert not switch.uplink.new()


def test_an_answer_to_another_host_goes_through_the_tunnel(
    switch: DummySwitch, notices: Told, port: SwitchProcess
) -> None:
    from_tunnel(switch, bytes(V4 / TCP(sport=4000, dport=443, seq=9, flags="S")))
    until(lambda: notices.counted("rejected"))
    port.barrier()
    (packet,) = switch.uplink.new()
    source, destination, vni, inner = read_vxlan(packet)
    assert (source, destination, vni) == (HERE, THERE, VNI)
    reset = Ether(inner)
    assert (reset.src, reset.dst, reset[TCP].flags, reset[TCP].ack) == (B, A, "RA", 10)


@pytest.mark.parametrize("frame", [V4 / TCP(flags="S"), V4 / UDP(), V4 / ICMP(type=8)], ids=["tcp", "udp", "icmp"])
def test_two_ends_that_reject_each_other_fall_silent(
    switch: DummySwitch, notices: Told, port: SwitchProcess, frame: Any
) -> None:
    """Whatever comes out of the tunnel is rejected; what goes into it comes back as the other end's."""
    from_tunnel(switch, bytes(frame))
    crossed = []
    for seen in range(1, 6):
        until(lambda seen=seen: len(notices) == seen)
        port.barrier()  # the answer, if there is one, was sent before the notice was told
        wire = switch.uplink.new()
        crossed += wire
        if not wire:
            break
        (packet,) = wire
        from_tunnel(switch, read_vxlan(packet)[3])
    assert len(crossed) == 1, "one answer"
    assert len(notices) == 2, "which was rejected itself"
    assert notices.counted("rejected") == 1


def test_without_the_process_a_rejected_packet_is_a_dropped_one(
    switch: DummySwitch, notices: Told, port: SwitchProcess
) -> None:
    pid, generation = port.pid, port.generation
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: not port.connected)
    send(switch, V4 / TCP(dport=REJECTED, sport=1, flags="S"))
    until(lambda: port.generation > generation, 20)
    port.barrier()
    send(switch, V4 / TCP(dport=REJECTED, sport=2, flags="S"), V4 / UDP(dport=LOGGED_DROPPED))
    (reset,) = came(switch, "w0")
    assert reset[TCP].dport == 2, "the one that was sent meanwhile has no answer"
    until(lambda: len(notices) == 1)


def test_copies_come_to_who_asked_for_them_alone(switch: DummySwitch, notices: Told) -> None:
    """Another connection, such as that of a command, neither answers a second time nor is it told."""
    other = start_app(switch.mgmt_target("br-int"))
    other.wait_connected(5)
    try:
        send(switch, *[V4 / TCP(dport=REJECTED, flags="S")] * 3)
        time.sleep(0.1)
        assert len(came(switch, "w0")) == 3
        assert "rejected" not in other.counters()
    finally:
        other.stop()


# ---- rates -----------------------------------------------------------------------------------------------------------

MANY = 300


def test_allowed_traffic_passes_whatever_its_meter_says(
    switch: DummySwitch, notices: Told, port: SwitchProcess
) -> None:
    keep_meters(port, [Meter(LOG_METER, 20, 30), METERS[0]])
    start = time.monotonic()
    send(switch, *[V4 / UDP(dport=LOGGED_ALLOWED) / bytes([n % 256]) for n in range(MANY)])
    took = time.monotonic() - start
    assert len(came(switch, "w1")) == MANY
    kept = dropped(port)[0]
    assert MANY - 30 - 20 * took - 2 <= kept <= MANY - 30
    until(lambda: notices.counted("logged", "suppressed") == MANY - kept)
    assert LOG_BURST <= notices.counted("logged") < MANY - kept, "the process has a limit of its own"
    assert len(notices) == notices.counted("logged")
    datapath = switch.appctl("dpctl/dump-flows")
    assert "meter(" in datapath
    assert "slow_path" not in datapath


def test_a_flow_takes_hold_of_its_meter_when_it_is_added(
    switch: DummySwitch, notices: Told, port: SwitchProcess
) -> None:
    """Why meters come before flows, and flows again after a meter that was missing."""
    few = [V4 / UDP(dport=LOGGED_ALLOWED)] * 60
    wanted = [Meter(LOG_METER, 1, 5), METERS[0]]
    switch.ofctl("del-flows", "br-int")
    switch.ofctl("del-meter", "br-int", "meter=all")
    install(switch)
    keep_meters(port, wanted)
    send(switch, *few)
    until(lambda: notices.counted("logged", "suppressed") == len(few))
    assert dropped(port)[0] == 0
    install(switch)
    send(switch, *few)
    assert dropped(port)[0] >= len(few) - 5 - 5


def test_a_packet_log_names_rule_and_port(switch: DummySwitch, notices: Told, port: SwitchProcess) -> None:
    events = EventLog()
    serial = events.last
    log = PacketLog(port, events, {RULE: "vpcs.shop.security_groups.web.rules[0]"}.get, lambda ofport: f"shop/{ofport}")
    start = log.counts()
    send(switch, V4 / UDP(sport=4000, dport=LOGGED_DROPPED), V4 / TCP(sport=4000, dport=REJECTED, flags="S"))
    until(lambda: len(notices) == 1 and notices.counted("rejected") == 1)
    log.take(notices[0])
    log.stop()
    (event,) = events.since(serial)
    assert event.kind == "log"
    assert event.data == {
        "rule": "vpcs.shop.security_groups.web.rules[0]",
        "port": f"shop/{switch.ofports['w0']}",
        "direction": "ingress",
        "verdict": "drop",
        "sent": True,
        "address": A4,
        "peer": B4,
        "protocol": "udp",
        "ports": [4000, LOGGED_DROPPED],
    }
    after = log.counts()
    counted = {what: after[what] - start[what] for what in after}
    assert {what: count for what, count in counted.items() if count} == {"logged": 1, "rejected": 1}


def test_answers_keep_to_their_rate(switch: DummySwitch, notices: Told, port: SwitchProcess) -> None:
    keep_meters(port, [Meter(REJECT_METER, 10, 50)])
    start = time.monotonic()
    send(switch, *[V4 / TCP(dport=REJECTED, seq=n, flags="S") for n in range(MANY)])
    took = time.monotonic() - start
    until(lambda: notices.counted("rejected", "suppressed") == MANY - dropped(port)[0])
    answers = len(came(switch, "w0"))
    assert 30 <= answers <= 50 + 10 * took + 2
