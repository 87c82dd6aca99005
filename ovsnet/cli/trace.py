"""``ovsnet trace``: one packet's way, table by table and host by host."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import AsJson, SiteFile, console, print_json
from ovsnet.cli.live import LabName, Receiver, Sender, Socket, sight
from ovsnet.errors import EXIT_NO

if TYPE_CHECKING:
    from ovsnet.trace import Hop, Trace


def trace_command(
    source: Sender,
    target: Receiver,
    model: Annotated[
        list[Path] | None, typer.Option("--model", "-m", help="Model files; left out: what the lab or the agent has.")
    ] = None,
    tcp: Annotated[int | None, typer.Option("--tcp", min=1, max=65535, help="A TCP packet to this port.")] = None,
    udp: Annotated[int | None, typer.Option("--udp", min=1, max=65535, help="A UDP packet to this port.")] = None,
    ipv6: Annotated[bool, typer.Option("-6", "--ipv6", help="IPv6, where both ports have both.")] = False,
    lab: LabName = None,
    socket: Socket = None,
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Follow one packet through the compiled tables, and name the model object that decides.

    DST may also be dhcp, dhcpv6 or routers: what the port asks of its own addresses, and what it is told.

    Where a switch is there (a running lab), its own ofproto/trace is asked too, and any difference is shown.
    Exit code 0: delivered; 1: not, or the switch differs or does not answer.

    Examples: ovsnet trace shop/web1 shop/db1 --tcp 3306 · ovsnet trace web1 192.168.1.99 -m model.yaml
    """

    from ovsnet.model.names import resolve_port
    from ovsnet.trace import ASKED, trace

    seen = sight(model, lab, socket, site)
    source = resolve_port(seen.model, source)
    if not _is_address(target) and target not in ASKED:
        target = resolve_port(seen.model, target)
    protocol, port = ("tcp", tcp) if tcp else ("udp", udp) if udp else ("icmp", 0)
    found = trace(seen.model, seen.places, source, target, protocol, port or 0, 6 if ipv6 else 0)
    compared = [seen.compare(hop) for hop in found.hops]
    if as_json:
        print_json(_data(found, compared))
    else:
        _print(found, compared)
    if not found.delivered or any(word in _DOUBTS for word, _ in compared):
        raise typer.Exit(EXIT_NO)


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


def _data(found: Trace, compared: list[tuple[str, str]]) -> dict[str, Any]:
    from ovsnet.pipeline.render import flow_data

    hops = []
    for hop, (word, output) in zip(found.hops, compared, strict=True):
        steps = [{"object": step.flow.subject.path, **flow_data(step.flow.row)} for step in hop.walk.steps]
        hops.append(
            {"host": hop.host, "what": hop.what, "tables": steps, "switch": word, "ofproto_trace": output or None}
        )
    return {
        "source": found.source,
        "target": found.target,
        "delivered": found.delivered,
        "reached": list(found.reached),
        "reason": found.reason,
        "decided_by": found.decided_by,
        "hops": hops,
    }


def _print(found: Trace, compared: list[tuple[str, str]]) -> None:
    out = console()
    for hop, (word, output) in zip(found.hops, compared, strict=True):
        out.print(f"[bold]{hop.host}[/bold]  {hop.what}  [dim]{_SWITCH[word]}[/dim]")
        _print_steps(hop)
        if word in _DOUBTS:
            out.print(output, markup=False)
    colour = "green" if found.delivered else "red"
    out.print(f"[{colour}]{found.reason}[/{colour}]  [dim](decided by {found.decided_by})[/dim]")


_DOUBTS = {"differs": "THE SWITCH DIFFERS:", "no answer": "THE SWITCH DOES NOT ANSWER:"}
_SWITCH = {"agrees": "the switch agrees", "": "", **_DOUBTS}


def _print_steps(hop: Hop) -> None:
    from rich.markup import escape

    from ovsnet.pipeline.render import flow_text

    out = console()
    for step in hop.walk.steps:
        text = flow_text(step.flow.row).split(" ", 1)[1]
        out.print(f"  {step.table.name:<14} {escape(text)}  [dim]# {escape(str(step.flow.subject))}[/dim]")
