"""An agent killed at any moment, also in the middle of a bundle, under traffic and with 10,000 flows: nobody notices.

The model changes while the agent is dead. What stays allowed loses no packet; what is no longer allowed is not
delivered any more once the agent, back again, says that it enforces that revision.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import msgspec
import pytest

from ovsnet.agent.client import AgentClient, AgentError, AgentUnreachable
from ovsnet.lab import host as hosts
from ovsnet.lab.lab import Lab
from ovsnet.model import Host, Model, Network, Port, Subnet, Vpc, VpcState, port_id, states_for_host
from tests.agent_kit import until
from tests.system.conftest import Measured, temporary_lab
from tests.system.streams import Streams

pytestmark = [pytest.mark.root]

VPC = "shop"
ENDPOINTS = 5000
"""Ports on hosts that the lab does not have: two flows each on every host."""
ELSEWHERE = ("hv8", "hv9")
ALLOWED = [("shop/here", "shop/there"), ("shop/there", "shop/here")]
REVOKED = [("shop/here", "shop/gone"), ("shop/there", "shop/gone")]
SEED = 20310


def port(name: str, host: str, number: int) -> Port:
    mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
    return Port(network="n", host=host, mac=mac, ips=(f"10.1.{number >> 8}.{number & 255}",), id=port_id(VPC, name))


@pytest.fixture
def lab() -> Iterator[Lab]:
    vteps = {"hv1": Host(vtep="10.0.0.11"), "hv2": Host(vtep="10.0.0.12")}
    ports = {"here": port("here", "hv1", 11), "gone": port("gone", "hv1", 12), "there": port("there", "hv2", 13)}
    network = Network(vni=5001, subnets=(Subnet(cidr="10.1.0.0/16"),))
    vpc = Vpc(tenant=VPC, networks={"n": network}, ports=ports)
    with temporary_lab(Model(name="kills", hosts=vteps, vpcs={VPC: vpc})) as made:
        yield made


class Told(NamedTuple):
    """The moments before an agent was told a state, when it said that it enforces it, and when its switch's cache
    followed: a barrier proves the tables, and ovs-vswitchd revalidates what its datapath has cached right after.
    """

    asked: float
    enforced: float
    revalidated: float


class Orchestrator:
    """Keeps the state of the VPC, tells the agents, and kills hv1's."""

    def __init__(self, lab: Lab, rng: random.Random) -> None:
        self.lab, self.rng = lab, rng
        small = states_for_host(lab.model, "hv1", 100)[VPC]
        many = {f"e{n}": port(f"e{n}", ELSEWHERE[n % 2], 256 + n) for n in range(ENDPOINTS)}
        vteps = {**small.hosts, **dict.fromkeys(ELSEWHERE, "10.0.9.9"), "hv9": "10.0.9.10"}
        self.state: VpcState = msgspec.structs.replace(small, ports={**small.ports, **many}, hosts=vteps)
        self.interrupted = 0  # kills after a change was begun and before it was in the switch

    def tell(self, host: str) -> Told:
        """Tell a host's agent the state, and wait until it enforces it."""
        with self.lab.agent(host) as client:
            until(lambda: _ready(client), timeout=30)
            asked = time.monotonic()
            answer = client.put(self.state, wait=30)
            enforced = time.monotonic()
        assert answer["vpcs"][VPC]["enforced"] == self.state.revision, answer
        self.lab.ovs(host).appctl("revalidator/wait")
        return Told(asked, enforced, time.monotonic())

    def change(self, *, present: bool | None = None) -> dict[str, object]:
        """Make the next revision: the VTEPs of the hosts elsewhere change, and ``gone`` comes or goes if so asked."""
        number = self.state.revision + 1
        vteps = {"hv8": f"10.{number % 250}.8.8", "hv9": f"10.{number % 250}.9.9"}
        ports = dict(self.state.ports)
        if present is not None:
            ports.pop("gone", None)
        if present:
            ports["gone"] = port("gone", "hv1", 12)
        elif present is False and self.rng.random() < 0.5:
            ports["gone"] = port("gone", "hv9", 12)  # moved away, though its interface is still here
        self.state = msgspec.structs.replace(
            self.state, revision=number, hosts={**self.state.hosts, **vteps}, ports=ports
        )
        return {"previous": number - 1, "revision": number, "hosts": vteps}

    def time_change(self) -> float:
        """Seconds that a change of 5,000 flows takes."""
        start = time.monotonic()
        with self.lab.agent("hv1") as client:
            client.patch(VPC, self.change(), wait=30)
        return time.monotonic() - start

    def kill_in_the_middle(self, duration: float) -> None:
        """Begin a change of 5,000 flows and kill the agent while it is on its way to the switch, or nearly so."""
        change = self.change()

        def patch() -> None:
            with contextlib.suppress(AgentUnreachable, AgentError), self.lab.agent("hv1") as client:
                client.patch(VPC, change)

        thread = threading.Thread(target=patch)
        thread.start()
        time.sleep(self.rng.uniform(0.0, 1.2 * duration))
        self.kill()
        thread.join()
        time.sleep(0.2)  # what the agent had sent may still be read
        new = self.state.hosts["hv8"]
        changed = sum(f"{new}->" in line for line in self.lab.ovs("hv1").ofctl("dump-flows", "br-int").splitlines())
        assert changed in {0, ENDPOINTS // 2}, f"{changed} flows of a bundle of which all or none may be there"
        self.interrupted += changed == 0

    def kill(self) -> None:
        """SIGKILL the agent's process, or both of its processes, in either order."""
        pid = hosts.agent_pid(self.lab.host("hv1"))
        children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True).stdout.split()
        for victim in self.rng.choice([[pid], [pid, *children], [*children, pid]]):
            os.kill(int(victim), signal.SIGKILL)
        until(lambda: hosts.agent_pid(self.lab.host("hv1")) is None)


