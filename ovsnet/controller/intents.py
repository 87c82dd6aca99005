"""From what a caller means to edits of the truth: whole models, batches, placements. Pure; each looks at the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from ovsnet.controller.errors import NotFoundError
from ovsnet.controller.outside import refuse_floating, refuse_provider_networks
from ovsnet.controller.requests import (
    KINDS,
    DropVpc,
    Edit,
    EnsureVpc,
    Kind,
    PutHost,
    PutObject,
    PutUnderlay,
    PutVpc,
    VpcBody,
)
from ovsnet.controller.truth import Truth, VpcTruth, hosts_of
from ovsnet.errors import UserError
from ovsnet.model import decode_declared
from ovsnet.model.types import AddressGroup, Model, Network, Port, RemoteEndpoint, Router, SecurityGroup, Underlay, Vpc
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.edits import filled_network
from ovsnet.transport.messages import Item
from ovsnet.transport.workloads import Nic, Workload


class ChangeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A change of a VPC: objects by name, ``null`` for one that goes. ``previous``: the revision it must have."""

    previous: int | None = None
    networks: dict[str, Network | None] = {}
    routers: dict[str, Router | None] = {}
    ports: dict[str, Port | None] = {}
    endpoints: dict[str, RemoteEndpoint | None] = {}
    security_groups: dict[str, SecurityGroup | None] = {}
    address_groups: dict[str, AddressGroup | None] = {}


