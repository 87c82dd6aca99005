"""What this host has been told, checked: the states of its VPCs and the indexes that make a small change cheap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice

import msgspec

from ovsnet.errors import ModelError, UserError
from ovsnet.model import canonical_state, check_states
from ovsnet.model.types import Port, VpcState
from ovsnet.transport.changes import COLLECTIONS, Operation, Patch, Put, Withdraw, owner_text, patched, vnis_of
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.groups import GroupLists, Nic, after, leaves_gap, needed
from ovsnet.transport.routers import leaves_next_hop, without_routes


class ConflictError(UserError):
    """A change does not fit what is held: a gap, an old revision, another owner. ``code`` is stable."""

    def __init__(self, code: str, message: str, current: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.current = current


def check_owner(state: VpcState, owner: str, *, adopt: bool) -> None:
    """Raises ConflictError when a VPC belongs to somebody else and that is not to change."""
    if state.owner != owner and not adopt:
        raise ConflictError(
            "foreign-owner",
            f"VPC {state.name} belongs to {owner_text(state.owner)}, not to {owner_text(owner)}. "
            "Adopt it explicitly if it is meant",
            state.revision,
        )


@dataclass(frozen=True)
class Change:
    """A checked set of operations: ``states`` are those of its VPCs afterwards, ``None`` for one that is gone."""

    operations: tuple[Operation, ...] = ()
    states: Mapping[str, VpcState | None] = field(default_factory=dict)


Owner = tuple[str, str]
"""The collection of a state that an object is in, and its name there."""


class _Index:
    """Who has which address in a VPC, and which lists of groups there are."""

    def __init__(self, state: VpcState) -> None:
        self.lists = GroupLists()
        self.addresses: dict[tuple[str, str], Owner] = {}
        for owner, nic in _nics(state).items():
            self.add(owner, nic)

    def add(self, owner: Owner, nic: Nic) -> None:
        for address in (nic.mac or "", *(nic.ips or ())):
            self.addresses[nic.network, address] = owner
        self.lists.add(nic)

    def discard(self, owner: Owner, nic: Nic) -> None:
        for address in (nic.mac or "", *(nic.ips or ())):
            if self.addresses.get((nic.network, address)) == owner:
                del self.addresses[nic.network, address]
        self.lists.discard(nic)

    def clashes(self, nics: Mapping[Owner, Nic | None]) -> bool:
        """Whether one of the ports and endpoints has an address of another that is not among them."""
        seen: dict[tuple[str, str], Owner] = {}
        for mine, nic in nics.items():
            if nic is None:
                continue
            for address in (nic.mac or "", *(nic.ips or ())):
                key = (nic.network, address)
                owner = self.addresses.get(key, mine)
                if (owner != mine and owner not in nics) or seen.setdefault(key, mine) != mine:
                    return True
        return False


def _nics(of: VpcState | Patch) -> dict[Owner, Nic]:
    """The ports and endpoints of a state, or those that a change brings."""
    ports = {("ports", name): port for name, port in of.ports.items() if port is not None}
    return ports | {("endpoints", name): one for name, one in of.endpoints.items() if one is not None}


class HostView:
    """The states that a host holds. ``check`` first, then ``commit``; the caller keeps others out in between.

    ``states`` is only ever replaced as a whole, so that any thread may read it at any time. ``arriving`` are the ports,
    as (VPC, name), that are about to move to this host.
    """

    def __init__(self, host: str, states: Mapping[str, VpcState]) -> None:
        self.host = host
        self.states = dict(states)
        self.arriving: set[tuple[str, str]] = set()
        self._indexes: dict[str, _Index] = {}
        self._port_ids: dict[str, tuple[str, str]] = {}
        self._vnis: dict[int, str] = {}
        self._sums: dict[str, tuple[VpcState, int]] = {}
        for state in self.states.values():
            self._register(state)

    def port_of(self, iface_id: str) -> tuple[str, str] | None:
        """The VPC and the name of the port that has this id."""
        return self._port_ids.get(iface_id)

    def digest(self, state: VpcState) -> str:
        """The digest of a state that is held; from any thread. After a change it costs what the change touched."""
        known = self._sums.get(state.name)
        if known is None or known[0] is not state:
            known = self._sums[state.name] = (state, state_sum(state))
        return digest_text(known[1])

    def check(self, operations: Iterable[Operation], *, adopt: bool = False) -> Change:
        """What operations would lead to; changes nothing.

        An operation that is done already is left out of the result. Raises ConflictError for one that does not fit,
        ModelError with all problems for a state that is wrong; ``adopt`` permits to take over another owner's VPC.
        """
        states: dict[str, VpcState | None] = {}
        kept: list[Operation] = []
        for operation in operations:
            before = states.get(operation.vpc, self.states.get(operation.vpc))
            if operation.vpc in states and states[operation.vpc] is None:
                before = None
            new = self._checked(operation, before, adopt=adopt, first=operation.vpc not in states)
            if new is not None:
                kept.append(new)
                states[operation.vpc] = _result(new, before)
        self._check_between(kept, states)
        return Change(tuple(kept), states)

    def commit(self, change: Change) -> None:
        """Take over a change that ``check`` has returned."""
        whole = {op.vpc for op in change.operations if not isinstance(op, Patch)}
        states = dict(self.states)
        for operation in change.operations:
            if isinstance(operation, Patch) and operation.vpc not in whole:
                self._reindex(states[operation.vpc], operation)
                last = change.states[operation.vpc]
                if last is None or last.revision != operation.revision:
                    last = patched(states[operation.vpc], operation)
                self._add_up(states[operation.vpc], operation, last)
                states[operation.vpc] = last
        for vpc in whole:
            self._forget(vpc, states.pop(vpc, None))
        for vpc in whole:
            state = change.states[vpc]
            if state is not None:
                states[vpc] = state
                self._register(state)
        self.states = states

    def _checked(self, operation: Operation, before: VpcState | None, *, adopt: bool, first: bool) -> Operation | None:
        """The operation in canonical form, ``None`` if there is nothing to do."""
        if isinstance(operation, Withdraw):
            late = before is not None and operation.revision is not None and operation.revision < before.revision
            return None if before is None or late else operation
        if isinstance(operation, Put):
            if before is not None:
                check_owner(before, operation.state.owner, adopt=adopt)
            state = canonical_state(operation.state, self.host)
            if before is not None:
                if _same(before, state, adopt=adopt):
                    return None
                _check_epochs(before, state)
            return Put(state)
        if before is None:
            message = f"VPC {operation.vpc} is not known here; send its whole state first"
            raise ConflictError("unknown-vpc", message, None)
        if operation.revision <= operation.previous:
            message = f"revision {operation.revision} does not follow {operation.previous}; a change must raise it"
            raise ConflictError("stale-revision", message, before.revision)
        if operation.revision == before.revision and _applied(before, operation):
            return None
        if operation.previous != before.revision:
            raise ConflictError(
                "revision-gap",
                f"the change of VPC {operation.vpc} starts from revision {operation.previous}, and "
                f"{before.revision} is held. Send the whole state",
                before.revision,
            )
        return self._checked_patch(operation, before, indexed=first)

    def _checked_patch(self, patch: Patch, before: VpcState, *, indexed: bool) -> Patch:
        """A change in canonical form. Only what it touches is checked, unless it touches networks, routers or VTEPs."""
        _check_epochs(before, patch)
        if indexed and _is_narrow(patch, before) and self._groups_fit(patch, before):
            checked = canonical_state(self._part(patch, before), self.host)
            vteps = before.hosts | checked.hosts
            result = _restricted(patch, checked, vteps)
            changed: dict[Owner, Nic | None] = {("ports", name): port for name, port in result.ports.items()}
            changed |= {("endpoints", name): one for name, one in result.endpoints.items()}
            free = not any(one.vtep in vteps.values() for one in checked.endpoints.values())
            if free and not self._index(patch.vpc).clashes(changed):
                return result
        whole = canonical_state(patched(before, patch), self.host)
        return _restricted(patch, whole, whole.hosts)

    def _groups_fit(self, patch: Patch, before: VpcState) -> bool:
        """Whether those that stay may name the groups that change, and go with them as they become."""
        if not (patch.security_groups or patch.address_groups):
            return True
        groups = after(before.security_groups, patch.security_groups)
        gone, gone_ranges = (
            [name for name, value in changes.items() if value is None]
            for changes in (patch.security_groups, patch.address_groups)
        )
        lists = self._index(patch.vpc).lists
        return not leaves_gap(groups, gone, gone_ranges) and lists.stay_right(groups, patch.security_groups.keys())

    def _part(self, patch: Patch, before: VpcState) -> VpcState:
        """As much of the state afterwards as the check of a narrow change needs."""
        brings = _nics(patch).values()
        hosts = before.hosts | {name: vtep for name, vtep in patch.hosts.items() if vtep is not None}
        wanted = {host for nic in brings if isinstance(nic, Port) for host in nic.hosts}
        networks = before.networks
        if wanted <= hosts.keys() and all(nic.network in networks for nic in brings):
            networks = {nic.network: networks[nic.network] for nic in brings}
            if hosts == before.hosts:
                hosts = {name: hosts[name] for name in wanted | ({self.host} & hosts.keys())}
        groups, ranges = needed(
            after(before.security_groups, patch.security_groups) if patch.security_groups else before.security_groups,
            after(before.address_groups, patch.address_groups) if patch.address_groups else before.address_groups,
            patch.security_groups.keys(),
            brings,
        )
        return VpcState(
            name=patch.vpc,
            revision=patch.revision,
            networks=networks,
            routers=without_routes(before.routers, networks),
            ports={name: port for name, port in patch.ports.items() if port is not None},
            endpoints={name: one for name, one in patch.endpoints.items() if one is not None},
            hosts=hosts,
            security_groups=groups,
            address_groups=after(ranges, patch.address_groups),
        )

    def _check_between(self, operations: list[Operation], results: Mapping[str, VpcState | None]) -> None:
        """A VNI and a port's id belong to one VPC; the check of all states is made only where that may be broken."""
        if len(results) <= 1 and not any(self._may_collide(operation) for operation in operations):
            return
        states = {vpc: state for vpc, state in (self.states | dict(results)).items() if state is not None}
        problems = check_states(states)
        if problems:
            raise ModelError(problems)

    def _may_collide(self, operation: Operation) -> bool:
        """Whether something that an operation brings has an id or a VNI that is another's so far."""
        if isinstance(operation, Withdraw):
            return False
        brings = operation.state if isinstance(operation, Put) else operation
        vpc = operation.vpc
        ids = ((port.id, (vpc, name)) for name, port in brings.ports.items() if port is not None)
        return any(self._vnis.get(vni, vpc) != vpc for vni in vnis_of(brings)) or any(
            self._port_ids.get(ident, owner) != owner for ident, owner in ids
        )

    def _index(self, vpc: str) -> _Index:
        if vpc not in self._indexes:
            self._indexes[vpc] = _Index(self.states[vpc])
        return self._indexes[vpc]

    def _reindex(self, before: VpcState, patch: Patch) -> None:
        """Bring the indexes from a state to what a change makes of it."""
        index = self._index(patch.vpc)
        for name in patch.endpoints.keys() & before.endpoints.keys():
            index.discard(("endpoints", name), before.endpoints[name])
        for name in patch.ports.keys() & before.ports.keys():
            index.discard(("ports", name), before.ports[name])
            self._forget_port(patch.vpc, name, before.ports[name])
        for owner, new in _nics(patch).items():
            index.add(owner, new)
            if isinstance(new, Port):
                self._register_port(patch.vpc, owner[1], new)
        gone = [before.networks[name].vni for name in patch.networks if name in before.networks]
        gone += [before.routers[name].vni for name in patch.routers if name in before.routers]
        self._forget_vnis(patch.vpc, gone)
        self._vnis |= dict.fromkeys(vnis_of(patch), patch.vpc)

    def _add_up(self, before: VpcState, patch: Patch, after: VpcState) -> None:
        known = self._sums.get(patch.vpc)
        if known is not None and known[0] is before:
            self._sums[patch.vpc] = (after, patched_sum(known[1], before, patch))

    def _register(self, state: VpcState) -> None:
        for name, port in state.ports.items():
            self._register_port(state.name, name, port)
        self._vnis |= dict.fromkeys(vnis_of(state), state.name)

    def _register_port(self, vpc: str, name: str, port: Port) -> None:
        self._port_ids[port.id] = (vpc, name)
        if port.moving_to == self.host:
            self.arriving.add((vpc, name))

    def _forget_port(self, vpc: str, name: str, port: Port) -> None:
        self.arriving.discard((vpc, name))
        if self._port_ids.get(port.id) == (vpc, name):
            del self._port_ids[port.id]

    def _forget(self, vpc: str, state: VpcState | None) -> None:
        self._indexes.pop(vpc, None)
        self._sums.pop(vpc, None)
        if state is None:
            return
        for name, port in state.ports.items():
            self._forget_port(vpc, name, port)
        self._forget_vnis(vpc, vnis_of(state))

    def _forget_vnis(self, vpc: str, vnis: Iterable[int | None]) -> None:
        for vni in vnis:
            if vni is not None and self._vnis.get(vni) == vpc:
                del self._vnis[vni]


