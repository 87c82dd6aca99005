"""The same cloud, told in three ways: by the lab as an orchestrator, by a controller, by a controller over NATS."""

from __future__ import annotations

import time

import msgspec
import pytest

from ovsnet.lab.lab import Lab
from ovsnet.lab.topology import TRANSPORTS, Transport
from ovsnet.model import Model, Port
from tests.agent_kit import until
from tests.system.conftest import two_tenants
from tests.system.faults import World
from tests.system.test_lab_agents import example
from tests.system.test_lab_lifecycle import left_of, with_ports

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_every_packet_goes_as_declared_in_every_mode(lab_name: str, transport: Transport) -> None:
    lab = Lab.up(two_tenants(ipv6=True), lab_name, transport=transport)
    status = lab.status()
    assert status["healthy"], status["problems"]
    assert (
        set(status["control"])
        == {
            "direct": set(),
            "controller": {"controller"},
            "nats": {"controller", "nats-server"},
        }[transport]
    )
    result = lab.test()
    assert result.ok and result.allowed > 0, result.as_dict()
    lab.down()
    assert left_of(lab_name) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_twenty_hosts_in_every_mode(lab_name: str, transport: Transport) -> None:
    lab = Lab.up(example("twenty-hosts"), lab_name, transport=transport)
    result = lab.test()
    assert result.ok and result.allowed > 0, result.as_dict()
    if transport != "direct":
        World(lab).settle()


@pytest.mark.parametrize("transport", [pytest.param("controller", marks=pytest.mark.slow), "nats"])
def test_a_lab_with_a_controller_follows_its_model_and_is_repaired(
    lab_name: str, cloud: Model, transport: Transport
) -> None:
    lab = Lab.up(cloud, lab_name, transport=transport)
    pids = lab.status()["control"]
    changed = with_ports(cloud, "acme", web2=moved(cloud, "192.168.1.44", "hv2"), web3=None)
    lab = Lab.up(changed, lab_name, transport=transport)
    world = World(lab)
    world.settle()
    assert lab.status()["control"] == pids, "what runs goes on"
    assert lab.test().ok
    lab.kill_controller()
    lab.kill_agent("hv1")
    lab.partition("hv2")
    problems = lab.status()["problems"]
    assert set(problems) == {
        "hv1: agent does not run", "hv2: cut off from the control plane", "controller does not run",
    }  # fmt: skip
    lab = Lab.up(changed, lab_name, transport=transport)
    assert lab.status()["healthy"], lab.status()["problems"]
    world.settle()


def test_without_nats_a_change_is_stored_and_not_enforced_and_with_it_again_it_is(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name, transport="nats")
    world = World(lab)
    world.settle()
    before = {host: lab.agent(host).vpcs() for host in lab.topology.hosts}
    lab.kill_nats()
    changed = with_ports(cloud, "acme", web2=moved(cloud, "192.168.1.44", "hv2"))
    answer = world.apply(changed, wait="1s")
    assert answer.status == 202, answer
    assert {"hv1", "hv2"} == set(answer.body["late"]), answer.body
    assert world.state("acme").ports["web2"].host == "hv2", "stored"
    time.sleep(1.0)
    assert {host: lab.agent(host).vpcs() for host in lab.topology.hosts} == before, "and not enforced"
    lab.start_nats()
    world.settle()
    assert lab.agent("hv2").vpc("acme").ports["web2"].host == "hv2"
    until(lambda: not world.call("GET", "/v1/status").body["hosts"]["hv1"]["reason"])


def moved(model: Model, ip: str, host: str) -> Port:
    """The port web2 of acme, with another address, on another host."""
    return msgspec.structs.replace(model.vpcs["acme"].ports["web2"], ips=(ip,), host=host)
