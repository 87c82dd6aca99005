"""Real switches without real ports: each host of a model is an ovs-vswitchd on OVS's dummy datapath.

A workload's interface is a dummy one: frames go in through the switch's control socket (``netdev-dummy/receive``) and
come out in pcap files. The tunnel is real: what a switch sends leaves its uplink as a whole VXLAN packet, and is put
into the uplink of the switch whose VTEP it is addressed to.

Every frame ends in a token (padding behind the IP or ARP payload), which rewriting keeps: so all frames of a run can
be under way, and each copy is put down to the frame it stems from.
"""

from __future__ import annotations

import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from ovsnet.lab.expectation import Frame
from ovsnet.lab.ovs import OvsInstance
from ovsnet.model.types import Model
from tests.property import packets
from tests.property.world import places

VTEPS = {
    "hv1": ("10.99.0.1", "fd99::1"),
    "hv2": ("10.99.0.2", "fd99::2"),
    "hv3": ("10.99.0.3", "fd99::3"),
}
FAR_VTEPS = ("10.99.0.9", "fd99::9")
"""A VTEP that is no host's: what is sent there is seen on the wire, and ends there."""
NICS_PER_HOST = 20
"""Interfaces for workloads on each host; the last is never a port's."""
QUEUE = 64
RX_PACKETS = re.compile(r"port \d+: (\S+) [^\n]*\n\s+RX packets:(\d+)")
TUNNEL = "vxlan0"
MARGIN, TOKEN = bytes(8), b"tok!"
TRAILER = len(MARGIN + TOKEN) + 4
PCAP_HEADER, PCAP_RECORD = 24, 16


def uplink_mac(host: str) -> str:
    """The MAC of a host's VTEP."""
    return f"aa:55:aa:55:00:{int(host.removeprefix('hv')):02x}"


@dataclass(frozen=True)
class Facts:
    """What a host's agent would know of its switch: OpenFlow port numbers by a port's name there, and its VTEP."""

    host: str
    vtep: str
    tunnel_ofport: int
    ofports: Mapping[str, int]
    nd_responder: bool = True


Install = Callable[["DummySwitch", Model, Facts], None]


@dataclass
class Seen:
    """Every copy of one frame: delivered (port or interface, octets), and on the wire (src, dst, VNI, octets)."""

    delivered: list[tuple[str, bytes]] = field(default_factory=list)
    wire: list[tuple[str, str, int, bytes]] = field(default_factory=list)


@dataclass(frozen=True)
class Arrival:
    """A frame that comes to ``host`` through the tunnel: from the VTEP ``source`` to the host's own, with ``vni``."""

    host: str
    source: str
    destination: str
    vni: int
    data: bytes


