"""The scenario of the BGP benchmark in ovsnet's ways: the same endpoints, the same interested hosts."""

from __future__ import annotations

import time
from functools import partial

import msgspec

from benchmarks import modes
from benchmarks.common import Measure, cpu_of, memory_of, summary
from benchmarks.dissemination.cloud import Cloud, Say, Way, simulated_cloud
from benchmarks.modes import ModeResult
from benchmarks.scenario import Scenario, Shape

SOFTWARE = {"nats": "ovsnet over nats-server 2.9.10", "direct": "ovsnet by HTTP on unix sockets"}
ROUNDS = 20
MANY_ROUNDS = 3


def run(shapes: list[Shape], say: Say, way: Way = "nats") -> list[ModeResult]:
    """One result for each shape. The far hosts are told too: on a bus nobody is there, called they are simulated."""
    found = []
    for shape in shapes:
        say(f"{way}: {shape.hosts} hosts, {shape.endpoints} endpoints")
        scenario = Scenario(shape)
        with simulated_cloud(
            list(scenario.hosts), partial(_declare, scenario=scenario), say, way, scenario.far_hosts
        ) as made:
            measures = _measures(made.cloud, scenario, made.seconds, sum(made.cpu))
        software = SOFTWARE[way]
        found.append(ModeResult(way, shape.hosts, shape.hosts_per_vpc, shape.endpoints, software, tuple(measures)))
    return found


def _declare(cloud: Cloud, scenario: Scenario) -> None:
    hosts = {name: cloud.host(name, vtep) for name, vtep in scenario.vteps.items()}
    cloud.client.apply({"version": 1, "name": "site", "hosts": hosts})
    for vpc in scenario.vpcs:
        state = scenario.state(vpc)
        body = {"networks": msgspec.to_builtins(state.networks), "ports": msgspec.to_builtins(state.ports)}
        cloud.client.put_vpc(vpc, body)


def _measures(cloud: Cloud, scenario: Scenario, seconds: float, cpu: float) -> list[Measure]:
    hosts, tally = scenario.shape.hosts, cloud.tally()
    centre = cloud.centre()
    measures = [
        summary(modes.BASE_BYTES, "B", [tally["bytes"]["change"] / hosts]),
        summary(modes.BASE_ENDPOINTS, "", [tally["endpoints"] / hosts]),
        summary(modes.BASE_FOREIGN, "", [tally["foreign"] / hosts]),
        summary(modes.BASE_SECONDS, "s", [seconds]),
        summary(modes.BASE_CPU_CENTRE, "s", [cpu]),
        summary(modes.MEMORY_CENTRE, "MB", [sum(memory_of(pid) for pid in centre) / 1000]),
    ]
    changes = list(scenario.changes(ROUNDS + MANY_ROUNDS * modes.MANY))
    before, spent, one = tally["bytes"]["change"], sum(map(cpu_of, centre)), []
    for vpc, name, port in changes[:ROUNDS]:
        one.append(1000 * _until_all(cloud, {vpc: {name: port}}, scenario))
    measures += [
        summary(modes.CHANGE_BYTES, "B", [(cloud.tally()["bytes"]["change"] - before) / ROUNDS / hosts]),
        summary(modes.CHANGE_CPU_CENTRE, "µs", [1e6 * (sum(map(cpu_of, centre)) - spent) / ROUNDS]),
        summary(modes.ONE_SECONDS, "ms", one),
    ]
    many = []
    for number in range(MANY_ROUNDS):
        first = ROUNDS + number * modes.MANY
        groups: dict[str, dict[str, object]] = {}
        for vpc, name, port in changes[first : first + modes.MANY]:
            groups.setdefault(vpc, {})[name] = port
        many.append(_until_all(cloud, groups, scenario))
    return [*measures, summary(modes.MANY_SECONDS, "ms", [1000 * one for one in many])]


def _until_all(cloud: Cloud, groups: dict[str, dict[str, object]], scenario: Scenario) -> float:
    """Seconds from the call that adds ports to VPCs until the last interested host has them."""
    items = [
        {"op": "patch", "vpc": vpc, "body": {"ports": msgspec.to_builtins(ports)}} for vpc, ports in groups.items()
    ]
    wanted = sum(len(scenario.interested[vpc]) for vpc in groups)
    begun = time.monotonic()
    done = cloud.client.batch(items)
    while True:
        count, last = cloud.arrived(done)
        if count >= wanted:
            return last - begun
        if time.monotonic() - begun > 30:
            raise RuntimeError(f"{count} of {wanted} arrivals of {done['vpcs']}")
        time.sleep(0.002)
