"""Inside the machine: two hypervisors as namespaces, each with its own Open vSwitch on the kernel datapath."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ovsnet.lab.ovs import OvsInstance

VNI = 5001
TUNNEL = 1  # the OpenFlow port of vxlan0
WORKLOAD = 2  # the OpenFlow port of the host's one workload


@dataclass(frozen=True)
class Host:
    """One hypervisor with one workload; ``number`` is 1 or 2, and every name and address derives from it."""

    number: int
    ovs: OvsInstance

    @property
    def netns(self) -> str:
        return f"hv{self.number}"

    @property
    def workload(self) -> str:
        return f"w{self.number}"

    @property
    def vtep(self) -> str:
        return f"10.0.0.{self.number}"

    @property
    def vtep6(self) -> str:
        return f"fd00::{self.number}"

    @property
    def mac(self) -> str:
        return f"02:00:00:00:00:0{self.number}"

    @property
    def ip(self) -> str:
        return f"192.168.1.{self.number}"

    @property
    def ip6(self) -> str:
        return f"2001:db8::{self.number}"

    def add_flow(self, flow: str) -> None:
        """Add a flow; ovs.OvsError when the switch refuses it."""
        self.ovs.ofctl("add-flow", "br-int", flow)

    def del_flows(self, match: str) -> None:
        self.ovs.ofctl("del-flows", "br-int", match)

    def set_flows(self, flows: list[str]) -> None:
        """Replace all flows in one bundle."""
        target = self.ovs.mgmt_target("br-int")
        lines = "\n".join(flows).encode()
        self.ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows", target, "-", stdin=lines)

    def forget_neighbours(self) -> None:
        """Empty the workload's ARP and ND caches, so that the next packet asks again."""
        sh(f"ip -n {self.workload} neigh flush all")


def sh(command: str, *, check: bool = True) -> str:
    """Run a shell command; returns standard output and error together. Raises RuntimeError with both when it fails."""
    done = subprocess.run(["bash", "-c", command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{command}: {done.stdout.strip()}")
    return done.stdout


def build(root: Path) -> tuple[Host, Host]:
    """Two hosts joined by one cable, both addressed in IPv4 and IPv6, no flow installed yet."""
    hosts = (Host(1, OvsInstance(root / "1", netns="hv1")), Host(2, OvsInstance(root / "2", netns="hv2")))
    for host in hosts:
        sh(f"ip netns add {host.netns}; ip netns add {host.workload}")
    sh("ip link add up1 netns hv1 mtu 1600 type veth peer name up2 netns hv2 mtu 1600")
    for host in hosts:
        n = host.number
        sh(
            f"ip -n {host.netns} link set lo up && ip -n {host.netns} link set up{n} up"
            f" && ip -n {host.netns} addr add {host.vtep}/24 dev up{n}"
            f" && ip -n {host.netns} addr add {host.vtep6}/64 dev up{n} nodad"
            f" && ip -n {host.netns} link add tap{n} type veth peer name eth0 netns {host.workload}"
            f" && ip -n {host.netns} link set tap{n} up"
            f" && ip -n {host.workload} link set eth0 address {host.mac} up"
            f" && ip -n {host.workload} addr add {host.ip}/24 dev eth0"
            f" && ip -n {host.workload} addr add {host.ip6}/64 dev eth0 nodad"
        )
        host.ovs.start()
        host.ovs.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=system", "fail-mode=secure")
        host.ovs.vsctl(
            *("add-port", "br-int", "vxlan0", "--", "set", "interface", "vxlan0", "type=vxlan", f"ofport_request={TUNNEL}"),
            *("options:remote_ip=flow", "options:key=flow", "options:dst_port=4789"),
        )
        host.ovs.vsctl("add-port", "br-int", f"tap{n}", "--", "set", "interface", f"tap{n}", f"ofport_request={WORKLOAD}")
    return hosts


def unicast_flows(host: Host, peer: Host, destination: str | None = None) -> list[str]:
    """IPv4 and IPv6 unicast to the peer's workload and from it; ``destination`` is the tunnel's (default: IPv4 VTEP)."""
    tunnel = destination or f"set_field:{peer.vtep}->tun_dst"
    send = f"set_field:{VNI}->tun_id,{tunnel},output:{TUNNEL}"
    return [
        f"in_port={WORKLOAD},ip,dl_dst={peer.mac},actions={send}",
        f"in_port={WORKLOAD},ipv6,dl_dst={peer.mac},actions={send}",
        f"in_port={WORKLOAD},arp,actions={send}",
        f"in_port={TUNNEL},tun_id={VNI},actions=output:{WORKLOAD}",
    ]


def ping(host: Host, address: str, count: int = 5, interval: float = 0.1) -> int:
    """How many of ``count`` echo requests from the host's workload are answered."""
    out = sh(f"ip netns exec {host.workload} ping -n -q -c {count} -i {interval} -W 1 {address}", check=False)
    return int(out.split(" received")[0].rsplit(None, 1)[-1]) if " received" in out else 0


def wait_for(what: str, seconds: float) -> None:
    """Wait until the shell command succeeds; RuntimeError after ``seconds``."""
    end = time.monotonic() + seconds
    while subprocess.run(["bash", "-c", what], capture_output=True, check=False).returncode:
        if time.monotonic() > end:
            raise RuntimeError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
