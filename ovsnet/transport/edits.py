"""Edits of single objects: what a call for one object changes in its VPC, as a patch. Pure.

All of them are idempotent: what is so already gives ``None``. Collections are those of a state (networks, ports,
endpoints, routers, groups), and ``subnets``, whose objects stand in their networks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

from ovsnet.errors import UserError, shown
from ovsnet.model.addresses import parse_cidr
from ovsnet.model.group_checks import canonical_group, canonical_range
from ovsnet.model.identity import derive_mac, port_id
from ovsnet.model.rules import DEFAULT_GROUP
from ovsnet.model.types import AddressGroup, Network, Port, RemoteEndpoint, Router, SecurityGroup, Subnet, VpcState
from ovsnet.transport.changes import Operation, PatchBody, Put, patch_for, patched
from ovsnet.transport.groups import nics_naming, rules_naming
from ovsnet.transport.routers import canonical_router, joining, routes_into, routes_to_port
from ovsnet.transport.view import ConflictError

Kind = Literal["networks", "subnets", "routers", "ports", "endpoints", "security_groups", "address_groups"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The collections whose objects have addresses of their own in an API."""

TYPES: dict[str, Any] = {
    "networks": Network,
    "subnets": Subnet,
    "routers": Router,
    "ports": Port,
    "endpoints": RemoteEndpoint,
    "security_groups": SecurityGroup,
    "address_groups": AddressGroup,
}
"""The type of an object by its collection."""
COLLECTION_TYPES: dict[str, Any] = {kind: dict[str, TYPES[kind]] for kind in KINDS}  # type: ignore[valid-type]
"""The type of a whole collection: objects by id."""
SINGULAR = {
    "networks": "network",
    "subnets": "subnet",
    "routers": "router",
    "ports": "port",
    "endpoints": "endpoint",
    "security_groups": "security group",
    "address_groups": "address group",
}

Object = Network | Subnet | Router | Port | RemoteEndpoint | SecurityGroup | AddressGroup


def segment(kind: str) -> str:
    """A collection as paths of an API name it, such as ``security-groups``."""
    return kind.replace("_", "-")


class UnknownObjectError(UserError):
    """There is no such object; ``code`` is stable, as ``unknown-port``."""

    def __init__(self, kind: str, vpc: str, name: str) -> None:
        super().__init__(f"VPC {vpc} has no {kind} {name} here")
        self.code = f"unknown-{kind.replace(' ', '-')}"