def _is_narrow(patch: Patch, before: VpcState) -> bool:
    """Whether what is changed can be judged without the rest.

    Networks, routers, next hops and VTEPs stay, and all VTEPs are of one family.
    """
    vteps = set(before.hosts.values()) | {vtep for vtep in patch.hosts.values() if vtep is not None}
    vteps |= {one.vtep for one in patch.endpoints.values() if one is not None}
    vteps |= {one.vtep for one in islice(before.endpoints.values(), 1)}
    stay = all(before.hosts.get(host, vtep) == vtep for host, vtep in patch.hosts.items())
    return (
        not (patch.networks or patch.routers)
        and not leaves_next_hop(before.routers, before.ports, patch.ports)
        and stay
        and not (before.endpoints and patch.hosts.keys() - before.hosts.keys())
        and len({":" in vtep for vtep in vteps}) <= 1
    )


def _restricted(patch: Patch, state: VpcState, hosts: Mapping[str, str]) -> Patch:
    """The change with its objects as they are in a checked state, and the VTEPs as they are in ``hosts``."""
    return msgspec.structs.replace(
        patch,
        ports={name: state.ports.get(name) for name in patch.ports},
        networks={name: state.networks.get(name) for name in patch.networks},
        routers={name: state.routers.get(name) for name in patch.routers},
        endpoints={name: state.endpoints.get(name) for name in patch.endpoints},
        hosts={name: hosts.get(name) for name in patch.hosts},
        security_groups={name: state.security_groups.get(name) for name in patch.security_groups},
        address_groups={name: state.address_groups.get(name) for name in patch.address_groups},
    )


