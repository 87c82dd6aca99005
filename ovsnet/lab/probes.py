"""What the matrix sends and what must become of it; the meaning comes from ``expectation`` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab import frames
from ovsnet.lab.expectation import Delivery, Expectation, Frame, Wire
from ovsnet.lab.fate import ICMP_OF
from ovsnet.lab.reachability import Pair, reachability
from ovsnet.model.routes import gateway_of, joined
from ovsnet.model.types import Model

STRANGER = "02:ee:ee:ee:ee:ee"
_STRANGE_IP = {4: "198.51.100.77", 6: "2001:db8:ffff:ffff::77"}
_FIRST_SOURCE = 0x8000
"""Source ports from here on: each probe opens a connection of its own, so that none is a reply to another."""
_PROHIBITED = {4: (3, 13), 6: (1, 1)}
"""Communication administratively prohibited (RFC 1812, 5.2.7.1; RFC 4443, 3.1)."""
_GROUP = {4: ("01:00:5e:01:02:03", "239.1.2.3"), 6: ("33:33:00:00:12:34", "ff05::1234")}


@dataclass(frozen=True)
class Probe:
    """One frame with a token. ``pair`` is the entry of the matrix that it decides; ``None``: an unknown destination.

    ``receiver`` must get exactly one copy and nobody else any; ``wires`` are where its copies cross the underlay.
    ``routed`` is the frame that the receiver gets, if a router changes it. ``told``: the ICMP errors about it that may
    come back to the sender, type and code.
    """

    number: int
    sender: str
    frame: bytes
    what: str
    pair: Pair | None
    receiver: str | None
    wires: tuple[Wire, ...]
    routed: bytes | None = None
    told: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True)
class Request:
    """A question for the MAC of ``asked``: ``answer`` must come back, or (``None``) nothing may."""

    pair: Pair
    asked: str
    frame: bytes
    answer: str | None


def pairs(model: Model) -> list[Pair]:
    """The matrix: every placed port to every other port, at each of its addresses."""
    return list(reachability(model))


def mac_of(model: Model, name: str) -> str:
    """The MAC of a port, named ``VPC/PORT``."""
    vpc, port = name.split("/")
    mac = model.vpcs[vpc].ports[port].mac
    assert mac is not None
    return mac


def next_mac(model: Model, pair: Pair) -> str:
    """The MAC that the sender of a pair addresses frames to: the destination's, or the gateways'."""
    return GATEWAY_MAC if pair.routed else mac_of(model, pair.dst)


def gateways_of(model: Model, name: str) -> list[str]:
    """The addresses of the gateways in the network of the port ``name``; none where no router joins it."""
    vpc, port = name.split("/")
    network = model.vpcs[vpc].ports[port].network
    declared = model.vpcs[vpc]
    return [gateway_of(one) for one in declared.networks[network].subnets if network in joined(declared.routers)]


def probes(model: Model, matrix: list[Pair], tokens: frames.Tokens, nd_responder: bool) -> Iterator[Probe]:
    """One probe for every pair, then frames of every port to destinations that its network does not have."""
    meaning = Expectation(model, nd_responder=nd_responder)
    number = 0

    def probe(sender: str, dst_mac: str, src: str, dst: str, what: str, pair: Pair | None) -> Probe:
        sport = _FIRST_SOURCE + number % (0x10000 - _FIRST_SOURCE)
        frame = frames.udp(mac_of(model, sender), dst_mac, src, dst, tokens.make(number), sport)
        fate = meaning.delivered(Frame(sender, frame))
        return Probe(number, sender, frame, what, pair, fate.receiver, fate.wires, fate.routed, _told(fate, src))

    for pair in matrix:
        yield probe(pair.src, next_mac(model, pair), pair.src_ip, pair.dst_ip, f"{pair.src} to {pair.dst}", pair)
        number += 1
    for pair in matrix:
        if pair.routed or pair.reason == "same-network" or not gateways_of(model, pair.src):
            continue
        what = f"{pair.src} through its gateway to {pair.dst}"
        apart = probe(pair.src, GATEWAY_MAC, pair.src_ip, pair.dst_ip, what, None)
        if apart.receiver is None:  # or the address is one of its own routed domain's, whose pair says so
            yield apart
            number += 1
    for sender in (name for name in meaning.nics if "@" not in name):
        vpc, port = sender.split("/")
        declared = model.vpcs[vpc].ports[port]
        for ip in declared.ips or ():
            family: Literal[4, 6] = 6 if ":" in ip else 4
            group_mac, group = _GROUP[family]
            strange = _STRANGE_IP[family]
            for dst_mac, dst, what in (
                (STRANGER, strange, "an undeclared MAC"),
                (STRANGER, ip, "an undeclared MAC"),
                ("ff:ff:ff:ff:ff:ff", strange, "broadcast"),
                (group_mac, group, "a multicast group"),
            ):
                yield probe(sender, dst_mac, ip, dst, f"{sender} to {what}", None)
                number += 1


def _told(fate: Delivery, source: str) -> tuple[tuple[int, int], ...]:
    """The ICMP errors that the sender of a datagram may get: its router's, and those of rules that reject."""
    version = 6 if ":" in source else 4
    found = [] if fate.error is None or fate.error.forbidden else [ICMP_OF[fate.error.kind][version]]
    if any(verdict is not None and verdict.action == "reject" for verdict in (fate.egress, fate.ingress)):
        found.append(_PROHIBITED[version])
    return tuple(found)


def requests(model: Model, matrix: list[Pair]) -> Iterator[Request]:
    """For every pair the ARP or ND request of the sender for the destination's address.

    Where the way is through a router, nobody answers for that address, but the gateways do for theirs.
    """
    for pair in matrix:
        vpc, port = pair.src.split("/")
        own = pair.dst_ip in (model.vpcs[vpc].ports[port].ips or ())
        answer = None if pair.owner is None or own or pair.routed else mac_of(model, pair.owner)
        asked = {pair.dst_ip: answer}
        if pair.routed:
            asked |= {ip: GATEWAY_MAC for ip in gateways_of(model, pair.src) if (":" in ip) == (pair.family == 6)}
        for ip, mac in asked.items():
            yield Request(pair, ip, frames.resolution(mac_of(model, pair.src), pair.src_ip, ip), mac)


def controls(model: Model, matrix: list[Pair], limit: int = 400) -> list[Pair]:
    """Pairs whose pings are answered, for the positive control, at most ``limit`` a family.

    First one for every pair of hosts. All of them where they are few: the kernel's neighbour tables, of which there is
    one a machine and not one a namespace, hold 1,024 entries.
    """
    chosen: list[Pair] = []
    for family in (4, 6):
        allowed = [pair for pair in matrix if pair.echo and pair.family == family]
        seen: set[frozenset[str | None]] = set()
        first: list[Pair] = []
        rest: list[Pair] = []
        for pair in allowed:
            route = frozenset(model.vpcs[v].ports[p].host for v, p in (pair.src.split("/"), pair.dst.split("/")))
            (rest if route in seen else first).append(pair)
            seen.add(route)
        chosen += (first + rest)[:limit]
    return chosen
