"""Random frames for a model: one function a kind of frame, honest and dishonest, from any port towards any port.

A kind takes the scene (sender, peer, randomness) and returns the octets. Everything that a kind leaves open is drawn
from pools that mix the sender's, the peer's, other tenants' and nobody's MACs and addresses.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_network

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.expectation import Frame
from ovsnet.lab.headers import link_local
from ovsnet.model.types import Model, Port
from tests.property import packets as p
from tests.property import routed
from tests.property.harness import Arrival
from tests.property.reference import Case
from tests.property.world import endpoints_of, places

NOBODY_MACS = ("02:de:ad:00:00:01", "00:00:00:00:00:00", "00:00:5e:00:01:05")
MULTICAST_MACS = ("01:00:5e:00:00:01", "33:33:00:00:00:01", "01:80:c2:00:00:00", "01:80:c2:00:00:0e", p.BROADCAST)
ODD_IPV4 = (
    "127.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "10.0.0.77",
    "169.254.1.1",
    "10.50.3.4",
    "10.0.0.250",
)
ODD_IPV6 = ("::1", "fe80::1234", "2001:db8:1::77", "ff02::1", "::ffff:10.0.0.10", "2001:db8:ff::5", "2001:db8:1::99")


@dataclass(frozen=True)
class Nic:
    """A port as the frames' author knows it, placed or not, or a neighbour elsewhere as if it were one."""

    name: str
    vpc: str
    port: Port

    @property
    def mac(self) -> str:
        return str(self.port.mac)

    def ips(self, version: int) -> list[str]:
        """Its addresses of one family, the link-local one included."""
        own = [ip for ip in self.port.ips or () if (":" in ip) == (version == 6)]
        return [*own, str(link_local(self.mac))] if version == 6 else own


@dataclass(frozen=True)
class Scene:
    """Who sends towards whom, and the dice; and the gateways and routed ranges that concern the sender."""

    sender: Nic
    peer: Nic
    everybody: list[Nic]
    rng: random.Random
    gateways: list[str] = field(default_factory=list)
    ranges: list[str] = field(default_factory=list)

    def own(self, version: int) -> str:
        """One of the sender's addresses (or, of IPv4, nobody's, if it has none)."""
        return self.rng.choice(self.sender.ips(version) or ["10.0.0.66"])

    def theirs(self, version: int) -> str:
        return self.rng.choice(self.peer.ips(version) or ["10.0.0.67"])

    def granted(self, version: int) -> tuple[str, str]:
        """A MAC and an address of ``allowed_addresses``, perhaps combined wrongly; else the sender's own."""
        entries = [a for a in self.sender.port.allowed_addresses if (":" in a.ip) == (version == 6)]
        if not entries:
            return self.sender.mac, self.own(version)
        entry = self.rng.choice(entries)
        network = ip_network(entry.ip)
        address = network[self.rng.randrange(min(network.num_addresses, 1 << 16))]
        return self.rng.choice((entry.mac or self.sender.mac, self.sender.mac)), str(address)

    def any_ip(self, version: int) -> str:
        """Any address: somebody's, nobody's, an impossible one, or one that somebody is allowed to send from."""
        allowed = [ip_network(a.ip) for nic in self.everybody for a in nic.port.allowed_addresses]
        theirs = [str(prefix.broadcast_address) for prefix in allowed if prefix.version == version]
        if theirs and self.rng.random() < 0.2:
            return self.rng.choice(theirs)
        somebody = [ip for nic in self.everybody for ip in nic.ips(version)]
        return self.rng.choice(somebody + list(ODD_IPV4 if version == 4 else ODD_IPV6))

    def any_mac(self) -> str:
        return self.rng.choice([*(nic.mac for nic in self.everybody), *NOBODY_MACS])

    def version(self) -> int:
        """A family in which both have addresses, if there is one; IPv6 they always have."""
        both = [v for v in (4, 6) if all(any((":" in ip) == (v == 6) for ip in n.port.ips or ()) for n in self.pair)]
        return self.rng.choice(both or [6])

    @property
    def pair(self) -> tuple[Nic, Nic]:
        return self.sender, self.peer

    def frame(self, ethertype: int, payload: bytes, **changed: str) -> bytes:
        """From the sender to the peer, where ``dst`` and ``src`` say nothing else."""
        return p.ethernet(changed.get("dst", self.peer.mac), changed.get("src", self.sender.mac), ethertype, payload)

    def packet(self, version: int, src: str | None = None, dst: str | None = None) -> tuple[int, bytes]:
        """UDP, TCP or an echo request between the two, or between the given addresses."""
        src, dst = src or self.own(version), dst or self.theirs(version)
        kind = self.rng.randrange(3)
        if kind == 0:
            return p.ip(src, dst, p.udp(b"data", dport=self.rng.choice((9, 53, 67, 547, 4789))))
        if kind == 1:
            return p.ip(src, dst, p.tcp(), p.TCP)
        if version == 4:
            return p.IPV4, p.ipv4(src, dst, b"\x08\0\0\0\0\1\0\1", p.ICMP)
        return p.IPV6, p.ipv6(src, dst, p.icmpv6(src, dst, 128, b"\0\1\0\1"), p.ICMPV6)


