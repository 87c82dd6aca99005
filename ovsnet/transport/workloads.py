"""A workload: all NICs of one machine, in whatever VPCs, declared and taken away together. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ovsnet.errors import UserError
from ovsnet.model.types import Network, Port, VpcState
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.edits import UnknownObjectError, change, filled_network, filled_port, new_vpc, with_vteps


class Nic(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One port of a workload, ``VPC/NAME``; ``network`` declares its network along with it."""

    vpc: str
    name: str
    port: Port
    network: Network | None = None


class Workload(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """All NICs of a machine. ``hosts``: VTEPs of hosts that the ports name."""

    nics: tuple[Nic, ...]
    hosts: dict[str, str] = {}


def workload_of(states: Mapping[str, VpcState], ident: str) -> Workload:
    """A workload as it is held. Raises UnknownWorkloadError."""
    nics = [Nic(vpc, name, port) for vpc, name, port in _held(states, ident)]
    if not nics:
        raise UnknownWorkloadError(ident)
    named = {(nic.vpc, host) for nic in nics for host in (nic.port.host, nic.port.moving_to) if host}
    return Workload(tuple(nics), {host: states[vpc].hosts[host] for vpc, host in sorted(named)})


class UnknownWorkloadError(UnknownObjectError):
    """No port belongs to such a workload."""

    def __init__(self, ident: str) -> None:
        UserError.__init__(self, f"no port here belongs to a workload {ident}")
        self.code = "unknown-workload"


def put_workload(
    states: Mapping[str, VpcState], ident: str, workload: Workload, owner: str, known: Mapping[str, str]
) -> dict[str, PatchBody]:
    """The patches, by VPC, after which a workload has these NICs and no others; what is so already is left out.

    A VPC that is not held begins at revision 0, of ``owner``; ``known`` are VTEPs by host, beside the workload's own.
    Raises UserError for a NIC that stands there twice.
    """
    wanted = {(nic.vpc, nic.name): nic for nic in workload.nics}
    if len(wanted) != len(workload.nics):
        raise UserError(f"workload {ident} has a NIC twice. Name each VPC/PORT once")
    ports: dict[str, dict[str, Port | None]] = {}
    networks: dict[str, dict[str, Network]] = {}
    for vpc, name, _ in _held(states, ident):
        if (vpc, name) not in wanted:
            ports.setdefault(vpc, {})[name] = None
    for (vpc, name), nic in wanted.items():
        state = states.get(vpc) or new_vpc(vpc, owner)
        port = msgspec.structs.replace(nic.port, workload=ident)
        ports.setdefault(vpc, {})[name] = filled_port(vpc, name, port, state.ports.get(name))
        if nic.network is not None:
            held = state.networks.get(nic.port.network)
            networks.setdefault(vpc, {})[nic.port.network] = filled_network(nic.network, held)
    patches = {}
    for vpc, changed in ports.items():
        state = states.get(vpc) or new_vpc(vpc, owner)
        named = {host for port in changed.values() if port for host in (port.host, port.moving_to)}
        hosts = {host: vtep for host, vtep in workload.hosts.items() if host in named}
        patch = with_vteps(state, change(state, ports=changed, networks=networks.get(vpc, {}), hosts=hosts), known)
        if patch is not None:
            patches[vpc] = patch
    return patches


def delete_workload(states: Mapping[str, VpcState], ident: str) -> dict[str, PatchBody]:
    """The patches, by VPC, that take all NICs of a workload away."""
    return put_workload(states, ident, Workload(()), "", {})


def _held(states: Mapping[str, VpcState], ident: str) -> list[tuple[str, str, Port]]:
    return [
        (vpc, name, port)
        for vpc, state in sorted(states.items())
        for name, port in sorted(state.ports.items())
        if port.workload == ident
    ]
