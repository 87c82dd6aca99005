"""One VPC as a host holds it, with the indexes that make a small change cheap. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ovsnet.desired import Subject
from ovsnet.features.base import Domain, Range, Segment, StaticRoute, Uplink, WayOut
from ovsnet.members import Memberships
from ovsnet.model.numbers import cidr_int, ip_int, mac_int
from ovsnet.model.outside import gateways_of
from ovsnet.model.routes import gateway_of, joined, subnets_of
from ovsnet.model.types import (
    FloatingIp,
    Network,
    NextHop,
    Outside,
    Port,
    RemoteEndpoint,
    Route,
    Router,
    Subnet,
)


@dataclass
class HeldVpc:
    """What the compiler holds of one VPC.

    ``members`` are a network's ports and endpoints, ``local`` its ports on this host, or about to come; ``placed`` are
    the ports on a host. ``router_of`` is the router that joins a network; ``hops`` are the routers that have a route
    over a port, by its name, or over an address. ``host`` is the host compiled for; ``floating_of`` are the floating
    IPs of a port.
    """

    name: str
    host: str = ""
    networks: dict[str, Network] = field(default_factory=dict)
    routers: dict[str, Router] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    endpoints: dict[str, RemoteEndpoint] = field(default_factory=dict)
    floating_ips: dict[str, FloatingIp] = field(default_factory=dict)
    provider_networks: dict[str, Outside] = field(default_factory=dict)
    floating_of: dict[str, set[str]] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[Subject]] = field(default_factory=dict)
    local: dict[str, set[str]] = field(default_factory=dict)
    placed: dict[str, set[str]] = field(default_factory=dict)
    router_of: dict[str, str] = field(default_factory=dict)
    hops: dict[str, set[str]] = field(default_factory=dict)
    groups: Memberships = field(default_factory=Memberships)

    def change_routers(self, changes: Mapping[str, Router | None]) -> None:
        """Take changes of routers; where addresses are one's own may be different then."""
        for name, router in changes.items():
            if router is None:
                self.routers.pop(name, None)
            else:
                self.routers[name] = router
        self.hops = {}
        for name, router in self.routers.items():
            for hop in (hop for route in router.routes for hop in route.hops):
                self.hops.setdefault(hop.port or hop.ip or "", set()).add(name)
        before, self.router_of = self.router_of, joined(self.routers)
        if before != self.router_of:
            nics = [*self.groups.subjects()]
            self.groups = Memberships({network: f"/{name}" for network, name in self.router_of.items()})
            for subject in nics:
                collection: Mapping[str, Port | RemoteEndpoint] = (
                    self.ports if subject.kind == "port" else self.endpoints
                )
                for _ in self.groups.note(subject, collection[subject.name]):
                    pass

    @property
    def provider_hosts(self) -> set[str]:
        """The hosts where routed domains leave the cloud."""
        return gateways_of(self.routers)

    def change_floating(self, changes: Mapping[str, FloatingIp | None]) -> None:
        """Take changes of floating IPs."""
        for name, floating in changes.items():
            if floating is None:
                self.floating_ips.pop(name, None)
            else:
                self.floating_ips[name] = floating
        self.floating_of = {}
        for name, floating in self.floating_ips.items():
            self.floating_of.setdefault(floating.port, set()).add(name)

    def near(self, network: str) -> bool:
        """Whether a network has a port here, or is reached from one that has or from a gateway here."""
        router = self.routers.get(self.router_of.get(network, ""))
        return bool(self.local.get(network)) or (router is not None and self.reaches(router))

    def reaches(self, router: Router) -> bool:
        """Whether a routed domain has a port here, or leaves the cloud here."""
        here = router.external is not None and self.host in router.external.gateways
        return here or any(self.local.get(network) for network in router.networks)

    def together(self, network: str) -> tuple[str, ...]:
        """The networks of a network's routed domain, itself included."""
        router = self.routers.get(self.router_of.get(network, ""))
        return (network,) if router is None else router.networks

    def domain(self, network: str) -> int | None:
        """The number of the domain that a network's addresses are in; ``None`` if it is not assigned."""
        router = self.routers.get(self.router_of.get(network, ""))
        return self.networks[network].vni if router is None else router.vni

    def segment(self, network: str, vni: int, domain: int, uplink: Uplink | None) -> Segment:
        """A network as the features see it."""
        joins = network in self.router_of
        ranges = tuple(map(range_of, self.networks[network].subnets)) if joins else ()
        return Segment(vni, domain, ranges, uplink)

    def routed(self, router: Router, vni: int, ways: tuple[WayOut, ...]) -> Domain:
        """A routed domain as the features see it."""
        ranges = tuple(range_of(subnet) for _, subnet in subnets_of(router, self.networks))
        return Domain(vni, ranges, tuple(self._route(router, route) for route in router.routes), ways)

    def behind(self, name: str, port: Port) -> tuple[tuple[int, int, int], ...]:
        """The ranges that routers send to a port, as (address, mask, 32 or 128)."""
        known = {name, *(port.ips or ())}
        if self.hops.keys().isdisjoint(known):
            return ()
        router = self.routers.get(self.router_of.get(port.network, ""))
        routes = router.routes if router is not None else ()
        leading = (route for route in routes if any((hop.port or hop.ip) in known for hop in route.hops))
        return tuple(dict.fromkeys(cidr_int(route.to) for route in leading))

    def routers_over(self, name: str, nic: Port | RemoteEndpoint | None) -> Iterator[str]:
        """The routers that have a route over a port or an endpoint."""
        if self.hops and nic is not None:
            for key in (name, *(nic.ips or ())):
                yield from self.hops.get(key, ())

    def next_hops(self, router: Router | None) -> Iterator[Subject]:
        """The ports and endpoints that a router has routes over, as far as they are there."""
        for hop in (hop for route in (router.routes if router else ()) for hop in route.hops):
            subject = self._hop(router, hop) if router else None
            if subject is not None:
                yield subject

    def _hop(self, router: Router, hop: NextHop) -> Subject | None:
        if hop.port is not None:
            port = self.ports.get(hop.port)
            if port is None or port.network not in router.networks:
                return None
            return Subject("port", self.name, hop.port)
        owners = (self.groups.owner(network, hop.ip or "") for network in router.networks)
        return next((owner for owner in owners if owner is not None), None)

    def _route(self, router: Router, route: Route) -> StaticRoute:
        ip, mask, bits = cidr_int(route.to)
        hops = []
        for subject in (self._hop(router, hop) for hop in route.hops):
            if subject is None:
                continue
            nic = self.ports[subject.name] if subject.kind == "port" else self.endpoints[subject.name]
            vni = self.networks[nic.network].vni if nic.network in self.networks else None
            if vni is not None and (isinstance(nic, RemoteEndpoint) or nic.host is not None):
                hops.append((vni, mac_int(nic.mac or "")))
        return StaticRoute(ip, mask.bit_count(), bits, tuple(dict.fromkeys(hops)), route.blackhole)


def range_of(subnet: Subnet) -> Range:
    """A joined subnet as the features see it."""
    ip, mask, bits = cidr_int(subnet.cidr)
    return Range(ip, mask.bit_count(), bits, ip_int(gateway_of(subnet))[0])
