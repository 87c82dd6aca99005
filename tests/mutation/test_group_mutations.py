"""Every way in which one flow of a filter can be wrong shows in what becomes of exchanges between filtered ports."""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable
from functools import partial

import msgspec
import pytest

from ovsnet.model.types import Host, Model, Network, Port, Remote, Rule, SecurityGroup, Subnet, Vpc
from ovsnet.pipeline.tables import CLASSIFY, DELIVER
from tests.mutation.bench import FILTERS, Bench, Hidden, judge
from tests.mutation.mutants import Mutant
from tests.property import packets as p
from tests.property.compiled import Installer
from tests.property.exchanges import everything
from tests.property.harness import VTEPS, Cloud
from tests.property.reference import run
from tests.property.strategies import port_id

SUBNETS = (Subnet(cidr="10.0.0.0/24"), Subnet(cidr="2001:db8:1::/64"))
DPORTS = {
    p.TCP: (443, 22, 8000, 8004, 8007, 8008),
    p.UDP: (80, 79, 443, 442),
    p.ICMP: (0,),
    p.ICMPV6: (0,),
    p.SCTP: (80, 82),
    47: (0,),
}
KINDS = ("deleted", "wider mask", "wrong value", "left out", "permitted", "priority")
SAMPLE = 3
"""So many ways of each kind are tried, but in the slow test."""
LEAST = {"permitted": 5}
"""So many ways of a kind must be found, six of the others: only so many flows of filters drop what frames here show."""
CONCERNED = FILTERS | {CLASSIFY.id, DELIVER.id}
"""Tables in which ports' filters are chosen, and those of filters alone."""
CHUNK = 400

RULES = {
    "app": (
        Rule(direction="egress", protocol="tcp", port="8000-8005", remote=Remote(group="srv")),
        Rule(direction="egress", protocol="tcp", port="8000-8009", ethertype="ipv6", remote=Remote(group="less")),
        Rule(direction="egress", protocol="tcp", port=443),
        Rule(direction="egress", protocol="tcp", port=8007, remote=Remote(cidr="10.0.0.13/32")),
        Rule(direction="egress", protocol="udp", remote=Remote(cidr="10.0.0.12/30")),
        Rule(direction="egress", protocol="udp", ethertype="ipv6", port=(80, 443)),
        Rule(direction="egress", protocol="icmp", remote=Remote(cidr="10.0.0.16/32"), action="drop", priority=1),
        Rule(direction="egress", protocol="icmp", type=8),
        Rule(direction="egress", protocol="icmpv6", type=128, code=0),
        Rule(direction="egress", protocol="sctp", port="80-82"),
        Rule(direction="egress", protocol=47, remote=Remote(address_group="near")),
        Rule(direction="ingress", protocol="tcp", port=22),
    ),
    "srv": (
        Rule(direction="ingress", protocol="tcp", remote=Remote(group="app"), priority=500),
        Rule(direction="ingress", protocol="tcp", port=8004, action="drop", priority=1),
        Rule(direction="ingress", protocol="udp", port="80-443", remote=Remote(address_group="near")),
        Rule(direction="ingress", protocol="icmp", type=8, code=0),
        Rule(direction="ingress", protocol="icmpv6"),
        Rule(direction="ingress", protocol="sctp", port="80-81", remote=Remote(group="app")),
        Rule(direction="ingress", protocol=47),
        Rule(direction="ingress", ethertype="ipv6", protocol="tcp", port=443, remote=Remote(cidr="fe80::/10")),
    ),
    "less": (
        Rule(direction="ingress", protocol="tcp", port="8000-8007", remote=Remote(group="app")),
        Rule(direction="ingress", protocol="udp", port=80),
        Rule(direction="ingress", protocol="icmp", type=8),
        Rule(direction="ingress", protocol="icmpv6", type=128),
        Rule(direction="ingress", protocol="sctp", port=80),
        Rule(direction="ingress", protocol=47),
        Rule(direction="egress", protocol="tcp", port="40000-40001"),
        Rule(direction="egress", protocol="tcp", port=443, remote=Remote(group="srv")),
        Rule(direction="egress", protocol="udp", port=443, remote=Remote(cidr="10.0.0.14/31")),
        Rule(direction="egress", protocol="udp", port=443, remote=Remote(cidr="10.0.0.16/31")),
        Rule(direction="egress", protocol="udp", port=443, ethertype="ipv6"),
        Rule(direction="egress", protocol="icmp", type=8, remote=Remote(cidr="10.0.0.12/30")),
        Rule(direction="egress", protocol="icmpv6", type=128),
        Rule(direction="egress", protocol=47, remote=Remote(group="srv")),
    ),
}  # fmt: skip
MEMBERS = ("app", "srv", "less", "srv", "app", "less")
"""The groups of the ports; the first three are on the host whose flows are made wrong."""


def filtered() -> Model:
    """Ports with every kind of rule, on the host whose flows are made wrong and on another."""
    groups = {n: SecurityGroup(rules=r, default_egress="deny", stateful=n != "less") for n, r in RULES.items()}
    near = ("10.0.0.8/30", "10.0.0.13/32", "2001:db8:1::10/126", "fe80::/64")
    free = msgspec.structs.replace(_port(6, ""), host="hv1", port_security=False, security_groups=None)
    vpc = Vpc(
        networks={"web": Network(vni=0x1390, subnets=SUBNETS)},
        ports={f"f{number}": _port(number, group) for number, group in enumerate(MEMBERS)} | {"free": free},
        security_groups=groups,
        address_groups={"near": near},
    )
    hosts = {host: Host(vtep=VTEPS[host][0]) for host in ("hv1", "hv2")}
    return Model(name="filtered", hosts=hosts, vpcs={"green": vpc})


