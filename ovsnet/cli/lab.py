"""``ovsnet lab ...``: a declared cloud on this machine."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli import names
from ovsnet.cli.common import AsJson, ModelFiles, SiteFile, console, print_json, write
from ovsnet.cli.live import progress_bar
from ovsnet.errors import EXIT_NO, needing

if TYPE_CHECKING:
    from ovsnet.lab.lab import Lab

app = typer.Typer(
    help="A declared cloud on this machine: every host a namespace with its own Open vSwitch and agent. Needs root.",
    no_args_is_help=True,
)


class TransportName(StrEnum):
    """Who tells the agents what their hosts should hold."""

    DIRECT = "direct"
    CONTROLLER = "controller"
    NATS = "nats"


LabName = Annotated[
    str | None,
    typer.Option("--name", help="The lab's name; left out: the only one that runs.", autocompletion=names.labs),
]


HostName = Annotated[str, typer.Argument(metavar="HOST", help="A host of the lab.", autocompletion=names.hosts)]
Part = Annotated[
    str,
    typer.Argument(metavar="WHAT", help="controller, nats, or a host, whose agent it is.", autocompletion=names.parts),
]


@app.command()
def up(
    model: ModelFiles,
    name: Annotated[str | None, typer.Option("--name", help="The lab's name; left out: the model's.")] = None,
    site: SiteFile = None,
    datapath: Annotated[
        str, typer.Option("--datapath", help="netdev (user space) or system (the kernel's openvswitch module).")
    ] = "netdev",
    transport: Annotated[
        TransportName,
        typer.Option("--transport", help="Who tells the agents: the lab, a controller, or a controller over NATS."),
    ] = TransportName.DIRECT,
    as_json: AsJson = False,
) -> None:
    """Bring a lab up, or an existing one to a changed model; what is unchanged goes on as it is.

    What the model leaves out is assigned and kept in MODEL.lock.yaml. Ctrl-C takes back what was begun.

    Examples: ovsnet lab up examples/models/demo.yaml · ovsnet lab up my.yaml --name second --transport nats
    """
    from ovsnet.errors import UserError
    from ovsnet.model import load_assigned

    with needing("lab"):
        from ovsnet.lab.lab import Lab

    if datapath not in {"netdev", "system"}:
        raise UserError(f"--datapath {datapath}: give netdev or system.")
    declared = load_assigned(model, site, write=True)
    try:
        with progress_bar() as progress:
            lab = Lab.up(declared, name, datapath=datapath, transport=transport.value, progress=progress)
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted: taken back what was begun.\n")
        raise typer.Exit(130) from None
    status = lab.status()
    if as_json:
        print_json(status)
        return
    write(f"lab {lab.name}: {len(status['hosts'])} hosts, {len(status['ports'])} ports, all in force.\n")
    if status["ports"]:
        first = next(iter(status["ports"]))
        option = "" if _only(lab.name) else f" --name {lab.name}"
        write(f"Try: ovsnet lab exec{option} {first} -- ip addr · ovsnet lab test{option} · ovsnet lab down{option}\n")


@app.command(name="exec")
def exec_command(
    port: Annotated[
        str,
        typer.Argument(
            metavar="PORT", help="The port whose workload it is: VPC/PORT, or PORT.", autocompletion=names.ports
        ),
    ],
    command: Annotated[list[str], typer.Argument(metavar="-- CMD...", help="The command and its arguments.")],
    name: LabName = None,
) -> None:
    """Run a command in a port's workload; the exit code is the command's.

    Example: ovsnet lab exec red/web1 -- ping -c 3 192.168.1.13
    """
    raise typer.Exit(_lab(name).exec(port, command))


@app.command()
def test(name: LabName = None, as_json: AsJson = False) -> None:
    """Send packets from every port to every other, and compare what arrives with the model.

    Exit code 0: all is as declared; 1: something differs.

    Example: ovsnet lab test --json
    """
    lab = _lab(name)
    from ovsnet.lab.report import show

    with progress_bar() as progress:
        result = lab.test(progress=progress)
    if as_json:
        print_json(result.as_dict())
    else:
        show(result, console())
    if not result.ok:
        raise typer.Exit(EXIT_NO)


@app.command()
def status(name: LabName = None, as_json: AsJson = False) -> None:
    """Show the lab's hosts, with processes and enforced revisions, and its ports.

    Exit code 0: everything runs and is in force; 1: something is not.

    Example: ovsnet lab status --json
    """
    seen = _lab(name).status()
    if as_json:
        print_json(seen)
    else:
        _print_status(seen)
    if not seen["healthy"]:
        raise typer.Exit(EXIT_NO)


@app.command()
def down(name: LabName = None) -> None:
    """Remove a lab: its processes, namespaces and files, and nothing else. Works after a crash as well.

    Example: ovsnet lab down --name second
    """
    with needing("lab"):
        from ovsnet.lab.lab import down as remove

    left = remove(name or _running())
    if left:
        sys.stderr.write(f"Left alone, as they are not the lab's: {', '.join(left)}\n")
        raise typer.Exit(EXIT_NO)


@app.command()
def kill(what: Part, name: LabName = None) -> None:
    """Kill the controller, the nats-server, or the agent of a host, at once (SIGKILL). `ovsnet lab start` undoes it.

    Examples: ovsnet lab kill controller · ovsnet lab kill hv1
    """
    lab = _lab(name)
    if what == "controller":
        lab.kill_controller()
    elif what == "nats":
        lab.kill_nats()
    else:
        lab.kill_agent(what)


@app.command()
def start(what: Part, name: LabName = None) -> None:
    """Start the controller, the nats-server, or the agent of a host, if it does not run.

    Examples: ovsnet lab start nats · ovsnet lab start hv1
    """
    lab = _lab(name)
    if what == "controller":
        lab.start_controller()
    elif what == "nats":
        lab.start_nats()
    else:
        lab.start_agent(what)


@app.command()
def partition(host: HostName, name: LabName = None) -> None:
    """Cut a host off from the control plane. Its tenants' packets go on; `ovsnet lab heal` connects it again.

    Example: ovsnet lab partition hv1
    """
    _lab(name).partition(host)


@app.command()
def heal(host: HostName, name: LabName = None) -> None:
    """Connect a host to the control plane again.

    Example: ovsnet lab heal hv1
    """
    _lab(name).heal(host)


@app.command(name="power-off")
def power_off(host: HostName, name: LabName = None) -> None:
    """Take a host's power: processes, workloads and flows are gone at once, its disk stays.

    Example: ovsnet lab power-off hv1
    """
    _lab(name).power_off(host)


@app.command(name="power-on")
def power_on(host: HostName, name: LabName = None) -> None:
    """Start a host that is off, from its disk. Its ports stay down until their placements are confirmed.

    Example: ovsnet lab power-on hv1
    """
    _lab(name).power_on(host)


def _running() -> str:
    """The name of the only lab that runs. Raises UserError if there are none or several."""
    from ovsnet.errors import UserError
    from ovsnet.lab.record import labs

    found = labs()
    if len(found) != 1:
        which = f"Several labs run: {', '.join(found)}. Choose one with --name." if found else "No lab runs."
        raise UserError(which)
    return found[0]


def _only(name: str) -> bool:
    from ovsnet.lab.record import labs

    return labs() == [name]


def _lab(name: str | None) -> Lab:
    with needing("lab"):
        from ovsnet.lab.lab import Lab

    return Lab.open(name or _running())


def _print_status(seen: dict[str, Any]) -> None:
    from rich.table import Table

    out = console()
    hosts = Table("host", "vtep", "agent", "vswitchd", "revision", "run directory", box=None)
    for name, host in seen["hosts"].items():
        numbers = [str(host[key] or "-") for key in ("agent_pid", "vswitchd_pid", "revision")]
        hosts.add_row(name, host["vtep"], *numbers, host["run_dir"])
    ports = Table("port", "host", "mac", "addresses", box=None)
    for name, port in seen["ports"].items():
        ports.add_row(name, port["host"], port["mac"], " ".join(port["addresses"]))
    out.print(hosts, "", ports)
    if seen["control"]:
        running = " · ".join(f"{what} {pid or '-'}" for what, pid in seen["control"].items())
        out.print(f"\ntransport {seen['transport']}: {running}", markup=False)
    for problem in seen["problems"]:
        out.print(problem, style="red", markup=False)
    if seen["problems"]:
        out.print("`ovsnet lab up MODEL` repairs it.")
