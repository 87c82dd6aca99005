"""Random valid models (hypothesis) and random frames for them (seeded, so that models shrink with frames alike)."""

from __future__ import annotations

import uuid
from ipaddress import ip_network
from typing import Literal

from hypothesis import strategies as st

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
from tests.property import routed
from tests.property.harness import FAR_VTEPS, NICS_PER_HOST, VTEPS
from tests.property.world import World

HOST_NAMES = tuple(VTEPS)
VPC_NAMES = ("blue", "green", "red")
NETWORK_NAMES = ("web", "db")
CIDRS = ("10.0.0.0/24", "192.168.1.0/24", "2001:db8:1::/64", "fd00:0:0:7::/64")
MACS = (*(f"02:00:00:00:0{i}:0a" for i in range(6)), "00:16:3e:5a:00:01", "fe:54:00:00:00:01")
VRRP_MAC = "00:00:5e:00:01:05"
ALLOWED = ("10.50.0.0/16", "10.0.0.250", "10.0.0.12", "2001:db8:ff::/48", "2001:db8:1::99", "192.168.1.128/25")
NAMESPACE = uuid.UUID("6f1f0f52-3c0f-4c52-9e5a-0f5d6c1f7a11")


def port_id(vpc: str, port: str) -> str:
    """A port's UUID, as good as any."""
    return str(uuid.uuid5(NAMESPACE, f"{vpc}/{port}"))


@st.composite
def networks(draw: st.DrawFn, vni: int, pool: tuple[str, ...] = CIDRS) -> Network:
    """One to three subnets, from a pool that networks of every VPC share."""
    cidrs = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))
    off = draw(st.sampled_from((None, None, None, *cidrs)))
    domain = draw(st.sampled_from(("", "a.example")))
    return Network(vni=vni, subnets=tuple(Subnet(cidr=cidr, dhcp=cidr != off) for cidr in cidrs), domain=domain)


@st.composite
def allowed_addresses(draw: st.DrawFn) -> tuple[AllowedAddress, ...]:
    """Mostly none; else prefixes and single addresses, now and then with a MAC of their own."""
    if not draw(st.booleans()):
        return ()
    chosen = draw(st.lists(st.sampled_from(ALLOWED), min_size=1, max_size=2, unique=True))
    return tuple(AllowedAddress(ip=ip, mac=draw(st.sampled_from((None, VRRP_MAC)))) for ip in chosen)


PORT_RANGES: tuple[int | str | tuple[int | str, ...], ...] = (
    *(22, 80, "80-443", "8000-8005", "8003-8010", "1-1023", "0-65535", (22, "8004-8004", 8010), (443, "8000-8001")),
)
RANGES = {
    4: ("0.0.0.0/0", "10.0.0.0/24", "10.0.0.8/29", "10.0.0.10/32", "192.168.1.0/25", "10.50.0.0/16"),
    6: ("::/0", "2001:db8:1::/64", "2001:db8:1::8/125", "2001:db8:1::a/128", "fe80::/10", "fd00:0:0:7::/64"),
}
STATEFUL, STATELESS = ("default", "open", "g1", "g2", "g3"), ("s1", "s2")
OPEN = SecurityGroup(rules=(Rule(direction="ingress"),))


@st.composite
def remotes(draw: st.DrawFn, version: int | None, groups: tuple[str, ...], address_groups: tuple[str, ...]) -> Remote:
    """Any of the three kinds, ranges of the family ``version`` if one is given."""
    kind = draw(st.sampled_from(("cidr", "group", "group", "address_group") if address_groups else ("cidr", "group")))
    if kind == "group":
        return Remote(group=draw(st.sampled_from(groups)))
    if kind == "address_group":
        return Remote(address_group=draw(st.sampled_from(address_groups)))
    return Remote(cidr=draw(st.sampled_from(RANGES[version] if version else (*RANGES[4], *RANGES[6]))))