class Placement(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A port (``VPC/NAME``) runs on a host from now on; ``null``: on none. ``epoch``: left out, the next one."""

    port: str
    host: str | None
    epoch: int = 0


def vpc_edits(truth: Truth, vpc: str, body: VpcBody, owner: str) -> list[Edit]:
    """A VPC is what ``body`` says: the objects of ``owner`` in it are these, those of others stay."""
    refuse_floating(f"vpcs.{vpc}", body)
    edits: list[Edit] = [PutVpc(vpc, body.tenant, body.labels, body.description)]
    for kind in KINDS:
        objects = getattr(body, kind)
        edits += [PutObject(vpc, kind, name, one) for name, one in objects.items()]
        edits += _gone(truth.vpcs.get(vpc), kind, objects, owner)
    return edits


def _gone(vpc: VpcTruth | None, kind: Kind, declared: Mapping[str, object], owner: str) -> list[PutObject]:
    """That the owner's objects which are not declared any more go."""
    if vpc is None:
        return []
    held: Mapping[str, object] = getattr(vpc.live, kind)
    names = [name for name in held if name not in declared and vpc.owner_of(kind, name) == owner]
    return [PutObject(vpc.live.name, kind, name, None) for name in names]


def apply_edits(truth: Truth, model: Model, owner: str, *, adopt: bool) -> list[Edit]:
    """What ``owner`` declares is this model: more is made, other is changed, what is left out goes.

    What others declare is not touched, but for what the model declares itself (with ``adopt``).
    """
    refuse_provider_networks(model)
    edits: list[Edit] = [PutHost(name, host) for name, host in model.hosts.items()]
    edits += [
        PutHost(name, None) for name, one in truth.hosts.items() if one.owner == owner and name not in model.hosts
    ]
    if model.underlay != Underlay() or truth.underlay_owner == owner:
        edits.append(PutUnderlay(model.underlay))
    for name, vpc in model.vpcs.items():
        edits += _apply_vpc(truth.vpcs.get(name), name, vpc, owner, adopt=adopt)
    for name, held in truth.vpcs.items():
        if name in model.vpcs:
            continue
        if held.meta.owner == owner:
            edits.append(DropVpc(name))
        elif owner in held.owners.values():
            edits += [one for kind in KINDS for one in _gone(held, kind, {}, owner)]
    return edits


def _apply_vpc(held: VpcTruth | None, name: str, vpc: Vpc, owner: str, *, adopt: bool) -> list[Edit]:
    refuse_floating(f"vpcs.{name}", vpc)
    words = bool(vpc.labels or vpc.description or vpc.tenant not in {"", name})
    mine = held is None or held.meta.owner == owner
    edits: list[Edit] = [
        PutVpc(name, vpc.tenant or name if mine else vpc.tenant, vpc.labels, vpc.description)
        if mine or words or adopt
        else EnsureVpc(name)
    ]
    ports = {} if held is None else held.live.ports
    edits += [PutObject(name, "ports", key, _moving_on(port, ports.get(key))) for key, port in vpc.ports.items()]
    edits += _gone(held, "ports", vpc.ports, owner)
    for kind in _PLAIN:
        declared = getattr(vpc, kind)
        edits += [PutObject(name, kind, key, one) for key, one in declared.items()]
        edits += _gone(held, kind, declared, owner)
    return edits


_PLAIN: tuple[Kind, ...] = ("networks", "routers", "security_groups", "address_groups")
"""What a model declares of a VPC beside its ports."""


def _moving_on(port: Port, held: Port | None) -> Port:
    """A migration that is under way goes on when a model that does not speak of it is applied again."""
    if held is None or held.moving_to is None or port.moving_to is not None or port.host != held.host:
        return port
    return msgspec.structs.replace(port, moving_to=held.moving_to)


class Batch(NamedTuple):
    """A batch, decoded: by VPC what becomes of it (``None``: it goes), and the revisions that VPCs must have."""

    bodies: Mapping[str, VpcBody | ChangeBody | None]
    revisions: Mapping[str, int]


def decode_batch(items: Iterable[Item]) -> Batch:
    """What items say, whatever the truth is.

    Raises ModelError and msgspec.MsgspecError for bodies that are wrong, UserError for a VPC that stands there twice.
    """
    bodies: dict[str, VpcBody | ChangeBody | None] = {}
    revisions: dict[str, int] = {}
    for item in items:
        if item.vpc in bodies:
            raise UserError(f"VPC {item.vpc} stands in the batch twice. Say all of it in one item")
        if item.revision is not None:
            revisions[item.vpc] = item.revision
        if item.op == "put":
            bodies[item.vpc] = decode_declared(bytes(item.body), VpcBody)
        elif item.op == "patch":
            change = bodies[item.vpc] = msgspec.json.decode(item.body, type=ChangeBody)
            if change.previous is not None:
                revisions[item.vpc] = change.previous
        else:
            bodies[item.vpc] = None
    return Batch(bodies, revisions)


def batch_edits(truth: Truth, batch: Batch, owner: str) -> list[Edit]:
    """The edits of a batch."""
    edits: list[Edit] = []
    for vpc, body in batch.bodies.items():
        if body is None:
            edits.append(DropVpc(vpc))
        elif isinstance(body, VpcBody):
            edits += vpc_edits(truth, vpc, body, owner)
        else:
            edits += change_edits(vpc, body)
    return edits


def change_edits(vpc: str, change: ChangeBody | PatchBody, *, placement: bool = False) -> list[Edit]:
    """The edits of a change by object; one that brings a network makes its VPC."""
    edits: list[Edit] = [EnsureVpc(vpc)] if any(change.networks.values()) else []
    for kind in KINDS:
        objects = getattr(change, kind)
        edits += [PutObject(vpc, kind, name, one, placement=placement) for name, one in objects.items()]
    return edits


def placement_edits(truth: Truth, placements: Sequence[Placement]) -> list[Edit]:
    """The ports run on these hosts from now on; a move that was under way ends. Raises NotFoundError."""
    edits: list[Edit] = []
    for one in placements:
        vpc, _, name = one.port.partition("/")
        port = port_of(truth, vpc, name)
        placed = msgspec.structs.replace(port, host=one.host, epoch=one.epoch, moving_to=None)
        edits.append(PutObject(vpc, "ports", name, placed, placement=True))
    return edits


def workload_edits(truth: Truth, ident: str, workload: Workload) -> list[Edit]:
    """A workload has these NICs and no others; a network that is declared along with one makes its VPC.

    Raises UserError for a NIC that stands there twice, or a host whose VTEP is another one.
    """
    wanted = {(nic.vpc, nic.name) for nic in workload.nics}
    if len(wanted) != len(workload.nics):
        raise UserError(f"workload {ident} has a NIC twice. Name each VPC/PORT once")
    for host, vtep in workload.hosts.items():
        held = truth.hosts.get(host)
        if held is None or held.host.vtep != vtep:
            raise UserError(
                f"the VTEP of host {host} is {held.host.vtep if held else 'not known'}, and {vtep} is given"
            )
    gone = [key for key in truth.workloads.get(ident, ()) if key not in wanted]
    edits: list[Edit] = [PutObject(vpc, "ports", name, None) for vpc, name in gone]
    for nic in workload.nics:
        vpc = truth.vpcs.get(nic.vpc)
        if nic.network is not None:
            held_network = None if vpc is None else vpc.live.networks.get(nic.port.network)
            network = filled_network(nic.network, held_network)
            edits += [EnsureVpc(nic.vpc), PutObject(nic.vpc, "networks", nic.port.network, network)]
        port = msgspec.structs.replace(nic.port, workload=ident)
        edits.append(PutObject(nic.vpc, "ports", nic.name, port))
    return edits


def workload_of(truth: Truth, ident: str) -> Workload:
    """A workload as it is. Raises NotFoundError."""
    held = sorted(truth.workloads.get(ident, ()))
    if not held:
        raise NotFoundError("unknown-workload", f"no port belongs to a workload {ident}")
    nics = tuple(Nic(vpc, name, truth.vpcs[vpc].live.ports[name]) for vpc, name in held)
    named = {host for nic in nics for host in hosts_of(nic.port)}
    return Workload(nics, {host: truth.hosts[host].host.vtep for host in sorted(named)})


def vpc_of(truth: Truth, vpc: str) -> VpcTruth:
    """A VPC. Raises NotFoundError."""
    found = truth.vpcs.get(vpc)
    if found is None:
        raise NotFoundError("unknown-vpc", f"there is no VPC {vpc}")
    return found


def port_of(truth: Truth, vpc: str, name: str) -> Port:
    """A port. Raises NotFoundError."""
    port = vpc_of(truth, vpc).live.ports.get(name)
    if port is None:
        raise NotFoundError("unknown-port", f"VPC {vpc} has no port {name}")
    return port


def model_of(truth: Truth) -> Model:
    """Everything that is declared, as one model; endpoints are no part of a model."""
    return Model(
        name=truth.name,
        underlay=truth.underlay,
        hosts={name: one.host for name, one in sorted(truth.hosts.items())},
        vpcs={
            name: Vpc(
                tenant=vpc.meta.tenant,
                labels=vpc.meta.labels,
                description=vpc.meta.description,
                networks=dict(vpc.live.networks),
                routers=dict(vpc.live.routers),
                ports=dict(vpc.live.ports),
                security_groups=dict(vpc.live.security_groups),
                address_groups=dict(vpc.live.address_groups),
            )
            for name, vpc in sorted(truth.vpcs.items())
        },
    )
