"""What is held against the running machines: real packets between workloads, on the wire, and through restarts.

    python -m vagrant.checks               # all, in order
    python -m vagrant.checks matrix wire   # some

Each check begins with a positive control, and what must not arrive is counted where it would arrive. The last one
makes a machine anew, so that all of it takes some minutes on an emulated processor.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ovsnet.lab.topology import WorkloadSpec
from vagrant.machines import CheckFailed, Machines, addresses, control_sockets, namespace
from vagrant.stage import ALONE, CONTROLLER, ENCAPSULATIONS, OPEN, SHUT, TENANTS, UNDERLAY

PINGS = 3
"""Echo requests of each workload to each address."""
PORTS = {"vxlan": 4789, "geneve": 6081}
"""The UDP port of each encapsulation."""
_DEVICE = f"$(ip -o -4 address show | awk '$4 ~ /^{UNDERLAY}\\./ {{print $2; exit}}')"
"""The device on the private network, in the shell of a machine."""


def require(holds: bool, message: str) -> None:
    """Raise CheckFailed with the message unless it holds."""
    if not holds:
        raise CheckFailed(message)


def echoes(lab: Machines) -> dict[str, int]:
    """How many echo requests, IPv4 and IPv6, have arrived at each workload so far."""
    count = (
        'awk \'/^Icmp: / && !n {for (i = 1; i <= NF; i++) if ($i == "InEchos") n = i; next} /^Icmp: / {sum += $n} '
        "/^Icmp6InEchos/ {sum += $2} END {print sum}' /proc/net/snmp /proc/net/snmp6"
    )
    here: dict[str, list[WorkloadSpec]] = {host: [] for host in lab.hosts}
    for one in lab.workloads:
        here[one.host].append(one)
    scripts = {
        host: "\n".join(f"ip netns exec {namespace(one)} bash -c {_quoted(count)}" for one in ones)
        for host, ones in here.items()
    }
    outputs = lab.everywhere(scripts)
    return {
        one.name: int(line)
        for host, ones in here.items()
        for one, line in zip(ones, outputs[host].split(), strict=True)
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def ping(lab: Machines, pairs: list[tuple[WorkloadSpec, str]], *, wait: int = 10) -> dict[tuple[str, str], int]:
    """Send ``PINGS`` echo requests for each pair of a workload and an address; how many were answered, by both."""
    scripts: dict[str, str] = {}
    for one, to in pairs:
        command = f"ping -n -q -c {PINGS} -i 0.5 -W {wait} {to}"
        line = f"s/.* \\([0-9]*\\) received.*/{one.vpc} {one.port} {to} \\1/p"
        scripts[one.host] = (
            scripts.get(one.host, "") + f"(ip netns exec {namespace(one)} {command} | sed -n '{line}') &\n"
        )
    found: dict[tuple[str, str], int] = {}
    for output in lab.everywhere({host: f"{script}wait" for host, script in scripts.items()}).values():
        for line in output.splitlines():
            vpc, port, to, received = line.split()
            found[f"{vpc}/{port}", to] = int(received)
    return found


def matrix(lab: Machines) -> str:
    """Every workload reaches every other one of its tenant, and nothing of it arrives at the other tenant's."""
    for tenant in TENANTS:
        members = [one for one in lab.workloads if one.vpc == tenant]
        pairs = [(one, to) for one in members for other in members if other is not one for to in addresses(other)]
        before = echoes(lab)
        answered = ping(lab, pairs)
        arrived = {name: count - before[name] for name, count in echoes(lab).items()}
        short = [f"{one.name} to {to}: {answered.get((one.name, to), 0)}" for one, to in pairs]
        short = [line for line in short if not line.endswith(f": {PINGS}")]
        require(not short, f"of {PINGS} echo requests fewer were answered: " + ", ".join(short))
        for one in lab.workloads:
            wanted = 2 * PINGS * (len(members) - 1) if one.vpc == tenant else 0
            seen = arrived[one.name]
            require(seen == wanted, f"{one.name}: {seen} of {tenant}'s echo requests arrived, not {wanted}")
    return f"{len(lab.workloads)} workloads, IPv4 and IPv6; {_stranger(lab)}"


def _stranger(lab: Machines) -> str:
    """What one tenant has and the other has not is not reached from there; the matrix has shown that it answers."""
    target, sender = lab.workload(f"blue/{ALONE}"), lab.workload("red/web2")
    before = echoes(lab)[target.name]
    to = addresses(target)[0]
    answered = ping(lab, [(sender, to)], wait=2)[sender.name, to]
    arrived = echoes(lab)[target.name] - before
    require(
        answered == arrived == 0, f"{sender.name} to {target.name}: {answered} answered, {arrived} arrived, not none"
    )
    return f"{sender.name} does not reach {target.name}"


