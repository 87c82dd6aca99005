"""Distributed routing: what is sent to a gateway is routed at its source, to the MAC of the port that has the address.

Addresses have one table for each routed domain, whose rows say no more than the receiver's network and MAC; where a MAC
is, table ``l2`` knows. So a port that moves changes nothing here. RFC 1812 (5.3.1: TTL), RFC 4291, RFC 8200.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.facts import Facts
from ovsnet.features.base import Domain, Endpoint, Feature, Range, Segment, StaticRoute
from ovsnet.gateway import GATEWAY_MAC as GATEWAY_TEXT
from ovsnet.model.numbers import link_local, mac_int
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import (
    LANES,
    Action,
    Choose,
    Copy,
    DecTtl,
    FlowTemplate,
    Goto,
    Match,
    Move,
    Output,
    Row,
    SetField,
)
from ovsnet.pipeline.verdicts import EXPIRED, NO_HOST, NO_NETWORK, NO_SERVICE, ROUTER_METER
from ovsnet.responders.reject import SNAP

GATEWAY_MAC = mac_int(GATEWAY_TEXT)
GATEWAY_LOCAL = link_local(GATEWAY_MAC)
"""The gateways' link-local address, the same everywhere."""

_FAMILIES = {32: ("", f.ETH_IPV4, f.IPV4_SRC, f.IPV4_DST), 128: ("-v6", f.ETH_IPV6, f.IPV6_SRC, f.IPV6_DST)}
_TO_GATEWAY = Match(f.ETH_DST, GATEWAY_MAC)
_ASK_AGENT = Copy(ROUTER_METER, SNAP)
_TTL = 64


def _template(
    name: str,
    table: t.Table,
    priority: int | str,
    match: tuple[Match, ...],
    actions: tuple[Action, ...],
    doc: str,
    lane: int | None = None,
) -> FlowTemplate:
    return FlowTemplate(name, "routing", table, priority, match, actions, doc, lane)


def _error(why: int) -> tuple[Action, ...]:
    return (SetField(f.WHY, why), Goto(t.ROUTE_ERROR))


def _routed(bits: int) -> tuple[Match, ...]:
    """A packet of one family that is for the router of a domain."""
    return (Match(f.DOMAIN, "domain"), _TO_GATEWAY, Match(f.ETH_TYPE, _FAMILIES[bits][1]))


_ECHO = {
    32: ((Match(f.IP_PROTO, f.PROTO_ICMP), Match(f.ICMP_TYPE, 8)), SetField(f.ICMP_TYPE, 0)),
    128: ((Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.ICMPV6_TYPE, 128)), SetField(f.ICMPV6_TYPE, 129)),
}


def _own_templates(bits: int) -> dict[str, FlowTemplate]:
    """What is for an address of the router itself."""
    suffix, _, source, target = _FAMILIES[bits]
    own = (*_routed(bits), Match(target, "ip"))
    asked, answer = _ECHO[bits]
    back: tuple[Action, ...] = (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, GATEWAY_MAC), Move(source, target), SetField(source, "ip"),
        answer, SetField(f.IP_TTL, _TTL), Output(None),
    )  # fmt: skip
    made = {"echo": _template(f"gateway-echo{suffix}", t.ROUTE, 1020, (*own, *asked), back, "A ping of a gateway.")}
    for name, protocol in (("udp", f.PROTO_UDP), ("tcp", f.PROTO_TCP)):
        made[name] = _template(
            f"gateway-{name}{suffix}", t.ROUTE, 1010, (*own, Match(f.IP_PROTO, protocol)), _error(NO_SERVICE),
            f"{name.upper()} for a gateway itself, where nothing listens.",
        )  # fmt: skip
    made["other"] = _template(f"gateway-other{suffix}", t.ROUTE, 1000, own, (), "Anything else for a gateway itself.")
    return made


OWN = {bits: _own_templates(bits) for bits in _FAMILIES}

_UNROUTABLE = (  # destinations, and one sort of source, that no router passes on (RFC 1122, 3.2.1.3; RFC 4291, 2.5.6)
    (32, "multicast", f.IPV4_DST, 0xE0000000, 4), (32, "broadcast", f.IPV4_DST, 0xFFFFFFFF, 32),
    (32, "loopback", f.IPV4_DST, 0x7F000000, 8), (32, "local", f.IPV4_DST, 0xA9FE0000, 16),
    (32, "unspecified", f.IPV4_DST, 0, 32), (128, "multicast", f.IPV6_DST, 0xFF << 120, 8),
    (128, "loopback", f.IPV6_DST, 1, 128), (128, "local", f.IPV6_DST, 0xFE80 << 112, 10),
    (128, "unspecified", f.IPV6_DST, 0, 128), (128, "local-source", f.IPV6_SRC, 0xFE80 << 112, 10),
)  # fmt: skip


