"""What a change costs: latency, bytes, CPU against interested hosts and against all; catching up."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

from benchmarks.common import Measure, cpu_of, memory_of, summary
from benchmarks.dissemination.cloud import Cloud, Made, Say, Way, simulated_cloud

VPCS_PER_HOST = 50
HOSTS_PER_VPC = 10
INTERESTED = (2, 20, 200)
CHANGES = 100
IDLE = 12.0
BACKGROUND = {"nats": "heads", "direct": "looks"}
"""What goes on when nothing changes: a host is told what it should hold, or asked what it holds."""


def run(sizes: list[int], say: Say, way: Way = "nats") -> list[Measure]:
    """The measures for each number of hosts."""
    measures: list[Measure] = []
    for size in sizes:
        names = [f"h{number}" for number in range(size)]
        say(f"{way}, {size} hosts: declaring them, {size * VPCS_PER_HOST // HOSTS_PER_VPC} VPCs")
        with simulated_cloud(names, partial(_declare, names=names), say, way) as made:
            cloud = made.cloud
            measures += _base(made) + _idle(cloud, say, BACKGROUND[way])
            concerned = [count for count in INTERESTED if count <= size]
            for interested in concerned:
                measures += _changes(cloud, interested, say)
            if cloud.bus:
                measures += _bus_restarts(cloud, concerned[-1], say)
            measures += _controller_restarts(cloud, concerned[-1], say)
    return measures


def _base(made: Made) -> list[Measure]:
    cloud = made.cloud
    size, told, bytes_told = cloud.hosts, cloud.told, cloud.tally()["bytes"]["change"]
    return [
        summary(f"{cloud.ports} ports of {size} hosts declared through the API", "s", [made.declared]),
        summary(f"controller's memory a port, all included, {size} hosts", "KB", [made.kilobytes / cloud.ports]),
        summary(f"{size} hosts connect and get all that concerns them", "s", [made.seconds]),
        summary(f"snapshots: bytes a port in them, {size} hosts", "B", [bytes_told / told]),
        summary(f"snapshots: controller's CPU a port in them, {size} hosts", "us", [1e6 * made.cpu[0] / told]),
    ]


def _declare(cloud: Cloud, names: list[str]) -> None:
    """Declare hosts, VPCs with ``HOSTS_PER_VPC`` hosts each, and those that changes are measured in."""
    hosts = {name: cloud.host(name, f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}") for n, name in enumerate(names)}
    cloud.client.apply({"version": 1, "name": "site", "hosts": hosts})
    vpcs = len(names) * VPCS_PER_HOST // HOSTS_PER_VPC
    groups: dict[str, list[str]] = {
        f"v{n}": [names[(n * 7 + k * (len(names) // HOSTS_PER_VPC)) % len(names)] for k in range(HOSTS_PER_VPC)]
        for n in range(vpcs)
    }
    groups |= {f"wide{count}": names[:count] for count in INTERESTED if count <= len(names)}
    items = [{"op": "put", "vpc": vpc, "body": _vpc(group)} for vpc, group in groups.items()]
    for first in range(0, len(items), 500):
        cloud.client.batch(items[first : first + 500])
    cloud.ports = sum(len(group) for group in groups.values())
    cloud.told = sum(len(group) ** 2 for group in groups.values())


def _vpc(group: list[str]) -> dict[str, Any]:
    ports = {f"p{number}": {"network": "net", "host": host} for number, host in enumerate(group)}
    return {"networks": {"net": {"subnets": [{"cidr": "10.0.0.0/16"}]}}, "ports": ports}


def _idle(cloud: Cloud, say: Say, name: str) -> list[Measure]:
    """What goes on when nothing changes."""
    say(f"{cloud.hosts} hosts: idle")
    before, cpu = cloud.tally(), [cpu_of(pid) for pid in cloud.centre()]
    time.sleep(IDLE)
    after = cloud.tally()
    count = after["messages"]["heads"] - before["messages"]["heads"]
    spent = [1e6 * (cpu_of(pid) - past) / count for pid, past in zip(cloud.centre(), cpu, strict=True)]
    size = (after["bytes"]["heads"] - before["bytes"]["heads"]) / count
    where = f"{cloud.hosts} hosts"
    measures = [
        summary(f"{name}: bytes a message, {VPCS_PER_HOST} VPCs", "B", [size]),
        summary(f"{name}: messages a host and second, {where}", "/s", [count / IDLE / cloud.hosts]),
        summary(f"{name}: controller's CPU a message, {where}", "us", spent[:1]),
        summary(f"memory of the controller, {where}", "MB", [memory_of(cloud.pid) / 1000]),
    ]
    if cloud.bus:
        measures += [
            summary(f"{name}: the bus's CPU a message, {where}", "us", spent[1:]),
            summary(f"memory of the bus, {where}", "MB", [memory_of(cloud.bus_pid) / 1000]),
        ]
    return measures


def _changes(cloud: Cloud, interested: int, say: Say) -> list[Measure]:
    """Changes of one port in a VPC of so many hosts: to the last host, and to the answer of a call that waits."""
    say(f"{cloud.hosts} hosts: changes for {interested} of them")
    vpc, reach, answer = f"wide{interested}", [], []
    cpu, before = [cpu_of(pid) for pid in cloud.centre()], cloud.tally()
    for number in range(CHANGES):
        begun = time.monotonic()
        done = _enforced(cloud, vpc, f"10.0.200.{number + 1}")
        answer.append(1000 * (time.monotonic() - begun))
        count, last = cloud.arrived(done)
        if count != interested:
            raise RuntimeError(f"{count} hosts have {done['vpcs']}, not {interested}")
        reach.append(1000 * (last - begun))
    after = cloud.tally()
    spent = [1000 * (cpu_of(pid) - past) / CHANGES for pid, past in zip(cloud.centre(), cpu, strict=True)]
    told = after["messages"]["change"] - before["messages"]["change"]
    size = (after["bytes"]["change"] - before["bytes"]["change"]) / told
    where, beside = f"{interested} of {cloud.hosts} hosts", "heads" if cloud.bus else "looks"
    measures = [
        summary(f"one change, call to the last of {where}", "ms", reach),
        summary(f"one change, call to the answer that all have it, {where}", "ms", answer),
        summary(f"one change, messages, {where}", "", [told / CHANGES]),
        summary(f"one change, bytes a host, {where}", "B", [size]),
        summary(f"one change, controller's CPU with {beside} meanwhile, {where}", "ms", spent[:1]),
    ]
    if cloud.bus:
        measures.append(
            summary(f"one change, the bus's CPU with reports and heads meanwhile, {where}", "ms", spent[1:])
        )
    return measures


def _enforced(cloud: Cloud, vpc: str, address: str) -> dict[str, Any]:
    """Change a port's address and wait for every host. Raises RuntimeError if one is late."""
    body = {"network": "net", "host": "h0", "ips": [address]}
    done: dict[str, Any] = cloud.client.put(vpc, "ports", "p0", body, wait=20)
    if done["late"]:
        raise RuntimeError(f"late: {done['late']}")
    return done