def wire(lab: Machines) -> str:
    """Echo requests between hosts travel in the declared encapsulation with the network's VNI, and in no other."""
    sender, receiver = lab.workload("red/web1"), lab.workload("red/web2")
    source, to = addresses(sender)[0], addresses(receiver)[0]
    text = _captured(
        lab, sender.host, f"ip netns exec {namespace(sender)} ping -n -q -c {PINGS} -i 0.5 -W 10 {to}",
        " or ".join(f"udp port {port}" for port in PORTS.values()),
    )  # fmt: skip
    inner = rf"IP {re.escape(source)} > {re.escape(to)}: ICMP echo request"
    vni = TENANTS["red"]
    seen = {
        "vxlan": len(re.findall(rf"\.{PORTS['vxlan']}: VXLAN,[^\n]* vni {vni}\n[^\n]*{inner}", text)),
        "geneve": len(re.findall(rf"\.{PORTS['geneve']}: Geneve,[^\n]* vni {vni:#x}[^\n]*\s{inner}", text)),
    }
    wanted = {name: PINGS if name == lab.encapsulation else 0 for name in ENCAPSULATIONS}
    require(seen == wanted, f"{sender.host}: of {PINGS} echo requests on the wire {seen}, not {wanted}:\n{text}")
    return f"{lab.encapsulation}, VNI {vni}, with ICMP inside"


def _captured(lab: Machines, host: str, command: str, expression: str) -> str:
    """What tcpdump sees on a host's private network while a command runs there, whatever comes of it."""
    return lab.run(
        host,
        f"""
        file=$(mktemp)
        tcpdump --immediate-mode -U -n -i {_DEVICE} -w "$file" '{expression}' 2>"$file.said" &
        until grep -q 'listening on' "$file.said"; do sleep 0.2; done
        ({command}) >/dev/null 2>&1
        sleep 2
        kill $!
        wait
        tcpdump -n -r "$file" 2>/dev/null
        rm "$file" "$file.said"
        """,
    )


def other_encapsulation(lab: Machines) -> str:
    """The other encapsulation, by agents that are started with it and a site that says so: on the wire, and matrix."""
    (lab.encapsulation,) = set(ENCAPSULATIONS) - {lab.encapsulation}
    lab.provision(lab.hosts, "agent")
    lab.provision([CONTROLLER], "model")
    took = lab.settle()
    return f"{wire(lab)}; {matrix(lab)}; in force after {took:.0f} s"


def filtered(lab: Machines) -> str:
    """What a group lets in is tracked by the kernel in the port's own zone; what it does not let in is dropped."""
    client, server = lab.workload("red/web1"), lab.workload("red/web2")
    to = addresses(server)[0]
    listener = (
        "import socket, selectors as s; e = s.DefaultSelector();"
        f' [e.register(socket.create_server(("", p)), s.EVENT_READ) for p in ({OPEN}, {SHUT})];'
        " [k.fileobj.accept() for _ in iter(int, 1) for k, _ in e.select()]"
    )
    into = f"ip netns exec {namespace(server)}"
    lab.run(
        server.host,
        f"""
        systemd-run --quiet --collect --unit=lab-listener {into} python3 -c {_quoted(listener)}
        for port in {OPEN} {SHUT}; do
            until {into} timeout 10 bash -c "</dev/tcp/127.0.0.1/$port" 2>/dev/null; do sleep 0.5; done
        done
        """,
    )
    try:
        return _filtered(lab, client, server, to)
    finally:
        lab.run(server.host, "systemctl stop lab-listener.service")


def _filtered(lab: Machines, client: WorkloadSpec, server: WorkloadSpec, to: str) -> str:
    connect = f"ip netns exec {namespace(client)} timeout 12 bash -c '</dev/tcp/{to}/{{}}'"
    require(lab.answer(client.host, connect.format(OPEN))[0] == 0, f"{client.name} does not reach {to}, port {OPEN}")
    # timeout's exit code when it had to end the command: nobody answered, neither yes nor no
    code = f"{connect.format(SHUT)}; echo $? >/run/lab-code"
    tunnel = f"udp port {PORTS[lab.encapsulation]}"
    text = _captured(lab, client.host, code, tunnel)
    require(lab.run(client.host, "cat /run/lab-code").strip() == "124", f"{to}, port {SHUT}, answers {client.name}")
    require(
        f"> {to}.{SHUT}: Flags [S]" in text,
        f"{client.host} sends nothing to port {SHUT}, so nobody refuses it:\n{text}",
    )
    ids = f"external_ids:ovsnet-zone-{server.id}"
    zone = lab.run(server.host, f"ovs-vsctl get bridge br-int {ids}").strip().strip('"')
    table = lab.run(server.host, f"ovs-appctl dpctl/dump-conntrack system@ovs-system zone={zone}")
    tracked = [line for line in table.splitlines() if f"dst={to}," in line and f"zone={zone}" in line]
    require(any(f"dport={OPEN})" in line for line in tracked), f"zone {zone} does not know port {OPEN}:\n{table}")
    require(not any(f"dport={SHUT})" in line for line in tracked), f"zone {zone} has taken port {SHUT}:\n{table}")
    return f"port {OPEN} is tracked in zone {zone} of {server.host}'s kernel, port {SHUT} is dropped there"


