"""``ovsnet compile``: the flows of one host, to read or to feed to ovs-ofctl."""

from __future__ import annotations

from enum import StrEnum
from itertools import groupby
from typing import TYPE_CHECKING, Annotated

import typer

from ovsnet.cli import names
from ovsnet.cli.common import AsJson, ModelFiles, SiteFile, console, print_json, write

if TYPE_CHECKING:
    from ovsnet.desired import Owned


class Format(StrEnum):
    """How flows are printed."""

    TEXT = "text"
    OFCTL = "ofctl"
    JSON = "json"


def compile_command(
    model: ModelFiles,
    host: Annotated[str, typer.Option("--host", "-H", help="The host to compile for.", autocompletion=names.hosts)],
    form: Annotated[Format, typer.Option("--format", "-f", help="text, ofctl (for add-flows) or json.")] = Format.TEXT,
    kernel: Annotated[bool, typer.Option("--kernel", help="For the kernel datapath instead of user space.")] = False,
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Print the flows that a host should have, with the model object that each stems from.

    OpenFlow ports are assumed: 1 is the tunnel, then the host's ports in the order of their names.

    Example: ovsnet compile examples/models/two-hosts.yaml --host hv1
    """
    from dataclasses import replace

    from ovsnet.library import assumed_facts, compile, host_of
    from ovsnet.model import load_assigned

    declared = load_assigned(model, site)
    host_of(declared, host)
    facts = replace(assumed_facts(declared, host), nd_responder=not kernel)
    flows = sorted(compile(declared, host, facts), key=_order)
    if as_json or form is Format.JSON:
        from ovsnet.pipeline.render import flow_data

        print_json([{"object": flow.subject.path, **flow_data(flow.row)} for flow in flows])
    elif form is Format.OFCTL:
        from ovsnet.pipeline.render import flow_ofctl

        write("".join(f"{flow_ofctl(flow.row)}\n" for flow in flows))
    else:
        _print_text(flows)


def _order(flow: Owned) -> tuple[int, int, str, tuple[int, ...]]:
    template = flow.row.template
    return template.table.id, -flow.row.priority, str(flow.subject), flow.row.values


def _print_text(flows: list[Owned]) -> None:
    from rich.markup import escape

    from ovsnet.pipeline.render import flow_text

    out = console()
    for table, members in groupby(flows, key=lambda flow: flow.row.template.table):
        out.print(f"[bold]{table.id} {table.name}[/bold]")
        for flow in members:
            text = flow_text(flow.row).split(" ", 1)[1]
            out.print(f"  {escape(text)}  [dim]# {escape(str(flow.subject))}[/dim]")
