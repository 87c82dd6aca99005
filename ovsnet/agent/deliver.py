"""Hands a model to hypervisors through their APIs, as an orchestration system would: to each what it needs, no more."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ovsnet.agent.client import AgentClient
from ovsnet.errors import UserError
from ovsnet.model import Model, VpcState, states_for_host, vpc_states
from ovsnet.model.types import Encapsulation

T = TypeVar("T")
Held = Mapping[str, Mapping[str, VpcState]]
"""What agents hold: by host, by VPC."""

WORKERS = 16
TIMEOUT = 30.0


@dataclass(frozen=True)
class Delivery:
    """What is to be told: for each host the operations of one batch (empty: nothing), and the VPCs' revisions."""

    operations: Mapping[str, Sequence[Mapping[str, Any]]]
    revisions: Mapping[str, int]


def gather(
    sockets: Mapping[str, Path], encapsulation: Encapsulation, *, timeout: float = TIMEOUT
) -> dict[str, dict[str, VpcState]]:
    """What every agent holds; ``sockets`` by host.

    Raises AgentUnreachable, and UserError for one whose tunnels are not of the model's ``encapsulation``.
    """

    def look(host: str, client: AgentClient) -> dict[str, VpcState]:
        said = client.host()
        speaks = said.get("encapsulation", "vxlan")
        if speaks != encapsulation:
            raise UserError(
                f"host {host} speaks {speaks}, and the model's underlay is {encapsulation}: start its agent with "
                f"--encapsulation {encapsulation}, or declare underlay: {{encapsulation: {speaks}}}"
            )
        return {name: client.vpc(name) for name in said["vpcs"]}

    return _everywhere(sockets, look, timeout)


def prepare(model: Model, held: Held, *, everything: bool = False) -> Delivery:
    """What leads from what agents hold to the model. Pure.

    A VPC that every interested agent already holds as it is keeps its revision; another one gets the next. Only VPCs
    of the model's owner are withdrawn, with ``everything`` all others too. Raises ModelError for an incomplete model.
    """
    revisions = _revisions(model, held)
    operations = {}
    for host, has in held.items():
        wanted = states_for_host(model, host, revisions) if host in model.hosts else {}
        told: list[Mapping[str, Any]] = [
            {"op": "put", "vpc": name, "body": state} for name, state in wanted.items() if has.get(name) != state
        ]
        told += [
            {"op": "delete", "vpc": name}
            for name, state in has.items()
            if name not in wanted and (everything or state.owner == model.name)
        ]
        operations[host] = told
    return Delivery(operations, revisions)


def _revisions(model: Model, held: Held) -> dict[str, int]:
    revisions = {}
    for name, state in vpc_states(model).items():
        told = [held[host].get(name) for host in state.hosts if host in held]
        latest = max((has[name].revision for has in held.values() if name in has), default=0)
        as_told = msgspec.structs.replace(state, revision=latest)
        same = latest > 0 and all(one == as_told for one in told)
        revisions[name] = latest if same else latest + 1
    return revisions


def preview(sockets: Mapping[str, Path], delivery: Delivery, *, adopt: bool = False) -> dict[str, Any]:
    """For each host what the delivery would change: counts, and a readable line for each flow. Changes nothing."""
    return _everywhere(
        sockets, lambda host, client: client.batch(delivery.operations.get(host, []), adopt=adopt, dry_run=True)
    )


def tell(
    sockets: Mapping[str, Path],
    delivery: Delivery,
    *,
    wait: float = 0.0,
    adopt: bool = False,
    timeout: float = TIMEOUT,
) -> dict[str, Any]:
    """Deliver, one batch a host, all of it or none; waits up to ``wait`` seconds for it to be enforced.

    Returns each agent's answer (``reason`` is null once all is enforced). Raises AgentError for what one refuses,
    AgentUnreachable.
    """

    def say(host: str, client: AgentClient) -> Any:
        operations = delivery.operations.get(host, [])
        if operations:
            return client.batch(operations, wait=wait, adopt=adopt)
        return {"changed": False, "reason": _unenforced(client, delivery.revisions, wait)}

    return _everywhere(sockets, say, timeout)


def _unenforced(client: AgentClient, revisions: Mapping[str, int], wait: float) -> str | None:
    """Why a host that holds the revisions already does not enforce them, after waiting for it; ``None``: it does."""
    if wait:
        client.batch([], wait=wait)
    vpcs = client.vpcs()
    late = [vpc for name, vpc in vpcs.items() if name in revisions and vpc["enforced"] != revisions[name]]
    if not late:
        return None
    held = [vpc["held"]["reason"] for vpc in late if vpc["held"]]
    return "; ".join(held or client.ready()["reasons"]) or "on its way to the switch"


def _everywhere(
    sockets: Mapping[str, Path], work: Callable[[str, AgentClient], T], timeout: float = TIMEOUT
) -> dict[str, T]:
    """``work`` for every host at once; ``timeout``: seconds that an agent may take for one answer."""

    def one(item: tuple[str, Path]) -> tuple[str, T]:
        host, path = item
        with AgentClient(path, timeout) as client:
            return host, work(host, client)

    with ThreadPoolExecutor(WORKERS) as pool:
        return dict(pool.map(one, sockets.items()))
