"""What a router's words mean, as pure functions: gateways, and who joins which network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ovsnet.model.addresses import Cidr, ip_text, parse_cidr
from ovsnet.model.types import Network, Router, Subnet

MAX_NEXT_HOPS = 64
"""How many next hops one route may have."""


def usual_gateway(cidr: Cidr) -> bytes:
    """The packed address that a gateway has unless another is declared: the range's first that a host can have."""
    small = cidr.length > cidr.bits - 2
    return cidr.first if small else (int.from_bytes(cidr.first, "big") + 1).to_bytes(len(cidr.first), "big")


def gateway_of(subnet: Subnet) -> str:
    """The address of a joined subnet's gateway; the subnet has passed the model's checks."""
    if subnet.gateway is not None:
        return subnet.gateway
    parsed = parse_cidr(subnet.cidr)
    if parsed is None:
        raise ValueError(f"{subnet.cidr} is no address range")
    return ip_text(usual_gateway(parsed[0]))


def advertised(subnet: Subnet) -> str:
    """What router advertisements say of an IPv6 subnet: ``stateful``, ``slaac`` or ``none``."""
    return subnet.ra or ("stateful" if subnet.dhcp else "none")


def joined(routers: Mapping[str, Router]) -> dict[str, str]:
    """The router of each network that has one."""
    return {network: name for name, router in routers.items() for network in router.networks}


def subnets_of(router: Router, networks: Mapping[str, Network]) -> Iterator[tuple[str, Subnet]]:
    """The subnets that a router joins, each with its network's name."""
    for name in router.networks:
        for subnet in networks[name].subnets if name in networks else ():
            yield name, subnet
