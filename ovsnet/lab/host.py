"""One hypervisor of a lab: its namespace, its Open vSwitch, its uplink, its agent, and the ports plugged into it."""

from __future__ import annotations

import shutil
import signal
import sys
import time
import uuid
from collections.abc import Collection, Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path

from ovsnet.lab import management, netns, outside
from ovsnet.lab.daemon import Daemon
from ovsnet.lab.ovs import OvsError, OvsInstance
from ovsnet.lab.patience import PATIENCE
from ovsnet.lab.topology import AGENT_PORT, HostSpec, WorkloadSpec

INTEGRATION = "br-int"
UPLINK = "uplink"
_PLUGGED = "external_ids:ovsnet-lab=port"


def ovs_of(host: HostSpec) -> OvsInstance:
    """The host's Open vSwitch."""
    return OvsInstance(Path(host.run_dir), netns=host.netns)


def build(host: HostSpec, underlay: str, marker: str) -> None:
    """Make the host: namespace, uplink to the underlay, switch, bridges, VTEP. Whatever was there is removed."""
    remove(host)
    Path(host.run_dir).mkdir(parents=True)
    _boot(host, underlay, marker)


def _boot(host: HostSpec, underlay: str, marker: str) -> None:
    """Everything of a host up to its agent, from what its disk holds."""
    _boot_id(host).write_text(f"{uuid.uuid4()}\n")
    netns.create(host.netns, marker)
    netns.quiet_ipv6(host.netns)
    netns.leave_to_switch(host.netns)
    netns.veth(host.netns, UPLINK, underlay, host.uplink, mtu=host.mtu)
    netns.enslave(underlay, host.uplink, "br0")
    if host.management is not None:
        management.attach(host.netns, underlay, host.management)
    for bridge in host.bridges:
        netns.veth(host.netns, bridge.uplink, bridge.physical.netns, bridge.far, mtu=bridge.physical.mtu)
        outside.connect(bridge)
    ovs = ovs_of(host).start()
    add_bridges(ovs, host)
    configure_vtep(host)


def _boot_id(host: HostSpec) -> Path:
    """Tells one boot of the host from another, as /proc/sys/kernel/random/boot_id does on a machine."""
    return Path(host.run_dir) / "boot-id"


def add_bridges(ovs: OvsInstance, host: HostSpec) -> None:
    """Make the bridge to the underlay, the (still empty) integration bridge, and those to physical networks."""
    kind = f"datapath_type={host.datapath}"
    ovs.vsctl(
        *("--may-exist", "add-br", "br-phy", "--", "set", "Bridge", "br-phy", kind),
        *("--", "--may-exist", "add-port", "br-phy", UPLINK),
        *("--", "set", "Interface", "br-phy", f"mtu_request={host.mtu}"),
        *("--", "--may-exist", "add-br", INTEGRATION, "--", "set", "Bridge", INTEGRATION, kind, "fail_mode=secure"),
    )
    for bridge in host.bridges:
        ovs.vsctl(
            *("--may-exist", "add-br", bridge.name, "--", "set", "Bridge", bridge.name, kind),
            *("--", "--may-exist", "add-port", bridge.name, bridge.uplink),
        )


def configure_vtep(host: HostSpec) -> None:
    """Put the VTEP address on the underlay bridge's own port: user-space tunnels look for it there, not on the uplink.

    Its prefix is /0: every other VTEP is on the link, whatever the addresses are, and OVS takes a route for its tunnels
    only if an address of the device covers the destination.
    """
    everything = "::" if ":" in host.vtep else "0.0.0.0"
    if ":" in host.vtep:
        netns.sysctl(host.netns, {"ipv6/conf/br-phy/disable_ipv6": "0"})
    netns.configure(host.netns, "br-phy", addresses=[f"{host.vtep}/0"], gateways=[everything])


def warm(host: HostSpec, peers: Iterable[str], patience: float = 3.0 * PATIENCE) -> None:
    """Let the host resolve each other VTEP, and wait until its switch knows them (at most ``patience`` seconds).

    A user-space datapath drops the first frame to a neighbour it does not know. It learns them from the answers to the
    kernel's questions, once it has a tunnel port. The kernel's datapath needs none of that.
    """
    if host.datapath != "netdev":
        return
    deadline = time.monotonic() + patience
    missing = set(peers)
    while missing:
        netns.resolve(host.netns, "br-phy", missing)
        for _ in range(5):
            time.sleep(0.01)
            missing -= _neighbours(host)
            if not missing or time.monotonic() > deadline:
                return


def _neighbours(host: HostSpec) -> set[str]:
    """The VTEPs whose MACs the host's switch knows."""
    lines = ovs_of(host).appctl("tnl/neigh/show").splitlines()[2:]
    return {str(ip_address(line.split()[0])) for line in lines if line.strip()}


def repair(host: HostSpec) -> list[str]:
    """Restart what has died of a host's switch; returns what was restarted."""
    ovs, done = ovs_of(host), []
    if ovs.ovsdb_pid is None:
        ovs.start_ovsdb()
        done.append("ovsdb-server")
    if ovs.vswitchd_pid is None:
        ovs.start_vswitchd()
        done.append("ovs-vswitchd")
    if done:
        add_bridges(ovs, host)
        configure_vtep(host)
    return done


