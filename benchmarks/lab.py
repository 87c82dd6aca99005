"""Real hosts: one port into a large VPC through the controller, from the call until all interested hosts enforce it.

Controller, message bus (TLS), three agents and their switches share this machine, so the floor is their CPU divided by
its cores: it is measured beside the time.
"""

from __future__ import annotations

import itertools
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.common import Measure, cpu_of, summary
from ovsnet.controller.client import ControllerClient
from ovsnet.errors import UserError
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.topology import Transport
from ovsnet.model import Lock, Model, assign, load

WAYS: tuple[tuple[Transport, float], ...] = (("nats", 15.0), ("controller", 10.0))
"""How agents are told, and the budget in ms."""
HOSTS = 3
LOCAL = 100
"""Ports of a VPC on each of its hosts; the others are endpoints elsewhere."""
WAIT = 60.0


def run(size: int, changes: int, say: Callable[[str], None]) -> list[Measure]:
    """For each way, VPCs of ``size`` ports that one, two and three hosts have ports of."""
    measures: list[Measure] = []
    for transport, budget in WAYS:
        say(f"lab, {transport}: {HOSTS} hosts")
        with _lab(transport) as lab, lab.controller() as client:
            client.timeout = WAIT
            for hosts in range(1, HOSTS + 1):
                say(f"  a VPC of {size} ports on {hosts}")
                seconds = _fill(client, hosts, size)
                what = f"{transport}, a VPC of {size} ports on {hosts} of {HOSTS} hosts"
                measures.append(summary(f"{what}: declared until all enforce it", "s", [seconds]))
                measures += _changes(lab, client, hosts, changes, what, budget)
    return measures


@contextmanager
def _lab(transport: Transport) -> Iterator[Lab]:
    name = f"bench{os.getpid()}"
    try:
        yield Lab.up(_model(name), name, transport=transport)
    finally:
        with suppress(UserError):
            down(name)


def _model(name: str) -> Model:
    """One VPC for each number of hosts, with a port on each of them."""
    vpcs = {
        _vpc(hosts): {
            "networks": {"net": {"subnets": [{"cidr": "10.0.0.0/8"}]}},
            "ports": {f"first{number}": {"network": "net", "host": f"hv{number}"} for number in range(1, hosts + 1)},
        }
        for hosts in range(1, HOSTS + 1)
    }
    hosts = {f"hv{number}": {"vtep": f"10.0.0.{10 + number}"} for number in range(1, HOSTS + 1)}
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.json"
        file.write_text(json.dumps({"version": 1, "name": name, "hosts": hosts, "vpcs": vpcs}))
        return assign(load([file]), Lock())[0]


def _vpc(hosts: int) -> str:
    return f"on{hosts}"


def _fill(client: ControllerClient, hosts: int, size: int) -> float:
    """Declare the VPC's ports and endpoints in one call; seconds until all its hosts enforce them."""
    ports = {f"p{n}": {"network": "net", "host": f"hv{1 + n % hosts}"} for n in range(LOCAL * hosts)}
    endpoints = {
        f"e{n}": {
            "network": "net",
            "mac": f"06:00:00:{n >> 16:02x}:{n >> 8 & 255:02x}:{n & 255:02x}",
            "ips": [f"10.200.{n >> 8}.{n & 255}"],
            "vtep": f"10.1.0.{1 + n % 200}",
        }
        for n in range(size - LOCAL * hosts)
    }
    start = time.perf_counter()
    body = {"ports": ports, "endpoints": endpoints}
    _done(client.batch([{"op": "patch", "vpc": _vpc(hosts), "body": body}], wait=WAIT))
    return time.perf_counter() - start


def _done(answer: Any) -> None:
    if answer.get("late"):
        raise RuntimeError(f"not enforced: {answer['late']}")


def _changes(lab: Lab, client: ControllerClient, hosts: int, count: int, what: str, budget: float) -> list[Measure]:
    """One port added to one of the hosts and removed again, and so on: milliseconds of each, and CPU."""
    for turn in range(3):  # what is loaded on first use
        _one(client, hosts, turn)
    groups = _processes(lab)
    before = {what: sum(map(cpu_of, pids)) for what, pids in groups.items()}
    seconds: list[float] = []
    for turn in range(count):
        seconds += _one(client, hosts, turn)
    used = {what: 1000 * (sum(map(cpu_of, pids)) - before[what]) / len(seconds) for what, pids in groups.items()}
    floor = sum(used.values()) / (os.cpu_count() or 1)
    return [
        summary(f"{what}: one port changed, until all enforce it", "ms", [1000 * one for one in seconds], budget),
        *(summary(f"{what}: its CPU, {part}", "ms", [cpu]) for part, cpu in used.items()),
        summary(f"{what}: all CPU divided by {os.cpu_count()} cores", "ms", [floor]),
    ]


def _one(client: ControllerClient, hosts: int, turn: int) -> list[float]:
    times = [time.perf_counter()]
    _done(client.put(_vpc(hosts), "ports", "new", {"network": "net", "host": f"hv{1 + turn % hosts}"}, wait=10))
    times.append(time.perf_counter())
    _done(client.delete(_vpc(hosts), "ports", "new", wait=10))
    times.append(time.perf_counter())
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def _processes(lab: Lab) -> dict[str, list[int]]:
    """Everything that runs in the lab, by what it is: what its pid files name, and their children."""
    assert lab.topology.control is not None
    places = [Path(lab.topology.control.run_dir), *(Path(host.run_dir) for host in lab.topology.hosts.values())]
    groups: dict[str, list[int]] = {}
    for file in (file for place in places for file in place.glob("*.pid")):
        pid = int(file.read_text())
        tasks = Path(f"/proc/{pid}/task").glob("*/children")
        children = [int(child) for task in tasks for child in task.read_text().split()]
        groups.setdefault(file.stem, []).extend([pid, *children])
    return groups
