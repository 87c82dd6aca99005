"""What this host has been told, checked: the states of its VPCs and the indexes that make a small change cheap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from ovsnet.errors import ModelError, UserError
from ovsnet.model import canonical_state, check_states
from ovsnet.model.types import Port, VpcState
from ovsnet.transport.changes import Operation, Patch, Put, Withdraw, patched
from ovsnet.transport.digest import digest_text, patched_sum, state_sum


class ConflictError(UserError):
    """A change does not fit what is held: a gap, an old revision, another owner. ``code`` is stable."""

    def __init__(self, code: str, message: str, current: int | None) -> None:
        super().__init__(message)
        self.code = code
        self.current = current


@dataclass(frozen=True)
class Change:
    """A checked set of operations: ``states`` are those of its VPCs afterwards, ``None`` for one that is gone."""

    operations: tuple[Operation, ...] = ()
    states: Mapping[str, VpcState | None] = field(default_factory=dict)


class _Index:
    """Who has which address in a VPC."""

    def __init__(self, state: VpcState) -> None:
        self.addresses: dict[tuple[str, str], str] = {}
        for name, port in state.ports.items():
            self.add(name, port)

    def add(self, name: str, port: Port) -> None:
        for address in (port.mac or "", *(port.ips or ())):
            self.addresses[port.network, address] = name

    def discard(self, name: str, port: Port) -> None:
        for address in (port.mac or "", *(port.ips or ())):
            if self.addresses.get((port.network, address)) == name:
                del self.addresses[port.network, address]

    def clashes(self, ports: Mapping[str, Port | None]) -> bool:
        """Whether one of the ports has an address of another that is not among them."""
        seen: dict[tuple[str, str], str] = {}
        for name, port in ports.items():
            if port is None:
                continue
            for address in (port.mac or "", *(port.ips or ())):
                key = (port.network, address)
                owner = self.addresses.get(key, name)
                if (owner != name and owner not in ports) or seen.setdefault(key, name) != name:
                    return True
        return False


class HostView:
    """The states that a host holds. ``check`` first, then ``commit``; the caller keeps others out in between.

    ``states`` is only ever replaced as a whole, so that any thread may read it at any time.
    """

    def __init__(self, host: str, states: Mapping[str, VpcState]) -> None:
        self.host = host
        self.states = dict(states)
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
        after: dict[str, VpcState | None] = {}
        kept: list[Operation] = []
        for operation in operations:
            before = after.get(operation.vpc, self.states.get(operation.vpc))
            if operation.vpc in after and after[operation.vpc] is None:
                before = None
            new = self._checked(operation, before, adopt=adopt, first=operation.vpc not in after)
            if new is not None:
                kept.append(new)
                after[operation.vpc] = _result(new, before)
        self._check_between(kept, after)
        return Change(tuple(kept), after)

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
            return None if before is None else operation
        if isinstance(operation, Put):
            if before is not None and before.owner != operation.state.owner and not adopt:
                raise ConflictError(
                    "foreign-owner",
                    f"VPC {before.name} belongs to {before.owner or 'an unnamed owner'}, not to "
                    f"{operation.state.owner or 'an unnamed owner'}. Adopt it explicitly if it is meant",
                    before.revision,
                )
            state = canonical_state(operation.state, self.host)
            return None if before is not None and _same(before, state, adopt=adopt) else Put(state)
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
        """A change in canonical form. Only what it touches is checked, unless it touches networks or VTEPs."""
        if indexed and self._is_narrow(patch, before):
            ports = {name: port for name, port in patch.ports.items() if port is not None}
            hosts = before.hosts | {name: vtep for name, vtep in patch.hosts.items() if vtep is not None}
            networks = before.networks
            if all(port.network in networks and (port.host is None or port.host in hosts) for port in ports.values()):
                networks = {port.network: networks[port.network] for port in ports.values()}
                if hosts == before.hosts:
                    wanted = {port.host for port in ports.values()} | {self.host}
                    hosts = {name: vtep for name, vtep in hosts.items() if name in wanted}
            part = VpcState(name=patch.vpc, revision=patch.revision, networks=networks, ports=ports, hosts=hosts)
            checked = canonical_state(part, self.host)
            changed: dict[str, Port | None] = {name: checked.ports.get(name) for name in patch.ports}
            if not self._index(patch.vpc).clashes(changed):
                vteps = before.hosts | checked.hosts
                return msgspec.structs.replace(patch, ports=changed, hosts={h: vteps.get(h) for h in patch.hosts})
        whole = canonical_state(patched(before, patch), self.host)
        return msgspec.structs.replace(
            patch,
            ports={name: whole.ports.get(name) for name in patch.ports},
            networks={name: whole.networks.get(name) for name in patch.networks},
            hosts={name: whole.hosts.get(name) for name in patch.hosts},
        )

    @staticmethod
    def _is_narrow(patch: Patch, before: VpcState) -> bool:
        """Whether the changed ports can be judged without the others: networks and VTEPs stay, of one family."""
        vteps = set(before.hosts.values()) | {vtep for vtep in patch.hosts.values() if vtep is not None}
        stay = all(before.hosts.get(host, vtep) == vtep for host, vtep in patch.hosts.items())
        return not patch.networks and stay and len({":" in vtep for vtep in vteps}) <= 1

    def _check_between(self, operations: list[Operation], after: Mapping[str, VpcState | None]) -> None:
        """A VNI and a port's id belong to one VPC; the check of all states is made only where that may be broken."""
        if len(after) <= 1 and not any(self._may_collide(operation) for operation in operations):
            return
        states = {vpc: state for vpc, state in (self.states | dict(after)).items() if state is not None}
        problems = check_states(states)
        if problems:
            raise ModelError(problems)

    def _may_collide(self, operation: Operation) -> bool:
        """Whether something that an operation brings has an id or a VNI that is another's so far."""
        if isinstance(operation, Withdraw):
            return False
        brings = operation.state if isinstance(operation, Put) else operation
        vpc = operation.vpc
        vnis = (network.vni for network in brings.networks.values() if network is not None)
        ids = ((port.id, (vpc, name)) for name, port in brings.ports.items() if port is not None)
        return any(self._vnis.get(vni or 0, vpc) != vpc for vni in vnis) or any(
            self._port_ids.get(ident, owner) != owner for ident, owner in ids
        )

    def _index(self, vpc: str) -> _Index:
        if vpc not in self._indexes:
            self._indexes[vpc] = _Index(self.states[vpc])
        return self._indexes[vpc]

    def _reindex(self, before: VpcState, patch: Patch) -> None:
        """Bring the indexes from a state to what a change makes of it."""
        index = self._index(patch.vpc)
        olds = {name: before.ports[name] for name in patch.ports if name in before.ports}
        for name, old in olds.items():
            index.discard(name, old)
            if self._port_ids.get(old.id) == (patch.vpc, name):
                del self._port_ids[old.id]
        for name, new in patch.ports.items():
            if new is not None:
                index.add(name, new)
                self._port_ids[new.id] = (patch.vpc, name)
        for name in patch.networks:
            if name in before.networks and self._vnis.get(before.networks[name].vni or 0) == patch.vpc:
                del self._vnis[before.networks[name].vni or 0]
        for network in patch.networks.values():
            if network is not None:
                self._vnis[network.vni or 0] = patch.vpc

    def _add_up(self, before: VpcState, patch: Patch, after: VpcState) -> None:
        known = self._sums.get(patch.vpc)
        if known is not None and known[0] is before:
            self._sums[patch.vpc] = (after, patched_sum(known[1], before, patch))

    def _register(self, state: VpcState) -> None:
        for name, port in state.ports.items():
            self._port_ids[port.id] = (state.name, name)
        for network in state.networks.values():
            self._vnis[network.vni or 0] = state.name

    def _forget(self, vpc: str, state: VpcState | None) -> None:
        self._indexes.pop(vpc, None)
        self._sums.pop(vpc, None)
        if state is None:
            return
        for name, port in state.ports.items():
            if self._port_ids.get(port.id) == (vpc, name):
                del self._port_ids[port.id]
        for network in state.networks.values():
            if self._vnis.get(network.vni or 0) == vpc:
                del self._vnis[network.vni or 0]


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
    return (
        all(state.ports.get(name) == port for name, port in patch.ports.items())
        and all(state.networks.get(name) == network for name, network in patch.networks.items())
        and all(state.hosts.get(name) == vtep for name, vtep in patch.hosts.items())
    )
