"""``ovsnet port``: the ports of a model, and how to plug one in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from xml.etree import ElementTree

import typer

from ovsnet.cli import names
from ovsnet.cli.common import AsJson, SiteFile, console, print_json, write

Files = Annotated[list[Path], typer.Option("--model", "-m", metavar="MODEL", help="Model files; may be repeated.")]

app = typer.Typer(help="The ports of a model, and how to plug one in.", no_args_is_help=True)


@app.command("list")
def list_command(
    model: Files,
    vpc: Annotated[str | None, typer.Option("--vpc", help="Only this VPC's.", autocompletion=names.vpcs)] = None,
    host: Annotated[
        str | None, typer.Option("--host", "-H", help="Only those placed on this host.", autocompletion=names.hosts)
    ] = None,
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """List the ports of a model with their hosts, addresses and ids (the iface-id of the interface).

    Example: ovsnet port list --model examples/models/demo.yaml --host hv1
    """
    from ovsnet.model import load

    rows = [
        {
            "name": f"{key}/{name}",
            "network": port.network,
            "host": port.host,
            "mac": port.mac,
            "ips": None if port.ips is None else list(port.ips),
            "id": port.id,
        }
        for key, one in load(model, site).vpcs.items()
        for name, port in one.ports.items()
        if vpc in {None, key} and host in {None, port.host}
    ]
    if as_json:
        print_json(rows)
    else:
        _print_table(rows)


def _print_table(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table("port", "network", "host", "mac", "ips", "id", box=None, pad_edge=False, header_style="bold")
    for row in rows:
        ips = "not assigned yet" if row["ips"] is None else " ".join(row["ips"])
        table.add_row(row["name"], row["network"], row["host"] or "-", row["mac"], ips, row["id"])
    out = console()
    if not out.is_terminal:
        out.width = 1000  # a pipe has no width: rows stay whole there
    out.print(table)


@app.command("xml")
def xml_command(
    name: Annotated[
        str,
        typer.Argument(metavar="PORT", help="VPC/PORT, or PORT where only one VPC has it.", autocompletion=names.ports),
    ],
    model: Files,
    bridge: Annotated[str, typer.Option("--bridge", help="The integration bridge.")] = "br-int",
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Print libvirt's interface element for a port: put it into the domain's devices.

    The interface id in it is what binds the virtual NIC to the port, whatever the interface is called.

    Example: ovsnet port xml shop/web1 --model examples/models/two-hosts.yaml
    """
    from ovsnet.model import load
    from ovsnet.model.names import find_port, port_mtu

    declared = load(model, site)
    vpc, port_name, port = find_port(declared, name)
    mtu = port_mtu(declared, vpc, port)
    if as_json:
        print_json({"name": f"{vpc}/{port_name}", "bridge": bridge, "iface-id": port.id, "mac": port.mac, "mtu": mtu})
    else:
        write(interface_xml(port.id, str(port.mac), bridge, mtu))


def interface_xml(iface_id: str, mac: str, bridge: str, mtu: int) -> str:
    """A libvirt ``<interface>`` that plugs into Open vSwitch (libvirt, "Domain XML format", Bridge to LAN)."""
    interface = ElementTree.Element("interface", type="bridge")
    ElementTree.SubElement(interface, "mac", address=mac)
    ElementTree.SubElement(interface, "source", bridge=bridge)
    virtualport = ElementTree.SubElement(interface, "virtualport", type="openvswitch")
    ElementTree.SubElement(virtualport, "parameters", interfaceid=iface_id)
    ElementTree.SubElement(interface, "model", type="virtio")
    ElementTree.SubElement(interface, "mtu", size=str(mtu))
    ElementTree.indent(interface)
    return ElementTree.tostring(interface, encoding="unicode") + "\n"
