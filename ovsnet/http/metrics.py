"""Metrics: declared in a table, read when they are asked for, so that the work itself keeps no books for them."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

S = TypeVar("S")

TEXT = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of the exposition."""


class Distribution:
    """Counts of values by upper bound, for a histogram; any thread may add and read."""

    def __init__(self, bounds: Iterable[float]) -> None:
        self.bounds = tuple(bounds)
        self._counts = [0] * (len(self.bounds) + 1)
        self._sum = 0.0
        self._lock = threading.Lock()

    def add(self, value: float) -> None:
        """Count a value."""
        with self._lock:
            self._counts[bisect_left(self.bounds, value)] += 1
            self._sum += value

    def buckets(self) -> tuple[list[tuple[str, float]], float]:
        """The cumulative counts by bound, as Prometheus has them, and the sum of all values."""
        with self._lock:
            counts, total = list(self._counts), self._sum
        found, running = [], 0
        for bound, count in zip((*self.bounds, float("inf")), counts, strict=True):
            running += count
            found.append(("+Inf" if bound == float("inf") else repr(bound), float(running)))
        return found, total


Values = float | Distribution | Mapping[tuple[str, ...], float]


@dataclass(frozen=True)
class Metric(Generic[S]):
    """One metric. ``read`` gives its value, one for each set of ``labels``, or the distribution of a histogram."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    doc: str
    read: Callable[[S], Values]
    labels: tuple[str, ...] = ()


def exposition(metrics: Iterable[Metric[S]], subject: S) -> bytes:
    """All metrics of ``subject`` in the text format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(metrics, subject))
    return bytes(generate_latest(registry))


class _Collector(Generic[S]):
    def __init__(self, metrics: Iterable[Metric[S]], subject: S) -> None:
        self._metrics, self._subject = metrics, subject

    def describe(self) -> Iterable[Any]:
        """Nothing: what there is, is known when it is collected."""
        return ()

    def collect(self) -> Iterator[Any]:
        """The families of samples."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        for metric in self._metrics:
            value = metric.read(self._subject)
            if isinstance(value, Distribution):
                buckets, total = value.buckets()
                yield HistogramMetricFamily(metric.name, metric.doc, buckets=buckets, sum_value=total)
                continue
            kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
            family = kind(metric.name, metric.doc, labels=metric.labels)
            samples = value if isinstance(value, Mapping) else {(): value}
            for labels, one in sorted(samples.items()):
                family.add_metric(labels, one)
            yield family


def markdown(title: str, intro: str, tables: Mapping[str, Iterable[Metric[Any]]]) -> str:
    """A reference page: one table for each service."""
    lines = [f"# {title}", "", intro]
    for heading, metrics in tables.items():
        lines += ["", f"## {heading}", "", "| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
        for one in metrics:
            name = one.name + ("_total" if one.kind == "counter" else "")
            labels = ", ".join(f"`{label}`" for label in one.labels)
            lines.append(f"| `{name}` | {one.kind} | {labels} | {one.doc} |")
    return "\n".join(lines) + "\n"
