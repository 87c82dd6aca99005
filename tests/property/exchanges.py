"""Random exchanges: who opens, who answers, who goes on, and errors about all of it, in an order that matters.

Made by dice from the frames before: a step opens a connection, sends more of one that was tried (whether or not it was
let pass), answers it, reports an error about it, or does one of these with something changed.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.expectation import Frame
from ovsnet.lab.headers import link_local
from ovsnet.model.types import Model, Port
from tests.property import packets as p
from tests.property.reference import Case
from tests.property.world import places

DPORTS = (22, 80, 81, 443, 1023, 1024, 7999, 8000, 8003, 8004, 8005, 8008, 8010, 8011)
SPORTS = (40000, 40001, 80, 8004)
STRANGER = 40002
"""Source ports; TCP's are the first two, so that no two ends open one connection at once: trackers differ on that.

What looks like the answer to a TCP connection that nobody has tried goes to the last, which nobody ever tries.
"""
ERRORS = {4: ((3, 3), (3, 4), (11, 0)), 6: ((1, 4), (2, 0), (3, 0))}
SYN, ACK = 2, 16


@dataclass(frozen=True)
class Talk:
    """A connection that was tried: two ports, their addresses, and what tells it from others.

    ``tag`` is the ICMP identifier. ``turned`` is true for what its opener would get.
    """

    src: tuple[str, Port]
    dst: tuple[str, Port]
    src_ip: str
    dst_ip: str
    protocol: int
    sport: int
    dport: int
    tag: int
    turned: bool = False

    def back(self) -> Talk:
        """The same, seen from the other end."""
        return replace(self, src=self.dst, dst=self.src, src_ip=self.dst_ip, dst_ip=self.src_ip, sport=self.dport,
                       dport=self.sport, turned=not self.turned)  # fmt: skip

    @property
    def numbers(self) -> tuple[str | int, ...]:
        """What one connection is told from another by, whichever half of a port that moves sends."""
        return (self.src_ip, self.dst_ip, self.protocol, self.sport, self.dport, self.tag)

    @property
    def version(self) -> int:
        """The IP version."""
        return 6 if ":" in self.src_ip else 4

    def segment(self, first: bool) -> bytes:
        """What one end sends: the first packet, or one of those later."""
        if self.protocol == p.TCP:
            flags = (SYN | ACK if self.turned else SYN) if first else ACK
            seq, ack = (1, 2 if self.turned else 0) if first else (2, 2)
            return p.tcp(self.sport, self.dport, flags, seq, ack, b"" if first else b"data")
        if self.protocol == p.UDP:
            return p.udp(b"data", self.sport, self.dport)
        if self.protocol == p.SCTP:
            return p.sctp(self.sport, self.dport)
        if self.protocol in (p.ICMP, p.ICMPV6):
            rest = self.tag.to_bytes(2, "big") + b"\0\1"
            if self.version == 4:
                return p.icmp(0 if self.turned else 8, 0, rest)
            return p.icmpv6(self.src_ip, self.dst_ip, 129 if self.turned else 128, rest)
        return bytes(20)

    def packet(self, first: bool = True) -> bytes:
        """The IP packet around the segment."""
        make = p.ipv4 if self.version == 4 else p.ipv6
        return make(self.src_ip, self.dst_ip, self.segment(first), self.protocol)

    def frame(self, packet: bytes, ethertype: int | None = None) -> Frame:
        """A frame with a packet from the one end to the other."""
        kind = ethertype or (p.IPV4 if self.version == 4 else p.IPV6)
        vpcs = [end[0].split("/")[0] for end in (self.src, self.dst)]
        routed = vpcs[0] == vpcs[1] and self.src[1].network != self.dst[1].network
        to = GATEWAY_MAC if routed else str(self.dst[1].mac)
        return Frame(self.src[0], p.ethernet(to, str(self.src[1].mac), kind, packet))


def exchanges(model: Model, seed: int, count: int) -> Iterator[Case]:
    """``count`` frames (none if no two ports can talk); the same seed makes the same."""
    rng = random.Random(seed)
    placed = [((vpc, port.network), name, port) for vpc, _, name, port in places(model)]
    pairs = [
        ((a[1], a[2]), (b[1], b[2])) for a in placed for b in placed if a[2] is not b[2] and _joined(model, a[0], b[0])
    ]  # fmt: skip
    tried: list[Talk] = []
    for _ in range(count if pairs else 0):
        talk = _open(rng, *rng.choice(pairs)) if not tried or rng.random() < 0.3 else rng.choice(tried[-12:])
        if talk.protocol == p.TCP:  # the halves of a port that moves do not open one connection twice either
            talk = next((one for one in tried if one.numbers == talk.numbers), talk)
        if talk not in tried:
            tried.append(talk)
            yield Case("opening", talk.frame(talk.packet()))
            continue
        yield _later(rng, talk, tried, [name for pair in pairs for name in pair])


def _joined(model: Model, one: tuple[str, str], other: tuple[str, str]) -> bool:
    """Whether two networks (the VPC's name and its own) are one, or one router joins them."""
    routers = model.vpcs[one[0]].routers.values()
    return one == other or (one[0] == other[0] and any({one[1], other[1]} <= set(r.networks) for r in routers))


def everything(model: Model, dports: dict[int, tuple[int, ...]]) -> Iterator[Case]:
    """Every pair of ports tries every protocol of ``dports`` on its ports, and is answered.

    About the first port of each an error comes back, and one goes the same way; there are fragments of UDP, and
    neighbour discovery and multicast listeners' messages to one port.
    """
    placed = [((vpc, port.network), name, port) for vpc, _, name, port in places(model)]
    for one in placed:
        for other in placed:
            if one[0] == other[0] and one[2] is not other[2]:
                yield from _discovery(one[1:], other[1:])
                for talk in _talks(one[1:], other[1:], dports):
                    yield from _all_of(talk, first=talk.dport == dports[talk.protocol][0])


def _all_of(talk: Talk, *, first: bool) -> Iterator[Case]:
    yield Case("opening", talk.frame(talk.packet()))
    yield Case("answer", talk.back().frame(talk.back().packet()))
    for quoted in (talk, talk.back()) if first else ():
        yield Case("error", _error(random.Random(0), quoted, quoted.dst))
    if talk.protocol == p.UDP:
        yield Case("fragment", _fragment(random.Random(talk.dport), talk))


def _talks(src: tuple[str, Port], dst: tuple[str, Port], dports: dict[int, tuple[int, ...]]) -> Iterator[Talk]:
    """Of the link-local addresses only those to the first port of each protocol."""
    for version in (4, 6):
        ends = zip(_addresses(src[1], version), _addresses(dst[1], version), strict=False)
        for at, (own, theirs) in enumerate(ends):
            for protocol, numbers in dports.items():
                if protocol != (p.ICMPV6 if version == 4 else p.ICMP):
                    for number in numbers[: 1 if at else None]:
                        yield Talk(src, dst, own, theirs, protocol, SPORTS[0], number, 1)


def _discovery(src: tuple[str, Port], dst: tuple[str, Port]) -> Iterator[Case]:
    """Messages that are not subject to groups, from one port to one other."""
    own, theirs = str(link_local(str(src[1].mac))), str(link_local(str(dst[1].mac)))
    talk = Talk(src, dst, own, theirs, p.ICMPV6, 0, 0, 0)
    soliciting = p.ipv6(own, theirs, p.icmpv6(own, theirs, 133, bytes(4)), p.ICMPV6, 255)
    telling = [p.router_advertisement(own, theirs), p.redirect(own, theirs, own, theirs)]
    yield Case("router solicitation", talk.frame(soliciting))
    yield Case("advertisement", talk.frame(p.advertisement(own, theirs, own, p.option(2, str(src[1].mac)))))
    yield Case("probe of a neighbour", talk.frame(p.solicitation(own, theirs, theirs)))
    for message in telling:
        yield Case("router message", talk.frame(p.ipv6(own, theirs, message, p.ICMPV6, 255)))
    for kind in (130, 131, 132, 143):
        yield Case("listener message", talk.frame(p.mld(own, theirs, kind)))


def _open(rng: random.Random, src: tuple[str, Port], dst: tuple[str, Port]) -> Talk:
    version = rng.choice((4, 4, 6, 6))
    own, theirs = _addresses(src[1], version), _addresses(dst[1], version)
    if not own or not theirs:
        version, own, theirs = 6, _addresses(src[1], 6), _addresses(dst[1], 6)
    icmp = p.ICMP if version == 4 else p.ICMPV6
    protocol = rng.choice((p.TCP, p.TCP, p.TCP, p.UDP, p.UDP, icmp, p.SCTP, 47))
    sport = rng.choice(SPORTS[:2] if protocol == p.TCP else SPORTS)
    ends = rng.choice(own), rng.choice(theirs)
    return Talk(src, dst, *ends, protocol, sport, rng.choice(DPORTS), _tag(rng, protocol))


def _tag(rng: random.Random, protocol: int) -> int:
    """Only ICMP has identifiers; what else differs in them alone would be one connection."""
    return rng.randrange(3) if protocol in (p.ICMP, p.ICMPV6) else 0


def _addresses(port: Port, version: int) -> list[str]:
    own = [ip for ip in port.ips or () if (":" in ip) == (version == 6)]
    return [*own, str(link_local(str(port.mac)))] if version == 6 else own


def _later(rng: random.Random, talk: Talk, tried: list[Talk], everybody: list[tuple[str, Port]]) -> Case:
    """Something more about a connection that was tried."""
    dice = rng.random()
    if dice < 0.35:
        first = rng.random() < 0.5
        return Case("answer", talk.back().frame(talk.back().packet(first)))
    if dice < 0.6:
        return Case("going on", talk.frame(talk.packet(False)))
    if dice < 0.7 and talk.protocol != p.TCP:  # the other end opens one with the same numbers
        other = replace(talk.back(), turned=False)
        return Case("opening the other way", other.frame(other.packet()))
    if dice < 0.8:
        sport = rng.choice(SPORTS[:2] if talk.protocol == p.TCP else SPORTS)
        changed = replace(talk, sport=sport, dport=rng.choice(DPORTS), tag=_tag(rng, talk.protocol))
        if talk.protocol == p.TCP and changed not in tried:
            changed = replace(changed, sport=STRANGER)
        return Case("answer to another", changed.back().frame(changed.back().packet()))
    if dice < 0.95:
        quoted = talk if rng.random() < 0.7 else talk.back()
        reporter = quoted.dst if rng.random() < 0.8 else rng.choice(everybody)
        return Case("error", _error(rng, quoted, reporter))
    return Case("fragment", _fragment(rng, talk))


def _error(rng: random.Random, quoted: Talk, reporter: tuple[str, Port]) -> Frame:
    """An error about a packet, to who sent it, from the other end or from anybody."""
    own = _addresses(reporter[1], quoted.version)
    source = quoted.dst_ip if reporter is quoted.dst or not own else rng.choice(own)
    about = quoted.packet(rng.random() < 0.5) + bytes(8)
    kind, code = rng.choice(ERRORS[quoted.version])
    sender = quoted.src if rng.random() < 0.9 else reporter
    to = quoted.src_ip if sender is quoted.src else rng.choice(_addresses(sender[1], quoted.version) or [source])
    if quoted.version == 4:
        packet = p.ipv4(source, to, p.icmp(kind, code, data=about), p.ICMP)
    else:
        packet = p.ipv6(source, to, p.icmpv6(source, to, kind, bytes(4) + about, code), p.ICMPV6)
    talk = replace(quoted, src=reporter, dst=sender, src_ip=source, dst_ip=to)
    return talk.frame(packet)


def _fragment(rng: random.Random, talk: Talk) -> Frame:
    """The first or a later fragment of what the connection could carry."""
    offset, more = rng.choice(((0, True), (64, True), (128, False)))
    body = (
        p.udp(bytes(56), talk.sport, talk.dport)
        if talk.protocol == p.UDP
        else p.tcp(talk.sport, talk.dport, data=bytes(44))
    )
    protocol = talk.protocol if talk.protocol in (p.UDP, p.TCP) else p.TCP
    if talk.version == 4:
        return talk.frame(p.ipv4(talk.src_ip, talk.dst_ip, body, protocol, flags=more << 13 | offset >> 3))
    header = p.fragment_header(offset, more)
    return talk.frame(p.extended(talk.src_ip, talk.dst_ip, [header], protocol, body, 64))
