"""``lab test`` can fail: one compiled flow made wrong on one host, and the matrix is red; put back, and it is green."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from tests.system.conftest import loaded, temporary_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MODEL = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
x-subnets: &subnets [{cidr: 10.1.0.0/24}, {cidr: "2001:db8:1::/64"}]
x-ports: &ports
  a: {network: n, host: hv1, mac: "02:00:00:00:00:0a"}
  b: {network: n, host: hv1, mac: "02:00:00:00:00:0b"}
  c: {network: n, host: hv2, mac: "02:00:00:00:00:0c"}
vpcs:
  red: {networks: {n: {vni: 5001, subnets: *subnets}}, ports: *ports}
  blue: {networks: {n: {vni: 5002, subnets: *subnets}}, ports: *ports}
"""
RED, BLUE = "reg0=0x1389/", "reg0=0x138a/"
# The flow of hv1 that is made wrong, what in it, and by what; None deletes the flow.
WRONG = {
    "a port's classification deleted": (r"priority=110,in_port=1 actions", None),
    "the tunnel's classification deleted": (r"priority=100,tun_id=0x1389,", None),
    "a port in the other network": (r"priority=110,in_port=1 actions", (r"0x1389->NXM_NX_REG0", "0x138a->NXM_NX_REG0")),
    "a tunnel frame in the other network": (r"priority=100,tun_id=0x1389,", ("0x1389->NXM", "0x138a->NXM")),
    "a sender's IPv4 deleted": (r"table=10,.*,ip,in_port=1,.*nw_src=10.1", None),
    "a sender's IPv6 deleted": (r"table=10,.*,ipv6,in_port=1,.*ipv6_src=2001", None),
    "a sender's MAC wrong": (r"table=10,.*,ip,in_port=1,.*nw_src=10.1", ("dl_src=02", "dl_src=06")),
    "an answer to ARP deleted": (rf"table=20,.*{RED}.*arp_tpa=10.1.0.\d+,arp_op=1", None),
    "an answer to ARP with another MAC": (rf"table=20,.*{RED}.*arp_tpa=", ("02:00:00:00:00:0.", "02:00:00:00:00:0d")),
    "an answer to a solicitation deleted": (rf"table=30,.*{RED}.*nd_target=2001", None),
    "the option of answers deleted": (r"table=31,.*icmp_type=136", None),
    "a remote MAC deleted": (rf"table=40,.*{RED}.*tun_dst", None),
    "the VNI of the other tenant": (rf"table=40,.*{RED}.*tun_dst", ("0x1389->tun_id", "0x138a->tun_id")),
    "the VTEP of nobody": (rf"table=40,.*{RED}.*tun_dst", ("10.0.0.12->", "10.0.0.99->")),
    "a delivery deleted": (rf"table=50,.*{RED}.*nw_dst", None),
    "a delivery to another port": (rf"table=50,.*{RED}.*nw_dst", (r"0x\w+->NXM_NX_REG8", "0xfffe->NXM_NX_REG8")),
    "a delivery twice": (r"table=56,.*ct_state=.new.trk,ip,", (r"(output:NXM_NX_REG8\[0..15\])", r"\1,\1")),
    "a rule deleted": (r"table=86,.*reg4=0x1/0x1", None),
    "a member deleted": (r"table=82,.*reg15=0xa01", None),
    "unknown destinations flooded": (r"table=50,.*priority=0 ", ("drop", "FLOOD")),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab(loaded(MODEL)) as made:
        assert made.test().ok
        made.kill_agent("hv1")  # which would repair what is made wrong
        yield made


@pytest.fixture
def flows(lab: Lab) -> Iterator[list[str]]:
    """The flows of hv1, as they are put back afterwards."""
    dump = lab.ovs("hv1").ofctl("dump-flows", INTEGRATION, "--no-stats").splitlines()
    yield dump
    write(lab, dump)


def write(lab: Lab, flows: list[str]) -> None:
    """Give hv1 exactly these flows; returns when its datapath's cache follows them."""
    lab.ovs("hv1").ofctl("replace-flows", INTEGRATION, "-", stdin="\n".join(flows).encode())
    lab.ovs("hv1").appctl("revalidator/wait")


@pytest.mark.parametrize("name", WRONG)
def test_one_wrong_flow_turns_the_matrix_red(lab: Lab, flows: list[str], name: str) -> None:
    pattern, change = WRONG[name]
    chosen = next(line for line in flows if re.search(pattern, line))
    others = [line for line in flows if line is not chosen]
    wrong = [re.sub(change[0], change[1], chosen)] if change else []
    assert wrong != [chosen]
    write(lab, others + wrong)
    result = lab.test(patience=0.4, settle=0.1)
    assert not result.ok, chosen


def test_put_back_it_is_green(lab: Lab, flows: list[str]) -> None:
    write(lab, flows)
    result = lab.test()
    assert result.ok, result.as_dict()
