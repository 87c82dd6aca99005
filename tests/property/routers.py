"""Random routers for random models: which networks they join, and routes over ports that are there or are not."""

from __future__ import annotations

from itertools import product

import msgspec
from hypothesis import strategies as st

from ovsnet.model.addresses import parse_cidr
from ovsnet.model.routes import gateway_of
from ovsnet.model.types import Network, NextHop, Route, Router, Vpc
from tests.property.world import World

FIRST_VNI = 0x800001
DESTINATIONS = {
    4: ("0.0.0.0/0", "10.50.0.0/16", "10.50.3.0/24", "10.60.0.7/32", "172.16.0.0/12"),
    6: ("::/0", "2001:db8:ff::/48", "2001:db8:ff:3::/64", "2001:db8:fe::7/128"),
}


def overlap(one: Network, other: Network) -> bool:
    """Whether two networks have addresses in common."""
    pairs = product(one.subnets, other.subnets)
    return any(a[0].overlaps(b[0]) for x, y in pairs if (a := parse_cidr(x.cidr)) and (b := parse_cidr(y.cidr)))


@st.composite
def _hops(draw: st.DrawFn, vpc: Vpc, joined: tuple[str, ...], version: int) -> NextHop | tuple[NextHop, ...]:
    """One next hop or several: ports by name, or addresses of the family, some of which nobody has."""
    ports = [NextHop(port=name) for name, port in vpc.ports.items() if port.network in joined]
    subnets = [subnet for network in joined for subnet in vpc.networks[network].subnets]
    mine = [subnet for subnet in subnets if (":" in subnet.cidr) == (version == 6)]
    owned = {ip for port in vpc.ports.values() if port.network in joined for ip in port.ips or ()}
    near = [ip for ip in sorted(owned) if (":" in ip) == (version == 6)]
    prefixes = [subnet.cidr.partition("/")[0] for subnet in mine]
    nobody = [p[:-1] + "77" if version == 4 else p + "77" for p in prefixes]
    addresses = [NextHop(ip=ip) for ip in (*near, *nobody)]
    pool = [*ports, *addresses]
    if not pool:
        return ()
    chosen = draw(st.lists(st.sampled_from(pool), min_size=1, max_size=3, unique=True))
    return chosen[0] if len(chosen) == 1 and draw(st.booleans()) else tuple(chosen)


@st.composite
def _router(draw: st.DrawFn, vpc: Vpc, joined: tuple[str, ...], vni: int) -> Router:
    routes = []
    for version, pool in DESTINATIONS.items():
        for to in draw(st.lists(st.sampled_from(pool), max_size=3, unique=True)):
            via = draw(_hops(vpc, joined, version))
            blackhole = via == () or draw(st.integers(0, 4)) == 0
            routes.append(Route(to=to, via=() if blackhole else via, blackhole=blackhole))
    return Router(vni=vni, networks=joined, routes=tuple(routes))


@st.composite
def _routed(draw: st.DrawFn, vpc: Vpc, vni: int) -> Vpc:
    """A VPC with no router, one, or one for each network."""
    names = tuple(vpc.networks)
    apart = len(names) < 2 or overlap(*(vpc.networks[name] for name in names))
    each = [(name,) for name in names]
    parted = draw(st.sampled_from(([], each[:1], each) if apart else ([], each[:1], each, *3 * ([names],))))
    routers = {f"r{i}": draw(_router(vpc, joined, vni + i)) for i, joined in enumerate(parted)}
    return msgspec.structs.replace(vpc, routers=routers)


@st.composite
def with_routers(draw: st.DrawFn, world: World) -> World:
    """The model with routers in its VPCs."""
    vpcs = {name: draw(_routed(vpc, FIRST_VNI + 16 * i)) for i, (name, vpc) in enumerate(world.vpcs.items())}
    return msgspec.structs.replace(world, vpcs=vpcs)


def gateways(vpc: Vpc, network: str) -> list[str]:
    """The gateways' addresses of a joined network; none of another."""
    joins = any(network in router.networks for router in vpc.routers.values())
    return [gateway_of(subnet) for subnet in vpc.networks[network].subnets] if joins else []
