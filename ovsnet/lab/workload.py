"""One workload of a lab: a namespace whose ``eth0`` is a port of the model."""

from __future__ import annotations

from ovsnet.lab import netns
from ovsnet.lab.topology import WorkloadSpec

INTERFACE = "eth0"


def build(workload: WorkloadSpec, host_netns: str, marker: str) -> None:
    """Make the workload's namespace if there is none, and (again) its eth0 with the declared MAC and addresses.

    What runs in the namespace goes on when the port moves to another host.
    """
    if netns.marker_of(workload.netns) is None:
        netns.create(workload.netns, marker)
        netns.quiet_ipv6(workload.netns)
    netns.veth(host_netns, workload.tap, workload.netns, INTERFACE, mtu=workload.mtu, far_mac=workload.mac)
    if not workload.offload:
        netns.checksum_offload_off(workload.netns, INTERFACE)
    netns.configure(workload.netns, INTERFACE, addresses=workload.addresses, gateways=workload.gateways)


def reroute(workload: WorkloadSpec) -> None:
    """Give a running workload the default routes that it should have; nothing else of it changes."""
    netns.default_routes(workload.netns, INTERFACE, workload.gateways)


def remove(workload: WorkloadSpec) -> None:
    """End what runs in the workload and remove its namespace."""
    netns.end(netns.pids_in([workload.netns]))
    netns.delete(workload.netns)
