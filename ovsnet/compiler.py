"""From what a host is told and what its switch is like to the flows that it should have. Pure and incremental.

A host compiles the networks that have a port on it, and nothing else. A change costs what it touches: one port's rows
for a port, a network's for a VNI.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from ovsnet.desired import HOST, ConflictError, Delta, Desired, Owned, Subject, row_of
from ovsnet.endpoints import endpoint
from ovsnet.facts import Facts
from ovsnet.features import FEATURES, Endpoint
from ovsnet.features.base import Members, Translation
from ovsnet.features.security_groups import member_rows
from ovsnet.filters import Filters, Policy
from ovsnet.held import HeldVpc
from ovsnet.leases import LeaseBook, lease_of
from ovsnet.model.numbers import ip_int
from ovsnet.model.rules import groups_of
from ovsnet.model.types import (
    AddressGroup,
    FloatingIp,
    Network,
    Outside,
    Port,
    RemoteEndpoint,
    Router,
    SecurityGroup,
    VpcState,
)
from ovsnet.numbers import Numbers
from ovsnet.pipeline.template import Key, Row
from ovsnet.responders.lease import Lease
from ovsnet.ways import Uplinks, Ways

T = TypeVar("T")
_PORT_ROWS = tuple(feature.port for feature in FEATURES if feature.port)


class HostCompiler:
    """Compiles for one host: feed it states, changes and facts, then ask ``update`` for the difference.

    ``numbers`` stand for groups and ranges in flows: they follow from what was there before, so whoever wants the same
    flows after a restart hands over the same numbers. ``uplinks`` are the provider networks that the host has, and
    ``served`` the addresses there that it serves, as of the last update.
    """

    def __init__(self, host: str, numbers: Numbers | None = None) -> None:
        self.host = host
        self.facts = Facts()
        self._book = LeaseBook()
        self._told: dict[Subject, tuple[int, Lease] | None] = {}
        self.desired = Desired(leases=self._book.told)
        self.numbers = Numbers() if numbers is None else numbers
        self.uplinks = Uplinks(host)
        self.served: dict[Subject, tuple[Translation, ...]] = {}
        self._vpcs: dict[str, HeldVpc] = {}
        self._filters: dict[str, Filters] = {}
        self._unsettled: set[str] = set()
        self._rows: dict[Subject, dict[Key, Owned]] = {}
        self._ports_by_iface: dict[str, Subject] = {}
        self._dirty: dict[Subject, None] = {HOST: None}
        self._first = True

    @property
    def vpcs(self) -> tuple[str, ...]:
        """The names of the VPCs that are held."""
        return tuple(self._vpcs)

    def set_facts(self, facts: Facts) -> None:
        """Take new facts of the switch; touches the ports whose OpenFlow port changed, or everything they concern."""
        old, self.facts = self.facts, facts
        self._touch_all(Subject("provider_network", "", name) for name in self.uplinks.set_facts(facts))
        if _site(old) != _site(facts):
            self._touch(HOST)
            for name, vpc in self._vpcs.items():
                for network in vpc.networks:
                    self._touch_network(name, network)
                self._touch_all(Subject("router", name, router) for router in vpc.routers)
                self._touch_outside(name)
            return
        for name in (old.down ^ facts.down) & self._vpcs.keys():
            for port in (port for ports in self._vpcs[name].local.values() for port in ports):
                self._touch(Subject("port", name, port))
        keys = {key.partition("/")[0] for key, _ in old.zones.items() ^ facts.zones.items() if "/" in key}
        for name in self._vpcs if old.silent != facts.silent else keys & self._vpcs.keys():
            self._touch_outside(name)
        for before, after in ((old.ofports, facts.ofports), (old.zones, facts.zones)):
            for iface in before.keys() | after.keys() if before is not after else ():
                if before.get(iface) != after.get(iface) and iface in self._ports_by_iface:
                    self._touch(self._ports_by_iface[iface])

    def put_vpc(self, state: VpcState) -> None:
        """Take the whole state of a VPC; touches what differs from what is held."""
        vpc = self._vpcs.get(state.name) or HeldVpc(state.name, self.host)
        self.patch_vpc(
            state.name,
            networks=_difference(vpc.networks, state.networks),
            routers=_difference(vpc.routers, state.routers),
            ports=_difference(vpc.ports, state.ports),
            endpoints=_difference(vpc.endpoints, state.endpoints),
            hosts=_difference(vpc.hosts, state.hosts),
            floating_ips=_difference(vpc.floating_ips, state.floating_ips),
            provider_networks=_difference(vpc.provider_networks, state.provider_networks),
            security_groups=_difference(self._filters_of(state.name).groups, state.security_groups),
            address_groups=_difference(self._filters_of(state.name).address_groups, state.address_groups),
        )

    def drop_vpc(self, name: str) -> None:
        """Forget a VPC; its flows go with the next update."""
        if name in self._vpcs:
            self.put_vpc(VpcState(name=name, revision=0))
            self._settle(name)
            self._unsettled.discard(name)
            del self._vpcs[name], self._filters[name]

    def patch_vpc(
        self,
        name: str,
        *,
        ports: Mapping[str, Port | None] | None = None,
        networks: Mapping[str, Network | None] | None = None,
        endpoints: Mapping[str, RemoteEndpoint | None] | None = None,
        hosts: Mapping[str, str | None] | None = None,
        routers: Mapping[str, Router | None] | None = None,
        floating_ips: Mapping[str, FloatingIp | None] | None = None,
        provider_networks: Mapping[str, Outside | None] | None = None,
        security_groups: Mapping[str, SecurityGroup | None] | None = None,
        address_groups: Mapping[str, AddressGroup | None] | None = None,
    ) -> None:
        """Take changes of a VPC: new objects by name, ``None`` for one that is gone."""
        vpc = self._vpcs.setdefault(name, HeldVpc(name, self.host))
        self._change_groups(name, security_groups or {}, address_groups or {})
        for network, declared in (networks or {}).items():
            self._touch_network(name, network)
            _store(vpc.networks, network, declared)
            self._touch_network(name, network)
            self._touch_told(name, vpc.together(network))
        if routers:
            self._change_routers(name, vpc, routers)
        if floating_ips or provider_networks or networks or routers or not vpc.provider_hosts.isdisjoint(hosts or ()):
            self._change_outside(name, vpc, floating_ips or {}, provider_networks or {})
        for host, vtep in (hosts or {}).items():
            _store(vpc.hosts, host, vtep)
            for port in vpc.placed.get(host, ()):
                self._touch(Subject("port", name, port))
        for port, new in (ports or {}).items():
            self._change_port(name, vpc, port, new)
        for endpoint_name, neighbour in (endpoints or {}).items():
            self._change_endpoint(vpc, Subject("endpoint", name, endpoint_name), neighbour)

    def update(self) -> Delta:
        """Recompute what was touched; returns the difference to the flows before, which ``desired`` now has."""
        gone: dict[Key, Owned] = {}
        new: dict[Key, Owned] = {}
        if self._first:
            self.numbers.retain_vpcs(self._vpcs)
            self._first = False
        for name in sorted(self._unsettled):
            self._settle(name)
        self._unsettled = set()
        for unit in self._dirty:
            flows = {flow.row.key: flow for flow in self._unit_flows(unit)}
            before = self._rows.pop(unit, {})
            if flows:
                self._rows[unit] = flows
            if not before and new.keys().isdisjoint(flows):
                new.update(flows)
                continue
            gone.update((key, flow) for key, flow in before.items() if flows.get(key) != flow)
            for key, flow in flows.items():
                if before.get(key) == flow:
                    continue
                if key in new:
                    raise ConflictError(f"{new[key].subject} and {flow.subject} claim a flow of {key[0].name}")
                new[key] = flow
        self._dirty = {}
        delta = self._commit(gone, new)
        told, self._told = self._told, {}
        return replace(delta, leases=self._book.take(told))

    def _commit(self, gone: dict[Key, Owned], new: dict[Key, Owned]) -> Delta:
        flows = self.desired.flows
        for key, flow in new.items() if not flows.keys().isdisjoint(new) else ():
            if key in flows and key not in gone:
                raise ConflictError(f"{flows[key].subject} and {flow.subject} claim one flow of {key[0].name}")
        remove = tuple(flow for key, flow in gone.items() if key not in new)
        for flow in remove:
            del flows[flow.row.key]
        add = tuple([flow for key, flow in new.items() if row_of(gone.get(key)) != flow.row] if gone else new.values())
        flows.update(new)
        return Delta(add, remove)

    def _change_port(self, name: str, vpc: HeldVpc, port: str, new: Port | None) -> None:
        old = vpc.ports.get(port)
        subject = Subject("port", name, port)
        self._touch(subject)
        self._touch_routers_over(vpc, port, old, new)
        if port in vpc.floating_of:
            self._touch_outside(name)
        if old is not None:
            self._ports_by_iface.pop(old.id, None)
            vpc.members[old.network].discard(subject)
            for host in old.hosts:
                vpc.placed[host].discard(port)
            self._touch_all(vpc.groups.forget(subject, old))
            if self.host in old.hosts:
                self._place(name, old.network, vpc.local[old.network], port, False)
                self._use(name, old, port, False)
        _store(vpc.ports, port, new)
        if new is not None:
            self._ports_by_iface[new.id] = subject
            vpc.members.setdefault(new.network, set()).add(subject)
            for host in new.hosts:
                vpc.placed.setdefault(host, set()).add(port)
            self._touch_all(vpc.groups.note(subject, new))
            local = vpc.local.setdefault(new.network, set())
            if self.host in new.hosts:
                self._place(name, new.network, local, port, True)
                self._use(name, new, port, True)

    def _change_endpoint(self, vpc: HeldVpc, subject: Subject, new: RemoteEndpoint | None) -> None:
        old = vpc.endpoints.get(subject.name)
        self._touch(subject)
        self._touch_routers_over(vpc, subject.name, old, new)
        if old is not None:
            vpc.members[old.network].discard(subject)
            self._touch_all(vpc.groups.forget(subject, old))
        _store(vpc.endpoints, subject.name, new)
        if new is not None:
            vpc.members.setdefault(new.network, set()).add(subject)
            self._touch_all(vpc.groups.note(subject, new))

    def _change_routers(self, name: str, vpc: HeldVpc, changes: Mapping[str, Router | None]) -> None:
        """Take changes of routers: their routes concern their next hops, what they join concerns whole networks."""
        before = {router: vpc.routers.get(router) for router in changes}
        networks = {
            network
            for router, new in changes.items()
            if self._joins(before[router]) != self._joins(new)
            for network in (*_networks(before[router]), *_networks(new))
        }
        for step in (before, changes):
            if step is changes:
                vpc.change_routers(changes)
            for router in step.values():
                self._touch_all(vpc.next_hops(router))
            for network in networks:
                self._touch_network(name, network)
            for router in step.values():
                self._touch_told(name, _networks(router))
        self._touch_all(Subject("router", name, router) for router in changes)

    def _change_outside(
        self,
        name: str,
        vpc: HeldVpc,
        floating_ips: Mapping[str, FloatingIp | None],
        provider_networks: Mapping[str, Outside | None],
    ) -> None:
        """Take changes of what a VPC has outside; there is little of it, so all of it is looked at again."""
        self._touch_outside(name)
        vpc.change_floating(floating_ips)
        for network, told in provider_networks.items():
            _store(vpc.provider_networks, network, told)
            self.uplinks.tell(network, name, told)
            self._touch(Subject("provider_network", "", network))
            for one, declared in vpc.networks.items():
                if declared.provider_network == network:
                    self._touch_network(name, one)
        self._touch_outside(name)

    def _touch_outside(self, name: str) -> None:
        """What depends on gateways, addresses outside and their zones."""
        vpc = self._vpcs[name]
        self._touch_all(Subject("floating_ip", name, one) for one in vpc.floating_ips)
        self._touch_all(Subject("router", name, one) for one, router in vpc.routers.items() if router.external)

    def _joins(self, router: Router | None) -> tuple[object, ...]:
        """What of a router concerns all ports of its networks."""
        if router is None:
            return ()
        here = router.external is not None and self.host in router.external.gateways
        return router.vni, router.networks, here

    def _touch_routers_over(self, vpc: HeldVpc, name: str, *nics: Port | RemoteEndpoint | None) -> None:
        """The routers whose routes lead over a port or an endpoint, as it was and as it is."""
        for nic in nics:
            self._touch_all(Subject("router", vpc.name, router) for router in vpc.routers_over(name, nic))

    def _filters_of(self, name: str) -> Filters:
        filters = self._filters.get(name)
        if filters is None:
            filters = self._filters[name] = Filters(name, self.numbers)
        return filters

    def _change_groups(
        self, name: str, groups: Mapping[str, SecurityGroup | None], ranges: Mapping[str, AddressGroup | None]
    ) -> None:
        filters = self._filters_of(name)
        for group, declared in groups.items():
            _store(filters.groups, group, declared)
            filters.change_group(group)
        for group, cidrs in ranges.items():
            _store(filters.address_groups, group, cidrs)
            filters.change_ranges()
        if groups or ranges:
            self._unsettled.add(name)

    def _use(self, name: str, port: Port, port_name: str, here: bool) -> None:
        """A port comes to this host, or leaves it: with the first of its groups they have to be numbered."""
        if port.port_security:
            filters, policy = self._filters_of(name), _policy(port)
            if (filters.add if here else filters.remove)(policy, port_name):
                self._unsettled.add(name)

    def _settle(self, name: str) -> None:
        """Number the policies of a VPC, and touch what that concerns."""
        filters, vpc = self._filters_of(name), self._vpcs.get(name, HeldVpc(name))
        touched = filters.settle()
        for policy in touched.policies:
            self._touch(Subject("policy", name, ",".join(policy)))
        for policy in touched.ports:
            for port in filters.users.get(policy, ()):
                self._touch(Subject("port", name, port))
        self._touch_all(vpc.groups.concerned(name, touched.groups))
        if touched.ranges:
            self._touch(Subject("ranges", name))

    def _place(self, name: str, network: str, local: set[str], port: str, here: bool) -> None:
        """A port comes to this host, or leaves it; the first and the last one concern their whole network.

        With a router they concern all networks of its domain, if none of them has another port here.
        """
        vpc = self._vpcs[name]
        before, near = bool(local), vpc.near(network)
        if here:
            local.add(port)
        else:
            local.discard(port)
        if bool(local) != before:
            self._touch_network(name, network)
        if vpc.near(network) != near:
            for one in vpc.together(network):
                self._touch_network(name, one)

    def _touch_all(self, subjects: Iterable[Subject]) -> None:
        self._dirty.update(dict.fromkeys(subjects))

    def _touch(self, subject: Subject) -> None:
        self._dirty[subject] = None

    def _touch_network(self, name: str, network: str) -> None:
        vpc = self._vpcs[name]
        self._touch(Subject("network", name, network))
        self._touch_all(vpc.members.get(network, ()))
        self._touch_all(vpc.groups.borrowed_in(name, network))
        if network in vpc.router_of:
            self._touch(Subject("router", name, vpc.router_of[network]))

    def _touch_told(self, name: str, networks: Iterable[str]) -> None:
        """The ports here of networks, since what they are told of routes or gateways may be different."""
        for network in networks:
            self._touch_all(Subject("port", name, port) for port in self._vpcs[name].local.get(network, ()))

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
            numbered = self._filters_of(subject.vpc).policy(_policy(port))
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


def compile_states(states: Iterable[VpcState], host: str, facts: Facts, numbers: Numbers | None = None) -> Desired:
    """All flows that ``host`` should have; ``states`` are complete and validated. Raises ConflictError."""
    compiler = HostCompiler(host, numbers)
    compiler.set_facts(facts)
    for state in states:
        compiler.put_vpc(state)
    compiler.update()
    return compiler.desired


_vtep_int = functools.lru_cache(1 << 16)(ip_int)  # there are few, and every port elsewhere has one


def _policy(port: Port) -> Policy:
    return tuple(sorted(groups_of(port)))


def _site(facts: Facts) -> tuple[object, ...]:
    """What concerns all ports."""
    return facts.tunnel_ofport, facts.nd_responder, facts.mtu, facts.bridges


def _networks(router: Router | None) -> tuple[str, ...]:
    return () if router is None else router.networks


def _assigned(vni: int | None, subject: Subject) -> int:
    if vni is None:
        raise ValueError(f"{subject}: the network has no VNI yet")
    return vni


def _store(into: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value


def _difference(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T | None]:
    changes: dict[str, T | None] = {name: None for name in before if name not in after}
    changes.update((name, value) for name, value in after.items() if before.get(name) != value)
    return changes
