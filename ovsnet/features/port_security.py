"""Port security: a workload sends with the addresses that it was assigned, and with no others."""

from __future__ import annotations

import functools
from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature, SourceAddress
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import FlowTemplate, Goto, Match, Row

_PORT = (Match(f.IN_PORT, "ofport"),)
_SENDER = (*_PORT, Match(f.VLAN_VID, 0), Match(f.ETH_SRC, "mac"))
_UNTAGGED = (*_PORT, Match(f.VLAN_VID, 0))
_ARP = Match(f.ETH_TYPE, f.ETH_ARP)
_IPV4 = Match(f.ETH_TYPE, f.ETH_IPV4)
_IPV6 = Match(f.ETH_TYPE, f.ETH_IPV6)
_ICMPV6 = (_IPV6, Match(f.IP_PROTO, f.PROTO_ICMPV6))
_MULTICAST = 1 << 40  # the group bit of a MAC (IEEE 802)

SOLICITATION, ADVERTISEMENT, ROUTER_ADVERTISEMENT, REDIRECT = 135, 136, 134, 137
ND_TYPES = (133, 134, 135, 136, 137)
_WHOLE = Match(f.IP_FRAG, 0)
_FIRST_FRAGMENT = Match(f.IP_FRAG, 1)
MLD_TYPES = (131, 132, 143)  # report, done (RFC 2710), version 2 report (RFC 3810)


def _check(
    name: str, priority: int, match: tuple[Match, ...], to: t.Table | None, doc: str, table: t.Table = t.PORT_SECURITY
) -> FlowTemplate:
    actions = (Goto(to),) if to else ()
    return FlowTemplate(name, "port_security", table, priority, match, actions, doc)


_inside = functools.partial(_check, table=t.ND_SECURITY)


