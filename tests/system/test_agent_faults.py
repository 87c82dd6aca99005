"""A real agent on a real switch, and what can happen to them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.agent.client import AgentError, AgentUnreachable
from ovsnet.model import port_id
from ovsnet.model.types import Router, VpcState
from tests.agent_kit import AgentHost, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


@pytest.fixture
def host() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one
    finally:
        one.close()


def test_applied_enforced_and_withdrawn(host: AgentHost) -> None:
    host.start()
    bare = host.flows()
    answer = host.client.put(state(), wait=5)
    assert answer["vpcs"]["shop"] == {"revision": 1, "enforced": 1, "held": None}
    assert answer["reason"] is None
    host.plug("shop", 1)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    ofport = host.ovs.vsctl("get", "interface", "shop-1", "ofport").strip()
    assert any(f"in_port={ofport}," in line or f"in_port={ofport} " in line for line in host.flows())
    assert any("set_field:10.0.0.12->tun_dst" in line or "10.0.0.12->" in line for line in host.flows())
    assert len(host.flows()) == host.client.host()["flows"]
    host.client.delete("shop", wait=5)
    assert host.flows() == bare
    assert host.client.vpcs() == {}


def test_restarted_agent_needs_nobody_and_touches_nothing(host: AgentHost) -> None:
    host.start()
    host.plug("shop", 1)
    host.client.put(state(revision=7, remote=20), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    host.client.patch("shop", {"previous": 7, "revision": 8, "ports": {"p3": None}}, wait=5)
    before = host.flows()
    duration = [line.split("n_packets")[0] for line in host.ovs.ofctl("dump-flows", "br-int").splitlines()]
    assert host.end() == 0
    assert host.flows() == before, "the flows outlive the agent"
    host.start()
    assert host.client.vpcs()["shop"]["enforced"] == 8
    assert host.flows() == before
    assert "0 of them changed (resync)" in host.log.read_text()
    assert len(duration) == len(host.ovs.ofctl("dump-flows", "br-int").splitlines())


@pytest.mark.parametrize("when", ["at rest", "under changes"])
def test_killed_agent(host: AgentHost, when: str) -> None:
    host.start()
    host.plug("shop", 1)
    host.client.put(state(remote=50), wait=5)
    revision = 1
    if when == "under changes":
        for revision in range(2, 30):
            host.client.patch("shop", {"previous": revision - 1, "revision": revision, "ports": {f"p{revision}": None}})
    child = host.client.host()  # answered: the last change is accepted
    assert host.process is not None
    host.end(signal.SIGKILL)
    with pytest.raises(AgentUnreachable, match="no agent answers"):
        host.client.host()
    host.start()
    assert host.client.vpcs()["shop"]["enforced"] == revision == child["vpcs"]["shop"]["revision"]
    assert len(host.flows()) == host.client.host()["flows"]


@pytest.mark.alone
def test_openflow_child_killed(host: AgentHost) -> None:
    host.start()
    host.client.put(state(), wait=5)
    assert host.process is not None
    children = subprocess.run(["pgrep", "-P", str(host.process.pid)], capture_output=True, text=True, check=True)
    for pid in children.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
    assert until(lambda: not host.ready()) < 1.0
    until(host.ready)
    assert host.client.put(state(revision=2, remote=3), wait=5)["vpcs"]["shop"]["enforced"] == 2


@pytest.mark.alone
def test_ovsdb_cut(host: AgentHost) -> None:
    host.start()
    host.plug("shop", 1)
    host.client.put(state(), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    before = host.flows()
    pid = host.ovs.ovsdb_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not host.client.host()["connected"]["ovsdb"]) < 1.0
    # Without its database ovs-vswitchd answers no OpenFlow either (vswitchd/bridge.c, bridge_run).
    answer = host.client.put(state(revision=2, remote=2), wait=2)
    assert answer["vpcs"]["shop"]["enforced"] != 2
    assert answer["reason"]
    host.ovs.start_ovsdb()
    until(lambda: host.client.vpcs()["shop"]["enforced"] == 2)
    until(host.ready)
    assert set(before) < set(host.flows()), "what was known of the ports stayed in force"
    host.ovs.vsctl("--timeout=5", "del-port", "shop-1")
    until(lambda: host.client.port("shop", "p1")["bound"] is False)
    until(host.ready)


@pytest.mark.alone
def test_vswitchd_killed_and_restarted_with_other_port_numbers(host: AgentHost) -> None:
    host.start()
    host.plug("shop", 1)
    host.client.put(state(), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    host.ovs.stop_vswitchd(signal.SIGKILL)
    assert until(lambda: not host.client.host()["connected"]["openflow"]) < 1.0
    assert host.client.vpcs()["shop"]["enforced"] is None
    answer = host.client.put(state(revision=2, remote=5), wait=0.2)
    assert "no OpenFlow connection" in answer["reason"]
    host.ovs.vsctl("--no-wait", "set", "interface", "shop-1", "ofport_request=77")
    host.ovs.start_vswitchd()
    until(host.ready)
    until(lambda: host.client.port("shop", "p1")["ofport"] == 77)
    until(lambda: any("in_port=77" in line for line in host.flows()))
    assert host.client.vpcs()["shop"]["enforced"] == 2
    assert len(host.flows()) == host.client.host()["flows"]


@pytest.mark.alone
def test_hanging_vswitchd_is_noticed(host: AgentHost) -> None:
    host.start()
    pid = host.ovs.vswitchd_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        assert until(lambda: not host.client.host()["connected"]["openflow"]) < 1.3
    finally:
        os.kill(pid, signal.SIGCONT)
    until(host.ready)


def test_replugged_port(host: AgentHost) -> None:
    host.start()
    host.client.put(state(), wait=5)
    assert host.client.port("shop", "p1")["reason"].startswith("no interface on br-int")
    host.plug("shop", 1, "first", ofport=11)
    until(lambda: host.client.port("shop", "p1")["ofport"] == 11)
    until(lambda: any("in_port=11" in line for line in host.flows()))
    host.ovs.vsctl("del-port", "first")
    until(lambda: not any("in_port=11" in line for line in host.flows()))
    host.plug("shop", 1, "second", ofport=12)
    until(lambda: any("in_port=12" in line for line in host.flows()))


def test_port_of_another_host_is_reported_and_not_bound(host: AgentHost) -> None:
    host.start()
    host.client.put(state(), wait=5)
    before = host.flows()
    host.plug("shop", 2, "stray")
    until(lambda: host.client.host()["misplaced"])
    assert host.client.host()["misplaced"] == [{"port": "shop/p2", "interface": "stray", "declared_host": "hv2"}]
    assert host.client.port("shop", "p2")["reason"] == "declared on hv2, and plugged here"
    assert host.flows() == before
    assert "declared on hv2: not bound" in host.log.read_text()


def test_drift_is_repaired_and_reported(host: AgentHost) -> None:
    host.start("--audit-interval", "0.5")
    host.client.put(state(remote=5), wait=5)
    before = host.flows()
    host.ovs.ofctl("del-flows", "br-int", "table=40")
    host.ovs.ofctl("add-flow", "br-int", "cookie=0x7,table=50,priority=5,actions=drop")
    ours = "cookie=0x4f56000000000001,table=40,priority=77,ip,actions=NORMAL"
    host.ovs.ofctl("add-flow", "br-int", ours)
    until(lambda: host.client.host()["repairs"] > 0)
    until(lambda: len(host.flows()) == len(before) + 1)
    assert [line for line in host.flows() if "cookie=0x7," not in line] == before, "others' flows are left alone"
    assert "drift in the switch" in host.log.read_text()


def test_log_lines_name_what_they_are_about(host: AgentHost) -> None:
    """As JSON: a refused object, a port that is plugged elsewhere, drift."""
    host.start("--log-json", "--audit-interval", "0.5")
    host.client.put(state(remote=5), wait=5)
    host.plug("shop", 2, "stray")
    host.ovs.ofctl("del-flows", "br-int", "table=40")
    until(lambda: host.client.host()["repairs"] > 0)
    until(lambda: host.client.host()["misplaced"])
    until(host.ready)
    limit(host, 40, sum("table=40," in line for line in host.flows()))
    assert host.client.put(state(revision=2, remote=9), wait=5)["reason"]
    lines = [msgspec.json.decode(line) for line in host.log.read_text().splitlines()]
    assert {line["host"] for line in lines} == {"hv1"}

    def found(words: str) -> list[tuple[str, str]]:
        return [(one["vpc"], one["object"]) for one in lines if words in one["message"] and "vpc" in one]

    assert set(found("not bound")) == {("shop", "vpcs.shop.ports.p2")}
    assert ("shop", "vpcs.shop.ports.p3") in found("drift in the switch")
    held = found("is held at its last good flows")
    assert held
    assert all(vpc == "shop" and path.startswith("vpcs.shop.ports.p") for vpc, path in held)


def limit(host: AgentHost, table: int, flows: int | None) -> None:
    """Let a table of the switch take no more than so many flows."""
    if flows is None:
        host.ovs.vsctl("clear", "bridge", "br-int", "flow_tables")
    else:
        host.ovs.vsctl(
            *("--", "--id=@t", "create", "flow_table", f"flow_limit={flows}", "overflow_policy=refuse"),
            *("--", "set", "bridge", "br-int", f"flow_tables:{table}=@t"),
        )


def test_refused_flow_is_confined_to_its_vpc(host: AgentHost) -> None:
    host.start("--audit-interval", "300")
    host.plug("shop", 1)
    host.plug("club", 1)
    host.client.put(state("shop"), wait=5)
    host.client.put(state("club", vni=6001), wait=5)
    until(lambda: host.client.port("club", "p1")["enforced"])
    good = host.flows()
    table = [line for line in good if "table=40," in line]
    limit(host, 40, len(table) + 4)
    answer = host.client.batch(
        [
            {"op": "put", "vpc": "shop", "body": state("shop", 2, remote=30)},
            {"op": "put", "vpc": "club", "body": state("club", 2, vni=6001, remote=2)},
        ],
        wait=5,
    )
    assert answer["vpcs"]["club"] == {"revision": 2, "enforced": 2, "held": None}
    assert answer["vpcs"]["shop"]["revision"] == 2
    assert answer["vpcs"]["shop"]["enforced"] == 1
    hold = host.client.vpcs()["shop"]["held"]
    assert hold["path"].startswith("vpcs.shop.ports.p")
    assert "net=5001" in hold["flow"]
    assert not host.client.ready()["ready"]
    net = "=0x1389"  # 5001
    assert [line for line in host.flows() if net in line] == [line for line in good if net in line]

    limit(host, 40, None)
    answer = host.client.put(state("shop", 3, remote=31), wait=5)
    assert answer["vpcs"]["shop"] == {"revision": 3, "enforced": 3, "held": None}
    assert host.client.ready()["ready"]


def test_vpc_waits_for_a_held_one_that_has_its_vni(host: AgentHost) -> None:
    host.start("--audit-interval", "300")
    host.plug("shop", 1)
    host.client.put(state("shop"), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    good = host.flows()
    limit(host, 40, len([line for line in good if "table=40," in line]) + 4)
    give = {"op": "put", "vpc": "shop", "body": state("shop", 2, vni=7001, remote=30)}
    take = {"op": "put", "vpc": "club", "body": state("club", vni=5001)}
    answer = host.client.batch([give, take], wait=5)
    assert "refused" in answer["vpcs"]["shop"]["held"]
    assert answer["vpcs"]["club"]["held"].startswith("waits for VPC shop")
    assert host.flows() == good, "no tenant gets another's flows"
    limit(host, 40, None)
    host.client.put(state("shop", 3, vni=7001), wait=5)
    assert {name: vpc["enforced"] for name, vpc in host.client.vpcs().items()} == {"shop": 3, "club": 1}
    assert len(host.flows()) == host.client.host()["flows"]


def test_vpc_waits_for_a_held_one_that_has_the_number_of_a_routed_domain(host: AgentHost) -> None:
    host.start("--audit-interval", "300")
    host.plug("shop", 1)
    host.client.put(routed(state("shop"), 9001), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    good = host.flows()
    limit(host, 40, len([line for line in good if "table=40," in line]) + 4)
    give = {"op": "put", "vpc": "shop", "body": routed(state("shop", 2, remote=30), 9002)}
    take = {"op": "put", "vpc": "club", "body": state("club", vni=9001)}
    answer = host.client.batch([give, take], wait=5)
    assert answer["vpcs"]["club"]["held"].startswith("waits for VPC shop")
    assert host.flows() == good
    limit(host, 40, None)
    host.client.put(routed(state("shop", 3), 9002), wait=5)
    assert {name: vpc["enforced"] for name, vpc in host.client.vpcs().items()} == {"shop": 3, "club": 1}


def routed(one: VpcState, vni: int) -> VpcState:
    """The same with a router of that number."""
    return msgspec.structs.replace(one, routers={"edge": Router(networks=("n",), vni=vni)})


def test_foreign_bridge_ends_the_agent_with_one_line(host: AgentHost) -> None:
    host.ovs.vsctl("add-br", "br-int", "--", "set-controller", "br-int", "tcp:127.0.0.1:6653")
    done = subprocess.run(host.argv(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("ovsnet-agent: bridge br-int belongs to somebody else")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--vtep", "nonsense"], "--vtep nonsense: not an IP address"),
        (["--host", "HV 1"], "--host HV 1: no name of a host"),
        (["--ovsdb", "tcp:127.0.0.1:6640"], "Give --openflow"),
        (["--state-dir", "/proc/nowhere"], "state directory /proc/nowhere"),
        (["--run-dir", "/tmp/" + "x" * 120], "too long for a socket"),
        (["--audit-interval", "0"], "more than 0"),
    ],
)
def test_mistakes_on_the_command_line(host: AgentHost, arguments: list[str], message: str) -> None:
    done = subprocess.run([*host.argv(), *arguments], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_second_agent_is_refused(host: AgentHost) -> None:
    host.start()
    done = subprocess.run(host.argv(), capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "another agent runs in" in done.stderr
    other = [*host.argv(), "--run-dir", str(host.dir / "run2")]
    done = subprocess.run(other, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2
    assert "is in use by another agent" in done.stderr
    assert host.client.ready()["ready"]


def test_port_that_was_there_before_the_agent(host: AgentHost) -> None:
    host.start()
    host.client.put(state(), wait=5)
    host.end()
    host.plug("shop", 1)
    host.start()
    assert host.client.port("shop", "p1")["enforced"]
    assert host.client.port("shop", "p1")["id"] == port_id("shop", "p1")


def test_agent_before_the_switch(host: AgentHost) -> None:
    host.ovs.stop()
    host.start(ready=False)
    until(Path(host.client.address).exists)
    answer = host.client.put(state(revision=3), wait=0.1)
    assert answer["vpcs"]["shop"] == {"revision": 3, "enforced": None, "held": None}
    assert answer["reason"]
    assert "no OVSDB connection" in " ".join(host.client.ready()["reasons"])
    host.ovs.start()
    until(host.ready)
    assert host.client.vpcs()["shop"]["enforced"] == 3


def test_full_disk(host: AgentHost) -> None:
    disk = host.dir / "state"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=True)
    try:
        host.start()
        host.client.put(state("club", vni=6001), wait=5)
        with pytest.raises(AgentError, match="No space left") as caught:
            host.client.put(state(remote=2000), wait=5)
        assert (caught.value.status, caught.value.code) == (507, "not-stored")
        until(lambda: host.client.vpcs()["shop"]["enforced"] == 1)  # it is in force all the same
        assert host.client.host()["warnings"] == ["not on disk: shop"]
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        host.client.put(state("club", 2, vni=6001, remote=2), wait=5)
        assert host.client.host()["warnings"] == []
        host.end(signal.SIGKILL)
        host.start()
        assert {name: vpc["enforced"] for name, vpc in host.client.vpcs().items()} == {"club": 2, "shop": 1}
    finally:
        assert host.process is not None
        host.process.kill()
        host.process.wait()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_damaged_file_costs_one_vpc_and_is_reported(host: AgentHost) -> None:
    host.start()
    host.client.put(state(), wait=5)
    host.client.put(state("club", vni=6001), wait=5)
    host.end()
    path = host.dir / "state" / "vpcs" / "shop.vpc"
    path.write_bytes(path.read_bytes()[:100])
    host.start()
    assert list(host.client.vpcs()) == ["club"]
    assert "shop.vpc is damaged; set aside" in host.client.host()["warnings"][0]


def test_systemd_is_notified_and_logs_may_be_json(host: AgentHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(host.dir / "notify"))
        notify.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(host.dir / "notify"))
        host.start("--log-json")
        assert notify.recv(100) == b"READY=1"
    host.end()
    entries = [msgspec.json.decode(line) for line in host.log.read_bytes().splitlines()]
    assert {"time", "level", "logger", "message"} <= entries[0].keys()
    assert entries[-1]["message"] == "ended; the flows stay in the switch"
    assert not (host.dir / "run" / "agent.sock").exists()
    assert not (host.dir / "run" / "agent.pid").exists()
