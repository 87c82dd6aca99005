"""The tests can fail: whatever is made wrong with one flow of a running switch, the packets show it.

A fixed model and fixed frames: as compiled, nothing differs from what the model means; with any one flow made wrong,
something does; with the flow restored, nothing again.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import msgspec
import pytest

from ovsnet.lab.expectation import Frame
from ovsnet.lab.ovs import OvsError
from ovsnet.model.types import (
    AllowedAddress,
    Host,
    Network,
    Port,
    Remote,
    RemoteEndpoint,
    Rule,
    SecurityGroup,
    Subnet,
    Vpc,
)
from tests.mutation.mutants import Flow, Mutant, mutants, read_flows
from tests.property import packets as p
from tests.property.compiled import Installer
from tests.property.exchanges import exchanges
from tests.property.frames import KINDS, arrivals, cases
from tests.property.harness import FAR_VTEPS, VTEPS, Cloud
from tests.property.reference import Case, run, run_arrivals, run_strays
from tests.property.strategies import OPEN, VRRP_MAC, port_id
from tests.property.world import World

SUBNETS = (Subnet(cidr="10.0.0.0/24"), Subnet(cidr="2001:db8:1::/64"))

SEED, CHUNK = 20, 300
ROUNDS = {False: 60, True: 240}
"""Frames of every kind: enough for every flow to be hit; and for weak mutants, which only rare frames show, more."""
TALK, TALKS = 200, {False: 8, True: 16}
"""Frames of one exchange, and how many exchanges."""
HOST = "hv1"
ATTEMPTS = 10
"""Mutants tried of one group before the group counts as hidden."""
STRONG = ("deleted", "wider mask", "wrong value", "left out", "permitted", "priority")
WEAK = ("wrong match", "match left out")


class Hidden(NamedTuple):
    """Mutants that no packet can show: of these kinds, with a text in which the pattern is found, and why."""

    kinds: tuple[str, ...]
    pattern: str
    reason: str


HIDDEN = (
    Hidden(
        (*STRONG, *WEAK),
        r"ipv6_src=::,.*nd_target=.* => ",
        "an honest probe for duplicates is dropped a table later; only its counter tells it from a dishonest one",
    ),
    Hidden(("permitted",), r"\[0: 0, drop\]", "what no port sends is dropped by the next table as well"),
    Hidden(("permitted",), r"\[(10|15): 0, drop\]", "every port has flows of its own in these tables"),
    Hidden(WEAK, r"\[0: in_port, go on\]", "what no port sends is dropped by the next table as well"),
    Hidden(WEAK, r"\[10: vlan_tci, drop\]", "a tagged frame is dropped by the port's last flow too"),
    Hidden(WEAK, r"\[10: arp_op, go on\]", "a reply from 0.0.0.0 is dropped a table later"),
    Hidden(WEAK, r"\[15: in_port, drop\]", "the table's miss drops as well; this one counts"),
    Hidden(WEAK, r"\[30: icmp_type, drop\]", "the table gets nothing but solicitations"),
    Hidden(("priority",), r"\[40: ", "a destination has one flow in this table, whatever its priority"),
    Hidden(WEAK, r"\[50: (reg0|dl_dst), drop\]", "the table's miss drops as well; this one counts"),
    Hidden(("permitted",), r"\[30: 0, drop\]", "solicitations of nobody that go on are refused where they arrive"),
)


def fixed_model() -> World:
    """Two VPCs with the same MACs and addresses; secured and open ports, allowed addresses, two networks.

    One port moves away from the host whose flows are made wrong, one moves between two others, one neighbour is
    elsewhere.
    """
    allowed = tuple(
        AllowedAddress(ip=ip, mac=mac)
        for ip, mac in (
            ("10.50.0.0/16", None),
            ("10.0.0.250", VRRP_MAC),
            ("2001:db8:ff::/48", None),
            ("2001:db8:1::99", VRRP_MAC),
        )
    )
    blue = {
        "p0": _port("blue", 0, "hv1", allowed_addresses=allowed),
        "p1": _port("blue", 1, "hv1", port_security=False),
        "p2": _port("blue", 2, "hv2"),
        "p3": _port("blue", 3, "hv1"),
        "p4": _port("blue", 1, "hv1", network="db"),
        "p5": _port("blue", 5, "hv1", moving_to="hv2"),
        "p6": _port("blue", 6, "hv2", moving_to="hv3"),
    }
    far = RemoteEndpoint(network="web", mac="02:00:00:00:00:17", ips=("10.0.0.18", "2001:db8:1::18"), vtep=FAR_VTEPS[0])
    # The same MAC as blue's, and another address: only that tells whose neighbour advertisements are whose.
    other = msgspec.structs.replace(_port("red", 0, "hv1"), ips=("10.0.0.11", "2001:db8:1::15"))
    red = {"p0": other, "p2": _port("red", 2, "hv2")}
    networks = {"web": Network(vni=0x1388, subnets=SUBNETS), "db": Network(vni=0x1398, subnets=SUBNETS)}
    vpcs = {
        "blue": Vpc(networks=networks, ports=blue, security_groups={"open": OPEN}),
        "red": Vpc(networks={"web": Network(vni=0x1389, subnets=SUBNETS)}, ports=red, security_groups={"open": OPEN}),
        "green": filtered(),
    }
    hosts = {host: Host(vtep=VTEPS[host][0]) for host in VTEPS}
    return World(name="fixed", hosts=hosts, vpcs=vpcs, endpoints={"blue": {"far": far}})


def filtered() -> Vpc:
    """A VPC with every kind of rule, between ports on the host whose flows are made wrong and others."""
    rules = {
        "app": (
            Rule(direction="egress", protocol="tcp", port="8000-8005", remote=Remote(group="srv")),
            Rule(direction="egress", protocol="udp", remote=Remote(cidr="10.0.0.12/30")),
            Rule(direction="egress", protocol="udp", ethertype="ipv6", port=(80, 443)),
            Rule(direction="egress", protocol="icmp", type=8),
            Rule(direction="egress", protocol="icmpv6", type=128, code=0),
            Rule(direction="egress", protocol="sctp", port=80),
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
            Rule(direction="egress", protocol="tcp", port="40000-40001"),
            Rule(direction="egress", protocol="udp", remote=Remote(cidr="10.0.0.8/29")),
            Rule(direction="egress", protocol="icmp", remote=Remote(cidr="10.0.0.12/32")),
            Rule(direction="egress", protocol=47, remote=Remote(group="srv")),
        ),
    }
    groups = {n: SecurityGroup(rules=r, default_egress="deny", stateful=n != "less") for n, r in rules.items()}
    members = ("app", "srv", "less", "srv", "app", "less")
    ports = {
        f"f{i}": _port("green", i, "hv1" if i < 4 else "hv2", security_groups=(name,)) for i, name in enumerate(members)
    }
    near = ("10.0.0.8/30", "10.0.0.13/32", "2001:db8:1::8/125", "fe80::/64")
    return Vpc(
        networks={"web": Network(vni=0x1390, subnets=SUBNETS)},
        ports=ports | {"d0": _port("green", 7, "hv1"), "d1": _port("green", 8, "hv2")},
        security_groups=groups,
        address_groups={"near": near},
    )


def _port(vpc: str, number: int, host: str, network: str = "web", **more: Any) -> Port:
    ips = (f"10.0.0.{11 + number}", f"2001:db8:1::{11 + number}")
    identity = port_id(vpc, f"{network}{number}")
    if vpc != "green" and more.get("port_security", True):
        more["security_groups"] = ("open",)
    return Port(network=network, host=host, mac=f"02:00:00:00:00:1{number}", ips=ips, id=identity, **more)


def rare() -> list[Case]:
    """Frames that chance hardly ever makes: those that only one of the flow's fields gives away."""
    own, peer = "02:00:00:00:00:10", "02:00:00:00:00:12"
    to, target = "2001:db8:1::13", "2001:db8:1::11"
    link = p.option(2, own)
    namesake = p.ethernet(peer, own, p.IPV6, p.advertisement("2001:db8:1::15", to, target, link))
    allowed = p.ethernet(peer, VRRP_MAC, p.IPV6, p.advertisement("2001:db8:1::99", to, target, link))
    reports = [
        p.ethernet(peer, own, p.IPV6, p.mld("::", to, kind))  # a listener's report goes to a group, never to one port
        for kind in (131, 132, 143)
    ]
    return [
        *(Case("listener report from :: to one port", Frame("blue/p0", report)) for report in reports),
        Case("advertisement of the other tenant's address by its namesake", Frame("red/p0", namesake)),
        Case("advertisement of the own MAC from the other one that is allowed", Frame("blue/p0", allowed)),
    ]


