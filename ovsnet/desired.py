"""The flows that a host should have, each with the model object that it stems from, and differences between them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ovsnet.pipeline.template import Key, Row
from ovsnet.responders.lease import Lease


class Subject(NamedTuple):
    """The model object that flows stem from: ``kind`` is ``host``, ``network``, ``port``, ``endpoint``,
    ``security_group`` (or one of its rules) or ``address_group``.
    """

    kind: str
    vpc: str = ""
    name: str = ""

    def __str__(self) -> str:
        """``VPC/NAME`` as a user writes it, or the kind of what belongs to the host."""
        return f"{self.vpc}/{self.name}" if self.vpc else f"the {self.kind}"

    @property
    def path(self) -> str:
        """The path in the model, such as ``vpcs.shop.ports.web1``; ``hosts`` for what every host has."""
        return f"vpcs.{self.vpc}.{self.kind}s.{self.name}" if self.vpc else f"{self.kind}s"


HOST = Subject("host")


class Owned(NamedTuple):
    """A flow and the model object that it stems from."""

    row: Row
    subject: Subject


@dataclass(frozen=True)
class Delta:
    """The difference between two states of Desired: flows to add (new or changed) and to remove.

    ``leases`` are those that changed, by OpenFlow port; ``None``: that port is told nothing any more.
    """

    add: tuple[Owned, ...] = ()
    remove: tuple[Owned, ...] = ()
    leases: Mapping[int, Lease | None] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether there is any difference."""
        return bool(self.add or self.remove or self.leases)


class ConflictError(Exception):
    """Two model objects claim one flow; the validated model excludes that."""


class Desired:
    """The flows that a host should have: by key, each with the model object that it stems from.

    ``leases`` is what ports here are told of their addresses, by OpenFlow port.
    """

    def __init__(self, flows: Iterable[Owned] = (), leases: Mapping[int, Lease] | None = None) -> None:
        self.flows: dict[Key, Owned] = {flow.row.key: flow for flow in flows}
        self.leases: Mapping[int, Lease] = {} if leases is None else leases

    def __len__(self) -> int:
        """The number of flows."""
        return len(self.flows)

    def __iter__(self) -> Iterator[Owned]:
        """The flows, in no particular order."""
        return iter(self.flows.values())

    def __eq__(self, other: object) -> bool:
        """Equal when the very same flows stem from the same objects, and ports are told the same."""
        return isinstance(other, Desired) and self.flows == other.flows and self.leases == other.leases

    __hash__ = None  # type: ignore[assignment]

    def diff(self, before: Desired) -> Delta:
        """What leads from ``before`` to this."""
        add = tuple(flow for key, flow in self.flows.items() if row_of(before.flows.get(key)) != flow.row)
        remove = tuple(flow for key, flow in before.flows.items() if key not in self.flows)
        return Delta(add, remove)


def row_of(flow: Owned | None) -> Row | None:
    """The row of a flow, if there is one."""
    return flow.row if flow else None
