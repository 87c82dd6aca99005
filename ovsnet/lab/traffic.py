"""Steady traffic between ports, counted at every workload: what is lost, doubled or leaked while something happens."""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import TracebackType

from ovsnet.errors import UserError
from ovsnet.lab import frames
from ovsnet.lab.lab import Lab
from ovsnet.lab.probes import mac_of, next_mac
from ovsnet.lab.reachability import Pair, reachability
from ovsnet.lab.sockets import UNDERLAY, Sockets


@dataclass
class Counts:
    """Frames of one pair, in numbers; ``longest_gap`` is the longest run of consecutive frames that were lost.

    ``elsewhere`` are copies at any port but the destination.
    """

    sent: int = 0
    received: int = 0
    doubled: int = 0
    longest_gap: int = 0
    elsewhere: int = 0

    @property
    def lost(self) -> int:
        """Frames that did not arrive."""
        return self.sent - self.received


@dataclass
class _Stream:
    pair: Pair
    numbers: list[int] = field(default_factory=list)


class Traffic:
    """Sends frames for each of ``pairs`` (names of ports, ``VPC/PORT``) ``per_second`` until it is stopped.

    A context manager; afterwards ``counts`` has the numbers by pair. Frames are addressed to the destination's declared
    MAC (or, through a router, to the gateways') and first IP, whether or not the model allows that. Raises UserError
    for a pair that has no address in common.
    """

    def __init__(self, lab: Lab, pairs: Sequence[tuple[str, str]], *, per_second: float = 100.0) -> None:
        self.counts: dict[tuple[str, str], Counts] = {}
        first: dict[tuple[str, str], Pair] = {}
        for pair in reachability(lab.model):
            first.setdefault((pair.src, pair.dst), pair)
        unknown = [f"{src} to {dst}" for src, dst in pairs if (src, dst) not in first]
        if unknown:
            raise UserError(f"{unknown[0]}: not two ports with addresses of one family, the first on a host.")
        self._lab, self._streams = lab, [_Stream(first[pair]) for pair in pairs]
        self._interval = 1.0 / per_second
        self._tokens = frames.Tokens(os.urandom(8))
        self._heard: Counter[tuple[int, str]] = Counter()
        self._stop = threading.Event()
        self._next = 0

    def __enter__(self) -> Traffic:
        self._sockets = Sockets(self._lab.topology)
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        self._sockets.close()
        self.counts = {(s.pair.src, s.pair.dst): self._count(s) for s in self._streams}

    @property
    def lost(self) -> int:
        """Frames lost in all, after the end."""
        return sum(one.lost for one in self.counts.values())

    @property
    def sent(self) -> int:
        """Frames sent in all, after the end."""
        return sum(one.sent for one in self.counts.values())

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            for stream in self._streams:
                self._send(stream)
            due += self._interval
            self._hear_until(due)
        self._hear_until(time.monotonic() + 0.5)

    def _send(self, stream: _Stream) -> None:
        pair, model = stream.pair, self._lab.model
        payload = self._tokens.make(self._next)
        frame = frames.udp(mac_of(model, pair.src), next_mac(model, pair), pair.src_ip, pair.dst_ip, payload)
        self._sockets.send(pair.src, frame)
        stream.numbers.append(self._next)
        self._next += 1

    def _hear_until(self, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0:
            for place, frame in self._sockets.arrivals(left):
                number = self._tokens.find(frame)
                if number is not None and place != UNDERLAY:
                    self._heard[number, place] += 1

    def _count(self, stream: _Stream) -> Counts:
        counts, gap = Counts(sent=len(stream.numbers)), 0
        mine = set(stream.numbers)
        for number in stream.numbers:
            copies = self._heard[number, stream.pair.dst]
            gap = 0 if copies else gap + 1
            counts.received += copies > 0
            counts.doubled += copies > 1
            counts.longest_gap = max(counts.longest_gap, gap)
        counts.elsewhere = sum(n for (number, at), n in self._heard.items() if number in mine and at != stream.pair.dst)
        return counts