def honest(s: Scene) -> bytes:
    return s.frame(*s.packet(s.version()))


def from_allowed_address(s: Scene) -> bytes:
    version = s.version()
    mac, address = s.granted(version)
    return s.frame(*s.packet(version, src=address), src=mac)


def spoofed_mac(s: Scene) -> bytes:
    return s.frame(*s.packet(s.version()), src=s.any_mac())


def spoofed_ip(s: Scene) -> bytes:
    version = s.version()
    return s.frame(*s.packet(version, src=s.any_ip(version)))


def loopback_source(s: Scene) -> bytes:
    return s.frame(*s.packet(4, src="127.0.0.1"))


def wrong_address_for_the_mac(s: Scene) -> bytes:
    version = s.version()
    return s.frame(*s.packet(version, dst=s.any_ip(version)))


def any_destination_mac(s: Scene) -> bytes:
    return s.frame(*s.packet(s.version()), dst=s.any_mac())


def to_own_mac(s: Scene) -> bytes:
    version = s.version()
    return s.frame(*s.packet(version, dst=s.rng.choice((s.own(version), s.theirs(version)))), dst=s.sender.mac)


def to_a_group(s: Scene) -> bytes:
    version = s.version()
    group = s.rng.choice(("224.0.0.1", "255.255.255.255", "239.1.1.1") if version == 4 else ("ff02::1", "ff02::fb"))
    return s.frame(*s.packet(version, dst=s.rng.choice((group, s.theirs(version)))), dst=s.rng.choice(MULTICAST_MACS))


def multicast_source(s: Scene) -> bytes:
    return s.frame(*s.packet(s.version()), src=s.rng.choice(MULTICAST_MACS))


def tagged(s: Scene) -> bytes:
    tags = s.rng.choice(
        (((0x8100, 0),), ((0x8100, 5),), ((0x88A8, 5),), ((0x88A8, 5), (0x8100, 6)), ((0x8100, 0x6000),))
    )
    kind = s.rng.randrange(3)
    ethertype, payload = s.packet(s.version())
    dst = s.peer.mac
    if kind == 0:
        dst, ethertype, payload = p.BROADCAST, p.ARP, p.arp(1, s.sender.mac, s.own(4), p.NO_MAC, s.theirs(4))
    elif kind == 1:
        target = s.theirs(6)
        dst, group = p.solicited_node(target)
        ethertype, payload = p.IPV6, p.solicitation(s.own(6), group, target, p.option(1, s.sender.mac))
    return p.ethernet(dst, s.sender.mac, ethertype, payload, tags)


