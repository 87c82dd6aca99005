"""A controller at the command line: where it is, and what apply, plan and status say of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import console, print_json
from ovsnet.errors import EXIT_NO, UserError

if TYPE_CHECKING:
    from ovsnet.controller.client import ControllerClient
    from ovsnet.model import Model

ControllerAddress = Annotated[
    str | None,
    typer.Option(
        "--controller", envvar="OVSNET_CONTROLLER", help="Through a controller: its socket, or https://HOST:PORT."
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option("--token-file", envvar="OVSNET_TOKEN_FILE", help="A file with the token for an https controller."),
]
CaFile = Annotated[
    Path | None, typer.Option("--ca", envvar="OVSNET_CA", help="Whose certificate an https controller has, PEM.")
]


@dataclass(frozen=True)
class Site:
    """Where a controller is, and what it is called with."""

    address: str
    token_file: Path | None
    ca: Path | None

    def client(self, wait: float = 0.0) -> ControllerClient:
        """A client of the controller. Raises UserError for a token that cannot be read."""
        from ovsnet.controller.client import ControllerClient
        from ovsnet.tls import client_context

        token = None
        if self.token_file is not None:
            try:
                token = self.token_file.read_text().strip()
            except OSError as exc:
                raise UserError(f"{self.token_file}: {exc.strerror}. Give the file with the token") from None
        context = None if self.ca is None else client_context(self.ca)
        return ControllerClient(self.address, 30.0 + wait, token=token, context=context)


def site_of(controller: str | None, token_file: Path | None, ca: Path | None, *others: object) -> Site | None:
    """The controller that the options name, ``None`` for none. Raises UserError for ``others`` beside it."""
    if controller is None:
        if token_file is not None or ca is not None:
            raise UserError("--token-file and --ca are for a controller. Name it with --controller")
        return None
    if any(others):
        raise UserError("--controller excludes --lab and --socket. Give one")
    return Site(controller, token_file, ca)


def apply_site(site: Site, model: Model, *, wait: float, adopt: bool, as_json: bool) -> None:
    """Hand a model to the controller and wait until every host concerned enforces it. Exit code 1: one does not."""
    with site.client(wait) as client:
        answer = client.apply(model, wait=wait, adopt=adopt)
    if as_json:
        print_json(answer)
    else:
        _print_applied(answer, wait)
    if answer["late"]:
        raise typer.Exit(EXIT_NO)


def _print_applied(answer: dict[str, Any], wait: float) -> None:
    out = console()
    for host, reason in answer["late"].items():
        out.print(f"{host}: {reason}", style="red", markup=False)
    for kind, values in answer["assigned"].items():
        for name, value in values.items():
            shown = value if isinstance(value, int) else ", ".join(value)
            out.print(f"assigned: {kind[:-1]} {name}: {shown}", style="dim", markup=False)
    steps = [f"{vpc} @ {step['revision'] or 'gone'}" for vpc, step in answer["vpcs"].items()]
    word = "nothing to do" if not answer["changed"] else "durable" if answer["late"] or not wait else "enforced"
    out.print(f"{word}: {', '.join(steps) or 'no VPC'}", markup=False)


def plan_site(site: Site, model: Model, *, adopt: bool, exit_code: bool, as_json: bool) -> None:
    """Show which objects apply would change. Changes nothing."""
    with site.client() as client:
        found = client.apply(model, adopt=adopt, dry_run=True)
    if as_json:
        print_json(found)
    else:
        out = console()
        signs = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}
        for one in found["differences"]:
            sign, colour = signs[one["change"]]
            out.print(f"{sign} {one['path']}", style=colour, markup=False)
        if not found["differences"]:
            out.print("nothing to do")
    if exit_code and found["changed"]:
        raise typer.Exit(EXIT_NO)


def status_site(site: Site, *, as_json: bool) -> None:
    """Show where every host stands, as the controller knows it. Exit code 1: one does not enforce what it should."""
    with site.client() as client:
        found = client.status()
    if as_json:
        print_json(found)
    else:
        out = console()
        for fault in found["faults"]:
            out.print(fault, style="red", markup=False)
        for host, one in found["hosts"].items():
            good = not one["late"] and not one["reason"]
            word = "[green]in force[/green]" if good else "[red]not in force[/red]"
            out.print(f"[bold]{host}[/bold]  {word}  {len(one['vpcs'])} VPCs")
            lines = [one["reason"], *one["faults"], *(f"{vpc}: {why}" for vpc, why in one["late"].items())]
            lines += [f"{port} is plugged here and declared elsewhere" for port in one["misplaced"]]
            for line in filter(None, lines):
                out.print(f"  {line}", style="red", markup=False)
    if not found["converged"]:
        raise typer.Exit(EXIT_NO)
