"""The physical networks of a lab: each a namespace with a switch that hosts' bridges lead to.

There is one station on it: the gateway of every provider network, in its VLAN. The switch is an Open vSwitch in user
space too, since not every kernel knows VLANs.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from ovsnet.lab import netns
from ovsnet.lab.ovs import OvsInstance
from ovsnet.lab.physical import SWITCH, BridgeSpec, PhysicalSpec


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
