"""What a change has to do with security groups, judged without the rest of its VPC. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from ovsnet.model.group_checks import AddressGroups, Groups, list_faults
from ovsnet.model.rules import DEFAULT_GROUP, effective_groups, range_name
from ovsnet.model.types import AddressGroup, Port, RemoteEndpoint, SecurityGroup

Nic = Port | RemoteEndpoint
_GroupList = tuple[bool, tuple[str, ...]]


class GroupLists:
    """How many ports, and how many endpoints, of a VPC have each list of groups: there are few different ones."""

    def __init__(self, nics: Iterable[Nic] = ()) -> None:
        self._counts: dict[_GroupList, int] = {}
        for nic in nics:
            self.add(nic)

    def __eq__(self, other: object) -> bool:
        """Whether the same lists are counted, as often."""
        return isinstance(other, GroupLists) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]

    def add(self, nic: Nic) -> None:
        """A port or an endpoint has come."""
        groups = named_groups(nic)
        if groups:
            key = isinstance(nic, Port), groups
            self._counts[key] = self._counts.get(key, 0) + 1

    def discard(self, nic: Nic) -> None:
        """A port or an endpoint that had come has gone, or is about to come back changed."""
        groups = named_groups(nic)
        if groups:
            key = isinstance(nic, Port), groups
            left = self._counts.pop(key, 1) - 1
            if left:
                self._counts[key] = left

    def without(self, nics: Iterable[Nic]) -> GroupLists:
        """The same, when these ports and endpoints are not counted."""
        rest = GroupLists()
        rest._counts = dict(self._counts)
        for nic in nics:
            rest.discard(nic)
        return rest

    def names(self, group: str) -> bool:
        """Whether anybody names a group."""
        return any(group in groups for _, groups in self._counts)

    def stay_right(self, groups: Groups, changed: Collection[str]) -> bool:
        """Whether all lists that name a changed group are right with ``groups``, the VPC's afterwards."""
        known = effective_groups(groups)
        wanted = set(changed)
        return not any(
            port or fault.at is not None
            for port, names in self._counts
            if not wanted.isdisjoint(names)
            for fault in list_faults(names, known)
        )


def named_groups(nic: Nic) -> tuple[str, ...]:
    """The groups that a port or an endpoint names: what is left out names none."""
    return (nic.security_groups or ()) if isinstance(nic, Port) else nic.groups


def after(held: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A collection after a change of it: objects by name, ``None`` for one that is gone."""
    return {name: value for name, value in {**held, **changes}.items() if value is not None}


def needed(
    groups: Groups, ranges: AddressGroups, changed: Collection[str], nics: Iterable[Nic]
) -> tuple[dict[str, SecurityGroup], dict[str, AddressGroup]]:
    """As much of a VPC's groups and address groups as the check of some objects needs.

    The objects are the groups ``changed``, as they stand in ``groups``, and ``nics``. Of groups that they name only
    the remotes are kept, of what those name only the names; when a name is missing all is given, for a message that
    says what there is.
    """
    named = {name for nic in nics for name in named_groups(nic)}
    known = effective_groups(groups)
    if not named <= known.keys():
        return dict(groups), dict(ranges)
    part = {name: _remotes_only(groups[name]) for name in named if name in groups}
    part |= {name: groups[name] for name in changed if name in groups}
    remotes = [rule.remote for group in part.values() for rule in group.rules if rule.remote is not None]
    others = {remote.group for remote in remotes if remote.group is not None}
    sets = {remote.address_group for remote in remotes if remote.address_group is not None}
    if not (others <= known.keys() and sets <= ranges.keys()):
        return dict(groups), dict(ranges)
    part |= {name: SecurityGroup() for name in others if name in groups and name not in part}
    return part, dict.fromkeys(sets, ())


def _remotes_only(group: SecurityGroup) -> SecurityGroup:
    """The group with one rule for each other group that it names: what the check of a port's groups looks at."""
    rules = {(rule.remote.group, range_name(rule)): rule for rule in group.rules if rule.remote is not None}
    return SecurityGroup(rules=tuple(rules.values()), stateful=group.stateful)


def rules_naming(groups: Groups, group: str | None = None, ranges: str | None = None) -> Iterator[str]:
    """The paths of rules, in other groups, that name a group or an address group."""
    for name, one in groups.items():
        if name == group:
            continue
        for index, rule in enumerate(one.rules):
            remote = rule.remote
            if remote is not None and (
                (group is not None and remote.group == group) or (ranges is not None and remote.address_group == ranges)
            ):
                yield f"security_groups.{name}.rules[{index}]"


def nics_naming(kind: str, nics: Mapping[str, Nic], group: str) -> Iterator[str]:
    """The paths of ports or endpoints (``kind``) that name a group."""
    return (f"{kind}.{name}" for name, nic in nics.items() if group in named_groups(nic))


def leaves_gap(groups: Groups, gone: Iterable[str], gone_ranges: Iterable[str]) -> bool:
    """Whether a rule names a group or an address group that goes; ``groups`` are those that stay."""
    missing = set(gone) - {DEFAULT_GROUP}
    missing_ranges = set(gone_ranges)
    if not (missing or missing_ranges):
        return False
    remotes = (rule.remote for group in groups.values() for rule in group.rules if rule.remote is not None)
    return any(remote.group in missing or remote.address_group in missing_ranges for remote in remotes)
