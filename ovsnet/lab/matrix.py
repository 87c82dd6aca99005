"""``lab test``: real packets from every workload to every other, counted where they arrive."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab import frames
from ovsnet.lab.expectation import Wire
from ovsnet.lab.probes import Probe, Request, controls, pairs, probes, requests
from ovsnet.lab.reachability import Pair
from ovsnet.lab.segments import read
from ovsnet.lab.sockets import UNDERLAY, Sockets
from ovsnet.lab.topology import Topology
from ovsnet.model.routes import joined
from ovsnet.model.types import Model

Progress = Callable[[str, int, int], None]
_T = TypeVar("_T")
_BURST = 64


@dataclass(frozen=True)
class Entry:
    """One entry of the matrix and what was seen; ``faults`` is empty if it is as declared."""

    pair: Pair
    faults: tuple[str, ...]


@dataclass
class Result:
    """The whole matrix. ``stray``: frames that reached a workload, ``unknown``: frames on the wire, for no reason."""

    entries: list[Entry] = field(default_factory=list)
    nowhere: int = 0
    stray: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything is as declared."""
        return bool(self.entries) and not (self.wrong or self.stray or self.unknown)

    @property
    def wrong(self) -> list[Entry]:
        """The entries that are not as declared."""
        return [entry for entry in self.entries if entry.faults]

    @property
    def allowed(self) -> int:
        """How many entries are allowed."""
        return sum(entry.pair.allowed for entry in self.entries)

    def line(self) -> str:
        """The result in one line."""
        total = len(self.entries)
        return (
            f"{total - len(self.wrong)} of {total} as declared, {self.allowed} allowed, "
            f"{total - self.allowed} forbidden; {self.nowhere} packets to nobody; stray frames: {len(self.stray)}; "
            f"unknown frames on the wire: {len(self.unknown)}"
        )

    def as_dict(self) -> dict[str, Any]:
        """The result for ``--json``."""
        return {
            "ok": self.ok,
            "total": len(self.entries),
            "as_declared": len(self.entries) - len(self.wrong),
            "allowed": self.allowed,
            "forbidden": len(self.entries) - self.allowed,
            "to_nobody": self.nowhere,
            "stray": self.stray,
            "unknown_on_the_wire": self.unknown,
            "seconds": round(self.seconds, 3),
            "differs": [entry.pair._asdict() | {"faults": list(entry.faults)} for entry in self.wrong],
        }


class Observation:
    """All that was heard, by probe: who received it how often, and where it crossed the underlay."""

    def __init__(self, model: Model, topology: Topology, tokens: frames.Tokens) -> None:
        self._tokens = tokens
        self.received: dict[int, Counter[str]] = {}
        self.heard: dict[tuple[int, str], bytes] = {}
        self.told: dict[int, set[tuple[str, tuple[int, int]]]] = {}
        self.wires: dict[int, Counter[Wire]] = {}
        self.answers: dict[tuple[str, str], set[str]] = {}
        self.silent: list[Pair] = []
        self.stray: list[str] = []
        self.unknown: list[str] = []
        self._encapsulation = model.underlay.encapsulation
        self._mac_of = {name: workload.mac for name, workload in topology.workloads.items()}
        self._macs: dict[int, set[str]] = {}
        for vpc in model.vpcs.values():
            for port in vpc.ports.values():
                vni = vpc.networks[port.network].vni
                if vni is not None and port.mac is not None and port.host is not None:
                    self._macs.setdefault(vni, set()).add(port.mac)
                    if port.network in joined(vpc.routers):
                        self._macs[vni].add(GATEWAY_MAC)
        self._advertised = {name: _advertised(model, one.vpc, one.port) for name, one in topology.workloads.items()}

    def note(self, place: str, frame: bytes) -> None:
        """Take one frame in."""
        number = self._tokens.find(frame)
        if place == UNDERLAY:
            self._note_wire(frame, number)
        elif number is not None:
            packet = read(frame)
            if packet is not None and packet.is_error and packet.kind is not None and packet.code is not None:
                self.told.setdefault(number, set()).add((place, (packet.kind, packet.code)))
                return
            self.received.setdefault(number, Counter())[place] += 1
            self.heard[number, place] = frame
        else:
            answer = frames.resolved(frame)
            if answer is not None:
                self.answers.setdefault((place, answer[0]), set()).add(answer[1])
            if frame[:6].hex(":") != self._mac_of[place] and not self._is_advertisement(place, frame):
                self.stray.append(f"{place}: {_describe(frame)}")

    def _is_advertisement(self, place: str, frame: bytes) -> bool:
        """Whether a workload is told of its own network's IPv6 ranges, and of no others, by a gateway."""
        ranges = frames.advertised(frame)
        return bool(ranges) and frame[6:12].hex(":") == GATEWAY_MAC and ranges == self._advertised[place]

    def _note_wire(self, frame: bytes, number: int | None) -> None:
        outer = frames.Outer(frame)
        if outer.kind == self._encapsulation:
            if number is not None:
                self.wires.setdefault(number, Counter())[Wire(outer.source, outer.destination, outer.vni)] += 1
                return
            known = self._macs.get(outer.vni, set())
            if outer.inner[:6].hex(":") in known and outer.inner[6:12].hex(":") in known:
                return
            self.unknown.append(f"{outer.source} to {outer.destination}, VNI {outer.vni}: {_describe(outer.inner)}")
        elif outer.kind != "neighbour":
            self.unknown.append(_describe(frame))


