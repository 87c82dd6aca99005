"""What routers mean for one packet: an independent reading of docs/routing.md, written without looking at the pipeline.

Pure functions of declared types and octets. Sources: RFC 1812 (4.3.2.7: no errors about these), RFC 4443 (2.4 e: the
same of IPv6), RFC 3021 (/31 has no broadcast address), RFC 9293 (no reset about a reset).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.fate import Kind, Reason
from ovsnet.lab.headers import Address, link_local
from ovsnet.lab.segments import ICMP, ICMPV6, TCP, UDP, Segment
from ovsnet.model.types import Model, NextHop, Route, Router, Subnet, Vpc

Prefix = IPv4Network | IPv6Network
Where = tuple[str, str]
"""A network: the VPC's name and its own."""

GATEWAY_LINK_LOCAL = link_local(GATEWAY_MAC)
_NEVER_ROUTED: tuple[Prefix, ...] = (
    *map(ip_network, ("224.0.0.0/4", "255.255.255.255", "127.0.0.0/8", "169.254.0.0/16", "0.0.0.0")),
    *map(ip_network, ("ff00::/8", "::1", "fe80::/10", "::")),
)
"""Destinations of no router's: multicast, broadcast, loopback, link-local, unspecified."""
_NOBODYS: tuple[Prefix, ...] = tuple(
    map(ip_network, ("0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::", "::1", "ff00::/8"))
)
"""Sources that name no single node."""
_LINK_LOCAL6 = IPv6Network("fe80::/10")
_RST = 4


@dataclass(frozen=True)
class Step:
    """What a router does with a packet: exactly one of the following, or a drop for ``reason``.

    ``echo``: it answers as the pinged address. ``to``: on to whoever has the address, in ``network``. ``route``: on
    along a static route. ``error`` is what the sender is told in case of a drop.
    """

    reason: Reason
    echo: bool = False
    network: Where | None = None
    route: Route | None = None
    error: Kind | None = None


class Domain:
    """One router of a VPC: its networks' subnets with their gateways, and its routes, the longest prefix first."""

    def __init__(self, vpc_name: str, vpc: Vpc, name: str, router: Router) -> None:
        self.name = f"{vpc_name}/{name}"
        self.networks = tuple((vpc_name, network) for network in router.networks)
        self._subnets = {where: tuple(_subnets(vpc.networks[where[1]].subnets)) for where in self.networks}
        gateways = {gateway for subnets in self._subnets.values() for _, gateway in subnets}
        self._own = gateways | {GATEWAY_LINK_LOCAL} if any(one.version == 6 for one in gateways) else gateways
        self._routes = sorted(((ip_network(route.to), route) for route in router.routes), key=_shortest_first)[::-1]

    def gateways(self, where: Where) -> set[Address]:
        """The addresses that answer ARP and neighbour discovery in a network: its own gateways'."""
        own = {gateway for _, gateway in self._subnets[where]}
        return own | {GATEWAY_LINK_LOCAL} if any(one.version == 6 for one in own) else own

    def speaker(self, where: Where, source: Address) -> Address | None:
        """The gateway address that errors to ``source`` come from; ``None`` in a network without that IP version."""
        own = [(cidr, gateway) for cidr, gateway in self._subnets[where] if gateway.version == source.version]
        near = [gateway for cidr, gateway in own if source in cidr]
        return next(iter(near or [gateway for _, gateway in own]), None)

    def step(self, where: Where, packet: Segment, ttl: int) -> Step:
        """What happens to a packet that a port of ``where`` sends to the gateways' MAC: docs/routing.md's table."""
        dst = packet.dst
        if dst in self._own:
            return _at_gateway(packet)
        link_local6 = isinstance(packet.src, IPv6Address) and packet.src in _LINK_LOCAL6
        if link_local6 or any(dst in prefix for prefix in _NEVER_ROUTED) or self._broadcast(dst):
            return Step(Reason.NOT_ROUTABLE)
        if ttl < 2:
            return Step(Reason.TTL_SPENT, error=Kind.TIME_EXCEEDED)
        for network, subnets in self._subnets.items():
            if any(dst in cidr for cidr, _ in subnets):
                return Step(Reason.DELIVERED, network=network)
        route = next((route for cidr, route in self._routes if dst in cidr), None)
        if route is None:
            return Step(Reason.NO_ROUTE, error=Kind.NO_ROUTE)
        return Step(Reason.BLACKHOLE) if route.blackhole else Step(Reason.DELIVERED, route=route)

    def _broadcast(self, address: Address) -> bool:
        """Whether it is the broadcast address of a joined subnet."""
        every = (cidr for subnets in self._subnets.values() for cidr, _ in subnets)
        return any(cidr.version == 4 and cidr.prefixlen < 31 and address == cidr.broadcast_address for cidr in every)


