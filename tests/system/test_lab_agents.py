"""From a model to packets, with real agents: the matrix of every example, changes, and what dies meanwhile."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import pytest

from ovsnet.lab.lab import Lab
from ovsnet.lab.traffic import Traffic
from ovsnet.model import Lock, Model, assign, load
from tests.system.test_lab_lifecycle import left_of, with_ports

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
EXAMPLES = Path(__file__).parents[2] / "examples/models"


def example(name: str) -> Model:
    return assign(load([EXAMPLES / f"{name}.yaml"]), Lock())[0]


@pytest.mark.parametrize("name", ["two-hosts", "same-addresses", "ipv6-only", "demo", "twenty-hosts"])
def test_every_example_is_as_declared(lab_name: str, name: str) -> None:
    lab = Lab.up(example(name), lab_name)
    result = lab.test()
    assert result.ok, result.as_dict()
    assert result.allowed > 0
    status = lab.status()
    assert status["healthy"], status["problems"]
    for host in status["hosts"].values():
        assert {"agent_pid", "vswitchd_pid", "run_dir", "revision"} <= set(host)
    lab.down()
    assert left_of(lab_name) == []


def test_a_change_reaches_whom_it_concerns(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name)
    before = lab.status()["hosts"]
    web3 = cloud.vpcs["acme"].ports["web3"]
    moved = msgspec.structs.replace(web3, host="hv1", ips=("192.168.1.30",))
    lab = Lab.up(with_ports(cloud, "acme", web3=moved, web2=None), lab_name)
    assert lab.test().ok
    after = lab.status()["hosts"]
    assert after["hv1"]["vpcs"]["acme"] == {"revision": 2, "enforced": 2}
    assert after["hv1"]["vpcs"]["beta"] == {"revision": 1, "enforced": 1}
    assert "acme" not in after["hv2"]["vpcs"], "a host without a port of a VPC holds nothing of it"
    assert [host["agent_pid"] for host in after.values()] == [host["agent_pid"] for host in before.values()]
    assert Lab.up(lab.model, lab_name).status()["hosts"] == after, "no change, nothing done"


def test_what_died_is_started_again_and_enforced(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name)
    lab.kill_agent("hv1")
    lab.ovs("hv2").stop_vswitchd(9)
    assert lab.status()["problems"] == ["hv1: agent does not run", "hv2: ovs-vswitchd does not run"]
    lab = Lab.up(cloud, lab_name)
    assert lab.status()["healthy"], lab.status()["problems"]
    assert lab.test().ok


@pytest.mark.alone
def test_an_agent_killed_under_traffic_loses_nothing(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name)
    pairs = [("acme/web1", "acme/web3"), ("acme/web3", "acme/web1")]
    forbidden = ("acme/web1", "beta/web1")
    with Traffic(lab, [*pairs, forbidden]) as traffic:
        time.sleep(0.3)
        lab.kill_agent("hv1")
        time.sleep(0.3)
        lab.start_agent("hv1")
        assert lab.wait_enforced(20) == []
        time.sleep(0.2)
    for pair in pairs:
        counts = traffic.counts[pair]
        assert counts.sent > 50
        assert (counts.lost, counts.doubled, counts.elsewhere) == (0, 0, 0)
    assert traffic.counts[forbidden].received == 0


def test_traffic_tells_losses_copies_and_leaks(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name)
    pair = ("acme/web1", "acme/web2")
    tap = {
        name: lab.ovs("hv1").vsctl("get", "Interface", lab.port(name).tap, "ofport").strip()
        for name in lab.topology.workloads
        if lab.port(name).host == "hv1"
    }
    match = f"table=0,priority=40000,in_port={tap['acme/web1']},udp"
    with Traffic(lab, [pair]) as traffic:
        time.sleep(0.2)
        for actions in ("drop", f"output:{tap['acme/web2']},output:{tap['acme/web2']}", f"output:{tap['beta/web1']}"):
            lab.ovs("hv1").ofctl("add-flow", "br-int", f"{match},actions={actions}")
            time.sleep(1.5)
    counts = traffic.counts[pair]
    assert counts.lost > 100
    assert counts.longest_gap > 50
    assert counts.doubled > 30
    assert counts.elsewhere > 30
