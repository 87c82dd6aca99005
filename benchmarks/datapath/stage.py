"""Two lab hosts with a client and servers under security groups, and both ways through their switches."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.common import cpu_of
from benchmarks.datapath import minimal
from ovsnet.lab import netns
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, Model, Network, Port, Subnet, assign, port_id
from ovsnet.model.types import Host, Remote, Rule, SecurityGroup, Vpc

PORT = 5001
CLIENT = "client"
SERVERS = {"two hosts, VXLAN": "far", "one host": "near"}
"""Where the server is, and its port's name."""
WAYS = ("ovsnet", "minimal")
_WORKERS = 8
_ENDS = Path(__file__).parent / "ends.py"
_VNI = 5001
_FLOW = re.compile(r"cookie=.*?(?:table=(\d+), )?n_packets=(\d+)")


def model() -> Model:
    """A client and two servers; the servers' group lets the client's group connect to one TCP port.

    It has rules of other kinds too, as real groups do: they are not to make the cached flows any narrower.
    """
    placed = {CLIENT: ("hv1", 1, "clients"), "near": ("hv1", 2, "servers"), "far": ("hv2", 3, "servers")}
    ports = {
        name: Port(
            network="net",
            host=host,
            mac=f"02:00:00:00:00:{number:02x}",
            ips=(f"192.168.1.{number}",),
            id=port_id("vpc", name),
            security_groups=(group,),
        )
        for name, (host, number, group) in placed.items()
    }
    rules = (
        Rule(direction="ingress", protocol="tcp", port=PORT, remote=Remote(group="clients")),
        Rule(direction="ingress", protocol="tcp", port="8000-8010", remote=Remote(cidr="192.168.1.128/25")),
        Rule(direction="ingress", protocol="icmp", type=8, code=0),
        Rule(direction="ingress", protocol="udp", port=53),
    )
    groups = {"clients": SecurityGroup(), "servers": SecurityGroup(rules=rules)}
    networks = {"net": Network(vni=_VNI, subnets=(Subnet(cidr="192.168.1.0/24"),))}
    vpc = Vpc(tenant="bench", networks=networks, ports=ports, security_groups=groups)
    hosts = {"hv1": Host(vtep="10.0.0.11"), "hv2": Host(vtep="10.0.0.12")}
    return assign(Model(name="bench", hosts=hosts, vpcs={"vpc": vpc}), Lock())[0]


@dataclass(frozen=True)
class Passage:
    """What the switches did while one measure ran, summed over the hosts.

    ``packets`` are those that came in at a port, ``recirculations`` their further passes through the datapath,
    ``upcalls`` those that no cached flow was there for; ``megaflows`` is how many of these there were at the end.
    ``entered`` is how often a packet came to the integration bridge, ``met`` how many of its flows they met. ``cpu`` is
    the seconds that the processes used.
    """

    packets: int
    recirculations: int
    upcalls: int
    megaflows: int
    entered: int
    met: int
    cpu: float


class Stage:
    """The running lab; ``Stage.running`` makes and ends one."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._switches = {host: lab.ovs(host) for host in lab.topology.hosts}
        self._of = {name: lab.port(f"vpc/{name}") for name in (CLIENT, *SERVERS.values())}
        self._ofports = {name: self._ofport(spec.host, f"name={spec.tap}") for name, spec in self._of.items()}
        vteps = {name: host.vtep for name, host in lab.topology.hosts.items()}
        workloads = [minimal.Workload(spec.host, spec.mac, self._ofports[name]) for name, spec in self._of.items()]
        for host, ovs in self._switches.items():
            tunnel = self._ofport(host, "type=vxlan")
            minimal.install(ovs, minimal.flows(host, workloads, vteps, tunnel, _VNI, PORT))

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Stage]:
        """A lab of a name of its own with servers that answer; needs root."""
        lab = Lab.up(model(), f"bench-{uuid.uuid4().hex[:8]}")
        try:
            with contextlib.ExitStack() as stack:
                for name in SERVERS.values():
                    stack.enter_context(_serving(lab.port(f"vpc/{name}").netns))
                yield cls(lab)
        finally:
            lab.down()

    def turn(self, way: str) -> None:
        """Send all IP frames one of ``WAYS``; nothing of before is left in caches or in the connection trackers."""
        for ovs in self._switches.values():
            minimal.turn(ovs, on=False)
            if way == "minimal":
                minimal.turn(ovs, on=True)
            ovs.appctl("revalidator/wait")
            ovs.appctl("dpctl/flush-conntrack")
            ovs.appctl("revalidator/purge")

    def connections(self, server: str, seconds: float) -> float:
        """Cycles of connect, request, response, close a second."""
        return float(self._client("connections", server, str(PORT), str(_WORKERS), str(seconds))) / seconds

    def throughput(self, server: str, seconds: float) -> float:
        """Bytes a second of one TCP connection."""
        return float(self._client("bytes", server, str(PORT), str(seconds)))

    @contextlib.contextmanager
    def watched(self, into: list[Passage]) -> Iterator[None]:
        """Add what the switches do meanwhile."""
        switches = self._switches.values()
        met = Counter(self._met())
        for ovs in switches:
            ovs.appctl("dpif-netdev/pmd-stats-clear")
        before = self._cpu()
        yield
        cpu = self._cpu() - before
        reports = [ovs.appctl("dpif-netdev/pmd-stats-show") for ovs in switches]
        cached = [ovs.appctl("dpctl/dump-flows") for ovs in switches]
        for ovs in switches:
            ovs.appctl("revalidator/wait")  # which counts the cached flows' packets where they belong
        now = self._met()
        now.subtract(met)
        into.append(
            Passage(
                packets=_sum(reports, "packets received"),
                recirculations=_sum(reports, "packet recirculations"),
                upcalls=_sum(reports, "miss with success upcall"),
                megaflows=sum(line.count("actions:") for text in cached for line in text.splitlines()),
                entered=now[0],
                met=now.total(),
                cpu=cpu,
            )
        )

    def _met(self) -> Counter[int]:
        """Packets that flows of the integration bridges have had so far, by table."""
        found: Counter[int] = Counter()
        for ovs in self._switches.values():
            for table, packets in _FLOW.findall(ovs.ofctl("dump-flows", INTEGRATION)):
                found[int(table or 0)] += int(packets)
        return found

    def _client(self, what: str, server: str, *rest: str) -> str:
        argv = [sys.executable, "-I", str(_ENDS), what, _ip(self._of[server].addresses), *rest]
        with netns.inside(self._of[CLIENT].netns):
            done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout

    def _cpu(self) -> float:
        return sum(cpu_of(ovs.vswitchd_pid) for ovs in self._switches.values() if ovs.vswitchd_pid is not None)

    def _ofport(self, host: str, condition: str) -> int:
        return int(self._switches[host].vsctl("--bare", "--columns=ofport", "find", "Interface", condition))


@contextlib.contextmanager
def _serving(namespace: str) -> Iterator[None]:
    argv = [sys.executable, "-I", str(_ENDS), "serve", str(PORT), str(_WORKERS)]
    with netns.inside(namespace):
        server = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, text=True
        )
    with server:
        if server.stdout is None or not server.stdout.readline():
            raise RuntimeError("the measured server did not start")
        yield
        if server.stdin is not None:
            server.stdin.close()  # it ends with its input
        server.wait(10)


def _sum(reports: list[str], name: str) -> int:
    return sum(int(re.findall(rf"^ *{re.escape(name)}: *(\d+)", text, re.MULTILINE)[0]) for text in reports)


def _ip(addresses: tuple[str, ...]) -> str:
    return addresses[0].partition("/")[0]
