"""The smallest change to a model that turns the answer for one packet: candidates, each judged before given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from typing import Any, Literal

import msgspec

from ovsnet.errors import path_text
from ovsnet.lint.meaning import Line, Scene, addresses_of, scene
from ovsnet.model.numbers import ip_text
from ovsnet.model.rules import (
    BUILT_IN_DEFAULT,
    DEFAULT_GROUP,
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    PROTOCOLS,
    groups_of,
)
from ovsnet.model.types import Port, Remote, Rule, SecurityGroup, Vpc
from ovsnet.reasons.judge import Direction, Judgement, Packet, allows_all_egress, judge, matching

MOST_TRIED = 24
"""How many candidates are tried at most: each means looking at the VPC's groups anew."""
_NAMES = {number: name for name, number in reversed(list(PROTOCOLS.items()))}
_PASSES = {"allow", "unfiltered", "exempt"}


class Edit(msgspec.Struct, frozen=True, kw_only=True):
    """One edit: ``add`` puts ``value`` into a list or mapping, ``replace`` sets it, ``remove`` takes what is there."""

    op: Literal["add", "remove", "replace"]
    path: str
    value: Any = None

    def __str__(self) -> str:
        """In words."""
        if self.op == "remove":
            return f"remove {self.path}: {flow_style(self.value)}"
        return f"{'add to' if self.op == 'add' else 'set'} {self.path}: {flow_style(self.value)}"


@dataclass(frozen=True)
class Change:
    """Edits, and the VPC with them."""

    edits: tuple[Edit, ...]
    vpc: Vpc


@dataclass(frozen=True)
class EndPoint:
    """One end of a packet's way: a port's name and what it is, and the other end's port, if one has the address."""

    direction: Direction
    name: str
    port: Port
    peer: tuple[str, Port] | None