def odd_ethertype(s: Scene) -> bytes:
    return s.frame(
        s.rng.choice((0x88CC, 0x8847, 0x8863, 0x9100, 0x8035, 0x0842, 0x88A7, 46)), bytes([66, 66, 3]) + bytes(43)
    )


def fragment(s: Scene) -> bytes:
    """The first, a middle and the last fragment of a packet, from an address of the sender's or anybody's."""
    offset, more = s.rng.choice(((0, True), (64, True), (128, False)))
    version = s.version()
    src = s.rng.choice((s.own(version), s.own(version), s.any_ip(version)))
    if version == 4:
        return s.frame(p.IPV4, p.ipv4(src, s.theirs(4), p.udp(bytes(56)), flags=more << 13 | offset >> 3))
    header = p.fragment_header(offset, more)
    return s.frame(p.IPV6, p.extended(src, s.theirs(6), [header], p.UDP, p.udp(bytes(56)), 64))


def unusual_ip(s: Scene) -> bytes:
    """Options, a spent TTL, extension headers, protocols nobody knows."""
    kind = s.rng.randrange(5)
    src, dst = s.own(6), s.theirs(6)
    if kind == 0:
        return s.frame(p.IPV4, p.ipv4(s.own(4), s.theirs(4), p.udp(), options=b"\x94\x04\0\0"))
    if kind == 1:
        return s.frame(p.IPV4, p.ipv4(s.own(4), s.theirs(4), p.udp(), ttl=s.rng.choice((0, 1))))
    if kind == 2:
        return s.frame(p.IPV6, p.ipv6(src, dst, p.udp(), ttl=s.rng.choice((0, 1))))
    if kind == 3:
        return s.frame(p.IPV6, p.extended(src, dst, [p.DESTINATION_OPTIONS], p.UDP, p.udp(), 64))
    return s.frame(p.IPV6, p.ipv6(src, dst, bytes(20), s.rng.choice((47, 50, 59, 132, 253))))


def cut_short(s: Scene) -> bytes:
    """An IP header that claims more than the frame holds, or half a header."""
    if s.rng.random() < 0.3:
        return s.frame(s.rng.choice((p.IPV4, p.IPV6)), bytes(8))
    if s.version() == 4:
        return s.frame(p.IPV4, p.ipv4(s.own(4), s.theirs(4), p.udp(), length=1200))
    return s.frame(p.IPV6, p.ipv6(s.own(6), s.theirs(6), p.udp(), length=1200))


def arp_request(s: Scene) -> bytes:
    target = s.rng.choice((s.theirs(4), s.theirs(4), s.theirs(4), s.own(4), s.any_ip(4)))
    dst = s.rng.choice((p.BROADCAST, p.BROADCAST, s.peer.mac))
    sender = s.rng.choice((s.own(4), s.own(4), "0.0.0.0"))
    return s.frame(p.ARP, p.arp(1, s.sender.mac, sender, p.NO_MAC, target), dst=dst)


def arp_spoofed(s: Scene) -> bytes:
    """A request or a reply in which any of MAC, SHA and SPA may be another's."""
    src = s.rng.choice((s.sender.mac, s.sender.mac, s.any_mac()))
    sha = s.rng.choice((src, s.sender.mac, s.any_mac()))
    spa = s.rng.choice((s.own(4), s.any_ip(4), "0.0.0.0"))
    op = s.rng.choice((1, 1, 2, 3, 257))
    dst = s.rng.choice((p.BROADCAST, s.peer.mac))
    return s.frame(p.ARP, p.arp(op, sha, spa, s.peer.mac, s.any_ip(4)), dst=dst, src=src)


def arp_from_allowed_address(s: Scene) -> bytes:
    mac, address = s.granted(4)
    return s.frame(p.ARP, p.arp(1, mac, address, p.NO_MAC, s.theirs(4)), dst=p.BROADCAST, src=mac)