@st.composite
def rules(draw: st.DrawFn, groups: tuple[str, ...], address_groups: tuple[str, ...]) -> Rule:
    """One rule, its fields from small pools, so that rules overlap."""
    protocol = draw(st.sampled_from((None, "tcp", "tcp", "udp", 17, "icmp", "icmpv6", "sctp", 47)))
    port = draw(st.sampled_from((None, *PORT_RANGES))) if protocol in ("tcp", "udp", 17, "sctp") else None
    kinds = {"icmp": (8, 13, 3), "icmpv6": (128, 1, 2)}.get(str(protocol))
    kind = draw(st.sampled_from((None, *kinds))) if kinds else None
    code = draw(st.sampled_from((None, 0, 4))) if kind is not None else None
    version = {"icmp": 4, "icmpv6": 6}.get(str(protocol)) or draw(st.sampled_from((None, None, 4, 6)))
    ethertype: Literal["ipv4", "ipv6"] | None = None
    if version and draw(st.booleans()):
        ethertype = "ipv4" if version == 4 else "ipv6"
    remote = draw(remotes(version, groups, address_groups)) if draw(st.booleans()) else None
    if remote is not None and remote.cidr is not None and ethertype and (":" in remote.cidr) != (ethertype == "ipv6"):
        remote = None
    return Rule(
        direction=draw(st.sampled_from(("ingress", "egress"))),
        ethertype=ethertype,
        protocol=protocol,
        port=port,
        type=kind,
        code=code,
        remote=remote,
        priority=draw(st.sampled_from((1000, 1000, 1000, 1, 500, 999))),
        action=draw(st.sampled_from(("allow", "allow", "allow", "allow", "drop", "reject"))),
    )


@st.composite
def security_groups(draw: st.DrawFn) -> tuple[dict[str, SecurityGroup], dict[str, tuple[str, ...]]]:
    """A few small groups, ``open`` always among them, and address groups that overlap."""
    some = st.lists(st.sampled_from((*RANGES[4][1:], *RANGES[6][1:])), max_size=3, unique=True)
    ranges = draw(st.dictionaries(st.sampled_from(("near", "far")), some.map(tuple), max_size=2))
    names = tuple(name for name in (*STATEFUL, *STATELESS) if name == "open" or draw(st.booleans()))
    known = (*dict.fromkeys((*names, "default")),)
    declared = {
        name: OPEN
        if name == "open"
        else SecurityGroup(
            rules=tuple(draw(st.lists(rules(known, tuple(sorted(ranges))), max_size=5))),
            default_egress=draw(st.sampled_from(("allow", "allow", "deny"))),
            stateful=name in STATEFUL,
        )
        for name in names
    }
    return declared, ranges


@st.composite
def memberships(draw: st.DrawFn, declared: dict[str, SecurityGroup]) -> tuple[str, ...] | None:
    """The groups of a port: left out, none, or some that are all stateful or all stateless."""
    pool = [name for name in draw(st.sampled_from((STATEFUL, STATEFUL, STATELESS))) if name in declared]
    if not pool or draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from((None, None, ())))
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))
    return tuple(chosen)


Used = set[tuple[str, str]]
Neighbours = dict[str, RemoteEndpoint]


@st.composite
def addresses(draw: st.DrawFn, network: str, segment: Network, used: Used) -> tuple[str, tuple[str, ...]]:
    """A MAC and addresses that nobody has in the network yet; they are noted in ``used``."""
    mac = draw(st.sampled_from([mac for mac in MACS if (network, mac) not in used]))
    ips: list[str] = []
    for subnet in segment.subnets:
        base = ip_network(subnet.cidr)
        for _ in range(draw(st.sampled_from((1, 1, 1, 0, 2)))):
            number = next(n for n in range(draw(st.sampled_from((10, 20))), 99) if (network, str(base[n])) not in used)
            ips.append(str(base[number]))
            used.add((network, ips[-1]))
    used.add((network, mac))
    return mac, tuple(ips)