def flow_style(value: Any) -> str:
    """A value as one would write it into a model on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {flow_style(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow_style(one) for one in value) + "]"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f'"{text}"' if isinstance(value, str) and ":" in value else text


def turning(name: str, vpc: Vpc, ends: tuple[EndPoint, ...], packet: Packet) -> Iterator[Change]:
    """Changes that turn the answer, the smallest first: with the fewest edits, then touching the fewest ports.

    ``ends`` are those that filter, the receiving one last. Each change is judged by the model's groups before it is
    given.
    """
    before = scene(name, vpc)
    judged = [(end, judge(before, end.port, end.direction, packet)) for end in ends]
    blocked = [(end, one) for end, one in judged if one.verdict not in _PASSES]
    if blocked:
        each = [list(islice(_opening(before, end, one, packet), MOST_TRIED)) for end, one in blocked]
        candidates = (tuple(part for parts in several for part in parts) for several in product(*each))
    else:
        filtered = [(end, one) for end, one in reversed(judged) if one.verdict == "allow"]
        candidates = (edits for end, one in filtered for edits in _closing(before, end, one, packet))
    for parts in islice(candidates, MOST_TRIED):
        changed = vpc
        edits = sorted(parts, key=_order)
        for edit in edits:
            changed = applied(changed, edit)
        after = scene(name, changed)
        passes = all(judge(after, changed.ports[end.name], end.direction, packet).verdict in _PASSES for end in ends)
        if passes == bool(blocked):
            yield Change(tuple(edit.shown(name, vpc) for edit in edits), changed)


@dataclass(frozen=True)
class _AddRule:
    group: str
    rule: Rule

    def shown(self, vpc_name: str, vpc: Vpc) -> Edit:
        base = ("vpcs", vpc_name, "security_groups", self.group)
        if self.group in vpc.security_groups:
            return Edit(op="add", path=path_text((*base, "rules")), value=_plain(self.rule))
        start = BUILT_IN_DEFAULT if self.group == DEFAULT_GROUP else _NEW
        whole = msgspec.structs.replace(start, rules=(*start.rules, self.rule))
        return Edit(op="add", path=path_text(base), value=_plain(whole))


@dataclass(frozen=True)
class _RemoveRule:
    group: str
    index: int

    def shown(self, vpc_name: str, vpc: Vpc) -> Edit:
        path = ("vpcs", vpc_name, "security_groups", self.group, "rules", self.index)
        return Edit(op="remove", path=path_text(path), value=_plain(vpc.security_groups[self.group].rules[self.index]))


@dataclass(frozen=True)
class _SetGroups:
    port: str
    groups: tuple[str, ...]

    def shown(self, vpc_name: str, vpc: Vpc) -> Edit:
        path = path_text(("vpcs", vpc_name, "ports", self.port, "security_groups"))
        return Edit(op="replace", path=path, value=list(self.groups))


_Part = _AddRule | _RemoveRule | _SetGroups


def _order(edit: _Part) -> int:
    """Rules go before others come, the last one first, so that each is still where its index says."""
    return -edit.index - 1 if isinstance(edit, _RemoveRule) else 0


_NEW = SecurityGroup(default_egress="deny")


def applied(vpc: Vpc, edit: _Part) -> Vpc:
    """The VPC with one edit more."""
    if isinstance(edit, _SetGroups):
        port = msgspec.structs.replace(vpc.ports[edit.port], security_groups=edit.groups)
        return msgspec.structs.replace(vpc, ports={**vpc.ports, edit.port: port})
    start = BUILT_IN_DEFAULT if edit.group == DEFAULT_GROUP else _NEW
    group = vpc.security_groups.get(edit.group, start)
    if isinstance(edit, _AddRule):
        rules = (*group.rules, edit.rule)
    else:
        rules = (*group.rules[: edit.index], *group.rules[edit.index + 1 :])
    groups = {**vpc.security_groups, edit.group: msgspec.structs.replace(group, rules=rules)}
    return msgspec.structs.replace(vpc, security_groups=groups)


def _plain(value: Any) -> Any:
    return msgspec.to_builtins(value)


def _opening(now: Scene, end: EndPoint, judged: Judgement, packet: Packet) -> Iterator[tuple[_Part, ...]]:
    """Edits that may make one end let the packet pass, in the order in which they are to be tried."""
    mine = groups_of(end.port)
    if not mine:
        yield from _first_groups(now, end, packet)
        return
    line = judged.line
    if line is None or line.rule.priority > 1:
        yield from _allowing(now, end, packet, 1000 if line is None else line.rule.priority - 1, mine)
    if line is not None:
        yield from _clearing(now, end, packet)
    yield from _memberships(now, end, packet)


def _allowing(
    now: Scene, end: EndPoint, packet: Packet, priority: int, groups: tuple[str, ...]
) -> Iterator[tuple[_Part, ...]]:
    """A rule that allows just this packet, in one of these groups."""
    for group in _extensible(now, end, groups):
        for remote in _remotes(now, end, packet):
            yield (_AddRule(group, _rule(end.direction, packet, remote, priority, "allow")),)


def _clearing(now: Scene, end: EndPoint, packet: Packet) -> Iterator[tuple[_Part, ...]]:
    """Without the rules that stop the packet: those before the first that allows it, or those nothing can precede.

    Where no rule allows it then, or where a group would be left without an egress rule and so allow all egress, a rule
    for just this packet comes in their place.
    """
    lines = matching(now, end.port, end.direction, packet)
    first = next((place for place, line in enumerate(lines) if line.rule.action == "allow"), None)
    gone = lines[:first] if first is not None else [line for line in lines if line.rule.priority == 1]
    if not gone:
        return
    rest = [line for line in lines if line not in gone]
    removals = tuple(_RemoveRule(line.group, int(line.path[-1])) for line in gone)
    opened = tuple({line.group for line in gone if _would_open(now, end, line.group, gone)})
    if first is not None and not opened:
        yield removals
        return
    priority = 1000 if first is not None or not rest else rest[0].rule.priority - 1
    for added in _allowing(now, end, packet, priority, opened or groups_of(end.port)):
        yield (*removals, *added)


def _would_open(now: Scene, end: EndPoint, group: str, gone: list[Line]) -> bool:
    """Whether a group that loses these lines has no egress rule left, and so allows all egress."""
    left = any(line.rule.direction == "egress" and line not in gone for line in now.lines[group])
    return end.direction == "egress" and not left and now.vpc.security_groups[group].default_egress == "allow"


def _closing(now: Scene, end: EndPoint, judged: Judgement, packet: Packet) -> Iterator[tuple[_Part, ...]]:
    """Edits that may make one end stop the packet."""
    line = judged.line
    priority = 1000 if line is None else line.rule.priority  # at a tie drop wins
    for group in _extensible(now, end, groups_of(end.port)):
        for remote in _remotes(now, end, packet):
            yield (_AddRule(group, _rule(end.direction, packet, remote, priority, "drop")),)
    if line is not None and line.group in now.vpc.security_groups:
        yield (_RemoveRule(line.group, int(line.path[-1])),)


def _extensible(now: Scene, end: EndPoint, groups: tuple[str, ...]) -> list[str]:
    """The groups to which a rule can be added without taking something away, those of the fewest ports first.

    The first egress rule of a group ends its allowing all egress.
    """
    usable = [one for one in groups if end.direction == "ingress" or not allows_all_egress(now, one)]
    return sorted(usable, key=lambda one: (len(now.ports_of.get(one, ())), one))


def _remotes(now: Scene, end: EndPoint, packet: Packet) -> list[Remote]:
    """How a rule can name the other end, the narrowest first; a group of one member is as narrow as an address."""
    bits = 32 if packet.family == 4 else 128
    number = packet.peer(end.direction)
    address = (1, 1, Remote(cidr=f"{ip_text(number, bits)}/{bits}"))
    groups = []
    if end.peer is not None:
        peer = end.peer[1]
        member = (packet.family, number) in addresses_of(peer) and now.domain(peer.network) == now.domain(
            end.port.network
        )
        for group in groups_of(peer) if member else ():
            groups.append((len(now.ports_of[group]), 0, Remote(group=group)))
    ranked = sorted([address, *groups], key=lambda one: (one[0], one[1], one[2].group or ""))
    return [remote for _, _, remote in ranked]


def _rule(
    direction: Direction, packet: Packet, remote: Remote, priority: int, action: Literal["allow", "drop"]
) -> Rule:
    number, detail = packet.protocol, packet.detail
    icmp = number in {ICMP, ICMPV6}
    rule = Rule(
        direction=direction,
        ethertype=("ipv4" if packet.family == 4 else "ipv6") if remote.group is not None and not icmp else None,
        protocol=_NAMES.get(number, number),
        port=detail if number in PORT_PROTOCOLS else None,
        type=detail >> 8 if icmp else None,
        code=detail & 0xFF if icmp else None,
        remote=remote,
        action=action,
    )
    return rule if priority == rule.priority else msgspec.structs.replace(rule, priority=priority)


def _first_groups(now: Scene, end: EndPoint, packet: Packet) -> Iterator[tuple[_Part, ...]]:
    """A port without groups gets one: a declared one that allows the packet, or one of its own."""
    fitting = []
    for group in now.vpc.security_groups:
        port = msgspec.structs.replace(end.port, security_groups=(group,))
        if judge(now, port, end.direction, packet).verdict == "allow":
            fitting.append((len(now.ports_of.get(group, ())), group))
    for _, group in sorted(fitting, reverse=True):
        yield (_SetGroups(end.name, (group,)),)
    own = end.name if end.name not in now.lines else f"{end.name}-only"
    for remote in _remotes(now, end, packet):
        yield _AddRule(own, _rule(end.direction, packet, remote, 1000, "allow")), _SetGroups(end.name, (own,))


def _memberships(now: Scene, end: EndPoint, packet: Packet) -> Iterator[tuple[_Part, ...]]:
    """Put the other end into a group that this end's rules already allow."""
    if end.peer is None:
        return
    name, peer = end.peer
    lines = [line for group in groups_of(end.port) for line in now.lines.get(group, ())]
    spoken = {line.remote_group for line in lines if line.rule.direction == end.direction}
    for group in sorted({one for one in spoken if one is not None} - set(groups_of(peer))):
        yield (_SetGroups(name, (*groups_of(peer), group)),)
