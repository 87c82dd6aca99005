"""What the matrix sends and what must become of it; the meaning comes from ``expectation`` alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ovsnet.lab import frames
from ovsnet.lab.expectation import Expectation, Frame, Wire
from ovsnet.lab.reachability import Pair, reachability
from ovsnet.model.types import Model

STRANGER = "02:ee:ee:ee:ee:ee"
_STRANGE_IP = {4: "198.51.100.77", 6: "2001:db8:ffff:ffff::77"}
_FIRST_SOURCE = 0x8000
"""Source ports from here on: each probe opens a connection of its own, so that none is a reply to another."""
_GROUP = {4: ("01:00:5e:01:02:03", "239.1.2.3"), 6: ("33:33:00:00:12:34", "ff05::1234")}


@dataclass(frozen=True)
class Probe:
    """One frame with a token. ``pair`` is the entry of the matrix that it decides; ``None``: an unknown destination.

    ``receiver`` must get exactly one copy and nobody else any; ``wires`` are where its copies cross the underlay.
    """

    number: int
    sender: str
    frame: bytes
    what: str
    pair: Pair | None
    receiver: str | None
    wires: tuple[Wire, ...]


@dataclass(frozen=True)
class Request:
    """A question for an address: ``answer`` is the MAC that must come back, ``None`` if nothing may."""

    pair: Pair
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


def probes(model: Model, matrix: list[Pair], tokens: frames.Tokens, nd_responder: bool) -> Iterator[Probe]:
    """One probe for every pair, then frames of every port to destinations that its network does not have."""
    meaning = Expectation(model, nd_responder=nd_responder)
    number = 0

    def probe(sender: str, dst_mac: str, src: str, dst: str, what: str, pair: Pair | None) -> Probe:
        sport = _FIRST_SOURCE + number % (0x10000 - _FIRST_SOURCE)
        frame = frames.udp(mac_of(model, sender), dst_mac, src, dst, tokens.make(number), sport)
        fate = meaning.delivered(Frame(sender, frame))
        return Probe(number, sender, frame, what, pair, fate.receiver, fate.wires)

    for pair in matrix:
        yield probe(pair.src, mac_of(model, pair.dst), pair.src_ip, pair.dst_ip, f"{pair.src} to {pair.dst}", pair)
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


def requests(model: Model, matrix: list[Pair]) -> Iterator[Request]:
    """For every pair the ARP or ND request of the sender for the destination's address."""
    for pair in matrix:
        frame = frames.resolution(mac_of(model, pair.src), pair.src_ip, pair.dst_ip)
        own = pair.dst_ip in (model.vpcs[pair.src.split("/")[0]].ports[pair.src.split("/")[1]].ips or ())
        answer = None if pair.owner is None or own else mac_of(model, pair.owner)
        yield Request(pair, frame, answer)


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
