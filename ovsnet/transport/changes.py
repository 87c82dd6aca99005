"""What a host can be told, as values: the bodies of its API, the messages of the bus, the lines of its files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import msgspec

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

T = TypeVar("T")

COLLECTIONS = (
    "networks", "routers", "ports", "endpoints", "hosts", "floating_ips", "provider_networks", "security_groups",
    "address_groups",
)  # fmt: skip
"""The fields of a state, and of a change, that hold objects by name."""


def owner_text(owner: str) -> str:
    """An owner, for a sentence."""
    return owner or "an unnamed owner"


class Put(msgspec.Struct, frozen=True, tag_field="op", tag="put"):
    """The whole state of a VPC, at its revision."""

    state: VpcState

    @property
    def vpc(self) -> str:
        """The VPC's name."""
        return self.state.name


class PatchBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True, kw_only=True):
    """A change that leads from revision ``previous`` to ``revision``: objects by name, ``null`` if one is gone."""

    previous: int
    revision: int
    ports: dict[str, Port | None] = {}
    networks: dict[str, Network | None] = {}
    routers: dict[str, Router | None] = {}
    endpoints: dict[str, RemoteEndpoint | None] = {}
    hosts: dict[str, str | None] = {}
    floating_ips: dict[str, FloatingIp | None] = {}
    provider_networks: dict[str, Outside | None] = {}
    security_groups: dict[str, SecurityGroup | None] = {}
    address_groups: dict[str, AddressGroup | None] = {}


class Patch(PatchBody, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="patch"):
    """The change of one VPC."""

    vpc: str


class Withdraw(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="op", tag="delete"):
    """The host has nothing to do with a VPC any more.

    ``revision``: the VPC's when that was decided, so that one that arrives late undoes nothing newer; ``None``: now.
    """

    vpc: str
    revision: int | None = None


Operation = Put | Patch | Withdraw


def patch_for(vpc: str, body: PatchBody) -> Patch:
    """The change that ``body`` describes, as that of a VPC."""
    return Patch(vpc=vpc, **{name: getattr(body, name) for name in PatchBody.__struct_fields__})


def patched(state: VpcState, patch: PatchBody) -> VpcState:
    """The state after a change; unchanged objects are the same ones."""
    merged: dict[str, Any] = {kind: _merged(getattr(state, kind), getattr(patch, kind)) for kind in COLLECTIONS}
    return msgspec.structs.replace(state, revision=patch.revision, **merged)


def vnis_of(one: VpcState | PatchBody) -> Iterator[int]:
    """The VNIs of the networks and routers of a state, or of those that a change brings."""
    for numbered in (*one.networks.values(), *one.routers.values()):
        if numbered is not None and numbered.vni is not None:
            yield numbered.vni


def _merged(before: dict[str, T], changes: dict[str, T | None]) -> dict[str, T]:
    if not changes:
        return before
    after = dict(before)
    for name, value in changes.items():
        if value is None:
            after.pop(name, None)
        else:
            after[name] = value
    return after