def arp_reply(s: Scene) -> bytes:
    return s.frame(p.ARP, p.arp(2, s.sender.mac, s.own(4), s.peer.mac, s.theirs(4)))


def arp_announcement(s: Scene) -> bytes:
    address = s.rng.choice((s.own(4), s.any_ip(4), s.granted(4)[1]))
    return s.frame(p.ARP, p.arp(1, s.sender.mac, address, p.NO_MAC, address), dst=p.BROADCAST)


def arp_malformed(s: Scene) -> bytes:
    body = p.arp(1, s.sender.mac, s.own(4), p.NO_MAC, s.theirs(4), lengths=s.rng.choice(((8, 4), (6, 16))))
    return s.frame(p.ARP, s.rng.choice((body, body[:12])), dst=p.BROADCAST)


def solicitation(s: Scene) -> bytes:
    """An NS as a workload sends it: multicast or unicast, with its MAC, perhaps with a nonce (RFC 3971)."""
    target = s.rng.choice((s.theirs(6), s.theirs(6), s.theirs(6), s.own(6), s.any_ip(6)))
    mac, dst = p.solicited_node(target)
    options = p.option(1, s.sender.mac)
    kind = s.rng.randrange(6)
    if kind == 0:
        mac, dst, options = s.peer.mac, s.theirs(6), s.rng.choice((b"", options))
    elif kind == 1:
        options += bytes([14, 1]) + bytes(6)
    return s.frame(p.IPV6, p.solicitation(s.own(6), dst, target, options), dst=mac)


def solicitation_spoofed(s: Scene) -> bytes:
    target = s.theirs(6)
    mac, dst = p.solicited_node(target)
    src = s.rng.choice((s.own(6), s.any_ip(6)))
    lla = s.rng.choice((s.sender.mac, s.any_mac()))
    options = p.option(1, lla)
    if s.sender.port.port_security:  # without, the switch need not tell repeated options from none
        options += s.rng.choice((b"", p.option(1, s.any_mac()), p.option(1, s.sender.mac)))
    return s.frame(p.IPV6, p.solicitation(src, dst, target, options, s.rng.choice((0, 0, 1))), dst=mac)


def solicitation_from_allowed_address(s: Scene) -> bytes:
    mac, address = s.granted(6)
    target = s.theirs(6)
    group, dst = p.solicited_node(target)
    return s.frame(p.IPV6, p.solicitation(address, dst, target, p.option(1, mac)), dst=group, src=mac)


def duplicate_detection(s: Scene) -> bytes:
    target = s.rng.choice((s.own(6), s.theirs(6), s.any_ip(6)))
    mac, dst = p.solicited_node(target)
    return s.frame(p.IPV6, p.solicitation("::", dst, target), dst=s.rng.choice((mac, mac, s.peer.mac)))


def advertisement(s: Scene) -> bytes:
    """An NA to one port or to all nodes: honest, or about another's address or MAC."""
    source = s.rng.choice((s.own(6), s.own(6), s.own(6), s.any_ip(6)))
    target = s.rng.choice((source, s.own(6), s.own(6), s.any_ip(6)))
    lla = s.rng.choice((s.sender.mac, s.sender.mac, s.any_mac()))
    if s.rng.random() < 0.2:
        lla, target = s.granted(6)
    options = s.rng.choice((p.option(2, lla), p.option(2, lla), b"", p.option(2, s.sender.mac) + p.option(2, lla)))
    mac, dst = s.rng.choice(((s.peer.mac, s.theirs(6)), (s.peer.mac, s.theirs(6)), ("33:33:00:00:00:01", "ff02::1")))
    return s.frame(p.IPV6, p.advertisement(source, dst, target, options), dst=mac)