def _advertised(model: Model, vpc: str, name: str) -> frozenset[str]:
    """The IPv6 ranges that a port is told of by router advertisements."""
    port = model.vpcs[vpc].ports[name]
    if not any(":" in ip for ip in port.ips or ()):
        return frozenset()
    subnets = model.vpcs[vpc].networks[port.network].subnets
    return frozenset(one.cidr for one in subnets if ":" in one.cidr and one.ra != "none" and (one.ra or one.dhcp))


def _describe(frame: bytes) -> str:
    return f"{frame[6:12].hex(':')} to {frame[:6].hex(':')}, ethertype 0x{frame[12:14].hex()}, {len(frame)} octets"


class Matrix:
    """One run of the matrix over a lab's topology."""

    def __init__(self, model: Model, topology: Topology, *, datapath: str, progress: Progress | None = None) -> None:
        self._model, self._topology = model, topology
        self._nd_responder = datapath != "system"
        self._progress: Progress = progress or (lambda step, done, total: None)

    def run(self, *, patience: float = 3.0, settle: float = 0.3) -> Result:
        """Send everything and judge it. ``patience``: seconds without progress until what is missing counts as lost;
        ``settle``: how long to wait afterwards for what must not come.
        """
        started = time.monotonic()
        tokens = frames.Tokens(os.urandom(8))
        matrix = pairs(self._model)
        seen = Observation(self._model, self._topology, tokens)
        with Sockets(self._topology) as sockets:
            self._sockets, self._seen = sockets, seen
            self._control(matrix, tokens, patience)
            asked = list(requests(self._model, matrix))
            self._burst("resolving", asked, lambda one: sockets.send(one.pair.src, one.frame), self._answered, patience)
            sent = list(probes(self._model, matrix, tokens, self._nd_responder))
            self._burst("packets", sent, lambda one: sockets.send(one.sender, one.frame), self._arrived, patience)
            self._listen(settle)
        result = judge(sent, asked, seen)
        result.seconds = time.monotonic() - started
        return result

    def _control(self, matrix: Sequence[Pair], tokens: frames.Tokens, patience: float) -> None:
        """Positive control: echoes through the workloads' own IP stacks until each is back, repeated while missing."""
        chosen = list(enumerate(controls(self._model, list(matrix)), _CONTROL_FIRST))
        missing, quiet_since = chosen, time.monotonic()
        while missing and time.monotonic() - quiet_since < patience:
            for at, (number, pair) in enumerate(missing, 1):
                self._sockets.echo(pair.src, pair.src_ip, pair.dst_ip, tokens.make(number))
                if at % _BURST == 0:
                    self._listen(0.01)
            self._listen(0.3, until=lambda: all(map(self._came_back, chosen)))
            left = [one for one in missing if not self._came_back(one)]
            if len(left) < len(missing):
                quiet_since = time.monotonic()
            missing = left
            self._progress("echo", len(chosen) - len(missing), len(chosen))
        self._seen.silent = [pair for _, pair in missing]

    def _came_back(self, one: tuple[int, Pair]) -> bool:
        number, pair = one
        return number in self._seen.received and self._seen.received[number][pair.src] > 0

    def _answered(self, one: Request) -> bool:
        return one.answer is None or (one.pair.src, one.asked) in self._seen.answers

    def _arrived(self, one: Probe) -> bool:
        return one.receiver is None or one.number in self._seen.received

    def _burst(
        self, step: str, items: Sequence[_T], send: Callable[[_T], None], done: Callable[[_T], bool], patience: float
    ) -> None:
        """Send ``items``, a burst at a time so that no queue on the way overflows, and wait for what must arrive."""
        for start in range(0, len(items), _BURST):
            burst = items[start : start + _BURST]
            for one in burst:
                send(one)
            self._listen(0.002)
            self._listen(0.25, until=functools.partial(_all, done, burst))
            self._progress(step, start + len(burst), len(items))
        missing = [one for one in items if not done(one)]
        self._listen(patience if missing else 0.0, until=functools.partial(_all, done, missing))

    def _listen(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Take in what arrives, for so long or until a condition holds."""
        deadline = time.monotonic() + seconds
        while until is None or not until():
            left = deadline - time.monotonic()
            if left <= 0:
                break
            for place, frame in self._sockets.arrivals(left):
                self._seen.note(place, frame)
        for place, frame in self._sockets.arrivals(0):
            self._seen.note(place, frame)


_CONTROL_FIRST = 1 << 31
"""Numbers from here on are echoes of the positive control, which may be repeated and are not counted exactly."""


def _all(done: Callable[[_T], bool], items: Sequence[_T]) -> bool:
    return all(map(done, items))


def judge(sent: Iterable[Probe], asked: Iterable[Request], seen: Observation) -> Result:
    """Compare what was heard with what must have been; pure."""
    result = Result(stray=list(seen.stray), unknown=list(seen.unknown))
    faults: dict[Pair, list[str]] = {pair: ["no echo came back"] for pair in seen.silent}
    for request in asked:
        got = seen.answers.get((request.pair.src, request.asked), set())
        wanted = {request.answer} if request.answer else set()
        if got != wanted:
            text = f"asked for {request.asked}, was told {_listed(got)} instead of {_listed(wanted)}"
            faults.setdefault(request.pair, []).append(text)
    for probe in sent:
        found = list(_probe_faults(probe, seen))
        if probe.pair is None:
            result.nowhere += 1
            result.stray += [f"{probe.what}: {fault}" for fault in found]
        else:
            faults.setdefault(probe.pair, []).extend(found)
            result.entries.append(Entry(probe.pair, tuple(faults[probe.pair])))
    return result


def _probe_faults(probe: Probe, seen: Observation) -> Iterator[str]:
    received = seen.received.get(probe.number, Counter())
    wanted = Counter([probe.receiver] if probe.receiver else [])
    if received != wanted:
        yield f"received by {_counted(received)} instead of {_counted(wanted)}"
    got = seen.heard.get((probe.number, probe.receiver or ""))
    if probe.routed is not None and got is not None and got != probe.routed:
        yield f"{probe.receiver} got {got.hex()} instead of {probe.routed.hex()}"
    for place, (kind, code) in sorted(seen.told.get(probe.number, ())):
        if place != probe.sender or (kind, code) not in probe.told:
            yield f"{place} was told ICMP {kind}/{code} of it"
    wires = seen.wires.get(probe.number, Counter())
    on_wire = Counter(probe.wires)
    if wires != on_wire:
        yield f"on the wire {_wired(wires)} instead of {_wired(on_wire)}"


def _listed(items: Iterable[str]) -> str:
    return ", ".join(sorted(items)) or "nothing"


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in sorted(counter.items())) or "nobody"


def _wired(counter: Counter[Wire]) -> str:
    each = (f"{w.source} to {w.destination} VNI {w.vni} ({count})" for w, count in counter.items())
    return ", ".join(sorted(each)) or "nowhere"
