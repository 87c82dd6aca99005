"""One packet's way from port to port across hosts, through the compiled tables, with the object that decides."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ovsnet.desired import Desired, Subject
from ovsnet.errors import UserError
from ovsnet.explain import Emission, Packet, Step, Tables, Walk, arrival, registers
from ovsnet.facts import Facts
from ovsnet.gateway import GATEWAY_MAC
from ovsnet.library import assumed_facts, compile, frame
from ovsnet.model import Host, Model, Port, Vpc, VpcState
from ovsnet.model.addresses import parse_cidr, parse_ip
from ovsnet.model.numbers import ip_int, ip_text, link_local, mac_int, mac_text
from ovsnet.model.routes import gateway_of, joined
from ovsnet.pipeline import fields as f
from ovsnet.pipeline.render import value_text
from ovsnet.responders.lease import Lease

MOST_HOPS = 8
_BY_UDP6 = {f.ETH_TYPE: f.ETH_IPV6, f.IP_TTL: 1, f.IP_PROTO: f.PROTO_UDP}
ASKED: Mapping[str, Packet] = {
    "dhcp": {
        f.ETH_DST: 0xFFFFFFFFFFFF, f.ETH_TYPE: f.ETH_IPV4, f.IPV4_SRC: 0, f.IPV4_DST: 0xFFFFFFFF, f.IP_TTL: 64,
        f.IP_PROTO: f.PROTO_UDP, f.UDP_SRC: 68, f.UDP_DST: 67,
    },
    "dhcpv6": {
        f.ETH_DST: 0x333300010002, f.IPV6_DST: 0xFF02 << 112 | 0x10002, f.UDP_SRC: 546, f.UDP_DST: 547, **_BY_UDP6,
    },
    "routers": {
        f.ETH_DST: 0x333300000002, f.ETH_TYPE: f.ETH_IPV6, f.IPV6_DST: 0xFF02 << 112 | 2, f.IP_TTL: 255,
        f.IP_PROTO: f.PROTO_ICMPV6, f.ICMPV6_TYPE: 133, f.ICMPV6_CODE: 0,
    },
}  # fmt: skip
"""What a port may ask of its own addresses instead of sending to somebody: DHCP, DHCPv6, a router solicitation."""
_VISIT = re.compile(r"^ *(?P<table>\d+)\. (?:\S+, )?priority (?P<priority>\d+), cookie 0x4f56", re.MULTILINE)
"""A flow of ours in the output of ``ofproto/trace``; those of a subroutine are indented."""
_METADATA = frozenset({f.TUN_DST, f.TUN_IPV6_DST})


@dataclass(frozen=True)
class Place:
    """One host as a trace needs it: what its switch is like and what flows it should have."""

    facts: Facts
    desired: Desired


@dataclass(frozen=True)
class Hop:
    """A frame's way through one host; ``what`` says in words what the frame is."""

    host: str
    what: str
    packet: Packet
    walk: Walk


@dataclass(frozen=True)
class Trace:
    """The whole way. ``reached`` are the ports that got the frame; ``reason`` says in a sentence why it ended there."""

    source: str
    target: str
    hops: tuple[Hop, ...]
    reached: tuple[str, ...]
    delivered: bool
    reason: str
    decided_by: str


def places(model: Model, facts: Mapping[str, Facts] | None = None) -> Mapping[str, Place]:
    """Every host of a model, with the facts given or assumed; each is compiled when it is first asked for.

    Asking raises as ``compile`` does.
    """
    return _Places(model, facts or {})


class _Places(Mapping[str, Place]):
    def __init__(self, model: Model, facts: Mapping[str, Facts]) -> None:
        self._model = model
        self._facts = facts
        self._made: dict[str, Place] = {}

    def __getitem__(self, host: str) -> Place:
        if host not in self._model.hosts:
            raise KeyError(host)
        if host not in self._made:
            seen = self._facts.get(host) or assumed_facts(self._model, host)
            self._made[host] = Place(seen, compile(self._model, host, seen))
        return self._made[host]

    def __iter__(self) -> Iterator[str]:
        return iter(self._model.hosts)

    def __len__(self) -> int:
        return len(self._model.hosts)