class UnknownVpcError(UnknownObjectError):
    """A VPC is not held here."""

    def __init__(self, vpc: str) -> None:
        UserError.__init__(self, f"this host holds no VPC {vpc}")
        self.code = "unknown-vpc"


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

    What is left out is filled in as :func:`filled_network`, :func:`filled_router`, :func:`filled_port` and
    :func:`filled_endpoint` say. Raises msgspec.MsgspecError, UserError, and UnknownObjectError for a subnet of an
    unknown network.
    """
    if kind == "networks":
        network = msgspec.json.decode(body, type=Network)
        return change(state, networks={name: filled_network(network, state.networks.get(name))})
    if kind == "subnets":
        return _put_subnet(state, name, body)
    if kind == "routers":
        router = msgspec.json.decode(body, type=Router)
        return change(state, routers={name: filled_router(canonical_router(router), state.routers.get(name))})
    if kind == "endpoints":
        endpoint = msgspec.json.decode(body, type=RemoteEndpoint)
        return change(state, endpoints={name: filled_endpoint(endpoint, state.endpoints.get(name))})
    if kind == "security_groups":
        return change(state, security_groups={name: canonical_group(msgspec.json.decode(body, type=SecurityGroup))})
    if kind == "address_groups":
        ranges = msgspec.json.decode(body, type=AddressGroup)
        return change(state, address_groups={name: tuple(canonical_range(one) for one in ranges)})
    port = msgspec.json.decode(body, type=Port)
    return change(state, ports={name: filled_port(state.name, name, port, state.ports.get(name))})


def filled_network(network: Network, held: Network | None) -> Network:
    """A network; left out, the VNI stays, and so do the subnets, which are objects of their own."""
    if held is None:
        return network
    vni = held.vni if network.vni is None else network.vni
    return msgspec.structs.replace(network, vni=vni, subnets=network.subnets or held.subnets)


def filled_router(router: Router, held: Router | None) -> Router:
    """A router; left out, the VNI stays."""
    if held is None or router.vni is not None:
        return router
    return msgspec.structs.replace(router, vni=held.vni)


def filled_port(vpc: str, name: str, port: Port, held: Port | None) -> Port:
    """A port; left out, the id follows from the name and the MAC from the id, or they stay as they are held.

    An epoch that is left out (0) is the held one, and one more when the host is another.
    """
    ident = port.id or (held.id if held is not None else port_id(vpc, name))
    mac = port.mac or (held.mac if held is not None and held.mac else derive_mac(ident))
    epoch = port.epoch or (held.epoch + (port.host != held.host) if held is not None else 0)
    return msgspec.structs.replace(port, id=ident, mac=mac, epoch=epoch)


def filled_endpoint(endpoint: RemoteEndpoint, held: RemoteEndpoint | None) -> RemoteEndpoint:
    """An endpoint; an epoch that is left out (0) is the held one, and one more when the VTEP is another."""
    epoch = endpoint.epoch or (held.epoch + (endpoint.vtep != held.vtep) if held is not None else 0)
    return msgspec.structs.replace(endpoint, epoch=epoch)


def delete(state: VpcState, kind: Kind, name: str) -> PatchBody | None:
    """Take one object away; ``None`` if it is not there. Raises InUseError when others refer to it."""
    if kind == "subnets":
        return _delete_subnet(state, name)
    held: Mapping[str, Any] = getattr(state, kind)
    if name not in held:
        return None
    users: list[str] = []
    if kind == "networks":
        users = [f"ports.{port}" for port, one in state.ports.items() if one.network == name]
        users += [f"endpoints.{endpoint}" for endpoint, one in state.endpoints.items() if one.network == name]
        users += joining(state.routers, name)
    elif kind == "ports":
        users = list(routes_to_port(state.routers, name))
    elif kind == "security_groups" and name != DEFAULT_GROUP:  # whoever names that gets the built-in one
        users = [*nics_naming("ports", state.ports, name), *nics_naming("endpoints", state.endpoints, name)]
        users += rules_naming(state.security_groups, group=name)
    elif kind == "address_groups":
        users = list(rules_naming(state.security_groups, ranges=name))
    if users:
        raise InUseError(f"{SINGULAR[kind]} {state.name}/{name}", tuple(sorted(users)), state.revision)
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


def port_of(state: VpcState, name: str) -> Port:
    """A port. Raises UnknownObjectError."""
    port = state.ports.get(name)
    if port is None:
        raise UnknownObjectError("port", state.name, name)
    return port


def with_vteps(state: VpcState, patch: PatchBody | None, known: Mapping[str, str]) -> PatchBody | None:
    """The patch with the VTEPs of hosts that its ports name and that the state lacks, as far as they are ``known``."""
    if patch is None:
        return None
    ports = [port for port in patch.ports.values() if port is not None]
    named = {host for port in ports for host in (port.host, port.moving_to) if host is not None}
    hosts = {host: known[host] for host in sorted(named) if host in known and host not in state.hosts}
    return msgspec.structs.replace(patch, hosts={**hosts, **patch.hosts}) if hosts else patch


def operation(held: VpcState | None, patch: PatchBody, vpc: str, owner: str) -> Operation:
    """What a patch is to a host: the patch, or the whole state for a VPC that is new or gets another owner."""
    if held is not None and held.owner == owner:
        return patch_for(vpc, patch)
    state = patched(held or new_vpc(vpc, owner), patch)
    return Put(msgspec.structs.replace(state, owner=owner))


def new_vpc(name: str, owner: str) -> VpcState:
    """A VPC that nobody has told of yet, at revision 0."""
    return VpcState(name=name, revision=0, owner=owner)


class SubnetBody(Subnet, frozen=True, kw_only=True):
    """A subnet whose range may stand in the request's path alone: then it is empty here."""

    cidr: str = ""


def _put_subnet(state: VpcState, name: str, body: bytes) -> PatchBody | None:
    network_name, cidr = _split(name)
    network = state.networks.get(network_name)
    if network is None:
        raise UnknownObjectError("network", state.name, network_name)
    fields = msgspec.json.decode(body, type=SubnetBody)
    if fields.cidr and _range(fields.cidr) != _range(cidr):
        raise UserError(f"the subnet's cidr is {shown(fields.cidr)}, and the request says {cidr}. Give one of both")
    subnet = Subnet(**msgspec.structs.asdict(fields) | {"cidr": cidr})
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
    users += routes_into(state.routers, network_name, found[0]) if found else ()
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
