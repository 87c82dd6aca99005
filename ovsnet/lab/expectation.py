"""What the model means for one frame: an independent reading, written without looking at the pipeline.

The lab's matrix and the property tests hold a real switch to these answers, so this module imports the declared types
and the standard library, nothing of features, pipeline or compiler. It reads frames from their bytes (``headers``).

Sources: RFC 826 (ARP), RFC 5227 (ARP probes), RFC 4291 (EUI-64), RFC 4861 (ND), RFC 4862 (DAD), RFC 3810 (MLD),
RFC 6980 (fragmented ND), RFC 8200 (extension headers).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, ip_address, ip_network
from typing import Literal, NamedTuple

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.asking import asks, services
from ovsnet.lab.fate import Answer, Delivery, Error, Frame, Kind, Reason, Wire
from ovsnet.lab.filtering import Direction, Filter, Guard, Verdict, groups_of
from ovsnet.lab.headers import (
    ARP,
    IPV4,
    IPV6,
    MLD,
    NA,
    ND,
    NO_MAC,
    NS,
    RA,
    REDIRECT,
    UNSPECIFIED,
    Address,
    Parsed,
    addresses_of,
    is_group,
    parse,
)
from ovsnet.lab.routing import Domain, Prefix, Where, domains, forbidden, forwarded, ranges_of, ttl_of
from ovsnet.lab.segments import Segment, read
from ovsnet.model.types import Model, Port, RemoteEndpoint, Route

__all__ = [
    "Answer",
    "Delivery",
    "Error",
    "Expectation",
    "Frame",
    "Kind",
    "Prefix",
    "Reason",
    "Wire",
    "assigned",
    "delivered",
]

_EXEMPT = frozenset({*ND, *MLD})
"""The ICMPv6 types that groups are not asked about."""


class _Place(NamedTuple):
    host: str
    vtep: str
    name: str | None


@dataclass(frozen=True)
class _Nic:
    """A placed port with its addresses as numbers; ``grants`` are the (MAC, prefix) pairs it may send from,
    ``ranges`` what is routed to it, and ``answered`` what it may ask of its own addresses.

    ``places`` are the hosts that it is on, each with its VTEP and what the port is called there: two while it moves.
    ``at`` is which of them a frame is sent from. An endpoint is on no host of the model: its one place has no name.
    """

    name: str
    mac: str
    places: tuple[_Place, ...]
    at: int
    vni: int
    segment: Where
    secure: bool
    groups: tuple[str, ...] | None
    addresses: frozenset[Address]
    grants: tuple[tuple[str, Prefix], ...]
    ranges: tuple[Prefix, ...] = ()
    answered: frozenset[str] = frozenset()

    @property
    def vtep(self) -> str:
        """The VTEP of the host that it sends from."""
        return self.places[self.at].vtep

    def may_use(self, mac: str, ip: Address | None) -> bool:
        """Whether the port may send from this MAC together with this address."""
        return ip is not None and any(mac == own and ip in prefix for own, prefix in self.grants)

    def accepts(self, seen: Parsed) -> bool:
        """Whether a frame with the port's MAC is for one of its addresses (or solicits one), or is routed to it."""
        solicited = seen.icmp_type == NS and not seen.fragment and seen.target in self.addresses
        routed = seen.ip_dst is not None and any(seen.ip_dst in prefix for prefix in self.ranges)
        return not self.secure or seen.ip_dst in self.addresses or solicited or routed