def _mask(length: int, bits: int) -> int:
    return ((1 << length) - 1) << (bits - length)


_FENCES = tuple(
    _template(
        f"unroutable-{name}{_FAMILIES[bits][0]}", t.ROUTE, 900,
        (
            _TO_GATEWAY, Match(f.ETH_TYPE, _FAMILIES[bits][1]),
            Match(field, value, None if length == bits else _mask(length, bits)),
        ),
        (), f"A {name.replace('-', ' ')} address, which no router passes on.",
    )
    for bits, name, field, value, length in _UNROUTABLE
)  # fmt: skip
EXPIRING = {
    (bits, ttl): _template(
        f"expired-{ttl}{suffix}", t.ROUTE, 800, (*_routed(bits), Match(f.IP_TTL, ttl)), _error(EXPIRED),
        "Its TTL, or hop limit, is used up.",
    )
    for bits, (suffix, *_) in _FAMILIES.items() for ttl in (0, 1)
}  # fmt: skip
_ONWARD: tuple[Action, ...] = (
    SetField(f.NET, "net"), SetField(f.ETH_SRC, GATEWAY_MAC), SetField(f.ETH_DST, "mac"), DecTtl(), Goto(t.L2),
)  # fmt: skip
TO_PORT = {
    bits: _template(
        f"route-to-port{suffix}", t.ROUTE, 720, (*_routed(bits), Match(target, "ip")), _ONWARD,
        "The address is a port's: on to its MAC, in its network.",
    )
    for bits, (suffix, _, _, target) in _FAMILIES.items()
}  # fmt: skip
NO_ROUTE = {
    bits: _template(
        f"no-route{suffix}", t.ROUTE, 50, _routed(bits), _error(NO_NETWORK), "No route of the router leads there.",
    )
    for bits, (suffix, *_) in _FAMILIES.items()
}  # fmt: skip

LEAST = 100
"""The priority of a prefix of no bits; each bit more counts ``LANES``."""
_EXACT, _MASKED, _ALL = "exact", "masked", "all"
_KINDS: dict[str, tuple[tuple[Action, ...], str]] = {
    "via": (_ONWARD, "A range behind a port: on to its MAC, in its network."),
    "several": ((Choose(f.HOP, "last"), Goto(t.NEXT_HOP)), "A range behind several ports: one of them is chosen."),
    "nowhere": ((), "A range that is declared a black hole."),
    "unreachable": (_error(NO_HOST), "A range whose address nobody has, or whose next hops are not there."),
}


def _prefix_templates(bits: int, kind: str, table: t.Table, who: tuple[Match, ...]) -> dict[str, FlowTemplate]:
    """The forms of a row for a prefix: a whole address, part of one, and all addresses.

    Each kind has priorities of its own, so that a prefix that becomes another kind is another flow.
    """
    suffix, _, _, target = _FAMILIES[bits]
    actions, doc = _KINDS[kind]
    lane = [*_KINDS].index(kind)
    forms: dict[str, tuple[int | str, tuple[Match, ...]]] = {
        _EXACT: (700 + lane, (Match(target, "ip"),)),
        _MASKED: ("priority", (Match(target, "ip", "mask"),)),
        _ALL: (LEAST + lane, ()),
    }
    name = f"{table.name.replace('_', '-')}-{kind}"
    return {
        form: _template(
            f"{name}-{form}{suffix}", table, priority, (*who, *match), actions, doc, lane if form == _MASKED else None
        )
        for form, (priority, match) in forms.items()
    }


