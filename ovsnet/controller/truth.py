"""The truth in memory: what is declared of every VPC and of the site, with the indexes that make a change cheap."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import msgspec

from ovsnet.controller.index import AddressIndex, holder_key
from ovsnet.controller.pools import Pool, Quarantine
from ovsnet.controller.requests import KINDS, Kind, Object
from ovsnet.model.assign import FIRST_VNI
from ovsnet.model.checks import MAX_VNI
from ovsnet.model.types import Host, Network, Port, RemoteEndpoint, Router, Underlay, VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.changes import COLLECTIONS, PatchBody, vnis_of
from ovsnet.transport.digest import digest_text, state_sum
from ovsnet.transport.groups import GroupLists

ObjectKey = tuple[Kind, str]


class VpcMeta(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a VPC beside its objects; none of it goes to hosts."""

    owner: str
    tenant: str
    labels: dict[str, str] = {}
    description: str = ""


class OwnedHost(NamedTuple):
    """A host and who declared it."""

    host: Host
    owner: str


_NO_LABELS: dict[str, str] = {}
P = TypeVar("P")


def compact(one: P) -> P:
    """The object with the strings that many ports share held once."""
    if not isinstance(one, Port):
        return one
    return msgspec.structs.replace(
        one,
        network=sys.intern(one.network),
        host=None if one.host is None else sys.intern(one.host),
        workload=sys.intern(one.workload),
        labels=one.labels or _NO_LABELS,
        security_groups=one.security_groups and tuple(map(sys.intern, one.security_groups)),
    )


def hosts_of(port: Port) -> Iterable[str]:
    """The hosts that have to know a port's VPC because of it."""
    if port.host is not None:
        yield port.host
    if port.moving_to is not None:
        yield port.moving_to


def vnis_gone(olds: Mapping[ObjectKey, Object], patch: PatchBody) -> set[int]:
    """The VNIs that changed networks and routers had, as ``olds`` says, and that none of them has any more."""
    had = {one.vni for one in olds.values() if isinstance(one, Network | Router) and one.vni is not None}
    return had.difference(vnis_of(patch))


class VpcTruth:
    """One VPC. ``live`` is its state, whose dictionaries change in place: read it under the truth's lock only."""

    __slots__ = ("_head", "_snapshot", "counts", "index", "interested", "lists", "live", "meta", "owners", "total")

    def __init__(self, state: VpcState, meta: VpcMeta, owners: dict[ObjectKey, str], total: int | None = None) -> None:
        self.live = state
        self.meta = meta
        self.owners = owners
        """Whose an object is, where it is not the VPC's owner's."""
        self.total = state_sum(state) if total is None else total
        self.index = AddressIndex(state)
        self.lists = GroupLists((*state.ports.values(), *state.endpoints.values()))
        self.counts: dict[str, int] = {}
        for port in state.ports.values():
            for host in hosts_of(port):
                self.counts[host] = self.counts.get(host, 0) + 1
        self.interested = frozenset(self.counts)
        self._snapshot: VpcState | None = None
        self._head: Head | None = None

    @property
    def head(self) -> Head:
        """Its revision and digest; made once for each revision, since every host is told it every few seconds."""
        if self._head is None:
            self._head = Head(self.live.revision, digest_text(self.total))
        return self._head

    def owner_of(self, kind: Kind, name: str) -> str:
        """Whose an object is."""
        return self.owners.get((kind, name), self.meta.owner)

    def snapshot(self) -> VpcState:
        """The state as a value of its own; made once for each revision that is asked for."""
        if self._snapshot is None:
            live = self.live
            own: dict[str, Any] = {kind: dict(getattr(live, kind)) for kind in COLLECTIONS}
            self._snapshot = msgspec.structs.replace(live, **own)
        return self._snapshot

    def apply(self, plan: VpcPlan) -> None:
        """Become what a committed plan says; costs what the plan changes."""
        self._snapshot = self._head = None
        for kind in KINDS:
            self._apply_objects(kind, getattr(plan.patch, kind))
        for host, vtep in plan.patch.hosts.items():
            if vtep is None:
                self.live.hosts.pop(host, None)
            else:
                self.live.hosts[host] = vtep
        for host, change in plan.counts.items():
            self.counts[host] = self.counts.get(host, 0) + change
            if not self.counts[host]:
                del self.counts[host]
        if self.interested != self.counts.keys():
            self.interested = frozenset(self.counts)
        for key, owner in plan.owners.items():
            if owner is None or owner == plan.meta.owner:
                self.owners.pop(key, None)
            else:
                self.owners[key] = owner
        self.meta, self.total = plan.meta, plan.total
        self.live = msgspec.structs.replace(self.live, revision=plan.revision)

    def _apply_objects(self, kind: Kind, changes: Mapping[str, Object | None]) -> None:
        held: dict[str, Object] = getattr(self.live, kind)
        for name in changes:
            if isinstance(old := held.get(name), Port | RemoteEndpoint):
                self.index.discard(holder_key(kind, name), old)
                self.lists.discard(old)
        for name, new in changes.items():
            if new is None:
                held.pop(name, None)
            else:
                held[name] = new
                if isinstance(new, Port | RemoteEndpoint):
                    self.index.add(holder_key(kind, name), new)
                    self.lists.add(new)


