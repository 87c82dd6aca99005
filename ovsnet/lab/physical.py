"""The physical networks of a lab: names and addresses, nothing done."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import msgspec

from ovsnet.model.types import Model, ProviderNetwork

SWITCH = "br0"
"""The bridge of a physical network's switch."""


class Leg(msgspec.Struct, frozen=True):
    """Where the station is on a provider network: its VLAN (0: none) and its addresses there, as ``IP/LENGTH``."""

    vlan: int
    addresses: tuple[str, ...]

    @property
    def interface(self) -> str:
        """The name of its interface."""
        return f"vlan{self.vlan}" if self.vlan else "flat"


class PhysicalSpec(msgspec.Struct, frozen=True):
    """A physical network: its namespace, its switch's directory, its MTU in bytes, and where the station is."""

    netns: str
    run_dir: str
    mtu: int
    legs: tuple[Leg, ...]


class BridgeSpec(msgspec.Struct, frozen=True):
    """A host's bridge to a physical network: ``uplink`` is the host's end of the link, ``far`` the other one."""

    name: str
    physical: PhysicalSpec
    uplink: str
    far: str


def physical_networks(model: Model, prefix: str, base: Path) -> dict[str, PhysicalSpec]:
    """The physical networks that hosts of a model have, by name.

    ``prefix`` is how names of namespaces begin, ``base`` where directories of switches are.
    """
    return {
        name: PhysicalSpec(
            f"{prefix}outside.{name}",
            str(base / name[:20]),
            model.underlay.mtu,
            tuple(_leg(one) for one in model.provider_networks.values() if one.physical == name),
        )
        for name in sorted({name for host in model.hosts.values() for name in host.bridges})
    }


def _leg(declared: ProviderNetwork) -> Leg:
    found = []
    for subnet in declared.subnets:
        if subnet.gateway is not None:
            found.append(f"{subnet.gateway}/{ipaddress.ip_network(subnet.cidr).prefixlen}")
    return Leg(declared.vlan or 0, tuple(found))