_ARP_SENDER = (*_SENDER, _ARP, Match(f.ARP_SHA, "mac"))
ARP = _check("arp-sender", 100, (*_ARP_SENDER, Match(f.ARP_SPA, "ip")), t.ARP, "ARP with the port's own MAC and IP.")
ARP_RANGE = _check(
    "arp-sender-range", 100, (*_ARP_SENDER, Match(f.ARP_SPA, "ip", "mask")), t.ARP, "ARP from an allowed range."
)
ARP_PROBE = _check(
    "arp-probe", 110, (*_ARP_SENDER, Match(f.ARP_OP, 1), Match(f.ARP_SPA, 0)), t.ARP,
    "An ARP probe, which has no sender address yet (RFC 5227).",
)  # fmt: skip
IPV4 = _check("ipv4-sender", 100, (*_SENDER, _IPV4, Match(f.IPV4_SRC, "ip")), t.EGRESS, "IPv4 from the port's own IP.")
IPV4_RANGE = _check(
    "ipv4-sender-range",
    100,
    (*_SENDER, _IPV4, Match(f.IPV4_SRC, "ip", "mask")),
    t.EGRESS,
    "IPv4 from an allowed range.",
)
IPV6 = _check("ipv6-sender", 100, (*_SENDER, _IPV6, Match(f.IPV6_SRC, "ip")), t.EGRESS, "IPv6 from the port's own IP.")
IPV6_RANGE = _check(
    "ipv6-sender-range",
    100,
    (*_SENDER, _IPV6, Match(f.IPV6_SRC, "ip", "mask")),
    t.EGRESS,
    "IPv6 from an allowed range.",
)
# Code 0 is matched for a reason beyond RFC 4861: on another code OVS does not look at the ND fields, and without the
# code in it the datapath's cached flow for such a message would swallow the proper ones after it.
_PROPER = Match(f.ICMPV6_CODE, 0)
_ND_KINDS = ((SOLICITATION, "solicitation"), (ADVERTISEMENT, "advertisement"))
ND_SENDER = {
    kind: _check(
        f"{name}-sender", 200, (*_SENDER, *_ICMPV6, Match(f.ICMPV6_TYPE, kind), _PROPER, Match(f.IPV6_SRC, "ip")),
        t.ND_SECURITY, f"A neighbour {name} from the port's own IP; its contents are checked next.",
    )
    for kind, name in _ND_KINDS
}  # fmt: skip
ND_SENDER_RANGE = {
    kind: _check(
        f"{name}-sender-range", 200,
        (*_SENDER, *_ICMPV6, Match(f.ICMPV6_TYPE, kind), _PROPER, Match(f.IPV6_SRC, "ip", "mask")),
        t.ND_SECURITY, f"A neighbour {name} from an allowed range.",
    )
    for kind, name in _ND_KINDS
}  # fmt: skip
ND_IMPROPER = {
    kind: _check(
        f"{name}-refused", 190, (*_PORT, *_ICMPV6, Match(f.ICMPV6_TYPE, kind)), None,
        f"A neighbour {name} from an address of somebody else, or with a code that is not 0.",
    )
    for kind, name in _ND_KINDS
}  # fmt: skip
DAD = _check(
    "dad", 210,
    (*_SENDER, *_ICMPV6, Match(f.ICMPV6_TYPE, SOLICITATION), _PROPER, Match(f.IPV6_SRC, 0), Match(f.ND_TARGET, "ip"),
     Match(f.ND_SLL, 0)),
    t.ND, "Duplicate address detection of one of the port's own addresses, from `::` (RFC 4862).",
)  # fmt: skip
MLD = {
    kind: _check(
        f"mld-{kind}", 210, (*_SENDER, *_ICMPV6, Match(f.ICMPV6_TYPE, kind), Match(f.IPV6_SRC, 0)), None,
        f"A multicast listener message (type {kind}) from `::` (RFC 3590): proper, and multicast goes nowhere.",
    )
    for kind in MLD_TYPES
}  # fmt: skip
_ROUTERS_OWN = {
    kind: _check(
        f"{name}-refused", 220, (*_PORT, *_ICMPV6, Match(f.ICMPV6_TYPE, kind)), None,
        f"A {name.replace('-', ' ')} is a router's to send; counted against the port.",
    )
    for kind, name in ((ROUTER_ADVERTISEMENT, "router-advertisement"), (REDIRECT, "redirect"))
}  # fmt: skip
ND_FRAGMENT = {
    kind: _check(
        f"nd-fragment-{kind}", 230, (*_PORT, *_ICMPV6, _FIRST_FRAGMENT, Match(f.ICMPV6_TYPE, kind)), None,
        f"Neighbour discovery (type {kind}) in fragments, which no node may send (RFC 6980).",
    )
    for kind in ND_TYPES
}  # fmt: skip
REFUSED = _check("port-refused", 10, _PORT, None, "Anything else that a port sends is dropped, and counted against it.")
MULTICAST_SOURCE = _check(
    "multicast-source-refused", 300, (*_PORT, Match(f.ETH_SRC, _MULTICAST, _MULTICAST)), None,
    "No frame comes from a group address, whatever else is lifted.",
)  # fmt: skip
OPEN_ARP = _check("open-arp", 120, (*_UNTAGGED, _ARP), t.ARP, "`port_security: false`: ARP unchecked.")
OPEN_ND = _check(
    "open-nd", 120, (*_UNTAGGED, *_ICMPV6, _WHOLE, Match(f.ICMPV6_TYPE, SOLICITATION), _PROPER), t.ND,
    "`port_security: false`: solicitations unchecked.",
)  # fmt: skip
OPEN = _check("open", 50, _UNTAGGED, t.ROUTE, "`port_security: false`: everything else that is untagged.")


_FROM = (*_PORT, Match(f.ETH_SRC, "mac"))
_NS = (*_FROM, *_ICMPV6, Match(f.ICMPV6_TYPE, SOLICITATION))
_NA = (*_FROM, *_ICMPV6, Match(f.ICMPV6_TYPE, ADVERTISEMENT))
NS_OWN_LINK = _inside("ns-own-link", 100, (*_NS, Match(f.ND_SLL, "mac")), t.ND, "Source link-layer option: its own.")
NS_NO_LINK = _inside("ns-no-link", 110, (*_NS, Match(f.ND_SLL, 0)), t.ND, "No source link-layer option.")
_TARGETS = {
    "": (Match(f.ND_TARGET, "ip"),),
    "-range": (Match(f.ND_TARGET, "ip", "mask"),),
}
NA_OWN_LINK = {
    kind: _inside(
        f"na-own-link{kind}",
        100,
        (*_NA, *target, Match(f.ND_TLL, "mac")),
        t.L2,
        "It advertises its own address and MAC.",
    )
    for kind, target in _TARGETS.items()
}
NA_NO_LINK = {
    kind: _inside(
        f"na-no-link{kind}",
        110,
        (*_NA, *target, Match(f.ND_TLL, 0)),
        t.L2,
        "It advertises its own address, MAC left out.",
    )
    for kind, target in _TARGETS.items()
}
ND_REFUSED = _inside(
    "nd-refused", 10, _PORT, None, "Link-layer option or target of somebody else: dropped, counted against the port."
)


