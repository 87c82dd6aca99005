"""Clocks that jump, switches that refuse, VNIs that change hands, meddlers, and certificates that are stolen."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import ssl
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import nats
import nats.errors
import pytest

from ovsnet.http.client import ServiceClient, ServiceUnreachable
from ovsnet.lab import netns
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.topology import AGENT_PORT, BUS_PORT, CONTROL, CONTROLLER_PORT
from ovsnet.model import Model
from ovsnet.transport.messages import HEADER
from tests.agent_kit import until
from tests.system.conftest import Measured
from tests.system.faults import Churn, World, cloud, port

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]
ROOT = Path(__file__).resolve().parents[2]
ONLY_NATS = pytest.mark.parametrize("world", ["nats"], indirect=True)
DAY = 86400


SHIM = """
import time
_time_ns = time.time_ns

def _ahead():
    with open({file!r}) as file:
        return int(file.read())

time.time = lambda: _time_ns() / 1e9 + _ahead()
time.time_ns = lambda: _time_ns() + _ahead() * 10**9
"""


class Clock:
    """The wall clock of a Python process that is started with ``environment``; the monotonic one goes on as it is.

    (libfaketime breaks what Python 3.11 sleeps with, so the clock is replaced inside of Python.)
    """

    def __init__(self, directory: Path) -> None:
        self.file = directory / "ahead"
        self.environment = {"PYTHONPATH": f"{directory}{os.pathsep}{ROOT}"}
        self.jump(0)
        (directory / "sitecustomize.py").write_text(SHIM.format(file=str(self.file)))

    def jump(self, seconds: int) -> None:
        """Be so many seconds ahead of the real time from now on."""
        part = self.file.with_suffix(".part")
        part.write_text(f"{seconds}")
        part.replace(self.file)


@pytest.mark.parametrize("who", ["agent", "controller"])
def test_a_clock_that_jumps(world: World, who: str, tmp_path: Path, measured: Measured) -> None:
    """Days forward and backward in the middle of changes: nothing waits for the clock to come back."""
    lab, clock = world.lab, Clock(tmp_path)
    if who == "agent":
        lab.kill_agent("hv2")
        lab.start_agent("hv2", clock.environment)
    else:
        lab.kill_controller()
        lab.start_controller(clock.environment)
    world.settle()
    slowest = 0.0
    with Churn(world, lambda turn: cloud(50, turn), pause=0.1) as churn:
        for seconds in (DAY, -DAY, 30 * DAY, 0, -3600):
            clock.jump(seconds)
            churn.wait(3)
            start = time.monotonic()
            answer = world.apply(cloud(50, 1000), wait="10s")
            slowest = max(slowest, time.monotonic() - start)
            assert answer.status == 200, answer
            assert ahead(world, who, seconds), "the control: it lives by that clock"
    clock.jump(0)
    world.settle()
    assert slowest < 5.0
    measured(f"a change was in force everywhere within {slowest:.2f} s after each jump")
    if who == "agent":
        lab.kill_agent("hv2")
        lab.start_agent("hv2")
    else:
        lab.kill_controller()
        lab.start_controller()
    world.settle()
    world.matrix()


def ahead(world: World, who: str, seconds: int) -> bool:
    """Whether a process says that its time is so many seconds ahead, give or take a minute."""
    if who == "controller":
        at = float(world.done("GET", "/v1/audit", limit="1")[0]["at"])
    else:
        last = (Path(world.lab.host("hv2").run_dir) / "agent.log").read_text().splitlines()[-1]
        at = datetime.fromisoformat(last.split()[0]).timestamp()
    return abs(at - time.time() - seconds) < 60


NEXT_VERSION = """
import ovsnet.transport.messages

