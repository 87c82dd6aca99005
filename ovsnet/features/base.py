"""What a feature is made of, and what it is given: one port as the compiler sees it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from ovsnet.facts import Facts
from ovsnet.pipeline.template import FlowTemplate, Row
from ovsnet.responders.lease import Lease


@dataclass(frozen=True, slots=True)
class SourceAddress:
    """Addresses a port may send from: ``ip``/``mask`` as integers of ``bits`` (32 or 128), with ``mac``."""

    ip: int
    mask: int
    bits: int
    mac: int

    @property
    def exact(self) -> bool:
        """Whether it is one address."""
        return self.mask == (1 << self.bits) - 1


Members = tuple[tuple[int, int, tuple[tuple[int, int], ...]], ...]
"""Addresses with the groups that they are in: (address, 32 or 128, (bank, bits) of the groups)."""


class Endpoint(NamedTuple):
    """One port of a network, or a neighbour behind a bare VTEP, as numbers.

    ``domain`` is the number of its routed domain, its network's VNI without a router. ``v4`` and ``v6`` are the
    declared addresses; ``link_local`` the EUI-64 address of the MAC (RFC 4291, appendix A).
    ``allowed`` are further source addresses. ``local`` tells whether it runs on the host compiled for, or is about to
    move there; ``ofport`` is its OpenFlow port there (``None``: not plugged, or kept down). ``vteps`` are the tunnel
    addresses, of ``vtep_bits`` bits, of the other hosts that frames for it go to: two while it moves between two
    others, one beside ``local`` while it moves to or from this host. ``policy``, ``bank`` and ``zone`` are the numbers
    of a secured local port's security groups (``zone`` 0: stateless ones); ``members`` are those of its
    addresses that rules here speak of. ``present`` tells whether its network has a port on the host compiled for;
    else it is reached through a router alone. ``routed`` tells whether there is one, ``behind`` are the ranges, as
    (address, mask, 32 or 128), that it sends to the port. ``lease`` is what a plugged local port is told when it asks.
    """

    vni: int
    domain: int
    mac: int
    v4: tuple[int, ...]
    v6: tuple[int, ...]
    link_local: int
    allowed: tuple[SourceAddress, ...]
    secured: bool
    local: bool
    ofport: int | None
    vteps: tuple[int, ...]
    vtep_bits: int
    present: bool = True
    routed: bool = False
    behind: tuple[tuple[int, int, int], ...] = ()
    policy: int = 0
    bank: int = 0
    zone: int = 0
    members: Members = ()
    lease: Lease | None = None

    @property
    def v6_all(self) -> tuple[int, ...]:
        """The declared IPv6 addresses and the link-local one; none for a port without IPv6."""
        return self.v6 if not self.v6 or self.link_local in self.v6 else (*self.v6, self.link_local)


class Range(NamedTuple):
    """A subnet that a router joins: ``ip``/``length`` of ``bits`` 32 or 128, and the address of its gateway."""

    ip: int
    length: int
    bits: int
    gateway: int


class Segment(NamedTuple):
    """A network that has a port on this host; ``ranges`` are its subnets if a router joins it."""

    vni: int
    domain: int
    ranges: tuple[Range, ...] = ()


class StaticRoute(NamedTuple):
    """A static route to ``ip``/``length``; ``hops`` are the (VNI, MAC) of the next hops that are there."""

    ip: int
    length: int
    bits: int
    hops: tuple[tuple[int, int], ...]
    blackhole: bool


class Domain(NamedTuple):
    """A routed domain that has a port on this host: the subnets of all its networks, and its static routes."""

    vni: int
    ranges: tuple[Range, ...]
    routes: tuple[StaticRoute, ...]


PortRows = Callable[[Endpoint, Facts], Iterable[Row]]
NetworkRows = Callable[[Segment, Facts], Iterable[Row]]
DomainRows = Callable[[Domain, Facts], Iterable[Row]]
HostRows = Callable[[Facts], Iterable[Row]]


@dataclass(frozen=True)
class Feature:
    """One capability: its templates, and a pure function from a subject to rows for each kind of subject.

    ``network`` is called for each network that has a port on this host, ``domain`` for each routed domain that has
    one, ``port`` for each port of such a network or domain, ``host`` once.
    """

    name: str
    doc: str
    templates: tuple[FlowTemplate, ...]
    port: PortRows | None = None
    network: NetworkRows | None = None
    domain: DomainRows | None = None
    host: HostRows | None = None