def _ready(client: AgentClient) -> bool:
    with contextlib.suppress(AgentUnreachable):
        return bool(client.ready()["ready"])
    return False


@dataclass
class Span:
    """A stretch of time in which hv1 enforced that ``gone`` is there (``present``), or that it is not."""

    present: bool
    told: Told
    end: float = 0.0

    def holds(self, moment: float) -> bool:
        return self.told.enforced <= moment < self.end


def run(lab: Lab, kills: int, measured: Measured) -> None:
    boss = Orchestrator(lab, random.Random(SEED))
    boss.tell("hv2")
    spans = [Span(True, boss.tell("hv1"))]
    assert lab.agent("hv1").host()["flows"] > 2 * ENDPOINTS
    duration = boss.time_change()
    with Streams(lab, [*ALLOWED, *REVOKED]) as streams:
        for number in range(kills):
            if number % 3 == 2:
                time.sleep(boss.rng.uniform(0.0, 0.5))
                boss.kill()
            else:
                boss.kill_in_the_middle(duration)
            last = spans[-1]
            boss.change(present=not last.present)
            last.end = boss.tell("hv2").asked
            lab.start_agent("hv1")
            told = boss.tell("hv1")
            if not last.present:
                last.end = told.asked  # hv2 sends the frames by now, and hv1 does not deliver them yet
            spans.append(Span(not last.present, told))
        time.sleep(0.5)
        spans[-1].end = time.monotonic()
    for line in check(streams, spans):
        measured(f"{kills} kills: {line}")
    measured(f"{kills} kills, {boss.interrupted} before a change of {ENDPOINTS} flows ({duration:.2f} s) was in force")
    assert boss.interrupted > 0, "no kill came in the middle of a change"


def check(streams: Streams, spans: list[Span]) -> Iterator[str]:
    """Nothing allowed is lost, and nothing forbidden delivered once that is enforced; yields the figures."""
    lost = {pair: streams.lost(pair) for pair in ALLOWED}
    yield f"{sum(map(streams.sent, ALLOWED))} allowed frames, {sum(lost.values())} lost"
    assert not any(lost.values()), lost
    assert streams.strays() == 0
    for pair in REVOKED:
        for present, word in ((True, "allowed"), (False, "forbidden")):
            here = [span for span in spans if span.present is present]
            fates = [(span, sent, ok) for span in here for sent, ok in streams.fates(pair) if span.holds(sent)]
            wrong = [
                (sent - span.told.enforced, sent > span.told.revalidated)
                for span, sent, ok in fates
                if ok is not present
            ]
            late = sum(after for _, after in wrong)
            yield (
                f"{' to '.join(pair)}: {len(fates)} frames while {word}, {late} went wrong; {len(wrong) - late} before"
                f" the cache followed, the last {max(wrong, default=(0.0, False))[0] * 1000:.0f} ms after the barrier"
            )
            assert late == 0, wrong
            assert len(fates) > 10 * len(here), "too few frames to prove anything"


@pytest.mark.alone
@pytest.mark.timeout(120)
def test_a_few_kills(lab: Lab, measured: Measured) -> None:
    run(lab, 4, measured)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_thirty_kills(lab: Lab, measured: Measured) -> None:
    run(lab, 30, measured)
