"""A bus that loses, doubles, delays and reorders messages, stalls and cuts; and others who speak on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import msgspec
import nats
import pytest

from ovsnet.errors import UserError
from ovsnet.lab import netns
from ovsnet.lab.control import MONITOR_PORT
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.topology import BUS_PORT, CONTROL
from ovsnet.transport.messages import PROTOCOL, ChangeMessage, HeadsMessage, encode
from ovsnet.transport.operations import put_item
from tests.agent_kit import until
from tests.contract.bus_kit import flush
from tests.contract.nats_proxy import NatsProxy
from tests.system.conftest import Measured
from tests.system.faults import Churn, World, cloud, turn_of

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]
BEHIND = BUS_PORT + 1
MANY = 150


class Line(NatsProxy):
    """A faulty line at the bus's own address, between all who use the lab's bus and the nats-server behind it."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(f"nats://[{CONTROL}]:{BEHIND}", port=BUS_PORT, seed=5)
        self._namespace = lab.control.netns
        self._thread = threading.Thread(target=self._live, name="line", daemon=True)

    def _live(self) -> None:
        with netns.inside(self._namespace):
            self._loop.run_forever()

    async def _listen(self) -> None:
        self._servers.append(await asyncio.start_server(self._serve, CONTROL, self.port, limit=1 << 22))


@pytest.fixture(scope="module")
def plain() -> Iterator[World]:
    """A lab whose bus is behind a faulty line, and without TLS, so that the line can read it."""
    name = f"t{os.getpid()}-line"
    try:
        yield World(Lab.up(cloud(), name, transport="nats", tls=False))
    finally:
        with contextlib.suppress(UserError):
            down(name)


@pytest.fixture(scope="module")
def line(plain: World) -> Iterator[NatsProxy]:
    """The faulty line; hosts and the controller come back over it by themselves."""
    plain.lab.kill_nats()
    plain.lab.start_nats(BEHIND)
    made = Line(plain.lab)
    made.start()
    try:
        plain.settle()
        yield made
    finally:
        made.close()


