"""The datapath benchmark, small: both ways carry connections, ovsnet's with no pass and upcall more than is needed."""

from __future__ import annotations

import pytest

from benchmarks.datapath.run import COST, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]


def test_ovsnet_recirculates_as_the_minimal_pipeline_does_and_caches_no_flow_for_a_connection() -> None:
    where = "one host"
    figures = {one.name: one.median for one in run(1, 0.5, lambda _text: None, servers=[where])}
    for way in ("ovsnet", "minimal"):
        connections = 0.5 * figures[f"{where}, {way}: connections"]
        assert connections > 20
        assert figures[f"{where}, {way}: packets without a cached flow"] < 5 < connections / 4
        assert figures[f"{where}, {way}: recirculations a packet"] == pytest.approx(2, rel=0.05)
        assert figures[f"{where}, {way}: one TCP connection's throughput"] > 0
    assert figures[f"{where}: recirculations a packet, {COST}"] == pytest.approx(1, rel=0.05)
    assert figures[f"{where}: CPU of the switches for one connection, {COST}"] < 2
    assert figures[f"{where}, minimal: new cached flows for a new peer"] < 1
    assert 1 < figures[f"{where}, ovsnet: new cached flows for a new peer"] < 8
    assert figures[f"{where}, minimal: flows that a packet meets"] == pytest.approx(5, rel=0.05)
    assert 10 < figures[f"{where}, ovsnet: flows that a packet meets"] < 22
