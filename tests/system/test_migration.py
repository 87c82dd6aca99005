"""A workload moves to another host under traffic: prepared, switched, activated by its own first frame, released.

The hosts' APIs are called as an orchestrator does. The machine that moves is a second namespace with the same MAC and
addresses: the one is down while the other is up, as a guest is paused on one host and goes on on the other.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import pytest

from ovsnet.lab import frames, netns, workload
from ovsnet.lab import host as hosts
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.topology import Transport, WorkloadSpec, marker, prefix
from ovsnet.model.types import Port
from tests.agent_kit import until
from tests.system.conftest import Measured, loaded, temporary_lab
from tests.system.streams import Pair, Streams

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

MODEL = """
version: 1
hosts: {{hv1: {{vtep: "{0}1"}}, hv2: {{vtep: "{0}2"}}, hv3: {{vtep: "{0}3"}}}}
vpcs:
  shop:
    networks: {{n: {{vni: 5001, subnets: [{{cidr: 10.1.0.0/24}}, {{cidr: "2001:db8:1::/64"}}]}}}}
    ports:
      move: {{network: n, host: hv1, workload: vm-17, ips: [{1}]}}
      near: {{network: n, host: hv1, ips: [{2}]}}
      there: {{network: n, host: hv2, ips: [{3}]}}
      far: {{network: n, host: hv3, ips: [{4}]}}
  club:
    networks: {{n: {{vni: 6001, subnets: [{{cidr: 10.1.0.0/24}}]}}}}
    ports: {{third: {{network: n, host: hv2, ips: [10.1.0.11], mac: "02:00:00:00:00:11"}}}}
"""
MOVE, ARRIVED = "shop/move", "shop/arrived"
SENDERS = ("shop/near", "shop/there", "shop/far")
TO: list[Pair] = [(sender, MOVE) for sender in SENDERS]


def model_text(family: int) -> str:
    """The model with IPv4 in IPv4 tunnels, or IPv6 in IPv6 ones; a stream uses a port's first address."""
    ips = [[f"10.1.0.{n}", f'"2001:db8:1::{n}"'] for n in (11, 12, 13, 14)]
    listed = [", ".join(pair if family == 4 else reversed(pair)) for pair in ips]
    return MODEL.format("10.0.0.1" if family == 4 else "fd00::1", *listed)


class Orchestra:
    """Tells every host of the VPC about the one port, revision by revision, and waits until all enforce it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        with lab.agent("hv1") as client:
            self.state = client.vpc("shop")

    @property
    def port(self) -> Port:
        return self.state.ports["move"]

    def tell(self, **placement: Any) -> None:
        changed = msgspec.structs.replace(self.port, **placement)
        body = {"previous": self.state.revision, "revision": self.state.revision + 1, "ports": {"move": changed}}
        for host in ("hv1", "hv2", "hv3"):
            with self.lab.agent(host) as client:
                assert client.patch("shop", body, wait=5)["reason"] is None
        ports = self.state.ports | {"move": changed}
        self.state = msgspec.structs.replace(self.state, revision=self.state.revision + 1, ports=ports)

    def seen(self, host: str) -> Mapping[str, Any]:
        with self.lab.agent(host) as client:
            return client.port("shop", "move")


def target_of(lab: Lab) -> WorkloadSpec:
    """The machine's other half, on hv2: built, down, and not plugged in yet."""
    source = lab.port(MOVE)
    made = msgspec.structs.replace(
        source, port="arrived", host="hv2", netns=f"{prefix(lab.name)}port.shop.arrived", tap="arrived"
    )
    workload.build(made, lab.host("hv2").netns, marker(lab.name))
    netns.link(made.netns, workload.INTERFACE, up=False)
    return made


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with temporary_lab(loaded(model_text(request.param))) as made:
        yield made


def wake(half: WorkloadSpec) -> None:
    """Bring the machine up; IPv6 addresses go when an interface goes down."""
    netns.link(half.netns, workload.INTERFACE, up=True)
    netns.configure(half.netns, workload.INTERFACE, addresses=half.addresses, gateways=half.gateways)


def with_both(lab: Lab, target: WorkloadSpec) -> Lab:
    """The lab as streams see it, with both halves of the machine."""
    both = msgspec.structs.replace(lab.topology, workloads=lab.topology.workloads | {ARRIVED: target})
    return Lab(msgspec.structs.replace(lab._record, topology=both))


class Copies(Streams):
    """Streams to a machine that is in two places."""

    def lost_in(self, pair: Pair, start: float, end: float, places: tuple[str, ...]) -> int:
        """Frames of a pair sent between two moments that arrived in none of these places."""
        sent = [number for at, number in self._sent[pair] if start <= at < end]
        return sum(not any(self._heard[number, place] for place in places) for number in sent)

    def doubled(self) -> int:
        """Copies beyond the first in one place."""
        return sum(count - 1 for count in self._heard.values())

    def anywhere_else(self) -> set[str]:
        """The places, apart from the machine's two, that got anything."""
        return {place for _, place in self._heard} - {MOVE, ARRIVED}

    def say(self, place: str, frame: bytes) -> None:
        """Send a frame that is counted nowhere."""
        self._sockets.send(place, frame)


def announcement(port: Port) -> bytes:
    """A gratuitous ARP request (RFC 5227, 3)."""
    ip = next(ip for ip in port.ips or () if "." in ip)
    return frames.resolution(port.mac or "", ip, ip)