def model_of(states: Iterable[VpcState]) -> Model:
    """The states that hosts hold as a model."""
    hosts: dict[str, Host] = {}
    vpcs: dict[str, Vpc] = {}
    for state in states:
        hosts |= {name: Host(vtep=vtep) for name, vtep in state.hosts.items()}
        vpcs[state.name] = Vpc(
            tenant=state.name,
            networks=state.networks,
            routers=state.routers,
            ports=state.ports,
            security_groups=state.security_groups,
            address_groups=state.address_groups,
        )
    return Model(name="live", hosts=hosts, vpcs=vpcs)


def trace(
    model: Model,
    at: Mapping[str, Place],
    source: str,
    target: str,
    protocol: str | int = "icmp",
    port: int = 0,
    family: int = 0,
    icmp: tuple[int, int] | None = None,
) -> Trace:
    """Follow one packet from port ``source`` (``VPC/NAME``) to ``target`` (another port's name, or an IP address).

    ``protocol`` is tcp, udp, sctp, icmp or a number, ``port`` its destination, ``icmp`` its type and code (left out, an
    echo request); ``family`` 4 or 6 chooses where both ports have both (0: the first that they share). The sender first
    asks for the MAC, as a workload does, then sends. A target of ``ASKED`` is no port, but what a port asks of its own
    addresses. Raises UserError when there is nothing to send from, or to.
    """
    sender = _port(model, source)
    if sender.host is None:
        raise UserError(f"{source} has no host, so it sends nothing. Give it one with `host:`.")
    start = at[sender.host].facts.ofports.get(sender.id)
    if start is None:
        raise UserError(f"{source} is not plugged on {sender.host}: no interface there has the iface-id {sender.id}.")
    if target in ASKED:
        return _told(at[sender.host], sender, start, source, target)
    ip_src, ip_dst, mac = _addresses(model, source, sender, target, family)
    gateway = next_gateway(model.vpcs[source.partition("/")[0]], sender.network, ip_dst)
    if gateway is not None:
        mac = GATEWAY_MAC
    asking = _ask(sender, start, ip_src, gateway or ip_dst)
    question = Hop(sender.host, f"who has {gateway or ip_dst}?", asking, _walk(at[sender.host], asking))
    answer = question.walk.emissions[0].packet[f.ETH_SRC] if question.walk.emissions else None
    if mac is None and answer is None:
        step = question.walk.last
        reason = f"the question dies in {step.table.name} on {sender.host}: {step.flow.row.template.doc}"
        return Trace(source, target, (question,), (), False, reason, str(step.flow.subject))
    wanted = mac if mac is not None else mac_text(answer or 0)
    packet = frame(start, sender.mac or "", wanted, ip_src, ip_dst, protocol, port, icmp)
    hops, reached = _follow(model, at, sender.host, packet, f"{_named(protocol)} {ip_src} -> {ip_dst}")
    return _conclude(model, source, target, question, hops, reached)


def _told(place: Place, sender: Port, ofport: int, source: str, asked: str) -> Trace:
    """What becomes of a port's question about its own addresses, and what its host's agent answers."""
    mac = mac_int(sender.mac or "")
    packet = {f.IN_PORT: ofport, f.VLAN_VID: 0, f.ETH_SRC: mac, f.IP_FRAG: 0, **ASKED[asked]}
    if packet[f.ETH_TYPE] == f.ETH_IPV6:
        packet[f.IPV6_SRC] = link_local(mac)
    hop = Hop(sender.host or "", f"{asked}: what are my addresses?", packet, _walk(place, packet))
    step, lease = hop.walk.last, place.desired.leases.get(ofport)
    answered = step.flow.row.template.feature == "dhcp" and lease is not None
    if answered and lease is not None:
        reason = f"answered by the agent on {hop.host}: {_words(lease, asked)}"
    else:
        reason = f"dropped in {step.table.name} on {hop.host}: {step.flow.row.template.doc}"
    return Trace(source, asked, (hop,), (), answered, reason, str(step.flow.subject))


