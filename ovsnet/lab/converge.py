"""From what a lab has to what it should have: makes, changes and removes only what differs or has broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from ovsnet.errors import UserError
from ovsnet.lab import control, management, netns, outside
from ovsnet.lab import host as hosts
from ovsnet.lab import workload as workloads
from ovsnet.lab.record import Record
from ovsnet.lab.topology import HostSpec, Topology, WorkloadSpec, marker, prefix

Progress = Callable[[str, int, int], None]
_T = TypeVar("_T")
_AT_ONCE = 8


@dataclass
class Change:
    """What is to be done: names of hosts and of ports (``VPC/PORT``)."""

    remove_hosts: list[HostSpec] = field(default_factory=list)
    build_hosts: list[HostSpec] = field(default_factory=list)
    remove_workloads: list[WorkloadSpec] = field(default_factory=list)
    build_workloads: list[WorkloadSpec] = field(default_factory=list)
    reroute_workloads: list[WorkloadSpec] = field(default_factory=list)

    @property
    def names(self) -> list[str]:
        """The names of everything that is touched."""
        touched = {host.name for host in [*self.remove_hosts, *self.build_hosts]}
        ports = [*self.remove_workloads, *self.build_workloads, *self.reroute_workloads]
        return sorted(touched | {port.name for port in ports})


def in_parallel(step: str, work: Callable[[_T], object], items: Sequence[_T], progress: Progress) -> None:
    """Do ``work`` for every item, a few at a time; the first failure (or Ctrl-C) cancels what has not begun."""
    if not items:
        return
    pool = ThreadPoolExecutor(_AT_ONCE)
    try:
        progress(step, 0, len(items))
        for done, _ in enumerate(pool.map(work, items), 1):
            progress(step, done, len(items))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def refuse_foreign(lab: str, wanted: Topology) -> None:
    """Raise UserError when a namespace that the lab would make exists and is not the lab's."""
    every = [wanted.underlay, *(h.netns for h in wanted.hosts.values()), *(w.netns for w in wanted.workloads.values())]
    every += [wanted.control.netns] if wanted.control else []
    every += [one.netns for one in wanted.physical.values()]
    for name in set(every) & set(netns.names(prefix(lab))):
        if not netns.is_placeholder(name) and netns.marker_of(name) != marker(lab):
            raise UserError(f"namespace {name} is not this lab's: remove it, or choose another --name.")


def difference(record: Record, wanted: Topology) -> Change:
    """What must be done so that the lab becomes ``wanted``; broken and half-made things are made again."""
    now, pending, change = record.topology, set(record.pending), Change()
    present = set(netns.names(prefix(record.name)))
    underlay_gone = now.underlay not in present or now.mtu != wanted.mtu
    for name, host in now.hosts.items():
        if name not in wanted.hosts:
            change.remove_hosts.append(host)
    for name, host in wanted.hosts.items():
        if underlay_gone or name in pending or now.hosts.get(name) != host or host.netns not in present:
            change.build_hosts.append(host)
    rebuilt = {host.name for host in change.build_hosts}
    for name, workload in now.workloads.items():
        if name not in wanted.workloads:
            change.remove_workloads.append(workload)
    for name, workload in wanted.workloads.items():
        before = now.workloads.get(name)
        same = before is not None and msgspec.structs.replace(before, gateways=workload.gateways) == workload
        fresh = name in pending or not same or workload.host in rebuilt
        if fresh or workload.netns not in present or not netns.has_interface(workload.netns, workloads.INTERFACE):
            change.build_workloads.append(workload)
        elif before != workload:
            change.reroute_workloads.append(workload)
    return change


def converge(record: Record, wanted: Topology, progress: Progress) -> list[str]:
    """Make the lab what ``wanted`` says, telling the record first; returns what had died and was restarted."""
    change = difference(record, wanted)
    now = record.topology
    record.pending = sorted({*record.pending, *change.names})
    record.topology = Topology(
        wanted.lab,
        wanted.underlay,
        wanted.mtu,
        now.hosts | wanted.hosts,
        now.workloads | wanted.workloads,
        wanted.control,
        now.physical | wanted.physical,
    )
    record.write()
    mark = marker(record.name)
    in_parallel("removing hosts", hosts.remove, change.remove_hosts, progress)
    outside.remove(one for name, one in now.physical.items() if wanted.physical.get(name) != one)
    _underlay(wanted, mark)
    restarted: list[str] = []
    if wanted.control is not None:
        progress("control plane", 0, 1)
        restarted += control.bring(wanted.control, wanted.underlay, wanted.hosts.values(), mark)
        progress("control plane", 1, 1)
    built = {host.name for host in change.build_hosts}

    def ready(host: HostSpec) -> None:
        if host.name in built:
            hosts.build(host, wanted.underlay, mark)
        else:
            restarted.extend(f"{host.name}: {what}" for what in hosts.repair(host))
            if host.management is not None and management.partitioned(wanted.underlay, host.management):
                management.heal(wanted.underlay, host.management)
        if record.agents and hosts.agent_pid(host) is None:
            hosts.start_agent(host)
            if host.name not in built:
                restarted.append(f"{host.name}: agent")

    in_parallel("hosts", ready, list(wanted.hosts.values()), progress)
    _plug_out(wanted, change)
    in_parallel("removing ports", workloads.remove, change.remove_workloads, progress)

    def connect(workload: WorkloadSpec) -> None:
        workloads.build(workload, wanted.hosts[workload.host].netns, mark)

    in_parallel("ports", connect, change.build_workloads, progress)
    in_parallel("routes", workloads.reroute, change.reroute_workloads, progress)
    _plug_in(wanted, progress)
    record.topology, record.pending = wanted, []
    record.write()
    return restarted


def warm(topology: Topology, progress: Progress) -> None:
    """Let every host resolve every other VTEP, once the tunnel ports are there."""
    everybody = list(topology.hosts.values())
    in_parallel("tunnels", lambda host: hosts.warm(host, _peers(host, topology)), everybody, progress)


def _peers(host: HostSpec, wanted: Topology) -> list[str]:
    others = [peer.vtep for peer in wanted.hosts.values() if peer is not host]
    return [vtep for vtep in others if (":" in vtep) == (":" in host.vtep)]


def _underlay(wanted: Topology, mark: str) -> None:
    if not netns.has_interface(wanted.underlay, "br0"):
        netns.delete(wanted.underlay)
        netns.create(wanted.underlay, mark)
        netns.leave_to_switch(wanted.underlay)
        netns.bridge(wanted.underlay, "br0", mtu=wanted.mtu)
    outside.build(wanted.physical.values(), mark)
    if wanted.control is not None:
        management.build(wanted.underlay)


def _plug_out(wanted: Topology, change: Change) -> None:
    """Take out the ports that go, move or change, on every host that existed before."""
    built = {host.name for host in change.build_hosts}
    again = {workload.tap for workload in change.build_workloads}
    for name, host in wanted.hosts.items():
        if name not in built and (change.remove_workloads or change.build_workloads):
            stays = {w.tap for w in wanted.workloads.values() if w.host == name and w.tap not in again}
            hosts.keep_only(host, stays)


def _plug_in(wanted: Topology, progress: Progress) -> None:
    """Plug every port in; for one that is plugged already nothing changes."""
    by_host: dict[str, list[WorkloadSpec]] = {}
    for workload in wanted.workloads.values():
        by_host.setdefault(workload.host, []).append(workload)
    in_parallel("plugging", lambda name: hosts.plug(wanted.hosts[name], by_host[name]), list(by_host), progress)