PREFIX = {(bits, kind): _prefix_templates(bits, kind, t.ROUTE, _routed(bits)) for bits in _FAMILIES for kind in _KINDS}
CHOSEN = {
    bits: _prefix_templates(
        bits, "via", t.NEXT_HOP, (Match(f.DOMAIN, "domain"), Match(f.HOP, "hop"), Match(f.ETH_TYPE, family))
    )
    for bits, (_, family, *_) in _FAMILIES.items()
}
_TOLD = {32: SetField(f.GATEWAY, "gateway"), 128: SetField(f.GATEWAY6, "gateway")}
TELL = {
    (bits, form): _template(
        f"tell-{form}{suffix}", t.ROUTE_ERROR, 100 if form == _MASKED else 50,
        (Match(f.NET, "net"), Match(f.ETH_TYPE, family), *((Match(source, "ip", "mask"),) if form == _MASKED else ())),
        (_TOLD[bits], _ASK_AGENT),
        "The agent tells the sender, from the gateway of its subnet." if form == _MASKED
        else "The agent tells a sender that is in no subnet, from the network's first gateway.",
    )
    for bits, (suffix, family, source, _) in _FAMILIES.items() for form in (_MASKED, _ALL)
}  # fmt: skip
BEHIND = {
    (bits, form): _template(
        f"deliver-behind-{form}{suffix}", t.DELIVER, 90,
        (
            Match(f.NET, "net"), Match(f.ETH_DST, "mac"), Match(f.ETH_TYPE, family),
            *({_EXACT: (Match(target, "ip"),), _MASKED: (Match(target, "ip", "mask"),), _ALL: ()}[form]),
        ),
        (
            SetField(f.OUT, "ofport"), SetField(f.POLICY, "policy"), SetField(f.BANK, "bank"),
            SetField(f.ZONE, "zone"), SetField(f.SIDE, 1), Goto(t.INGRESS),
        ),
        "A range that lies behind the port, which is a router's next hop.",
    )
    for bits, (suffix, family, _, target) in _FAMILIES.items() for form in (_EXACT, _MASKED, _ALL)
}  # fmt: skip

ARP_GATEWAY = _template(
    "arp-gateway", t.ARP, 150,
    (Match(f.NET, "net"), Match(f.ETH_TYPE, f.ETH_ARP), Match(f.ARP_OP, 1), Match(f.ARP_TPA, "ip")),
    (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, GATEWAY_MAC), SetField(f.ARP_OP, 2),
        Move(f.ARP_SHA, f.ARP_THA), SetField(f.ARP_SHA, GATEWAY_MAC),
        Move(f.ARP_SPA, f.ARP_TPA), SetField(f.ARP_SPA, "ip"), Output(None),
    ),
    "A request for a gateway's address: turned into its reply and sent back.",
)  # fmt: skip
_NS = (
    Match(f.NET, "net"), Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.ICMPV6_TYPE, 135),
)  # fmt: skip
ND_GATEWAY = _template(
    "nd-gateway", t.ND, 140, (*_NS, Match(f.ND_TARGET, "ip")),
    (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, GATEWAY_MAC),
        Move(f.IPV6_SRC, f.IPV6_DST), SetField(f.IPV6_SRC, "ip"),
        SetField(f.ICMPV6_TYPE, 136), SetField(f.ND_OPTIONS_TYPE, 2), SetField(f.ND_RESERVED, 0xE0000000),
        Goto(t.ND_REPLY),
    ),
    "A solicitation for a gateway's address: turned into a router's solicited, overriding advertisement.",
)  # fmt: skip
ND_ASK = _template(
    "nd-gateway-agent", t.ND, 141, (*_NS, Match(f.ND_TARGET, "ip")), (_ASK_AGENT,),
    "The same where the datapath cannot rewrite it: the agent answers.",
)  # fmt: skip
ND_PROBE = _template(
    "nd-gateway-probe", t.ND, 160, (*_NS, Match(f.ND_SLL, 0), Match(f.ND_TARGET, "ip")), (_ASK_AGENT,),
    "A probe of a gateway, without room for the answer's option: the agent answers.",
)  # fmt: skip


def port(ep: Endpoint, _facts: Facts) -> Iterable[Row]:
    """Rows of one port: the way to its addresses; and to what lies behind it, on its own host."""
    if not ep.routed:
        return ()
    rows = [TO_PORT[32].row(ep.domain, ip, ep.vni, ep.mac) for ip in ep.v4]
    rows += [TO_PORT[128].row(ep.domain, ip, ep.vni, ep.mac) for ip in ep.v6]
    if ep.ofport is not None and ep.secured:
        judged = (0, 0, ep.zone) if ep.zone else (ep.policy, ep.bank, 0)
        for ip, mask, bits in ep.behind:
            form, values = _prefix(ip, mask, bits)
            rows.append(BEHIND[bits, form].row(ep.vni, ep.mac, *values, ep.ofport, *judged))
    return rows


