"""The page of security groups' measures: every measure of the results is on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from benchmarks import groups_page
from benchmarks.common import summary
from benchmarks.datapath.run import COST

MACHINE = {"ovs": "Open vSwitch 3.1", "cores": "2", "load": "0.5"}


def test_the_control_path_has_a_row_and_the_datapath_a_column_for_each_way(tmp_path: Path) -> None:
    measures = [
        summary("10 members: one rule added", "ms", [3.0, 4.0, 6.0], 50.0),
        summary("one host, ovsnet: connections", "/s", [900.0]),
        summary("one host, minimal: connections", "/s", [1000.0]),
        summary(f"one host: connections, {COST}", "x", [1.11], 1.0526),
        summary("one host, ovsnet: cached flows", "", [8.0]),
    ]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({"machine": MACHINE, "measures": [asdict(one) | {"met": one.met} for one in measures]}))
    lines = groups_page.markdown(file).splitlines()
    assert lines[0] == "Open vSwitch 3.1, 2 cores, load 0.5 before the measures."
    assert "| 10 members: one rule added | 4.00 ms | 3.00 ms | 6.00 ms | 50 ms |" in lines
    assert "| connections |  |  |  | 900 /s | 1,000 /s | 1.11 (<= 1.05) |" in lines
    assert "| cached flows |  |  |  | 8 |  |  |" in lines
