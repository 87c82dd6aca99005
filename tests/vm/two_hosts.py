"""Inside the machine: two hypervisors as namespaces, each with its own Open vSwitch on the kernel datapath."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from ovsnet.lab.ovs import OvsInstance

VNI = 5001
TUNNEL = 100  # the OpenFlow port of vxlan0


@dataclass(frozen=True)
class Workload:
    """A namespace with one interface, ``eth0``; its OpenFlow port, names and addresses derive from its number (1-9)."""

    number: int

    @property
    def netns(self) -> str:
        return f"w{self.number}"

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:0{self.number}"

    @property
    def ip(self) -> str:
        return f"192.168.1.{self.number}"

    @property
    def ip6(self) -> str:
        return f"2001:db8::{self.number}"

    def knows(self, peer: Workload) -> None:
        """Give this workload a permanent ARP and ND entry for a peer, so that it never asks for it."""
        for address in (peer.ip, peer.ip6):
            sh(f"ip -n {self.netns} neigh replace {address} lladdr {peer.mac} dev eth0 nud permanent")

    def forget(self) -> None:
        """Empty the ARP and ND caches but for permanent entries, so that the next packet asks again."""
        sh(f"ip -n {self.netns} neigh flush all && ip -n {self.netns} neigh flush all")

    def ping(self, address: str, count: int = 5, interval: float = 0.1) -> int:
        """How many of ``count`` echo requests are answered; ``interval`` is in seconds."""
        command = f"ip netns exec {self.netns} ping -n -q -c {count} -i {interval} -W 1 {address}"
        out = sh(command, check=False)
        return int(out.split(" received")[0].rsplit(None, 1)[-1]) if " received" in out else 0


@dataclass(frozen=True)
class Host:
    """One hypervisor (number 1 or 2): a namespace with an uplink, an Open vSwitch and the bridge ``br-int``."""

    number: int
    ovs: OvsInstance

    @property
    def netns(self) -> str:
        return f"hv{self.number}"

    @property
    def vtep(self) -> str:
        return f"10.0.0.{self.number}"

    @property
    def vtep6(self) -> str:
        return f"fd00::{self.number}"

    def add_flow(self, flow: str) -> None:
        """Add a flow; ovsnet.lab.ovs.OvsError when the switch refuses it."""
        self.ovs.ofctl("add-flow", "br-int", flow)

    def set_flows(self, flows: list[str]) -> None:
        """Replace all flows in one bundle."""
        target = self.ovs.mgmt_target("br-int")
        lines = "\n".join(flows).encode()
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows", target, "-", stdin=lines)

    def plug(self, workload: Workload) -> None:
        """Create the workload's namespace and put the other end of its ``eth0`` into the bridge."""
        n, netns = workload.number, workload.netns
        sh(
            f"ip netns add {netns} && ip -n {netns} link set lo up"
            f" && ip -n {self.netns} link add tap{n} type veth peer name eth0 netns {netns}"
            f" && ip -n {self.netns} link set tap{n} up"
            f" && ip -n {netns} link set eth0 address {workload.mac} up"
            f" && ip -n {netns} addr add {workload.ip}/24 dev eth0"
            f" && ip -n {netns} addr add {workload.ip6}/64 dev eth0 nodad"
        )
        self.ovs.vsctl("add-port", "br-int", f"tap{n}", "--", "set", "interface", f"tap{n}", f"ofport_request={n}")


def sh(command: str, *, check: bool = True) -> str:
    """Run a shell command; returns standard output and error together. Raises RuntimeError with both when it fails."""
    argv = ["bash", "-c", command]
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stdout.strip()}")
    return done.stdout


def build(root: Path) -> tuple[Host, Host]:
    """Two hosts joined by one cable, both addressed in IPv4 and IPv6; no workload and no flow yet."""
    hosts = (Host(1, OvsInstance(root / "1", netns="hv1")), Host(2, OvsInstance(root / "2", netns="hv2")))
    sh(
        "ip netns add hv1 && ip netns add hv2"
        " && ip link add up1 netns hv1 mtu 1600 type veth peer name up2 netns hv2 mtu 1600"
    )
    for host in hosts:
        n = host.number
        sh(
            f"ip -n {host.netns} link set lo up && ip -n {host.netns} link set up{n} up"
            f" && ip -n {host.netns} addr add {host.vtep}/24 dev up{n}"
            f" && ip -n {host.netns} addr add {host.vtep6}/64 dev up{n} nodad"
        )
        host.ovs.start()
        host.ovs.vsctl(
            *("--", "--id=@dp", "create", "Datapath", "datapath_version=unknown"),
            *("--", "set", "Open_vSwitch", ".", "datapaths:system=@dp"),
            *("--", "add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=system", "fail-mode=secure"),
            *("--", "add-port", "br-int", "vxlan0", "--", "set", "interface", "vxlan0", "type=vxlan"),
            *("options:remote_ip=flow", "options:key=flow", f"ofport_request={TUNNEL}"),
        )
    return hosts


def towards(peer: Host) -> str:
    """Actions that send a packet to a host over its IPv4 VTEP."""
    return f"set_field:{VNI}->tun_id,set_field:{peer.vtep}->tun_dst,output:{TUNNEL}"


def towards_v6(peer: Host) -> str:
    """Actions that send a packet to a host over its IPv6 VTEP."""
    return f"set_field:{VNI}->tun_id,set_field:{peer.vtep6}->tun_ipv6_dst,output:{TUNNEL}"


def unicast_flows(local: Workload, remote: Workload, send: str) -> list[str]:
    """Flows at priority 100: unicast from the local workload to the remote one, and what comes back."""
    out = f"priority=100,in_port={local.number},dl_dst={remote.mac}"
    flows = [f"{out},{kind},actions={send}" for kind in ("ip", "ipv6", "arp")]
    return [*flows, f"priority=100,in_port={TUNNEL},tun_id={VNI},dl_dst={local.mac},actions=output:{local.number}"]