def _prefix(ip: int, mask: int, bits: int) -> tuple[str, tuple[int, ...]]:
    """The form of a prefix, and its values."""
    if not mask:
        return _ALL, ()
    return (_EXACT, (ip,)) if mask == (1 << bits) - 1 else (_MASKED, (ip, mask))


def network(segment: Segment, facts: Facts) -> Iterable[Row]:
    """Rows of a joined network that has a port here: who its gateways are, and whom errors come from."""
    first: dict[int, Range] = {}
    for one in segment.ranges:
        first.setdefault(one.bits, one)
        yield from _neighbours(segment.vni, one.gateway, one.bits, facts)
        if one.length < one.bits:
            mask = _mask(one.length, one.bits)
            yield TELL[one.bits, _MASKED].row(segment.vni, one.ip, mask, one.gateway)
    if 128 in first:
        yield from _neighbours(segment.vni, GATEWAY_LOCAL, 128, facts)
    for bits, one in first.items():
        yield TELL[bits, _ALL].row(segment.vni, one.gateway)


def _neighbours(vni: int, ip: int, bits: int, facts: Facts) -> Iterator[Row]:
    if bits == 32:
        yield ARP_GATEWAY.row(vni, ip)
        return
    yield (ND_GATEWAY if facts.nd_responder else ND_ASK).row(vni, ip)
    yield ND_PROBE.row(vni, ip)


def domain(routed: Domain, _facts: Facts) -> Iterable[Row]:
    """Rows of a routed domain: its own addresses, its subnets, its static routes, and all else."""
    vni = routed.vni
    gateways = {(one.bits, one.gateway) for one in routed.ranges}
    if any(bits == 128 for bits, _ in gateways):
        gateways.add((128, GATEWAY_LOCAL))
    for bits, ip in sorted(gateways):
        for template in OWN[bits].values():
            yield template.row(vni, ip)
    for bits in _FAMILIES:
        yield NO_ROUTE[bits].row(vni)
        for ttl in (0, 1):
            yield EXPIRING[bits, ttl].row(vni)
    for one in routed.ranges:
        yield _prefix_row("unreachable", vni, StaticRoute(one.ip, one.length, one.bits, (), False))
    for route in routed.routes:
        yield from _route(vni, route)


def _route(vni: int, route: StaticRoute) -> Iterator[Row]:
    if route.blackhole:
        yield _prefix_row("nowhere", vni, route)
    elif not route.hops:
        yield _prefix_row("unreachable", vni, route)
    elif len(route.hops) == 1:
        yield _prefix_row("via", vni, route, *route.hops[0])
    else:
        yield _prefix_row("several", vni, route, len(route.hops) - 1)
        for number, hop in enumerate(route.hops):
            yield _ranked(CHOSEN[route.bits], (vni, number), route, *hop)


def _prefix_row(kind: str, vni: int, route: StaticRoute, *rest: int) -> Row:
    return _ranked(PREFIX[route.bits, kind], (vni,), route, *rest)


def _ranked(forms: dict[str, FlowTemplate], first: tuple[int, ...], route: StaticRoute, *rest: int) -> Row:
    """A row for a prefix: the longer, the higher its priority."""
    form, values = _prefix(route.ip, _mask(route.length, route.bits), route.bits)
    lane = forms[form].lane
    rank = () if lane is None else (LEAST + LANES * route.length + lane,)
    return forms[form].row(*first, *values, *rank, *rest)


def host(_facts: Facts) -> Iterable[Row]:
    """Rows that every host has: what no router passes on."""
    return [template.row() for template in _FENCES]


FEATURE = Feature(
    "routing",
    "Routed at the source, between the networks of a domain and to what lies behind ports; gateways that answer.",
    (
        *(template for own in OWN.values() for template in own.values()), *_FENCES, *EXPIRING.values(),
        *TO_PORT.values(), *NO_ROUTE.values(), *(one for forms in PREFIX.values() for one in forms.values()),
        *(one for forms in CHOSEN.values() for one in forms.values()), *TELL.values(), *BEHIND.values(), ARP_GATEWAY,
        ND_GATEWAY, ND_ASK, ND_PROBE,
    ),
    port=port,
    network=network,
    domain=domain,
    host=host,
)  # fmt: skip