def _port(number: int, group: str) -> Port:
    return Port(
        network="web",
        host="hv1" if number < 3 else "hv2",
        mac=f"02:00:00:00:00:1{number}",
        ips=(f"10.0.0.{11 + number}", f"2001:db8:1::{11 + number}"),
        id=port_id("green", f"f{number}"),
        security_groups=(group,),
    )


HIDDEN = (
    Hidden(KINDS, r"controller\(", "nobody takes the copies for the agent here"),
    Hidden(KINDS, r"\[32: 300,icmp6,icmp_type=13[4-7]", "these messages go past the table, or are refused before it"),
    Hidden(
        ("permitted",),
        r"\[(0|32|52|78): 0, drop\]",
        "no frame here is of no port, of no IP, or of a zone that is nobody's",
    ),
    Hidden(
        ("permitted",), r"\[(34|54): (0|200,ct_state=\+inv\+trk),? drop\]", "what is invalid, or unseen, goes no way"
    ),
    Hidden(("priority",), r"\[(0|50|78): ", "a port has one flow in these tables, whatever its priority"),
    Hidden(("priority",), r"\[(34|54): ", "what is invalid goes no way in the judge either"),
    Hidden(
        ("wrong value",),
        r"\[80: [^]]*(\+rel|\+rpl).*load:1->",
        "these are of connections that are allowed: truth tables revoke",
    ),
    Hidden(("wrong value",), r"ipv6,.*nw_frag", "a rule lets all later fragments of IPv6 pass"),
    Hidden(("left out",), r"\[86: .*load:0x[23]->", "without a verdict it is dropped as well"),
    Hidden(("wrong value",), r"\[86: .*load:0x3->", "nobody answers what is rejected here"),
    Hidden(("deleted",), r"\[80: 300,sctp.*reg3=0/0xff", "the stateless group sends no SCTP"),
    Hidden(("deleted",), r"\[(36|56): 200,reg2,reg3 ", "it only keeps what is stateless out of the tracker"),
    Hidden(("deleted",), r"\[52: 300,icmp6,icmp_type=135", "solicitations are answered at their source"),
    Hidden(
        ("deleted",), r"\[80: 350,|\[86: .*reg3=0x8[89ab]00/0x8[89ab]00", "no frame here is a fragment: truth tables"
    ),
    Hidden(("deleted",), r"\[80: 150,ct_state=\+rpl[^]]*sctp", "these are of connections that are allowed"),
    Hidden(("deleted",), r"reg12=0xfe800000/0xffc00000", "every such address here is in fe80::/64 too"),
    Hidden(("wider mask",), r"\[84: 130,reg2,reg3,reg15 ", "the other half of these addresses has such a flow too"),
    Hidden(("wider mask",), r"reg12=0xfe800000/0xffc00000", "no other address begins nearly like it"),
)
TOLD = {
    "wider mask": r"^(ct_tp_dst|reg8|reg1[2-5])=",
    "wrong value": r"->NXM_NX_REG(1\[\]|2\[|3\[16)|^ct\(",
    "deleted": "",
    "left out": r"->NXM_NX_REG3\[16|^(output|ct\()",
    "permitted": "",
    "priority": "",
}
"""Of each kind what the changed word must hold.

Addresses and ports; policies, banks, zones and verdicts; verdicts, the tracker and the way out.
"""


def concerns(mutant: Mutant) -> bool:
    """Whether it is about a filter, in a way that the frames can show."""
    flow = mutant.flow
    if flow.table not in CONCERNED or (flow.table == DELIVER.id and "goto_table:52" not in flow.actions):
        return False
    return (
        mutant.kind in TOLD
        and re.search(TOLD[mutant.kind], mutant.changed) is not None
        and not any(one.hides(mutant) for one in HIDDEN)
    )


@pytest.fixture(scope="module")
def bench(cloud: Cloud, install: Installer) -> Bench:
    model = filtered()
    frames = list(everything(model, DPORTS))
    probes: list[Callable[[], list[str]]]
    probes = [partial(run, cloud, model, frames[i : i + CHUNK]) for i in range(0, len(frames), CHUNK)]
    return Bench(cloud, install, model, probes, concerns)


def test_as_compiled_nothing_differs(bench: Bench) -> None:
    assert not bench.problems, "\n".join(bench.problems)


@pytest.mark.parametrize("kind", KINDS)
def test_wrong_flows_show(bench: Bench, kind: str) -> None:
    some = sorted(bench.groups(kind), key=lambda name: zlib.crc32(name.encode()))[:SAMPLE]
    shown, hiding = judge([bench], kind, some)
    assert not hiding, "\n".join(map(str, hiding))
    assert shown, "the enumeration misses flows"


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_flow_shows(bench: Bench, kind: str) -> None:
    shown, hiding = judge([bench], kind)
    assert not hiding, "\n".join(map(str, hiding))
    assert len(shown) >= LEAST.get(kind, 6), f"only {len(shown)} ways: the enumeration misses flows"
