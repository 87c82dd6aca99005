"""Routers for random models, and frames for them: to gateways, through them, and past them.

``tests/property/strategies`` asks for routers where a model is to have them; frames follow from the model.
"""

from __future__ import annotations

import random
from ipaddress import ip_network
from typing import TYPE_CHECKING

from hypothesis import strategies as st

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.headers import link_local
from ovsnet.model.routes import gateway_of
from ovsnet.model.types import Model, Network, NextHop, Port, RemoteEndpoint, Route, Router
from tests.property import packets as p

if TYPE_CHECKING:
    from tests.property.frames import Scene

CIDRS = (
    ("10.0.0.0/24", "192.168.1.0/24", "2001:db8:1::/64", "fd00:0:0:7::/64"),
    ("10.0.1.0/24", "192.168.2.0/24", "2001:db8:2::/64", "fd00:0:0:8::/64"),
)
"""Subnets of the first and the second network of a VPC; so one router may join both."""
RANGES = (
    *("10.50.0.0/16", "10.50.3.0/24", "10.66.0.0/16", "0.0.0.0/0", "198.51.100.0/24"),
    *("2001:db8:ff::/48", "2001:db8:ff::/64", "2001:db8:66::/48", "::/0"),
)
ROUTER_VNI = 0x1000
"""How far the VNIs of a VPC's routers are from the first of its networks."""
GATEWAY_LINK_LOCAL = str(link_local(GATEWAY_MAC))
TTLS = (64, 64, 64, 255, 2, 1, 0)


@st.composite
def routers(
    draw: st.DrawFn, networks: dict[str, Network], ports: dict[str, Port], far: dict[str, RemoteEndpoint], vni: int
) -> dict[str, Router]:
    """No router, one of one network, one of all, or one for each."""
    names = tuple(networks)
    layouts: list[tuple[tuple[str, ...], ...]] = [(), (names[:1],), (names,), (names,), tuple((one,) for one in names)]
    chosen = draw(st.sampled_from(layouts))
    return {
        f"r{i}": Router(vni=vni + ROUTER_VNI + i, networks=joins, routes=draw(routes(joins, networks, ports, far)))
        for i, joins in enumerate(chosen)
    }


@st.composite
def routes(
    draw: st.DrawFn,
    joins: tuple[str, ...],
    networks: dict[str, Network],
    ports: dict[str, Port],
    far: dict[str, RemoteEndpoint],
) -> tuple[Route, ...]:
    """A few ranges, each by one next hop or several, there or not, or into a black hole."""
    holders: list[Port | RemoteEndpoint] = [*ports.values(), *far.values()]
    ips = [ip for one in holders if one.network in joins for ip in one.ips or ()]
    ips += [str(ip_network(subnet.cidr)[77]) for name in joins for subnet in networks[name].subnets]
    by_name = [NextHop(port=name) for name, port in ports.items() if port.network in joins]
    found = []
    for to in draw(st.lists(st.sampled_from(RANGES), max_size=5, unique=True)):
        pool = [*by_name, *(NextHop(ip=ip) for ip in ips if (":" in ip) == (":" in to))]
        several = st.lists(st.sampled_from(pool), min_size=1, max_size=4, unique=True) if pool else st.just([])
        hops = draw(several) if draw(st.integers(0, 5)) else []
        found.append(Route(to=to, via=tuple(hops), blackhole=not hops))
    return tuple(found)


def joins_of(model: Model, vpc: str, network: str) -> Router | None:
    """The router of a network, or ``None``."""
    return next((one for one in model.vpcs[vpc].routers.values() if network in one.networks), None)


def gateways_of(model: Model, vpc: str, network: str) -> list[str]:
    """The gateways of a network's routed domain, the link-local one too; where there is none, what could be one."""
    router = joins_of(model, vpc, network)
    joined = router.networks if router else (network,)
    return [gateway_of(s) for one in joined for s in model.vpcs[vpc].networks[one].subnets] + [GATEWAY_LINK_LOCAL]


def ranges_of(model: Model, vpc: str, network: str) -> list[str]:
    """The ranges with static routes of a network's routed domain; where there are none, any."""
    router = joins_of(model, vpc, network)
    return [route.to for route in router.routes] if router and router.routes else list(RANGES)


def _gateway(s: Scene, version: int) -> str:
    return s.rng.choice([ip for ip in s.gateways if (":" in ip) == (version == 6)] or ["10.0.0.1"])


def _in_range(s: Scene) -> str:
    """An address of a range; of all addresses, some that the other ranges begin with too."""
    cidr = ip_network(s.rng.choice(s.ranges))
    if cidr.prefixlen == 0:
        cidr = ip_network("10.50.0.0/16" if cidr.version == 4 else "2001:db8:ff::/48")
    return str(cidr[s.rng.randrange(1, min(1 << 16, cidr.num_addresses) - 1)])


def _source(s: Scene, dst: str) -> str:
    version = 6 if ":" in dst else 4
    return s.rng.choice((s.own(version), s.own(version), s.granted(version)[1]))


def _packet(s: Scene, src: str, dst: str, ttl: int = 64) -> bytes:
    """UDP, TCP, an echo request or something else."""
    version = 6 if ":" in dst else 4
    echo = p.icmp(8, 0, b"\0\1\0\1", b"ping") if version == 4 else p.icmpv6(src, dst, 128, b"\0\1\0\1ping")
    protocol, payload = s.rng.choice(
        ((p.UDP, p.udp(b"data")), (p.TCP, p.tcp()), (p.ICMP if version == 4 else p.ICMPV6, echo), (47, bytes(20)))
    )
    return (p.ipv4 if version == 4 else p.ipv6)(src, dst, payload, protocol, ttl)