class Unixctl:
    """A client of a daemon's control socket: one JSON-RPC call after the other on one connection."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(20)
        self._socket.connect(str(path))

    def call(self, method: str, *params: str) -> str:
        request = json.dumps({"id": 0, "method": method, "params": params})
        self._socket.sendall(request.encode())
        text = b""
        while True:
            part = self._socket.recv(1 << 20)
            if not part:
                raise ConnectionError(f"the switch hung up during {method}")
            text += part
            try:
                reply = json.loads(text)
            except ValueError:
                continue
            if reply["error"] is not None:
                raise RuntimeError(f"{method} {' '.join(params)[:80]}: {reply['error']}")
            return str(reply["result"])

    def close(self) -> None:
        self._socket.close()


class Pcap:
    """The frames that an interface sent, as they are appended to its file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = PCAP_HEADER

    def new(self) -> list[bytes]:
        """The frames since the last call."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        frames, at = [], 0
        while at + PCAP_RECORD <= len(data):
            size = struct.unpack_from("<I", data, at + 8)[0]
            frames.append(data[at + PCAP_RECORD : at + PCAP_RECORD + size])
            at += PCAP_RECORD + size
        self._offset += at
        return frames


class DummySwitch(OvsInstance):
    """One host's switch: ``br-int`` with a pool of workload interfaces and the tunnel port, ``br-phy`` with an uplink.

    The tunnel port leaves out ``local_ip``: the dummy datapath has no local routes that OVS could check it against.
    """

    def __init__(self, run_dir: Path, host: str) -> None:
        super().__init__(run_dir, dummy=True)
        self.host = host
        self.uplink_mac = uplink_mac(host)
        self.nics = [f"w{i}" for i in range(NICS_PER_HOST)]
        self.ofports: dict[str, int] = {}
        self._given: Counter[str] = Counter()
        self._pending: Counter[str] = Counter()

    def start_vswitchd(self) -> None:
        """Dummy interfaces, but real tunnel ports: ``=override`` would replace these as well."""
        modes = ("--enable-dummy=system", "--disable-system", "--disable-system-route")
        self.run("ovs-vswitchd", self.db_target, *modes, *self._daemon("ovs-vswitchd"))

    def prepare(self) -> DummySwitch:
        """Make the bridges, the interfaces, and the ways to the other VTEPs."""
        self.start()
        self.vsctl(
            *("add-br", "br-phy", "--", "set", "bridge", "br-phy", "datapath_type=dummy"),
            *(f"other-config:hwaddr={self.uplink_mac}", "--", *self._dummy_port("br-phy", "p0")),
        )
        self.ctl = Unixctl(self.run_dir / "ovs-vswitchd.ctl")
        for address, length in zip(VTEPS[self.host], (24, 64), strict=True):
            family = 6 if length == 64 else 4
            self.ctl.call(f"netdev-dummy/ip{family}addr", "br-phy", f"{address}/{length}")
            self.ctl.call("ovs/route/add", f"{address}/{length}", "br-phy")
        for peer, addresses in VTEPS.items():
            for address in addresses:
                if peer != self.host:
                    self.ctl.call("tnl/neigh/set", "br-phy", address, uplink_mac(peer))
        for address in FAR_VTEPS:
            self.ctl.call("tnl/neigh/set", "br-phy", address, uplink_mac("hv9"))
        self.ctl.call("tnl/neigh/aging", "3600")
        for family in (
            "v4",
            "v6",
        ):  # or the connection tracker keeps fragments for seconds, and lets them go much later
            self.ctl.call("dpctl/ipf-set-disabled", family)
        nics = [word for name in self.nics for word in ("--", *self._dummy_port("br-int", name))]
        self.vsctl(
            *("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=dummy", "fail-mode=secure"),
            *("other-config:disable-in-band=true", "protocols=OpenFlow14"),
            *("--", "set", "interface", "br-int", f"options:tx_pcap={self.run_dir}/br-int.pcap", *nics),
            *("--", "add-port", "br-int", TUNNEL, "--", "set", "interface", TUNNEL, "type=vxlan"),
            *("options:remote_ip=flow", "options:key=flow", "options:dst_port=4789"),
        )
        names = [*self.nics, TUNNEL]
        numbers = self.vsctl(*[word for n in names for word in ("--", "get", "interface", n, "ofport")]).split()
        self.ofports = dict(zip(names, map(int, numbers), strict=True))
        self.pcaps = {name: Pcap(self.run_dir / f"{name}.pcap") for name in [*self.nics, "br-int"]}
        self.uplink = Pcap(self.run_dir / "p0.pcap")
        return self

    def _dummy_port(self, bridge: str, name: str) -> tuple[str, ...]:
        pcap = f"options:tx_pcap={self.run_dir}/{name}.pcap"
        return ("add-port", bridge, name, "--", "set", "interface", name, "type=dummy", pcap)

    def receive(self, interface: str, frame: bytes) -> None:
        """Put a frame into an interface, whose queue (of 100 frames, one taken a turn) is never allowed to fill."""
        self.ctl.call("netdev-dummy/receive", interface, frame.hex())
        self._given[interface] += 1
        self._pending[interface] += 1
        if self._pending[interface] >= QUEUE:
            self.settle()

    def settle(self) -> None:
        """Return when the datapath has taken every frame that was put in; it forwards a frame as it takes it."""
        while self._pending:
            taken = {name: int(count) for name, count in RX_PACKETS.findall(self.ctl.call("dpctl/show", "-s"))}
            self._pending = Counter({n: c - taken[n] for n, c in self._given.items() if c != taken[n]})

    def forget(self) -> None:
        """Remove the cached datapath flows, so that changed OpenFlow tables count at once."""
        self.ctl.call("revalidator/purge")

    def forget_connections(self) -> None:
        """Empty the connection tracker."""
        self.ctl.call("dpctl/flush-conntrack")

    def stop(self) -> None:
        """Close the control connection and end both processes."""
        if hasattr(self, "ctl"):
            self.ctl.close()
        super().stop()


class Cloud:
    """The switches of all hosts, kept for a whole run: between models only their flows and their wiring change."""

    def __init__(self, run_dir: Path) -> None:
        self.switches = {host: DummySwitch(run_dir / host, host) for host in VTEPS}
        self.wiring: dict[str, tuple[str, str]] = {}
        self.nd_responder = True

    def start(self) -> Cloud:
        try:
            for switch in self.switches.values():
                switch.prepare()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        for switch in self.switches.values():
            switch.stop()

    def load(self, model: Model, install: Install, *, nd_responder: bool = True) -> None:
        """Wire the model's ports to interfaces, and let ``install`` make each host's flows what they should be.

        Flows of no cookie, and those of hosts that the model does not have, are removed before.
        """
        self.wiring, self.nd_responder = {}, nd_responder
        self._settle()
        self._drain()
        for host, switch in self.switches.items():
            switch.ofctl("del-flows", "br-int", *(["cookie=0/0xffffffff00000000"] if host in model.hosts else []))
            ports = [name for _, at, name, _ in places(model) if at == host]
            self.wiring |= {port: (host, nic) for port, nic in zip(ports, switch.nics, strict=False)}
            if len(ports) >= len(switch.nics):
                raise ValueError(f"{host} has {len(ports)} ports and {len(switch.nics) - 1} interfaces for them")
        for host in model.hosts:
            install(self.switches[host], model, self.facts(model, host))
        self.forget()

    def facts(self, model: Model, host: str) -> Facts:
        switch = self.switches[host]
        ofports = {port: switch.ofports[nic] for port, (at, nic) in self.wiring.items() if at == host}
        return Facts(host, model.hosts[host].vtep, switch.ofports[TUNNEL], ofports, self.nd_responder)

    def forget(self) -> None:
        for switch in self.switches.values():
            switch.forget()

    def forget_connections(self) -> None:
        """Let every switch forget who opened what."""
        for switch in self.switches.values():
            switch.forget_connections()

    def send(self, frames: Sequence[Frame]) -> list[Seen]:
        """Send every frame (made by ``tokened``, token = position) and return what became of each.

        Raises AssertionError for a copy that stems from none of them, or a packet on the wire that is no VXLAN.
        """
        seen = [Seen() for _ in frames]
        for frame in frames:
            host, nic = self.wiring[frame.sender]
            self.switches[host].receive(nic, frame.data)
        self._settle()
        self._cross(seen)
        self._collect(seen)
        return seen

    def arrive(self, arrivals: Sequence[Arrival]) -> list[Seen]:
        """Put frames (made by ``tokened``, token = position) on the wire to a host, and return what became of each."""
        seen = [Seen() for _ in arrivals]
        for arrival in arrivals:
            switch = self.switches[arrival.host]
            switch.receive("p0", write_vxlan(arrival.source, arrival.destination, arrival.vni, arrival.data))
        self._settle()
        self._cross(seen)
        self._collect(seen)
        return seen

    def stray(self, data: bytes) -> list[Seen]:
        """Send ``data`` (its token is 0) from an interface of each switch that is no port's, and return its copies."""
        seen = [Seen()]
        for switch in self.switches.values():
            switch.receive(switch.nics[-1], data)
        self._settle()
        self._cross(seen)
        self._collect(seen)
        return seen

    def _collect(self, seen: list[Seen]) -> None:
        names = {wired: port for port, wired in self.wiring.items()}
        for host, switch in self.switches.items():
            for nic, pcap in switch.pcaps.items():
                for data in pcap.new():
                    seen[token_of(data)].delivered.append((names.get((host, nic), f"{host}:{nic}"), data))

    def _cross(self, seen: list[Seen]) -> None:
        """Carry what is on the wire to the switches it is for, until the wire is silent; a loop is an error."""
        for _ in range(3):
            crossing = [packet for switch in self.switches.values() for packet in switch.uplink.new()]
            if not crossing:
                return
            for packet in crossing:
                source, destination, vni, inner = read_vxlan(packet)
                seen[token_of(inner)].wire.append((source, destination, vni, inner))
                for host, vteps in VTEPS.items():
                    if destination in vteps:
                        self.switches[host].receive("p0", packet)
            self._settle()
        raise AssertionError("frames go round in the tunnels")

    def _drain(self) -> None:
        """Forget what an interrupted run may have left in the pcap files."""
        for switch in self.switches.values():
            for pcap in (*switch.pcaps.values(), switch.uplink):
                pcap.new()

    def _settle(self) -> None:
        for switch in self.switches.values():
            switch.settle()


