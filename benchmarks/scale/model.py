"""The rules at one size: loads, the first limit, where it is hit, and how many machines a layer then is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from benchmarks.scale.inputs import Figures, Machine, Missing, Site
from benchmarks.scale.rules import RULES, Rule

_MOST_HOSTS = 10_000_000  # a limit that this many hosts do not reach is not reached


@dataclass(frozen=True)
class Load:
    """A rule at one size: ``need`` of ``limit``; ``missing`` names the constant without which neither is known."""

    rule: Rule
    need: float = 0.0
    limit: float = 1.0
    missing: str = ""

    @property
    def share(self) -> float:
        """How much of one machine it is; more than 1 is more than it has."""
        return self.need / self.limit


def load(rule: Rule, site: Site, machine: Machine, figures: Figures) -> Load:
    """A rule at one size."""
    try:
        return Load(rule, rule.need(site, figures), rule.limit(machine, figures))
    except Missing as error:
        return Load(rule, missing=str(error.args[0]))


def loads(site: Site, machine: Machine, figures: Figures, rules: Sequence[Rule] = RULES) -> list[Load]:
    """Every rule at one size, in order."""
    return [load(rule, site, machine, figures) for rule in rules]


def first(found: Iterable[Load], layer: str) -> Load | None:
    """What a layer has least of; ``None`` when any constant of the layer is missing, since that could be it."""
    of_layer = [one for one in found if one.rule.layer == layer]
    if any(one.missing for one in of_layer):
        return None
    return max(of_layer, key=lambda one: one.share, default=None)


def machines(found: Iterable[Load], layer: str, headroom: float) -> int | None:
    """How many machines a layer takes, each used to ``headroom`` at most; ``None`` when a constant is missing.

    For a store or a controller that is the number of shards by VPC, for a bus the number of servers (relays), for a
    route reflector that of reflectors. A hypervisor cannot be divided: more than 1 means that it does not fit.
    """
    worst = first(found, layer)
    return None if worst is None else max(1, math.ceil(worst.share / headroom - 1e-9))


def most_hosts(rule: Rule, site: Site, machine: Machine, figures: Figures, headroom: float) -> int | None:
    """The largest number of hosts for which one machine has enough, or ``None`` if no size reaches the limit.

    A need never shrinks when hosts are added. Raises Missing when a constant of the rule was not measured.
    """

    def fits(hosts: int) -> bool:
        one = load(rule, replace(site, hosts=hosts), machine, figures)
        if one.missing:
            raise Missing(one.missing)
        return one.share <= headroom

    low, high = 0, _MOST_HOSTS
    if fits(high):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