def _bus_restarts(cloud: Cloud, interested: int, say: Say) -> list[Measure]:
    """The bus is killed and started, and a change made while it is away."""
    say(f"{cloud.hosts} hosts: the bus restarts")
    assert cloud.bus is not None
    cloud.bus.kill()
    cloud.client.put(f"wide{interested}", "ports", "p1", {"network": "net", "host": "h1", "ips": ["10.0.201.1"]})
    time.sleep(2)
    cloud.bus.start()
    while cloud.tally()["connected"] < cloud.hosts:
        time.sleep(0.05)
    name = f"{cloud.hosts} hosts agree again after the bus restarted, from the last connection on"
    return [summary(name, "s", [cloud.await_all(120)])]


def _controller_restarts(cloud: Cloud, interested: int, say: Say) -> list[Measure]:
    """The controller is ended and started, and its first change after that is waited for."""
    say(f"{cloud.hosts} hosts: the controller restarts")
    cloud.stop()
    begun = time.monotonic()
    cloud.start()
    ready = time.monotonic() - begun
    done = _enforced(cloud, f"wide{interested}", "10.0.202.1")
    all_have_it = time.monotonic() - begun
    where = f"{interested} of {cloud.hosts} hosts"
    if cloud.arrived(done)[0] != interested:
        raise RuntimeError(f"not all have {done['vpcs']}")
    return [
        summary(f"controller with {cloud.ports} ports, from its start until it is ready", "s", [ready]),
        summary(f"controller's start to the answer that a change is in force, {where}", "s", [all_have_it]),
    ]
