"""Where a host's routed domains leave the cloud: its uplinks, what it translates, which gateway is used. Pure.

Of a router's gateways the first that answers is used. Each host decides that by itself, from what it hears; and so does
each gateway of the others before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.facts import Facts
from ovsnet.features.base import Range, Translation, Uplink, WayOut
from ovsnet.held import HeldVpc
from ovsnet.model.numbers import cidr_int, ip_int
from ovsnet.model.outside import outside_mac, target_of, way_of, zone_key
from ovsnet.model.routes import subnets_of
from ovsnet.model.types import External, FloatingIp, Outside, Router, Subnet


def uplink_of(name: str, told: Iterable[Outside], host: str, facts: Facts) -> Uplink | None:
    """A provider network as this host has it; ``None`` if no bridge of it leads there.

    ``told`` is what VPCs say of it; all say the same, but for the moment of a change.
    """
    for outside in told:
        ofport = facts.bridges.get(outside.bridges.get(host, ""))
        if ofport is not None:
            heard = facts.neighbours.get(name, {})
            neighbours = tuple(sorted((ip, bits, mac) for (bits, ip), mac in heard.items()))
            return Uplink(ofport, outside.vlan or 0, tuple(map(_range, outside.subnets)), neighbours)
    return None


def _range(subnet: Subnet) -> Range:
    ip, mask, bits = cidr_int(subnet.cidr)
    return Range(ip, mask.bit_count(), bits, ip_int(subnet.gateway)[0] if subnet.gateway else 0)


class Uplinks:
    """The provider networks of a host, by name, as its VPCs tell of them and its switch has them."""

    def __init__(self, host: str) -> None:
        self._host, self._facts = host, Facts()
        self._told: dict[str, dict[str, Outside]] = {}
        self._made: dict[str, Uplink | None] = {}

    def __getitem__(self, name: str | None) -> Uplink | None:
        """One of them; ``None`` if this host does not have it."""
        if name is None:
            return None
        if name not in self._made:
            told = self._told.get(name, {})
            self._made[name] = uplink_of(name, (told[vpc] for vpc in sorted(told)), self._host, self._facts)
        return self._made[name]

    def present(self) -> dict[str, Uplink]:
        """All that this host has."""
        return {name: up for name in self._told if (up := self[name]) is not None}

    def tell(self, name: str, vpc: str, told: Outside | None) -> None:
        """Take what a VPC says of one, ``None`` if it has nothing to do with it any more."""
        self._made.pop(name, None)
        others = self._told.setdefault(name, {})
        if told is not None:
            others[vpc] = told
        else:
            others.pop(vpc, None)
        if not others:
            del self._told[name]

    def set_facts(self, facts: Facts) -> list[str]:
        """Take new facts; those that they concern."""
        old, self._facts = self._facts, facts
        if old.bridges == facts.bridges and old.neighbours == facts.neighbours:
            return []
        self._made = {}
        return list(self._told)


def active_gateway(external: External, facts: Facts) -> str | None:
    """The gateway host that is used: the first that answers, or the first if none does; ``None`` if there is none."""
    answering = (host for host in external.gateways if host not in facts.silent)
    return next(answering, external.gateways[0] if external.gateways else None)


class Ways:
    """What one VPC has of the outside on this host; ``uplinks`` are the host's, by the provider network's name."""

    def __init__(self, vpc: HeldVpc, uplinks: Uplinks, facts: Facts) -> None:
        self._vpc, self._uplinks, self._facts = vpc, uplinks, facts

    def out(self, router: Router) -> tuple[WayOut, ...]:
        """Where a router's domain leaves the cloud, as seen from here."""
        external = router.external
        if external is None:
            return ()
        vpc, active = self._vpc, active_gateway(external, self._facts)
        here = active == vpc.host
        vtep, vtep_bits = ip_int(vpc.hosts[active]) if active is not None and active in vpc.hosts else (0, 32)
        sources = dict(self._sources(router))
        everybody = {ip_int(address)[1] for address in external.addresses}
        ways = []
        for bits in (32, 128):
            leaving = tuple(sorted(ip for ip, width in sources if width == bits))
            if bits in everybody or leaving:
                ways.append(WayOut(bits, bits in everybody, leaving, here, 0 if here else vtep, vtep_bits))
        return tuple(ways)

    def _sources(self, router: Router) -> Iterator[tuple[tuple[int, int], str]]:
        """The addresses of a router's domain that have a floating IP, each once."""
        vpc = self._vpc
        for name, floating in vpc.floating_ips.items():
            port = vpc.ports.get(floating.port)
            target = target_of(floating, port)
            if target is not None and port is not None and port.network in router.networks:
                yield ip_int(target), name

    def shared(self, router: Router, domain: int) -> Iterator[Translation]:
        """The addresses that stand for a router's whole domain, if this is the gateway that is used."""
        external = router.external
        if external is None or active_gateway(external, self._facts) != self._vpc.host:
            return
        for address in external.addresses:
            one = self._translation(external.provider_network, address, router, domain, None)
            if one is not None:
                yield one

    def floating(self, floating: FloatingIp) -> Translation | None:
        """A floating IP that is served here: on its port's host if that has the provider network, or at the gateway."""
        vpc = self._vpc
        port = vpc.ports.get(floating.port)
        target, name = target_of(floating, port), way_of(floating, port, vpc.routers)
        if port is None or target is None or name is None or port.host is None:
            return None
        router = vpc.routers[name]
        bridges = vpc.provider_networks.get(floating.provider_network, Outside()).bridges
        external = router.external
        at_home = port.host in bridges
        server = port.host if at_home or external is None else active_gateway(external, self._facts)
        if server != vpc.host or router.vni is None:
            return None
        return self._translation(floating.provider_network, floating.address, router, router.vni, ip_int(target)[0])

    def _translation(
        self, network: str, address: str, router: Router, domain: int, inside: int | None
    ) -> Translation | None:
        uplink = self._uplinks[network]
        zone = self._facts.zones.get(zone_key(self._vpc.name, address))
        if uplink is None or zone is None:
            return None
        ip, bits = ip_int(address)
        mac = outside_mac(self._vpc.name, address)
        refused = tuple(self._inside(router, bits))
        return Translation(uplink, domain, ip, bits, mac, zone, inside, refused)

    def _inside(self, router: Router, bits: int) -> Iterator[tuple[int, int]]:
        """What is inside a domain: its subnets, and what static routes lead to."""
        subnets = (subnet.cidr for _, subnet in subnets_of(router, self._vpc.networks))
        for ip, mask, width in dict.fromkeys(map(cidr_int, (*subnets, *(route.to for route in router.routes)))):
            if width == bits and mask:
                yield ip, mask
