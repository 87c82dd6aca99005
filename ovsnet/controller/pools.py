"""Numbers that are handed out, lowest free first, and those that rest until every host has forgotten them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass

QUARANTINE = 600.0
"""Seconds after which a released number is free again, whether or not every host has confirmed its release."""


class Pool:
    """The numbers ``first`` .. ``last``, the lowest free one first: constant time a number, over many."""

    def __init__(self, first: int, last: int) -> None:
        self.first = first
        self.last = last
        self._next = first
        self._freed: list[int] = []

    def take(self, usable: Callable[[int], bool]) -> int | None:
        """The lowest number that is not handed out and is ``usable``; ``None`` if there is none.

        A number that is not usable is not offered again until it is given back.
        """
        while self._freed:
            number = heapq.heappop(self._freed)
            if usable(number):
                return number
        while self._next <= self.last:
            number = self._next
            self._next += 1
            if usable(number):
                return number
        return None

    def give_back(self, number: int) -> None:
        """Offer a number again."""
        if self.first <= number < self._next:
            heapq.heappush(self._freed, number)


@dataclass(slots=True)
class _Rest:
    vpc: str
    revision: int
    until: float
    waiting: set[str]


class Quarantine:
    """What was released and may still be in some host's flows.

    A number rests until each host that had its VPC says that it enforces the revision of the release, or QUARANTINE
    seconds have passed. ``on_free`` is called with each key when its rest ends.
    """

    def __init__(self, on_free: Callable[[Hashable], None]) -> None:
        self._on_free = on_free
        self._resting: dict[Hashable, _Rest] = {}
        self._awaited: dict[tuple[str, str], dict[Hashable, None]] = {}
        """By host and VPC, what waits for their confirmation."""

    def __contains__(self, key: Hashable) -> bool:
        return key in self._resting

    def __len__(self) -> int:
        return len(self._resting)

    def add(self, key: Hashable, vpc: str, revision: int, hosts: Iterable[str], until: float) -> None:
        """``key`` rests. Without hosts that could still have it, it is free at once."""
        waiting = set(hosts)
        if not waiting:
            self._on_free(key)
            return
        self._resting[key] = _Rest(vpc, revision, until, waiting)
        for host in waiting:
            self._awaited.setdefault((host, vpc), {})[key] = None

    def discard(self, key: Hashable) -> None:
        """Somebody has declared it explicitly: it rests no more."""
        rest = self._resting.pop(key, None)
        if rest is not None:
            for host in rest.waiting:
                self._awaited.get((host, rest.vpc), {}).pop(key, None)

    def confirmed(self, host: str, vpc: str, revision: int | None) -> None:
        """A host enforces this revision of a VPC, or (``None``) does not hold the VPC any more."""
        keys = self._awaited.get((host, vpc))
        if not keys:
            return
        for key in list(keys):
            rest = self._resting[key]
            if revision is None or revision >= rest.revision:
                del keys[key]
                rest.waiting.discard(host)
                if not rest.waiting:
                    del self._resting[key]
                    self._on_free(key)
        if not keys:
            del self._awaited[host, vpc]

    def expire(self, now: float) -> None:
        """End the rest of all whose time is over; they were added in the order of their times."""
        for key, rest in list(self._resting.items()):
            if rest.until > now:
                return
            self.discard(key)
            self._on_free(key)
