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
    ``uplink`` is the provider network that its network is on.
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
    uplink: Uplink | None = None

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


class Uplink(NamedTuple):
    """A provider network that this host's bridges lead to.

    ``ofport`` is where it is on the integration bridge, ``vid`` its VLAN there (0: it is untagged). ``ranges`` are its
    subnets, with their gateways (0: none); ``neighbours`` are the (address, 32 or 128, MAC) that were heard there.
    """

    ofport: int
    vid: int
    ranges: tuple[Range, ...] = ()
    neighbours: tuple[tuple[int, int, int], ...] = ()

    @property
    def segment(self) -> int:
        """Its number on this host."""
        return self.ofport << 12 | self.vid


class Translation(NamedTuple):
    """An address of a provider network that this host puts in the place of others, in both directions.

    ``address`` of ``bits`` 32 or 128 is at home at ``mac`` on ``uplink``. ``inside`` is the one address of the domain
    that it stands for (a floating IP), ``None`` if it stands for all that open connections from inside (SNAT); ``zone``
    is the conntrack zone that is its own. ``refused`` are the (address, mask) of what is inside the domain, from where
    nothing can come in here.
    """

    uplink: Uplink
    domain: int
    address: int
    bits: int
    mac: int
    zone: int
    inside: int | None
    refused: tuple[tuple[int, int], ...] = ()


class WayOut(NamedTuple):
    """Where a domain's packets of one family, 32 or 128 bits, leave it.

    ``everybody`` may leave it, or else the ``sources`` only. They go to the VTEP ``vtep`` of ``vtep_bits`` bits of a
    gateway host; ``here`` says that it is this one, ``vtep`` is 0 then, and where no gateway is known.
    """

    bits: int
    everybody: bool
    sources: tuple[int, ...]
    here: bool
    vtep: int = 0
    vtep_bits: int = 32


class Segment(NamedTuple):
    """A network that has a port on this host.

    ``ranges`` are its subnets if a router joins it, ``uplink`` is the provider network that it is on.
    """

    vni: int
    domain: int
    ranges: tuple[Range, ...] = ()
    uplink: Uplink | None = None


class StaticRoute(NamedTuple):
    """A static route to ``ip``/``length``; ``hops`` are the (VNI, MAC) of the next hops that are there."""

    ip: int
    length: int
    bits: int
    hops: tuple[tuple[int, int], ...]
    blackhole: bool


class Domain(NamedTuple):
    """A routed domain that has a port here, or leaves the cloud here: its subnets, static routes and ways out."""

    vni: int
    ranges: tuple[Range, ...]
    routes: tuple[StaticRoute, ...]
    ways: tuple[WayOut, ...] = ()


PortRows = Callable[[Endpoint, Facts], Iterable[Row]]
NetworkRows = Callable[[Segment, Facts], Iterable[Row]]
DomainRows = Callable[[Domain, Facts], Iterable[Row]]
UplinkRows = Callable[[Uplink, Facts], Iterable[Row]]
TranslationRows = Callable[[Translation, Facts], Iterable[Row]]
HostRows = Callable[[Facts], Iterable[Row]]


@dataclass(frozen=True)
class Feature:
    """One capability: its templates, and a pure function from a subject to rows for each kind of subject.

    ``network`` is called for each network that has a port on this host, ``domain`` for each routed domain that has
    one or is a gateway host of it, ``port`` for each port of such a network or domain, ``uplink`` for each provider
    network that this host has, ``translation`` for each address there that it stands in for, ``host`` once.
    """

    name: str
    doc: str
    templates: tuple[FlowTemplate, ...]
    port: PortRows | None = None
    network: NetworkRows | None = None
    domain: DomainRows | None = None
    uplink: UplinkRows | None = None
    translation: TranslationRows | None = None
    host: HostRows | None = None
