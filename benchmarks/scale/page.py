"""The model's answers as Markdown: what each layer needs at each size, and what ends first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from benchmarks.modes import figure, table
from benchmarks.scale.inputs import CONSTANTS, Figures, Machine, Missing, Site
from benchmarks.scale.model import first, loads, machines, most_hosts
from benchmarks.scale.rules import HOST_LAYERS, LAYERS, RULES

SIZES = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)
HEADROOM = 0.5  # of a machine, in the worst minute
_UNKNOWN = "not measured"
_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def amount(value: float, unit: str) -> str:
    """A figure in the prefix that suits it."""
    for size, prefix in _PREFIXES if unit.startswith("B") else ():
        if value >= size:
            return figure(value / size, prefix + unit)
    return figure(value, unit)


def needs(site: Site, machine: Machine, figures: Figures, sizes: Sequence[int] = SIZES) -> str:
    """A row for each thing that each layer needs, a column for each size; bold where one machine does not have it."""
    rows = []
    found = [loads(replace(site, hosts=hosts), machine, figures) for hosts in sizes]
    for rule, of_sizes in zip(RULES, zip(*found, strict=True), strict=True):
        cells = [_UNKNOWN if one.missing else amount(one.need, rule.unit) for one in of_sizes]
        over = [not one.missing and one.share > 1 for one in of_sizes]
        rows.append([rule.layer, rule.what, *(f"**{c}**" if o else c for c, o in zip(cells, over, strict=True))])
    return table(["layer", "need", *(f"{hosts:,} hosts" for hosts in sizes)], rows, words=2)


def counts(
    site: Site, machine: Machine, figures: Figures, sizes: Sequence[int] = SIZES, headroom: float = HEADROOM
) -> str:
    """How many machines each layer of the centre is at each size, and what a hypervisor has left."""
    rows = []
    found = [loads(replace(site, hosts=hosts), machine, figures) for hosts in sizes]
    for layer in LAYERS:
        cells = []
        for of_size in found:
            number, worst = machines(of_size, layer, headroom), first(of_size, layer)
            if number is None or worst is None:
                cells.append(_UNKNOWN)
            elif layer in HOST_LAYERS:
                cells.append("fits" if worst.share <= 1 else f"**{worst.rule.what} x {figure(worst.share, '')}**")
            else:
                cells.append(f"{number:,} ({worst.rule.what})")
        rows.append([layer, *cells])
    return table(["machines (for what)", *(f"{hosts:,} hosts" for hosts in sizes)], rows, words=1)


def limits(site: Site, machine: Machine, figures: Figures, headroom: float = HEADROOM) -> str:
    """For each layer the number of hosts that one machine of it is enough for, smallest first: what breaks first."""
    ranked: list[tuple[float, list[str]]] = []
    for rule in RULES:
        share = 1.0 if rule.layer in HOST_LAYERS else headroom
        try:
            hosts = most_hosts(rule, site, machine, figures, share)
        except Missing as missing:
            ranked.append((float("inf"), [rule.layer, rule.what, f"{_UNKNOWN}: `{missing.args[0]}`"]))
            continue
        rank = 1e12 if hosts is None else hosts
        ranked.append((rank, [rule.layer, rule.what, "any number" if hosts is None else f"{hosts:,}"]))
    ranked.sort(key=lambda one: one[0])
    return table(["layer", "limit", "hosts until it is reached"], [row for _rank, row in ranked], words=2)


def constants(figures: Figures, sources: dict[str, str]) -> str:
    """Every constant with its value and where it comes from."""
    rows = []
    for name, meaning in CONSTANTS.items():
        try:
            value = f"{getattr(figures, name):.3g}"
        except Missing:
            value = _UNKNOWN
        rows.append([f"`{name}`", meaning, sources.get(name, ""), value])
    return table(["constant", "meaning", "source", "value"], rows, words=3)


def markdown(site: Site, machine: Machine, figures: Figures, sources: dict[str, str]) -> str:
    """All that the page shows of the model."""
    parts = (
        "### What breaks first",
        limits(site, machine, figures),
        "### How many machines",
        counts(site, machine, figures),
        "### What each layer needs",
        needs(site, machine, figures),
        "### The constants",
        constants(figures, sources),
    )
    return "\n\n".join(parts)
