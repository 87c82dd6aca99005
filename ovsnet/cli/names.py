"""Names that a shell completes: ports, hosts and VPCs of the model at hand, and labs.

The model at hand is the one that the command line names so far; else that of the lab it names, or of the only one that
runs; else what this machine's agent holds. A model need not be right for that. Whatever goes wrong, nothing is offered:
a shell has no place for a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ovsnet.cli.common import AGENT_SOCKET

if TYPE_CHECKING:
    from ovsnet.model.nodes import Node

MOST_BYTES = 256 * 1024
"""Of model files: to read more takes longer than somebody who presses a key likes to wait."""
_PATIENCE = 0.3
"""Seconds that an agent may take to answer."""


@dataclass
class Names:
    """What a model declares: hosts, and ports by VPC."""

    hosts: list[str] = field(default_factory=list)
    ports: dict[str, list[str]] = field(default_factory=dict)

    def of_ports(self) -> list[str]:
        """Ports as a command takes them: ``VPC/PORT``, and ``PORT`` where only one VPC has it."""
        full = [f"{vpc}/{name}" for vpc, names in self.ports.items() for name in names]
        count = Counter(name for names in self.ports.values() for name in names)
        return full + [name for name, times in count.items() if times == 1]


Completion = Callable[[typer.Context, str], list[str]]


def _quietly(found: Callable[[typer.Context, str], Iterable[str]]) -> Completion:
    """What begins with what is typed; nothing where it cannot be found out."""

    @wraps(found)
    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        try:
            return [name for name in dict.fromkeys(found(ctx, incomplete)) if name.startswith(incomplete)]
        except Exception:
            return []

    return complete


@_quietly
def ports(ctx: typer.Context, incomplete: str) -> list[str]:
    """Ports of the model at hand, by their full names first."""
    names = _at_hand(ctx, incomplete).of_ports()
    full = [name for name in names if "/" in name]
    return full if any(name.startswith(incomplete) for name in full) else names


@_quietly
def hosts(ctx: typer.Context, incomplete: str) -> list[str]:
    """Hosts of the model at hand."""
    return _at_hand(ctx, incomplete).hosts


@_quietly
def parts(ctx: typer.Context, incomplete: str) -> list[str]:
    """What of a lab can be killed and started."""
    return ["controller", "nats", *_at_hand(ctx, incomplete).hosts]


@_quietly
def vpcs(ctx: typer.Context, incomplete: str) -> Iterable[str]:
    """VPCs of the model at hand."""
    return _at_hand(ctx, incomplete).ports


@_quietly
def labs(ctx: typer.Context, incomplete: str) -> list[str]:
    """Labs that run."""
    from ovsnet.lab import record

    return record.labs()


def _at_hand(ctx: typer.Context, incomplete: str) -> Names:
    files = [Path(one) for one in ctx.params.get("model") or ()]
    if not files and any(one.name == "model" and one.param_type_name == "argument" for one in ctx.command.params):
        # A command line that ends with an option is not parsed to its end: its arguments are in what is left of it.
        files = [path for one in ctx.args if (path := Path(one)).exists()]
    site = ctx.params.get("site")
    if files:
        return _of_files(files, Path(site) if site else None)
    lab, socket = ctx.params.get("lab") or ctx.params.get("name"), ctx.params.get("socket")
    if not socket:
        from ovsnet.lab import record

        running = record.labs()
        lab = lab or (running[0] if len(running) == 1 else None)
        held = record.read(lab) if lab else None
        if held is not None:
            return Names(list(held.model.hosts), {vpc: list(one.ports) for vpc, one in held.model.vpcs.items()})
    return _of_agent(Path(socket or AGENT_SOCKET), incomplete)


def _of_files(files: list[Path], site: Path | None) -> Names:
    from ovsnet.model.files import parse, read_sources

    sources = read_sources(files, [])
    sites = read_sources([site], []) if site else []
    if sum(len(one.data) for one in [*sources, *sites]) > MOST_BYTES:
        return Names()
    names = Names()
    roots = [root for one in sources if (root := parse(one, [])) is not None]
    for root in [root for one in sites if (root := parse(one, [])) is not None] or roots:
        names.hosts += _below(root, "hosts")
    for root in roots:
        for vpc, one in _below(root, "vpcs").items():
            names.ports.setdefault(vpc, []).extend(_below(one, "ports"))
    return names


def _below(node: Node, key: str) -> dict[str, Node]:
    """The entries of a mapping in a mapping, by their keys."""
    entry = node.entries.get(key)
    return {name: value for name, (_, value) in entry[1].entries.items()} if entry else {}


def _of_agent(socket: Path, incomplete: str) -> Names:
    """The agent's own ports and, once a VPC is typed, all ports of that VPC."""
    from ovsnet.agent.client import AgentClient

    with AgentClient(socket, _PATIENCE) as agent:
        seen: dict[str, Any] = agent.host()
        names = Names([seen["host"]])
        for port in seen["ports"]:
            vpc, _, name = port["port"].partition("/")
            names.ports.setdefault(vpc, []).append(name)
        vpc, slash, _ = incomplete.partition("/")
        if slash and vpc in seen["vpcs"]:
            names.ports[vpc] = list(agent.vpc(vpc).ports)
    return names