def _words(lease: Lease, asked: str) -> str:
    """What a port is told, in short."""
    v4, v6, said = lease.v4, lease.v6, lease.said
    if asked == "dhcp" and v4 is not None:
        router = f", router {v4.router}" if v4.router else ", no router"
        return f"{v4.ip}/{v4.prefix}{router}, MTU {v4.mtu}"
    if asked == "dhcpv6" and v6 is not None:
        return ", ".join(v6.ips) or "no address, only what belongs to the network"
    if said is None:
        return "nothing"
    how = "ask by DHCPv6" if said.managed else "make the address of the MAC"
    router = "a default router" if said.lifetime else "no router"
    return f"{', '.join(prefix.cidr for prefix in said.prefixes)}, {how}, {router}, MTU {said.mtu}"


def next_gateway(vpc: Vpc, network: str, ip: str) -> str | None:
    """The gateway that a workload in ``network`` sends to for an address; ``None`` for a neighbour, or without one."""
    packed = parse_ip(ip)
    if packed is None or network not in joined(vpc.routers):
        return None
    subnets = [(subnet, parsed[0]) for subnet in vpc.networks[network].subnets if (parsed := parse_cidr(subnet.cidr))]
    if any(packed in cidr for _, cidr in subnets):
        return None
    return next((gateway_of(subnet) for subnet, cidr in subnets if cidr.bits == len(packed) * 8), None)


def _named(protocol: str | int) -> str:
    return protocol if isinstance(protocol, str) else f"protocol {protocol}"


def _walk(place: Place, packet: Packet) -> Walk:
    return Tables(place.desired).walk(packet)


def _port(model: Model, name: str) -> Port:
    vpc, _, port = name.partition("/")
    try:
        return model.vpcs[vpc].ports[port]
    except KeyError:
        raise UserError(f"{name} is not a port of the model. Name it VPC/PORT.") from None


def _addresses(model: Model, source: str, sender: Port, target: str, family: int) -> tuple[str, str, str | None]:
    """Source address, destination address, and the destination's MAC when the target is a declared port."""
    bits = {4: 32, 6: 128}.get(family)
    mine = [ip for ip in sender.ips or () if bits in (None, ip_int(ip)[1])]
    if "/" not in target:
        try:
            wanted = ip_int(target)[1]
        except OSError:
            raise UserError(f"{target} is neither a port (VPC/PORT) nor an IP address.") from None
        theirs, mac = [target], None
        mine = [ip for ip in mine if ip_int(ip)[1] == wanted]
    else:
        peer = _port(model, target)
        theirs, mac = list(peer.ips or ()), peer.mac
    for ip_src in mine:
        for ip_dst in theirs:
            if ip_int(ip_src)[1] == ip_int(ip_dst)[1]:
                return ip_src, ip_dst, mac
    which = f"IPv{family} " if family else ""
    raise UserError(
        f"{source} and {target} have no {which}addresses of one family. Give both one, or ask for the other."
    )


