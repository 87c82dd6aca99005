"""The phases of one fabric: the base state, single changes, one endpoint and a thousand by the clock."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from benchmarks import modes
from benchmarks.common import Measure, summary
from benchmarks.evpn.daemon import version
from benchmarks.evpn.fabric import Accounts, Fabric
from benchmarks.evpn.speaker import RouteType
from benchmarks.evpn.watch import Watch
from benchmarks.modes import ModeResult
from benchmarks.scenario import Scenario, Shape
from ovsnet.model import Port

_SPACING = 0.01  # seconds between single changes
_PATIENCE = 120.0  # seconds for endpoints to arrive


@dataclass(frozen=True)
class Amounts:
    """How much of each phase is run; ``many`` is the number of endpoints that are new at once."""

    changes: int = 200
    ones: int = 20
    many: int = modes.MANY
    many_rounds: int = 2
    idle: float = 5.0  # seconds


DEFAULT = Amounts()

# (name, announced as, with RFC 4684)
WAYS = (
    ("bgp", RouteType.MAC_IP, False),
    ("bgp-rtc", RouteType.MAC_IP, True),
    ("bgp-type5", RouteType.PREFIX, False),
    ("bgp-rtc-type5", RouteType.PREFIX, True),
)


def run(
    shapes: Sequence[Shape], say: Callable[[str], None], amounts: Amounts = DEFAULT, ways: Collection[str] = ()
) -> list[ModeResult]:
    """All ``WAYS``, or those named, at each size.

    Raises MissingTool without gobgpd, RuntimeError when a route is missing at the end.
    """
    software = version()
    results = []
    for shape in shapes:
        for mode, kind, constrain in (way for way in WAYS if not ways or way[0] in ways):
            say(f"{mode}, {shape.hosts} hosts, {shape.endpoints} endpoints in {shape.vpcs} VPCs")
            scenario = Scenario(shape)
            with Fabric.running(scenario, kind, constrain=constrain) as fabric:
                measures = _Phases(fabric, scenario, constrain, amounts, say).all()
            size = (shape.hosts, shape.hosts_per_vpc, shape.endpoints)
            results.append(ModeResult(mode, *size, software, tuple(measures)))
    return results


class _Phases:
    def __init__(
        self, fabric: Fabric, scenario: Scenario, constrain: bool, amounts: Amounts, say: Callable[[str], None]
    ) -> None:
        self._fabric, self._scenario, self._constrain = fabric, scenario, constrain
        self._amounts, self._say = amounts, say
        self._told: dict[str, int] = dict.fromkeys(scenario.vpcs, 0)
        self._idle_host = self._idle_centre = 0.0  # CPU seconds a second

    def all(self) -> list[Measure]:
        """Every measure of the table, in the order of the phases."""
        measures = self._base()
        measures += self._idle()
        measures += self._changes()
        measures += self._arrivals()
        self._check()
        return measures

    def _base(self) -> list[Measure]:
        """Bytes and CPU count from the start of the sessions, so that what RFC 4684 itself costs is in them."""
        self._say("  base state")
        fabric, scenario, count = self._fabric, self._scenario, self._scenario.shape.endpoints_per_vpc
        messages = [fabric.announcement(vpc, scenario.endpoints(vpc, 0, count)) for vpc in scenario.vpcs]
        before, _moved = fabric.settled()
        for one in messages:
            fabric.send(one)
        self._told = dict.fromkeys(scenario.vpcs, count)
        after, moved = fabric.settled()
        held = self._check()
        foreign = [held[host] - count * len(scenario.vpcs_of[host]) for host in scenario.hosts]
        memory, centre_memory = fabric.memory()
        cpu = [after.host_cpu[host] - before.host_cpu[host] for host in scenario.hosts]
        return [
            summary(modes.BASE_BYTES, "B", list(after.received.values())),
            summary(modes.BASE_ENDPOINTS, "", list(held.values())),
            summary(modes.BASE_FOREIGN, "", foreign),
            summary(modes.BASE_SECONDS, "s", [moved - before.at]),
            summary(modes.BASE_CPU_HOST, "s", cpu),
            summary(modes.BASE_CPU_CENTRE, "s", [after.centre_cpu - before.centre_cpu]),
            summary(modes.MEMORY_HOST, "MB", [each / 1e6 for each in memory]),
            summary(modes.MEMORY_CENTRE, "MB", [centre_memory / 1e6]),
        ]

    def _idle(self) -> list[Measure]:
        """What the daemons use while nothing happens; it is taken off what single changes cost."""
        before = self._fabric.accounts()
        time.sleep(self._amounts.idle)
        after = self._fabric.accounts()
        span = after.at - before.at
        rates = [(after.host_cpu[host] - before.host_cpu[host]) / span for host in self._scenario.hosts]
        self._idle_host = sum(rates) / len(rates)
        self._idle_centre = (after.centre_cpu - before.centre_cpu) / span
        return [summary(modes.IDLE_CPU_HOST, "ms/s", [1e3 * rate for rate in rates])]

    def _changes(self) -> list[Measure]:
        """Single new endpoints of VPCs by chance, one after another, with nobody watching the daemons."""
        self._say(f"  {self._amounts.changes} single changes")
        fabric, count = self._fabric, self._amounts.changes
        steps = list(self._scenario.changes(count))
        messages = [fabric.announcement(vpc, {name: port}) for vpc, name, port in steps]
        before, _moved = fabric.settled()
        for one in messages:
            fabric.send(one)
            time.sleep(_SPACING)
        for vpc, _name, _port in steps:
            self._told[vpc] += 1
        after, _moved = fabric.settled()
        return self._costs(before, after, count)

    def _costs(self, before: Accounts, after: Accounts, count: int) -> list[Measure]:
        hosts, span = self._scenario.hosts, after.at - before.at
        sent = sum(after.received[host] - before.received[host] for host in hosts)
        cpu = sum(after.host_cpu[host] - before.host_cpu[host] for host in hosts) / len(hosts)
        centre = after.centre_cpu - before.centre_cpu
        return [
            summary(modes.CHANGE_BYTES, "B", [sent / count / len(hosts)]),
            summary(modes.CHANGE_CPU_HOST, "µs", [1e6 * max(0.0, cpu - self._idle_host * span) / count]),
            summary(modes.CHANGE_CPU_CENTRE, "µs", [1e6 * max(0.0, centre - self._idle_centre * span) / count]),
        ]

    def _arrivals(self) -> list[Measure]:
        """By the clock: from the speaker's write until the last interested VTEP's table has the routes."""
        vpc = self._scenario.vpcs[0]
        with Watch(self._fabric.vteps[host] for host in self._scenario.interested[vpc]) as watch:
            time.sleep(1.0)  # the monitors come up
            self._say(f"  one endpoint, {self._amounts.ones} times")
            ones = [self._arrival(watch, vpc, 1) for _ in range(self._amounts.ones + 1)][1:]
            self._say(f"  {self._amounts.many} endpoints at once, {self._amounts.many_rounds} times")
            many = []
            for _ in range(self._amounts.many_rounds):
                many.append(self._arrival(watch, vpc, self._amounts.many))
                self._take_back(vpc, self._amounts.many)
        return [
            summary(modes.ONE_SECONDS, "ms", [1e3 * one for one in ones]),
            summary(modes.MANY_SECONDS, "ms", [1e3 * one for one in many]),
        ]

    def _arrival(self, watch: Watch, vpc: str, count: int) -> float:
        """Seconds until ``count`` new endpoints are everywhere; then everything comes to rest."""
        ports = self._scenario.endpoints(vpc, self._told[vpc], count)
        messages = self._fabric.announcement(vpc, ports)
        start = time.perf_counter()
        self._fabric.send(messages)
        took = watch.until_all_have(self._routes(vpc, ports.values()), _PATIENCE) - start
        self._told[vpc] += count
        if count > 1:
            self._fabric.settled()
        else:
            time.sleep(10 * _SPACING)
        return took

    def _take_back(self, vpc: str, count: int) -> None:
        self._told[vpc] -= count
        self._fabric.send(self._fabric.withdrawal(vpc, self._scenario.endpoints(vpc, self._told[vpc], count)))
        self._fabric.settled()

    def _routes(self, vpc: str, ports: Iterable[Port]) -> list[tuple[int, str]]:
        return [(self._scenario.vni(vpc), ip) for port in ports for ip in port.ips or ()]

    def _check(self) -> dict[str, int]:
        """Host -> routes that it holds. Raises RuntimeError unless that is all of them, or with RFC 4684 its own."""
        held = {host: daemon.routes() for host, daemon in self._fabric.vteps.items()}
        for host, routes in held.items():
            vpcs = self._scenario.vpcs_of[host] if self._constrain else self._scenario.vpcs
            expected = sum(self._told[vpc] for vpc in vpcs)
            if routes != expected:
                raise RuntimeError(f"{host} holds {routes} routes, not {expected}")
        return held