def _check_epochs(before: VpcState, brings: VpcState | Patch) -> None:
    """Raises ConflictError for a placement that is older than the one that is held."""
    for name, port in brings.ports.items():
        held = before.ports.get(name)
        if port is not None and held is not None and port.epoch < held.epoch and port.id == held.id:
            raise _stale_epoch(before, f"port {before.name}/{name}", port.epoch, held.epoch)
    for name, endpoint in brings.endpoints.items():
        known = before.endpoints.get(name)
        if endpoint is not None and known is not None and endpoint.epoch < known.epoch:
            raise _stale_epoch(before, f"endpoint {before.name}/{name}", endpoint.epoch, known.epoch)


def _stale_epoch(before: VpcState, what: str, given: int, held: int) -> ConflictError:
    return ConflictError(
        "stale-epoch",
        f"epoch {given} of {what} is older than {held}, which is held: it has been placed anew since. "
        "Give a higher one, or withdraw the VPC in the same request to begin anew",
        before.revision,
    )


def _result(operation: Operation, before: VpcState | None) -> VpcState | None:
    if isinstance(operation, Put):
        return operation.state
    if isinstance(operation, Patch) and before is not None:
        return patched(before, operation)
    return None


def _same(before: VpcState, state: VpcState, *, adopt: bool) -> bool:
    """Whether the state is the one that is held. Raises ConflictError for an old revision, or one used twice."""
    if state.revision > before.revision:
        return False
    if state.revision < before.revision:
        raise ConflictError(
            "stale-revision",
            f"revision {state.revision} of VPC {state.name} is older than {before.revision}, which is held",
            before.revision,
        )
    if before == state:
        return True
    if adopt and msgspec.structs.replace(before, owner=state.owner) == state:
        return False
    raise ConflictError(
        "revision-reused",
        f"revision {state.revision} of VPC {state.name} is held with other contents; a change must raise the revision",
        before.revision,
    )


def _applied(state: VpcState, patch: Patch) -> bool:
    """Whether a change is in the state already (its sender did not hear so)."""
    return all(
        getattr(state, kind).get(name) == value for kind in COLLECTIONS for name, value in getattr(patch, kind).items()
    )
