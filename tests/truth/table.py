"""What differs between a truth table and what was seen, for people."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from tests.truth.scenario import Cell, Family, Said, Service, Verdict

SIGNS: dict[Verdict, str] = {"allow": "+", "oneway": ">", "reject": "!", "drop": "."}


def differences(expected: Mapping[Cell, Said], seen: Mapping[Cell, Verdict]) -> list[Cell]:
    """The cells that are not what they must be."""
    return sorted(cell for cell, said in expected.items() if seen[cell] != said.verdict)


def render(expected: Mapping[Cell, Said], seen: Mapping[Cell, Verdict]) -> str:
    """The wrong cells in words, and for each service that has one the whole table; empty if nothing differs.

    In the tables a sign stands for what was seen; where that is wrong, ``X/Y``: seen, and what it must be.
    """
    wrong = differences(expected, seen)
    lines = [f"{cell}: {seen[cell]} instead of {expected[cell]}" for cell in wrong]
    tables: dict[tuple[Service, Family], None] = dict.fromkeys((cell.service, cell.family) for cell in wrong)
    for service, family in tables:
        cells = [cell for cell in expected if (cell.service, cell.family) == (service, family)]
        lines += ["", f"{service} v{family}   (+ allowed, > one way, ! rejected, . dropped; row to column)"]
        lines += _grid(cells, expected, seen)
    return "\n".join(lines)


def _grid(cells: Sequence[Cell], expected: Mapping[Cell, Said], seen: Mapping[Cell, Verdict]) -> list[str]:
    at: dict[str, dict[str, str]] = defaultdict(dict)
    for cell in cells:
        got, wanted = SIGNS[seen[cell]], SIGNS[expected[cell].verdict]
        at[cell.src][cell.dst] = got if got == wanted else f"{got}/{wanted}"
    names = sorted({*at, *(dst for row in at.values() for dst in row)})
    head = "      " + "".join(f"{name:>5}" for name in names)
    return [head, *(f"{src:>6}" + "".join(f"{at[src].get(dst, ''):>5}" for dst in names) for src in names)]
