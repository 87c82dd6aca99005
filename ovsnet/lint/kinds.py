"""Every finding that ``ovsnet lint`` can have, declared once; the documentation derives from this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from ovsnet.errors import Path, place_text

Level = Literal["warning", "note"]
"""``warning``: something has no effect at all. ``note``: so with today's ports alone, or perhaps meant."""


@dataclass(frozen=True, slots=True)
class FindingKind:
    """A stable code, how grave it is, what it means and what would be right."""

    code: str
    level: Level
    title: str
    meaning: str
    remedy: str


_KINDS = (
    FindingKind(
        "shadowed-rule",
        "warning",
        "A rule behind earlier rules that take everything",
        "Rules of the same group that come earlier (by priority, or by action at one priority) match every packet that "
        "this one matches, and not all of them have its action. It never decides, whoever the members of groups are.",
        "Give it a lower priority number than those have, or remove it.",
    ),
    FindingKind(
        "covered-rule",
        "warning",
        "A rule that other rules of its group cover",
        "Rules of the same group with the same action, which come no later, match every packet that this one matches. "
        "All rules that are reported may be removed together: nothing changes.",
        "Remove it.",
    ),
    FindingKind(
        "not-subject",
        "warning",
        "A rule about packets that no group is asked about",
        "Neighbour discovery (ICMPv6 types 133 to 137) and multicast listeners (130 to 132, 143) always pass.",
        "Remove it.",
    ),
    FindingKind(
        "empty-address-group",
        "warning",
        "A rule for an address group without addresses",
        "The address group has no address, or none of the rule's IP version, so the rule never matches.",
        "Give the address group such an address, or remove the rule.",
    ),
    FindingKind(
        "unused-group",
        "warning",
        "A security group that nobody uses",
        "No port is in the group, and no rule of another group refers to it.",
        "Remove it, or name it in a port's 'security_groups'.",
    ),
    FindingKind(
        "unused-address-group",
        "warning",
        "An address group that no rule refers to",
        "Address groups only serve as the remote of rules.",
        "Remove it, or refer to it: 'remote: {address_group: NAME}'.",
    ),
    FindingKind(
        "empty-remote-group",
        "warning",
        "A rule for a group without members",
        "No port is in the group that is the rule's remote, so the rule never matches.",
        "Put ports into that group, or remove the rule.",
    ),
    FindingKind(
        "remote-family",
        "warning",
        "A rule for a group whose members have no address of its IP version",
        "Members count by their own addresses and by single allowed addresses; an allowed range makes no member.",
        "Give a member such an address, or change or remove the rule.",
    ),
    FindingKind(
        "remote-elsewhere",
        "warning",
        "A rule for a group whose members are in other networks",
        "Members are looked up in the network that a packet arrives in, and in those that a router joins with it; none "
        "of the remote's members is in such a network of a port of the group.",
        "Put members and ports into one network, join theirs with a router, or remove the rule.",
    ),
    FindingKind(
        "contradicting-rules",
        "note",
        "Rules of one priority that disagree",
        "Two rules of one group have the same priority, different actions, and packets that both match: drop wins over "
        "reject, reject over allow.",
        "Give the two different priorities, so that the order can be seen; or leave it, if the winner is meant.",
    ),
    FindingKind(
        "decided-before-today",
        "note",
        "A rule that decides nothing with today's ports",
        "On every port that has the rule, rules of its group or of the port's other groups that come no later match "
        "all that it matches, as long as groups have the members and ports the groups that they have today.",
        "Remove it if that stays so.",
    ),
    FindingKind(
        "local-family",
        "note",
        "A rule of an IP version that its ports do not have",
        "No port of the group has an address of the IP version that the rule is about.",
        "Give a port such an address, or remove the rule.",
    ),
    FindingKind(
        "egress-open",
        "note",
        "Egress rules that another group of the same ports lifts",
        "Every port of the group is also in a group without egress rules, which allows whatever is not dropped. So the "
        "egress rules that allow something, and 'default_egress: deny', change nothing.",
        "Give the other group 'default_egress: deny', or remove these.",
    ),
)

KINDS: dict[str, FindingKind] = {kind.code: kind for kind in _KINDS}
"""The kinds of finding by code."""

_HEAD = """\
# What `ovsnet lint` finds

<!-- Generated from ovsnet/lint/kinds.py; do not edit. -->

`ovsnet lint MODEL` looks for what is right in form and has no effect: rules that never match or never decide, rules
that contradict one another, groups that nobody uses. Every line has the form `FILE:LINE:COLUMN: LEVEL: CODE: PATH:
REASON. REMEDY`; codes are stable. Exit code 0: nothing found; 1: something; 2: the model has problems
([errors.md](errors.md)), and nothing was looked for.

A *warning* is about something that has no effect at all; a *note* about something that has none on today's ports, or
that may be meant. `--level` says from which level on findings are shown and count: `warning` (unless said
otherwise) or `note`. What rules cover is computed exactly, over IP version, protocol, ports, ICMP types and codes, and
addresses; of stateless groups, later fragments too. `--cost` shows what each rule costs in flows.

| code | level | what |
| --- | --- | --- |
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that has no effect, or perhaps not the one that is meant.

    ``line`` and ``column`` count from 1 (0: no place known). ``path`` is the place in the model.
    """

    code: str
    level: Level
    file: str = ""
    line: int = 0
    column: int = 0
    path: str
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = place_text(self.file, self.line, self.column)
        head = [part for part in (place, self.level, self.code, self.path) if part]
        return ": ".join([*head, f"{self.reason}. {self.remedy}"])


@dataclass(frozen=True, slots=True)
class Found:
    """A finding before its place is known; ``on_key``: the place is the key's that leads to ``path``."""

    code: str
    path: Path
    reason: str
    on_key: bool = False


def lint_page() -> str:
    """The list of findings, in Markdown."""
    text = _HEAD
    for kind in KINDS.values():
        text += f"| [{kind.code}](#{kind.code}) | {kind.level} | {kind.title} |\n"
    for kind in KINDS.values():
        text += f"\n## {kind.code}\n\n{kind.title}. {kind.meaning}\n\n{kind.remedy}\n"
    return text
