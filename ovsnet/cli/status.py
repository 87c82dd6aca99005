"""``ovsnet status``: what the hypervisors hold and enforce."""

from __future__ import annotations

from typing import Any

import typer

from ovsnet.cli.common import AsJson, console, print_json
from ovsnet.cli.live import LabName, Socket, sockets
from ovsnet.cli.site import CaFile, ControllerAddress, TokenFile, site_of, status_site
from ovsnet.errors import EXIT_NO


def status_command(
    lab: LabName = None,
    socket: Socket = None,
    controller: ControllerAddress = None,
    token_file: TokenFile = None,
    ca: CaFile = None,
    as_json: AsJson = False,
) -> None:
    """Show every host's connections, VPCs with revisions, and ports with what is wrong. Exit code 1: not all enforced.

    With --controller: as the controller has heard it.

    Example: ovsnet status --lab demo
    """
    there = site_of(controller, token_file, ca, lab, socket)
    if there is not None:
        status_site(there, as_json=as_json)
        return
    from ovsnet.agent.client import AgentClient, AgentUnreachable

    found: dict[str, Any] = {}
    for host, path in sockets(lab, socket).items():
        try:
            with AgentClient(path) as client:
                found[host] = client.host()
        except AgentUnreachable as error:
            found[host] = {"ready": False, "faults": [str(error)], "vpcs": {}, "ports": [], "flows": 0}
    if as_json:
        print_json(found)
    else:
        for host, one in found.items():
            _print_host(host, one)
    if not all(one["ready"] for one in found.values()):
        raise typer.Exit(EXIT_NO)


def _print_host(host: str, one: dict[str, Any]) -> None:
    out = console()
    word = "[green]ready[/green]" if one["ready"] else "[red]not ready[/red]"
    out.print(f"[bold]{host}[/bold]  {word}  {one['flows']} flows")
    for fault in [*one["faults"], *one.get("warnings", [])]:
        out.print(f"  {fault}", style="red", markup=False)
    for name, vpc in one["vpcs"].items():
        out.print(f"  {name}: revision {vpc['revision']}, enforced {vpc['enforced']}", markup=False)
    for port in one["ports"]:
        state = f"port {port['ofport']}" if port["enforced"] else str(port["reason"])
        out.print(f"    {port['port']:<24} {' '.join(port['ips']):<40} {state}", markup=False)
