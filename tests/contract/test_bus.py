"""Publisher and subscriber over a real NATS server, with everything that may go wrong on the way."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from ovsnet.agent.subscriber import Subscriber
from ovsnet.transport.bus import Bus, BusOptions, Incoming
from ovsnet.transport.catchup import Head
from ovsnet.transport.messages import PROTOCOL, HeadsMessage, ReportMessage, encode
from ovsnet.transport.publisher import Publisher
from tests.agent_kit import until
from tests.bus_kit import SOURCE, FakeHost, Truth
from tests.contract.nats_kit import NatsServer
from tests.contract.nats_proxy import NatsProxy

ROOT = Path(__file__).parents[2]
EVERY = 0.5


class Scene:
    """A server, a proxy for hosts, a publisher and hosts; ``heads`` come every half second, to be quick."""

    def __init__(self, stack: ExitStack, hosts: int = 1) -> None:
        self.stack = stack
        self.server = NatsServer().start()
        stack.callback(self.server.close)
        self.proxy = NatsProxy(self.server.url, seed=7).start()
        stack.callback(self.proxy.close)
        self.hosts = {f"hv{n + 1}": FakeHost(f"hv{n + 1}") for n in range(hosts)}
        self.truth = Truth(self.hosts)
        self.publisher = self.publish()
        self.subscribers = {name: self.follow(host) for name, host in self.hosts.items()}

    def publish(self) -> Publisher:
        """A publisher starts."""
        publisher = Publisher(self.truth, BusOptions((self.server.url,), SOURCE), SOURCE, heads_every=EVERY).start()
        self.stack.callback(publisher.stop)
        until(lambda: publisher.bus.connected)
        self.truth.on_raise = publisher.publish
        return publisher

    def follow(self, host: FakeHost) -> Subscriber:
        """A host joins."""
        subscriber = Subscriber(host, BusOptions((self.proxy.url,), host.host)).start()
        self.stack.callback(subscriber.stop)
        until(lambda: subscriber.bus.connected)
        return subscriber

    def agreed(self) -> bool:
        """Whether all hosts hold what they should, and nothing else."""
        return all(host.heads() == self.truth.wanted(name) for name, host in self.hosts.items())

    def reported(self) -> bool:
        """Whether the publisher has heard so."""
        return (
            all(
                {vpc: one.enforced for vpc, one in self.truth.told[name].vpcs.items()}
                == {vpc: head.revision for vpc, head in self.truth.wanted(name).items()}
                for name in self.hosts
                if name in self.truth.told
            )
            and self.truth.told.keys() == self.hosts.keys()
        )


@pytest.fixture
def scene() -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack)


def test_changes_arrive_in_order_and_are_reported(scene: Scene) -> None:
    scene.publisher.publish(scene.truth.create("red"))
    until(scene.agreed)
    for number in range(10, 110):
        assert scene.publisher.publish(scene.truth.edit("red", number))
    assert scene.publisher.flush()
    took = until(scene.agreed)
    assert took < 2
    follower = scene.subscribers["hv1"].follower
    assert follower.counts.gaps == 0
    until(scene.reported)
    assert len(scene.truth.reports) < 60, "reports are gathered"
    scene.publisher.publish(scene.truth.delete("red"))
    until(scene.agreed)
    until(scene.reported)


def test_a_snapshot_larger_than_a_message_arrives_in_parts_and_is_shared(scene: Scene) -> None:
    scene.truth.create("red", remote=12_000)
    host = FakeHost("hv1")
    scene.hosts["hv1"] = host
    scene.subscribers["hv1"].stop()
    scene.subscribers["hv1"] = scene.follow(host)
    until(scene.agreed, 20)
    counts = scene.publisher.statistics()
    assert counts["chunks"] >= 3
    assert host.fresh == 1


def test_the_server_is_killed_and_comes_back(scene: Scene) -> None:
    scene.publisher.publish(scene.truth.create("red"))
    until(scene.agreed)
    scene.server.kill()
    until(lambda: not scene.publisher.bus.connected)
    assert not scene.publisher.publish(scene.truth.edit("red", 10))
    assert not scene.publisher.flush(1)
    scene.publisher.publish(scene.truth.create("blue"))
    scene.server.start()
    took = until(scene.agreed, 30)
    until(scene.reported)
    assert took < 20


def test_a_server_that_hangs_is_given_up_and_the_next_one_taken() -> None:
    with ExitStack() as stack:
        first, second = NatsServer().start(), NatsServer().start()
        stack.callback(first.close)
        stack.callback(second.close)
        bus = Bus(BusOptions((first.url,), "test")).start()
        stack.callback(bus.close)
        until(lambda: bus.connected)
        first.pause()
        took = until(lambda: not bus.connected, 15)
        assert took < 10
        first.resume()
        until(lambda: bus.connected, 15)
        assert bus.flush()


def test_the_publisher_starts_again_with_an_older_truth(scene: Scene) -> None:
    scene.publisher.publish(scene.truth.create("red"))
    scene.publisher.publish(scene.truth.create("blue"))
    older, revision = dict(scene.truth.states), scene.truth.states["red"].revision
    for number in range(10, 15):
        scene.publisher.publish(scene.truth.edit("red", number))
    until(scene.agreed)
    scene.publisher.stop()
    scene.truth.told.clear()
    scene.truth.states = older
    scene.truth.delete("blue")
    scene.publisher = scene.publish()
    until(scene.agreed)
    assert scene.truth.states["red"].revision > revision + 5, "raised above what the host held"
    until(scene.reported, 5)  # a new instance is told all, long before the next half minute


def test_a_host_that_missed_all_is_told(scene: Scene) -> None:
    scene.proxy.stall()
    scene.proxy.cut()
    scene.publisher.publish(scene.truth.create("red"))
    for number in range(10, 20):
        scene.publisher.publish(scene.truth.edit("red", number))
    scene.proxy.stall(False)
    until(scene.agreed, 20)
    until(scene.reported)


@pytest.mark.parametrize("kind", ["drop", "double", "reorder", "delayed", "all"])
def test_a_faulty_line(kind: str) -> None:
    with ExitStack() as stack:
        scene = Scene(stack, hosts=2)
        faults = dict.fromkeys(("drop", "double", "reorder", "delayed"), 0.1) if kind == "all" else {kind: 0.25}
        scene.proxy.down(delay=0.3, **faults)
        scene.proxy.up(delay=0.3, **faults)
        rng = random.Random(kind)
        for number in range(120):
            vpc = rng.choice(["red", "blue"])
            if vpc not in scene.truth.states:
                messages = scene.truth.create(vpc, scene.hosts)
            elif rng.random() < 0.1:
                messages = scene.truth.concern(vpc, rng.sample(sorted(scene.hosts), rng.randrange(3)))
            elif rng.random() < 0.05:
                messages = scene.truth.delete(vpc)
            else:
                messages = scene.truth.edit(vpc, 10 + number % 9, gone=rng.random() < 0.3)
            scene.publisher.publish(messages)
            time.sleep(0.01)
        suffered = scene.proxy.counts.copy()
        scene.proxy.down()
        scene.proxy.up()
        until(scene.agreed, 15)
        kinds = {"drop": "dropped", "double": "doubled", "reorder": "reordered", "delayed": "delayed"}
        assert suffered["down_messages"] > 60
        for one in faults:
            assert suffered[f"down_{kinds[one]}"] > 3, "the line was not as faulty as meant"
        for name, host in scene.hosts.items():
            for vpc, head in host.heads().items():
                assert (vpc, head) in scene.truth.history
            assert host.stale == 0, f"{name} was offered something old"


def test_a_message_in_a_later_version_is_ignored_and_shown(scene: Scene) -> None:
    scene.publisher.publish(scene.truth.create("red"))
    until(scene.agreed)
    until(lambda: "hv1" in scene.truth.told)
    odd = Bus(BusOptions((scene.server.url,), "odd")).start()
    scene.stack.callback(odd.close)
    until(lambda: odd.connected)
    later = msgspec.json.encode({"v": PROTOCOL + 1, "something": ["else"]})
    odd.publish([("ovsnet.host.hv1.in.change", later, None), ("ovsnet.host.hv1.in.heads", later, None)])
    odd.publish([("ovsnet.host.hv1.out.hello", later, None), ("ovsnet.host.hv1.in.change", b"{", None)])
    until(lambda: any("version 2" in fault for fault in scene.truth.told["hv1"].faults))
    until(lambda: scene.publisher.statistics().get("unknown_versions") == 1)
    scene.publisher.publish(scene.truth.edit("red", 10))
    until(scene.agreed)


def test_nobody_speaks_for_another_host(scene: Scene) -> None:
    until(lambda: "hv1" in scene.truth.told)
    odd = Bus(BusOptions((scene.server.url,), "odd")).start()
    scene.stack.callback(odd.close)
    until(lambda: odd.connected)
    lie = ReportMessage(v=PROTOCOL, run="odd", serial=1, host="hv1", full=True, faults=("lie",))
    odd.publish([("ovsnet.host.hv2.out.report", encode(lie), None)])
    until(lambda: scene.publisher.statistics().get("malformed") == 1)
    assert scene.truth.told["hv1"].faults == ()


def test_what_is_not_on_disk_is_not_acknowledged(scene: Scene) -> None:
    scene.hosts["hv1"].disk_full = True
    scene.publisher.publish(scene.truth.create("red"))
    until(scene.agreed)
    until(lambda: "hv1" in scene.truth.told and "red" in scene.truth.told["hv1"].vpcs)
    assert scene.truth.told["hv1"].vpcs["red"].enforced is None


def test_ingest_is_answered(scene: Scene) -> None:
    asked: list[tuple[str, bytes]] = []

    def ingest(client: str, body: bytes) -> bytes:
        asked.append((client, body))
        return b"answer to " + body

    options = BusOptions((scene.server.url,), "other")
    publisher = Publisher(Truth(()), options, "other", ingest=ingest).start()
    scene.stack.callback(publisher.stop)
    until(lambda: publisher.bus.connected)
    code = (
        "import asyncio, nats\n"
        "async def main():\n"
        f"    client = await nats.connect({scene.server.url!r}, inbox_prefix='_INBOX_billing')\n"
        "    answer = await client.request('ovsnet.ingest.billing', b'items', timeout=5)\n"
        "    print(answer.data.decode())\n"
        "    await client.close()\n"
        "asyncio.run(main())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20)
    assert done.stdout == "answer to items\n"
    assert asked == [("billing", b"items")]


def test_heads_are_spread_over_the_time_and_come_often_enough() -> None:
    with ExitStack() as stack:
        server = NatsServer().start()
        stack.callback(server.close)
        heard: list[tuple[float, str]] = []

        def hear(message: Incoming) -> None:
            heads = msgspec.json.decode(message.body, type=HeadsMessage)
            assert heads.vpcs == {} and heads.source == SOURCE
            heard.append((time.monotonic(), message.subject))

        listener = Bus(BusOptions((server.url,), "listener"))
        listener.subscribe("ovsnet.host.*.in.heads", hear)
        stack.callback(listener.start().close)
        until(lambda: listener.connected)
        truth = Truth(f"h{n}" for n in range(100))
        publisher = Publisher(truth, BusOptions((server.url,), SOURCE), SOURCE, heads_every=1.0).start()
        stack.callback(publisher.stop)
        until(lambda: len(heard) >= 100)
        start = heard[0][0]  # the first round is quicker: hosts have been without a publisher
        until(lambda: time.monotonic() > start + 2.2)
        second = [at for at, _ in heard if start + 1 <= at < start + 2]
        assert 80 <= len(second) <= 120
        tenths = [sum(start + 1 + n / 10 <= at < start + 1.1 + n / 10 for at in second) for n in range(10)]
        assert max(tenths) <= 30, f"not in one burst: {tenths}"


def test_heads_that_are_too_long_for_the_bus_hinder_no_other_host(scene: Scene) -> None:
    heard: list[str] = []
    bus = Bus(BusOptions((scene.server.url,), "listener"))
    bus.subscribe("ovsnet.host.*.in.heads", lambda message: heard.append(message.subject.split(".")[2]))
    bus.start()
    scene.stack.callback(bus.close)
    until(lambda: bus.connected)
    short = Head(1, "0" * 32)
    wanted = {"a": {"shop": short}, "b": {f"vpc-{n}": short for n in range(25_000)}, "c": {"shop": short}}
    scene.truth.wanted = wanted.__getitem__  # type: ignore[assignment]
    assert scene.publisher.announce("a", "c")
    assert not scene.publisher.announce("a", "b", "c")
    until(lambda: heard.count("a") >= 2 and heard.count("c") >= 2)
    assert "b" not in heard
    assert scene.publisher.statistics()["dropped"] == 1


def test_a_third_party_publishes_without_ovsnet(scene: Scene) -> None:
    example = ROOT / "examples" / "publish.py"
    assert not re.search(r"^(from|import) ovsnet", example.read_text(), re.MULTILINE)
    scene.publisher.stop()
    host = FakeHost("hv9")
    scene.hosts = {"hv9": host}
    process = subprocess.Popen(
        [sys.executable, str(example), scene.server.url, "hv9"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    scene.stack.callback(process.wait, 10)
    scene.stack.callback(process.terminate)
    subscriber = scene.follow(host)
    until(lambda: host.view.states.get("shop") is not None and host.view.states["shop"].revision >= 3, 15)
    ended = threading.Event()
    ended.wait(1.0)
    before, revision = replace(subscriber.follower.counts), host.view.states["shop"].revision
    ended.wait(1.5)
    after = subscriber.follower.counts
    assert host.view.states["shop"].revision >= revision + 2
    assert (after.gaps, after.hellos) == (before.gaps, before.hellos), "changes follow each other, and heads agree"


def certificate(directory: Path, name: str, issuer: str = "") -> None:
    """A key and a certificate for 127.0.0.1, self-signed or by ``issuer``."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    files = ["-keyout", f"{name}.key", "-out", f"{name}.pem", "-subj", f"/CN={name}"]
    signed = ["-CA", f"{issuer}.pem", "-CAkey", f"{issuer}.key"] if issuer else []
    leaf = ["-addext", "subjectAltName=IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"] if issuer else []
    subprocess.run([*new, *files, *signed, *leaf], cwd=directory, check=True, capture_output=True)


