"""What the switch's database says, as facts, and what of it is not as VPCs need it. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.model.types import VpcState
from ovsnet.ovsdb import SwitchState


def facts_of(state: SwitchState) -> Facts:
    """The compiler's facts from those of the database: only interfaces that work count."""
    return Facts(
        ofports={iface: i.ofport for iface, i in state.interfaces.items() if i.ofport is not None},
        tunnel_ofport=None if state.tunnel is None else state.tunnel.ofport,
        nd_responder=state.nd_responder,
        bridges={name: patch.ofport for name, patch in state.patches.items() if patch.ofport is not None},
    )


def bridges_of(states: Iterable[VpcState], host: str) -> dict[str, str]:
    """The bridges of a host that VPCs need, each with a provider network that it leads to."""
    return {
        outside.bridges[host]: name
        for state in states
        for name, outside in state.provider_networks.items()
        if host in outside.bridges
    }


def missing_bridges(states: Iterable[VpcState], host: str, switch: SwitchState) -> list[str]:
    """The bridges that VPCs need and the switch does not have, in words."""
    return [
        f"there is no bridge {bridge}, which leads to provider network {name}"
        for bridge, name in sorted(bridges_of(states, host).items())
        if switch.exists and bridge not in switch.bridges
    ]
