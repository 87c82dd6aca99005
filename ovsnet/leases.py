"""What each port here is told of its addresses, derived from what is declared. Pure and incremental."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from ovsnet.desired import Subject
from ovsnet.gateway import GATEWAY_MAC
from ovsnet.held import HeldVpc
from ovsnet.model.addresses import parse_cidr, parse_ip
from ovsnet.model.numbers import ip_text, link_local, mac_int
from ovsnet.model.routes import advertised, gateway_of, subnets_of
from ovsnet.model.types import Network, Port, Router, Subnet
from ovsnet.responders.dhcp4 import Lease4, Route
from ovsnet.responders.dhcp6 import Lease6
from ovsnet.responders.lease import Lease
from ovsnet.responders.ra import LIFETIME, Advertisement, Prefix, is_eui64

SERVER = "169.254.0.1"
"""Whose the answers of DHCP are in a network without a router: nobody's address (RFC 3927, 2.1)."""
MOST_ROUTES = 32
"""More routes than so many are not told: the default route leads there too."""
MOST_IPS = 16
"""IPv6 addresses, and ranges, that fit into one message."""
MOST_RESOLVERS = 8
_ALL = "0.0.0.0/0"


def lease_of(vpc: HeldVpc, name: str, port: Port, room: int) -> Lease | None:
    """What a port is told; ``None``: nothing. ``room`` is the MTU in bytes that fits into the underlay."""
    network = vpc.networks[port.network]
    router = vpc.routers.get(vpc.router_of.get(port.network, ""))
    mac, mtu = port.mac or "", min(network.mtu or room, room)
    ips = {False: [ip for ip in port.ips or () if ":" not in ip], True: [ip for ip in port.ips or () if ":" in ip]}
    v4 = _lease4(vpc, network, router, ips[False], mac, name, mtu)
    v6, said = None, None
    if ips[True]:
        subnets = [one for one in network.subnets if ":" in one.cidr]
        v6 = _lease6(network, subnets, ips[True], mac)
        said = _advertisement(network, subnets, ips[True], mac, mtu, router is not None)
    if v4 is None and v6 is None and said is None:
        return None
    own = [ip_text(link_local(mac_int(mac)), 128)] if ips[True] else []
    return Lease(mac, (*ips[False], *ips[True], *own), v4, v6, said)


def _lease4(
    vpc: HeldVpc, network: Network, router: Router | None, ips: list[str], mac: str, name: str, mtu: int
) -> Lease4 | None:
    """The first address that is in a subnet with DHCP, with all that belongs to it: DHCP hands out one."""
    found = ((ip, subnet) for ip in ips for subnet in network.subnets if subnet.dhcp and _within(ip, subnet))
    ip, subnet = next(found, ("", None))
    if subnet is None:
        return None
    gateway = None if router is None else gateway_of(subnet)
    return Lease4(
        mac=mac,
        ip=ip,
        prefix=int(subnet.cidr.partition("/")[2]),
        server_mac=GATEWAY_MAC,
        server_ip=gateway or SERVER,
        router=gateway,
        routes=() if router is None or gateway is None else _routes(vpc, router, subnet, gateway),
        dns=subnet.dns,
        domain=network.domain or None,
        search=_search(network),
        hostname=name.replace("_", "-").strip("-"),
        mtu=mtu,
        seconds=subnet.lease,
    )


def _routes(vpc: HeldVpc, router: Router, own: Subnet, gateway: str) -> tuple[Route, ...]:
    """What lies behind the gateway, so that a machine with several NICs sends each thing out of the right one."""
    ranges = [subnet.cidr for _, subnet in subnets_of(router, vpc.networks) if subnet is not own]
    ranges += [route.to for route in router.routes if route.to != _ALL]
    known = tuple(dict.fromkeys(cidr for cidr in ranges if ":" not in cidr))
    return tuple(Route(to, gateway) for to in known) if len(known) <= MOST_ROUTES else ()


def _lease6(network: Network, subnets: list[Subnet], ips: list[str], mac: str) -> Lease6 | None:
    serving = [one for one in subnets if one.dhcp]
    if not serving:
        return None
    return Lease6(
        mac=mac,
        server_mac=GATEWAY_MAC,
        ips=tuple(ip for ip in ips if any(_within(ip, one) for one in serving))[:MOST_IPS],
        prefixes=tuple(one.cidr for one in subnets),
        dns=_resolvers(serving),
        search=_search(network),
        seconds=min(one.lease for one in serving),
    )


def _advertisement(
    network: Network, subnets: list[Subnet], ips: list[str], mac: str, mtu: int, routed: bool
) -> Advertisement | None:
    """What the router says of a network to one port; without a router the ranges alone."""
    told = [one for one in subnets if advertised(one) != "none"]
    if not told:
        return None
    making = {one.cidr for one in told if advertised(one) == "slaac" and any(is_eui64(ip, one.cidr, mac) for ip in ips)}
    asked = [one for one in told if one.dhcp and any(_within(ip, one) for ip in ips)]
    return Advertisement(
        mac=GATEWAY_MAC,
        prefixes=tuple(Prefix(one.cidr, autonomous=one.cidr in making) for one in told[:MOST_IPS]),
        managed=any(one.cidr not in making for one in asked),
        other=any(one.dhcp for one in told),
        dns=_resolvers(told),
        search=_search(network),
        mtu=mtu,
        lifetime=LIFETIME if routed else 0,
        seconds=min(one.lease for one in told),
    )


def _resolvers(subnets: Iterable[Subnet]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(ip for one in subnets for ip in one.dns))[:MOST_RESOLVERS]


def _search(network: Network) -> tuple[str, ...]:
    return (network.domain,) if network.domain else ()


def _within(ip: str, subnet: Subnet) -> bool:
    parsed, packed = parse_cidr(subnet.cidr), parse_ip(ip)
    return parsed is not None and packed is not None and packed in parsed[0]


class LeaseBook:
    """Which OpenFlow port is told what, and for which of the model's ports."""

    def __init__(self) -> None:
        self.told: dict[int, Lease] = {}
        self._held: dict[Subject, tuple[int, Lease]] = {}
        self._owner: dict[int, Subject] = {}

    def take(self, news: Mapping[Subject, tuple[int, Lease] | None]) -> dict[int, Lease | None]:
        """Note what ports are told from now on; what has changed, by OpenFlow port (``None``: nothing any more)."""
        touched: set[int] = set()
        for subject, new in news.items():
            old = self._held.pop(subject, None)
            if old is not None:
                touched.add(old[0])
                if self._owner.get(old[0]) == subject:
                    del self._owner[old[0]]
            if new is not None:
                touched.add(new[0])
                self._held[subject] = new
                self._owner[new[0]] = subject
        changes: dict[int, Lease | None] = {}
        for ofport in touched:
            owner = self._owner.get(ofport)
            lease = None if owner is None else self._held[owner][1]
            if lease != self.told.get(ofport):
                changes[ofport] = lease
            if lease is None:
                self.told.pop(ofport, None)
            else:
                self.told[ofport] = lease
        return changes
