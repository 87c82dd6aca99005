"""What a change costs over the bus: latency, bytes, CPU against interested hosts and against all; catching up."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.common import Measure, summary
from benchmarks.dissemination import hosts as simulated
from ovsnet.controller.client import ControllerClient
from tests.contract.nats_kit import NatsServer
from tests.controller_kit import controller

VPCS_PER_HOST = 50
HOSTS_PER_VPC = 10
INTERESTED = (2, 20, 200)
CHANGES = 30
IDLE = 12.0
_TICK = os.sysconf("SC_CLK_TCK")
Say = Callable[[str], None]


@dataclass
class Cloud:
    """A controller, its bus, and the hosts on it."""

    client: ControllerClient
    directory: Path
    server: NatsServer
    pipe: Connection
    hosts: int
    ports: int

    @property
    def pid(self) -> int:
        """The controller's process."""
        return int((self.directory / "controller.pid").read_text())

    @property
    def bus_pid(self) -> int:
        """The bus's process."""
        assert self.server.process is not None
        return self.server.process.pid

    def ask(self, what: str) -> Any:
        """Ask the simulated hosts."""
        self.pipe.send(what)
        return self.pipe.recv()

    def await_all(self, within: float) -> float:
        """Wait until every host agrees with the heads; seconds that it took."""
        started = time.monotonic()
        while self.ask("tally")["agreeing"] < self.hosts:
            if time.monotonic() - started > within:
                raise RuntimeError(f"not all hosts have caught up within {within:g} s: {self.ask('tally')}")
            time.sleep(0.1)
        return time.monotonic() - started


def run(sizes: list[int], say: Say) -> list[Measure]:
    """The measures for each number of hosts."""
    measures: list[Measure] = []
    for size in sizes:
        with _cloud(size, say) as (cloud, first):
            measures += first
            measures += _idle(cloud, say)
            for interested in INTERESTED:
                measures += _changes(cloud, interested, say)
            measures += _catching_up(cloud, say)
    return measures


@dataclass
class Made:
    """A cloud whose hosts have all that concerns them; what declaring and catching up took, and the centre's CPU."""

    cloud: Cloud
    declared: float
    kilobytes: float
    seconds: float
    cpu: float


@contextmanager
def simulated_cloud(names: list[str], declare: Callable[[Cloud], None], say: Say) -> Iterator[Made]:
    """A controller on a bus of its own, told by ``declare``, with a simulated host for each name."""
    server = NatsServer().start()
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="ovsnet-bench-") as name:
        directory = Path(name)
        with controller(directory, "--nats", server.url) as client:
            client.timeout = 300
            cloud = Cloud(client, directory, server, ours, len(names), 0)
            before, started = memory_of(cloud.pid), time.monotonic()
            declare(cloud)
            declared, kilobytes = time.monotonic() - started, memory_of(cloud.pid) - before
            spawn = multiprocessing.get_context("spawn")
            process = spawn.Process(target=simulated.main, args=(names, server.port, theirs), daemon=True)
            spent = cpu_of(cloud.pid) + cpu_of(cloud.bus_pid)
            process.start()
            try:
                say(f"{len(names)} hosts: connecting")
                took = cloud.await_all(300)
                cpu = cpu_of(cloud.pid) + cpu_of(cloud.bus_pid) - spent
                yield Made(cloud, declared, kilobytes, took, cpu)
                ours.send("end")
                process.join(20)
            finally:
                process.kill()
                server.close()


@contextmanager
def _cloud(size: int, say: Say) -> Iterator[tuple[Cloud, list[Measure]]]:
    names = [f"h{number}" for number in range(size)]
    say(f"{size} hosts: declaring them, {size * VPCS_PER_HOST // HOSTS_PER_VPC} VPCs")
    with simulated_cloud(names, lambda cloud: _declare(cloud, names), say) as made:
        cloud = made.cloud
        told, size_told = cloud.ports * HOSTS_PER_VPC, cloud.ask("tally")["bytes"]["change"]
        yield (
            cloud,
            [
                summary(f"{cloud.ports} ports of {size} hosts declared through the API", "s", [made.declared]),
                summary(
                    f"controller's memory a port, all included, {size} hosts", "KB", [made.kilobytes / cloud.ports]
                ),
                summary(f"{size} hosts connect and get all that concerns them", "s", [made.seconds]),
                summary(f"snapshots: bytes a port in them, {size} hosts", "B", [size_told / told]),
                summary(f"snapshots: CPU of the centre a port in them, {size} hosts", "us", [1e6 * made.cpu / told]),
            ],
        )


