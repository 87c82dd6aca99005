"""Steady streams of frames, each with the moment it was sent: what got through in any stretch of time."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from types import TracebackType

from ovsnet.lab import frames
from ovsnet.lab.lab import Lab
from ovsnet.lab.sockets import UNDERLAY, Sockets

Pair = tuple[str, str]
FOREVER = float("inf")


class Streams:
    """Sends a UDP frame for each pair of ports (``VPC/PORT``) ``per_second``, whether or not it is allowed."""

    def __init__(self, lab: Lab, pairs: Sequence[Pair], *, per_second: float = 100.0) -> None:
        self._lab, self.pairs, self._interval = lab, list(pairs), 1.0 / per_second
        self._tokens = frames.Tokens(os.urandom(8))
        self._sent: dict[Pair, list[tuple[float, int]]] = defaultdict(list)
        self._heard: Counter[tuple[int, str]] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="streams", daemon=True)

    def __enter__(self) -> Streams:
        self._sockets = Sockets(self._lab.topology)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, hear what is still under way, and close."""
        if not self._stop.is_set():
            self._stop.set()
            self._thread.join()
            self._sockets.close()

    def lost(self, pair: Pair, start: float = 0.0, end: float = FOREVER) -> int:
        """Frames of a pair sent between two moments that never arrived."""
        return sum(not arrived for sent, arrived in self.fates(pair) if start <= sent < end)

    def delivered(self, pair: Pair, start: float = 0.0, end: float = FOREVER) -> int:
        """Frames of a pair sent between two moments that arrived."""
        return sum(arrived for sent, arrived in self.fates(pair) if start <= sent < end)

    def sent(self, pair: Pair, start: float = 0.0, end: float = FOREVER) -> int:
        """Frames of a pair sent between two moments."""
        return sum(start <= sent < end for sent, _ in self.fates(pair))

    def strays(self) -> int:
        """Copies beyond the first, and copies at anybody but the destination."""
        target = {number: pair[1] for pair in self.pairs for _, number in self._sent[pair]}
        return sum(count - (target[number] == place) for (number, place), count in self._heard.items())

    def outage(self, pair: Pair, start: float = 0.0, end: float = FOREVER) -> tuple[float, float]:
        """The longest stretch without a frame that arrived: (the moment of the last one before, seconds)."""
        arrived = [sent for sent, ok in self.fates(pair) if ok and start <= sent < end]
        gaps = [(after - before, before) for before, after in itertools.pairwise(arrived)]
        length, at = max(gaps, default=(FOREVER, start))
        return at, length

    def flows_since(self, pair: Pair, moment: float) -> bool:
        """Whether a frame sent after a moment has arrived already."""
        return any(sent > moment and self._heard[number, pair[1]] for sent, number in list(self._sent[pair])[-200:])

    def fates(self, pair: Pair) -> list[tuple[float, bool]]:
        """Every frame of a pair so far: the moment it was sent, and whether it arrived."""
        return [(sent, self._heard[number, pair[1]] > 0) for sent, number in list(self._sent[pair])]

    def _run(self) -> None:
        ready = {pair: self._addresses(pair) for pair in self.pairs}
        number, due = 0, time.monotonic()
        while not self._stop.is_set():
            for pair, addresses in ready.items():
                frame = frames.udp(*addresses, self._tokens.make(number))
                self._sent[pair].append((time.monotonic(), number))
                self._sockets.send(pair[0], frame)
                number += 1
            due += self._interval
            self._hear_until(due)
        self._hear_until(time.monotonic() + 0.5)

    def _addresses(self, pair: Pair) -> tuple[str, str, str, str]:
        src, dst = (self._lab.port(name) for name in pair)
        return src.mac, dst.mac, src.addresses[0].split("/")[0], dst.addresses[0].split("/")[0]

    def _hear_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            for place, frame in self._sockets.arrivals(left):
                number = self._tokens.find(frame)
                if number is not None and place != UNDERLAY:
                    self._heard[number, place] += 1
