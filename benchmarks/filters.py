"""A host with one large security group that many rules speak of: its flows, cold start, and one member or rule more."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from benchmarks.change import enforcing, processes_of
from benchmarks.common import Measure, cloud_port, cloud_state, cpu_of, summary
from ovsnet.model import Port, VpcState
from ovsnet.model.types import Remote, Rule, SecurityGroup
from ovsnet.pipeline.tables import TABLES
from tests.agent_kit import AgentHost

GROUP = "app"
RULES = 20
STARTS = 3  # cold starts of each size
_ABOUT = "{} members, {} rules: "
_TABLE_NAMES = {str(table.id): table.name for table in TABLES}
_OF_GROUPS = {table.name for table in TABLES if table.features == ("security_groups",)}


def group(rules: int) -> SecurityGroup:
    """A group whose members may reach each other at ``rules`` TCP ports, one rule each."""
    remote = Remote(group=GROUP)
    return SecurityGroup(
        rules=tuple(Rule(direction="ingress", protocol="tcp", port=1000 + i, remote=remote) for i in range(rules))
    )


def state(members: int, *, local: int, rules: int = RULES) -> VpcState:
    """One VPC of ``members`` ports that are all in one group, ``local`` of them on the measured host."""
    made = cloud_state(members, local=local)
    ports = {name: _member(port) for name, port in made.ports.items()}
    return replace(made, ports=ports, security_groups={GROUP: group(rules)})


def run(
    sizes: list[int], changes: int, say: Callable[[str], None], *, local: int = 100, starts: int = STARTS
) -> list[Measure]:
    """Flows, cold starts and changes for each number of members."""
    measures: list[Measure] = []
    for size in sizes:
        say(f"security groups with {size} members")
        about = _ABOUT.format(size, RULES)
        with enforcing(state(size, local=local), starts) as (host, cold, _restart):
            tables = flows_by_table(host)
            measures += [
                summary(f"{about}flows of a host", "", [tables.total()]),
                summary(f"{about}of them for security groups", "", [sum(tables[name] for name in _OF_GROUPS)]),
                summary(f"{about}cold start", "s", [one.seconds for one in cold], 1.0 if size <= 10_000 else None),
                summary(f"{about}cold start, CPU of the agent's processes", "s", [one.cpu for one in cold]),
                summary(f"{about}cold start, CPU of ovs-vswitchd", "s", [one.vswitchd_cpu for one in cold]),
            ]
            changing = Changing(host)
            named = f"p{size}"
            member = [{"ports": {named: _member(cloud_port(size, "h1"))}}, {"ports": {named: None}}]
            rule = [{"security_groups": {GROUP: group(RULES + more)}} for more in (1, 0)]
            for what, steps, budget in (("member", member, 10.0), ("rule", rule, 50.0)):
                added, removed, cpu = changing.measure(steps, changes)
                measures += [
                    summary(f"{about}one {what} added", "ms", added, budget),
                    summary(f"{about}one {what} removed", "ms", removed, budget),
                    summary(f"{about}one {what} changed, CPU of the agent's processes", "ms", [cpu]),
                ]
    return measures


def flows_by_table(host: AgentHost) -> Counter[str]:
    """How many flows each table of the switch has, by the table's name."""
    lines = host.ovs.ofctl("dump-flows", "br-int", "--no-stats").splitlines()
    numbers = (line.partition("table=")[2].partition(",")[0] for line in lines if "actions=" in line)
    return Counter(_TABLE_NAMES[number or "0"] for number in numbers)


class Changing:
    """Changes of the VPC, each from the call of the agent's API until the switch has it."""

    def __init__(self, host: AgentHost) -> None:
        self._host = host
        self._revision = 1

    def measure(self, steps: list[dict[str, Any]], count: int) -> tuple[list[float], list[float], float]:
        """Milliseconds of each of two steps, ``count`` times in turn, and the mean CPU of the agent's processes."""
        pids = processes_of(self._host).values()
        times: tuple[list[float], list[float]] = ([], [])
        for step in steps:  # the first round loads what is loaded on first use
            self._change(step)
        before = sum(map(cpu_of, pids))
        for _ in range(count):
            for step, taken in zip(steps, times, strict=True):
                taken.append(self._change(step))
        cpu = 1000 * (sum(map(cpu_of, pids)) - before) / (len(steps) * count)
        return *times, cpu

    def _change(self, step: dict[str, Any]) -> float:
        document = {"previous": self._revision, "revision": self._revision + 1, **step}
        start = time.perf_counter()
        answer = self._host.client.patch("vpc", document, wait=10)
        took = 1000 * (time.perf_counter() - start)
        self._revision += 1
        if answer["vpcs"]["vpc"]["enforced"] != self._revision:
            raise RuntimeError(f"not enforced: {answer}")
        return took


def _member(port: Port) -> Port:
    return replace(port, security_groups=(GROUP,))