ovsnet.transport.messages.PROTOCOL = 2
"""


def test_an_agent_that_speaks_the_next_version_only(world: World, tmp_path: Path, measured: Measured) -> None:
    """It keeps what it has and is told nothing, the controller says why, all others go on; downgraded it catches up."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    (tmp_path / "sitecustomize.py").write_text(NEXT_VERSION)
    lab.kill_agent("hv2")
    lab.start_agent("hv2", {"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    with ServiceClient(lab.agent("hv2").address) as client:
        until(lambda: answers(client), timeout=20)
        assert client.call("GET", "/v1/host", headers={HEADER: "2"})["protocols"] == [2]
        before = client.call("GET", "/v1/vpcs", headers={HEADER: "2"})
        until(lambda: "no common version" in world.done("GET", "/v1/status")["hosts"]["hv2"]["reason"], timeout=10)
        answer = world.apply(cloud(20, 1), wait="3s")
        assert (answer.status, set(answer.body["late"])) == (202, {"hv2"}), answer.body
        assert "no common version" in answer.body["late"]["hv2"]
        world.settle(hosts=["hv1", "hv3"])
        assert client.call("GET", "/v1/vpcs", headers={HEADER: "2"}) == before
        world.matrix()
    lab.kill_agent("hv2")
    lab.start_agent("hv2")
    measured(f"settled {world.settle():.1f} s after an agent of a version that is spoken was there")
    assert world.done("GET", "/v1/status")["hosts"]["hv2"]["reason"] == ""


def answers(client: ServiceClient) -> bool:
    """Whether anybody answers."""
    with contextlib.suppress(ServiceUnreachable):
        return bool(client.call("GET", "/readyz", accept=(503,)))
    return False


def limit(lab: Lab, host: str, table: int, flows: int | None) -> None:
    """Let a table of a host's switch take no more than so many flows."""
    if flows is None:
        lab.ovs(host).vsctl("clear", "bridge", INTEGRATION, "flow_tables")
    else:
        lab.ovs(host).vsctl(
            *("--", "--id=@t", "create", "flow_table", f"flow_limit={flows}", "overflow_policy=refuse"),
            *("--", "set", "bridge", INTEGRATION, f"flow_tables:{table}=@t"),
        )


def test_a_switch_that_refuses_an_object(world: World) -> None:
    """Its VPC stays what it was on that host, other VPCs and hosts go on, and the controller says where and why."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    table = [line for line in lab.ovs("hv2").ofctl("dump-flows", INTEGRATION).splitlines() if "table=40," in line]
    limit(lab, "hv2", 40, len(table) + 2)
    try:
        answer = world.apply(with_blue(cloud(60, 1), "refused"), wait="2s")
        assert answer.status == 202, answer
        assert set(answer.body["late"]) == {"hv2"}, answer.body
        assert "red" in answer.body["late"]["hv2"], "the reason names the object"
        vpcs = lab.agent("hv2").vpcs()
        assert vpcs["blue"]["enforced"] == world.state("blue").revision, "another VPC goes on"
        assert vpcs["red"]["enforced"] < vpcs["red"]["revision"]
        world.settle(hosts=["hv1", "hv3"])
        seen = world.done("GET", "/v1/status")
        assert (seen["converged"], set(seen["hosts"]["hv2"]["late"])) == (False, {"red"})
        world.matrix()
    finally:
        limit(lab, "hv2", 40, None)
    assert world.apply(cloud(61, 2), wait="10s").status == 200
    world.settle()


def with_blue(model: Model, words: str) -> Model:
    """The model with other words about a port of blue: a new revision of it."""
    changed = msgspec.structs.replace(model.vpcs["blue"].ports["p1"], description=words)
    blue = msgspec.structs.replace(model.vpcs["blue"], ports={**model.vpcs["blue"].ports, "p1": changed})
    return msgspec.structs.replace(model, vpcs={**model.vpcs, "blue": blue})


def with_vnis(model: Model, **vnis: int) -> Model:
    """The model with other VNIs of the networks ``web``, by VPC."""
    vpcs = dict(model.vpcs)
    for vpc, vni in vnis.items():
        web = msgspec.structs.replace(vpcs[vpc].networks["web"], vni=vni)
        vpcs[vpc] = msgspec.structs.replace(vpcs[vpc], networks={**vpcs[vpc].networks, "web": web})
    return msgspec.structs.replace(model, vpcs=vpcs)


def test_a_vni_that_changes_hands(world: World) -> None:
    """Two VPCs exchange their VNIs in one call, again and again: no host ever has two claims on one."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    lengths = {host: len((Path(lab.host(host).run_dir) / "agent.log").read_text()) for host in lab.topology.hosts}
    for turn in range(6):
        red, blue = (5002, 5001) if turn % 2 == 0 else (5001, 5002)
        answer = world.apply(with_vnis(cloud(), red=red, blue=blue), wait="5s")
        assert answer.status == 200, answer
        for host in lab.topology.hosts:
            held = [one["held"] for one in lab.agent(host).vpcs().values()]
            assert not any(held), held
    for host, length in lengths.items():
        said = (Path(lab.host(host).run_dir) / "agent.log").read_text()[length:]
        assert "waits for VPC" not in said and "refuse" not in said, said
    assert world.apply(cloud(), wait="5s").status == 200
    world.settle()
    world.matrix()


def test_somebody_meddles_with_a_host(world: World, measured: Measured) -> None:
    """What is told to an agent past the controller, in its name, does not last.

    A controller that calls hosts sees it in their reports; on a bus it takes until the next heads, and hellos.
    """
    lab = world.lab
    world.apply(cloud())
    world.settle()
    held = lab.agent("hv1").vpc("red")
    gone = {name: one for name, one in held.ports.items() if name != "p2"}
    lab.agent("hv1").put(msgspec.structs.replace(held, revision=held.revision + 5, ports=gone), adopt=True)
    lab.agent("hv2").delete("blue")
    took = world.settle(within=5 if world.transport == "controller" else 15)
    measured(f"settled after {took:.1f} s")
    assert world.state("red").revision > held.revision + 5
    world.matrix()


def test_a_vpc_of_somebody_elses_hinders_no_other(world: World) -> None:
    """A host whose red VPC another owner has adopted takes everything else; given up, it is the controller's again."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    held = lab.agent("hv1").vpc("red")
    lab.agent("hv1").put(msgspec.structs.replace(held, owner="somebody", revision=900), adopt=True)
    blue = cloud().vpcs["blue"]
    more = msgspec.structs.replace(blue, ports={**blue.ports, "p9": port("blue", "p9", 9, "hv1")})
    model = cloud()
    answer = world.apply(msgspec.structs.replace(model, vpcs={**model.vpcs, "blue": more}), wait="8s")
    assert answer.status == 202 and list(answer.body["late"]) == ["hv1"], answer
    assert "VPC red" in answer.body["late"]["hv1"] and "somebody" in answer.body["late"]["hv1"], answer
    assert "blue" not in answer.body["late"]["hv1"], answer
    told = lab.agent("hv1").vpcs()["blue"]
    assert told["enforced"] == answer.body["vpcs"]["blue"]["revision"], told
    answer = world.apply(cloud(6), wait="3s")
    assert answer.status == 202 and "green" not in str(answer.body["late"]), answer
    assert lab.agent("hv1").vpc("red").owner == "somebody"
    lab.agent("hv1").delete("red")
    world.settle(within=5 if world.transport == "controller" else 15)
    world.matrix()


def test_a_controller_and_an_agent_that_hang(world: World) -> None:
    lab = world.lab
    world.apply(cloud())
    world.settle()
    status = lab.status()
    pids = [status["hosts"]["hv1"]["agent_pid"], status["control"]["controller"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
        time.sleep(8)
        os.kill(pid, signal.SIGCONT)
        assert world.apply(cloud(10, pid), wait="10s").status == 200
        world.settle()
    world.matrix()


def test_a_long_partition(world: World, measured: Measured) -> None:
    """Long enough that both sides have given the connection up."""
    lab = world.lab
    lab.partition("hv1")
    try:
        assert world.apply(cloud(50, 77)).status == 200
        time.sleep(25)
        reason = world.done("GET", "/v1/status")["hosts"]["hv1"]["reason"]
        assert reason
    finally:
        lab.heal("hv1")
    measured(f"settled {world.settle():.1f} s after the link was there again; it was said: {reason}")


class Thief:
    """Somebody with the certificate of a host, on that host."""

    def __init__(self, lab: Lab, host: str) -> None:
        self.namespace = lab.host(host).netns
        attachment = lab.host(host).management
        assert attachment is not None
        self.tls = Path(attachment.tls_dir)

    def context(self) -> ssl.SSLContext:
        """TLS with the stolen certificate; it looks at nobody's."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
        made.load_cert_chain(self.tls / "cert.pem", self.tls / "key.pem")
        return made

    def ask(self, address: str, port_number: int, method: str, path: str, body: bytes = b"") -> int | None:
        """The status of a request, ``None`` if it is not even heard."""
        with netns.inside(self.namespace):
            connection = http.client.HTTPSConnection(address, port_number, context=self.context(), timeout=5)
            try:
                connection.request(method, path, body or None, {"Content-Type": "application/json"})
                return connection.getresponse().status
            except OSError:
                return None
            finally:
                connection.close()


AGENT_PATHS = (
    ("GET", "/healthz"), ("GET", "/readyz"), ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/v1/host"),
    ("GET", "/v1/vpcs"), ("GET", "/v1/vpcs/blue"), ("DELETE", "/v1/vpcs/blue"), ("POST", "/v1/batch"),
    ("GET", "/v1/ports"), ("GET", "/v1/flows"), ("GET", "/v1/events"), ("GET", "/v1/messages/report"),
    ("POST", "/v1/trace"), ("POST", "/v1/host/confirm"),
)  # fmt: skip
CONTROLLER_PATHS = (
    ("GET", "/v1/model"), ("POST", "/v1/apply"), ("GET", "/v1/hosts"), ("DELETE", "/v1/hosts/hv2"), ("GET", "/v1/vpcs"),
    ("GET", "/v1/vpcs/blue"), ("DELETE", "/v1/vpcs/blue"), ("GET", "/v1/vpcs/blue/ports/p1"), ("POST", "/v1/batch"),
    ("POST", "/v1/placements"), ("GET", "/v1/vpcs/blue/history"), ("POST", "/v1/vpcs/blue/rollback"),
    ("GET", "/v1/status"), ("GET", "/v1/audit"), ("GET", "/v1/events"), ("GET", "/metrics"),
)  # fmt: skip


def test_a_stolen_host_certificate_opens_no_api(world: World) -> None:
    lab = world.lab
    world.apply(cloud())
    world.settle()
    thief, before = Thief(lab, "hv3"), world.states()
    for host in lab.topology.hosts.values():
        assert host.management is not None
        for method, path in AGENT_PATHS:
            assert thief.ask(host.management.address, AGENT_PORT, method, path, b"[]") is None, (host.name, path)
    for method, path in CONTROLLER_PATHS:
        assert thief.ask(CONTROL, CONTROLLER_PORT, method, path, b"[]") == 401, path
    assert thief.ask(CONTROL, CONTROLLER_PORT, "GET", "/healthz") in {200, 401}, "the control: it was heard"
    assert world.states() == before
    world.settle()


@ONLY_NATS
def test_a_stolen_host_certificate_hears_and_says_nothing_of_others_on_the_bus(world: World) -> None:
    lab = world.lab
    world.apply(cloud())
    world.settle()
    thief, heard, errors = Thief(lab, "hv3"), [], []
    subjects = [
        "ovsnet.host.hv1.in.>", "ovsnet.host.*.in.change", "ovsnet.host.hv1.out.>", "ovsnet.>", ">", "*.*.*.*.*",
        "ovsnet.ingest.>", "_INBOX.>", "_INBOX_controller.>", "$SYS.>", "$JS.API.>",
    ]  # fmt: skip
    lie = {"v": 1, "serial": 10**9, "run": "thief", "host": "hv1", "full": True, "faults": ["nonsense"]}

    async def steal() -> None:
        async def hear(message: Any) -> None:
            heard.append((message.subject, message.data))

        async def fail(error: Exception) -> None:
            errors.append(str(error))

        context = thief.context()
        client = await nats.connect(
            f"tls://[{CONTROL}]:{BUS_PORT}", tls=context, error_cb=fail, allow_reconnect=False, connect_timeout=5
        )
        for subject in subjects:
            await client.subscribe(subject, cb=hear)
        await client.subscribe("ovsnet.host.hv3.in.>", cb=hear)  # the control: its own
        for subject in ("ovsnet.host.hv1.out.report", "ovsnet.host.hv1.in.change", "ovsnet.ingest.hv1"):
            await client.publish(subject, msgspec.json.encode(lie))
        with contextlib.suppress(nats.errors.Error):
            await client.flush(5)
        await asyncio.to_thread(lambda: [world.apply(cloud(5, turn)) for turn in range(5)])
        await asyncio.sleep(1.0)
        with contextlib.suppress(nats.errors.Error):
            await client.close()

    with netns.inside(thief.namespace):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(steal())
        loop.close()
    assert heard, "the control: its own messages arrive"
    assert {subject.split(".")[2] for subject, _ in heard} == {"hv3"}, {subject for subject, _ in heard}
    assert len([one for one in errors if "ermissions" in one]) >= len(subjects) - 1, errors
    assert "nonsense" not in world.done("GET", "/v1/status")["hosts"]["hv1"]["faults"]
    world.settle()


def carried(lab: Lab) -> dict[str, int]:
    """Bytes that have gone to each host over the management network."""
    found = {}
    with netns.inside(lab.topology.underlay):
        for name, host in lab.topology.hosts.items():
            assert host.management is not None
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
            words = next(line for line in lines if line.strip().startswith(f"{host.management.link}:"))
            found[name] = int(words.split(":")[1].split()[8])
    return found


def test_what_travels_to_a_host_is_of_its_vpcs(world: World, measured: Measured) -> None:
    """A change of blue costs bytes on the way to its two hosts, and none on the way to the third."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    time.sleep(1)
    quiet, start = carried(lab), time.monotonic()
    time.sleep(3)
    idle = {name: (total - quiet[name]) / (time.monotonic() - start) for name, total in carried(lab).items()}
    before, start = carried(lab), time.monotonic()
    for turn in range(60):
        assert world.apply(with_blue(cloud(), f"turn {turn} {'x' * 1000}")).status == 200
    world.settle()
    seconds = time.monotonic() - start
    told = {name: total - before[name] - idle[name] * seconds for name, total in carried(lab).items()}
    measured(f"bytes beyond those of a quiet time, over {seconds:.1f} s: {told}; idle bytes/s {idle}")
    assert min(told["hv1"], told["hv2"]) > 60_000
    assert told["hv3"] < 0.2 * told["hv1"]
