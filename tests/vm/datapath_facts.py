"""Inside the machine: what the kernel's datapath does, each fact with its control; a JSON object into ``$RESULTS``.

Every number is how many of ATTEMPTS echo requests were answered, unless its name says otherwise.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from ovsnet.lab.ovs import OvsError
from ovsnet.openflow.meters import METERS, Meter, dropped, keep_meters
from ovsnet.openflow.notices import Notice
from ovsnet.openflow.process import SwitchProcess
from ovsnet.pipeline.fields import RULE, VERDICT
from ovsnet.pipeline.template import COOKIE_OWNER
from ovsnet.pipeline.verdicts import ALLOW, CONTROLLER_ID, LOG_LENGTH, LOG_METER, LOGGED, REJECT, REJECT_METER
from ovsnet.responders.reject import SNAP
from tests.vm.two_hosts import Host, Workload, build, sh, towards, towards_v6, unicast_flows

ATTEMPTS = 3
W1, W2, W3 = Workload(1), Workload(2), Workload(3)
NS = "in_port=1,icmp6,icmp_type=135,icmp_code=0"
NA = "in_port=2,icmp6,icmp_type=136,icmp_code=0"
WRONG_MAC = "02:00:00:00:00:99"

Facts = dict[str, int | str | bool]


def tried(address: str, *hosts: Host) -> int:
    """Answered requests from W1 to a neighbour that W1 has to ask for first, once caches follow the tables."""
    for host in hosts:
        host.ovs.appctl("revalidator/wait")
    W1.forget()
    return W1.ping(address, ATTEMPTS, 0.2)


def plain(h1: Host, h2: Host) -> None:
    """Unicast between W1 and W2 in both directions, and nothing that resolves addresses for W1."""
    h1.set_flows(unicast_flows(W1, W2, towards(h2)))
    h2.set_flows(unicast_flows(W2, W1, towards(h1)))


def forwarding(h1: Host, h2: Host) -> Facts:
    """A ping passes over VXLAN, and stops when one flow is removed."""
    facts: Facts = {}
    W1.knows(W2)
    facts["vxlan"] = tried(W2.ip, h1, h2)
    h1.ovs.ofctl("del-flows", "br-int", "ip")
    facts["vxlan, flow removed"] = tried(W2.ip, h1, h2)
    sh(f"ip -n {W1.netns} neigh flush all nud permanent")
    return facts


def arp(h1: Host, h2: Host) -> Facts:
    """The ARP responder, and an ARP request forwarded to its target alone."""
    facts: Facts = {"arp, no flow": tried(W2.ip, h1, h2)}
    request = f"priority=200,in_port=1,arp,arp_op=1,arp_tpa={W2.ip}"
    h1.add_flow(
        f"{request},actions=move:eth_src->eth_dst,set_field:{W2.mac}->eth_src,set_field:2->arp_op,"
        f"move:arp_sha->arp_tha,set_field:{W2.mac}->arp_sha,move:arp_spa->arp_tpa,set_field:{W2.ip}->arp_spa,IN_PORT"
    )
    facts["arp responder"] = tried(W2.ip, h1, h2)
    flows = h1.ovs.appctl("dpctl/dump-flows", "system@ovs-system")
    facts["arp responder, by vswitchd"] = bool(re.search(r"eth_type\(0x0806\).*op=1.*slow_path", flows))
    h1.set_flows([*unicast_flows(W1, W2, towards(h2)), f"{request},actions=set_field:{W2.mac}->eth_dst,{towards(h2)}"])
    facts["arp forwarded"] = tried(W2.ip, h1, h2)
    flows = h1.ovs.appctl("dpctl/dump-flows", "system@ovs-system")
    facts["arp forwarded, by vswitchd"] = bool(re.search(r"eth_type\(0x0806\).*op=1.*slow_path", flows))
    return facts


def nd(h1: Host, h2: Host) -> Facts:
    """Neighbour discovery: a rewritten solicitation, matches on options, and the fields that cannot be set."""
    facts: Facts = {}
    to_owner = f"set_field:{W2.mac}->eth_dst,{towards(h2)}"
    for name, match in {
        "ns, no flow": None,
        "ns rewritten": f"{NS},nd_target={W2.ip6}",
        "ns, nd_sll right": f"{NS},nd_sll={W1.mac}",
        "ns, nd_sll wrong": f"{NS},nd_sll={WRONG_MAC}",
        "ns, nd_options_type": f"{NS},nd_options_type=1",
    }.items():
        extra = [f"priority=200,{match},actions={to_owner}"] if match else []
        h1.set_flows([*unicast_flows(W1, W2, towards(h2)), *extra])
        facts[name] = tried(W2.ip6, h1, h2)
    h1.set_flows([*unicast_flows(W1, W2, towards(h2)), f"priority=200,{NS},nd_target={W2.ip6},actions={to_owner}"])
    for name, match in {
        "na, all dropped": None,
        "na, nd_tll right": f"{NA},nd_target={W2.ip6},nd_tll={W2.mac}",
        "na, nd_tll wrong": f"{NA},nd_target={W2.ip6},nd_tll={WRONG_MAC}",
    }.items():
        extra = [f"priority=300,{match},actions={towards(h1)}"] if match else []
        h2.set_flows([*unicast_flows(W2, W1, towards(h1)), f"priority=200,{NA},actions=drop", *extra])
        facts[name] = tried(W2.ip6, h1, h2)
    for field, value in {
        "nd_options_type": 2,
        "nd_reserved": 0x60000000,
        "nd_target": W2.ip6,
        "nd_sll": W2.mac,
    }.items():
        facts[f"set {field}"] = accepted(h1, f"table=9,{NS},actions=set_field:{value}->{field},IN_PORT")
    capability = h1.ovs.vsctl("get", "Datapath", ".", "capabilities:nd_ext")
    facts["capability nd_ext"] = capability.strip().strip('"')
    return facts


def accepted(host: Host, flow: str) -> bool:
    """Whether the switch takes the flow."""
    try:
        host.add_flow(flow)
    except OvsError:
        return False
    return True


def underlay(h1: Host, h2: Host) -> Facts:
    """Tunnels over IPv4 and IPv6 with the one port, for each way to set its ``local_ip``."""
    facts: Facts = {}
    W1.knows(W2)
    for local in ("unset", "IPv4", "IPv6"):
        for host in (h1, h2):
            host.ovs.vsctl("remove", "interface", "vxlan0", "options", "local_ip")
            if local != "unset":
                address = host.vtep if local == "IPv4" else host.vtep6
                host.ovs.vsctl("set", "interface", "vxlan0", f'options:local_ip="{address}"')
        for family, send in (("IPv4", towards), ("IPv6", towards_v6)):
            h1.set_flows(unicast_flows(W1, W2, send(h2)))
            h2.set_flows(unicast_flows(W2, W1, send(h1)))
            for host in (h1, h2):  # a flow that the kernel refuses to modify keeps its old actions
                host.ovs.appctl("dpctl/del-flows", "system@ovs-system")
            facts[f"local_ip {local}, tunnel {family}"] = tried(W2.ip, h1, h2)
    for host in (h1, h2):
        host.ovs.vsctl("remove", "interface", "vxlan0", "options", "local_ip")
    return facts


def restart(h1: Host, h2: Host) -> Facts:
    """How many packets are lost while vswitchd is killed and started again with flow-restore-wait."""
    h1.plug(W3)
    W1.knows(W3)
    W3.knows(W1)
    pairs = ((W1, W3), (W3, W1))
    flows = [f"priority=100,in_port={a.number},dl_dst={b.mac},actions=output:{b.number}" for a, b in pairs]
    flows += unicast_flows(W1, W2, towards(h2))
    h1.set_flows(flows)
    h2.set_flows(unicast_flows(W2, W1, towards(h1)))
    facts: Facts = {}
    for name, wait in (("with flow-restore-wait", True), ("without", False)):
        pings = [Stream(W1, W3.ip), Stream(W1, W2.ip)]
        time.sleep(2)
        h1.ovs.stop_vswitchd(signal.SIGKILL)
        h1.ovs.vsctl("--no-wait", "set", "Open_vSwitch", ".", f"other_config:flow-restore-wait={str(wait).lower()}")
        h1.ovs.start_vswitchd()
        h1.set_flows(flows)
        h1.ovs.vsctl("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=false")
        time.sleep(2)
        (facts[f"restart {name}, lost in the host"], _), (lost, sent) = (ping.stop() for ping in pings)
        facts[f"restart {name}, lost between hosts"], facts[f"restart {name}, sent"] = lost, sent
    return facts


def copies(h1: Host, h2: Host) -> Facts:
    """Packets that are logged pass whatever their meter says; a rejected one is answered, with our own process."""
    facts: Facts = {}
    W1.knows(W2)
    at = f"cookie={COOKIE_OWNER:#x},priority=200,in_port=1"
    verdict, rule = (f"load:{{}}->NXM_NX_REG{f.register}[{f.low}..{f.low + f.bits - 1}]" for f in (VERDICT, RULE))
    logging, rejecting = (
        f"controller(max_len={length},id={CONTROLLER_ID},meter_id={meter})"
        for length, meter in ((LOG_LENGTH, LOG_METER), (SNAP, REJECT_METER))
    )
    logged = f"{verdict.format(ALLOW | LOGGED)},{rule.format(77)},{logging}"
    rejected = f"{verdict.format(REJECT)},{rejecting}"
    switch, told = SwitchProcess(h1.ovs.mgmt_target("br-int")), list[Notice]()
    switch.on_notice(told.append)
    switch.wait_connected(60)
    keep_meters(switch, [Meter(LOG_METER, 1, 5), METERS[0]])
    h1.add_flow(f"{at},icmp,actions={logged},{towards(h2)}")
    h1.add_flow(f"{at},tcp,actions={rejected}")
    h1.add_flow(f"{at},udp,actions={rejected}")
    started = time.monotonic()
    facts["logged and allowed"] = W1.ping(W2.ip, 60, 0.05)
    facts["logged, at most"] = int(5 + time.monotonic() - started + 2)
    facts["logged, dropped by the meter"] = dropped(switch)[0]
    facts["logged, told"] = len(told)
    facts["logged, in full"] = all((one.rule, one.ofport, one.verdict) == (77, 1, ALLOW) for one in told)
    facts["logged, by the kernel"] = "slow_path" not in h1.ovs.appctl("dpctl/dump-flows", "system@ovs-system", "-m")
    code = (
        "import socket, sys; s = socket.socket(type=int(sys.argv[2])); s.settimeout(5)\n"
        "s.connect((sys.argv[1], 9)); s.send(b'x'); s.recv(9)"
    )
    for name, kind in (("tcp", socket.SOCK_STREAM), ("udp", socket.SOCK_DGRAM)):
        said = sh(f'ip netns exec {W1.netns} python3 -c "{code}" {W2.ip} {int(kind)}', check=False)
        facts[f"rejected {name}"] = said.strip().splitlines()[-1]
    switch.stop()
    return facts


class Stream:
    """A ping of 100 packets a second (an emulated machine makes it less) that runs until it is stopped."""

    def __init__(self, workload: Workload, address: str) -> None:
        command = f"exec ip netns exec {workload.netns} ping -n -i 0.01 -c 100000 {address}"
        self.process = subprocess.Popen(["bash", "-c", command], stdout=subprocess.PIPE, text=True)

    def stop(self) -> tuple[int, int]:
        """End it; returns how many requests have no answer although a later one has, and how many that is out of."""
        self.process.send_signal(signal.SIGINT)
        out, _ = self.process.communicate(timeout=20)
        seen = {int(number) for number in re.findall(r"bytes from .*icmp_seq=(\d+)", out)}
        last = max(seen, default=0)
        return last - len(seen), last


def main() -> int:
    """Build the two hosts, collect all facts, and print each part as it is done."""
    root = Path("/run/two")
    root.mkdir()
    h1, h2 = build(root)
    h1.plug(W1)
    h2.plug(W2)
    W2.knows(W1)
    facts: Facts = {}
    for part in (forwarding, arp, nd, underlay, copies, restart):
        plain(h1, h2)
        started = time.monotonic()
        found = part(h1, h2)
        sys.stdout.write(f"{part.__name__} ({time.monotonic() - started:.1f} s): {json.dumps(found, indent=1)}\n")
        facts |= found
    facts["attempts"] = ATTEMPTS
    Path(os.environ["RESULTS"], "facts.json").write_text(json.dumps(facts))
    return 0


if __name__ == "__main__":
    sys.exit(main())
