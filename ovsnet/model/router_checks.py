"""The checks of routers: which networks they join, and where their static routes lead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import Cidr, ip_text, not_unicast, parse_ip
from ovsnet.model.checks import Drafts, NetworkView, check_cidr, check_name, check_vni, suggest
from ovsnet.model.routes import MAX_NEXT_HOPS
from ovsnet.model.structure import BAD
from ovsnet.model.types import External, NextHop, Port, Route, Router


class _Range(NamedTuple):
    """A subnet that a router joins."""

    cidr: Cidr
    path: Path
    network: str


class RouterChecker:
    """Checks the routers of one VPC, whose path is ``base``, after its networks and ports.

    ``vnis``: the path of whatever has a VNI, for all that must not share one.
    """

    def __init__(
        self,
        drafts: Drafts,
        base: Path,
        networks: Mapping[str, NetworkView],
        ports: Mapping[str, Port],
        vnis: dict[int, Path],
    ) -> None:
        self.drafts = drafts
        self.base = (*base, "routers")
        self.networks = networks
        self.ports = ports
        self.vnis = vnis
        whole = not drafts.broken_beside(base)
        self.networks_known = bool(networks) or whole
        self.ports_known = bool(ports) or whole
        self._joined: dict[str, Path] = {}

    def check(self, routers: Mapping[str, Router]) -> dict[str, Router]:
        """The routers with canonical ranges and addresses."""
        return {name: self._router(name, router) for name, router in routers.items()}

    def _router(self, name: str, router: Router) -> Router:
        path = (*self.base, name)
        check_name(self.drafts, name, path)
        if router.vni is not None:
            check_vni(self.drafts, path, router.vni, self.vnis)
        ranges: list[_Range] = []
        for index, network in enumerate(router.networks):
            self._join(network, (*path, "networks", index), ranges)
        seen: dict[str, Path] = {}
        routes = tuple(
            self._route(route, (*path, "routes", index), router.networks, ranges, seen)
            for index, route in enumerate(router.routes)
        )
        external = None if router.external is None else _canonical(router.external)
        if (routes, external) == (router.routes, router.external):
            return router
        return msgspec.structs.replace(router, routes=routes, external=external)

    def _join(self, network: str, place: Path, ranges: list[_Range]) -> None:
        """One more network of a router; ``ranges`` are the subnets joined so far."""
        if network is BAD:
            return
        view = self.networks.get(network)
        if view is None:
            if self.networks_known:
                reason = f"there is no network {shown(network)} in this VPC"
                self.drafts.add("unknown-network", place, reason, values=suggest(network, self.networks, "networks"))
            return
        first = self._joined.setdefault(network, place)
        if first is not place:
            self.drafts.add("network-joined-twice", place, f"network {network} is joined already", other=first)
            return
        for cidr, path in zip(view.ranges, view.range_paths, strict=True):
            clash = next((one for one in ranges if one.network != network and one.cidr.overlaps(cidr)), None)
            if clash is not None:
                reason = f"{cidr} of network {network} overlaps {clash.cidr} of network {clash.network}"
                self.drafts.add("overlapping-subnets", place, reason, other=clash.path)
            ranges.append(_Range(cidr, path, network))

    def _route(
        self, route: Route, path: Path, networks: tuple[str, ...], ranges: list[_Range], seen: dict[str, Path]
    ) -> Route:
        place = (*path, "to")
        cidr = None if route.to is BAD else check_cidr(self.drafts, place, route.to)
        if cidr is not None:
            self._destination(cidr, place, ranges, seen)
        hops = route.hops
        if not self.drafts.broken(path) and route.blackhole == bool(hops):
            reason = "it leads to a port and into a black hole at once" if hops else "it leads nowhere"
            self.drafts.add("invalid-route", path, reason)
        if len(hops) > MAX_NEXT_HOPS:
            self.drafts.add(
                "invalid-route", path, f"it has {len(hops)} next hops, and at most {MAX_NEXT_HOPS} are possible"
            )
        several = not isinstance(route.via, NextHop)
        checked = []
        for index, hop in enumerate(hops):
            where = (*path, "via", index) if several else (*path, "via")
            checked.append(self._hop(hop, where, networks, ranges, cidr))
        via = tuple(checked) if several else checked[0]
        to = route.to if cidr is None else str(cidr)
        return route if (to, via) == (route.to, route.via) else msgspec.structs.replace(route, to=to, via=via)

    def _destination(self, cidr: Cidr, place: Path, ranges: list[_Range], seen: dict[str, Path]) -> None:
        fault = not_unicast(cidr.first) if cidr.length else None
        if fault:
            self.drafts.add("invalid-route", place[:-1], f"nothing is routed to {cidr}: it is {fault}")
            return
        first = seen.setdefault(str(cidr), place)
        if first is not place:
            self.drafts.add("duplicate-route", place, f"{cidr} has a route already", other=first)
        inside = next((one for one in ranges if cidr.first in one.cidr and cidr.length >= one.cidr.length), None)
        if inside is not None:
            reason = f"{cidr} is in {inside.cidr}, a subnet of network {inside.network}, which the router joins"
            self.drafts.add("route-into-subnet", place, reason, other=inside.path)

    def _hop(
        self, hop: NextHop, path: Path, networks: tuple[str, ...], ranges: list[_Range], to: Cidr | None
    ) -> NextHop:
        if self.drafts.broken(path):
            return hop
        if (hop.port is None) == (hop.ip is None):
            given = "neither is given" if hop.port is None else "both are given"
            self.drafts.add("invalid-next-hop", path, f"a next hop is a port or an address, and {given}")
            return hop
        if hop.port is not None:
            self._hop_port(hop.port, (*path, "port"), networks)
            return hop
        text = hop.ip or ""
        packed = parse_ip(text)
        if packed is None or not_unicast(packed):
            self.drafts.add("invalid-next-hop", (*path, "ip"), f"{shown(text)} is no address of a port")
            return hop
        if to is not None and len(packed) != len(to.first):
            reason = f"{ip_text(packed)} is of another IP version than {to}"
            self.drafts.add("invalid-next-hop", (*path, "ip"), reason)
        elif not any(packed in one.cidr for one in ranges):
            known = " or ".join(str(one.cidr) for one in ranges if one.cidr.bits == len(packed) * 8)
            reason = f"{ip_text(packed)} is in no subnet that the router joins" + (f" ({known})" if known else "")
            self.drafts.add("next-hop-outside", (*path, "ip"), reason)
        elif gateway := next((view for view in self._views(networks) if packed in view.gateways), None):
            reason = f"{ip_text(packed)} is the gateway of {gateway.gateways[packed]}, the router itself"
            self.drafts.add("route-loop", (*path, "ip"), reason)
        return NextHop(ip=ip_text(packed))

    def _views(self, networks: tuple[str, ...]) -> list[NetworkView]:
        return [self.networks[name] for name in networks if name in self.networks]

    def _hop_port(self, name: str, place: Path, networks: tuple[str, ...]) -> None:
        port = self.ports.get(name)
        if port is None:
            if self.ports_known:
                reason = f"there is no port {shown(name)} in this VPC"
                self.drafts.add("unknown-port", place, reason, values=suggest(name, self.ports, "ports"))
        elif port.network not in networks and port.network is not BAD:
            reason = f"port {name} is in network {port.network}, which the router does not join"
            self.drafts.add("next-hop-outside", place, reason, other=(*self.base[:-1], "ports", name, "network"))


def _canonical(external: External) -> External:
    """A way out with canonical addresses; what is no address is left to its own checks."""

    def text(address: str) -> str:
        packed = None if address is BAD else parse_ip(address)
        return address if packed is None else ip_text(packed)

    snat = text(external.snat) if isinstance(external.snat, str) else tuple(map(text, external.snat))
    return external if snat == external.snat else msgspec.structs.replace(external, snat=snat)
