"""A host of the lab without power, and with it again: what is gone is gone, what was on its disk is there."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from ovsnet.agent.client import AgentClient, AgentUnreachable
from ovsnet.errors import UserError
from ovsnet.lab import netns
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.topology import Transport
from ovsnet.model import Model
from tests.agent_kit import until
from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]


def test_a_host_without_power_and_with_it_again(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name)
    spec = lab.host("hv1")
    boot = (Path(spec.run_dir) / "boot-id").read_text()
    with netns.inside(lab.port("acme/web1").netns):
        guest = subprocess.Popen(["sleep", "1000"])
    pids = [value for key, value in lab.status()["hosts"]["hv1"].items() if key.endswith("_pid")]
    with (netns.NETNS_DIR / spec.netns).open():  # the kernel is late with what is left of the host
        lab.power_off("hv1")
        assert not any(netns.alive(pid) for pid in [guest.pid, *pids]), "the guests of a host end with it"
        assert not netns.has_interface(lab.port("acme/web1").netns, "eth0")
        assert not netns.has_interface(lab.topology.underlay, spec.uplink)
    status = lab.status()
    assert status["problems"] == ["hv1: the host does not run"]
    assert lab.host("hv2") and status["hosts"]["hv2"]["dead"] == []
    with pytest.raises(UserError, match="hv2 has power"):
        lab.power_on("hv2")

    lab.power_on("hv1")
    with lab.agent("hv1") as agent:
        until(lambda: _answers(agent) and all("not confirmed" in port["reason"] for port in agent.ports()), timeout=20)
        agent.confirm()
    assert lab.wait_enforced(20) == []
    lab.warm()
    assert (Path(spec.run_dir) / "boot-id").read_text() != boot
    assert len(lab.ovs("hv1").ofctl("dump-flows", INTEGRATION).splitlines()) > 20
    result = lab.test()
    assert result.ok, result.as_dict()
    assert lab.status()["healthy"], lab.status()["problems"]
    lab.down()
    assert left_of(lab_name) == []


@pytest.mark.parametrize("transport", ["controller", pytest.param("nats", marks=pytest.mark.slow)])
def test_a_controller_confirms_what_is_still_placed(lab_name: str, cloud: Model, transport: Transport) -> None:
    lab = Lab.up(cloud, lab_name, transport=transport)
    lab.kill_controller()
    lab.power_off("hv1")
    lab.power_on("hv1")
    with lab.agent("hv1") as agent:
        until(lambda: _answers(agent) and all("not confirmed" in port["reason"] for port in agent.ports()), timeout=20)
    lab.start_controller()
    assert lab.wait_enforced(20) == [], "nothing has changed, and its ports are up again"


def _answers(agent: AgentClient) -> bool:
    with contextlib.suppress(AgentUnreachable):
        return bool(agent.ready())
    return False


def test_a_lab_without_a_controller_says_so(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name, agents=False)
    for ask in (lab.controller, lab.kill_controller, lab.start_nats, lambda: lab.partition("hv1")):
        with pytest.raises(UserError, match="Bring one up with --transport"):
            ask()
    with pytest.raises(UserError, match="has transport direct: take it down before"):
        Lab.up(cloud, lab_name, transport="controller")


def test_no_nats_server(lab_name: str, cloud: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", os.pathsep.join(["/bin-that-is-not-there"]))
    with pytest.raises(UserError, match=r"nats-server is not installed\. Install it \(apt install nats-server\)"):
        Lab.up(cloud, lab_name, transport="nats")
    assert left_of(lab_name) == []
