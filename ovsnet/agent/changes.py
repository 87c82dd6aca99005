"""What an agent can be told, as values: the bodies of its API and the lines of its files."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from ovsnet.model.types import Network, Port, VpcState

T = TypeVar("T")


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
    hosts: dict[str, str | None] = {}


class Patch(PatchBody, frozen=True, omit_defaults=True, kw_only=True, tag_field="op", tag="patch"):
    """The change of one VPC."""

    vpc: str


class Withdraw(msgspec.Struct, frozen=True, tag_field="op", tag="delete"):
    """The host has nothing to do with a VPC any more."""

    vpc: str


def patched(state: VpcState, patch: PatchBody) -> VpcState:
    """The state after a change; unchanged objects are the same ones."""
    return msgspec.structs.replace(
        state,
        revision=patch.revision,
        networks=_merged(state.networks, patch.networks),
        ports=_merged(state.ports, patch.ports),
        hosts=_merged(state.hosts, patch.hosts),
    )


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