class Expectation:
    """The meaning of one complete model (MACs, IPs and VNIs assigned). Building it is linear in the ports.

    ``nd_responder`` tells how a neighbour solicitation is served: by an answer at the source host (the user-space
    datapath), or by sending it, rewritten to unicast, to the owner of the target (the kernel datapath). One without a
    link-layer option, a probe of a neighbour that is known already (RFC 4861, 7.2.2), is a unicast frame like any.

    ``endpoints`` are, by VPC and name, the neighbours that are known by their VTEP alone. A port with ``moving_to`` is
    one port in two places: what is sent to it goes to both, and either may send.

    Stateful groups remember connections: the frames given to ``delivered`` are sent one after the other.
    """

    def __init__(
        self,
        model: Model,
        *,
        nd_responder: bool = True,
        endpoints: Mapping[str, Mapping[str, RemoteEndpoint]] | None = None,
    ) -> None:
        """Index ``model``. Raises ValueError for an address or VNI that is not assigned yet."""
        self.nd_responder = nd_responder
        self.nics: dict[str, _Nic] = {}
        self._by_mac: dict[tuple[Where, str], _Nic] = {}
        self._by_address: dict[tuple[Where, Address], _Nic] = {}
        self._guards: dict[str, Guard] = {}
        self._domains = domains(model)
        self._filter = Filter(model, endpoints)
        for vpc_name, vpc in model.vpcs.items():
            for port_name, port in vpc.ports.items():
                if port.host is not None:
                    nic = _nic(model, vpc_name, port_name, port)
                    self._add(nic)
                    for at, place in enumerate(nic.places):
                        self.nics[str(place.name)] = replace(nic, at=at)
                        if nic.groups is not None:
                            self._guards[str(place.name)] = Guard(self._filter, nic.segment, nic.groups)
            for name, endpoint in (endpoints or {}).get(vpc_name, {}).items():
                self._add(_neighbour(model, vpc_name, name, endpoint))

    def forget(self) -> None:
        """Forget all connections, as if nobody had sent anything yet."""
        for guard in self._guards.values():
            guard.forget()

    def _add(self, nic: _Nic) -> None:
        self._by_mac[nic.segment, nic.mac] = nic
        for address in nic.addresses:
            self._by_address[nic.segment, address] = nic

    def delivered(self, frame: Frame) -> Delivery:
        """The fate of ``frame``. Raises ValueError for a sender that is not a placed port."""
        try:
            sender = self.nics[frame.sender]
        except KeyError:
            raise ValueError(f"{frame.sender} is not a placed port, so it cannot send") from None
        if len(frame.data) < 14:
            return Delivery(Reason.MALFORMED)
        seen = parse(frame.data)
        if asks(seen, read(frame.data), sender.mac, sender.answered):
            return Delivery(Reason.ASKED)
        refusal = _refusal(sender, seen)
        if refusal is not None:
            return Delivery(refusal)
        if seen.ethertype == ARP:
            return self._arp(sender, seen)
        if seen.icmp_type == NS and not seen.fragment:
            return self._solicitation(sender, seen, frame.data)
        if seen.icmp_type in _EXEMPT:
            return self._unicast(sender, seen, frame.data)
        packet = read(frame.data)
        egress = self._asked(frame.sender, "egress", packet)
        if _refused(egress):
            return Delivery(Reason.EGRESS_REFUSED, egress=egress)
        return self._guarded(replace(self._unicast(sender, seen, frame.data), egress=egress), packet)

    def chosen(self, frame: Frame, fate: Delivery, choice: Delivery, *, remember: bool = True) -> Delivery:
        """What becomes of ``frame``, whose ``fate`` has ``choices``, if ``choice`` is the one that came true.

        Without ``remember`` it is only asked; what is chosen in truth is to be remembered once.
        """
        if parse(frame.data).icmp_type in _EXEMPT:
            return choice
        return self._guarded(replace(choice, egress=fate.egress), read(frame.data), remember=remember)

    def _asked(
        self, place: str, direction: Direction, packet: Segment | None, *, remember: bool = True
    ) -> Verdict | None:
        """What the groups of a place say of a packet; ``None`` where nothing is filtered."""
        return self._guards[place].passes(direction, packet, remember=remember) if place in self._guards else None

    def _guarded(self, fate: Delivery, packet: Segment | None, *, remember: bool = True) -> Delivery:
        """The delivery without the copies that the receivers' groups refuse."""
        verdicts = {name: self._asked(name, "ingress", packet, remember=remember) for name in fate.copies}
        kept = [None if name is None or _refused(verdicts[name]) else name for name in (fate.receiver, fate.arriving)]
        ingress = next((verdict for verdict in verdicts.values() if verdict is not None), None)
        fate = replace(fate, receiver=kept[0], arriving=kept[1], ingress=ingress)
        if fate.reason == Reason.DELIVERED and not fate.copies:
            return replace(fate, reason=Reason.INGRESS_REFUSED)
        return fate

    def arrived(self, host: str, vni: int, data: bytes) -> Delivery:
        """The fate of a frame that reaches ``host`` through the tunnel with ``vni``: never answered nor sent on."""
        seen = parse(data)
        if seen.multicast:
            return Delivery(Reason.MULTICAST)
        here = (
            (name, nic)
            for name, nic in self.nics.items()
            if (nic.places[nic.at].host, nic.vni, nic.mac) == (host, vni, seen.dst)
        )
        name, nic = next(here, ("", None))
        if nic is None:
            return Delivery(Reason.UNKNOWN_MAC)
        if not nic.accepts(seen):
            return Delivery(Reason.FOREIGN_ADDRESS)
        fate = Delivery(Reason.DELIVERED, name)
        return fate if seen.icmp_type in _EXEMPT else self._guarded(fate, read(data))

    def owner(self, src: str, ip: str) -> str | None:
        """The port of ``src``'s network that holds ``ip`` and can be reached at it, or ``None``."""
        nic = self._by_address.get((self.nics[src].segment, ip_address(ip)))
        return nic.name if nic else None

    def _arp(self, sender: _Nic, seen: Parsed) -> Delivery:
        if seen.arp_op != 1 or seen.target is None:
            return Delivery(Reason.ARP_STAYS)
        if seen.target in sender.addresses:
            return Delivery(Reason.OWN_TARGET)
        mac = self._resolved(sender, seen.target)
        if mac is None:
            return Delivery(Reason.UNKNOWN_TARGET)
        answer = Answer("arp", mac, str(seen.target), seen.sender_mac, str(seen.ip_src))
        return Delivery(Reason.ANSWERED, answer=answer)

    def _resolved(self, sender: _Nic, address: Address) -> str | None:
        """The MAC that has an address in the sender's network: a gateway's, a port's, or nobody's."""
        if sender.segment in self._domains and address in self._domains[sender.segment].gateways(sender.segment):
            return GATEWAY_MAC
        nic = self._by_address.get((sender.segment, address))
        return nic.mac if nic else None

    def _solicitation(self, sender: _Nic, seen: Parsed, data: bytes) -> Delivery:
        if seen.target in sender.addresses:
            return Delivery(Reason.OWN_TARGET)
        if seen.ip_src == UNSPECIFIED:
            return Delivery(Reason.DUPLICATE_DETECTION)
        if seen.sender_mac == NO_MAC:
            return self._unicast(sender, seen, data)
        mac = self._resolved(sender, seen.target) if seen.target else None
        if mac is None:
            return Delivery(Reason.UNKNOWN_TARGET)
        if not self.nd_responder and mac != GATEWAY_MAC:
            return _to(sender, self._by_mac[sender.segment, mac], redirected=mac)
        by: Literal["switch", "agent"] = "switch" if self.nd_responder else "agent"
        answer = Answer("nd", mac, str(seen.target), seen.src, str(seen.ip_src), by)
        return Delivery(Reason.ANSWERED, answer=answer)

    def _unicast(self, sender: _Nic, seen: Parsed, data: bytes) -> Delivery:
        if seen.multicast:
            return Delivery(Reason.MULTICAST)
        if seen.dst == GATEWAY_MAC and sender.segment in self._domains:
            return self._at_router(sender, seen, data)
        if seen.dst == sender.mac and len(sender.places) == 1:
            return Delivery(Reason.OWN_MAC)
        nic = self._by_mac.get((sender.segment, seen.dst))
        if nic is None:
            return Delivery(Reason.UNKNOWN_MAC)
        if not nic.accepts(seen):
            return Delivery(Reason.FOREIGN_ADDRESS, wires=_wires(sender, nic))
        return _to(sender, nic)

    def _at_router(self, sender: _Nic, seen: Parsed, data: bytes) -> Delivery:
        """What the router does with a frame that the sender's groups let pass."""
        packet, domain = read(data), self._domains[sender.segment]
        if packet is None:
            return Delivery(Reason.NOT_ROUTABLE)
        step = domain.step(sender.segment, packet, ttl_of(data))
        if step.echo:
            answer = Answer("echo", GATEWAY_MAC, str(packet.dst), seen.src, str(packet.src))
            return Delivery(Reason.ANSWERED, answer=answer)
        if step.network is None and step.route is None:
            return self._told(sender, seen, packet, step.reason, step.error)
        if step.network is not None:
            found = self._by_address.get((step.network, packet.dst))
            receivers = [] if found is None else [found]
        else:
            receivers = self._hops(domain, step.route) if step.route is not None else []
        if not receivers:
            return self._told(sender, seen, packet, Reason.NO_HOST, Kind.HOST_UNREACHABLE)
        fates = tuple(_on(sender, receiver, data) for receiver in receivers)
        if len(fates) == 1:
            return fates[0]
        return Delivery(Reason.ONE_OF_SEVERAL, choices=fates, route=(domain.name, step.route.to if step.route else ""))

    def _hops(self, domain: Domain, route: Route) -> list[_Nic]:
        """The next hops of a route that are there, each once."""
        found: dict[str, _Nic] = {}
        for hop in route.hops:
            for where in domain.networks:
                nic = self.nics.get(f"{where[0]}/{hop.port}")
                if hop.ip is not None:
                    nic = self._by_address.get((where, ip_address(hop.ip)))
                if nic is not None:
                    found[nic.name] = nic
        return list(found.values())

    def _told(self, sender: _Nic, seen: Parsed, packet: Segment, reason: Reason, kind: Kind | None) -> Delivery:
        """A drop, of which the sender is told if there is anything to tell, and a gateway to tell it."""
        speaker = self._domains[sender.segment].speaker(sender.segment, packet.src)
        source = packet.dst if kind == Kind.RESET else speaker
        if kind is None or source is None:
            return Delivery(reason)
        return Delivery(reason, error=Error(kind, str(source), seen.src, str(packet.src), forbidden(kind, packet)))


