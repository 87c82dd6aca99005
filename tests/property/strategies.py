"""Random valid models (hypothesis) and random frames for them (seeded, so that models shrink with frames alike)."""

from __future__ import annotations

import uuid
from ipaddress import ip_network

from hypothesis import strategies as st

from ovsnet.model.types import AllowedAddress, Host, Network, Port, RemoteEndpoint, Subnet, Vpc
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
def networks(draw: st.DrawFn, vni: int) -> Network:
    """One or two subnets, from a pool that every network of every VPC shares."""
    cidrs = draw(st.lists(st.sampled_from(CIDRS), min_size=1, max_size=3, unique=True))
    return Network(vni=vni, subnets=tuple(Subnet(cidr=cidr) for cidr in cidrs))


@st.composite
def allowed_addresses(draw: st.DrawFn) -> tuple[AllowedAddress, ...]:
    """Mostly none; else prefixes and single addresses, now and then with a MAC of their own."""
    if not draw(st.booleans()):
        return ()
    chosen = draw(st.lists(st.sampled_from(ALLOWED), min_size=1, max_size=2, unique=True))
    return tuple(AllowedAddress(ip=ip, mac=draw(st.sampled_from((None, VRRP_MAC)))) for ip in chosen)


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
def vpcs(
    draw: st.DrawFn, name: str, hosts: tuple[str, ...], first_vni: int, at_most: int, far: str
) -> tuple[Vpc, Neighbours]:
    """One VPC of one or two networks; MACs and addresses are unique in a network and repeat everywhere else.

    Now and then a port moves, and a neighbour is behind the VTEP ``far``.
    """
    names = NETWORK_NAMES[: draw(st.integers(1, 2))]
    segments = {network: draw(networks(first_vni + i * 0x010101)) for i, network in enumerate(names)}
    used: Used = set()
    ports: dict[str, Port] = {}
    for i in range(draw(st.integers(2, at_most))):
        network = draw(st.sampled_from(names))
        mac, ips = draw(addresses(network, segments[network], used))
        host = draw(st.sampled_from((*hosts, *hosts, None)))
        others = [other for other in hosts if other != host]
        port = f"p{i}"
        ports[port] = Port(
            network=network,
            host=host,
            moving_to=draw(st.sampled_from((None, None, *others))) if host is not None else None,
            mac=mac,
            ips=ips,
            allowed_addresses=draw(allowed_addresses()),
            port_security=draw(st.sampled_from((True, True, True, False))),
            id=port_id(name, port),
        )
    neighbours: Neighbours = {}
    for i in range(draw(st.integers(0, 2))):
        network = draw(st.sampled_from(names))
        mac, ips = draw(addresses(network, segments[network], used))
        neighbours[f"e{i}"] = RemoteEndpoint(network=network, mac=mac, ips=ips, vtep=far)
    return Vpc(tenant=name, networks=segments, ports=ports), neighbours


@st.composite
def models(draw: st.DrawFn) -> World:
    """A complete, valid model on two or three of the harness's hosts, with an IPv4 or an IPv6 underlay.

    Ports move now and then, and perhaps there are neighbours elsewhere.
    """
    hosts = HOST_NAMES[: draw(st.integers(2, 3))]
    family = draw(st.integers(0, 1))
    names = VPC_NAMES[: draw(st.integers(1, 3))]
    at_most = min(6, NICS_PER_HOST * 2 // (len(names) + 1))
    vnis = draw(st.sampled_from(((1, 2, 3), (5001, 5002, 5003), (0xF00000, 0xF10000, 0xF20000))))
    far = FAR_VTEPS[family]
    clouds = {name: draw(vpcs(name, hosts, vnis[i] + i * 7, at_most, far)) for i, name in enumerate(names)}
    return World(
        name="random",
        hosts={host: Host(vtep=VTEPS[host][family]) for host in hosts},
        vpcs={name: vpc for name, (vpc, _) in clouds.items()},
        endpoints={name: neighbours for name, (_, neighbours) in clouds.items()},
    )
