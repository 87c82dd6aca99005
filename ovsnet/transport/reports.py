"""What a host reports, as differences. Pure: from one picture of the host to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TypeVar

from ovsnet.transport.messages import PROTOCOL, PortReport, ReportMessage, VpcReport

T = TypeVar("T")

FULL_EVERY = 30.0
"""Seconds between two full reports of a host; a quarter more or less at random."""
AT_ONCE = 0.001
"""Seconds for which changes are gathered at the least."""
MAX_ENTRIES = 2000
"""VPCs and ports in one message, so that it stays below what a bus takes."""


class Pace:
    """When a report may go: at once after a quiet time, evenly under a storm of changes. Times are in seconds."""

    def __init__(self, burst: float = 100.0, rate: float = 100.0) -> None:
        self._burst, self._rate = burst, rate
        self._left, self._at = burst, 0.0

    def delay(self, now: float) -> float:
        """Take the next turn: how long to gather changes for it."""
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        self._left -= 1
        return AT_ONCE if self._left >= 0 else -self._left / self._rate


@dataclass(frozen=True)
class Picture:
    """All that a host reports, at one moment; ports are ``VPC/NAME``."""

    vpcs: Mapping[str, VpcReport] = field(default_factory=dict)
    ports: Mapping[str, PortReport] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()


@dataclass(frozen=True)
class Difference:
    """What may have changed from one picture to the next; ``None`` for what is gone. The rest is complete."""

    vpcs: Mapping[str, VpcReport | None] = field(default_factory=dict)
    ports: Mapping[str, PortReport | None] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()


class Reporter:
    """Numbers the reports of one host and remembers what was said last. One for each receiver; ``run`` is its own."""

    def __init__(self, host: str, run: str) -> None:
        self.host, self.run = host, run
        self.serial = 0
        self._vpcs: dict[str, VpcReport] = {}
        self._ports: dict[str, PortReport] = {}
        self._rest: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    def delta(self, found: Difference) -> list[ReportMessage]:
        """What of that has really changed since the last report: usually one message, none if nothing has.

        It costs what the difference has, however much the host holds.
        """
        vpcs, ports = _news(self._vpcs, found.vpcs), _news(self._ports, found.ports)
        rest = (found.faults, found.misplaced)
        if not vpcs and not ports and rest == self._rest:
            return []
        self._rest = rest
        return list(self._messages(found, vpcs, ports, full=False))

    def full(self, now: Picture) -> list[ReportMessage]:
        """All of it; with very many ports the first message is full and the others add to it."""
        self._vpcs, self._ports = dict(now.vpcs), dict(now.ports)
        self._rest = (now.faults, now.misplaced)
        return list(self._messages(now, now.vpcs, now.ports, full=True))

    def _messages(
        self,
        now: Picture | Difference,
        vpcs: Mapping[str, VpcReport | None],
        ports: Mapping[str, PortReport | None],
        *,
        full: bool,
    ) -> Iterator[ReportMessage]:
        left_vpcs, left_ports = iter(vpcs.items()), iter(ports.items())
        for number in range(max(1, -(-(len(vpcs) + len(ports)) // MAX_ENTRIES))):
            part = dict(islice(left_vpcs, MAX_ENTRIES))
            more = dict(islice(left_ports, MAX_ENTRIES - len(part)))
            yield self._message(now, part, more, full=full and number == 0)

    def _message(
        self,
        now: Picture | Difference,
        vpcs: dict[str, VpcReport | None],
        ports: dict[str, PortReport | None],
        *,
        full: bool,
    ) -> ReportMessage:
        self.serial += 1
        return ReportMessage(
            v=PROTOCOL,
            run=self.run,
            serial=self.serial,
            host=self.host,
            full=full,
            vpcs=vpcs,
            ports=ports,
            faults=now.faults,
            misplaced=now.misplaced,
        )


def apply_report(before: Picture, report: ReportMessage) -> Picture:
    """The picture that a receiver has after a report."""
    base = Picture() if report.full else before
    return Picture(
        vpcs=_merged(base.vpcs, report.vpcs),
        ports=_merged(base.ports, report.ports),
        faults=report.faults,
        misplaced=report.misplaced,
    )


def _merged(before: Mapping[str, T], changes: Mapping[str, T | None]) -> dict[str, T]:
    after = {name: value for name, value in before.items() if name not in changes}
    return after | {name: value for name, value in changes.items() if value is not None}


def difference(before: Picture, now: Picture) -> Difference:
    """What leads from one picture to another, for those who keep whole pictures."""
    return Difference(_changes(before.vpcs, now.vpcs), _changes(before.ports, now.ports), now.faults, now.misplaced)


def _changes(before: Mapping[str, T], now: Mapping[str, T]) -> dict[str, T | None]:
    changes: dict[str, T | None] = {name: value for name, value in now.items() if before.get(name) != value}
    return changes | {name: None for name in before if name not in now}


def _news(said: dict[str, T], found: Mapping[str, T | None]) -> dict[str, T | None]:
    """What of the difference is not what was said last; it counts as said from now on."""
    news = {name: value for name, value in found.items() if said.get(name) != value}
    for name, value in news.items():
        if value is None:
            del said[name]
        else:
            said[name] = value
    return news
