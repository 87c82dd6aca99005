"""The benchmarks' cloud: everybody is interested in what the shape says, and the same shape is the same cloud."""

from __future__ import annotations

import pytest

from benchmarks.scenario import Scenario, Shape


def test_hosts_and_vpcs_are_dealt_evenly() -> None:
    scenario = Scenario(Shape(hosts=50, vpcs_per_host=5, hosts_per_vpc=5))
    assert len(scenario.vpcs) == 50
    assert {len(set(hosts)) for hosts in scenario.interested.values()} == {5}
    assert {len(vpcs) for vpcs in scenario.vpcs_of.values()} == {5}


def test_the_same_shape_is_the_same_cloud_and_another_seed_another() -> None:
    shape = Shape(hosts=20)
    assert Scenario(shape).interested == Scenario(shape).interested
    assert list(Scenario(shape).changes(30)) == list(Scenario(shape).changes(30))
    assert Scenario(shape).interested != Scenario(Shape(hosts=20, seed=2)).interested


def test_a_state_holds_what_a_host_is_told_and_endpoints_are_elsewhere() -> None:
    scenario = Scenario(Shape(hosts=10, endpoints_per_vpc=7, far_hosts=3))
    vpc = scenario.vpcs[0]
    state = scenario.state(vpc)
    own = {port.host for port in state.ports.values()} - set(scenario.far_hosts)
    assert own == set(scenario.interested[vpc])
    assert len(state.ports) == 7 + len(own)
    assert {str(port.host) for port in state.ports.values()} <= set(state.hosts)


def test_no_mac_is_used_twice_in_the_cloud_and_changes_add_new_ports() -> None:
    scenario = Scenario(Shape(hosts=10, endpoints_per_vpc=20))
    macs = [port.mac for vpc in scenario.vpcs for port in scenario.state(vpc).ports.values()]
    changes = list(scenario.changes(50))
    macs += [port.mac for _vpc, _name, port in changes]
    assert len(macs) == len(set(macs)) == 10 * 25 + 50
    for vpc, name, _port in changes:
        assert name not in scenario.state(vpc).ports


def test_hosts_that_cannot_be_dealt_are_refused() -> None:
    with pytest.raises(ValueError, match="7 hosts cannot be dealt to VPCs of 5 hosts each"):
        Shape(hosts=7)