def tokened(data: bytes, token: int) -> bytes:
    """``data`` with its token as the last octets of the frame, behind a margin that nobody has reason to write to."""
    return data + MARGIN + TOKEN + struct.pack("!I", token)


def token_of(data: bytes) -> int:
    if data[-8:-4] != TOKEN:
        raise AssertionError(f"a frame that nobody sent: {data.hex()}")
    return int.from_bytes(data[-4:], "big")


def read_vxlan(packet: bytes) -> tuple[str, str, int, bytes]:
    """Outer source and destination, VNI and inner frame of a VXLAN packet (RFC 7348)."""
    ethertype = int.from_bytes(packet[12:14], "big")
    if ethertype == 0x0800:
        source, destination, protocol, udp = packet[26:30], packet[30:34], packet[23], packet[34:]
    else:
        source, destination, protocol, udp = packet[22:38], packet[38:54], packet[20], packet[54:]
    if protocol != 17 or udp[2:4] != struct.pack("!H", 4789) or udp[8:9] != b"\x08":
        raise AssertionError(f"not VXLAN on the wire: {packet.hex()}")
    return str(ip_address(source)), str(ip_address(destination)), int.from_bytes(udp[12:15], "big"), udp[16:]


def write_vxlan(source: str, destination: str, vni: int, inner: bytes) -> bytes:
    """A VXLAN packet from one VTEP to another, with their MACs: a switch learns its neighbours from what it gets."""
    macs = {address: uplink_mac(host) for host, addresses in VTEPS.items() for address in addresses}
    vxlan = struct.pack("!BBHI", 8, 0, 0, vni << 8) + inner
    ethertype, payload = packets.ip(source, destination, packets.udp(vxlan, dport=4789))
    return packets.ethernet(macs[destination], macs[source], ethertype, payload)
