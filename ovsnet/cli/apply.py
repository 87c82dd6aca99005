"""``ovsnet plan`` and ``ovsnet apply``: a model against what runs, and into it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import AsJson, ModelFiles, SiteFile, console, print_json
from ovsnet.cli.live import LabName, Socket, controlled, progress_bar, sockets
from ovsnet.cli.site import CaFile, ControllerAddress, Site, TokenFile, apply_site, plan_site, site_of
from ovsnet.errors import EXIT_NO

if TYPE_CHECKING:
    from ovsnet.agent.deliver import Delivery
    from ovsnet.model import Model

Adopt = Annotated[bool, typer.Option("--adopt", help="Take over VPCs that another owner declared.")]


def plan_command(
    model: ModelFiles,
    lab: LabName = None,
    socket: Socket = None,
    site: SiteFile = None,
    controller: ControllerAddress = None,
    token_file: TokenFile = None,
    ca: CaFile = None,
    adopt: Adopt = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 when anything would change.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show what apply would change: per host the flows, or with --controller the objects. Changes nothing.

    Example: ovsnet plan model.yaml --lab demo
    """
    from ovsnet.agent.deliver import preview

    declared = _declared(model, site)
    there, declared = _site(site_of(controller, token_file, ca, lab, socket), lab, socket, declared)
    if there is not None:
        plan_site(there, declared, adopt=adopt, exit_code=exit_code, as_json=as_json)
        return

    reached, delivery = _prepare(model, lab, socket, site, write=False)
    found = preview(reached, delivery, adopt=adopt)
    if as_json:
        print_json(found)
    else:
        _print_plan(found)
    if exit_code and any(any(one["counts"].values()) for one in found.values()):
        raise typer.Exit(EXIT_NO)


def apply_command(
    model: ModelFiles,
    lab: LabName = None,
    socket: Socket = None,
    site: SiteFile = None,
    controller: ControllerAddress = None,
    token_file: TokenFile = None,
    ca: CaFile = None,
    adopt: Adopt = False,
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait until all of it is enforced.")] = 10.0,
    as_json: AsJson = False,
) -> None:
    """Hand a model to the hypervisors and wait until they enforce it. What has to be assigned is written to the lock.

    A VPC that the model no longer has is withdrawn, if the model was its owner. Exit code 1: not enforced in time, and
    which hosts do not, and why. With --controller it assigns what is left out, and keeps it.

    Example: ovsnet apply model.yaml --lab demo

    Example: ovsnet apply model.yaml --controller /run/ovsnet-controller/controller.sock --wait 30
    """
    from ovsnet.agent.deliver import tell
    from ovsnet.lab.topology import lab_home

    declared = _declared(model, site)
    there, declared = _site(site_of(controller, token_file, ca, lab, socket), lab, socket, declared)
    if there is not None:
        apply_site(there, declared, wait=wait, adopt=adopt, as_json=as_json)
        return

    reached, delivery = _prepare(model, lab, socket, site, write=True)
    answers = tell(reached, delivery, wait=wait, adopt=adopt)
    late = {host: answer["reason"] for host, answer in answers.items() if answer["reason"]}
    if as_json:
        print_json({"revisions": dict(delivery.revisions), "hosts": answers, "enforced": not late})
    else:
        out = console()
        for host, answer in answers.items():
            state = late.get(host) or ("enforced" if answer["changed"] else "nothing to do")
            out.print(f"{host}: {state}", style="red" if host in late else None, markup=False)
        out.print(", ".join(f"{vpc} @ {revision}" for vpc, revision in delivery.revisions.items()), markup=False)
        if any(path.is_relative_to(lab_home()) for path in reached.values()):
            out.print(
                "The lab's workloads stay as they are; `ovsnet lab up` brings them to the model too.", style="dim"
            )
    if late:
        raise typer.Exit(EXIT_NO)


def _declared(files: list[Path], site: Path | None) -> Model:
    """The model as it is written; a lock file beside it counts, where there is one."""
    from ovsnet.model import load

    return load(files, site)


def _site(there: Site | None, lab: str | None, socket: Path | None, model: Model) -> tuple[Site | None, Model]:
    """The controller that is named, or that of the lab that is meant, if any; and the model as it takes it."""
    inside = None if there is not None else controlled(lab, socket, model.name)
    if inside is None:
        return there, model
    from ovsnet.lab.control import socket_of
    from ovsnet.lab.deliver import reachable

    return Site(str(socket_of(inside.control)), None, None), reachable(model, inside.topology)


def _prepare(
    files: list[Path], lab: str | None, socket: Path | None, site: Path | None, *, write: bool
) -> tuple[dict[str, Path], Delivery]:
    """The agents and what to tell them; with ``write`` the lock file is brought up to date."""
    from ovsnet.agent.deliver import gather, prepare
    from ovsnet.model import assign, load, load_assigned, lock_path, read_lock

    if write:
        assigned = load_assigned(files, site, write=True)
    else:  # what would be assigned is, and forgotten
        assigned, _ = assign(load(files, site), read_lock(lock_path(files)))
    reached = sockets(lab, socket, assigned.name)
    with progress_bar() as show:
        show("agents asked", 0, len(reached))
        held = gather(reached, assigned.underlay.encapsulation)
        show("agents asked", len(reached), len(reached))
    return reached, prepare(assigned, held)


def _print_plan(found: dict[str, Any]) -> None:
    out = console()
    for host, one in found.items():
        counts = one["counts"]
        out.print(f"[bold]{host}[/bold]  +{counts['added']} ~{counts['changed']} -{counts['removed']}")
        for sign, kind, colour in (("+", "added", "green"), ("~", "changed", "yellow"), ("-", "removed", "red")):
            for line in one[kind]:
                out.print(f"  {sign} {line}", style=colour, markup=False)