def delivered(model: Model, frame: Frame) -> Delivery:
    """The fate of one frame in ``model``; for many frames build one Expectation. Raises ValueError as that does."""
    return Expectation(model).delivered(frame)


def _refusal(sender: _Nic, seen: Parsed) -> Reason | None:
    """Why the sender's own host refuses the frame, whatever its destination; ``None`` if it does not."""
    if is_group(seen.src):
        return Reason.MULTICAST_SOURCE
    if seen.tagged:
        return Reason.VLAN_TAG
    if not sender.secure:
        return None
    if seen.src != sender.mac and all(seen.src != mac for mac, _ in sender.grants):
        return Reason.SPOOFED_MAC
    if seen.ethertype == ARP:
        return _refusal_of_arp(sender, seen)
    if seen.ethertype == IPV4:
        return None if sender.may_use(seen.src, seen.ip_src) else Reason.SPOOFED_IP
    if seen.ethertype == IPV6:
        return _refusal_of_ipv6(sender, seen)
    return Reason.ETHERTYPE


def _refusal_of_arp(sender: _Nic, seen: Parsed) -> Reason | None:
    if seen.sender_mac != seen.src:
        return Reason.SPOOFED_ARP
    probe = seen.arp_op == 1 and seen.ip_src == IPv4Address(0)
    return None if probe or sender.may_use(seen.src, seen.ip_src) else Reason.SPOOFED_ARP


