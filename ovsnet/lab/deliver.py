"""Hands a lab's model to its agents, as an orchestration system would, and waits until it is enforced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ovsnet.agent import deliver as delivering
from ovsnet.agent.client import AgentClient, AgentError, AgentUnreachable
from ovsnet.errors import EXIT_UNAVAILABLE, UserError
from ovsnet.lab import control as controlling
from ovsnet.lab import host as hosts
from ovsnet.lab.converge import Progress, in_parallel
from ovsnet.lab.patience import PATIENCE
from ovsnet.lab.topology import ControlSpec, HostSpec, Topology, agent_url
from ovsnet.model import Model

if TYPE_CHECKING:
    from ovsnet.controller.client import ControllerClient

_POLL = 0.05
_ANSWER = 30.0 * PATIENCE


class LabError(UserError):
    """The lab's agents or switches do not do what they were told."""

    exit_code = EXIT_UNAVAILABLE


def socket_of(host: HostSpec) -> Path:
    """Where the host's agent listens."""
    return Path(host.run_dir) / "agent.sock"


def client_of(host: HostSpec) -> AgentClient:
    """A client of the host's agent."""
    return AgentClient(socket_of(host), timeout=_ANSWER)


def await_agents(topology: Topology, timeout: float, progress: Progress) -> None:
    """Wait until every agent answers. Raises LabError with the end of the log of one that does not."""
    deadline = time.monotonic() + timeout

    def answer(host: HostSpec) -> None:
        while True:
            try:
                with client_of(host) as client:
                    client.ready()
                return
            except (AgentUnreachable, AgentError) as error:
                if hosts.agent_pid(host) is None or time.monotonic() > deadline:
                    raise LabError(f"{host.name}: {error} Its log ends:\n{hosts.agent_of(host).log_end()}") from None
            time.sleep(_POLL)

    in_parallel("agents", answer, list(topology.hosts.values()), progress)


def controller_client(spec: ControlSpec) -> ControllerClient:
    """A client of the lab's controller, on its unix socket."""
    from ovsnet.controller.client import ControllerClient

    return ControllerClient(controlling.socket_of(spec), timeout=_ANSWER)


def await_controller(spec: ControlSpec, timeout: float) -> None:
    """Wait until the controller answers. Raises LabError with the end of its log if it does not."""
    deadline = time.monotonic() + timeout
    daemon = controlling.controller_of(spec)
    while True:
        try:
            with controller_client(spec) as client:
                client.ready()
            return
        except UserError as error:
            if daemon.pid is None or time.monotonic() > deadline:
                raise LabError(f"the controller: {error} Its log ends:\n{daemon.log_end()}") from None
        time.sleep(_POLL)


def reachable(model: Model, topology: Topology) -> Model:
    """The model as a controller takes it: with the addresses at which the lab's agents are called."""
    hosts = {
        name: msgspec.structs.replace(host, agent=agent_url(topology.hosts[name]))
        for name, host in model.hosts.items()
        if name in topology.hosts
    }
    return msgspec.structs.replace(model, hosts={**model.hosts, **hosts})


def deliver(model: Model, topology: Topology, progress: Progress) -> dict[str, int]:
    """Tell every agent the states of its VPCs, and to drop those it no longer needs; returns revisions by VPC.

    With a controller it is that which tells them. Raises LabError when an agent or the controller refuses, or does not
    answer.
    """
    if topology.control is not None:
        return _hand_over(model, topology, topology.control, progress)
    sockets = {name: socket_of(host) for name, host in topology.hosts.items()}
    progress("telling", 0, len(sockets))
    try:
        delivery = delivering.prepare(
            model, delivering.gather(sockets, model.underlay.encapsulation, timeout=_ANSWER), everything=True
        )
        delivering.tell(sockets, delivery, adopt=True, timeout=_ANSWER)
    except (AgentError, AgentUnreachable) as error:
        raise LabError(str(error)) from error
    progress("telling", len(sockets), len(sockets))
    return dict(delivery.revisions)


def _hand_over(model: Model, topology: Topology, spec: ControlSpec, progress: Progress) -> dict[str, int]:
    """Have the controller tell the agents; returns revisions by VPC."""
    progress("telling", 0, 1)
    try:
        with controller_client(spec) as client:
            client.apply(reachable(model, topology), adopt="true", wait=_ANSWER)
            found = client.vpcs()
    except UserError as error:
        raise LabError(f"the controller: {error}") from error
    progress("telling", 1, 1)
    return {name: vpc["revision"] for name, vpc in found.items()}


def unenforced(topology: Topology, revisions: Mapping[str, int]) -> list[str]:
    """What is not in force at this moment, in sentences: an agent's faults, and ports that do not work yet."""
    found: list[str] = []
    for host in topology.hosts.values():
        try:
            with client_of(host) as client:
                seen = client.host()
        except (AgentUnreachable, AgentError) as error:
            found.append(f"{host.name}: {error}")
            continue
        found += [f"{host.name}: {fault}" for fault in seen["faults"]]
        if seen["tunnel_ofport"] is None:
            found.append(f"{host.name}: no tunnel port")
        mine = [port for port in seen["ports"] if port["host"] == host.name]  # not those that are only about to come
        found += [f"{port['port']} on {host.name}: {port['reason']}" for port in mine if port["reason"]]
        for name, vpc in seen["vpcs"].items():
            if vpc["enforced"] != revisions.get(name):
                found.append(f"{host.name}: VPC {name} is at revision {vpc['enforced']}, not {revisions.get(name)}")
        local = {workload.id for workload in topology.workloads.values() if workload.host == host.name}
        missing = local - {port["id"] for port in seen["ports"] if port["bound"]}
        found += [f"{host.name}: the agent has not bound {one}" for one in sorted(missing)]
    return found


def await_enforced(look: Callable[[], list[str]], timeout: float) -> list[str]:
    """Call ``look`` until it finds nothing missing; returns what it still finds after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while (missing := look()) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return missing
