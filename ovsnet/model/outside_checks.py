"""The checks of provider networks, ways out and floating IPs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import msgspec

from ovsnet.errors import Path, path_text, shown
from ovsnet.model.addresses import Cidr, ip_text, parse_cidr, parse_ip
from ovsnet.model.checks import Drafts, NetworkView, check_name, check_subnets, suggest
from ovsnet.model.outside import target_of, way_of
from ovsnet.model.structure import BAD
from ovsnet.model.types import External, FloatingIp, Host, Network, Outside, Port, ProviderNetwork, Router, Subnet

MOST_VLAN = 4094
_BRIDGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,14}")
_INTEGRATION = "br-int"


@dataclass
class ProviderView:
    """A checked provider network: its ranges, the hosts with a bridge to it, and what its addresses stand for."""

    view: NetworkView
    subnets: tuple[Subnet, ...]
    hosts: Collection[str]
    claimed: dict[bytes, Path] = field(default_factory=dict)


def check_bridges(drafts: Drafts, hosts: Mapping[str, Host]) -> None:
    """``invalid-bridge``."""
    for name, host in hosts.items():
        seen: dict[str, str] = {}
        for physical, bridge in host.bridges.items():
            if bridge is BAD:
                continue
            place: Path = ("hosts", name, "bridges", physical)
            other = seen.setdefault(bridge, physical)
            if not _BRIDGE.fullmatch(bridge) or bridge == _INTEGRATION:
                drafts.add("invalid-bridge", place, f"{shown(bridge)} is no bridge to a physical network")
            elif other != physical:
                drafts.add("invalid-bridge", place, f"{bridge} leads to {other} already")


def check_provider_networks(
    drafts: Drafts, declared: Mapping[str, ProviderNetwork], hosts: Mapping[str, Host]
) -> tuple[dict[str, ProviderNetwork], dict[str, ProviderView]]:
    """The site's provider networks with canonical ranges, and their views."""
    result, views = {}, {}
    segments: dict[tuple[str, int], Path] = {}
    for name, one in declared.items():
        path: Path = ("provider_networks", name)
        check_name(drafts, name, path)
        if one.vlan is not None and not 1 <= one.vlan <= MOST_VLAN:
            drafts.add("invalid-vlan", (*path, "vlan"), f"{one.vlan} is not within 1 to {MOST_VLAN}")
        first = segments.setdefault((one.physical, one.vlan or 0), path)
        if first is not path:
            reason = f"{path_text(first)} is the same VLAN of {one.physical}"
            drafts.add("duplicate-segment", path, reason, other=first, on_key=True, other_on_key=True)
        reached = [host for host, it in hosts.items() if one.physical in it.bridges]
        if not reached and one.physical is not BAD and not drafts.broken(("hosts",)):
            values = {"example": f"'bridges: {{{one.physical}: br-ex}}'"}
            drafts.add("unknown-physical", (*path, "physical"), f"no host has {shown(one.physical)}", values=values)
        view = NetworkView(path)
        subnets = check_subnets(drafts, path, one.subnets, view)
        result[name] = one if subnets == one.subnets else msgspec.structs.replace(one, subnets=subnets)
        views[name] = ProviderView(view, subnets, reached)
    return result, views


def told_views(drafts: Drafts, told: Mapping[str, Outside]) -> dict[str, ProviderView]:
    """The views of the provider networks that a host is told of with a VPC."""
    views = {}
    for name, outside in told.items():
        path: Path = ("provider_networks", name)
        check_name(drafts, name, path)
        if outside.vlan is not None and not 1 <= outside.vlan <= MOST_VLAN:
            drafts.add("invalid-vlan", (*path, "vlan"), f"{outside.vlan} is not within 1 to {MOST_VLAN}")
        view = NetworkView(path)
        views[name] = ProviderView(view, check_subnets(drafts, path, outside.subnets, view), outside.bridges)
    return views


