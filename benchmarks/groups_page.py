"""What the benchmarks of security groups measured, as the tables of docs/security-groups.md."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Measure
from benchmarks.datapath.run import COST
from benchmarks.datapath.stage import SERVERS, WAYS
from benchmarks.modes import figure, table

FILE = Path(__file__).parent / "results/security-groups.json"


def markdown(path: Path = FILE) -> str:
    """The tables: one host's control path, then its datapath, and the machine with its load at the start."""
    document = json.loads(path.read_text())
    measures = [Measure(**{key: value for key, value in one.items() if key != "met"}) for one in document["measures"]]
    about = document["machine"]
    machine = f"{about['ovs']}, {about['cores']} cores, load {about['load']} before the measures."
    return "\n\n".join([machine, _hosts(measures), _datapath(measures)])


def _hosts(measures: Sequence[Measure]) -> str:
    rows = [
        [
            one.name,
            figure(one.median, one.unit),
            *_range(one),
            "" if one.budget is None else f"{one.budget:g} {one.unit}",
        ]
        for one in measures
        if not _is_datapath(one)
    ]
    return table(["", "median", "least", "most", "budget"], rows, words=1)


def _range(one: Measure) -> list[str]:
    return [figure(value, one.unit) if one.samples > 1 else "" for value in (one.least, one.most)]


def _datapath(measures: Sequence[Measure]) -> str:
    """A row for each thing measured; for each place of the server a column for each way and one for what ours costs."""
    by_name = {one.name: one for one in measures if _is_datapath(one)}
    whats = dict.fromkeys(name.partition(": ")[2] for name in by_name if any(f", {way}: " in name for way in WAYS))
    rows = []
    for what in whats:
        row = [what]
        for where in SERVERS:
            for way in WAYS:
                one = by_name.get(f"{where}, {way}: {what}")
                row.append("" if one is None else figure(one.median, one.unit))
            ratio = by_name.get(f"{where}: {what}, {COST}")
            budget = "" if ratio is None or ratio.budget is None else f" (<= {ratio.budget:.2f})"
            row.append("" if ratio is None else f"{ratio.median:.2f}{budget}")
        rows.append(row)
    heads = [head for where in SERVERS for head in (*(f"{where}: {way}" for way in WAYS), "cost")]
    return table(["", *heads], rows, words=1)


def _is_datapath(one: Measure) -> bool:
    return one.name.startswith(tuple(SERVERS))
