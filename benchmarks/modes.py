"""Ways of telling hosts beside each other: what is measured of each, and the table that a page shows.

A benchmark of one way (``bgp``, ``direct``, ``nats``, ...) gives a ``ModeResult`` for each size of ``scenario.Shape``,
with measures named by the constants here, so that the same row of the table is the same quantity.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.common import Measure

BASE_BYTES = "base state: bytes to a host"
BASE_ENDPOINTS = "base state: endpoints that a host is told of"
BASE_FOREIGN = "base state: of them in VPCs that the host has no port in"
BASE_SECONDS = "base state: until the last host has it"
BASE_CPU_HOST = "base state: CPU of a host's process"
BASE_CPU_CENTRE = "base state: CPU of the centre"
MEMORY_HOST = "memory of a host's process"
MEMORY_CENTRE = "memory of the centre"
CHANGE_BYTES = "one change: bytes to a host, mean over all hosts"
CHANGE_CPU_HOST = "one change: CPU of a host's process, mean over all hosts"
CHANGE_CPU_CENTRE = "one change: CPU of the centre"
ONE_SECONDS = "one new endpoint: until the last interested host has it"
MANY = 1000  # endpoints that are new at once
MANY_SECONDS = "1,000 new endpoints at once: until the last interested host has them"
IDLE_CPU_HOST = "nothing happens: CPU of a host's process"

# The table's rows, in order.
ROWS = (
    BASE_BYTES,
    BASE_ENDPOINTS,
    BASE_FOREIGN,
    BASE_SECONDS,
    BASE_CPU_HOST,
    BASE_CPU_CENTRE,
    MEMORY_HOST,
    MEMORY_CENTRE,
    CHANGE_BYTES,
    CHANGE_CPU_HOST,
    CHANGE_CPU_CENTRE,
    ONE_SECONDS,
    MANY_SECONDS,
    IDLE_CPU_HOST,
)
COLUMNS = ("bgp", "bgp-rtc", "bgp-type5", "bgp-rtc-type5", "direct", "nats")  # the table's ways, in order
START, END = "<!-- table: written by `make docs` -->", "<!-- end of the table -->"


@dataclass(frozen=True)
class ModeResult:
    """What one way cost at one size; ``software`` is what carried it, with its version.

    ``interested`` is the number of hosts that one endpoint concerns.
    """

    mode: str
    hosts: int
    interested: int
    endpoints: int
    software: str
    measures: tuple[Measure, ...]

    def measure(self, name: str) -> Measure | None:
        """The measure of a row's name; ``None`` when this way has none."""
        return next((one for one in self.measures if one.name == name), None)

    def flat(self) -> list[Measure]:
        """The measures with the way and the size in their names, for a table of single measures."""
        return [
            Measure(**(asdict(one) | {"name": f"{self.mode}, {self.hosts} hosts, {one.name}"})) for one in self.measures
        ]


def from_json(documents: Iterable[dict[str, Any]]) -> list[ModeResult]:
    """The results in what ``python -m benchmarks --out`` wrote, ordered by size; other benchmarks are passed over."""
    results = [
        ModeResult(**(one | {"measures": tuple(Measure(**each) for each in one["measures"])}))
        for document in documents
        for one in document.get("modes", [])
    ]
    return sorted(results, key=lambda result: (result.hosts, result.endpoints))


def from_folder(folder: Path) -> list[ModeResult]:
    """The results of every JSON file in a folder. Raises OSError and ValueError for what cannot be read."""
    return from_json(json.loads(path.read_text()) for path in sorted(folder.glob("*.json")))


def markdown(results: Sequence[ModeResult]) -> str:
    """A table for each size: a row for each measure, a column for each way. A dash is what was not measured."""
    parts = []
    for hosts, endpoints in dict.fromkeys((one.hosts, one.endpoints) for one in results):
        columns = [one for one in results if (one.hosts, one.endpoints) == (hosts, endpoints)]
        columns.sort(key=_column)
        rows = []
        for name in ROWS:
            found = [one.measure(name) for one in columns]
            if any(found):
                rows.append([name, *("-" if each is None else figure(each.median, each.unit) for each in found)])
        software = ", ".join(dict.fromkeys(one.software for one in columns))
        heading = f"**{hosts} hosts, {endpoints:,} endpoints** ({software})"
        parts.append(f"{heading}\n\n{table(['', *(one.mode for one in columns)], rows, words=1)}")
    return "\n\n".join(parts)


def _column(result: ModeResult) -> int:
    return COLUMNS.index(result.mode) if result.mode in COLUMNS else len(COLUMNS)


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> str:
    """A Markdown table whose first ``words`` columns are text and whose others are figures."""
    rules = ["---"] * words + ["---:"] * (len(heads) - words)
    return "\n".join(f"| {' | '.join(row)} |" for row in (heads, rules, *rows))


def figure(value: float, unit: str) -> str:
    """A figure as people write it: three digits that count, thousands apart."""
    if value == 0:
        return f"0 {unit}".rstrip()
    if abs(value) < 0.005:
        return f"< 0.01 {unit}".rstrip()
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    if unit in ("", "B") and value == int(value):
        digits = 0
    return f"{value:,.{digits}f} {unit}".rstrip()


def inserted(page: str, table: str) -> str:
    """A page with the text between its two markers replaced. Raises ValueError when a marker is missing."""
    before, start, rest = page.partition(START)
    _old, end, after = rest.partition(END)
    if not start or not end:
        raise ValueError(f"the page has no place for the table: {START} ... {END}")
    return f"{before}{START}\n\n{table}\n\n{END}{after}"
