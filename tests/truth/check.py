"""What a scenario's step says, held to what happens in the lab: cells, streams and ICMP errors."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.truth import bench as benches
from tests.truth.rig import Rig
from tests.truth.scenario import Cell, Said, Scenario, Step, Verdict, model_of
from tests.truth.streams import Live
from tests.truth.table import render

WINDOW = 0.4
"""Seconds in which a stalled stream must not get a single packet through."""


def differences(rig: Rig, scenario: Scenario, directory: Path) -> list[str]:
    """Go through a scenario; returns what differs in the first step that differs; ``directory`` is scratch."""
    try:
        for number, step in enumerate(scenario.steps):
            rig.bring(model_of(step, directory))
            if problems := check(rig, scenario, step):
                return [f"{scenario.name}: {scenario.about}", f"Step {number} {step.about}", *problems]
        return []
    finally:
        for live in rig.bench.live.values():
            live.close()
        rig.bench.live.clear()


def rounds(cells: Mapping[Cell, Said]) -> Iterator[dict[Cell, Said]]:
    """The cells in one or two parts: what one end opens without ports would be an answer to what the other opened."""
    for later in (False, True):
        part = {cell: said for cell, said in cells.items() if (cell.service.portless and cell.src > cell.dst) == later}
        if part:
            yield part


def check(rig: Rig, scenario: Scenario, step: Step) -> list[str]:
    """Everything that a step says, held to what happens; returns what differs."""
    bench = rig.bench
    for name in step.open:
        bench.live[name] = Live(bench, scenario.streams[name])
        bench.run(bench.live[name].open())
    seen: dict[Cell, Verdict] = {}
    for cells in rounds(step.cells):
        if any(cell.service.portless for cell in cells):
            rig.forget_connections()
        seen |= bench.measure(cells)
    table = render(step.cells, seen)
    problems = [table] if table else []
    for name, flows in step.live.items():
        wrong = not_flowing(bench.live[name]) if flows else not_stalled(bench.live[name])
        problems += [f"stream {name}: {wrong}"] if wrong else []
    for error in step.errors:
        if bench.error_arrives(error) != error.arrives:
            problems.append(f"{error}: it {'does not arrive' if error.arrives else 'arrives'}")
    return problems


def not_flowing(live: Live) -> str | None:
    """Why a stream does not flow, after waiting for it; ``None``: it does, and nothing of it is missing."""
    before, deadline = live.received, time.monotonic() + benches.PATIENCE
    while live.received < before + 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    if live.faults:
        return live.faults[0]
    return None if live.received >= before + 5 else f"{live.received - before} records came in {benches.PATIENCE} s"


def not_stalled(live: Live) -> str | None:
    """What came through a stream that must be cut; ``None``: nothing."""
    time.sleep(0.05)  # what was on its way when the change was enforced
    before = live.packets()
    time.sleep(WINDOW)
    came = live.packets() - before
    return f"{came} packets came through in {WINDOW} s, and it must be cut" if came else None