class Bench:
    """One switch as compiled, the frames that show what it does, and the means to make one flow wrong."""

    def __init__(self, cloud: Cloud, install: Installer, nd_responder: bool, weak: bool = False) -> None:
        self.cloud, self.model, self.switch = cloud, fixed_model(), cloud.switches[HOST]
        self.switch.ofctl("del-flows", "br-int")  # so that the counters start afresh
        cloud.load(self.model, install, nd_responder=nd_responder)
        frames = [*cases(self.model, SEED, ROUNDS[weak] * len(KINDS)), *rare()]
        coming = list(arrivals(self.model, SEED))
        strays = [case.frame for case in frames[: len(KINDS)]]
        green = msgspec.structs.replace(self.model, vpcs={"green": self.model.vpcs["green"]})
        talks = [list(exchanges(green, seed, TALK)) for seed in range(TALKS[weak])]
        self.probes: list[Callable[[], list[str]]] = [
            *(partial(run, cloud, self.model, frames[i : i + CHUNK]) for i in range(0, len(frames), CHUNK)),
            partial(run_arrivals, cloud, self.model, coming),
            partial(run_strays, cloud, strays),
            *(partial(run, cloud, self.model, talk) for talk in talks),
        ]
        self.problems = [problem for probe in self.probes for problem in probe()]
        cloud.forget()
        self.flows = read_flows(self.switch.ofctl("dump-flows", "br-int"))

    def write(self, flows: list[Flow]) -> None:
        self.switch.ofctl("replace-flows", "br-int", "-", stdin="\n".join(flow.text for flow in flows).encode())
        self.switch.forget()

    def groups(self, kind: str) -> dict[str, list[Mutant]]:
        """All mutants of a kind by group: of flows that the frames hit first, and of each shape of flow one first."""
        ofports = [self.switch.ofports[nic] for nic in self.switch.nics[:2]]
        groups: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in mutants(self.flows, ofports, max(flow.table for flow in self.flows)):
            if mutant.kind == kind and not is_hidden(mutant):
                groups[mutant.group].append(mutant)
        return {name: _varied(group) for name, group in groups.items()}

    def shows(self, mutant: Mutant) -> bool | None:
        """Whether the frames show ``mutant``, and no longer once it is restored; ``None``: the switch refuses it."""
        others = [flow for flow in self.flows if flow is not mutant.flow]
        try:
            self.write([*others, mutant.wrong] if mutant.wrong else others)
        except OvsError:
            return None
        telling = next((probe for probe in self.probes if probe()), None)
        self.write(self.flows)
        if telling is None:
            return False
        left = telling()
        assert not left, f"still wrong after restoring {mutant}: {left}"
        return True


