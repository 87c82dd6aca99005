"""Where the constants come from: ``benchmarks/measured.json``, and the results of the BGP benchmark."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import modes
from benchmarks.scale.costs import bgp_costs
from benchmarks.scale.inputs import CONSTANTS, Figures

FILE = Path(__file__).parents[1] / "measured.json"
RESULTS = Path(__file__).parents[1] / "results"
_BGP = "BGP benchmark"


def read(file: Path = FILE, results: Path = RESULTS) -> tuple[dict[str, float | None], dict[str, str]]:
    """Constants by name and their sources. Raises OSError and ValueError for a file that cannot be used.

    The file maps a name to ``{"value": number or null, "source": text}``; a value needs a source.
    """
    values: dict[str, float | None] = {}
    sources: dict[str, str] = {}
    for name, entry in json.loads(file.read_text()).items():
        if name not in CONSTANTS or name.startswith("bgp_"):
            raise ValueError(f"{file}: {name} is no constant of this file")
        if entry["value"] is not None and not entry["source"]:
            raise ValueError(f"{file}: {name} has a value and no source; say how it was measured")
        values[name], sources[name] = entry["value"], entry["source"] or ""
    costs = bgp_costs(modes.from_folder(results))
    return values | costs, sources | {name: _BGP for name, value in costs.items() if value is not None}


def figures(file: Path = FILE, results: Path = RESULTS) -> Figures:
    """The constants, ready for the rules."""
    return Figures(read(file, results)[0])