def router_message(s: Scene) -> bytes:
    """A router advertisement, redirect or solicitation, plain or hidden behind extension headers (RFC 7113)."""
    src = s.rng.choice((s.own(6), str(link_local(s.sender.mac))))
    mac, dst = s.rng.choice(((s.peer.mac, s.theirs(6)), (s.peer.mac, s.theirs(6)), ("33:33:00:00:00:01", "ff02::1")))
    message = s.rng.choice(
        (
            p.router_advertisement(src, dst),
            p.router_advertisement(src, dst),
            p.redirect(src, dst, s.own(6), s.any_ip(6)),
            p.icmpv6(src, dst, 133, bytes(4) + p.option(1, s.sender.mac)),
        )
    )
    headers = s.rng.choice(([], [], [p.DESTINATION_OPTIONS], [p.fragment_header(0, False)]))
    return s.frame(p.IPV6, p.extended(src, dst, headers, p.ICMPV6, message), dst=mac)


def listener_report(s: Scene) -> bytes:
    """An MLD message (query, report, done, second report) to the group that it belongs to, or to one port."""
    src = s.rng.choice(("::", str(link_local(s.sender.mac)), s.own(6)))
    mac, dst = s.rng.choice((("33:33:00:00:00:16", "ff02::16"), (s.peer.mac, s.theirs(6))))
    return s.frame(p.IPV6, p.mld(src, dst, s.rng.choice((130, 131, 132, 143))), dst=mac)


def unspecified_source(s: Scene) -> bytes:
    return s.frame(*s.packet(6, src="::"))


def dhcp(s: Scene) -> bytes:
    """To everybody, to the gateway, or to a server of the tenant's own, which is none of the agent's business."""
    src = s.rng.choice(("0.0.0.0", s.own(4)))
    dst = s.rng.choice(("255.255.255.255", s.theirs(4)))
    asked = p.ipv4(src, dst, p.udp(bytes(240), s.rng.choice((68, 68, 69)), 67))
    return s.frame(p.IPV4, asked, dst=s.rng.choice((p.BROADCAST, s.peer.mac, GATEWAY_MAC)))


def asking6(s: Scene) -> bytes:
    """DHCPv6 and router solicitations, to their groups or to a port."""
    own = s.rng.choice((s.own(6), "::"))
    mac, group = s.rng.choice((("33:33:00:01:00:02", "ff02::1:2"), ("33:33:00:00:00:02", "ff02::2")))
    dst = s.rng.choice((group, s.theirs(6)))
    if s.rng.random() < 0.5:
        return s.frame(p.IPV6, p.ipv6(own, dst, p.udp(bytes(24), 546, 547), p.UDP), dst=mac)
    message = p.icmpv6(own, dst, 133, bytes(4), code=s.rng.choice((0, 0, 1)))
    return s.frame(p.IPV6, p.ipv6(own, dst, message, p.ICMPV6, 255), dst=mac)


def fragmented_nd(s: Scene) -> bytes:
    """Neighbour discovery in a first fragment, which no node may send (RFC 6980)."""
    src, dst = s.own(6), s.theirs(6)
    target = IPv6Address(s.any_ip(6)).packed
    kind = s.rng.randrange(133, 138)
    bodies = {133: bytes(4), 134: bytes(12), 137: bytes(4) + target * 2}
    body = bodies.get(kind, b"\x60\0\0\0" + target + p.option(1 if kind == 135 else 2, s.any_mac()))
    message = p.icmpv6(src, dst, kind, body)
    return s.frame(p.IPV6, p.extended(src, dst, [p.fragment_header(0, True)], p.ICMPV6, message))


Kind = Callable[[Scene], bytes]

