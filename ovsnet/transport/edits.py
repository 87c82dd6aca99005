"""Edits of single objects: what a call for one object changes in its VPC, as a patch. Pure.

All of them are idempotent: what is so already gives ``None``. Collections are those of a state (networks, ports,
endpoints), and ``subnets``, whose objects stand in their networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from ovsnet.errors import ModelError, Problem, UserError, shown
from ovsnet.model.addresses import parse_cidr
from ovsnet.model.identity import derive_mac, port_id
from ovsnet.model.types import Network, Port, RemoteEndpoint, Subnet, VpcState
from ovsnet.transport.changes import PatchBody, patched
from ovsnet.transport.view import ConflictError

Kind = Literal["networks", "subnets", "ports", "endpoints"]

TYPES: dict[str, Any] = {"networks": Network, "subnets": Subnet, "ports": Port, "endpoints": RemoteEndpoint}
"""The type of an object by its collection."""
RESERVED = ("routers", "security-groups", "address-groups")
"""Collections that the model's language has and this version refuses."""
SINGULAR = {"networks": "network", "subnets": "subnet", "ports": "port", "endpoints": "endpoint"}

Object = Network | Subnet | Port | RemoteEndpoint


class UnknownObjectError(UserError):
    """There is no such object; ``code`` is stable, as ``unknown-port``."""

    def __init__(self, kind: str, vpc: str, name: str) -> None:
        super().__init__(f"VPC {vpc} has no {kind} {name} here")
        self.code = f"unknown-{kind}"


class InUseError(ConflictError):
    """An object that others refer to cannot go; ``referrers`` are their paths in the VPC."""

    def __init__(self, what: str, referrers: tuple[str, ...], current: int | None) -> None:
        some = ", ".join(referrers[:10]) + (f" and {len(referrers) - 10} more" if len(referrers) > 10 else "")
        super().__init__("in-use", f"{what} is used by {some}. Remove or change these first", current)
        self.referrers = referrers


class PreconditionError(ConflictError):
    """The VPC's revision is another one than the caller said."""

    def __init__(self, vpc: str, wanted: int, current: int | None) -> None:
        held = f"revision {current} is held" if current is not None else "it is not held here"
        message = f"If-Match asks for revision {wanted} of VPC {vpc}, and {held}. Read it again"
        super().__init__("precondition-failed", message, current)


def check_revision(state: VpcState | None, vpc: str, wanted: int | None) -> None:
    """Hold ``If-Match`` to what is held. Raises PreconditionError."""
    if wanted is not None and (state is None or state.revision != wanted):
        raise PreconditionError(vpc, wanted, None if state is None else state.revision)


def reserved(kind: str) -> ModelError:
    """The refusal of a collection of ``RESERVED``."""
    word = kind.replace("-", "_")
    reason = f"'{word}' is reserved, and not enforced by this version"
    remedy = "Leave it out: what is declared is enforced or refused, never ignored."
    return ModelError([Problem(code="reserved-not-enforced", path=word, reason=reason, remedy=remedy)])


def collection(state: VpcState, kind: Kind) -> dict[str, Object]:
    """The objects of one kind by id; a subnet's is ``NETWORK:CIDR`` with ``-`` for ``/``."""
    if kind == "subnets":
        return {
            subnet_id(name, subnet.cidr): subnet
            for name, network in state.networks.items()
            for subnet in network.subnets
        }
    found: dict[str, Object] = getattr(state, kind)
    return found


def subnet_id(network: str, cidr: str) -> str:
    """The id of a subnet, such as ``web:192.168.1.0-24``."""
    return f"{network}:{cidr.replace('/', '-')}"


def find(state: VpcState, kind: Kind, name: str) -> Object:
    """One object. Raises UnknownObjectError."""
    if kind == "subnets":
        network, cidr = _split(name)
        found = _subnet(state, network, cidr)
    else:
        found = getattr(state, kind).get(name)
    if found is None:
        raise UnknownObjectError(SINGULAR[kind], state.name, name)
    return found


def put(state: VpcState, kind: Kind, name: str, body: bytes) -> PatchBody | None:
    """Declare one object, as JSON in ``body``; ``None`` if it is so already.

    Of a port, what follows from its name is filled in (id and MAC), and its placement is kept: the epoch, which rises
    when the host changes. Raises msgspec.MsgspecError, ModelError for a port without ``ips``, UnknownObjectError for a
    subnet of an unknown network.
    """
    if kind == "networks":
        return change(state, networks={name: _network(state.networks.get(name), body)})
    if kind == "subnets":
        return _put_subnet(state, name, body)
    if kind == "endpoints":
        endpoint = msgspec.json.decode(body, type=RemoteEndpoint)
        held = state.endpoints.get(name)
        if held is not None and "epoch" not in _keys(body):
            endpoint = msgspec.structs.replace(endpoint, epoch=held.epoch + (held.vtep != endpoint.vtep))
        return change(state, endpoints={name: endpoint})
    port = filled(state.name, name, msgspec.json.decode(body, type=Port), state.ports.get(name), _keys(body))
    return change(state, ports={name: port})


