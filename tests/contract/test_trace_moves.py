"""A trace of what is sent to a port that moves, held to the switch's own: two outputs, and a way on behind a tunnel."""

from __future__ import annotations

import pytest

from ovsnet.compiler import compile_states
from ovsnet.facts import Facts
from ovsnet.model.types import Host, Model, Network, Port, Subnet, Vpc
from ovsnet.trace import Place, agrees, questions, trace
from tests.property.compiled import Installer
from tests.property.harness import VTEPS, Cloud
from tests.property.strategies import port_id
from tests.property.world import places, states_of


def moving(family: int) -> Model:
    """A port on hv1 that moves to hv2, and one more on each of three hosts."""
    hosts = {"move": "hv1", "near": "hv1", "there": "hv2", "far": "hv3"}
    ports = {
        name: Port(
            network="n",
            host=host,
            moving_to="hv2" if name == "move" else None,
            mac=f"02:00:00:00:00:0{number}",
            ips=(f"10.0.0.1{number}",),
            id=port_id("v", name),
        )
        for number, (name, host) in enumerate(hosts.items(), 1)
    }
    vpc = Vpc(networks={"n": Network(vni=5001, subnets=(Subnet(cidr="10.0.0.0/24"),))}, ports=ports)
    return Model(name="moving", hosts={h: Host(vtep=VTEPS[h][family == 6]) for h in VTEPS}, vpcs={"v": vpc})


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("source", "where"), [("v/near", "hv1 and hv2"), ("v/there", "hv2 and hv1"), ("v/far", "hv1 and hv2")]
)
def test_the_switch_agrees(cloud: Cloud, install: Installer, family: int, source: str, where: str) -> None:
    model = moving(family)
    cloud.load(model, install)
    at = {}
    for host in model.hosts:
        seen = cloud.facts(model, host)
        ids = {name: port.id for _, on, name, port in places(model) if on == host}
        ofports = {ids[name]: n for name, n in seen.ofports.items()}
        facts = Facts(ofports, seen.tunnel_ofport, zones=ofports)
        at[host] = Place(facts, compile_states(states_of(model, host).values(), host, facts))
    found = trace(model, at, source, "v/move")
    assert (found.delivered, found.reached) == (True, ("v/move",))
    assert found.reason == f"delivered to v/move by ingress_verdict on {where}"
    for hop in found.hops[1:]:
        outputs = [cloud.switches[hop.host].ctl.call(*question) for question in questions(hop, "br-int")]
        assert agrees(hop, outputs), outputs
