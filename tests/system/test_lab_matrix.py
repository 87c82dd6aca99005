"""The matrix: right for a right switch, and red for every kind of wrong one. The flows here are made by hand."""

from __future__ import annotations

import pytest

from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from tests.system.handmade import install, ofport

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
QUICK = {"patience": 0.5, "settle": 0.1}


@pytest.fixture
def lab(bare_lab: Lab) -> Lab:
    install(bare_lab)
    return bare_lab


def change(lab: Lab, host: str, flow: str, command: str = "add-flow") -> None:
    lab.ovs(host).ofctl(command, INTEGRATION, flow)


def test_right_flows_are_as_declared(lab: Lab) -> None:
    result = lab.test()
    assert result.ok, result.as_dict()
    # Six ports to five others, each of two VPCs with three ports to two others of its own.
    assert (len(result.entries), result.allowed) == (30, 12)
    assert result.nowhere == 6 * 4
    assert result.line().startswith("30 of 30 as declared, 12 allowed, 18 forbidden")


def test_a_missing_flow_is_named(lab: Lab) -> None:
    change(lab, "hv2", "tun_id=5001", "del-flows")
    result = lab.test(**QUICK)
    assert {(e.pair.src, e.pair.dst) for e in result.wrong if e.pair.allowed} == {
        ("acme/web1", "acme/web3"),
        ("acme/web2", "acme/web3"),
        ("acme/web3", "acme/web1"),
        ("acme/web3", "acme/web2"),
    }
    assert any("received by nobody instead of acme/web3 (1)" in fault for e in result.wrong for fault in e.faults)


def test_a_wrong_vni_reaches_the_other_tenant(lab: Lab) -> None:
    port = ofport(lab, "hv1", lab.port("acme/web1").tap)
    tunnel = ofport(lab, "hv1", "vxlan0")
    to = f"set_field:5002->tun_id,set_field:172.31.5.12->tun_dst,output:{tunnel}"
    change(lab, "hv1", f"in_port={port},ip,dl_src=02:00:00:00:01:01,dl_dst=02:00:00:00:01:03,actions={to}")
    result = lab.test(**QUICK)
    faults = [fault for e in result.wrong if e.pair.dst == "acme/web3" for fault in e.faults]
    assert any("received by beta/web3 (1) instead of acme/web3 (1)" in fault for fault in faults), result.as_dict()
    assert any("VNI 5002 (1) instead of" in fault for fault in faults)


def test_a_second_copy_is_seen(lab: Lab) -> None:
    one, two = (ofport(lab, "hv1", lab.port(f"acme/web{n}").tap) for n in (1, 2))
    other = ofport(lab, "hv1", lab.port("beta/web2").tap)
    match = f"in_port={one},ip,dl_src=02:00:00:00:01:01,dl_dst=02:00:00:00:01:02,nw_dst=192.168.1.12"
    change(lab, "hv1", f"{match},actions=output:{two},output:{two}")
    result = lab.test(**QUICK)
    assert any("acme/web2 (2) instead of acme/web2 (1)" in fault for e in result.wrong for fault in e.faults)
    change(lab, "hv1", f"{match},actions=output:{two},output:{other}")
    result = lab.test(**QUICK)
    assert any("acme/web2 (1), beta/web2 (1) instead" in fault for e in result.wrong for fault in e.faults)


def test_flooding_an_unknown_destination_is_seen_at_workloads_and_on_the_wire(lab: Lab) -> None:
    port = ofport(lab, "hv1", lab.port("acme/web1").tap)
    tunnel, other = ofport(lab, "hv1", "vxlan0"), ofport(lab, "hv1", lab.port("acme/web2").tap)
    to = f"output:{other},set_field:5001->tun_id,set_field:172.31.5.12->tun_dst,output:{tunnel}"
    change(lab, "hv1", f"priority=1,in_port={port},ip,actions={to}")
    result = lab.test(**QUICK)
    assert {(e.pair.src, e.pair.dst) for e in result.wrong} == {("acme/web1", "beta/web1")}  # its own address
    assert any("acme/web1 to an undeclared MAC: received by acme/web2 (1) instead of nobody" in s for s in result.stray)
    assert any("on the wire 10.0.0.11 to 172.31.5.12 VNI 5001 (1) instead of nowhere" in s for s in result.stray)


def test_a_wrong_answer_to_arp_is_seen(lab: Lab) -> None:
    port = ofport(lab, "hv1", lab.port("acme/web1").tap)
    change(lab, "hv1", f"in_port={port},arp,arp_op=1,arp_tpa=192.168.1.13", "del-flows")
    result = lab.test(**QUICK)
    faults = {(e.pair.src, e.pair.dst): e.faults for e in result.wrong}
    assert "no echo came back" in faults["acme/web1", "acme/web3"]
    assert "asked for 192.168.1.13, was told nothing instead of 02:00:00:00:01:03" in faults["acme/web1", "acme/web3"]


def test_a_frame_of_no_declared_network_on_the_wire_is_seen(lab: Lab) -> None:
    port, tunnel = ofport(lab, "hv1", lab.port("acme/web1").tap), ofport(lab, "hv1", "vxlan0")
    to = f"set_field:77->tun_id,set_field:172.31.5.12->tun_dst,output:{tunnel}"
    change(lab, "hv1", f"in_port={port},arp,arp_op=1,arp_tpa=192.168.1.12,priority=40000,actions={to}")
    result = lab.test(**QUICK)
    assert any("10.0.0.11 to 172.31.5.12, VNI 77:" in unknown for unknown in result.unknown), result.as_dict()
