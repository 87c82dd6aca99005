"""Connections and throughput of two workloads: ovsnet's tables and a minimal pipeline in turn on the same switches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.common import Measure, summary
from benchmarks.datapath.stage import PEERS, SERVERS, WAYS, Passage, Stage

SLOWEST = 1 / 0.95
"""The most that a connection and a byte may cost, by the clock, of what they cost in the minimal pipeline."""
COST = "cost over the minimal pipeline's"
_RECIRCULATIONS = "recirculations a packet"
_SAME = 1.02  # recirculations are to be the same: ARP aside, which is in neither


@dataclass(frozen=True)
class _Figure:
    """One thing of one way, round by round: a ``rate`` is better when higher, all else is a cost."""

    name: str
    unit: str
    values: Sequence[float]
    rate: bool = False
    compared: bool = True


@dataclass
class _Way:
    """What one way did, measure by measure: connections a second, bits a second, and what the switches did."""

    rates: list[float] = field(default_factory=list)
    bits: list[float] = field(default_factory=list)
    connecting: list[Passage] = field(default_factory=list)
    sending: list[Passage] = field(default_factory=list)
    peering: list[Passage] = field(default_factory=list)


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
    with stage.watched(into.peering):
        stage.peers(server)


def _measures(where: str, found: dict[str, _Way], seconds: float, slowest: float) -> list[Measure]:
    measures = [
        summary(f"{where}, {way}: {one.name}", one.unit, one.values)
        for way in WAYS
        for one in _figures(found[way], seconds)
    ]
    for ours, theirs in zip(*(_figures(found[way], seconds) for way in WAYS), strict=True):
        if ours.compared:
            costs = [a / b for a, b in zip(ours.values, theirs.values, strict=True)]
            if ours.rate:
                costs = [1 / cost for cost in costs]
            budget = slowest if ours.rate else _SAME if ours.name == _RECIRCULATIONS else None
            measures.append(summary(f"{where}: {ours.name}, {COST}", "x", costs, budget))
    return measures


def _figures(way: _Way, seconds: float) -> list[_Figure]:
    """What one way did, round by round."""
    connecting, sending = way.connecting, way.sending
    per_connection = [1e6 * one.cpu / (seconds * rate) for one, rate in zip(connecting, way.rates, strict=True)]
    per_gigabyte = [one.cpu / (seconds * bits / 8e9) for one, bits in zip(sending, way.bits, strict=True)]
    return [
        _Figure("connections", "/s", way.rates, rate=True),
        _Figure("one TCP connection's throughput", "Gbit/s", [bits / 1e9 for bits in way.bits], rate=True),
        _Figure("CPU of the switches for one connection", "µs", per_connection),
        _Figure("CPU of the switches for 1 GB", "s", per_gigabyte),
        _Figure(_RECIRCULATIONS, "", [one.recirculations / one.packets for one in connecting]),
        _Figure("flows that a packet meets", "", [one.met / one.entered for one in connecting], compared=False),
        _Figure("cached flows of all switches", "", [one.megaflows for one in connecting], compared=False),
        _Figure("packets without a cached flow", "", [one.upcalls for one in connecting], compared=False),
        _Figure(
            "new cached flows for a new peer", "", [one.upcalls / len(PEERS) for one in way.peering], compared=False
        ),
    ]
