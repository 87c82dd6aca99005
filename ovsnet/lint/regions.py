"""Sets of packets as unions of boxes, exactly: protocols x details x peers of one IP version.

*Details* are what a protocol's header says further: the destination port of TCP, UDP and SCTP, ``type * 256 + code`` of
ICMP and ICMPv6. *Peers* are addresses as numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Ranges = tuple[tuple[int, int], ...]
"""Whole numbers as (first, last), sorted, disjoint and apart from each other."""

PROTOCOLS: Ranges = ((0, 255),)
DETAILS: Ranges = ((0, 0xFFFF),)
NO_DETAIL = 0x10000
"""The detail of a later fragment, which has no ports and no type."""
ADDRESSES: dict[int, Ranges] = {4: ((0, (1 << 32) - 1),), 6: ((0, (1 << 128) - 1),)}


def intersection(a: Ranges, b: Ranges) -> Ranges:
    """The numbers that are in both."""
    found, i, j = [], 0, 0
    while i < len(a) and j < len(b):
        first, last = max(a[i][0], b[j][0]), min(a[i][1], b[j][1])
        if first <= last:
            found.append((first, last))
        if a[i][1] < b[j][1]:
            i += 1
        else:
            j += 1
    return tuple(found)


def difference(a: Ranges, b: Ranges) -> Ranges:
    """The numbers that are in ``a`` and not in ``b``."""
    found, j = [], 0
    for first, last in a:
        while j < len(b) and b[j][1] < first:
            j += 1
        start, k = first, j
        while k < len(b) and b[k][0] <= last:
            if b[k][0] > start:
                found.append((start, b[k][0] - 1))
            start = b[k][1] + 1
            k += 1
        if start <= last:
            found.append((start, last))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Region:
    """The packets of one IP version whose protocol, detail and peer are each in a set; empty if one of them is."""

    family: int
    protocols: Ranges
    details: Ranges
    peers: Ranges

    @property
    def empty(self) -> bool:
        """Whether no packet is in it."""
        return not (self.protocols and self.details and self.peers)

    def meet(self, other: Region) -> Region | None:
        """What is in both, ``None`` if nothing is."""
        if self.family != other.family:
            return None
        protocols = intersection(self.protocols, other.protocols)
        details = intersection(self.details, other.details) if protocols else ()
        peers = intersection(self.peers, other.peers) if details else ()
        return Region(self.family, protocols, details, peers) if peers else None

    def minus(self, other: Region) -> Iterator[Region]:
        """What is in this one and not in ``other``, as regions that have nothing in common."""
        both = self.meet(other)
        if both is None:
            yield self
            return
        parts = (
            Region(self.family, difference(self.protocols, other.protocols), self.details, self.peers),
            Region(self.family, both.protocols, difference(self.details, other.details), self.peers),
            Region(self.family, both.protocols, both.details, difference(self.peers, other.peers)),
        )
        yield from (part for part in parts if not part.empty)


def uncovered(region: Region, others: Sequence[Region]) -> Region | None:
    """Some part of ``region`` that is in none of ``others``; ``None`` if they have it all."""
    pending = [(region, 0)] if not region.empty else []
    while pending:
        part, start = pending.pop()
        at = next((i for i in range(start, len(others)) if part.meet(others[i]) is not None), None)
        if at is None:
            return part
        pending += [(rest, at + 1) for rest in part.minus(others[at])]
    return None