def remove(host: HostSpec) -> None:
    """End the host's processes, remove its namespace and its run directory."""
    netns.end(netns.pids_in([host.netns]))
    netns.delete(host.netns)
    shutil.rmtree(host.run_dir, ignore_errors=True)


def keep_only(host: HostSpec, taps: Collection[str]) -> None:
    """Unplug every port that the lab plugged in, except ``taps``."""
    ovs = ovs_of(host)
    if ovs.ovsdb_pid is None:
        return
    listed = ovs.vsctl("--bare", "--columns=name", "find", "Interface", _PLUGGED).split()
    words = [word for tap in listed if tap not in taps for word in ("--", "--if-exists", "del-port", INTEGRATION, tap)]
    if words:
        ovs.vsctl(*words[1:])


def plug(host: HostSpec, workloads: Iterable[WorkloadSpec]) -> None:
    """Plug workloads into the integration bridge, as libvirt does: ``external_ids:iface-id`` is the port's id."""
    words: list[str] = []
    for workload in workloads:
        words += ["--", "--may-exist", "add-port", INTEGRATION, workload.tap, "--", "set", "Interface", workload.tap]
        words += [f"external_ids:iface-id={workload.id}", _PLUGGED, f'external_ids:attached-mac="{workload.mac}"']
    if words:
        ovs_of(host).vsctl(*words[1:])


def agent_of(host: HostSpec) -> Daemon:
    """The host's agent, running or not."""
    return Daemon(host.run_dir, "agent")


def start_agent(host: HostSpec, environment: Mapping[str, str] | None = None) -> int:
    """Start the host's agent; returns its process id. It is ready when its socket answers, not yet now."""
    run_dir = Path(host.run_dir)
    command = [sys.executable, "-m", "ovsnet.agent.main", "--host", host.name, "--vtep", host.vtep]
    command += ["--ovsdb", ovs_of(host).db_target, "--bridge", INTEGRATION, "--datapath", host.datapath]
    command += ["--encapsulation", host.encapsulation, "--underlay-mtu", str(host.mtu)]
    command += ["--run-dir", str(run_dir), "--state-dir", str(run_dir / "state"), *_reached_by(host)]
    command += ["--boot-id-file", str(_boot_id(host))]
    return agent_of(host).start(host.netns, command, {"OVS_RUNDIR": host.run_dir, **(environment or {})})


def _reached_by(host: HostSpec) -> list[str]:
    """The agent's options for those who tell it something from elsewhere."""
    if host.management is None:
        return []
    tls = Path(host.management.tls_dir)
    words = ["--listen", f"[{host.management.address}]:{AGENT_PORT}", "--tls-cert", str(tls / "cert.pem")]
    words += ["--tls-key", str(tls / "key.pem"), "--tls-ca", str(tls / "callers-ca.pem")]
    return words + bus_options(host.bus, host.management.tls_dir)


def bus_options(bus: str, tls_dir: str) -> list[str]:
    """The options of whoever uses the message bus; ``bus`` is its URL, or empty."""
    words = ["--nats", bus] if bus else []
    if bus.startswith("tls:"):
        for option, file in (("cert", "cert"), ("key", "key"), ("ca", "callers-ca")):
            words += [f"--nats-{option}", f"{tls_dir}/{file}.pem"]
    return words


def agent_pid(host: HostSpec) -> int | None:
    """The running agent's process id, or ``None``."""
    return agent_of(host).pid


def kill_agent(host: HostSpec, sig: int = signal.SIGKILL) -> None:
    """End the agent's main process with a signal and wait until it is gone; flows stay."""
    agent_of(host).kill(sig)


_ROUNDS = 3
"""How often processes are looked for to be ended: one that ends may just have started another."""


def power_off(host: HostSpec, underlay: str) -> None:
    """Take the host's power: its processes end at once, and with its kernel go interfaces and flows. The disk stays.

    On it are OVSDB's file and what the agent was told; sockets and process ids were in memory. The other ends of the
    host's links are removed here: the kernel ends a namespace when it gets round to it, which may take long.
    """
    for _ in range(_ROUNDS):
        netns.end(netns.pids_in([host.netns]), signal.SIGKILL)
    netns.unplug(underlay, host.uplink)
    for bridge in host.bridges:
        netns.unplug(bridge.physical.netns, bridge.far)
    if host.management is not None:
        netns.unplug(underlay, host.management.link)
    netns.delete(host.netns)
    for path in Path(host.run_dir).iterdir():
        if path.suffix in {".pid", ".ctl", ".sock", ".mgmt", ".lab-pid", ".snoop"} or path.is_socket():
            path.unlink(missing_ok=True)


def power_on(host: HostSpec, underlay: str, marker: str) -> None:
    """Start the host again from its disk: another boot of the machine, with the agent that starts with it.

    Workloads are not plugged in yet. Raises FileNotFoundError when the host was never built.
    """
    _boot(host, underlay, marker)
    start_agent(host)


def powered(host: HostSpec) -> bool:
    """Whether the host has power."""
    return bool(netns.names(host.netns))


def restart_vswitchd(host: HostSpec, sig: int = signal.SIGKILL) -> None:
    """Kill ovs-vswitchd and start it again; the agent is not told."""
    ovs = ovs_of(host)
    ovs.stop_vswitchd(sig)
    for _ in range(100):
        try:
            ovs.start_vswitchd()
            break
        except OvsError:
            time.sleep(0.05)
    configure_vtep(host)
