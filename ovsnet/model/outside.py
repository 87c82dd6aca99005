"""What a VPC has to do with provider networks: its ways out, and the addresses there that stand for its ports. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from ovsnet.model.numbers import ip_int
from ovsnet.model.routes import joined
from ovsnet.model.types import FloatingIp, Model, Network, Outside, Port, Router, Vpc, VpcState

OUTSIDE_MACS = (0x0A6F << 32, 0xFFFF << 32)
"""Value and mask of the MACs of addresses outside: locally administered (IEEE 802, 8.4), the rest is a hash."""


def outside_mac(vpc: str, address: str) -> int:
    """The MAC of an address that stands for ports of a VPC, the same on whichever host serves it."""
    digest = hashlib.blake2b(f"{vpc}/{address}".encode(), digest_size=4).digest()
    return OUTSIDE_MACS[0] | int.from_bytes(digest, "big")


def zone_key(vpc: str, address: str) -> str:
    """The name under which such an address has its conntrack zone; a port's is its id, which has no slash."""
    return f"{vpc}/{address}"


def provider_names(
    networks: Mapping[str, Network], routers: Mapping[str, Router], floating_ips: Mapping[str, FloatingIp]
) -> set[str]:
    """The provider networks that objects of a VPC name."""
    names = {one.provider_network for one in networks.values() if one.provider_network is not None}
    names |= {router.external.provider_network for router in routers.values() if router.external is not None}
    return names | {one.provider_network for one in floating_ips.values()}


def gateways_of(routers: Mapping[str, Router]) -> set[str]:
    """The hosts where domains of a VPC leave the cloud: they hold the VPC as if they had ports of it."""
    return {host for router in routers.values() if router.external is not None for host in router.external.gateways}


def told_of(model: Model, vpc: Vpc) -> dict[str, Outside]:
    """What hosts are told of the provider networks that a VPC has to do with, by name."""
    told = {}
    for name in sorted(provider_names(vpc.networks, vpc.routers, vpc.floating_ips) & model.provider_networks.keys()):
        declared = model.provider_networks[name]
        bridges = {
            host: one.bridges[declared.physical]
            for host, one in model.hosts.items()
            if declared.physical in one.bridges
        }
        told[name] = Outside(vlan=declared.vlan, subnets=declared.subnets, bridges=bridges)
    return told


def target_of(floating: FloatingIp, port: Port | None) -> str | None:
    """The address that a floating IP stands for; ``None`` if the port has none, or several and none is named."""
    bits = ip_int(floating.address)[1]
    own = [ip for ip in (port.ips or () if port else ()) if ip_int(ip)[1] == bits]
    if floating.ip is not None:
        return floating.ip if floating.ip in own else None
    return own[0] if len(own) == 1 else None


def way_of(floating: FloatingIp, port: Port | None, routers: Mapping[str, Router]) -> str | None:
    """The router through which a floating IP's port reaches that provider network, by name; ``None``: there is none."""
    if port is None:
        return None
    name = joined(routers).get(port.network)
    external = routers[name].external if name is not None else None
    if external is None or external.provider_network != floating.provider_network:
        return None
    return name


class Served(NamedTuple):
    """An address outside that a host may have to serve: of the VPC's router, or of one floating IP."""

    address: str
    router: str
    floating: str | None


def may_serve(host: str, state: VpcState) -> Iterator[Served]:
    """The addresses outside of a VPC that may come to be served on a host, whichever gateway is there at the moment."""

    def has(name: str) -> bool:
        return host in state.provider_networks.get(name, Outside()).bridges

    for name, router in state.routers.items():
        external = router.external
        if external is not None and host in external.gateways and has(external.provider_network):
            yield from (Served(address, name, None) for address in external.addresses)
    for name, floating in state.floating_ips.items():
        port = state.ports.get(floating.port)
        way = way_of(floating, port, state.routers)
        if port is None or way is None or not has(floating.provider_network):
            continue
        external = state.routers[way].external
        if host in port.hosts or (external is not None and host in external.gateways):
            yield Served(floating.address, way, name)


def zones_of(host: str, states: Mapping[str, VpcState]) -> dict[str, str]:
    """The conntrack zones that addresses outside need on a host: their VPCs by their names."""
    return {
        zone_key(vpc, one.address): vpc
        for vpc, state in states.items()
        if state.provider_networks
        for one in may_serve(host, state)
    }
