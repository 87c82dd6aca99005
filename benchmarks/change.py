"""A running agent: cold start, restart, and one port added, moved and removed, from the API call to the barrier."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import Measure, cloud_port, cloud_state, cpu_of, memory_of, summary
from ovsnet.model import Port, VpcState
from tests.agent_kit import HOST, AgentHost

LOCAL_PORTS = 100
STEPS = 3  # changes in a round: a port added, moved, removed
MOST_SLOWER = 1.5  # a change at the largest size, against the smallest


def run(sizes: list[int], changes: int, say: Callable[[str], None]) -> list[Measure]:
    """Medians for each number of endpoints, and how much slower a change is at the largest than at the smallest."""
    measures: list[Measure] = []
    medians = []
    for size in sizes:
        say(f"agent with {size} endpoints")
        with enforcing(cloud_state(size, local=LOCAL_PORTS)) as (host, (cold,), restart):
            processes = processes_of(host)
            before = sum(map(cpu_of, processes.values()))
            seconds = _changes(host, size, changes)
            cpu = 1000 * (sum(map(cpu_of, processes.values())) - before) / (STEPS * (changes + 1))
            memory = {what: memory_of(pid) / 1000 for what, pid in processes.items()}
        ms = [1000 * one for one in seconds]
        medians.append(sorted(seconds)[len(seconds) // 2])
        measures += [
            summary(f"cold start, {size} endpoints", "s", [cold.seconds], 1.0 if size <= 10_000 else None),
            summary(
                f"restart, {size} endpoints, nothing to do", "s", [restart.seconds], 2.0 if size <= 33_000 else None
            ),
            summary(f"one port changed, {size} endpoints", "ms", ms, 10.0),
            summary(f"one port changed, CPU of the agent's processes, {size} endpoints", "ms", [cpu]),
            *(summary(f"memory of the {what} process, {size} endpoints", "MB", [mb]) for what, mb in memory.items()),
        ]
    if len(medians) > 1:
        ratio = medians[-1] / medians[0]
        measures.append(summary(f"one port changed, {sizes[-1]} against {sizes[0]}", "x", [ratio], MOST_SLOWER))
    return measures


@dataclass(frozen=True)
class Start:
    """A start of the agent until its flows are in place: by the clock, and CPU of the agent and of ovs-vswitchd."""

    seconds: float
    cpu: float
    vswitchd_cpu: float


@contextlib.contextmanager
def enforcing(state: VpcState, starts: int = 1) -> Iterator[tuple[AgentHost, list[Start], Start]]:
    """A host that enforces a made-up cloud, ``starts`` cold starts (empty switch), and a restart with nothing to do."""
    host = AgentHost()
    try:
        host.ovs.start()
        host.start("--audit-interval", "3600")
        for number, port in enumerate(state.ports.values()):
            if port.host == HOST:
                host.plug(state.name, number)
        host.client.put(state, wait=60)
        host.end()
        cold = [_cold_start(host) for _ in range(starts)]
        restart = _start(host)
        yield host, cold, restart
    finally:
        host.close()


def _cold_start(host: AgentHost) -> Start:
    """Start the agent on an empty switch, and end it again."""
    host.ovs.ofctl("del-flows", "br-int")
    time.sleep(1.0)
    took = _start(host)
    host.end()
    return took


def _start(host: AgentHost) -> Start:
    """Start the agent, until it is ready; what that took until its flows were in place, by its own log."""
    before = host.log.stat().st_size
    vswitchd = host.ovs.vswitchd_pid
    if vswitchd is None:
        raise RuntimeError("ovs-vswitchd does not run")
    used = cpu_of(vswitchd)
    started = time.perf_counter()
    host.start("--audit-interval", "3600", ready=False)
    while " flows, " not in host.log.read_text()[before:]:
        time.sleep(0.005)
    seconds = time.perf_counter() - started
    took = Start(seconds, sum(map(cpu_of, processes_of(host).values())), cpu_of(vswitchd) - used)
    while not host.ready():
        time.sleep(0.01)
    return took


def _changes(host: AgentHost, size: int, count: int) -> list[float]:
    """Seconds of each of three changes a round: a port added, moved to another host, removed again."""
    revision, name, seconds = 1, f"p{size}", []
    steps: list[Port | None] = [cloud_port(size, "h1"), cloud_port(size, "h2"), None]
    for turn in range(count + 1):
        for port in steps:
            start = time.perf_counter()
            answer = host.client.patch(
                "vpc", {"previous": revision, "revision": revision + 1, "ports": {name: port}}, wait=10
            )
            if turn:  # the first round loads what is loaded on first use
                seconds.append(time.perf_counter() - start)
            if answer["vpcs"]["vpc"]["enforced"] != revision + 1:
                raise RuntimeError(f"not enforced: {answer}")
            revision += 1
    return seconds


def processes_of(host: AgentHost) -> dict[str, int]:
    """The agent's processes by what they are: ``agent``, ``switch``."""
    if host.process is None:
        raise RuntimeError("the agent does not run")
    pid = host.process.pid
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    children = [int(child) for task in tasks for child in task.read_text().split()]
    return {"agent": pid, **{f"switch{number or ''}": child for number, child in enumerate(children)}}
