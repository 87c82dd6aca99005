"""What a change has to do with routers, judged without the rest of its VPC. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import msgspec

from ovsnet.model.addresses import Cidr, ip_text, parse_cidr, parse_ip
from ovsnet.model.types import NextHop, Port, Route, Router

Routers = Mapping[str, Router]


def canonical_router(router: Router) -> Router:
    """The router with ranges and next hops as they are kept; what is none stays as it is, for the checks to name."""
    routes = tuple(_canonical_route(route) for route in router.routes)
    return router if routes == router.routes else msgspec.structs.replace(router, routes=routes)


def _canonical_route(route: Route) -> Route:
    parsed = parse_cidr(route.to)
    to = str(parsed[0]) if parsed is not None and parsed[0].first == parsed[1] else route.to
    via = _canonical_hop(route.via) if isinstance(route.via, NextHop) else tuple(map(_canonical_hop, route.via))
    return msgspec.structs.replace(route, to=to, via=via)


def _canonical_hop(hop: NextHop) -> NextHop:
    packed = None if hop.ip is None else parse_ip(hop.ip)
    return hop if packed is None else msgspec.structs.replace(hop, ip=ip_text(packed))


def hop_ports(routers: Routers) -> set[str]:
    """The ports that routes lead to by name."""
    hops = (hop for router in routers.values() for route in router.routes for hop in route.hops)
    return {hop.port for hop in hops if hop.port is not None}


def routes_to_port(routers: Routers, port: str) -> Iterator[str]:
    """The paths of routes that lead to a port by name."""
    for path, route in _routes(routers):
        if any(hop.port == port for hop in route.hops):
            yield path


def routes_into(routers: Routers, network: str, cidr: Cidr) -> Iterator[str]:
    """The paths of routes that lead to an address of a range of ``network``, which their router joins."""
    joining = {name: router for name, router in routers.items() if network in router.networks}
    for path, route in _routes(joining):
        addresses = (parse_ip(hop.ip) for hop in route.hops if hop.ip is not None)
        if any(packed is not None and packed in cidr for packed in addresses):
            yield path


def _routes(routers: Routers) -> Iterator[tuple[str, Route]]:
    for name, router in routers.items():
        for index, route in enumerate(router.routes):
            yield f"routers.{name}.routes[{index}]", route


def joining(routers: Routers, network: str) -> Iterator[str]:
    """The paths of routers that join a network."""
    return (f"routers.{name}" for name, router in routers.items() if network in router.networks)


def without_routes(routers: Routers, networks: Collection[str]) -> dict[str, Router]:
    """The routers that join some of ``networks``, as far as the check of who has which address there needs them."""
    found = {}
    for name, router in routers.items():
        joins = tuple(network for network in router.networks if network in networks)
        if joins:
            found[name] = Router(vni=router.vni, networks=joins)
    return found


def leaves_next_hop(routers: Routers, held: Mapping[str, Port], changes: Mapping[str, Port | None]) -> bool:
    """Whether a route leads by name to a port that goes, or that moves to another network."""
    leaving = {
        name
        for name, port in changes.items()
        if (old := held.get(name)) is not None and (port is None or port.network != old.network)
    }
    return bool(leaving and routers) and not leaving.isdisjoint(hop_ports(routers))