def _declare(cloud: Cloud, names: list[str]) -> None:
    """Declare hosts, VPCs with ``HOSTS_PER_VPC`` hosts each, and those that changes are measured in."""
    vteps = {name: {"vtep": f"10.{n // 62500}.{n // 250 % 250}.{n % 250 + 1}"} for n, name in enumerate(names)}
    cloud.client.apply({"version": 1, "name": "site", "hosts": vteps})
    vpcs = len(names) * VPCS_PER_HOST // HOSTS_PER_VPC
    groups: dict[str, list[str]] = {
        f"v{n}": [names[(n * 7 + k * (len(names) // HOSTS_PER_VPC)) % len(names)] for k in range(HOSTS_PER_VPC)]
        for n in range(vpcs)
    }
    groups |= {f"wide{count}": names[:count] for count in INTERESTED}
    items = [{"op": "put", "vpc": vpc, "body": _vpc(group)} for vpc, group in groups.items()]
    for first in range(0, len(items), 500):
        cloud.client.batch(items[first : first + 500])
    cloud.ports = sum(map(len, groups.values()))


def _vpc(group: list[str]) -> dict[str, Any]:
    ports = {f"p{number}": {"network": "net", "host": host} for number, host in enumerate(group)}
    return {"networks": {"net": {"subnets": [{"cidr": "10.0.0.0/16"}]}}, "ports": ports}


def _idle(cloud: Cloud, say: Say) -> list[Measure]:
    """What the heads cost when nothing changes."""
    say(f"{cloud.hosts} hosts: idle")
    before, cpu, bus = cloud.ask("tally"), cpu_of(cloud.pid), cpu_of(cloud.bus_pid)
    time.sleep(IDLE)
    after = cloud.ask("tally")
    heads = after["messages"]["heads"] - before["messages"]["heads"]
    size = (after["bytes"]["heads"] - before["bytes"]["heads"]) / heads
    rate = heads / IDLE / cloud.hosts
    return [
        summary(f"heads: bytes a message, {VPCS_PER_HOST} VPCs", "B", [size]),
        summary(f"heads: messages a host and second, {cloud.hosts} hosts", "/s", [rate]),
        summary(
            f"heads: controller's CPU a message, {cloud.hosts} hosts", "us", [(cpu_of(cloud.pid) - cpu) / heads * 1e6]
        ),
        summary(
            f"heads: the bus's CPU a message, {cloud.hosts} hosts", "us", [(cpu_of(cloud.bus_pid) - bus) / heads * 1e6]
        ),
        summary(f"memory of the bus, {cloud.hosts} hosts", "MB", [memory_of(cloud.bus_pid) / 1000]),
    ]


def _changes(cloud: Cloud, interested: int, say: Say) -> list[Measure]:
    """Changes of one port in a VPC of so many hosts: to the last host, and to the answer of a call that waits."""
    say(f"{cloud.hosts} hosts: changes for {interested} of them")
    vpc, reach, answer = f"wide{interested}", [], []
    cpu, bus, before = cpu_of(cloud.pid), cpu_of(cloud.bus_pid), cloud.ask("tally")
    for number in range(CHANGES):
        begun = time.monotonic()
        done = cloud.client.put(vpc, "ports", "p0", _moved(number), wait=20)
        answer.append(1000 * (time.monotonic() - begun))
        if done["late"]:
            raise RuntimeError(f"late: {done['late']}")
        count, last = cloud.ask(done["tx"])
        if count != interested:
            raise RuntimeError(f"{count} hosts have {done['tx']}, not {interested}")
        reach.append(1000 * (last - begun))
    after = cloud.ask("tally")
    each, carried = (cpu_of(cloud.pid) - cpu) / CHANGES, (cpu_of(cloud.bus_pid) - bus) / CHANGES
    told = after["messages"]["change"] - before["messages"]["change"]
    size = (after["bytes"]["change"] - before["bytes"]["change"]) / told
    where = f"{interested} of {cloud.hosts} hosts"
    return [
        summary(f"one change, call to the last of {where}", "ms", reach),
        summary(f"one change, call to the answer that all have it, {where}", "ms", answer),
        summary(f"one change, messages, {where}", "", [told / CHANGES]),
        summary(f"one change, bytes a host, {where}", "B", [size]),
        summary(f"one change, controller's CPU with heads meanwhile, {where}", "ms", [1000 * each]),
        summary(f"one change, the bus's CPU with reports and heads meanwhile, {where}", "ms", [1000 * carried]),
    ]


def _moved(number: int) -> dict[str, Any]:
    return {"network": "net", "host": "h0", "ips": [f"10.0.200.{number + 1}"]}


def _catching_up(cloud: Cloud, say: Say) -> list[Measure]:
    """The bus and the controller are killed and started, a change made while either is away."""
    say(f"{cloud.hosts} hosts: the bus restarts")
    cloud.server.kill()
    cloud.client.put("wide200", "ports", "p1", {"network": "net", "host": "h1", "ips": ["10.0.201.1"]})
    time.sleep(2)
    cloud.server.start()
    while cloud.ask("tally")["connected"] < cloud.hosts:
        time.sleep(0.05)
    bus = cloud.await_all(120)
    return [
        summary(f"{cloud.hosts} hosts agree again after the bus restarted, from the last connection on", "s", [bus])
    ]


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_of(pid: int) -> float:
    """Resident kilobytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
