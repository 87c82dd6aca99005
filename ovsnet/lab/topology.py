"""What a model looks like as namespaces, interfaces and processes of one machine: names and addresses, nothing done."""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from pathlib import Path
from typing import Literal, get_args

import msgspec

from ovsnet.errors import UserError
from ovsnet.lab.physical import BridgeSpec, PhysicalSpec, physical_networks
from ovsnet.model.names import port_mtu
from ovsnet.model.routes import gateway_of, joined
from ovsnet.model.types import Encapsulation, Model, Port

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MANAGEMENT = ipaddress.IPv6Network("fd6f:7673:6e65::/64")
"""The addresses of the management network; it exists inside the lab only."""
CONTROL = str(MANAGEMENT[1])
"""The address of the control namespace."""
AGENT_PORT, BUS_PORT, CONTROLLER_PORT = 7443, 4222, 8443
"""TCP ports: of the agents' APIs, of the message bus, of the controller's API."""
_SOCKET_PATH_LIMIT = 107
_LONGEST_SOCKET = len("/ovs-vswitchd.12345678.ctl")


Transport = Literal["direct", "controller", "nats"]
"""Who tells the agents: the lab itself, a controller that calls them, or a controller over a message bus."""
TRANSPORTS: tuple[Transport, ...] = get_args(Transport)


class Attachment(msgspec.Struct, frozen=True):
    """A place on the management network: its address, the underlay's end of the link, and its certificates."""

    address: str
    link: str
    tls_dir: str


class HostSpec(msgspec.Struct, frozen=True):
    """A hypervisor: its namespace, VTEP, run directory and the underlay's end of its uplink.

    ``management`` is ``None`` in a lab without a controller, ``bus`` the URL of the message bus, if there is one.
    """

    name: str
    netns: str
    vtep: str
    run_dir: str
    uplink: str
    mtu: int
    datapath: str
    management: Attachment | None = None
    bus: str = ""
    encapsulation: Encapsulation = "vxlan"
    bridges: tuple[BridgeSpec, ...] = ()


class ControlSpec(msgspec.Struct, frozen=True):
    """Where the controller and, with ``nats``, the message bus live; ``bus`` is its URL."""

    netns: str
    run_dir: str
    pki_dir: str
    transport: Transport
    bus: str
    management: Attachment


class WorkloadSpec(msgspec.Struct, frozen=True):
    """A port's workload: its namespace with ``eth0``, and ``tap``, the other end on the host's integration bridge.

    ``addresses`` are ``IP/LENGTH``; ``gateways`` the default routes, one of each IP version
    where a router joins the network; ``id`` the iface-id; ``offload`` whether eth0 may
    leave checksums to the device.
    """

    vpc: str
    port: str
    id: str
    netns: str
    host: str
    tap: str
    mac: str
    addresses: tuple[str, ...]
    gateways: tuple[str, ...]
    mtu: int
    offload: bool

    @property
    def name(self) -> str:
        """``VPC/PORT``."""
        return f"{self.vpc}/{self.port}"


class Topology(msgspec.Struct, frozen=True):
    """Everything a lab consists of; ``hosts`` by name, ``workloads`` by ``VPC/PORT``, ``physical`` networks by name.

    ``control`` is ``None`` in a lab without a controller.
    """

    lab: str
    underlay: str
    mtu: int
    hosts: dict[str, HostSpec]
    workloads: dict[str, WorkloadSpec]
    control: ControlSpec | None = None
    physical: dict[str, PhysicalSpec] = {}


def lab_home() -> Path:
    """Where all labs keep their files: ``OVSNET_LAB_DIR``, by default /run/ovsnet-lab."""
    return Path(os.environ.get("OVSNET_LAB_DIR", "/run/ovsnet-lab"))


def lab_dir(lab: str) -> Path:
    """The lab's directory, below ``lab_home``. Raises UserError for a bad name."""
    if not NAME.fullmatch(lab):
        raise UserError(f"{lab!r} is not a lab's name: lower-case letters, digits, '-' and '_', at most 63.")
    return lab_home() / short(lab, 32)


def prefix(lab: str) -> str:
    """What the names of all namespaces of a lab start with. No name holds a dot, so no two labs share one."""
    return f"ovsnet-{lab}."


def marker(lab: str) -> str:
    """What marks a namespace as this lab's."""
    return f"ovsnet-lab:{lab}"


