"""BGP's constants of the model, from the BGP benchmark's results: differences of two sizes, never single totals."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import modes
from benchmarks.modes import ModeResult

_MICRO, _MEGA = 1e-6, 1e6


def bgp_costs(results: Sequence[ModeResult]) -> dict[str, float | None]:
    """The ``bgp_...`` constants, ``None`` for those that the results do not say.

    CPU is that of type-5 routes, for which gobgpd 3.10's work does not grow with its table. Without RFC 4684 a change
    goes to every client, so two numbers of clients tell what a route received costs from what one sent costs; what
    the filter costs is then what is left with RFC 4684. Memory is what more routes take, from the two largest tables.
    """
    plain, filtered = _of(results, "bgp-type5"), _of(results, "bgp-rtc-type5")
    costs: dict[str, float | None] = {
        "bgp_route_bytes": _last(_of(results, "bgp"), modes.CHANGE_BYTES),
        "bgp_host_cpu": _last(_base(plain), modes.CHANGE_CPU_HOST, _MICRO),
        "bgp_route_memory": _memory(plain),
        "bgp_in_cpu": None,
        "bgp_out_cpu": None,
        "bgp_filter_cpu": None,
    }
    sizes = _base(plain)
    if len(sizes) >= 2:
        small, large = sizes[0], sizes[-1]
        each = _slope(small, large)
        arrival = max(0.0, _value(small, modes.CHANGE_CPU_CENTRE) - each * small.hosts)
        costs |= {"bgp_in_cpu": arrival * _MICRO, "bgp_out_cpu": each * _MICRO}
        constrained = _base(filtered)
        if constrained:
            largest = constrained[-1]
            sent = largest.interested
            left = _value(largest, modes.CHANGE_CPU_CENTRE) - arrival - each * sent
            costs["bgp_filter_cpu"] = max(0.0, left) / (largest.hosts - sent) * _MICRO
    return costs


def _of(results: Sequence[ModeResult], mode: str) -> list[ModeResult]:
    return sorted((one for one in results if one.mode == mode), key=lambda one: (one.hosts, one.endpoints))


def _base(results: Sequence[ModeResult]) -> list[ModeResult]:
    """Of each number of hosts the smallest table: costs of a change without what a large table adds."""
    return [one for i, one in enumerate(results) if i == 0 or results[i - 1].hosts != one.hosts]


def _slope(small: ModeResult, large: ModeResult) -> float:
    rise = _value(large, modes.CHANGE_CPU_CENTRE) - _value(small, modes.CHANGE_CPU_CENTRE)
    return max(0.0, rise) / (large.hosts - small.hosts)


def _memory(results: Sequence[ModeResult]) -> float | None:
    """Bytes for one more route: two tables of very different sizes at the same number of hosts."""
    pairs = [
        (one, other)
        for one in results
        for other in results
        if one.hosts == other.hosts and other.endpoints > 2 * one.endpoints
    ]
    if not pairs:
        return None
    small, large = max(pairs, key=lambda pair: pair[1].endpoints - pair[0].endpoints)
    grown = _value(large, modes.MEMORY_HOST) - _value(small, modes.MEMORY_HOST)
    return grown * _MEGA / (large.endpoints - small.endpoints)


def _last(results: Sequence[ModeResult], name: str, scale: float = 1.0) -> float | None:
    return _value(results[-1], name) * scale if results else None


def _value(result: ModeResult, name: str) -> float:
    measure = result.measure(name)
    if measure is None:
        raise ValueError(f"{result.mode} with {result.hosts} hosts has no figure for: {name}")
    return measure.median
