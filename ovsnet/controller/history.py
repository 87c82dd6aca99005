"""What led to a VPC's revisions, and what leads back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ovsnet.controller.requests import KINDS, PutObject
from ovsnet.controller.truth import VpcPlan, VpcTruth
from ovsnet.model.types import AddressGroup, Network, Port, RemoteEndpoint, Router, SecurityGroup


class Backward(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The objects that a revision changed, as they were before it: ``None`` for one that it made.

    ``owners``: by ``KIND/NAME``, whose the objects that it removed were.
    """

    networks: dict[str, Network | None] = {}
    routers: dict[str, Router | None] = {}
    ports: dict[str, Port | None] = {}
    endpoints: dict[str, RemoteEndpoint | None] = {}
    security_groups: dict[str, SecurityGroup | None] = {}
    address_groups: dict[str, AddressGroup | None] = {}
    owners: dict[str, str] = {}


class Revision(msgspec.Struct, frozen=True, kw_only=True):
    """One revision of a VPC: when, by whom, in which transaction, and how many objects it changed."""

    revision: int
    at: float
    who: str
    tx: str
    changes: dict[str, int]


class AuditEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One call that asked for a change. ``outcome``: ``done``, or the code of the refusal, with its ``detail``."""

    id: int
    at: float
    who: str
    what: str
    tx: str
    outcome: str
    detail: str


def backward_of(plan: VpcPlan) -> Backward:
    """What leads back from a plan's revision."""
    gone = {
        f"{kind}/{name}": plan.before.owner_of(kind, name)
        for (kind, name), owner in plan.owners.items()
        if owner is None and plan.before is not None
    }
    before: dict[str, Any] = {
        kind: {name: plan.old(kind, name) for name in getattr(plan.patch, kind)} for kind in KINDS
    }
    return Backward(owners=gone, **before)


def rollback_edits(vpc: VpcTruth, back: Iterable[Backward]) -> list[PutObject]:
    """The edits that lead a VPC back through ``back``, the latest revision first.

    Placements of ports that exist at both ends (host, epoch, moving_to) stay as they are now.
    """
    targets: dict[tuple[str, str], Any] = {}
    owners: dict[str, str] = {}
    for one in back:
        for kind in KINDS:
            for name, body in getattr(one, kind).items():
                targets[kind, name] = body
        owners |= one.owners
    edits = []
    for kind in KINDS:
        for (where, name), body in targets.items():
            if where != kind:
                continue
            now = getattr(vpc.live, kind).get(name)
            wanted = body
            if isinstance(now, Port) and isinstance(body, Port):
                wanted = msgspec.structs.replace(body, host=now.host, epoch=now.epoch, moving_to=now.moving_to)
            elif isinstance(now, RemoteEndpoint) and isinstance(body, RemoteEndpoint):
                wanted = msgspec.structs.replace(body, vtep=now.vtep, epoch=now.epoch)
            edits.append(PutObject(vpc.live.name, kind, name, wanted, owner=owners.get(f"{kind}/{name}")))
    return edits
