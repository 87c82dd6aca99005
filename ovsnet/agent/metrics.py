"""The agent's metrics, declared once: ``GET /metrics`` and docs/metrics.md come from this table."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from ovsnet.agent.agent import Agent
from ovsnet.http.metrics import Metric


@dataclass(frozen=True)
class Observed:
    """What metrics are read from: an agent, and its API's requests by method and status."""

    agent: Agent
    requests: Counter[tuple[str, int]]


def _behind(seen: Observed) -> float:
    enforced = seen.agent.reconciler.status.enforced
    return sum(enforced.get(name) != state.revision for name, state in seen.agent.view.states.items())


def _ports(seen: Observed) -> dict[tuple[str, ...], float]:
    agent = seen.agent
    bound = agent.ovsdb.interfaces()
    ports = [port for local in agent.local.by_vpc.values() for port in local.values()]
    plugged = sum(port.id in bound for port in ports)
    return {("plugged",): plugged, ("absent",): len(ports) - plugged}


METRICS: tuple[Metric[Observed], ...] = (
    Metric("ovsnet_agent_vpcs", "gauge", "VPCs that this host holds.", lambda seen: len(seen.agent.view.states)),
    Metric(
        "ovsnet_agent_vpcs_behind",
        "gauge",
        "VPCs whose revision in force is not the one that was told.",
        _behind,
    ),
    Metric(
        "ovsnet_agent_vpcs_held",
        "gauge",
        "VPCs that stay at their last good flows, since the switch refused newer ones.",
        lambda seen: len(seen.agent.reconciler.status.held),
    ),
    Metric("ovsnet_agent_ports", "gauge", "Ports declared on this host, by whether they are plugged.", _ports, ("is",)),
    Metric(
        "ovsnet_agent_flows", "gauge", "Flows of ours in the switch.", lambda seen: seen.agent.reconciler.status.flows
    ),
    Metric(
        "ovsnet_agent_apply_seconds",
        "histogram",
        "Seconds from a change's acceptance to the switch's barrier.",
        lambda seen: seen.agent.reconciler.latency,
    ),
    Metric(
        "ovsnet_agent_refusals",
        "counter",
        "Times that the switch refused a VPC's flows.",
        lambda seen: seen.agent.reconciler.enforcer.refusals,
    ),
    Metric(
        "ovsnet_agent_repairs",
        "counter",
        "Flows that audits found different in the switch, and repaired.",
        lambda seen: seen.agent.reconciler.status.repairs,
    ),
    Metric(
        "ovsnet_agent_audits",
        "counter",
        "Comparisons of the switch with what it should have.",
        lambda seen: seen.agent.reconciler.status.audits,
    ),
    Metric(
        "ovsnet_agent_connected",
        "gauge",
        "1 while a connection to the switch stands.",
        lambda seen: {("ovsdb",): seen.agent.ovsdb.connected, ("openflow",): seen.agent.switch.connected},
        ("to",),
    ),
    Metric(
        "ovsnet_agent_bus",
        "counter",
        "What has happened on the bus: connections, changes applied and old, gaps, hellos, what was not understood.",
        lambda seen: {} if seen.agent.bus is None else {(what,): n for what, n in seen.agent.bus.counts().items()},
        ("what",),
    ),
    Metric(
        "ovsnet_agent_packets",
        "counter",
        "Packets for the agent: log entries, answers to rejected ones and of routers, those that a limit left out; "
        "leases, requests for other addresses that were refused, advertisements, requests beyond a port's meter.",
        lambda seen: {(what,): n for what, n in seen.agent.packets.counts().items()},
        ("what",),
    ),
    Metric("ovsnet_agent_event_serial", "gauge", "The serial of the last event.", lambda seen: seen.agent.events.last),
    Metric(
        "ovsnet_agent_requests",
        "counter",
        "Requests to the API by method and HTTP status.",
        lambda seen: {(method, str(status)): count for (method, status), count in seen.requests.copy().items()},
        ("method", "status"),
    ),
)