def filled(vpc: str, name: str, port: Port, held: Port | None, given: frozenset[str]) -> Port:
    """A port with what follows from its name and from what is held; ``given`` are the keys that the caller gave."""
    ident = port.id or (held.id if held is not None else port_id(vpc, name))
    mac = port.mac or (held.mac if held is not None and held.mac else derive_mac(ident))
    epoch = port.epoch
    if held is not None and "epoch" not in given:
        epoch = held.epoch + (port.host != held.host)
    return msgspec.structs.replace(port, id=ident, mac=mac, epoch=epoch)


def delete(state: VpcState, kind: Kind, name: str) -> PatchBody | None:
    """Take one object away; ``None`` if it is not there. Raises InUseError when others refer to it."""
    if kind == "subnets":
        return _delete_subnet(state, name)
    held: Mapping[str, Any] = getattr(state, kind)
    if name not in held:
        return None
    if kind == "networks":
        users = [f"ports.{port}" for port, one in state.ports.items() if one.network == name]
        users += [f"endpoints.{endpoint}" for endpoint, one in state.endpoints.items() if one.network == name]
        if users:
            raise InUseError(f"network {state.name}/{name}", tuple(sorted(users)), state.revision)
    return change(state, **{kind: {name: None}})


def change(state: VpcState, **objects: Mapping[str, Any]) -> PatchBody | None:
    """The patch that brings objects (``ports={...}``, ``None``: gone), ``None`` when they are so already."""
    differing = {}
    for kind, values in objects.items():
        held = getattr(state, kind)
        found = {name: value for name, value in values.items() if held.get(name) != value}
        if found:
            differing[kind] = found
    if not differing:
        return None
    return PatchBody(previous=state.revision, revision=state.revision + 1, **differing)


def merged(state: VpcState, first: PatchBody | None, second: PatchBody | None) -> PatchBody | None:
    """One patch of ``state`` that does what ``first`` and then ``second`` do; ``second`` starts from ``state`` too."""
    if first is None or second is None:
        return first or second
    after = patched(patched(state, first), second)
    kinds = ("networks", "ports", "endpoints", "hosts")
    touched = {kind: [*getattr(first, kind), *getattr(second, kind)] for kind in kinds}
    return change(state, **{kind: {n: getattr(after, kind).get(n) for n in names} for kind, names in touched.items()})


def new_vpc(name: str, owner: str) -> VpcState:
    """A VPC that nobody has told of yet, at revision 0."""
    return VpcState(name=name, revision=0, owner=owner)


def _keys(body: bytes) -> frozenset[str]:
    return frozenset(msgspec.json.decode(body, type=dict[str, msgspec.Raw]))


def _network(held: Network | None, body: bytes) -> Network:
    """A network; subnets that are left out stay (they are objects of their own), as does a VNI."""
    network = msgspec.json.decode(body, type=Network)
    if held is None:
        return network
    given = _keys(body)
    kept = {key: getattr(held, key) for key in ("vni", "subnets") if key not in given}
    return msgspec.structs.replace(network, **kept)


class _SubnetBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A subnet whose range may stand in the request's path alone."""

    cidr: str | None = None
    gateway: str | None = None


def _put_subnet(state: VpcState, name: str, body: bytes) -> PatchBody | None:
    network_name, cidr = _split(name)
    network = state.networks.get(network_name)
    if network is None:
        raise UnknownObjectError("network", state.name, network_name)
    fields = msgspec.json.decode(body, type=_SubnetBody)
    if fields.cidr is not None and _range(fields.cidr) != _range(cidr):
        raise UserError(f"the subnet's cidr is {shown(fields.cidr)}, and the request says {cidr}. Give one of both")
    subnet = Subnet(cidr=cidr, gateway=fields.gateway)
    held = _subnet(state, network_name, cidr)
    if held is None:
        subnets = (*network.subnets, subnet)
    else:
        subnets = tuple(subnet if one is held else one for one in network.subnets)
    return change(state, networks={network_name: msgspec.structs.replace(network, subnets=subnets)})


def _delete_subnet(state: VpcState, name: str) -> PatchBody | None:
    network_name, cidr = _split(name)
    held = _subnet(state, network_name, cidr)
    if held is None:
        return None
    network = state.networks[network_name]
    subnets = tuple(one for one in network.subnets if one is not held)
    found = parse_cidr(held.cidr)
    users = [
        f"{kind}.{user}"
        for kind, objects in (("ports", state.ports), ("endpoints", state.endpoints))
        for user, one in objects.items()
        if one.network == network_name and found and any(_within(ip, found[0]) for ip in one.ips or ())
    ]
    if users:
        raise InUseError(f"subnet {held.cidr} of network {network_name}", tuple(sorted(users)), state.revision)
    return change(state, networks={network_name: msgspec.structs.replace(network, subnets=subnets)})


def _within(ip: str, cidr: Any) -> bool:
    parsed = parse_cidr(ip, bare=True)
    return parsed is not None and parsed[1] in cidr


def _split(name: str) -> tuple[str, str]:
    """Network and range of a subnet's id."""
    network, _, rest = name.partition(":")
    address, _, length = rest.rpartition("-")
    return network, f"{address}/{length}"


def _subnet(state: VpcState, network: str, cidr: str) -> Subnet | None:
    wanted = _range(cidr)
    held = state.networks.get(network)
    return next((one for one in held.subnets if _range(one.cidr) == wanted), None) if held is not None else None


def _range(cidr: str) -> object:
    parsed = parse_cidr(cidr)
    return parsed if parsed is not None else cidr
