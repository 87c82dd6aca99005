"""The checks of security groups and address groups, of their rules, and of who is in which group."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import NamedTuple

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import parse_cidr
from ovsnet.model.checks import Drafts, check_cidr, check_name, suggest
from ovsnet.model.fields import RANGE_PATTERN
from ovsnet.model.rules import (
    ICMP,
    ICMPV6,
    MAX_GROUPS,
    MAX_PORT,
    MAX_RANGES,
    PORT_PROTOCOLS,
    PROTOCOLS,
    effective_groups,
    protocol_number,
    range_name,
)
from ovsnet.model.structure import BAD
from ovsnet.model.types import AddressGroup, Port, Remote, RemoteEndpoint, Rule, SecurityGroup

MAX_PRIORITY = 1000
_USUAL = ("tcp", "udp", "sctp", "icmp", "icmpv6")
_RANGE = re.compile(RANGE_PATTERN)

Groups = Mapping[str, SecurityGroup]
AddressGroups = Mapping[str, AddressGroup]


class Fault(NamedTuple):
    """What is wrong with a list of groups: its code, where in the list (``None``: as a whole), the reason, values."""

    code: str
    at: int | None
    reason: str
    values: dict[str, str]


class GroupChecker:
    """Checks the groups of one VPC, whose path is ``base``, and who is in them; problems go to ``drafts``."""

    def __init__(self, drafts: Drafts, base: Path, groups: Groups, address_groups: AddressGroups) -> None:
        self.drafts = drafts
        self.base = base
        self.declared = groups
        self.declared_ranges = address_groups
        self.groups = effective_groups(groups)
        whole = not drafts.broken_beside(base)
        self.groups_known = bool(groups) or whole
        self.ranges_known = bool(address_groups) or whole
        self._faults: dict[tuple[str, ...], tuple[Fault, ...]] = {}

    def check_groups(self) -> dict[str, SecurityGroup]:
        """The security groups with canonical ranges."""
        return {name: self._group(name, group) for name, group in self.declared.items()}

    def check_address_groups(self) -> dict[str, AddressGroup]:
        """The address groups with canonical ranges."""
        return {name: self._ranges(name, ranges) for name, ranges in self.declared_ranges.items()}

    def check_members(self, ports: Mapping[str, Port], endpoints: Mapping[str, RemoteEndpoint]) -> None:
        """Whether the groups that ports and endpoints name are there, and go together."""
        for name, port in ports.items():
            if port.security_groups is None:
                continue
            place = (*self.base, "ports", name, "security_groups")
            if not port.port_security:
                self.drafts.add("groups-not-enforced", place, "'port_security' is false, and groups are given")
            self._members(port.security_groups, place, policy=True)
        for name, endpoint in endpoints.items():
            if endpoint.groups:
                self._members(endpoint.groups, (*self.base, "endpoints", name, "groups"), policy=False)

    def _members(self, groups: tuple[str, ...], place: Path, *, policy: bool) -> None:
        faults = self._faults.get(groups)
        if faults is None:
            faults = self._faults[groups] = tuple(list_faults(groups, self.groups))
        for fault in faults:
            if fault.code == "unknown-security-group" and not self.groups_known:
                continue
            if fault.at is not None:
                other = (*place, groups.index(groups[fault.at])) if fault.code == "duplicate-group" else None
                where = (*place, fault.at)
                self.drafts.add(fault.code, where, fault.reason, values=fault.values, other=other)
            elif policy:
                self.drafts.add(fault.code, place, fault.reason, values=fault.values)

    def _ranges(self, name: str, ranges: AddressGroup) -> AddressGroup:
        path = (*self.base, "address_groups", name)
        check_name(self.drafts, name, path)
        result = []
        seen: dict[str, Path] = {}
        for index, text in enumerate(ranges):
            place = (*path, index)
            range_ = self._cidr(text, place)
            first = seen.setdefault(range_, place)
            if first is not place and range_ is not BAD:
                values = {"suggestion": "Remove it."}
                reason = f"{range_} stands in this list already"
                self.drafts.add("duplicate-address", place, reason, other=first, values=values)
            result.append(range_)
        return ranges if tuple(result) == ranges else tuple(result)

    def _group(self, name: str, group: SecurityGroup) -> SecurityGroup:
        path = (*self.base, "security_groups", name)
        check_name(self.drafts, name, path)
        rules = tuple(self._rule(rule, (*path, "rules", index)) for index, rule in enumerate(group.rules))
        for reason in _too_many((group,)):
            self.drafts.add("too-many-remotes", (*path, "rules"), reason)
        if all(new is old for new, old in zip(rules, group.rules, strict=True)):
            return group
        return msgspec.structs.replace(group, rules=rules)

    def _rule(self, rule: Rule, path: Path) -> Rule:
        if not 1 <= rule.priority <= MAX_PRIORITY:
            reason = f"{rule.priority} is not within 1 to {MAX_PRIORITY}"
            self.drafts.add("invalid-priority", (*path, "priority"), reason)
        place = (*path, "protocol")
        known = not self.drafts.broken(place) and self._protocol(rule.protocol, place)
        number = protocol_number(rule) if known else None
        if known:
            self._icmp(rule, number, path)
            if rule.port is not None and number not in PORT_PROTOCOLS:
                self.drafts.add("port-without-protocol", (*path, "port"), f"a port is given, and {_protocol_of(rule)}")
        if rule.port is not None:
            self._ports(rule.port, (*path, "port"))
        remote = None if rule.remote is None else self._remote(rule.remote, (*path, "remote"))
        self._families(rule, number, remote, path)
        return rule if remote is rule.remote else msgspec.structs.replace(rule, remote=remote)

    def _protocol(self, protocol: str | int | None, place: Path) -> bool:
        """Whether the protocol is one; ``unknown-protocol``."""
        if isinstance(protocol, int):
            if not 0 <= protocol <= 255:
                values = {"suggestion": "Give a number from 0 to 255, or a name."}
                self.drafts.add("unknown-protocol", place, f"{protocol} is no IP protocol", values=values)
                return False
        elif protocol is not None and protocol not in PROTOCOLS:
            close = [
                *get_close_matches(protocol.lower(), _USUAL, 1),
                *get_close_matches(protocol.lower(), PROTOCOLS, 1),
            ]
            number = f"{protocol} without quotes" if protocol.isdecimal() else "its number"
            usual = f"Give {number}, or a name such as {', '.join(_USUAL)}; leave it out for any."
            values = {"suggestion": f"Did you mean {shown(close[0])}?" if close else usual}
            self.drafts.add("unknown-protocol", place, f"{shown(protocol)} is no IP protocol", values=values)
            return False
        return True

    def _icmp(self, rule: Rule, number: int | None, path: Path) -> None:
        """``invalid-icmp``, ``type-without-icmp``, ``code-without-type``."""
        for key, value in (("type", rule.type), ("code", rule.code)):
            if value is None:
                continue
            place = (*path, key)
            if number not in (ICMP, ICMPV6):
                reason = f"a {key} is given, and {_protocol_of(rule)}"
                self.drafts.add("type-without-icmp", place, reason, values={"key": f"'{key}'"})
            elif not 0 <= value <= 255:
                self.drafts.add("invalid-icmp", place, f"{value} is not within 0 to 255")
            elif key == "code" and rule.type is None and not self.drafts.broken((*path, "type")):
                self.drafts.add("code-without-type", place, f"code {value} is given, and no type")

    def _ports(self, port: int | str | tuple[int | str, ...], place: Path) -> None:
        """``invalid-port``."""
        if isinstance(port, tuple):
            if not port:
                self.drafts.add("invalid-port", place, "the list is empty")
            for index, one in enumerate(port):
                self._one_port(one, (*place, index))
        else:
            self._one_port(port, place)

    def _one_port(self, port: int | str, place: Path) -> None:
        if port is BAD:
            return
        if isinstance(port, int):
            reason = "" if 0 <= port <= MAX_PORT else f"{port} is not within 0 to {MAX_PORT}"
        elif not _RANGE.fullmatch(port):
            reason = f"{shown(port)} is no range of ports"
        else:
            first, last = (int(one) for one in port.split("-"))
            reason = f"{last} is not within 0 to {MAX_PORT}" if last > MAX_PORT else ""
            reason = f"{first} is above {last}" if first > last else reason
        if reason:
            self.drafts.add("invalid-port", place, reason)

    def _remote(self, remote: Remote, path: Path) -> Remote:
        given = [key for key in ("cidr", "group", "address_group") if getattr(remote, key) is not None]
        if len(given) != 1:
            if not self.drafts.broken(path):
                reason = f"{' and '.join(given)} are given" if given else "nothing is given"
                self.drafts.add("invalid-remote", path, reason)
            return remote
        if remote.group is not None and remote.group not in self.groups:
            self._unknown("unknown-security-group", "security group", remote.group, self.groups, (*path, "group"))
        if remote.address_group is not None and remote.address_group not in self.declared_ranges:
            what, known = remote.address_group, self.declared_ranges
            self._unknown("unknown-address-group", "address group", what, known, (*path, "address_group"))
        if remote.cidr is None:
            return remote
        cidr = self._cidr(remote.cidr, (*path, "cidr"))
        return remote if cidr == remote.cidr else Remote(cidr=cidr)

    def _unknown(self, code: str, what: str, name: str, known: Iterable[str], place: Path) -> None:
        collection = "security_groups" if code == "unknown-security-group" else "address_groups"
        sure = self.groups_known if code == "unknown-security-group" else self.ranges_known
        if sure:
            reason = f"there is no {what} {shown(name)} in this VPC"
            self.drafts.add(code, place, reason, values=suggest(name, list(known), collection))

    def _cidr(self, text: str, place: Path) -> str:
        """The canonical range, ``ADDRESS/LENGTH``; a lone address is a range of one."""
        cidr = None if text is BAD else check_cidr(self.drafts, place, text, bare=True)
        return text if cidr is None else str(cidr)

    def _families(self, rule: Rule, number: int | None, remote: Remote | None, path: Path) -> None:
        """``contradicting-families``: of ethertype, protocol and range the first two that differ."""
        said: list[tuple[int, str, str]] = []
        if rule.ethertype is not None:
            said.append((4 if rule.ethertype == "ipv4" else 6, "ethertype", f"ethertype {rule.ethertype}"))
        if number in (ICMP, ICMPV6):
            said.append((4 if number == ICMP else 6, "protocol", f"protocol {rule.protocol}"))
        if remote is not None and remote.cidr is not None:
            said.append((6 if ":" in remote.cidr else 4, "remote", f"range {remote.cidr}"))
        for family, key, what in said[1:]:
            if family != said[0][0]:
                reason = f"{what} is IPv{family}, and {said[0][2]} is IPv{said[0][0]}"
                self.drafts.add("contradicting-families", (*path, key), reason)
                return


def canonical_group(group: SecurityGroup) -> SecurityGroup:
    """The group with its ranges in canonical text, as far as they are ranges."""
    rules = tuple(
        rule
        if rule.remote is None or rule.remote.cidr is None
        else msgspec.structs.replace(rule, remote=Remote(cidr=canonical_range(rule.remote.cidr)))
        for rule in group.rules
    )
    return group if rules == group.rules else msgspec.structs.replace(group, rules=rules)


def canonical_range(text: str) -> str:
    """A range, or a lone address, as ``ADDRESS/LENGTH`` in canonical text; other text as it is."""
    parsed = parse_cidr(text, bare=True)
    return str(parsed[0]) if parsed is not None and parsed[0].first == parsed[1] else text


def _protocol_of(rule: Rule) -> str:
    return "no protocol" if rule.protocol is None else f"protocol {rule.protocol}"


def list_faults(groups: tuple[str, ...], known: Groups) -> Iterator[Fault]:
    """What is wrong with a port's or an endpoint's list of groups; ``known`` are those of the VPC, with the default."""
    seen: set[str] = set()
    found: dict[str, SecurityGroup] = {}
    for index, name in enumerate(groups):
        if name is BAD:
            continue
        if name in seen:
            yield Fault("duplicate-group", index, f"{shown(name)} stands in this list already", {})
        elif name in known:
            found[name] = known[name]
        else:
            reason = f"there is no security group {shown(name)} in this VPC"
            yield Fault("unknown-security-group", index, reason, suggest(name, known, "security_groups"))
        seen.add(name)
    sorts = {group.stateful: name for name, group in reversed(found.items())}
    if len(sorts) > 1:
        reason = f"group {sorts[True]} is stateful, and group {sorts[False]} is not"
        yield Fault("mixed-stateful", None, reason, {})
    if len(found) > 1 and not any(list(_too_many((group,))) for group in found.values()):
        for reason in _too_many(found.values()):
            yield Fault("too-many-remotes", None, reason, {})


def _too_many(groups: Iterable[SecurityGroup]) -> Iterator[str]:
    """Why groups cannot be those of one port, as far as their rules' remotes go."""
    rules = [rule for group in groups for rule in group.rules]
    named = {rule.remote.group for rule in rules if rule.remote is not None} - {None}
    ranges = {range_name(rule) for rule in rules} - {None}
    for what, count, most in (
        ("remote groups", len(named), MAX_GROUPS),
        ("ranges and address groups", len(ranges), MAX_RANGES),
    ):
        if count > most:
            yield f"the rules name {count} different {what}, and {most} are the most"
