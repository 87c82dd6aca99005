"""Connections and throughput of two workloads: ovsnet's tables and a minimal pipeline in turn on the same switches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.common import Measure, summary
from benchmarks.datapath.stage import SERVERS, WAYS, Passage, Stage

SLOWEST = 1 / 0.95
"""The most that ovsnet's tables may cost, as the minimal pipeline's rate over theirs."""
_SAME = 1.02  # recirculations are to be the same: ARP aside, which is in neither


@dataclass
class _Way:
    """What one way did, measure by measure: connections a second, bits a second, and what the switches did."""

    rates: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    connecting: list[Passage] = field(default_factory=list)
    sending: list[Passage] = field(default_factory=list)


def run(
    rounds: int, seconds: float, say: Callable[[str], None], *, slowest: float = SLOWEST, servers: Sequence[str] = ()
) -> list[Measure]:
    """Medians and paired ratios for each place of the server, or those named; every measure takes ``seconds``.

    Needs root.
    """
    measures: list[Measure] = []
    with Stage.running() as stage:
        for where in servers or SERVERS:
            found = {way: _Way() for way in WAYS}
            for turn in range(rounds):
                say(f"datapath, {where}: round {turn + 1} of {rounds}")
                for way in WAYS if turn % 2 == 0 else reversed(WAYS):
                    _measure(stage, way, SERVERS[where], seconds, found[way])
            measures += _measures(where, found, seconds, slowest)
    return measures


def _measure(stage: Stage, way: str, server: str, seconds: float, into: _Way) -> None:
    stage.turn(way)
    stage.connections(server, seconds / 10)  # fills the caches
    with stage.watched(into.connecting):
        into.rates.append(stage.connections(server, seconds))
    with stage.watched(into.sending):
        into.bits.append(8 * stage.throughput(server, seconds))


def _measures(where: str, found: dict[str, _Way], seconds: float, slowest: float) -> list[Measure]:
    measures = []
    cpu: dict[str, list[float]] = {}
    for way, one in found.items():
        cpu[way] = [
            1e6 * passage.cpu / (seconds * rate) for passage, rate in zip(one.connecting, one.rates, strict=True)
        ]
        sent = [passage.cpu / (seconds * bits / 8e9) for passage, bits in zip(one.sending, one.bits, strict=True)]
        cpu[f"{way} bytes"] = sent
        measures += [
            summary(f"{where}, {way}: connections", "/s", one.rates),
            summary(f"{where}, {way}: one TCP connection", "Gbit/s", [bits / 1e9 for bits in one.bits]),
            summary(f"{where}, {way}: CPU of the switches for one connection", "µs", cpu[way]),
            summary(f"{where}, {way}: CPU of the switches for 1 GB", "s", sent),
            summary(
                f"{where}, {way}: flows that a packet meets", "", [one.met / one.entered for one in one.connecting]
            ),
            summary(f"{where}, {way}: recirculations a packet", "", _recirculations(one)),
            summary(f"{where}, {way}: cached flows of all switches", "", [one.megaflows for one in one.connecting]),
            summary(f"{where}, {way}: packets without a cached flow", "", [one.upcalls for one in one.connecting]),
        ]
    ours, theirs = (found[way] for way in WAYS)
    own, least = WAYS
    ratios = (
        ("connections, minimal's rate over ovsnet's", theirs.rates, ours.rates, slowest),
        ("one TCP connection, minimal's rate over ovsnet's", theirs.bits, ours.bits, slowest),
        ("CPU of the switches for one connection, ovsnet's over minimal's", cpu[own], cpu[least], None),
        ("CPU of the switches for 1 GB, ovsnet's over minimal's", cpu[f"{own} bytes"], cpu[f"{least} bytes"], None),
        ("recirculations, ovsnet's over minimal's", _recirculations(ours), _recirculations(theirs), _SAME),
    )
    return measures + [
        summary(f"{where}: {name}", "x", [a / b for a, b in zip(above, below, strict=True)], budget)
        for name, above, below, budget in ratios
    ]


def _recirculations(way: _Way) -> list[float]:
    return [one.recirculations / one.packets for one in way.connecting]
