"""A real agent and the conntrack zones of its ports, from their declaration to their end, with kills in between."""

from __future__ import annotations

import random
import re
import signal
import threading
import time
from collections.abc import Iterator

import msgspec
import pytest

from ovsnet.agent.client import AgentUnreachable
from ovsnet.model import port_id
from tests.agent_kit import AgentHost, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


@pytest.fixture
def host() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one
    finally:
        one.close()


def zones(host: AgentHost) -> dict[str, str]:
    """What OVSDB says, by port id."""
    text = host.ovs.vsctl("get", "bridge", "br-int", "external_ids")
    return dict(re.findall(r'ovsnet-zone-([0-9a-f-]+)="?([0-9]+(?:,flush)?)"?', text))


def ids(*ports: int, vpc: str = "shop") -> set[str]:
    return {port_id(vpc, f"p{number}") for number in ports}


def connect(host: AgentHost, zone: str) -> None:
    """Have a connection from p1 tracked in a zone, by a flow of somebody else."""
    host.ovs.ofctl("add-flow", "br-int", f"priority=65000,in_port=101,udp,actions=ct(commit,zone={zone})")
    frame = "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x0800),"
    frame += "ipv4(src=10.1.0.3,dst=10.1.0.4,proto=17,tos=0,ttl=64,frag=no),udp(src=1,dst=2)"
    host.ovs.appctl("revalidator/purge")  # the datapath's cache may still have the flow before
    host.ovs.appctl("netdev-dummy/receive", "shop-1", frame)
    until(lambda: entries(host, zone) == 1)


def entries(host: AgentHost, zone: str) -> int:
    return len(host.ovs.appctl("dpctl/dump-conntrack", f"zone={zone}").splitlines())


def test_a_ports_zone_from_its_declaration_to_its_end(host: AgentHost) -> None:
    host.start()
    host.ovs.vsctl("set", "bridge", "br-int", "external_ids:theirs=kept")
    host.plug("shop", 1, ofport=101)
    declared = state(local=3, remote=5)
    ports = declared.ports | {"p3": msgspec.structs.replace(declared.ports["p3"], port_security=False)}
    ports["p4"] = msgspec.structs.replace(ports["p4"], moving_to="hv1")
    host.client.put(msgspec.structs.replace(declared, ports=ports), wait=5)
    assert {value.removesuffix(",flush") for value in zones(host).values()} == {"1", "2", "3"}, "before it is enforced"
    until(lambda: all(value.isdecimal() for value in zones(host).values()))
    before = zones(host)
    assert before.keys() == ids(1, 2, 4), "those here, and the one about to come; not the one without port security"
    mine = before[port_id("shop", "p1")]
    told = {seen["port"]: seen["zone"] for seen in host.client.ports()}
    assert (str(told["shop/p1"]), told["shop/p3"]) == (mine, None)
    connect(host, mine)
    host.end(signal.SIGKILL)
    host.start()
    host.client.patch("shop", {"previous": 1, "revision": 2, "ports": {"p9": None, "p5": None}}, wait=5)
    assert zones(host) == before
    assert entries(host, mine) == 1, "connections outlive the agent"
    assert "flows, 0 of them changed (resync)" in host.log.read_text()

    host.end()
    host.ovs.vsctl("del-port", "shop-1")
    host.start()
    host.client.patch("shop", {"previous": 2, "revision": 3, "ports": {"p1": None}}, wait=5)
    until(lambda: zones(host).keys() == ids(2, 4))
    assert entries(host, mine) == 0
    host.client.delete("shop", wait=5)
    until(lambda: zones(host) == {})
    assert "theirs=kept" in host.ovs.vsctl("get", "bridge", "br-int", "external_ids")
    host.client.put(state(local=1), wait=5)
    until(lambda: zones(host) == {port_id("shop", "p1"): "4"})


def test_an_audit_puts_right_what_others_wrote(host: AgentHost) -> None:
    host.start("--audit-interval", "0.5")
    host.client.put(state(local=1), wait=5)
    mine = port_id("shop", "p1")
    until(lambda: zones(host) == {mine: "1"})
    host.ovs.vsctl("set", "bridge", "br-int", f"external_ids:ovsnet-zone-{mine}=77")
    until(lambda: zones(host) == {mine: "1"})


def test_dry_run_takes_nothing(host: AgentHost) -> None:
    host.start()
    with type(host.client)(host.client.address) as client:
        client.put(state(local=2), dry_run=True)
    assert zones(host) == {}


def test_damaged_numbers_are_told(host: AgentHost) -> None:
    path = host.dir / "state" / "numbers.json"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    host.start(ready=False)
    until(lambda: "numbers.json is damaged" in host.log.read_text())
    until(host.ready)
    assert any("its numbers begin anew" in line for line in host.client.host()["warnings"])


def test_killed_at_any_instant(host: AgentHost) -> None:
    kill_and_check(host, 3, random.Random(3))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_thirty_times(host: AgentHost) -> None:
    kill_and_check(host, 30, random.Random(4))


def kill_and_check(host: AgentHost, rounds: int, rng: random.Random) -> None:
    """Kill the agent while ports come and go; whenever it is back, each port has its zone and nobody else has one."""
    host.start()
    for number in range(rounds):
        stop = threading.Event()
        teller = threading.Thread(target=churn, args=(host, number * 1000, rng.random(), stop))
        teller.start()
        time.sleep(rng.uniform(0.1, 0.5))
        host.end(signal.SIGKILL)
        stop.set()
        teller.join()
        host.start()
        local = rng.randrange(1, 8)
        assert host.client.put(state(revision=(number + 1) * 1000, local=local), wait=10)["reason"] is None
        until(lambda: zones(host).keys() == ids(*range(1, local + 1)))  # noqa: B023
        until(lambda: all(value.isdecimal() for value in zones(host).values()))
        assert len(set(zones(host).values())) == local


def churn(host: AgentHost, revision: int, seed: float, stop: threading.Event) -> None:
    """Ports come and go, as fast as the agent takes it."""
    rng = random.Random(seed)
    with type(host.client)(host.client.address) as client:
        while not stop.is_set():
            revision += 1
            try:
                client.put(state(revision=revision, local=rng.randrange(0, 12)), wait=2)
            except AgentUnreachable:
                return