def _ask(sender: Port, ofport: int, ip_src: str, ip_dst: str) -> dict[f.Field, int]:
    """The ARP request or neighbour solicitation with which a workload asks for ``ip_dst``."""
    src, bits = ip_int(ip_src)
    dst, mac = ip_int(ip_dst)[0], mac_int(sender.mac or "")
    packet = {f.IN_PORT: ofport, f.VLAN_VID: 0, f.ETH_SRC: mac}
    if bits == 32:
        arp = {f.ARP_OP: 1, f.ARP_SHA: mac, f.ARP_SPA: src, f.ARP_THA: 0, f.ARP_TPA: dst}
        return packet | {f.ETH_DST: 0xFFFFFFFFFFFF, f.ETH_TYPE: f.ETH_ARP} | arp
    group = 0xFF02 << 112 | 0x1FF << 24 | dst & 0xFFFFFF  # solicited-node multicast (RFC 4291, 2.7.1)
    return packet | {
        f.ETH_DST: 0x3333 << 32 | group & 0xFFFFFFFF,
        f.ETH_TYPE: f.ETH_IPV6,
        f.IPV6_SRC: src,
        f.IPV6_DST: group,
        f.IP_FRAG: 0,
        f.IP_PROTO: f.PROTO_ICMPV6,
        f.ICMPV6_TYPE: 135,
        f.ICMPV6_CODE: 0,
        f.ND_TARGET: dst,
        f.ND_SLL: mac,
    }


def _follow(
    model: Model, at: Mapping[str, Place], host: str, packet: Packet, what: str
) -> tuple[list[Hop], list[tuple[Hop, str]]]:
    """The hops, and which of them delivered to which port."""
    hops: list[Hop] = []
    reached: list[tuple[Hop, str]] = []
    waiting: list[tuple[str, Packet]] = [(host, packet)]
    while waiting and len(hops) < MOST_HOPS:
        here, now = waiting.pop(0)
        hop = Hop(here, what, now, _walk(at[here], now))
        hops.append(hop)
        for out in hop.walk.emissions:
            if out.port == at[here].facts.tunnel_ofport:
                there = _host_of(model, out)
                tunnel = at[there].facts.tunnel_ofport if there else None
                if there and tunnel is not None:
                    waiting.append((there, arrival(out.packet, tunnel)))
            else:
                reached.append((hop, _name_of(model, at[here].facts, out)))
    return hops, reached


def _host_of(model: Model, out: Emission) -> str | None:
    vtep = out.packet.get(f.TUN_DST, out.packet.get(f.TUN_IPV6_DST))
    return next((name for name, host in model.hosts.items() if ip_int(host.vtep)[0] == vtep), None)


def _name_of(model: Model, facts: Facts, out: Emission) -> str:
    port = out.packet[f.IN_PORT] if out.port is None else out.port
    iface = next((iface for iface, number in facts.ofports.items() if number == port), None)
    for vpc, has in model.vpcs.items():
        for name, declared in has.ports.items():
            if declared.id == iface:
                return f"{vpc}/{name}"
    return f"OpenFlow port {port}"


def _conclude(
    model: Model, source: str, target: str, question: Hop, hops: list[Hop], reached: list[tuple[Hop, str]]
) -> Trace:
    route = route_text(model, hops[0])
    router = f"routed by {route}, " if route else ""
    names = tuple(dict.fromkeys(name for _, name in reached))  # a port that moves is reached in two places
    last = reached[0][0] if reached else hops[-1]
    step = last.walk.last
    if reached:
        places = " and ".join(hop.host for hop, _ in reached)
        reason = f"{router}delivered to {', '.join(names)} by {step.table.name} on {places}"
    else:
        reason = f"{router}dropped in {step.table.name} on {last.host}: {step.flow.row.template.doc}"
    delivered = bool(names) and (target in names or "/" not in target)
    return Trace(source, target, (question, *hops), names, delivered, reason, str(step.flow.subject))


def routed_by(hop: Hop) -> Step | None:
    """The step of a hop that routed the packet, or that a router kept it in; ``None``: it was for no router."""
    return next((step for step in hop.walk.steps if step.flow.row.template.feature == "routing"), None)