def _varied(group: list[Mutant]) -> list[Mutant]:
    turns: Counter[str] = Counter()
    ordered = []
    for mutant in sorted(group, key=lambda mutant: not mutant.flow.packets):
        turns[mutant.flow.shape] += 1
        ordered.append((not mutant.flow.packets, turns[mutant.flow.shape], len(ordered), mutant))
    return [mutant for *_, mutant in sorted(ordered, key=lambda entry: entry[:3])]


def judge(cloud: Cloud, install: Installer, kind: str) -> tuple[set[str], list[Mutant]]:
    """The groups of which a mutant shows, with either way of serving ND, and one mutant of each group that hides."""
    shown: set[str] = set()
    hiding: dict[str, Mutant] = {}
    for nd_responder in (True, False):
        bench = Bench(cloud, install, nd_responder, kind in WEAK)
        assert not bench.problems, f"wrong as compiled, so mutants prove nothing: {bench.problems[0]}"
        for name, group in bench.groups(kind).items():
            if name in shown:
                continue
            verdicts = [bench.shows(group[0])]
            while verdicts[-1] is not True and len(verdicts) < min(ATTEMPTS, len(group)):
                verdicts.append(bench.shows(group[len(verdicts)]))
            if True in verdicts:
                shown.add(name)
            elif False in verdicts:
                hiding[name] = group[0]
    return shown, [mutant for name, mutant in hiding.items() if name not in shown]


def is_hidden(mutant: Mutant) -> bool:
    return any(mutant.kind in h.kinds and re.search(h.pattern, str(mutant)) for h in HIDDEN)


@pytest.mark.parametrize("nd_responder", [True, False], ids=["nd-answered", "nd-forwarded"])
def test_as_compiled_nothing_differs(cloud: Cloud, install: Installer, nd_responder: bool) -> None:
    bench = Bench(cloud, install, nd_responder)
    assert not bench.problems, "\n".join(bench.problems)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STRONG, *(pytest.param(kind, marks=pytest.mark.slow) for kind in WEAK)])
def test_every_wrong_flow_shows(cloud: Cloud, install: Installer, kind: str) -> None:
    shown, hiding = judge(cloud, install, kind)
    assert not hiding, "\n".join(map(str, hiding))
    assert len(shown) >= 6, f"only {len(shown)} ways: the enumeration misses flows"