def port(ep: Endpoint, _facts: Facts) -> Iterable[Row]:
    """Rows of one port on this host: what it may send."""
    if not ep.local or ep.ofport is None:
        return ()
    if not ep.secured:
        of = ep.ofport
        return [t_.row(of) for t_ in (MULTICAST_SOURCE, OPEN_ARP, OPEN_ND, OPEN, REFUSED)]
    return _secured(ep, ep.ofport)


def _secured(ep: Endpoint, of: int) -> Iterable[Row]:
    full4, full6 = (1 << 32) - 1, (1 << 128) - 1
    sources = [SourceAddress(ip, full4, 32, ep.mac) for ip in ep.v4]
    sources += [SourceAddress(ip, full6, 128, ep.mac) for ip in ep.v6_all]
    rows = {row: None for source in (*sources, *ep.allowed) for row in _source(of, source)}
    macs = {ep.mac} | {source.mac for source in ep.allowed}
    for mac in sorted(macs):
        rows[ARP_PROBE.row(of, mac)] = None
        rows[NS_OWN_LINK.row(of, mac)] = None
        rows[NS_NO_LINK.row(of, mac)] = None
    for kind in MLD_TYPES:
        rows[MLD[kind].row(of, ep.mac)] = None
    for ip in ep.v6_all:
        rows[DAD.row(of, ep.mac, ip)] = None
    for refused in (*_ROUTERS_OWN.values(), *ND_FRAGMENT.values(), *ND_IMPROPER.values(), REFUSED, ND_REFUSED):
        rows[refused.row(of)] = None
    return rows


def _source(of: int, source: SourceAddress) -> Iterable[Row]:
    mac, ip, mask = source.mac, source.ip, source.mask
    if mask == 0:  # a match on no bits at all has no form on the wire: two halves
        half = 1 << (source.bits - 1)
        for part in (0, half):
            yield from _source(of, SourceAddress(part, half, source.bits, mac))
        return
    exact = source.exact
    values = (ip,) if exact else (ip, mask)
    if source.bits == 32:
        yield (ARP if exact else ARP_RANGE).row(of, mac, *values)
        yield (IPV4 if exact else IPV4_RANGE).row(of, mac, *values)
        return
    yield (IPV6 if exact else IPV6_RANGE).row(of, mac, *values)
    for kind, _name in _ND_KINDS:
        yield (ND_SENDER if exact else ND_SENDER_RANGE)[kind].row(of, mac, *values)
    suffix = "" if exact else "-range"
    yield NA_OWN_LINK[suffix].row(of, mac, *values)
    yield NA_NO_LINK[suffix].row(of, mac, *values)


FEATURE = Feature(
    "port_security",
    "A port sends only with its own MAC and IPs, in ARP, ND, IPv4 and IPv6 alike, untagged.",
    (
        ARP, ARP_RANGE, ARP_PROBE, IPV4, IPV4_RANGE, IPV6, IPV6_RANGE, *ND_SENDER.values(), *ND_SENDER_RANGE.values(),
        DAD, *MLD.values(), *_ROUTERS_OWN.values(), *ND_FRAGMENT.values(), *ND_IMPROPER.values(), REFUSED,
        MULTICAST_SOURCE, OPEN_ARP, OPEN_ND, OPEN, NS_OWN_LINK, NS_NO_LINK, *NA_OWN_LINK.values(), *NA_NO_LINK.values(),
        ND_REFUSED,
    ),
    port=port,
)  # fmt: skip
