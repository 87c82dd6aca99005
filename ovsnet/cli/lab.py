"""``ovsnet lab``: a declared cloud on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import EXIT_NO, AsJson, ModelFiles, SiteFile, console, print_json
from ovsnet.cli.live import progress_bar
from ovsnet.errors import UserError

if TYPE_CHECKING:
    from ovsnet.lab.lab import Lab

app = typer.Typer(
    help="A declared cloud on this machine: hypervisors as namespaces with real switches. Needs root.",
    no_args_is_help=True,
)
Name = Annotated[
    str | None, typer.Option("--name", "-n", help="The lab's name; left out: the model's, or the only one.")
]


def _open(name: str | None) -> Lab:
    from ovsnet.lab import record
    from ovsnet.lab.lab import Lab

    if name is None:
        running = record.labs()
        if len(running) != 1:
            which = ", ".join(running) or "none runs"
            raise UserError(f"which lab? ({which}). Name one with --name.")
        name = running[0]
    return Lab.open(name)


@app.command("up")
def up_command(
    model: ModelFiles,
    name: Name = None,
    site: SiteFile = None,
    datapath: Annotated[
        str, typer.Option("--datapath", help="netdev (user space) or system (the kernel's).")
    ] = "netdev",
) -> None:
    """Bring a lab up, or an existing one to a changed model; then every host enforces it.

    Example: sudo ovsnet lab up examples/models/demo.yaml --name demo
    """
    from ovsnet.lab.lab import Lab
    from ovsnet.model import load_assigned

    if datapath not in ("netdev", "system"):
        raise UserError(f"{datapath} is no datapath. Give netdev or system.")
    assigned = load_assigned(model, site, write=True)
    with progress_bar() as show:
        lab = Lab.up(assigned, name, datapath=datapath, progress=show)
    seen = lab.status()
    console().print(f"lab {lab.name}: {len(seen['hosts'])} hosts, {len(seen['ports'])} ports", markup=False)


@app.command("exec", context_settings={"ignore_unknown_options": True})
def exec_command(
    port: Annotated[str, typer.Argument(metavar="PORT", help="VPC/PORT, or PORT where only one VPC has it.")],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    name: Name = None,
) -> None:
    """Run a command inside a port's workload; its exit code is this one's.

    Example: sudo ovsnet lab exec shop/web1 -- ping -c1 192.168.1.12
    """
    raise typer.Exit(_open(name).exec(port, command))


@app.command("test")
def test_command(name: Name = None, as_json: AsJson = False) -> None:
    """Send packets from every port to every other and to nobody, and compare with the model. Exit code 1: it differs.

    Example: sudo ovsnet lab test --name demo
    """
    from ovsnet.lab.report import show

    lab = _open(name)
    with progress_bar() as progress:
        result = lab.test(progress=progress)
    if as_json:
        print_json(result.as_dict())
    else:
        show(result, console())
    if not result.ok:
        raise typer.Exit(EXIT_NO)


@app.command("status")
def status_command(name: Name = None, as_json: AsJson = False) -> None:
    """Show what the lab consists of, and what of it has died. Exit code 1: something has.

    Example: sudo ovsnet lab status --json
    """
    seen = _open(name).status()
    if as_json:
        print_json(seen)
    else:
        _print_status(seen)
    if not seen["healthy"]:
        raise typer.Exit(EXIT_NO)


def _print_status(seen: dict[str, Any]) -> None:
    out = console()
    out.print(f"[bold]{seen['name']}[/bold]  datapath {seen['datapath']}, files in {seen['directory']}")
    for host, one in seen["hosts"].items():
        processes = f"agent {one['agent_pid']}, vswitchd {one['vswitchd_pid']}, ovsdb {one['ovsdb_pid']}"
        out.print(f"  {host:<10} {one['vtep']:<24} {processes}", markup=False)
    for port, one in seen["ports"].items():
        out.print(f"    {port:<24} on {one['host']:<10} {' '.join(one['addresses'])}", markup=False)
    for problem in seen["problems"]:
        out.print(f"  {problem}", style="red", markup=False)


@app.command("down")
def down_command(name: Name = None) -> None:
    """Remove a lab: its processes, namespaces and files, also after a crash; nothing else.

    Example: sudo ovsnet lab down --name demo
    """
    from ovsnet.lab.lab import down

    name = name or _open(None).name
    for alone in down(name):
        console(stderr=True).print(f"left alone, not the lab's: {alone}", markup=False)
    console().print(f"lab {name} is gone", markup=False)
