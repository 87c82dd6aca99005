"""What a failed system test leaves behind: the flows, ports and logs of every host that it used."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from ovsnet.errors import UserError
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.ovs import OvsInstance
from tests.agent_kit import AgentHost

MOST_LINES = 300
LOG_LINES = 60


def evidence(objects: list[object]) -> Iterator[tuple[str, str]]:
    """Headings and texts about every lab and every host among a test's fixtures; a text says if there is nothing."""
    for one in objects:
        if isinstance(one, Lab):
            yield f"lab {one.name}", _text(lambda lab=one: json.dumps(lab.status(), indent=1))
            for host in one.topology.hosts.values():
                yield from _host(host.name, one.ovs(host.name), Path(host.run_dir) / "agent.log")
        elif isinstance(one, AgentHost):
            yield from _host("hv1", one.ovs, one.log)


def _host(name: str, ovs: OvsInstance, agent_log: Path) -> Iterator[tuple[str, str]]:
    yield f"{name}: flows", _text(lambda: ovs.ofctl("dump-flows", INTEGRATION))
    yield f"{name}: ports", _text(lambda: ovs.vsctl("show") + ovs.ofctl("dump-ports", INTEGRATION))
    for log in (agent_log, ovs.run_dir / "ovs-vswitchd.log"):
        yield f"{name}: {log.name}", _text(lambda log=log: _tail(log.read_text(errors="replace"), LOG_LINES))


def _text(look: Callable[[], str]) -> str:
    try:
        text = look()
    except (OSError, RuntimeError, UserError) as error:
        return f"(none: {error})"
    lines = text.splitlines()
    more = f"\n... and {len(lines) - MOST_LINES} lines more" if len(lines) > MOST_LINES else ""
    return "\n".join(lines[:MOST_LINES]) + more


def _tail(text: str, lines: int) -> str:
    return "\n".join(text.splitlines()[-lines:])


def labs_of(names: list[object]) -> list[object]:
    """The running labs whose names are among a test's fixtures."""
    found: list[object] = []
    for name in names:
        if isinstance(name, str):
            try:
                found.append(Lab.open(name))
            except (OSError, UserError):
                continue
    return found
