"""An agent killed again and again, at any instant, with 10,000 flows and changes on their way."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from ovsnet.agent.client import AgentUnreachable
from ovsnet.compiler import compile_states
from ovsnet.facts import Facts
from ovsnet.model import VpcState, port_id
from ovsnet.numbers import Numbers, Snapshot
from ovsnet.pipeline.render import flow_ofctl
from tests.agent_kit import AgentHost, port, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]

LOCAL, REMOTE = 10, 3200  # about 10,000 flows


@pytest.fixture
def host() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one
    finally:
        one.close()


class Traffic:
    """Frames from p1 to p2, both on this host, at a steady rate; counted where p2's flow delivers them."""

    def __init__(self, host: AgentHost) -> None:
        self.host, self.sent, self._stop = host, 0, threading.Event()
        self.frame = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),"
        self.frame += "ipv4(src=10.1.0.3,dst=10.1.0.4,proto=17),udp(src=1,dst=2)"
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.host.ovs.appctl("netdev-dummy/receive", "shop-1", self.frame)
            self.sent += 1

    def received(self) -> int:
        """Frames that left towards p2."""
        return int(self.host.ovs.vsctl("get", "interface", "shop-2", "statistics:tx_packets").strip())


def expected(host: AgentHost, one: VpcState, facts: Facts) -> list[str]:
    """The flows for a state, with the zones and the numbers that the agent has given."""
    numbers = Numbers.restore(msgspec.json.decode((host.dir / "state/numbers.json").read_bytes(), type=Snapshot))
    seen = replace(facts, zones={seen["id"]: seen["zone"] for seen in host.client.ports()})
    return sorted(flow_ofctl(owned.row) for owned in compile_states([one], "hv1", seen, numbers))


def kill_and_check(host: AgentHost, rounds: int, rng: random.Random) -> None:
    held = state(local=LOCAL, remote=REMOTE)
    host.start()
    for number in range(1, LOCAL + 1):
        host.plug("shop", number, ofport=100 + number)
    until(lambda: host.client.host()["ready"])
    host.client.put(held, wait=20)
    facts = Facts(
        {port_id("shop", f"p{n}"): 100 + n for n in range(1, LOCAL + 1)}, host.client.host()["tunnel_ofport"], True
    )
    until(lambda: all(port["enforced"] for port in host.client.ports()))
    with Traffic(host) as traffic:
        for _ in range(rounds):
            number = rng.randrange(LOCAL + 1, REMOTE)
            ports = held.ports | {f"p{number}": port("shop", number, rng.choice(["hv2", "hv3", None]))}
            if rng.random() < 0.5:  # a large change, so that the kill may come in the middle of its bundle
                ports |= {f"p{n}": port("shop", n, rng.choice(["hv2", "hv3"])) for n in range(1000, 2500)}
            after = msgspec.structs.replace(held, revision=held.revision + 1, ports=ports)
            teller = threading.Thread(target=tell, args=(host, after))
            teller.start()
            time.sleep(rng.uniform(0, 0.4))
            host.end(signal.SIGKILL)
            teller.join()
            host.start(ready=False)
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 0.6))
                host.end(signal.SIGKILL)
                host.start(ready=False)
            until(host.ready, 30)
            host.client.put(after, wait=20)
            held = after
            assert host.client.vpcs()["shop"]["enforced"] == held.revision
            there = sorted(flow["ofctl"] for flow in host.client.flows(source="switch"))
            assert there == expected(host, held, facts)
    time.sleep(0.5)
    host.ovs.vsctl("set", "open_vswitch", ".", "other_config:stats-update-interval=1000")
    until(lambda: traffic.received() >= traffic.sent, 15)
    assert traffic.received() == traffic.sent


def tell(host: AgentHost, after: VpcState) -> None:
    with type(host.client)(host.client.address) as client:
        try:
            client.put(after)
        except AgentUnreachable:
            return


def test_killed_a_few_times(host: AgentHost) -> None:
    kill_and_check(host, 4, random.Random(1))


@pytest.mark.slow
def test_killed_thirty_times(host: AgentHost) -> None:
    kill_and_check(host, 30, random.Random(2))