def _refusal_of_ipv6(sender: _Nic, seen: Parsed) -> Reason | None:
    if seen.ip_src == UNSPECIFIED:
        if seen.icmp_type == NS:
            return None if sender.may_use(seen.src, seen.target) else Reason.SPOOFED_ND
        # Reports and queries of MLD are for groups only: sent to one port from nobody's address, they are no MLD.
        return None if seen.icmp_type in MLD and seen.multicast else Reason.SPOOFED_IP
    if not sender.may_use(seen.src, seen.ip_src):
        return Reason.SPOOFED_IP
    if seen.icmp_type in ND and seen.fragment:  # no node may send or accept that (RFC 6980)
        return Reason.FRAGMENTED_ND
    if seen.icmp_type in (RA, REDIRECT):
        return Reason.ROUTER_MESSAGE
    if seen.icmp_type == NS:
        return None if seen.target and seen.sender_mac in (NO_MAC, seen.src) else Reason.SPOOFED_ND
    if seen.icmp_type == NA:
        honest = sender.may_use(seen.src, seen.target) and seen.target_mac in (NO_MAC, seen.src)
        return None if honest else Reason.SPOOFED_ND
    return None


def _refused(verdict: Verdict | None) -> bool:
    return verdict is not None and not verdict.passes


def _to(sender: _Nic, receiver: _Nic, redirected: str | None = None) -> Delivery:
    """A copy for each place of the receiver, but never back out of the interface that it came in on."""
    wires = _wires(sender, receiver)
    if receiver.places[0].name is None:
        return Delivery(Reason.ELSEWHERE, wires=wires, redirected=redirected)
    own = sender.places[sender.at].name
    names = [None if place.name == own else place.name for place in receiver.places]
    return Delivery(Reason.DELIVERED, names[0], names[1] if len(names) > 1 else None, wires, redirected=redirected)