FAULTS: dict[str, dict[str, Any]] = {
    "lost": {"drop": 0.3},
    "doubled": {"double": 0.5},
    "reordered": {"reorder": 0.5},
    "delayed": {"delayed": 0.5, "delay": 1.0},
    "all of it": {"drop": 0.2, "double": 0.2, "reorder": 0.2, "delayed": 0.2, "delay": 0.5},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_line(plain: World, line: NatsProxy, fault: str, measured: Measured) -> None:
    before = line.counts.copy()
    line.down(**FAULTS[fault])
    line.up(**FAULTS[fault])
    with Churn(plain, lambda turn: cloud(MANY, turn), pause=0.1) as churn:
        churn.wait(10)
    line.down()
    line.up()
    done = line.counts - before
    assert done.total() > done["down_messages"] + done["up_messages"], "the line was not faulty"
    took = plain.settle()
    measured(f"settled {took:.1f} s after the end; {dict(done)}")
    assert churn.acknowledged <= turn_of(plain.state("red")) <= churn.begun
    plain.matrix()


def test_all_comes_right_on_a_line_that_stays_faulty(plain: World, line: NatsProxy) -> None:
    """One message in five is lost on its way: the heads show what is missing, and hellos bring it."""
    line.down(drop=0.1)
    line.up(drop=0.1)
    try:
        for turn in range(3):
            assert plain.apply(cloud(MANY, turn)).status == 200
            plain.settle(within=40)
    finally:
        line.down()
        line.up()
    plain.settle()


@pytest.mark.parametrize("seconds", [3, 12])
def test_a_line_that_stalls(plain: World, line: NatsProxy, seconds: int, measured: Measured) -> None:
    line.stall()
    assert plain.apply(cloud(MANY, seconds)).status == 200
    time.sleep(seconds)
    line.stall(False)
    measured(f"settled {plain.settle():.1f} s after {seconds} s of silence")
    plain.matrix()


def test_a_line_that_is_cut_again_and_again(plain: World, line: NatsProxy) -> None:
    with Churn(plain, lambda turn: cloud(2000, turn), pause=0.1) as churn:  # larger than a message: in parts
        for _ in range(8):
            time.sleep(0.5)
            line.cut()
        churn.wait(1)
    plain.settle()
    assert churn.acknowledged <= turn_of(plain.state("red")) <= churn.begun
    assert plain.apply(cloud()).status == 200
    plain.settle()


def publish(lab: Lab, subject: str, body: bytes) -> None:
    """Say something on the bus of a lab that lets anybody."""

    async def say() -> None:
        client = await nats.connect(f"nats://[{CONTROL}]:{BUS_PORT}", connect_timeout=5)
        await client.publish(subject, body)
        await flush(client)
        await client.close()

    with netns.inside(lab.control.netns):
        asyncio.run(say())


@pytest.mark.parametrize("kind", ["change", "heads"])
def test_somebody_who_speaks_the_next_version(plain: World, line: NatsProxy, kind: str) -> None:
    """It is ignored, even where it looks like today's, and said; what is told in today's version goes on."""
    lab = plain.lab
    plain.apply(cloud())
    plain.settle()
    before = {host: lab.agent(host).vpcs() for host in lab.topology.hosts}
    state = plain.state("red")
    later = ChangeMessage(v=PROTOCOL + 1, tx="later", items=(put_item(lift(state, 1000)),))
    empty = HeadsMessage(v=PROTOCOL + 1, source="controller", vpcs={})
    publish(lab, f"ovsnet.host.hv1.in.{kind}", encode(later if kind == "change" else empty))
    until(lambda: any("version 2 of the protocol" in one for one in said(plain, "hv1")))
    assert {host: lab.agent(host).vpcs() for host in lab.topology.hosts} == before
    assert plain.apply(cloud(5, 1), wait="5s").status == 200, "who speaks today's is heard as before"


def said(world: World, host: str) -> list[str]:
    """What a host has reported to be wrong."""
    faults = world.done("GET", "/v1/status")["hosts"][host]["faults"]
    assert isinstance(faults, list)
    return faults


def lift(state: Any, by: int) -> Any:
    return msgspec.structs.replace(state, revision=state.revision + by, owner="controller")


def test_a_report_in_the_next_version_is_ignored(plain: World, line: NatsProxy) -> None:
    lies = {"v": PROTOCOL + 1, "serial": 10**6, "host": "hv1", "full": True, "vpcs": {}, "faults": ["nonsense"]}
    publish(plain.lab, "ovsnet.host.hv1.out.report", msgspec.json.encode(lies))
    time.sleep(0.5)
    assert "nonsense" not in said(plain, "hv1")
    assert plain.apply(cloud(5, 2), wait="5s").status == 200


def test_garbage_on_every_subject(plain: World, line: NatsProxy) -> None:
    for kind in ("change", "heads", "chunk", "nothing"):
        for body in (b"", b"{", b"[]", b"\xff" * 1000, b'{"v": 1}', b'{"v": "x"}', b"[" * 5000):
            publish(plain.lab, f"ovsnet.host.hv1.in.{kind}", body)
    assert plain.apply(cloud(5, 3), wait="5s").status == 200
    plain.lab.kill_agent("hv1")  # what was odd is a fault for a minute: ask for the rest
    plain.lab.start_agent("hv1")
    plain.settle()
    plain.matrix()


def test_a_host_is_told_of_its_vpcs_and_of_no_other(plain: World, line: NatsProxy) -> None:
    heard: list[tuple[str, bytes]] = []

    async def listen(seconds: float) -> None:
        client = await nats.connect(f"nats://[{CONTROL}]:{BUS_PORT}", connect_timeout=5)

        async def hear(message: Any) -> None:
            heard.append((message.subject, message.data))

        await client.subscribe("ovsnet.host.*.in.>", cb=hear)
        await flush(client)
        turns = asyncio.to_thread(lambda: [plain.apply(blue_turn(turn)) for turn in range(1, 21)])
        await asyncio.gather(turns, asyncio.sleep(seconds))
        await client.close()

    plain.apply(cloud())
    plain.settle()
    with netns.inside(plain.lab.control.netns):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(listen(7.0))
        loop.close()
    changes = [(subject.split(".")[2], body) for subject, body in heard if subject.endswith("change")]
    assert {host for host, _ in changes} == {"hv1", "hv2"}, "blue is on the first two alone"
    assert sum(host == "hv1" for host, _ in changes) >= 20
    for subject, body in heard:
        host = subject.split(".")[2]
        for vpc, hosts in {"red": {"hv1", "hv2", "hv3"}, "blue": {"hv1", "hv2"}, "green": {"hv3"}}.items():
            assert host in hosts or f'"{vpc}"'.encode() not in body, f"{subject}: {body[:200]!r}"
    assert any(subject == "ovsnet.host.hv3.in.heads" for subject, _ in heard), "the control: hv3 was spoken to"


def blue_turn(turn: int) -> Any:
    model = cloud()
    port = msgspec.structs.replace(model.vpcs["blue"].ports["p1"], description=f"turn {turn}")
    blue = msgspec.structs.replace(model.vpcs["blue"], ports={**model.vpcs["blue"].ports, "p1": port})
    return msgspec.structs.replace(model, vpcs={**model.vpcs, "blue": blue})


def test_what_the_bus_itself_says_of_who_hears_what(plain: World, line: NatsProxy) -> None:
    """Each host has one subscription, to its own subjects: nobody else's message can reach it."""
    with (
        netns.inside(plain.lab.control.netns),
        urllib.request.urlopen(f"http://127.0.0.1:{MONITOR_PORT}/connz?subs=1", timeout=5) as response,
    ):
        seen = msgspec.json.decode(response.read())
    subjects = {one.get("name", ""): one.get("subscriptions_list", []) for one in seen["connections"]}
    hosts = {name: found for name, found in subjects.items() if any(".in." in subject for subject in found)}
    assert len(hosts) == 3
    for name, found in hosts.items():
        assert [one for one in found if not one.startswith("_INBOX")] == [f"ovsnet.host.{name}.in.>"]
