"""Who has to hear of a transaction, and what: the change, the whole VPC, or that it is theirs no more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Patch
from ovsnet.transport.feed import HostMessage
from ovsnet.transport.messages import Item
from ovsnet.transport.operations import patch_item, put_item, withdraw_item


@dataclass(frozen=True)
class VpcChange:
    """One VPC in a transaction: its change, its state afterwards, and the hosts concerned before and afterwards.

    ``patch`` is ``None`` for a VPC that is new or gone; ``state`` is then the new one, or ``None``. Where no host is
    concerned for the first time, ``state`` is not needed and may be ``None``.
    """

    vpc: str
    revision: int
    patch: Patch | None
    state: VpcState | None
    before: Set[str]
    after: Set[str]


def fan_out(tx: str, changes: Iterable[VpcChange]) -> list[tuple[HostMessage, list[str]]]:
    """The messages of a transaction, each with the hosts that get it: as many as there are different ones.

    Costs what the hosts concerned cost, however many others there are; every VPC is serialised once for each way in
    which it is told.
    """
    changes = list(changes)
    kinds = [_Kinds(change) for change in changes]
    by_items: dict[tuple[tuple[int, str], ...], list[str]] = {}
    hosts = sorted({host for change in changes for host in (*change.before, *change.after)})
    for host in hosts:
        told = tuple((index, kind) for index, one in enumerate(kinds) if (kind := one.of(host)))
        by_items.setdefault(told, []).append(host)
    return [(_message(tx, told, kinds), group) for told, group in by_items.items()]


class _Kinds:
    """The ways in which a change is told, each made when the first host needs it."""

    def __init__(self, change: VpcChange) -> None:
        self.change = change
        self._made: dict[str, Item] = {}

    def of(self, host: str) -> str:
        change = self.change
        if host not in change.after:
            return "withdraw" if host in change.before else ""
        return "patch" if host in change.before and change.patch is not None else "put"

    def item(self, kind: str) -> Item:
        if kind not in self._made:
            self._made[kind] = self._make(kind)
        return self._made[kind]

    def _make(self, kind: str) -> Item:
        change = self.change
        if kind == "patch" and change.patch is not None:
            return patch_item(change.patch)
        if kind == "withdraw" or change.state is None:
            return withdraw_item(change.vpc, change.revision)
        return put_item(change.state)


def _message(tx: str, told: tuple[tuple[int, str], ...], kinds: list[_Kinds]) -> HostMessage:
    items = tuple(kinds[index].item(kind) for index, kind in told)
    revisions: Mapping[str, int] = {kinds[index].change.vpc: kinds[index].change.revision for index, _ in told}
    return HostMessage(tx, items, revisions)