@dataclass(slots=True)
class VpcPlan:
    """What a transaction makes of one VPC. ``patch`` is what hosts are told; ``deleted``: the VPC is gone.

    ``counts``: by host, how many more ports concern it. ``owners``: of the objects that it changes (None: gone).
    ``released``: VNIs and addresses that nobody has any more.
    """

    name: str
    before: VpcTruth | None
    revision: int
    patch: PatchBody
    meta: VpcMeta
    total: int
    deleted: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    owners: dict[ObjectKey, str | None] = field(default_factory=dict)
    released: tuple[Hashable, ...] = ()
    olds: dict[ObjectKey, Object] = field(default_factory=dict)

    @property
    def previous(self) -> int:
        """The revision that it starts from; 0 for a new VPC, or the last one of a VPC of this name that is gone."""
        return self.patch.previous

    def old(self, kind: Kind, name: str) -> Object | None:
        """An object that changes as it was."""
        return self.olds.get((kind, name))


@dataclass(slots=True)
class Plan:
    """What a transaction makes of the truth; ``taken`` are the numbers to give back if nothing comes of it."""

    tx: str
    vpcs: dict[str, VpcPlan] = field(default_factory=dict)
    hosts: dict[str, OwnedHost | None] = field(default_factory=dict)
    underlay: tuple[Underlay, str] | None = None
    taken: list[tuple[Pool, int]] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything changes."""
        return bool(self.vpcs or self.hosts or self.underlay)

    def abandon(self) -> None:
        """Give back what was assigned."""
        for pool, number in self.taken:
            pool.give_back(number)
        self.taken.clear()


class Truth:
    """Everything that is declared. Not for several threads at once: whoever owns it keeps the others out."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.vpcs: dict[str, VpcTruth] = {}
        self.hosts: dict[str, OwnedHost] = {}
        self.underlay = Underlay()
        self.underlay_owner: str | None = None
        self.retired: dict[str, int] = {}
        """The last revisions of VPCs that are gone: one of the same name goes on from there."""
        self.host_vpcs: dict[str, set[str]] = {}
        self.port_ids: dict[str, str] = {}
        """The VPC of the port that has an id."""
        self.vnis: dict[int, str] = {}
        """The VPC of the network or router that has a VNI."""
        self.workloads: dict[str, tuple[tuple[str, str], ...]] = {}
        """The ports of each workload, as (VPC, name)."""
        self.vni_pool = Pool(FIRST_VNI, MAX_VNI)
        self.quarantine = Quarantine(self._free)

    def wanted(self, host: str) -> dict[str, Head]:
        """What a host should hold: the head of each VPC that concerns it."""
        return {vpc: self.vpcs[vpc].head for vpc in self.host_vpcs.get(host, ())}

    def add(self, vpc: VpcTruth) -> None:
        """A VPC has been loaded or made."""
        name = vpc.live.name
        self.vpcs[name] = vpc
        for host in vpc.interested:
            self.host_vpcs.setdefault(host, set()).add(name)
        for key, port in vpc.live.ports.items():
            self.port_ids[port.id] = name
            self._join(name, key, port)
        self.vnis |= dict.fromkeys(vnis_of(vpc.live), name)

    def remove(self, name: str) -> None:
        """A VPC is gone, or about to be loaded anew."""
        vpc = self.vpcs.pop(name, None)
        if vpc is None:
            return
        for host in vpc.interested:
            self._uninterested(host, name)
        for key, port in vpc.live.ports.items():
            self._leave(name, key, port)
            if self.port_ids.get(port.id) == name:
                del self.port_ids[port.id]
        for vni in vnis_of(vpc.live):
            if self.vnis.get(vni) == name:
                del self.vnis[vni]

    def apply(self, plan: Plan, until: float) -> None:
        """Become what a committed plan says; what it releases rests at most ``until`` (seconds of the wall clock)."""
        plan.taken.clear()
        for name, host in plan.hosts.items():
            if host is None:
                self.hosts.pop(name, None)
            else:
                self.hosts[name] = host
        if plan.underlay is not None:
            self.underlay, self.underlay_owner = plan.underlay
        for one in plan.vpcs.values():
            self._forget_ids(one)
        for one in plan.vpcs.values():
            self._apply_vpc(one, until)

    def _apply_vpc(self, plan: VpcPlan, until: float) -> None:
        name = plan.name
        hosts = frozenset() if plan.before is None else plan.before.interested
        if plan.deleted:
            self.remove(name)
            self.retired[name] = plan.revision
        elif plan.before is None:
            self.retired.pop(name, None)
            empty = VpcState(name=name, revision=plan.revision, owner=self.name)
            self.vpcs[name] = VpcTruth(empty, plan.meta, {}, 0)
        if not plan.deleted:
            vpc = self.vpcs[name]
            vpc.apply(plan)
            for host in hosts - vpc.interested:
                self._uninterested(host, name)
            for host in vpc.interested - hosts:
                self.host_vpcs.setdefault(host, set()).add(name)
            self._note_ids(plan)
        for key in plan.released:
            self.quarantine.add(key, name, plan.revision, hosts, until)

    def _uninterested(self, host: str, vpc: str) -> None:
        vpcs = self.host_vpcs[host]
        vpcs.discard(vpc)
        if not vpcs:
            del self.host_vpcs[host]

    def _forget_ids(self, plan: VpcPlan) -> None:
        for name, port in plan.patch.ports.items():
            old = plan.old("ports", name)
            if not isinstance(old, Port):
                continue
            if port is None or port.workload != old.workload:
                self._leave(plan.name, name, old)
            if (port is None or port.id != old.id) and self.port_ids.get(old.id) == plan.name:
                del self.port_ids[old.id]
        for vni in vnis_gone(plan.olds, plan.patch):
            self.vnis.pop(vni, None)

    def _note_ids(self, plan: VpcPlan) -> None:
        for name, port in plan.patch.ports.items():
            if port is not None:
                self.port_ids[port.id] = plan.name
                self._join(plan.name, name, port)
                if len(self.quarantine):
                    for address in port.ips or ():
                        self.quarantine.discard(("ip", plan.name, port.network, address))
        for vni in vnis_of(plan.patch):
            self.vnis[vni] = plan.name
            self.quarantine.discard(("vni", vni))

    def _join(self, vpc: str, name: str, port: Port) -> None:
        if port.workload and (vpc, name) not in (held := self.workloads.get(port.workload, ())):
            self.workloads[port.workload] = (*held, (vpc, name))

    def _leave(self, vpc: str, name: str, port: Port) -> None:
        if not port.workload:
            return
        left = tuple(one for one in self.workloads.get(port.workload, ()) if one != (vpc, name))
        if left:
            self.workloads[port.workload] = left
        else:
            self.workloads.pop(port.workload, None)

    def _free(self, key: Hashable) -> None:
        """A number has rested long enough."""
        assert isinstance(key, tuple)
        if key[0] == "vni":
            self.vni_pool.give_back(key[1])
        elif key[1] in self.vpcs:
            self.vpcs[key[1]].index.give_back(key[2], key[3])


def wall_clock() -> float:
    """Seconds since 1970."""
    return time.time()


Clock = Callable[[], float]
