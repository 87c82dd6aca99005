"""What is right in form and has no effect: rules that never match or decide, or contradict, and groups without use.

A pure function of a model, and of its text's nodes where findings are to have their places.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ovsnet.errors import path_text, printable
from ovsnet.lint.checks import check_vpc
from ovsnet.lint.costs import RuleCost, cost, host_totals, rule_costs
from ovsnet.lint.kinds import KINDS, Finding, Found, Level, lint_page
from ovsnet.lint.meaning import scene
from ovsnet.model import Model
from ovsnet.model.nodes import Node, find


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """All findings of a model, sorted by place; what each rule costs; the flows of rules on each host, most first."""

    findings: tuple[Finding, ...]
    rules: tuple[RuleCost, ...]
    hosts: Mapping[str, int]

    def at_least(self, level: Level) -> tuple[Finding, ...]:
        """The findings of this level and graver ones."""
        return tuple(one for one in self.findings if level == "note" or one.level == "warning")


def lint(model: Model, root: Node | None = None, order: Mapping[str, int] | None = None) -> Report:
    """Look through a model that has passed its checks and has all its addresses.

    ``root``: the nodes of its text, from which findings get their places; ``order``: the files' ranks, as they were
    named.
    """
    scenes = [scene(name, vpc) for name, vpc in model.vpcs.items()]
    findings = [_placed(found, root) for one in scenes for found in check_vpc(one)]
    ranks = order or {}
    findings.sort(key=lambda one: (ranks.get(one.file, -1), one.file, one.line, one.column, one.path, one.code))
    costs = tuple(line for one in scenes for line in rule_costs(one))
    return Report(findings=tuple(findings), rules=costs, hosts=host_totals(scenes))


def _placed(found: Found, root: Node | None) -> Finding:
    at = None if root is None else find(root, found.path, on_key=found.on_key)
    kind = KINDS[found.code]
    return Finding(
        code=found.code,
        level=kind.level,
        file=at.file if at else "",
        line=at.line if at else 0,
        column=at.column if at else 0,
        path=path_text(found.path),
        reason=printable(found.reason),
        remedy=kind.remedy,
    )


__all__ = ["KINDS", "Finding", "Level", "Report", "RuleCost", "cost", "lint", "lint_page"]