def test_with_certificates_only_a_server_that_proves_itself_is_joined(tmp_path: Path) -> None:
    for name, issuer in (("ca", ""), ("other", ""), ("server", "ca"), ("host", "ca"), ("liar", "other")):
        certificate(tmp_path, name, issuer)
    options = "tls {{ cert_file: {0}/{1}.pem, key_file: {0}/{1}.key, ca_file: {0}/ca.pem, verify: true }}"
    files = {"cert": tmp_path / "host.pem", "key": tmp_path / "host.key", "ca": tmp_path / "ca.pem"}
    with ExitStack() as stack:
        servers = [NatsServer(options.format(tmp_path, "server")), NatsServer(options.format(tmp_path, "liar"))]
        servers.append(NatsServer())
        buses = []
        for server in servers:
            stack.callback(server.start().close)
            bus = Bus(BusOptions((server.url,), "hv1", **files)).start()
            stack.callback(bus.close)
            buses.append(bus)
        until(lambda: buses[0].connected)
        assert buses[0].flush()
        until(lambda: "certificate" in buses[1].last_error)
        until(lambda: "speaks no TLS" in buses[2].last_error)
        assert not buses[1].connected and not buses[2].connected
        bare = Bus(BusOptions((servers[0].url,), "hv1", ca=tmp_path / "ca.pem")).start()
        stack.callback(bare.close)
        until(lambda: bare.last_error)
        assert not bare.connected
