"""From what a host is told and what its switch is like to the flows that it should have. Pure and incremental.

A host compiles the networks that have a port on it, and nothing else. A change costs what it touches: one port's rows
for a port, a network's for a VNI.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ovsnet.facts import Facts
from ovsnet.features import FEATURES, Endpoint, SourceAddress
from ovsnet.model.numbers import cidr_int, ip_int, link_local, mac_int
from ovsnet.model.types import Network, Port, RemoteEndpoint, VpcState
from ovsnet.numbers import Numbers
from ovsnet.pipeline.template import Key, Row

T = TypeVar("T")


class Subject(NamedTuple):
    """The model object that flows stem from: ``kind`` is ``host``, ``network``, ``port`` or ``endpoint``."""

    kind: str
    vpc: str = ""
    name: str = ""

    def __str__(self) -> str:
        """``VPC/NAME`` as a user writes it, or the kind of what belongs to the host."""
        return f"{self.vpc}/{self.name}" if self.vpc else f"the {self.kind}"

    @property
    def path(self) -> str:
        """The path in the model, such as ``vpcs.shop.ports.web1``; ``hosts`` for what every host has."""
        return f"vpcs.{self.vpc}.{self.kind}s.{self.name}" if self.vpc else f"{self.kind}s"


HOST = Subject("host")


class Owned(NamedTuple):
    """A flow and the model object that it stems from."""

    row: Row
    subject: Subject


@dataclass(frozen=True)
class Delta:
    """The difference between two states of Desired: flows to add (new or changed) and to remove."""

    add: tuple[Owned, ...] = ()
    remove: tuple[Owned, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.add or self.remove)


class ConflictError(Exception):
    """Two model objects claim one flow; the validated model excludes that."""


class Desired:
    """The flows that a host should have: by key, each with the model object that it stems from."""

    def __init__(self, flows: Iterable[Owned] = ()) -> None:
        self.flows: dict[Key, Owned] = {flow.row.key: flow for flow in flows}

    def __len__(self) -> int:
        """The number of flows."""
        return len(self.flows)

    def __iter__(self) -> Iterator[Owned]:
        """The flows, in no particular order."""
        return iter(self.flows.values())

    def __eq__(self, other: object) -> bool:
        """Equal when the very same flows stem from the same objects."""
        return isinstance(other, Desired) and self.flows == other.flows

    __hash__ = None  # type: ignore[assignment]

    def diff(self, before: Desired) -> Delta:
        """What leads from ``before`` to this."""
        add = tuple(flow for key, flow in self.flows.items() if _row(before.flows.get(key)) != flow.row)
        remove = tuple(flow for key, flow in before.flows.items() if key not in self.flows)
        return Delta(add, remove)


def _row(flow: Owned | None) -> Row | None:
    return flow.row if flow else None


@dataclass
class _Vpc:
    """What the compiler holds of one VPC, with its indexes."""

    networks: dict[str, Network] = field(default_factory=dict)
    ports: dict[str, Port] = field(default_factory=dict)
    endpoints: dict[str, RemoteEndpoint] = field(default_factory=dict)
    hosts: dict[str, str] = field(default_factory=dict)
    members: dict[str, set[Subject]] = field(default_factory=dict)  # network -> its ports and endpoints
    local: dict[str, set[str]] = field(default_factory=dict)  # network -> its ports on this host, or about to come
    placed: dict[str, set[str]] = field(default_factory=dict)  # host -> the ports on it, or about to come


class HostCompiler:
    """Compiles for one host: feed it states, changes and facts, then ask ``update`` for the difference.

    ``numbers`` are those that names have in flows; left out, they begin anew.
    """

    def __init__(self, host: str, numbers: Numbers | None = None) -> None:
        self.host = host
        self.numbers = numbers or Numbers()
        self.facts = Facts()
        self.desired = Desired()
        self._vpcs: dict[str, _Vpc] = {}
        self._rows: dict[Subject, dict[Key, Row]] = {}
        self._ports_by_iface: dict[str, Subject] = {}
        self._dirty: dict[Subject, None] = {HOST: None}

    @property
    def vpcs(self) -> tuple[str, ...]:
        """The names of the VPCs that are held."""
        return tuple(self._vpcs)

    def set_facts(self, facts: Facts) -> None:
        """Take new facts of the switch; touches the ports whose OpenFlow port changed, or everything they concern."""
        old, self.facts = self.facts, facts
        if (old.tunnel_ofport, old.nd_responder) != (facts.tunnel_ofport, facts.nd_responder):
            self._touch(HOST)
            for name, vpc in self._vpcs.items():
                for network in vpc.networks:
                    self._touch_network(name, network)
            return
        for name in (old.down ^ facts.down) & self._vpcs.keys():
            for port in (port for ports in self._vpcs[name].local.values() for port in ports):
                self._touch(Subject("port", name, port))
        for iface in old.ofports.keys() | facts.ofports.keys():
            if old.ofports.get(iface) != facts.ofports.get(iface) and iface in self._ports_by_iface:
                self._touch(self._ports_by_iface[iface])

    def put_vpc(self, state: VpcState) -> None:
        """Take the whole state of a VPC; touches what differs from what is held."""
        vpc = self._vpcs.get(state.name) or _Vpc()
        self.patch_vpc(
            state.name,
            networks=_difference(vpc.networks, state.networks),
            ports=_difference(vpc.ports, state.ports),
            endpoints=_difference(vpc.endpoints, state.endpoints),
            hosts=_difference(vpc.hosts, state.hosts),
        )

    def drop_vpc(self, name: str) -> None:
        """Forget a VPC; its flows go with the next update."""
        if name in self._vpcs:
            self.put_vpc(VpcState(name=name, revision=0))
            del self._vpcs[name]

    def patch_vpc(
        self,
        name: str,
        *,
        ports: Mapping[str, Port | None] | None = None,
        networks: Mapping[str, Network | None] | None = None,
        endpoints: Mapping[str, RemoteEndpoint | None] | None = None,
        hosts: Mapping[str, str | None] | None = None,
    ) -> None:
        """Take changes of a VPC: new objects by name, ``None`` for one that is gone."""
        vpc = self._vpcs.setdefault(name, _Vpc())
        for network, declared in (networks or {}).items():
            self._touch_network(name, network)
            _store(vpc.networks, network, declared)
            self._touch_network(name, network)
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
        for subject in self._dirty:
            rows = {row.key: row for row in self._subject_rows(subject)}
            before = self._rows.pop(subject, {})
            if rows:
                self._rows[subject] = rows
            gone.update((key, Owned(row, subject)) for key, row in before.items() if rows.get(key) != row)
            for key, row in rows.items():
                if before.get(key) == row:
                    continue
                if key in new:
                    raise ConflictError(f"{new[key].subject} and {subject} claim one flow of {row.template.name}")
                new[key] = Owned(row, subject)
        self._dirty = {}
        return self._commit(gone, new)

    def _commit(self, gone: dict[Key, Owned], new: dict[Key, Owned]) -> Delta:
        flows = self.desired.flows
        for key, flow in new.items():
            if key in flows and key not in gone:
                raise ConflictError(f"{flows[key].subject} and {flow.subject} claim one flow of {key[0].name}")
        remove = tuple(flow for key, flow in gone.items() if key not in new)
        for flow in remove:
            del flows[flow.row.key]
        add = tuple(flow for key, flow in new.items() if _row(gone.get(key)) != flow.row)
        flows.update(new)
        return Delta(add, remove)

    def _change_port(self, name: str, vpc: _Vpc, port: str, new: Port | None) -> None:
        old = vpc.ports.get(port)
        subject = Subject("port", name, port)
        self._touch(subject)
        if old is not None:
            self._ports_by_iface.pop(old.id, None)
            vpc.members[old.network].discard(subject)
            for host in old.hosts:
                vpc.placed[host].discard(port)
            if self.host in old.hosts:
                self._place(name, old.network, vpc.local[old.network], port, False)
        _store(vpc.ports, port, new)
        if new is not None:
            self._ports_by_iface[new.id] = subject
            vpc.members.setdefault(new.network, set()).add(subject)
            for host in new.hosts:
                vpc.placed.setdefault(host, set()).add(port)
            local = vpc.local.setdefault(new.network, set())
            if self.host in new.hosts:
                self._place(name, new.network, local, port, True)

    def _change_endpoint(self, vpc: _Vpc, subject: Subject, new: RemoteEndpoint | None) -> None:
        old = vpc.endpoints.get(subject.name)
        self._touch(subject)
        if old is not None:
            vpc.members[old.network].discard(subject)
        _store(vpc.endpoints, subject.name, new)
        if new is not None:
            vpc.members.setdefault(new.network, set()).add(subject)

    def _place(self, name: str, network: str, local: set[str], port: str, here: bool) -> None:
        """A port comes to this host, or leaves it; the first and the last one concern their whole network."""
        before = bool(local)
        if here:
            local.add(port)
        else:
            local.discard(port)
        if bool(local) != before:
            self._touch_network(name, network)

    def _touch(self, subject: Subject) -> None:
        self._dirty[subject] = None

    def _touch_network(self, name: str, network: str) -> None:
        self._touch(Subject("network", name, network))
        for subject in self._vpcs[name].members.get(network, ()):
            self._touch(subject)

    def _subject_rows(self, subject: Subject) -> Iterable[Row]:
        if subject.kind == "host":
            return [row for feature in FEATURES if feature.host for row in feature.host(self.facts)]
        vpc = self._vpcs.get(subject.vpc)
        if vpc is None:
            return ()
        if subject.kind == "network":
            network = vpc.networks.get(subject.name)
            if network is None or not vpc.local.get(subject.name):
                return ()
            vni = _assigned(network.vni, subject)
            return [row for feature in FEATURES if feature.network for row in feature.network(vni, self.facts)]
        made = self._neighbour(vpc, subject) if subject.kind == "endpoint" else self._port(vpc, subject)
        if made is None:
            return ()
        return [row for feature in FEATURES if feature.port for row in feature.port(made, self.facts)]

    def _port(self, vpc: _Vpc, subject: Subject) -> Endpoint | None:
        """The port as numbers; ``None`` if it is of no concern here."""
        port = vpc.ports.get(subject.name)
        network = None if port is None or not vpc.local.get(port.network) else vpc.networks.get(port.network)
        if port is None or network is None or port.host is None:
            return None
        local = self.host in port.hosts
        up = local and subject.vpc not in self.facts.down
        vteps = [ip_int(vpc.hosts[host]) for host in port.hosts if host != self.host]
        return endpoint(
            port,
            _assigned(network.vni, subject),
            self.facts.ofports.get(port.id) if up else None,
            local,
            vteps,
        )

    def _neighbour(self, vpc: _Vpc, subject: Subject) -> Endpoint | None:
        """The endpoint elsewhere as numbers; ``None`` if it is of no concern here."""
        known = vpc.endpoints.get(subject.name)
        network = None if known is None or not vpc.local.get(known.network) else vpc.networks.get(known.network)
        if known is None or network is None:
            return None
        like = Port(network=known.network, mac=known.mac, ips=known.ips)
        return endpoint(like, _assigned(network.vni, subject), None, False, [ip_int(known.vtep)])


def endpoint(port: Port, vni: int, ofport: int | None, local: bool, vteps: Sequence[tuple[int, int]]) -> Endpoint:
    """A declared port as the features see it; ``vteps`` are (address, bits) of the other hosts that it is on."""
    mac = mac_int(port.mac or "")
    ips = [ip_int(ip) for ip in port.ips or ()]
    return Endpoint(
        vni=vni,
        mac=mac,
        v4=tuple(ip for ip, bits in ips if bits == 32),
        v6=tuple(ip for ip, bits in ips if bits == 128),
        link_local=link_local(mac),
        allowed=tuple(
            SourceAddress(*cidr_int(allowed.ip), mac_int(allowed.mac) if allowed.mac else mac)
            for allowed in port.allowed_addresses
        ),
        secured=port.port_security,
        local=local,
        ofport=ofport,
        vteps=tuple(address for address, _bits in vteps),
        vtep_bits=vteps[0][1] if vteps else 32,
    )


def compile_states(states: Iterable[VpcState], host: str, facts: Facts) -> Desired:
    """All flows that ``host`` should have; ``states`` are complete and validated. Raises ConflictError."""
    compiler = HostCompiler(host)
    compiler.set_facts(facts)
    for state in states:
        compiler.put_vpc(state)
    compiler.update()
    return compiler.desired


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