def short(name: str, length: int) -> str:
    """``name``, or when it is longer than ``length``, its beginning and a hash of all of it."""
    if len(name) <= length:
        return name
    return f"{name[: length - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def topology(model: Model, lab: str, datapath: str, transport: Transport = "direct", *, tls: bool = True) -> Topology:
    """The lab of a complete model (ids, MACs and IPs assigned). Raises UserError when a path would be too long.

    Without ``tls`` the message bus takes anybody.
    """
    base = lab_dir(lab)
    bus = f"{'tls' if tls else 'nats'}://[{CONTROL}]:{BUS_PORT}" if transport == "nats" else ""
    physical = physical_networks(model, prefix(lab), base / "x")
    hosts = {}
    for name, host in model.hosts.items():
        run_dir = base / "h" / short(name, 20)
        if len(str(run_dir)) + _LONGEST_SOCKET > _SOCKET_PATH_LIMIT:
            raise UserError(
                f"{run_dir}: too long for the path of a socket (107 bytes). Set OVSNET_LAB_DIR to a shorter directory."
            )
        hosts[name] = HostSpec(
            name=name,
            netns=f"{prefix(lab)}host.{name}",
            vtep=host.vtep,
            run_dir=str(run_dir),
            uplink=_interface("u", name),
            mtu=model.underlay.mtu,
            datapath=datapath,
            management=_attachment(base, name) if transport != "direct" else None,
            bus=bus,
            encapsulation=model.underlay.encapsulation,
            bridges=tuple(
                BridgeSpec(bridge, physical[net], _interface("x", net), _interface("x", f"{name} {net}"))
                for net, bridge in sorted(host.bridges.items())
            ),
        )
    workloads = {}
    for vpc_name, vpc in model.vpcs.items():
        for port_name, port in vpc.ports.items():
            if port.host is not None:
                made = _workload(model, lab, vpc_name, port_name, port, datapath)
                workloads[made.name] = made
    control = _control(lab, transport, bus) if transport != "direct" else None
    return Topology(lab, f"{prefix(lab)}underlay", model.underlay.mtu, hosts, workloads, control, physical)


def agent_url(host: HostSpec) -> str | None:
    """Where the host's agent is called from elsewhere; ``None`` in a lab without a controller."""
    return f"https://[{host.management.address}]:{AGENT_PORT}" if host.management else None


def _control(lab: str, transport: Transport, bus: str) -> ControlSpec:
    base = lab_dir(lab)
    return ControlSpec(
        netns=f"{prefix(lab)}control",
        run_dir=str(base / "c"),
        pki_dir=str(base / "pki"),
        transport=transport,
        bus=bus,
        management=Attachment(CONTROL, _interface("mc", ""), str(base / "pki/callers/controller")),
    )


def _attachment(base: Path, host: str) -> Attachment:
    """A host's address follows from its name, so that it stays what it is when others come and go."""
    suffix = int.from_bytes(hashlib.sha256(host.encode()).digest()[:8], "big") | 1 << 63
    return Attachment(str(MANAGEMENT[suffix]), _interface("m", host), str(base / "pki/hosts" / host))


def _workload(model: Model, lab: str, vpc: str, name: str, port: Port, datapath: str) -> WorkloadSpec:
    assert port.host is not None and port.mac is not None
    network = model.vpcs[vpc].networks[port.network]
    routed = port.network in joined(model.vpcs[vpc].routers)
    addresses: list[str] = []
    gateways: dict[int, str] = {}
    for ip in port.ips or ():
        for subnet in network.subnets:
            cidr = ipaddress.ip_network(subnet.cidr)
            if ipaddress.ip_address(ip) in cidr:
                addresses.append(f"{ip}/{cidr.prefixlen}")
                if routed:
                    gateways.setdefault(cidr.version, gateway_of(subnet))
                elif network.provider_network is not None and subnet.gateway is not None:
                    gateways.setdefault(cidr.version, subnet.gateway)
    return WorkloadSpec(
        vpc=vpc,
        port=name,
        id=port.id,
        netns=f"{prefix(lab)}port.{vpc}.{name}",
        host=port.host,
        tap=_interface(name, port.id),
        mac=port.mac,
        addresses=tuple(addresses),
        gateways=tuple(gateways.values()),
        mtu=port_mtu(model, vpc, port),
        offload=datapath == "system",
    )


def _interface(readable: str, identity: str) -> str:
    """An interface's name, at most 15 characters: a readable beginning and a hash."""
    return f"{readable[:6]}-{hashlib.sha256(identity.encode()).hexdigest()[:8]}"