def _at_gateway(packet: Segment) -> Step:
    """A packet for the router itself. It puts no fragments together, and answers whole echo requests only."""
    request = (ICMP, 8, 0) if packet.version == 4 else (ICMPV6, 128, 0)
    if (packet.protocol, packet.kind, packet.code) == request and packet.part == "whole" and packet.ident is not None:
        return Step(Reason.ANSWERED, echo=True)
    kind = {UDP: Kind.PORT_UNREACHABLE, TCP: Kind.RESET}.get(packet.protocol)
    return Step(Reason.AT_GATEWAY, error=kind)


def forbidden(kind: Kind, packet: Segment) -> str | None:
    """Why nothing may be said about a packet; ``None`` if it may (RFC 1812, 4.3.2.7; RFC 4443, 2.4 e; RFC 9293)."""
    if kind == Kind.RESET:
        if packet.part != "whole" or packet.sport is None:
            return "it is a part of a segment"
        return "it is a reset itself" if packet.flags & _RST else _of_source(packet)
    if packet.is_error or (packet.is_icmp and packet.version == 6 and packet.kind == 137):
        return "it is an error or a redirect itself"
    if packet.part == "later" and (packet.version == 4 or packet.is_icmp):
        return "it is a later fragment, or may be one of an error"
    return _of_source(packet)


def _of_source(packet: Segment) -> str | None:
    return "its source is nobody's address" if any(packet.src in prefix for prefix in _NOBODYS) else None


def domains(model: Model) -> dict[Where, Domain]:
    """The routed domain of every network that a router joins."""
    made = [Domain(name, vpc, key, router) for name, vpc in model.vpcs.items() for key, router in vpc.routers.items()]
    return {where: domain for domain in made for where in domain.networks}


def ranges_of(vpc: Vpc, network: str, name: str, ips: Iterable[str]) -> tuple[Prefix, ...]:
    """The ranges that are routed to the port ``name`` of a network, which has these addresses, as a next hop."""
    hops = {NextHop(port=name), *(NextHop(ip=ip) for ip in ips)}
    routes = (route for router in vpc.routers.values() if network in router.networks for route in router.routes)
    return tuple(ip_network(route.to) for route in routes if hops & set(route.hops))


def ttl_of(frame: bytes) -> int:
    """The TTL or hop limit of the IP packet in an untagged frame."""
    return frame[22] if frame[12:14] == b"\x08\x00" else frame[21]


def forwarded(frame: bytes, mac: str) -> bytes:
    """The frame as a router hands it on to ``mac``: one TTL less, the gateways' MAC as its source, and no more."""
    packet = bytearray(frame[14:])
    if frame[12:14] == b"\x08\x00":
        packet[8] -= 1
        packet[10:12] = bytes(2)
        header = packet[: (packet[0] & 15) * 4]
        total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, len(header), 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        packet[10:12] = (total ^ 0xFFFF).to_bytes(2, "big")
    else:
        packet[7] -= 1
    return _octets(mac) + _octets(GATEWAY_MAC) + frame[12:14] + bytes(packet)


def _octets(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


def _subnets(declared: Iterable[Subnet]) -> Iterator[tuple[Prefix, Address]]:
    """Each range with its gateway: the declared one, or the first address that a host can have."""
    for subnet in declared:
        cidr = ip_network(subnet.cidr)
        first = cidr[1] if cidr.num_addresses > 2 else cidr[0]
        yield cidr, ip_address(subnet.gateway) if subnet.gateway is not None else first


def _shortest_first(route: tuple[Prefix, Route]) -> int:
    return route[0].prefixlen