@pytest.mark.alone
def test_a_live_migration_loses_at_most_one_packet(lab: Lab, measured: Measured) -> None:
    orchestra, target = Orchestra(lab), target_of(lab)
    source = lab.port(MOVE)
    with Copies(with_both(lab, target), [*TO, ("club/third", MOVE)]) as streams:
        time.sleep(0.3)
        orchestra.tell(moving_to="hv2")
        hosts.plug(lab.host("hv2"), [target])
        until(lambda: orchestra.seen("hv2")["enforced"])
        ready = time.monotonic()
        assert orchestra.seen("hv2")["bound"] and not orchestra.seen("hv2")["active"]
        time.sleep(0.5)
        down = time.monotonic()
        netns.link(source.netns, workload.INTERFACE, up=False)
        netns.link(target.netns, workload.INTERFACE, up=True)
        switched = time.monotonic()
        streams.say(ARRIVED, announcement(orchestra.port))
        noticed = until(lambda: orchestra.seen("hv2")["active"], 2.0)
        orchestra.tell(host="hv2", moving_to=None, epoch=orchestra.port.epoch + 1)
        activated = time.monotonic()
        lab.ovs("hv1").vsctl("del-port", INTEGRATION, source.tap)
        until(lambda: orchestra.seen("hv1")["interface"] is None)
        time.sleep(0.5)
        ended = time.monotonic()
    for pair in TO:
        asleep = streams.sent(pair, down, switched)  # neither half of the machine is up
        lost = streams.lost_in(pair, 0.0, ended, (MOVE, ARRIVED))
        measured(f"{pair[0]}: {lost} of {streams.sent(pair)} lost, {asleep} of them sent while neither half was up")
        assert streams.sent(pair) > 100
        assert lost <= 1 + asleep, "a user-space datapath may lose a packet when an interface is plugged in"
        assert streams.lost_in(pair, ready, down - 0.02, (MOVE,)) == 0
        assert streams.lost_in(pair, switched + 0.02, ended, (ARRIVED,)) == 0
    assert (streams.doubled(), streams.anywhere_else()) == (0, set())
    assert streams.delivered(("club/third", MOVE)) == 0
    measured(f"active after {noticed * 1000:.0f} ms, activated {(activated - switched) * 1000:.0f} ms after the switch")


def test_the_machine_speaks_before_it_is_activated_and_a_move_can_be_called_off(lab: Lab) -> None:
    orchestra, target = Orchestra(lab), target_of(lab)
    source, there = lab.port(MOVE), lab.port("shop/there")
    orchestra.tell(moving_to="hv2")
    hosts.plug(lab.host("hv2"), [target])
    until(lambda: orchestra.seen("hv2")["enforced"])
    netns.link(source.netns, workload.INTERFACE, up=False)
    wake(target)
    for peer in SENDERS:
        assert ping(target, lab.port(peer)) == 0, f"{peer} does not answer it before it is activated"
    until(lambda: orchestra.seen("hv2")["active"])
    netns.link(target.netns, workload.INTERFACE, up=False)
    wake(source)
    orchestra.tell(moving_to=None)
    assert (orchestra.seen("hv2")["bound"], orchestra.seen("hv2")["active"]) == (False, False)
    assert ping(source, there) == 0
    wake(target)
    assert ping(target, there) != 0, "what stays plugged after a move was called off sends"
    assert lab.test(patience=2.0).ok


def ping(source: WorkloadSpec, target: WorkloadSpec) -> int:
    """Send one echo request through the machine's own stack, a few times at most; 0 once one is answered."""
    address = target.addresses[0].split("/")[0]
    for _ in range(3):
        with netns.inside(source.netns):
            code = subprocess.run(["ping", "-c", "1", "-W", "1", address], capture_output=True, check=False)
        if code.returncode == 0:
            return 0
    return code.returncode


@pytest.mark.parametrize("transport", ["controller", pytest.param("nats", marks=pytest.mark.slow)])
def test_a_controller_activates_what_has_arrived(transport: Transport) -> None:
    with temporary_lab(loaded(model_text(4)), transport=transport) as lab, lab.controller() as controller:
        source, target = lab.port(MOVE), target_of(lab)
        assert not controller.prepare("shop", "move", "hv2", wait=10)["late"]
        hosts.plug(lab.host("hv2"), [target])
        until(lambda: _bound(lab, "hv2"))
        netns.link(source.netns, workload.INTERFACE, up=False)
        declared = controller.get("shop", "ports", "move")["declared"]
        assert (declared["host"], declared["moving_to"]) == ("hv1", "hv2"), "nothing was sent there yet"
        wake(target)
        with netns.inside(target.netns):
            subprocess.run(["ping", "-c", "3", "-i", "0.2", "-W", "1", "10.1.0.14"], check=False, capture_output=True)
        until(lambda: controller.get("shop", "ports", "move")["declared"]["host"] == "hv2")
        declared = controller.get("shop", "ports", "move")["declared"]
        assert "moving_to" not in declared and declared["epoch"] == 1
        with netns.inside(target.netns):
            subprocess.run(["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.1.0.14"], check=True, capture_output=True)


def _bound(lab: Lab, host: str) -> bool:
    with lab.agent(host) as client:
        return bool(client.port("shop", "move")["bound"])
