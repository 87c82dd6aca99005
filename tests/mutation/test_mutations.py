"""The tests can fail: whatever is made wrong with one flow of a running switch, the packets show it.

A fixed model and fixed frames: as compiled, nothing differs from what the model means; with any one flow made wrong,
something does; with the flow restored, nothing again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest

from ovsnet.lab.expectation import Frame
from ovsnet.model.types import (
    AllowedAddress,
    Host,
    Network,
    Port,
    RemoteEndpoint,
    Subnet,
    Vpc,
)
from tests.mutation.bench import FILTERS, Bench, Hidden, judge
from tests.mutation.mutants import Mutant
from tests.property import packets as p
from tests.property.compiled import Installer
from tests.property.frames import KINDS, arrivals, cases
from tests.property.harness import FAR_VTEPS, VTEPS, Cloud
from tests.property.reference import Case, run, run_arrivals, run_strays
from tests.property.strategies import OPEN, VRRP_MAC, port_id
from tests.property.world import World

SUBNETS = (Subnet(cidr="10.0.0.0/24"), Subnet(cidr="2001:db8:1::/64"))

SEED, CHUNK = 20, 300
ROUNDS = {False: 60, True: 240}
"""Frames of every kind: enough for every flow to be hit; and for weak mutants, which only rare frames show, more."""
SELECTS = re.compile(r"(reg|REG)[1238]\b")
"""Registers that say which filter a frame passes."""
STRONG = ("deleted", "wider mask", "wrong value", "left out", "permitted", "priority")
WEAK = ("wrong match", "match left out")


HIDDEN = (
    Hidden(
        (*STRONG, *WEAK),
        r"ipv6_src=::,.*nd_target=.* => ",
        "an honest probe for duplicates is dropped a table later; only its counter tells it from a dishonest one",
    ),
    Hidden(("permitted",), r"\[0: 0, drop\]", "what no port sends is dropped by the next table as well"),
    Hidden(("permitted",), r"\[(10|15): 0, drop\]", "every port has flows of its own in these tables"),
    Hidden(("wider mask",), r" vlan_tci\]: ", "whether there is a tag has a bit of its own"),
    Hidden(("wider mask",), r"\[30: 101,reg0,nd_target", "nobody else here has the owner's MAC at another address"),
    Hidden(WEAK, r"\[0: in_port, go on\]", "what no port sends is dropped by the next table as well"),
    Hidden(WEAK, r"\[10: vlan_tci, drop\]", "a tagged frame is dropped by the port's last flow too"),
    Hidden(WEAK, r"\[10: arp_op, go on\]", "a reply from 0.0.0.0 is dropped a table later"),
    Hidden(WEAK, r"\[15: in_port, drop\]", "the table's miss drops as well; this one counts"),
    Hidden(WEAK, r"\[30: icmp_type, drop\]", "the table gets nothing but solicitations"),
    Hidden(("priority",), r"\[0: ", "a port has one flow in this table, whatever its priority"),
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
    }
    hosts = {host: Host(vtep=VTEPS[host][0]) for host in VTEPS}
    return World(name="fixed", hosts=hosts, vpcs=vpcs, endpoints={"blue": {"far": far}})


def _port(vpc: str, number: int, host: str, network: str = "web", **more: Any) -> Port:
    ips = (f"10.0.0.{11 + number}", f"2001:db8:1::{11 + number}")
    identity = port_id(vpc, f"{network}{number}")
    if more.get("port_security", True):
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


def bench_of(cloud: Cloud, install: Installer, nd_responder: bool, weak: bool = False) -> Bench:
    """The fixed model with the frames that show what its flows do."""
    model = fixed_model()
    frames = [*cases(model, SEED, ROUNDS[weak] * len(KINDS)), *rare()]
    probes: list[Callable[[], list[str]]] = [
        *(partial(run, cloud, model, frames[i : i + CHUNK]) for i in range(0, len(frames), CHUNK)),
        partial(run_arrivals, cloud, model, list(arrivals(model, SEED))),
        partial(run_strays, cloud, [case.frame for case in frames[: len(KINDS)]]),
    ]
    return Bench(cloud, install, model, probes, concerns, nd_responder=nd_responder)


def concerns(mutant: Mutant) -> bool:
    """Whether the fixed model can show the mutant: it is not about filters, which let everything pass here."""
    return (
        mutant.flow.table not in FILTERS
        and not SELECTS.search(mutant.changed)
        and not any(hidden.hides(mutant) for hidden in HIDDEN)
    )


@pytest.mark.parametrize("nd_responder", [True, False], ids=["nd-answered", "nd-forwarded"])
def test_as_compiled_nothing_differs(cloud: Cloud, install: Installer, nd_responder: bool) -> None:
    bench = bench_of(cloud, install, nd_responder)
    assert not bench.problems, "\n".join(bench.problems)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [*STRONG, *WEAK])
def test_every_wrong_flow_shows(cloud: Cloud, install: Installer, kind: str) -> None:
    benches = (bench_of(cloud, install, nd_responder, kind in WEAK) for nd_responder in (True, False))
    shown, hiding = judge(benches, kind)
    assert not hiding, "\n".join(map(str, hiding))
    assert len(shown) >= 6, f"only {len(shown)} ways: the enumeration misses flows"