KINDS: tuple[Kind, ...] = (
    *(honest, honest, honest, honest, from_allowed_address, spoofed_mac, spoofed_ip, loopback_source),
    *(wrong_address_for_the_mac, any_destination_mac, to_own_mac, to_a_group, multicast_source, tagged),
    *(odd_ethertype, fragment, unusual_ip, cut_short, arp_request, arp_request, arp_spoofed, arp_from_allowed_address),
    *(arp_reply, arp_announcement, arp_malformed, solicitation, solicitation, solicitation_spoofed),
    *(solicitation_from_allowed_address, duplicate_detection, advertisement, router_message, listener_report),
    *(advertisement, advertisement, listener_report, unspecified_source, dhcp, asking6, fragmented_nd),
)


def _everybody(model: Model) -> list[Nic]:
    ports = [Nic(f"{v}/{n}", v, port) for v, vpc in model.vpcs.items() for n, port in vpc.ports.items()]
    return ports + _elsewhere(model)


def _elsewhere(model: Model) -> list[Nic]:
    return [
        Nic(f"{vpc}/{name}", vpc, Port(network=one.network, mac=one.mac, ips=one.ips))
        for vpc, has in endpoints_of(model).items()
        for name, one in has.items()
    ]


def cases(model: Model, seed: int, count: int) -> Iterator[Case]:
    """``count`` random frames, every kind in turn, from every port in turn; none if no port is placed.

    Where there are routers, the kinds are those for them too, and as many frames more.

    The same seed makes the same frames.
    """
    rng = random.Random(seed)
    everybody = _everybody(model)
    placed = [Nic(name, vpc, port) for vpc, _, name, port in places(model)]
    reachable = [*placed, *_elsewhere(model)]
    if not placed:
        return
    kinds = KINDS + routed.KINDS if any(vpc.routers for vpc in model.vpcs.values()) else KINDS
    for i in range(count * len(kinds) // len(KINDS)):
        kind = kinds[i % len(kinds)]
        sender = placed[(i // len(kinds) + i) % len(placed)]
        same = (n for n in reachable if n.vpc == sender.vpc and n != sender)
        near = [n for n in same if kind in routed.KINDS or n.port.network == sender.port.network]
        peer = rng.choice(near if near and rng.random() < 0.75 else everybody)
        yield Case(kind.__name__, Frame(sender.name, kind(_scene(model, sender, peer, everybody, rng))))


def _scene(model: Model, sender: Nic, peer: Nic, everybody: list[Nic], rng: random.Random) -> Scene:
    where = model, sender.vpc, sender.port.network
    return Scene(sender, peer, everybody, rng, routed.gateways_of(*where), routed.ranges_of(*where))


def arrivals(model: Model, seed: int) -> Iterator[Arrival]:
    """Frames to every placed port that come through the tunnel to any host with any VNI: most should not be there."""
    rng = random.Random(seed)
    vnis = [int(n.vni or 0) for vpc in model.vpcs.values() for n in vpc.networks.values()]
    vnis += [int(router.vni or 0) for vpc in model.vpcs.values() for router in vpc.routers.values()]
    vnis += [*(vni + 1 for vni in vnis), 0, 0xFFFFFF]
    nics = _everybody(model)
    for nic in nics:
        own = int(model.vpcs[nic.vpc].networks[nic.port.network].vni or 0)
        for host in model.hosts:
            source = next(model.hosts[other].vtep for other in model.hosts if other != host)
            scene = _scene(model, rng.choice(nics), nic, nics, rng)
            frames = [honest(scene), wrong_address_for_the_mac(scene), to_a_group(scene)]
            target = scene.theirs(6)
            lla = p.option(1, scene.sender.mac)
            for asked in (target, scene.any_ip(6)):
                group = p.solicited_node(asked)[1]
                frames.append(scene.frame(p.IPV6, p.solicitation(scene.own(6), group, asked, lla)))
            if model.vpcs[nic.vpc].routers:
                frames += routed.arriving(_scene(model, nic, nic, nics, rng), rng)
            for data in frames:
                for vni in (own, rng.choice(vnis)):
                    yield Arrival(host, source, model.hosts[host].vtep, vni, data)
