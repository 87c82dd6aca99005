"""The controller's metrics, declared once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from ovsnet.controller.api.service import Service, wanted_of
from ovsnet.controller.truth import Truth
from ovsnet.http.metrics import Metric

Subject = tuple[Service, Counter[tuple[str, int]]]
"""The service, and its requests by method and status."""


def _of_truth(look: Callable[[Truth], float]) -> Callable[[Subject], float]:
    return lambda subject: subject[0].core.read(look)


def _behind(subject: Subject) -> dict[tuple[str, ...], float]:
    service = subject[0]
    found: dict[tuple[str, ...], float] = {}
    for name, wanted in service.core.read(wanted_of).items():
        held = service.status.host(name).vpcs
        enforced = {vpc: said.enforced for vpc, said in held.items()}
        found[name,] = float(sum((enforced.get(vpc) or 0) < revision for vpc, revision in wanted.items()))
    return found


METRICS: tuple[Metric[Subject], ...] = (
    Metric("ovsnet_controller_vpcs", "gauge", "VPCs.", _of_truth(lambda truth: len(truth.vpcs))),
    Metric("ovsnet_controller_ports", "gauge", "Ports of all VPCs.", _of_truth(lambda truth: len(truth.port_ids))),
    Metric("ovsnet_controller_hosts", "gauge", "Hosts of the site.", _of_truth(lambda truth: len(truth.hosts))),
    Metric(
        "ovsnet_controller_hosts_unreachable",
        "gauge",
        "Hosts without contact.",
        lambda subject: float(sum(1 for name in subject[0].core.hosts() if subject[0].status.host(name).reason != "")),
    ),
    Metric(
        "ovsnet_controller_host_vpcs_behind",
        "gauge",
        "VPCs of a host whose revision is not in force there.",
        _behind,
        ("host",),
    ),
    Metric(
        "ovsnet_controller_told",
        "counter",
        "What was sent to hosts and what they said: messages, bytes, hellos, gaps, what was dropped.",
        lambda subject: {(what,): float(count) for what, count in subject[0].told().items()},
        ("what",),
    ),
    Metric(
        "ovsnet_controller_resting",
        "gauge",
        "VNIs and addresses that were released and are not assigned again yet.",
        _of_truth(lambda truth: len(truth.quarantine)),
    ),
    Metric(
        "ovsnet_controller_commits",
        "counter",
        "Transactions since the start.",
        lambda subject: float(subject[0].core.commits),
    ),
    Metric(
        "ovsnet_controller_commit_seconds",
        "histogram",
        "Seconds from a call's planning to its commit.",
        lambda subject: subject[0].core.durations,
    ),
    Metric(
        "ovsnet_controller_requests",
        "counter",
        "Requests by method and status.",
        lambda subject: {(method, str(status)): float(count) for (method, status), count in subject[1].items()},
        ("method", "status"),
    ),
)