def route_text(model: Model, hop: Hop) -> str:
    """The router that a packet is for, and its route, such as ``shop/r1 to 10.50.0.0/16``; empty for no router."""
    step = routed_by(hop)
    if step is None or step.table.name != "route":
        return ""
    flow, template = step.flow, step.flow.row.template
    values = flow.row.named()
    target = next((term for term in template.match if term.field in (f.IPV4_DST, f.IPV6_DST)), None)
    name = flow.subject
    if name.kind != "router":  # the address of a port or an endpoint
        vpc = model.vpcs[name.vpc]
        network = vpc.ports[name.name].network if name.name in vpc.ports else ""
        name = Subject("router", name.vpc, joined(vpc.routers).get(network, ""))
    if target is None:
        return str(name)
    ip = values["ip"] if isinstance(target.value, str) else target.value
    length = f"/{values['mask'].bit_count()}" if isinstance(target.mask, str) else ""
    several = f", one of {values['last'] + 1} next hops" if "last" in values else ""
    return f"{name} to {ip_text(ip, target.field.bits)}{length}{several}"


def addresses_of(packet: Packet) -> tuple[str, str]:
    """The source and destination address of an IP packet."""
    six = packet[f.ETH_TYPE] == f.ETH_IPV6
    source, target = (f.IPV6_SRC, f.IPV6_DST) if six else (f.IPV4_SRC, f.IPV4_DST)
    bits = 128 if six else 32
    return ip_text(packet[source], bits), ip_text(packet[target], bits)


def ofproto_flow(packet: Packet) -> str:
    """The frame as ``ovs-appctl ofproto/trace`` takes it (ovs-vswitchd(8)), with what the tracker said of it, if it
    was asked, and with the registers.
    """
    names = {f.ETH_TYPE: "dl_type", f.ICMPV6_TYPE: "icmpv6_type", f.TUN_ID: "tun_id"}
    parts = []
    for field in (*f.PACKET_FIELDS, *f.TRACKER_FIELDS):
        if field not in packet or field in _METADATA or field in (f.VLAN_VID, f.IP_FRAG):
            continue
        value = packet[field]
        text = f"{value:#x}" if field is f.CT_STATE else value_text(field, value)
        parts.append(f"{names.get(field, field.name)}={text}")
    parts += [f"reg{number}={value:#x}" for number, value in registers(packet).items()]
    return ",".join(parts)


def questions(hop: Hop, bridge: str) -> tuple[tuple[str, ...], ...]:
    """What to ask ``ovs-appctl`` for the switch's own trace of a hop: a command with its arguments for each leg.

    A trace of the whole way would forget the connection's addresses and ports behind the connection tracker
    (ovs-vswitchd(8): only ``--ct-next`` is given), so each leg from there on starts as a packet-out that has them.
    """
    first = ("ofproto/trace", bridge, ofproto_flow(hop.packet))
    later = (
        ("ofproto/trace-packet-out", bridge, ofproto_flow(one.packet), f"resubmit(,{one.table.id})")
        for one in hop.walk.resumed
    )
    return (first, *later)


def ofproto_tables(output: str) -> list[tuple[int, int]]:
    """The (table id, priority) pairs of our flows that one leg of an ``ofproto/trace`` visited, in order.

    Behind a tunnel the trace goes on through the bridge to the underlay, whose flows are not ours; behind the
    connection tracker it goes on under a heading of its own, which is another leg's.
    """
    leg = output.partition(f"\n{'=' * 20}")[0]
    return [(int(one["table"]), int(one["priority"])) for one in _VISIT.finditer(leg)]


def agrees(hop: Hop, outputs: Sequence[str]) -> bool:
    """Whether a switch's own traces, one for each of the ``questions``, visited the very flows, table by table."""
    visited = [(step.table.id, step.flow.row.priority) for step in hop.walk.steps]
    starts = [0, *(one.index for one in hop.walk.resumed), len(visited)]
    legs = [visited[start:end] for start, end in pairwise(starts)]
    return [ofproto_tables(output) for output in outputs] == legs


__all__ = [
    "Hop",
    "Place",
    "Trace",
    "addresses_of",
    "agrees",
    "model_of",
    "next_gateway",
    "ofproto_flow",
    "ofproto_tables",
    "places",
    "route_text",
    "routed_by",
    "trace",
]
