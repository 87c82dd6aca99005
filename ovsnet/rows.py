"""What a host holds, and the rows that each part of it becomes. Pure.

Nothing is kept here of what was computed before: ``compiler`` finds what a change touches, and asks for its rows again.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from ovsnet.desired import Owned, Subject
from ovsnet.endpoints import endpoint
from ovsnet.facts import Facts
from ovsnet.features import FEATURES, Endpoint
from ovsnet.features.base import Members, Translation
from ovsnet.features.security_groups import member_rows
from ovsnet.filters import Filters, Policy
from ovsnet.held import HeldVpc
from ovsnet.leases import lease_of
from ovsnet.model.numbers import ip_int
from ovsnet.model.rules import groups_of
from ovsnet.model.types import Port, RemoteEndpoint
from ovsnet.numbers import Numbers
from ovsnet.pipeline.template import Row
from ovsnet.responders.lease import Lease
from ovsnet.ways import Uplinks, Ways

_PORT_ROWS = tuple(feature.port for feature in FEATURES if feature.port)
_vtep_int = functools.lru_cache(1 << 16)(ip_int)  # there are few, and every port elsewhere has one


class HeldRows:
    """The VPCs of one host with the facts of its switch, and the rows that they become.

    ``uplinks`` are the provider networks that the host has, and ``served`` the addresses there that it serves, as of
    the last time that their rows were made.
    """

    def __init__(self, host: str, numbers: Numbers) -> None:
        self.host, self.numbers = host, numbers
        self.facts = Facts()
        self.uplinks = Uplinks(host)
        self.served: dict[Subject, tuple[Translation, ...]] = {}
        self._vpcs: dict[str, HeldVpc] = {}
        self._filters: dict[str, Filters] = {}
        self._told: dict[Subject, tuple[int, Lease] | None] = {}

    def _filters_of(self, name: str) -> Filters:
        filters = self._filters.get(name)
        if filters is None:
            filters = self._filters[name] = Filters(name, self.numbers)
        return filters

    def _unit_flows(self, unit: Subject) -> Iterable[Owned]:
        """The flows of what is computed at once: those of an object, or of what several objects make together."""
        if unit.kind == "policy":
            policy = tuple(unit.name.split(",")) if unit.name else ()
            stems = self._filters_of(unit.vpc).policy_rows(policy)
        elif unit.kind == "ranges":
            stems = self._filters_of(unit.vpc).range_rows()
        elif unit.kind == "address":
            return self._borrowed_flows(unit)
        else:
            return [Owned(row, unit) for row in self._subject_rows(unit)]
        return [Owned(stem.row, Subject(stem.kind, unit.vpc, stem.name)) for stem in stems]

    def _borrowed_flows(self, unit: Subject) -> Iterable[Owned]:
        """The groups of an address that ports may send from and that nobody has."""
        vpc = self._vpcs.get(unit.vpc)
        domain, _, ip = unit.name.partition(" ")
        borrower = None if vpc is None else vpc.groups.first_borrower(domain, ip)
        if vpc is None or borrower is None:
            return ()
        network = vpc.ports[borrower.name].network
        if network not in vpc.networks or not vpc.near(network):
            return ()
        groups = self._filters_of(unit.vpc).member_of(vpc.groups.borrowed(domain, ip))
        numbers = _assigned(vpc.networks[network].vni, borrower), _assigned(vpc.domain(network), borrower)
        rows = member_rows(*numbers, *ip_int(ip), groups)
        return [Owned(row, borrower) for row in rows]

    def _members(self, vpc: HeldVpc, name: str, nic: Port | RemoteEndpoint) -> Members:
        """A port's addresses with its groups, as the features see them; those of nobody's interest are left out."""
        member_of = self._filters_of(name).member_of
        return tuple([(*ip_int(ip), in_) for ip, groups in vpc.groups.addresses(nic) if (in_ := member_of(groups))])

    def _subject_rows(self, subject: Subject) -> Iterable[Row]:
        if subject.kind == "host":
            return [row for feature in FEATURES if feature.host for row in feature.host(self.facts)]
        if subject.kind == "provider_network":
            up = self.uplinks[subject.name]
            return [row for one in FEATURES if up and one.uplink for row in one.uplink(up, self.facts)]
        vpc = self._vpcs.get(subject.vpc)
        if subject.kind == "port":
            self._told[subject] = None  # unless it is plugged and has a lease, below
        if subject.kind in ("router", "floating_ip"):
            self.served.pop(subject, None)
        if vpc is None:
            return ()
        if subject.kind == "network":
            return self._network_rows(vpc, subject)
        if subject.kind == "router":
            return self._router_rows(vpc, subject)
        if subject.kind == "floating_ip":
            floating = vpc.floating_ips.get(subject.name)
            one = None if floating is None else Ways(vpc, self.uplinks, self.facts).floating(floating)
            return self._serve(subject, () if one is None else (one,))
        made = self._neighbour(vpc, subject) if subject.kind == "endpoint" else self._port(vpc, subject)
        if made is None:
            return ()
        if made.ofport is not None and made.lease is not None:
            self._told[subject] = (made.ofport, made.lease)
        return [row for rows in _PORT_ROWS for row in rows(made, self.facts)]

    def _network_rows(self, vpc: HeldVpc, subject: Subject) -> Iterable[Row]:
        network = vpc.networks.get(subject.name)
        if network is None or not vpc.local.get(subject.name):
            return ()
        numbers = _assigned(network.vni, subject), _assigned(vpc.domain(subject.name), subject)
        segment = vpc.segment(subject.name, *numbers, self.uplinks[network.provider_network])
        return [row for feature in FEATURES if feature.network for row in feature.network(segment, self.facts)]

    def _router_rows(self, vpc: HeldVpc, subject: Subject) -> Iterable[Row]:
        router = vpc.routers.get(subject.name)
        if router is None or not vpc.reaches(router):
            return ()
        ways, number = Ways(vpc, self.uplinks, self.facts), _assigned(router.vni, subject)
        domain = vpc.routed(router, number, ways.out(router))
        rows = [row for feature in FEATURES if feature.domain for row in feature.domain(domain, self.facts)]
        return [*rows, *self._serve(subject, tuple(ways.shared(router, number)))]

    def _serve(self, subject: Subject, addresses: tuple[Translation, ...]) -> list[Row]:
        """The rows of addresses outside that are served here."""
        if addresses:
            self.served[subject] = addresses
        return [
            row
            for one in addresses
            for feature in FEATURES
            if feature.translation
            for row in feature.translation(one, self.facts)
        ]

    def _port(self, vpc: HeldVpc, subject: Subject) -> Endpoint | None:
        """The port as numbers; ``None`` if it is of no concern here."""
        port = vpc.ports.get(subject.name)
        network = None if port is None or not vpc.near(port.network) else vpc.networks.get(port.network)
        if port is None or network is None or port.host is None:
            return None
        local = self.host in port.hosts
        up = local and subject.vpc not in self.facts.down
        tunnelled = network.provider_network is None
        vteps = [_vtep_int(vpc.hosts[host]) for host in port.hosts if host != self.host and tunnelled]
        ofport = self.facts.ofports.get(port.id) if up else None
        judged = self._place_of(vpc, port.network, subject) | {"uplink": self.uplinks[network.provider_network]}
        if local and port.port_security:
            numbered = self._filters_of(subject.vpc).policy(policy_of(port))
            zone = self.facts.zones.get(port.id) if numbered.stateful else 0
            judged |= {"policy": numbered.number, "bank": numbered.bank.id, "zone": zone or 0}
            judged["behind"] = vpc.behind(subject.name, port)
            ofport = None if zone is None else ofport  # unfiltered it must not be
        if ofport is not None:
            judged["lease"] = lease_of(vpc, subject.name, port, self.facts.mtu)
        members = self._members(vpc, subject.vpc, port)
        return endpoint(port, _assigned(network.vni, subject), ofport, local, vteps, members, **judged)

    def _neighbour(self, vpc: HeldVpc, subject: Subject) -> Endpoint | None:
        """The endpoint elsewhere as numbers; ``None`` if it is of no concern here."""
        known = vpc.endpoints.get(subject.name)
        network = None if known is None or not vpc.near(known.network) else vpc.networks.get(known.network)
        if known is None or network is None:
            return None
        like = Port(network=known.network, mac=known.mac, ips=known.ips)
        members = self._members(vpc, subject.vpc, known)
        place = self._place_of(vpc, known.network, subject)
        return endpoint(like, _assigned(network.vni, subject), None, False, [ip_int(known.vtep)], members, **place)

    def _place_of(self, vpc: HeldVpc, network: str, subject: Subject) -> dict[str, Any]:
        """What domain an endpoint of a network is in, and how it is reached."""
        domain = _assigned(vpc.domain(network), subject)
        routed, present = network in vpc.router_of, bool(vpc.local.get(network))
        return {"domain": domain, "routed": routed, "present": present}


def policy_of(port: Port) -> Policy:
    """The set of groups that a port is in."""
    return tuple(sorted(groups_of(port)))


def _assigned(vni: int | None, subject: Subject) -> int:
    if vni is None:
        raise ValueError(f"{subject}: the network has no VNI yet")
    return vni
