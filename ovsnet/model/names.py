"""Ports as people name them: ``VPC/PORT``, or ``PORT`` where that is unambiguous."""

from __future__ import annotations

from difflib import get_close_matches

from ovsnet.errors import UserError, shown
from ovsnet.model.types import Model, Port

TUNNEL_OVERHEAD = {4: 50, 6: 70}
"""Bytes that a tunnel adds to an inner packet, by the underlay's IP version: inner Ethernet, VXLAN (RFC 7348) or Geneve
without options (RFC 8926), which are as long, UDP, IP."""


def resolve_port(model: Model, name: str) -> str:
    """The full name, ``VPC/PORT``. Raises UserError for a port that does not exist or that several VPCs have."""
    vpc, port, _ = find_port(model, name)
    return f"{vpc}/{port}"


def find_port(model: Model, name: str) -> tuple[str, str, Port]:
    """VPC, name and declaration of a port. Raises as :func:`resolve_port`."""
    vpc_name, slash, port_name = name.partition("/")
    if slash:
        vpc = model.vpcs.get(vpc_name)
        if vpc is not None and port_name in vpc.ports:
            return vpc_name, port_name, vpc.ports[port_name]
        raise _unknown(model, name)
    owners = sorted(key for key, vpc in model.vpcs.items() if name in vpc.ports)
    if not owners:
        raise _unknown(model, name)
    if len(owners) > 1:
        choices = ", ".join(f"{owner}/{name}" for owner in owners)
        raise UserError(f"{shown(name)} is a port of several VPCs. Name one of: {choices}.")
    return owners[0], name, model.vpcs[owners[0]].ports[name]


def _unknown(model: Model, name: str) -> UserError:
    full = [f"{key}/{port}" for key, vpc in model.vpcs.items() for port in vpc.ports]
    known = full if "/" in name else sorted({one.partition("/")[2] for one in full})
    close = get_close_matches(name, known, n=1)
    hint = f"Did you mean {shown(close[0])}?" if close else "'ovsnet port list' shows those there are."
    return UserError(f"There is no port {shown(name)} in model {model.name}. {hint}")


def port_mtu(model: Model, vpc: str, port: Port) -> int:
    """The MTU in bytes of a port's interface: its network's, or what fits into the underlay beside tunnel headers.

    An unplaced port counts as on the hosts of its VPC's other ports; without any, IPv6 tunnels are assumed.
    """
    hosts = [port.host, *(other.host for other in model.vpcs[vpc].ports.values())]
    vtep = next((model.hosts[host].vtep for host in hosts if host is not None), "::")
    network = model.vpcs[vpc].networks[port.network]
    return network.mtu or inner_mtu(model.underlay.mtu, vtep)


def inner_mtu(mtu: int, vtep: str) -> int:
    """What fits into an underlay of ``mtu`` bytes, through tunnels between VTEPs of the family of ``vtep``."""
    return mtu - TUNNEL_OVERHEAD[6 if ":" in vtep else 4]
