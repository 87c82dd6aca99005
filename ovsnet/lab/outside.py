"""The physical networks of a lab: each a namespace with a switch that hosts' bridges lead to.

There is one station on it: the gateway of every provider network, in its VLAN. The switch is an Open vSwitch in user
space too, since not every kernel knows VLANs.
"""

from __future__ import annotations

import ipaddress
import shutil
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovsnet.lab import netns
from ovsnet.lab.ovs import OvsInstance
from ovsnet.model.types import Model, ProviderNetwork

SWITCH = "br0"


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


def build(specs: Iterable[PhysicalSpec], mark: str) -> None:
    """Make the physical networks that are not there, and start again what has died of their switches."""
    for spec in specs:
        if not netns.names(spec.netns):
            Path(spec.run_dir).mkdir(parents=True, exist_ok=True)
            netns.create(spec.netns, mark)
            netns.quiet_ipv6(spec.netns)
        ovs = OvsInstance(Path(spec.run_dir), netns=spec.netns)
        if ovs.ovsdb_pid is None:
            ovs.start_ovsdb()
        if ovs.vswitchd_pid is None:
            ovs.start_vswitchd()
        ovs.vsctl("--may-exist", "add-br", SWITCH, "--", "set", "Bridge", SWITCH, "datapath_type=netdev")
        for leg in spec.legs:
            ovs.vsctl(
                *("--may-exist", "add-port", SWITCH, leg.interface, *((f"tag={leg.vlan}",) if leg.vlan else ())),
                *("--", "set", "Interface", leg.interface, "type=internal", f"mtu_request={spec.mtu}"),
            )
            netns.configure(spec.netns, leg.interface, addresses=leg.addresses, gateways=())


def connect(bridge: BridgeSpec) -> None:
    """Put the far end of a host's link into the physical network."""
    ovs = OvsInstance(Path(bridge.physical.run_dir), netns=bridge.physical.netns)
    ovs.vsctl("--may-exist", "add-port", SWITCH, bridge.far)


def remove(specs: Iterable[PhysicalSpec]) -> None:
    """Remove physical networks, with the links to them."""
    for spec in specs:
        netns.end(netns.pids_in([spec.netns]))
        netns.delete(spec.netns)
        shutil.rmtree(spec.run_dir, ignore_errors=True)