def _through(s: Scene, packet: bytes, dst: str = GATEWAY_MAC) -> bytes:
    return s.frame(p.IPV6 if packet[0] >> 4 == 6 else p.IPV4, packet, dst=dst)


def through_to_peer(s: Scene) -> bytes:
    """To somebody else's address, now and then to one's own."""
    version = s.version()
    dst = s.rng.choice((*[s.theirs(version)] * 5, s.own(version)))
    return _through(s, _packet(s, _source(s, dst), dst, s.rng.choice(TTLS)))


def through_to_range(s: Scene) -> bytes:
    dst = _in_range(s)
    return _through(s, _packet(s, _source(s, dst), dst, s.rng.choice(TTLS)))


def through_between_ranges(s: Scene) -> bytes:
    """From an address that is allowed to one of a range: two of these are each other's way back."""
    version = s.rng.choice((4, 6))
    mac, src = s.granted(version)
    dst = s.rng.choice(("10.50.3.4", "10.50.0.9") if version == 4 else ("2001:db8:ff::5", "2001:db8:ff::9"))
    packet = p.ipv4(src, dst, p.udp(b"data")) if version == 4 else p.ipv6(src, dst, p.udp(b"data"))
    return s.frame(p.IPV4 if version == 4 else p.IPV6, packet, dst=GATEWAY_MAC, src=mac)


def through_to_anywhere(s: Scene) -> bytes:
    version = s.version()
    return _through(s, _packet(s, s.own(version), s.any_ip(version), s.rng.choice(TTLS)))


def through_in_parts(s: Scene) -> bytes:
    """A fragment of UDP; through a gateway, or for it."""
    dst = s.rng.choice((s.theirs(s.version()), _in_range(s), _gateway(s, s.version())))
    offset, more = s.rng.choice(((0, True), (64, True), (128, False)))
    src, ttl = _source(s, dst), s.rng.choice((64, 1))
    if ":" not in dst:
        return _through(s, p.ipv4(src, dst, p.udp(bytes(56)), ttl=ttl, flags=more << 13 | offset >> 3))
    return _through(s, p.extended(src, dst, [p.fragment_header(offset, more)], p.UDP, p.udp(bytes(56)), ttl))


def to_gateway(s: Scene) -> bytes:
    gateway = _gateway(s, s.rng.choice((4, 6)))
    return _through(s, _packet(s, _source(s, gateway), gateway, s.rng.choice(TTLS)))


def ping_gateway(s: Scene) -> bytes:
    dst = _gateway(s, s.rng.choice((4, 6)))
    src = _source(s, dst)
    if ":" not in dst:
        return _through(s, p.ipv4(src, dst, p.icmp(8, 0, b"\0\1\0\1", b"ping"), p.ICMP, s.rng.choice(TTLS)))
    echo = p.icmpv6(src, dst, 128, b"\0\1\0\1ping")
    headers = s.rng.choice(([], [], [p.DESTINATION_OPTIONS]))
    return _through(s, p.extended(src, dst, headers, p.ICMPV6, echo, s.rng.choice(TTLS)))


def past_gateway_to_range(s: Scene) -> bytes:
    """To the peer's MAC, but an address of a range: only next hops get it."""
    dst = _in_range(s)
    return _through(s, _packet(s, _source(s, dst), dst), s.peer.mac)


def arp_for_gateway(s: Scene) -> bytes:
    request = p.arp(1, s.sender.mac, s.rng.choice((s.own(4), "0.0.0.0")), p.NO_MAC, _gateway(s, 4))
    return s.frame(p.ARP, request, dst=s.rng.choice((p.BROADCAST, GATEWAY_MAC)))


def solicitation_of_gateway(s: Scene) -> bytes:
    target = _gateway(s, 6)
    mac, dst = s.rng.choice((p.solicited_node(target), (GATEWAY_MAC, target)))
    options = s.rng.choice((p.option(1, s.sender.mac), p.option(1, s.sender.mac), b""))
    return s.frame(p.IPV6, p.solicitation(s.own(6), dst, target, options), dst=mac)


def as_gateway(s: Scene) -> bytes:
    """Spoofed: from the gateways' MAC, or from a gateway's address."""
    version = s.version()
    src = s.rng.choice((s.own(version), _gateway(s, version)))
    return s.frame(*s.packet(version, src=src), src=s.rng.choice((GATEWAY_MAC, s.sender.mac)))


def advertisement_of_gateway(s: Scene) -> bytes:
    """Spoofed: an ARP reply or an advertisement that says to be the gateway."""
    if s.rng.random() < 0.5:
        return s.frame(p.ARP, p.arp(2, s.sender.mac, _gateway(s, 4), s.peer.mac, s.theirs(4)))
    target = _gateway(s, 6)
    return s.frame(p.IPV6, p.advertisement(s.own(6), s.theirs(6), target, p.option(2, s.sender.mac)))


KINDS = (
    *(through_to_peer, through_to_peer, through_to_peer, through_to_range, through_to_range, through_between_ranges),
    *(through_to_anywhere, through_in_parts, to_gateway, ping_gateway, past_gateway_to_range, arp_for_gateway),
    *(solicitation_of_gateway, as_gateway, advertisement_of_gateway),
)


def arriving(s: Scene, rng: random.Random) -> list[bytes]:
    """Frames that come through a tunnel: to a gateway, which is nobody there, and of ranges."""
    dst = _in_range(s)
    sent = [
        through_to_peer(s),
        ping_gateway(s),
        _through(s, _packet(s, s.own(6 if ":" in dst else 4), dst), s.peer.mac),
    ]
    version = s.version()
    routed = p.ip(s.own(version), s.theirs(version), p.udp(b"data"))
    return [*rng.sample(sent, 2), s.frame(*routed, src=GATEWAY_MAC)]