@st.composite
def elsewhere(
    draw: st.DrawFn, segments: dict[str, Network], used: Used, far: str, groups: dict[str, SecurityGroup] | None
) -> Neighbours:
    """Up to two neighbours behind the VTEP ``far``; with ``groups`` perhaps members of some."""
    neighbours: Neighbours = {}
    for i in range(draw(st.integers(0, 2))):
        network = draw(st.sampled_from(tuple(segments)))
        mac, ips = draw(addresses(network, segments[network], used))
        member = (draw(memberships(groups)) or ()) if groups is not None else ()
        neighbours[f"e{i}"] = RemoteEndpoint(network=network, mac=mac, ips=ips, vtep=far, groups=member)
    return neighbours


@st.composite
def vpcs(
    draw: st.DrawFn,
    name: str,
    hosts: tuple[str, ...],
    first_vni: int,
    at_most: int,
    far: str,
    filtered: bool,
    routers: bool,
) -> tuple[Vpc, Neighbours]:
    """One VPC of one or two networks; MACs and addresses are unique in a network and repeat everywhere else.

    Now and then a port moves, and a neighbour is behind the VTEP ``far``. ``filtered``: with security groups;
    ``routers``: perhaps with routers.
    """
    names = NETWORK_NAMES[: draw(st.integers(1, 2))]
    pools = routed.CIDRS if routers else (CIDRS, CIDRS)
    segments = {network: draw(networks(first_vni + i * 0x010101, pools[i])) for i, network in enumerate(names)}
    used: Used = set()
    groups, ranges = draw(security_groups())
    if not filtered:
        groups, ranges = {"open": OPEN}, {}
    ports: dict[str, Port] = {}
    for i in range(draw(st.integers(2, at_most))):
        network = draw(st.sampled_from(names))
        mac, ips = draw(addresses(network, segments[network], used))
        host = draw(st.sampled_from((*hosts, *hosts, None)))
        others = [other for other in hosts if other != host]
        port = f"p{i}"
        secure = draw(st.sampled_from((True, True, True, False)))
        member = draw(memberships(groups)) if filtered else ("open",)
        ports[port] = Port(
            network=network,
            host=host,
            moving_to=draw(st.sampled_from((None, None, *others))) if host is not None else None,
            mac=mac,
            ips=ips,
            allowed_addresses=draw(allowed_addresses()),
            port_security=secure,
            security_groups=member if secure else None,
            id=port_id(name, port),
        )
    neighbours = draw(elsewhere(segments, used, far, groups if filtered else None))
    made = draw(routed.routers(segments, ports, neighbours, first_vni)) if routers else {}
    vpc = Vpc(tenant=name, networks=segments, routers=made, ports=ports, security_groups=groups, address_groups=ranges)
    return vpc, neighbours


@st.composite
def models(draw: st.DrawFn, filtered: bool = True, routers: bool = False) -> World:
    """A complete, valid model on two or three of the harness's hosts, with an IPv4 or an IPv6 underlay.

    Ports move now and then, and perhaps there are neighbours elsewhere. Unless ``filtered``, groups let all pass.
    With ``routers`` VPCs perhaps have some.
    """
    hosts = HOST_NAMES[: draw(st.integers(2, 3))]
    family = draw(st.integers(0, 1))
    names = VPC_NAMES[: draw(st.integers(1, 3))]
    at_most = min(6, NICS_PER_HOST * 2 // (len(names) + 1))
    vnis = draw(st.sampled_from(((1, 2, 3), (5001, 5002, 5003), (0xF00000, 0xF10000, 0xF20000))))
    far = FAR_VTEPS[family]
    clouds = {
        name: draw(vpcs(name, hosts, vnis[i] + i * 7, at_most, far, filtered, routers)) for i, name in enumerate(names)
    }
    return World(
        name="random",
        hosts={host: Host(vtep=VTEPS[host][family]) for host in hosts},
        vpcs={name: vpc for name, (vpc, _) in clouds.items()},
        endpoints={name: neighbours for name, (_, neighbours) in clouds.items()},
    )
