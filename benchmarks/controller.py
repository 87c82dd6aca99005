"""A controller without hosts: ports created through its API, one port into a large VPC, and memory for each port."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.common import Measure, summary
from ovsnet.controller.client import ControllerClient
from tests.controller_kit import controller

HOSTS = 100
NETWORK = {"subnets": [{"cidr": "10.0.0.0/8"}]}


def run(sizes: list[int], changes: int, say: Callable[[str], None]) -> list[Measure]:
    """For each number of ports: creation in one call, further ports one by one, and memory."""
    measures: list[Measure] = []
    medians = []
    for size in sizes:
        say(f"controller with {size} ports")
        with tempfile.TemporaryDirectory(prefix="ovsnet-bench-") as name, controller(Path(name)) as client:
            client.timeout = 300
            hosts = {f"h{number}": {"vtep": f"10.0.{number // 250}.{number % 250 + 1}"} for number in range(HOSTS)}
            client.apply({"version": 1, "name": "site", "hosts": hosts})
            client.put("vpc", "networks", "net", NETWORK)
            pid = int((Path(name) / "controller.pid").read_text())
            before = _memory(pid)
            bulk = _bulk(client, size)
            kilobytes = (_memory(pid) - before) / size
            ms = [1000 * seconds for seconds in _one_by_one(client, changes)]
        medians.append(sorted(ms)[len(ms) // 2])
        measures += [
            summary(f"{size} ports created in one call", "s", [bulk], 5.0 if size <= 10_000 else None),
            summary(f"one port into {size}, the call without hosts", "ms", ms, 10.0),
            summary(f"controller's memory a port, {size} ports", "KB", [kilobytes], 2.0 if size >= 100_000 else None),
        ]
    if len(medians) > 1:
        ratio = medians[-1] / medians[0]
        measures.append(summary(f"one port into {sizes[-1]} against {sizes[0]}", "x", [ratio], 1.5))
    return measures


def _port(number: int) -> dict[str, Any]:
    return {"network": "net", "host": f"h{number % HOSTS}"}


def _bulk(client: ControllerClient, size: int) -> float:
    body = {"ports": {f"p{number}": _port(number) for number in range(size)}}
    start = time.perf_counter()
    client.batch([{"op": "patch", "vpc": "vpc", "body": body}])
    return time.perf_counter() - start


def _one_by_one(client: ControllerClient, count: int) -> list[float]:
    seconds = []
    for number in range(count):
        start = time.perf_counter()
        client.put("vpc", "ports", f"one{number}", _port(number))
        seconds.append(time.perf_counter() - start)
    return seconds


def _memory(pid: int) -> float:
    """Resident kilobytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1000