def restarts(lab: Machines) -> str:
    """Agents and the controller are restarted, and of a stream of echo requests between two hosts none is lost."""
    sender, receiver = lab.workload("red/web1"), lab.workload("red/web2")
    lost, _ = _lost(lab, sender, receiver, lambda: _interrupt(lab, receiver))
    require(lost > 0, f"{receiver.name} was unplugged for two seconds and no ping was lost: this sees nothing")
    units = dict.fromkeys((sender.host, receiver.host), "ovsnet-agent.service") | {
        CONTROLLER: "ovsnet-controller.service"
    }

    def restart() -> None:
        for machine, unit in units.items():
            lab.run(machine, f"systemctl restart {unit}")
        lab.settle()

    lost, sent = _lost(lab, sender, receiver, restart)
    require(lost == 0, f"{lost} of {sent} echo requests were lost while {', '.join(units.values())} were restarted")
    return f"{sent} echo requests in that time, none lost"


def _interrupt(lab: Machines, receiver: WorkloadSpec) -> None:
    lab.run(receiver.host, f"ip link set {receiver.tap} down; sleep 2; ip link set {receiver.tap} up")


def _lost(
    lab: Machines, sender: WorkloadSpec, receiver: WorkloadSpec, meanwhile: Callable[[], None]
) -> tuple[int, int]:
    """How many of five echo requests a second were lost while something else was done, and how many were sent."""
    to = addresses(receiver)[0]
    log, unit = "/run/lab-ping", "lab-ping"
    command = f"ip netns exec {namespace(sender)} ping -n -i 0.2 {to}"
    lab.run(
        sender.host,
        f"rm -f {log}; systemd-run --quiet --collect --unit={unit} --property=StandardOutput=file:{log} {command}\n"
        f"until [ $(grep -c icmp_seq {log}) -ge 5 ]; do sleep 0.5; done",
    )
    meanwhile()
    text = lab.run(sender.host, f"sleep 5; systemctl kill --signal=INT {unit}; sleep 2; cat {log}")
    answered = {int(number) for number in re.findall(r"bytes from .* icmp_seq=(\d+) ", text)}
    last = max(answered)  # what was sent after it may still have been under way
    return last - len(answered), last


def reload(lab: Machines) -> str:
    """One machine is booted again: its workloads come back, and are where they were."""
    host = lab.hosts[1]
    boot = lab.run(host, "cat /proc/sys/kernel/random/boot_id")
    lab.vagrant("reload", host)
    require(lab.run(host, "cat /proc/sys/kernel/random/boot_id") != boot, f"{host} was not booted")
    took = lab.settle()
    return f"{host}: {matrix(lab)}; in force {took:.0f} s after vagrant's end"


def recreate(lab: Machines) -> str:
    """One machine is destroyed and made anew, with an empty disk: it is told what it has to enforce."""
    host = lab.hosts[-1]
    before = lab.run(host, "cat /etc/machine-id")
    lab.vagrant("destroy", "-f", host)
    lab.vagrant("up", host)
    lab.find()
    require(lab.run(host, "cat /etc/machine-id") != before, f"{host} is the machine that it was")
    took = lab.settle()
    return f"{host}: {matrix(lab)}; in force {took:.0f} s after vagrant's end"


CHECKS: tuple[Callable[[Machines], str], ...] = (
    matrix,
    wire,
    filtered,
    restarts,
    other_encapsulation,
    reload,
    recreate,
)


def main(names: list[str]) -> int:
    """Run the named checks, or all; the exit code."""
    known = {check.__name__: check for check in CHECKS}
    if unknown := [name for name in names if name not in known]:
        print(f"{', '.join(unknown)}: no such check. There are: {', '.join(known)}", file=sys.stderr)
        return 2
    with control_sockets() as sockets:
        try:
            lab = Machines(Path(sockets))
            print(f"in force  everywhere ({lab.settle():.0f} s)", flush=True)
            for name in names or known:
                began = time.monotonic()
                said = known[name](lab)
                print(f"ok        {name}: {said} ({time.monotonic() - began:.0f} s)", flush=True)
        except CheckFailed as error:
            print(f"FAILED    {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
