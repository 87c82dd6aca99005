"""From what a host is told and what its switch is like to the flows that it should have. Pure and incremental.

A host compiles the networks that have a port on it, and nothing else. A change costs what it touches: one port's rows
for a port, a network's for a VNI.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from ovsnet.desired import HOST, ConflictError, Delta, Desired, Owned, Subject, row_of
from ovsnet.facts import Facts
from ovsnet.held import HeldVpc
from ovsnet.leases import LeaseBook
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
from ovsnet.pipeline.template import Key
from ovsnet.rows import HeldRows, policy_of

T = TypeVar("T")


class HostCompiler(HeldRows):
    """Compiles for one host: feed it states, changes and facts, then ask ``update`` for the difference.

    ``numbers`` stand for groups and ranges in flows: they follow from what was there before, so whoever wants the same
    flows after a restart hands over the same numbers.
    """

    def __init__(self, host: str, numbers: Numbers | None = None) -> None:
        super().__init__(host, Numbers() if numbers is None else numbers)
        self._book = LeaseBook()
        self.desired = Desired(leases=self._book.told)
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
            filters, policy = self._filters_of(name), policy_of(port)
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


def compile_states(states: Iterable[VpcState], host: str, facts: Facts, numbers: Numbers | None = None) -> Desired:
    """All flows that ``host`` should have; ``states`` are complete and validated. Raises ConflictError."""
    compiler = HostCompiler(host, numbers)
    compiler.set_facts(facts)
    for state in states:
        compiler.put_vpc(state)
    compiler.update()
    return compiler.desired


def _site(facts: Facts) -> tuple[object, ...]:
    """What concerns all ports."""
    return facts.tunnel_ofport, facts.nd_responder, facts.mtu, facts.bridges


def _networks(router: Router | None) -> tuple[str, ...]:
    return () if router is None else router.networks


def _store(into: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value


def _difference(before: Mapping[str, T], after: Mapping[str, T]) -> dict[str, T | None]:
    changes: dict[str, T | None] = {name: None for name in before if name not in after}
    changes.update((name, value) for name, value in after.items() if before.get(name) != value)
    return changes