class OutsideChecker:
    """Checks what one VPC, whose path is ``base``, has to do with the provider networks ``known``.

    ``gateways``: the hosts that may be gateways; ``None`` where that is not told.
    """

    def __init__(
        self, drafts: Drafts, base: Path, known: Mapping[str, ProviderView], gateways: Collection[str] | None
    ) -> None:
        self.drafts, self.base, self.known, self.gateways = drafts, base, known, gateways

    def networks(self, networks: Mapping[str, Network]) -> dict[str, Network]:
        """The networks, those on a provider network with its subnets."""
        result = dict(networks)
        for name, network in networks.items():
            path: Path = (*self.base, "networks", name)
            provider = self._provider(network.provider_network, path) if network.provider_network else None
            if provider is None:
                continue
            if network.subnets and network.subnets != provider.subnets:
                reason = f"they are those of {network.provider_network}"
                self.drafts.add("subnets-of-provider", (*path, "subnets"), reason)
            result[name] = msgspec.structs.replace(network, subnets=provider.subnets)
        return result

    def check(
        self,
        networks: Mapping[str, Network],
        views: Mapping[str, NetworkView],
        routers: Mapping[str, Router],
        ports: Mapping[str, Port],
        floating_ips: Mapping[str, FloatingIp],
    ) -> dict[str, FloatingIp]:
        """Check routers' ways out, floating IPs and ports on provider networks; the floating IPs, canonical."""
        on_provider = {name: one.provider_network for name, one in networks.items() if one.provider_network}
        for name, port in ports.items() if on_provider else ():
            provider = self.known.get(on_provider.get(port.network) or "")
            if provider is not None:
                self._port((*self.base, "ports", name), port, provider)
        for name, router in routers.items():
            path: Path = (*self.base, "routers", name)
            for index, network in enumerate(router.networks):
                if network in on_provider:
                    reason = f"network {network} is on provider network {on_provider[network]}"
                    self.drafts.add("joined-provider-network", (*path, "networks", index), reason)
            if router.external is not None and not self.drafts.broken((*path, "external")):
                inside = {name: view for name, view in views.items() if name not in on_provider}
                self._external((*path, "external"), router, router.external, inside)
        result: dict[str, FloatingIp] = {}
        targets: dict[tuple[str, str], Path] = {}
        for name, floating in floating_ips.items():
            path = (*self.base, "floating_ips", name)
            check_name(self.drafts, name, path)
            sound = not self.drafts.broken(path)
            result[name] = self._floating(path, floating, routers, ports, targets) if sound else floating
        return result

    def _provider(self, name: str, path: Path) -> ProviderView | None:
        provider = self.known.get(name)
        if provider is None and name is not BAD and not self.drafts.broken(("provider_networks",)):
            reason = f"there is no provider network {shown(name)}"
            values = suggest(name, self.known, "provider_networks")
            self.drafts.add("unknown-provider-network", (*path, "provider_network"), reason, values=values)
        return provider

    def _port(self, path: Path, port: Port, provider: ProviderView) -> None:
        for key, host in (("host", port.host), ("moving_to", port.moving_to)):
            if host is not None and host not in provider.hosts and not self.drafts.broken(("hosts",)):
                name = provider.view.path[-1]
                values = {"hosts": ", ".join(sorted(provider.hosts)) or "a host that has one"}
                reason = f"{host} has no bridge to provider network {name}"
                self.drafts.add("port-without-bridge", (*path, key), reason, values=values)
        for index, text in enumerate(port.ips or ()):
            packed = None if text is BAD else parse_ip(text)
            if packed is not None:
                self._claim(packed, (*path, "ips", index), provider)

    def _external(self, path: Path, router: Router, external: External, views: Mapping[str, NetworkView]) -> None:
        provider = self._provider(external.provider_network, path)
        if provider is None:
            return
        for index, host in enumerate(external.gateways):
            fault = self._gateway_fault(host, external, provider)
            if fault:
                some = ", ".join(sorted(set(provider.hosts) & set(self.gateways or provider.hosts)))
                values = {"suggestion": f"Use one of: {some}." if some else "Give a host both."}
                self.drafts.add("invalid-gateway-host", (*path, "gateways", index), fault, values=values)
        versions = set()
        several = not isinstance(external.snat, str)
        for index, text in enumerate(external.addresses):
            place = (*path, "snat", index) if several else (*path, "snat")
            packed = self._address(text, place, provider)
            if packed is not None and len(packed) in versions:
                values = {"ranges": "each IP version, one"}
                self.drafts.add("invalid-outside-address", place, f"{text} is a second one", values=values)
            elif packed is not None:
                versions.add(len(packed))
        for index, route in enumerate(router.routes):
            parsed = None if route.to is BAD else parse_cidr(route.to)
            if parsed is not None and not parsed[0].length and len(parsed[0].first) in versions:
                reason = f"all else of {route.to} leaves by {external.provider_network}"
                self.drafts.add("default-route-and-way-out", (*path[:-1], "routes", index, "to"), reason)
        for number, cidr, inside in _overlaps(router, views, provider):
            reason = f"{inside} of network {router.networks[number]} overlaps {cidr} of {external.provider_network}"
            self.drafts.add("overlapping-outside", (*path[:-1], "networks", number), reason)

    def _gateway_fault(self, host: str, external: External, provider: ProviderView) -> str:
        if self.gateways is not None and host not in self.gateways:
            return f"{shown(host)} is no host with 'gateway: true'"
        if host not in provider.hosts:
            return f"{shown(host)} has no bridge to provider network {external.provider_network}"
        return ""

    def _address(self, text: str, place: Path, provider: ProviderView) -> bytes | None:
        """The packed address, claimed; ``None`` after ``invalid-outside-address``."""
        packed = None if text is BAD else parse_ip(text)
        view = provider.view
        cidr = next((one for one in view.ranges if packed is not None and packed in one), None)
        if packed is None:
            fault = "is no IP address"
        elif cidr is None:
            fault = f"is in no subnet of {view.path[-1]}"
        else:
            reserved = "gateway's address" if packed in view.gateways else cidr.reserved(packed)
            fault = f"is the {reserved} of {cidr}" if reserved else ""
        if fault or packed is None:
            if text is not BAD:
                values = {"ranges": " or ".join(str(one) for one in view.ranges) or "a subnet that it declares"}
                self.drafts.add("invalid-outside-address", place, f"{shown(text)} {fault}", values=values)
            return None
        self._claim(packed, place, provider)
        return packed

    def _claim(self, packed: bytes, place: Path, provider: ProviderView) -> None:
        owner = provider.claimed.setdefault(packed, place)
        if owner is not place:
            reason = f"{ip_text(packed)} is already in use as {path_text(owner)}"
            self.drafts.add("duplicate-outside-address", place, reason, other=owner)

    def _floating(
        self,
        path: Path,
        floating: FloatingIp,
        routers: Mapping[str, Router],
        ports: Mapping[str, Port],
        targets: dict[tuple[str, str], Path],
    ) -> FloatingIp:
        provider = self._provider(floating.provider_network, path)
        packed = self._address(floating.address, (*path, "address"), provider) if provider is not None else None
        port = ports.get(floating.port)
        if port is None:
            if bool(ports) or not self.drafts.broken_beside(self.base):
                reason = f"there is no port {shown(floating.port)} in this VPC"
                values = suggest(floating.port, ports, "ports")
                self.drafts.add("unknown-port", (*path, "port"), reason, values=values)
            return floating
        if packed is None or self.drafts.broken((*self.base, "ports", floating.port)) or port.ips is None:
            return floating
        ip = None if floating.ip is None else parse_ip(floating.ip)
        floating = msgspec.structs.replace(
            floating, address=ip_text(packed), ip=floating.ip if ip is None else ip_text(ip)
        )
        if way_of(floating, port, routers) is None:
            reason = f"no router of network {port.network} has a way out there"
            values = {"network": floating.provider_network}
            self.drafts.add("no-way-out", path, reason, values=values, on_key=True)
        self._target(path, floating, port, targets, len(packed))
        return floating

    def _target(
        self, path: Path, floating: FloatingIp, port: Port, targets: dict[tuple[str, str], Path], size: int
    ) -> None:
        own = [ip for ip in port.ips or () if len(parse_ip(ip) or b"") == size]
        target = target_of(floating, port)
        values = {"choices": " or ".join(own) or f"port {floating.port} has no address of that IP version"}
        if target is None:
            reason = f"{floating.ip or 'it'} is not one address of port {floating.port}"
            if floating.ip is None:
                reason = f"port {floating.port} has {len(own)} addresses of its IP version"
            self.drafts.add("invalid-floating-target", path, reason, values=values, on_key=True)
            return
        first = targets.setdefault((floating.port, target), path)
        if first is not path:
            reason = f"{target} of port {floating.port} has the floating IP {first[-1]} already"
            self.drafts.add("invalid-floating-target", path, reason, values=values, on_key=True)


def _overlaps(
    router: Router, views: Mapping[str, NetworkView], provider: ProviderView
) -> Iterator[tuple[int, Cidr, Cidr]]:
    """The joined networks, by their index, that have a range in common with a provider network, with both ranges."""
    for number, name in enumerate(router.networks):
        view = views.get(name)
        for inside in view.ranges if view is not None else ():
            cidr = next((one for one in provider.view.ranges if one.overlaps(inside)), None)
            if cidr is not None:
                yield number, cidr, inside
