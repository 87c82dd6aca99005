"""A host in a VPC of many subnets that one router joins: its flows, cold start, and one port or route more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec.structs import replace

from benchmarks.change import enforcing
from benchmarks.common import Measure, cloud_port, cloud_state, summary
from benchmarks.filters import STARTS, Changing, flows_by_table
from ovsnet.model import Network, NextHop, Port, Route, Router, Subnet, VpcState
from ovsnet.model.numbers import ip_text

SUBNETS = 200
ROUTER = "r1"
_ABOUT = "{} ports in {} subnets, one router: "


def state(ports: int, *, local: int, subnets: int = SUBNETS) -> VpcState:
    """One VPC of ``subnets`` networks of one subnet each, its ports dealt to them in turn, ``local`` of them here."""
    made = cloud_state(ports, local=local)
    networks = {
        f"net{i}": Network(vni=5001 + i, subnets=(Subnet(cidr=f"{ip_text(0x0A000000 + (i << 16), 32)}/16"),))
        for i in range(subnets)
    }
    return replace(
        made,
        networks=networks,
        routers={ROUTER: router(subnets)},
        ports={name: _dealt(port, number, subnets) for number, (name, port) in enumerate(made.ports.items())},
    )


def router(subnets: int, routes: int = 0) -> Router:
    """A router that joins all networks, with static routes over the first port."""
    via = NextHop(port="p0")
    made = tuple(Route(to=f"192.168.{i}.0/24", via=via) for i in range(routes))
    return Router(vni=9001, networks=tuple(f"net{i}" for i in range(subnets)), routes=made)


def _dealt(port: Port, number: int, subnets: int) -> Port:
    which, rank = number % subnets, number // subnets
    return replace(port, network=f"net{which}", ips=(ip_text(0x0A000002 + (which << 16) + rank, 32),))


def run(
    sizes: list[int], changes: int, say: Callable[[str], None], *, local: int = 100, starts: int = STARTS
) -> list[Measure]:
    """Flows, cold starts and changes for each number of ports."""
    measures: list[Measure] = []
    for size in sizes:
        say(f"{size} ports behind one router")
        about = _ABOUT.format(size, SUBNETS)
        with enforcing(state(size, local=local), starts) as (host, cold, _restart):
            tables = flows_by_table(host)
            measures += [
                summary(f"{about}flows of a host", "", [tables.total()]),
                summary(f"{about}of them for routing", "", [tables["route"] + tables["route_error"]]),
                summary(f"{about}cold start", "s", [one.seconds for one in cold], 1.0 if size <= 10_000 else None),
            ]
            changing = Changing(host)
            port: list[dict[str, Any]] = [
                {"ports": {f"p{size}": _dealt(cloud_port(size, "h1"), size, SUBNETS)}},
                {"ports": {f"p{size}": None}},
            ]
            route = [{"routers": {ROUTER: router(SUBNETS, more)}} for more in (1, 0)]
            for what, steps, budget in (("port", port, 10.0), ("route", route, None)):
                added, removed, cpu = changing.measure(steps, changes)
                measures += [
                    summary(f"{about}one {what} added", "ms", added, budget),
                    summary(f"{about}one {what} removed", "ms", removed, budget),
                    summary(f"{about}one {what} changed, CPU of the agent's processes", "ms", [cpu]),
                ]
    return measures
