"""What the commands know of running things: the agents that can be reached, their models, their switches."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli import names
from ovsnet.cli.common import AGENT_SOCKET
from ovsnet.errors import UserError, needing
from ovsnet.facts import Facts

if TYPE_CHECKING:
    from ovsnet.lab.lab import Lab
    from ovsnet.model import Model
    from ovsnet.trace import Hop, Place

TRACE_WITHIN = 5
"""Seconds that a switch may take for its own trace of a packet."""
Control = Callable[..., tuple[bool, str]]
"""Asks a vswitchd, with a command and its arguments: whether it answered, and what it, or ovs-appctl, says."""

LabName = Annotated[
    str | None,
    typer.Option("--lab", help="A running lab's name; left out: the only one there is.", autocompletion=names.labs),
]
Sender = Annotated[
    str,
    typer.Argument(metavar="SRC", help="The port that sends: VPC/PORT, or PORT.", autocompletion=names.ports),
]
Receiver = Annotated[str, typer.Argument(metavar="DST", help="A port, or an IP address.", autocompletion=names.ports)]
Socket = Annotated[
    Path | None, typer.Option("--socket", help=f"One agent's socket instead of a lab's agents ({AGENT_SOCKET}).")
]


def sockets(lab: str | None, socket: Path | None, model_name: str | None = None) -> dict[str, Path]:
    """The agents to talk to, by host: those of a lab, or the one behind a socket.

    Without either: the lab named as the model, the only lab that runs, or this machine's own agent. Raises UserError.
    """
    lab = _meant(lab, socket, model_name)
    if lab is not None:
        with needing("lab"):
            from ovsnet.lab.lab import Lab

        return {name: Path(host.run_dir) / "agent.sock" for name, host in Lab.open(lab).topology.hosts.items()}
    return _behind(socket or AGENT_SOCKET)


def controlled(lab: str | None, socket: Path | None, model_name: str | None = None) -> Lab | None:
    """The lab that is meant, chosen as ``sockets`` does, if it has a controller; else ``None``. Raises UserError."""
    lab = _meant(lab, socket, model_name)
    if lab is None:
        return None
    with needing("lab"):
        from ovsnet.lab.lab import Lab

    found = Lab.open(lab)
    return None if found.topology.control is None else found


def _meant(lab: str | None, socket: Path | None, model_name: str | None) -> str | None:
    """The name of the lab that is meant, ``None`` for none. Raises UserError."""
    from ovsnet.lab import record

    if lab is not None and socket is not None:
        raise UserError("--lab and --socket exclude each other. Give one.")
    if socket is None and lab is None:
        running = record.labs()
        if model_name in running:
            lab = model_name
        elif len(running) == 1 and not AGENT_SOCKET.exists():
            lab = running[0]
        elif running and not AGENT_SOCKET.exists():
            raise UserError(f"several labs run: {', '.join(running)}. Name one with --lab.")
    return lab


def _behind(path: Path) -> dict[str, Path]:
    from ovsnet.agent.client import AgentClient

    with AgentClient(path) as client:
        return {client.host()["host"]: path}


@dataclass(frozen=True)
class Sight:
    """A model with every host's facts and flows; of the switches that are really there, whom to ask, and the bridge."""

    model: Model
    places: Mapping[str, Place]
    switches: Mapping[str, tuple[Control, str]]

    def connections(self, hop: Hop) -> tuple[str, ...]:
        """The entries of a host's connection tracker between the two addresses of a packet, either way; sorted."""
        from ovsnet.trace import addresses_of

        if hop.host not in self.switches:
            return ()
        pair = [f"src={one},dst={other}," for one, other in permutations(addresses_of(hop.packet))]
        answered, output = self.switches[hop.host][0]("dpctl/dump-conntrack")
        lines = output.splitlines() if answered else ()
        return tuple(sorted(line.strip() for line in lines if any(ends in line for ends in pair)))

    def compare(self, hop: Hop) -> tuple[str, str]:
        """``agrees``, ``differs`` or ``no answer``, with what the switch's own trace says; empty without a switch."""
        from ovsnet.trace import agrees, questions

        if hop.host not in self.switches:
            return "", ""
        ask, bridge = self.switches[hop.host]
        answers = [ask(*question) for question in questions(hop, bridge)]
        outputs = [output for _, output in answers]
        if not all(answered for answered, _ in answers):
            return "no answer", next(output for answered, output in answers if not answered)
        return ("agrees" if agrees(hop, outputs) else "differs"), "\n".join(outputs)


def sight(files: list[Path] | None, lab: str | None, socket: Path | None, site: Path | None) -> Sight:
    """What a trace looks at: model files alone, or what agents hold with the facts of their switches.

    With files and neither a lab nor a socket named, nothing that runs is asked. Raises UserError.
    """
    from ovsnet.trace import model_of, places

    if files and lab is None and socket is None:
        from ovsnet.model import load_assigned

        model = load_assigned(files, site)
        return Sight(model, places(model), {})
    reached = sockets(lab, socket)
    held, facts, switches = _look(reached)
    model = model_of(held)
    return Sight(model, places(model, facts), switches)


def _look(reached: Mapping[str, Path]) -> tuple[list[Any], dict[str, Facts], dict[str, tuple[Control, str]]]:
    """What agents hold, the facts of their hosts, and whom to ask of their switches."""
    from ovsnet.agent.client import AgentClient

    held: list[Any] = []
    facts: dict[str, Facts] = {}
    switches: dict[str, tuple[Control, str]] = {}
    for host, path in reached.items():
        with AgentClient(path) as client:
            seen = client.host()
            held += [client.vpc(name) for name in seen["vpcs"]]
        ofports = {port["id"]: port["ofport"] for port in seen["ports"] if port["bound"] and port["ofport"]}
        zones = {port["id"]: port["zone"] for port in seen["ports"] if port["zone"]}
        known = {"zones": zones, "mtu": seen["mtu"]}
        facts[host] = Facts(ofports, seen["tunnel_ofport"], seen["datapath"] != "system", **known)
        if shutil.which("ovs-appctl"):
            control = Path(seen["ovsdb"].removeprefix("unix:")).parent / "ovs-vswitchd.ctl"
            target = str(control) if control.exists() else "ovs-vswitchd"
            switches[host] = partial(_appctl, target), seen["bridge"]
    return held, facts, switches


def _appctl(control: str, *command: str) -> tuple[bool, str]:
    done = subprocess.run(
        ["ovs-appctl", f"--timeout={TRACE_WITHIN}", "-t", control, *command],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def progress_bar() -> Any:
    """A callback ``(step, done, total)`` that draws a progress bar on a terminal, and nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from ovsnet.cli.common import console

    out = console(stderr=True)
    columns = (TextColumn("{task.description:<22}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as bar:
        tasks: dict[str, Any] = {}

        def show(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = bar.add_task(step, total=total)
            bar.update(tasks[step], completed=done, total=total)

        yield show