def _on(sender: _Nic, receiver: _Nic, data: bytes) -> Delivery:
    """A frame routed to its receiver, in whose network it crosses the underlay; never back to who has sent it."""
    if receiver.name == sender.name and len(sender.places) == 1:
        return Delivery(Reason.COMES_BACK)
    return replace(_to(sender, receiver), routed=forwarded(data, receiver.mac))


def _wires(sender: _Nic, receiver: _Nic) -> tuple[Wire, ...]:
    host = sender.places[sender.at].host
    return tuple(Wire(sender.vtep, place.vtep, receiver.vni) for place in receiver.places if place.host != host)


def _nic(model: Model, vpc_name: str, port_name: str, port: Port) -> _Nic:
    name = f"{vpc_name}/{port_name}"
    vni = model.vpcs[vpc_name].networks[port.network].vni
    if port.mac is None or vni is None or port.host is None:
        raise ValueError(f"{name}: the MAC or the network's VNI is not assigned")
    addresses = addresses_of(assigned(port.ips, name), port.mac)
    grants = [(port.mac, ip_network(address)) for address in sorted(addresses, key=str)]
    grants += [(allowed.mac or port.mac, ip_network(allowed.ip)) for allowed in port.allowed_addresses]
    places = [_Place(port.host, model.hosts[port.host].vtep, name)]
    if port.moving_to is not None:
        places.append(_Place(port.moving_to, model.hosts[port.moving_to].vtep, f"{name}@{port.moving_to}"))
    return _Nic(
        name=name,
        mac=port.mac,
        places=tuple(places),
        at=0,
        vni=vni,
        segment=(vpc_name, port.network),
        secure=port.port_security,
        groups=groups_of(port),
        addresses=addresses,
        grants=tuple(grants),
        ranges=ranges_of(model.vpcs[vpc_name], port.network, port_name, assigned(port.ips, name)),
        answered=services(model.vpcs[vpc_name].networks[port.network], port),
    )


def _neighbour(model: Model, vpc_name: str, name: str, endpoint: RemoteEndpoint) -> _Nic:
    """An endpoint, which is trusted to look at what it gets by itself."""
    vni = model.vpcs[vpc_name].networks[endpoint.network].vni
    if vni is None:
        raise ValueError(f"{vpc_name}/{name}: the network's VNI is not assigned")
    return _Nic(
        name=f"{vpc_name}/{name}",
        mac=endpoint.mac,
        places=(_Place("", endpoint.vtep, None),),
        at=0,
        vni=vni,
        segment=(vpc_name, endpoint.network),
        secure=False,
        groups=None,
        addresses=addresses_of(endpoint.ips, endpoint.mac),
        grants=(),
    )


def assigned(ips: tuple[str, ...] | None, name: str) -> tuple[str, ...]:
    """The addresses of the port ``name``. Raises ValueError if they are not assigned yet."""
    if ips is None:
        raise ValueError(f"{name}: its IP addresses are not assigned")
    return ips
