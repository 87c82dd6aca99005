"""The harness itself, before any compiler: a few flows written by hand, and proof that it sees what is wrong."""

from __future__ import annotations

import pytest

from ovsnet.lab.expectation import Frame
from ovsnet.model.types import Host, Model, Network, Port, Subnet, Vpc
from tests.property import packets as p
from tests.property.harness import VTEPS, Cloud, DummySwitch, Facts
from tests.property.reference import Case, run

MACS = {"a": "02:00:00:00:00:0a", "b": "02:00:00:00:00:0b", "c": "02:00:00:00:00:0c"}
IPS = {"a": "10.0.0.11", "b": "10.0.0.12", "c": "10.0.0.13"}
HOSTS = {"a": "hv1", "b": "hv2", "c": "hv1"}
VNI = 5001


def small_model(family: int) -> Model:
    ports = {n: Port(network="net", host=HOSTS[n], mac=MACS[n], ips=(IPS[n],)) for n in MACS}
    networks = {"net": Network(vni=VNI, subnets=(Subnet(cidr="10.0.0.0/24"),))}
    hosts = {host: Host(vtep=VTEPS[host][family == 6]) for host in ("hv1", "hv2")}
    return Model(name="small", hosts=hosts, vpcs={"v": Vpc(networks=networks, ports=ports)})


def install_by_hand(switch: DummySwitch, model: Model, facts: Facts) -> None:
    """Unicast by MAC, and an ARP answer for each address: no port security."""
    destination = "tun_ipv6_dst" if ":" in facts.vtep else "tun_dst"
    flows = []
    for name, mac in MACS.items():
        ip, host = IPS[name], HOSTS[name]
        flows.append(
            f"priority=20,arp,arp_op=1,arp_tpa={ip},actions=move:eth_src->eth_dst,set_field:{mac}->eth_src,"
            f"set_field:2->arp_op,move:arp_sha->arp_tha,set_field:{mac}->arp_sha,move:arp_spa->arp_tpa,"
            f"set_field:{ip}->arp_spa,in_port"
        )
        if host == facts.host:
            flows.append(f"priority=10,ip,dl_dst={mac},nw_dst={ip},actions=output:{facts.ofports[f'v/{name}']}")
        else:
            tunnel = f"set_field:{VNI}->tun_id,set_field:{model.hosts[host].vtep}->{destination}"
            flows.append(f"priority=10,ip,dl_dst={mac},actions={tunnel},output:{facts.tunnel_ofport}")
    switch.ofctl("replace-flows", "br-int", "-", stdin="\n".join(flows).encode())


def unicast(src: str, dst: str) -> Case:
    payload = p.ipv4(IPS[src], IPS[dst], p.udp())
    return Case(f"UDP to {dst}", Frame(f"v/{src}", p.ethernet(MACS[dst], MACS[src], p.IPV4, payload)))


def request(src: str, dst: str) -> Case:
    body = p.arp(1, MACS[src], IPS[src], p.NO_MAC, IPS[dst])
    return Case(f"ARP for {dst}", Frame(f"v/{src}", p.ethernet(p.BROADCAST, MACS[src], p.ARP, body)))


HONEST = [unicast(s, d) for s in MACS for d in MACS if s != d] + [request(s, d) for s in MACS for d in MACS if s != d]


@pytest.mark.parametrize("family", [4, 6])
def test_honest_frames_go_where_they_must_over_either_underlay(cloud: Cloud, family: int) -> None:
    model = small_model(family)
    cloud.load(model, install_by_hand)
    assert run(cloud, model, HONEST) == []


@pytest.mark.parametrize(
    ("host", "change", "complaint"),
    [
        ("hv1", ("mod-flows", "ip,dl_dst={b},actions=set_field:6->tun_id,set_field:10.99.0.2->tun_dst,{T}"), "5001"),
        ("hv1", ("mod-flows", "ip,dl_dst={c},actions=output:{a},{a_and_c}"), "instead of ['v/c']"),
        ("hv1", ("mod-flows", "ip,dl_dst={c},actions=all"), "instead of ['v/c']"),
        ("hv1", ("mod-flows", "ip,dl_dst={c},actions=dec_ttl,output:{c_port}"), "changed on the way"),
        ("hv2", ("del-flows", "ip,dl_dst={b}"), "instead of ['v/b']"),
        ("hv1", ("mod-flows", "arp,arp_tpa=10.0.0.12,actions=in_port"), "no ARP reply"),
        ("hv1", ("del-flows", "arp,arp_tpa=10.0.0.12"), "instead of one answer"),
    ],
)
def test_a_wrong_switch_is_seen(cloud: Cloud, host: str, change: tuple[str, str], complaint: str) -> None:
    model = small_model(4)
    cloud.load(model, install_by_hand)
    facts = cloud.facts(model, host)
    numbers = {name: facts.ofports.get(f"v/{name}", 0) for name in MACS}
    words = {
        **MACS,
        "T": f"output:{facts.tunnel_ofport}",
        "a_and_c": f"output:{numbers['c']}",
        "c_port": str(numbers["c"]),
    }
    command, flow = change
    text = flow.replace("output:{a}", f"output:{numbers['a']}").format(**words)
    cloud.switches[host].ofctl(command, "br-int", text)
    cloud.forget()
    problems = run(cloud, model, HONEST)
    assert any(complaint in problem for problem in problems), problems
