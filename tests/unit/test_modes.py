"""The results of several ways beside each other, and the page that shows them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import modes
from benchmarks.common import Measure, summary
from benchmarks.modes import ModeResult


def result(mode: str, *measures: Measure, hosts: int = 10) -> ModeResult:
    return ModeResult(mode, hosts, 5, 400, "it 1.0", measures)


def test_what_was_written_is_read_back_in_order_of_size(tmp_path: Path) -> None:
    large = result("bgp", summary(modes.BASE_BYTES, "B", [10, 30, 20]), hosts=50)
    small = result("nats", summary(modes.ONE_SECONDS, "ms", [1.5]))
    (tmp_path / "a.json").write_text(json.dumps({"machine": {}, "measures": [], "modes": [asdict(large)]}))
    (tmp_path / "b.json").write_text(json.dumps({"modes": [asdict(small)]}))
    (tmp_path / "c.json").write_text(json.dumps({"machine": {}, "measures": []}))
    assert modes.from_folder(tmp_path) == [small, large]


def test_a_table_has_a_column_for_each_way_in_the_known_order_and_a_dash_for_what_is_missing() -> None:
    results = [
        result("nats", summary(modes.ONE_SECONDS, "ms", [1.5])),
        result("bgp", summary(modes.BASE_BYTES, "B", [48123]), summary(modes.ONE_SECONDS, "ms", [12.34])),
    ]
    assert modes.markdown(results).splitlines() == [
        "**10 hosts, 400 endpoints** (it 1.0)",
        "",
        "|  | bgp | nats |",
        "| --- | ---: | ---: |",
        f"| {modes.BASE_BYTES} | 48,123 B | - |",
        f"| {modes.ONE_SECONDS} | 12.3 ms | 1.50 ms |",
    ]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0, "B", "0 B"),
        (0, "", "0"),
        (7, "", "7"),
        (0.1234, "s", "0.12 s"),
        (0.0049, "s", "< 0.01 s"),
        (12.34, "ms", "12.3 ms"),
        (1234.5, "µs", "1,234 µs"),
    ],
)
def test_figures_show_three_digits(value: float, unit: str, text: str) -> None:
    assert modes.figure(value, unit) == text


def test_only_what_is_between_the_markers_of_a_page_is_replaced() -> None:
    page = f"before\n{modes.START}\nold\n{modes.END}\nafter\n"
    once = modes.inserted(page, "new")
    assert once == f"before\n{modes.START}\n\nnew\n\n{modes.END}\nafter\n"
    assert modes.inserted(once, "new") == once
    with pytest.raises(ValueError, match="no place for the table"):
        modes.inserted("before\nafter\n", "new")
