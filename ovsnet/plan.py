"""The difference between what a switch should have and what it has. Deletion is never written: it is here."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ovsnet.desired import Desired, Owned
from ovsnet.pipeline.template import Key, Row


class Stray(NamedTuple):
    """A flow with our cookie that is no row of any template (another version's, or tampered with).

    ``match`` is the OXM TLVs as the switch lists them; with table and priority they identify the flow.
    """

    table: int
    priority: int
    match: bytes


@dataclass(frozen=True)
class Actual:
    """What a switch has of ours: rows by key, and strays."""

    rows: Mapping[Key, Row] = field(default_factory=dict)
    strays: tuple[Stray, ...] = ()


@dataclass(frozen=True)
class Plan:
    """The steps, in order: flows to add, flows to change (same match, other actions), then what is to go."""

    add: tuple[Owned, ...] = ()
    change: tuple[Owned, ...] = ()
    remove: tuple[Row, ...] = ()
    strays: tuple[Stray, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.add or self.change or self.remove or self.strays)

    @property
    def counts(self) -> dict[str, int]:
        """How many flows are added, changed and removed."""
        return {"added": len(self.add), "changed": len(self.change), "removed": len(self.remove) + len(self.strays)}


def plan(desired: Desired, actual: Actual, *, keep: Collection[Key] = ()) -> Plan:
    """What leads from ``actual`` to ``desired``; flows with a key in ``keep`` are left as they are.

    A stray is not understood, so it always goes, before the adds: it may have the match of a flow that is to be added.
    """
    have = actual.rows
    add, change = [], []
    for key, flow in desired.flows.items():
        if key in keep:
            continue
        before = have.get(key)
        if before is None:
            add.append(flow)
        elif before != flow.row:
            change.append(flow)
    remove = tuple(row for key, row in have.items() if key not in desired.flows and key not in keep)
    return Plan(tuple(add), tuple(change), remove, actual.strays)
