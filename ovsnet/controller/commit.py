"""A transaction that is durable, as those who tell hosts need it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ovsnet.controller.truth import OwnedHost, Plan
from ovsnet.model.types import VpcState
from ovsnet.transport.changes import PatchBody, patch_for
from ovsnet.transport.fanout import VpcChange


@dataclass(frozen=True, slots=True)
class VpcCommit:
    """What a transaction made of one VPC, for those who tell hosts.

    ``patch`` leads hosts from ``previous`` to ``revision``; ``created`` and ``deleted``: there was, or is, no VPC.
    ``hosts_before`` and ``hosts_after``: who has to know it. ``digest``: of the contents afterwards. ``state`` gives
    the whole state; within the callback it is that of ``revision``, later on perhaps of a later one, or None if the VPC
    is gone. It costs a copy of the VPC's dictionaries, so it is asked for only when a host has to be told all.
    """

    name: str
    previous: int
    revision: int
    patch: PatchBody
    digest: str
    created: bool
    deleted: bool
    hosts_before: frozenset[str]
    hosts_after: frozenset[str]
    state: Callable[[], VpcState | None]

    def change(self) -> VpcChange:
        """The same as the fan-out takes it. To be called within the callback."""
        patch = None if self.created or self.deleted else patch_for(self.name, self.patch)
        state = self.state() if self.hosts_after - self.hosts_before else None
        return VpcChange(self.name, self.revision, patch, state, self.hosts_before, self.hosts_after)


@dataclass(frozen=True, slots=True)
class Committed:
    """A transaction that is durable. ``hosts``: those of the site that it changed, ``None`` for one that is gone.

    Without any change, ``vpcs`` and ``hosts`` are empty and ``tx`` too.
    """

    tx: str
    vpcs: Mapping[str, VpcCommit] = field(default_factory=dict)
    hosts: Mapping[str, OwnedHost | None] = field(default_factory=dict)
    plan: Plan = field(default_factory=lambda: Plan(""))

    def __bool__(self) -> bool:
        """Whether anything changed."""
        return bool(self.tx)


OnCommit = Callable[[Committed], None]
