"""Provider networks: what a host's physical bridges lead to, flat or in a VLAN, and ports that are directly on one.

There, unlike anywhere else, are stations that nobody declared: a port's questions and frames for them leave by the
bridge, and the agent asks for the MACs that routers need.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature, Segment, Uplink
from ovsnet.features.nat import FAMILIES, PRESENT, WHOLE
from ovsnet.model.outside import OUTSIDE_MACS
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import (
    Action,
    Call,
    Copy,
    FlowTemplate,
    Goto,
    Match,
    Move,
    Output,
    PopVlan,
    PushVlan,
    Row,
    SetField,
)
from ovsnet.pipeline.verdicts import NEIGHBOUR_METER

TAGGED, FLAT = "-tagged", ""
_TAG: tuple[Action, ...] = (PushVlan(), SetField(f.VLAN_VID, "vid"))
_LEAVE: dict[str, tuple[Action, ...]] = {FLAT: (Output("ofport"),), TAGGED: (*_TAG, Output("ofport"))}
_LOOK: tuple[Action, ...] = (SetField(f.SEGMENT, "segment"), Call(t.OUTSIDE))
_LEAVE_AND_LOOK: dict[str, tuple[Action, ...]] = {
    FLAT: (*_LEAVE[FLAT], *_LOOK), TAGGED: (*_LEAVE[TAGGED], PopVlan(), *_LOOK),
}  # fmt: skip
"""Out first: what the tables do to a frame stays with it."""
_FORMS = (FLAT, TAGGED)
"""By whether the provider network is in a VLAN: so each has priorities of its own."""


def _template(
    name: str, table: t.Table, priority: int, match: tuple[Match, ...], actions: tuple[Action, ...], doc: str
) -> FlowTemplate:
    return FlowTemplate(name, "provider", table, priority, match, actions, doc)


_SEGMENT = Match(f.SEGMENT, "segment")
_ARP = Match(f.ETH_TYPE, f.ETH_ARP)
_ICMPV6 = (Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6))
_NS = (*_ICMPV6, Match(f.ICMPV6_TYPE, 135))
FROM_UPLINK = {
    form: _template(
        f"from-provider{form}", t.CLASSIFY, 100 + number,
        (Match(f.IN_PORT, "ofport"), Match(f.VLAN_VID, "vid" if form else 0)),
        (*((PopVlan(),) if form else ()), SetField(f.SEGMENT, "segment"), Goto(t.OUTSIDE)),
        "A frame from a provider network.",
    )
    for number, form in enumerate(_FORMS)
}  # fmt: skip
ND_REPLY_TAGGED = _template(
    "nd-reply-tagged", t.ND_REPLY, 110,
    (Match(f.IN_PORT, "ofport"), _SEGMENT, *_ICMPV6, Match(f.ICMPV6_TYPE, 136)),
    (Move(f.ETH_SRC, f.ND_TLL), *_TAG, Output(None)),
    "The second half of the answer to a solicitation that came in a VLAN.",
)  # fmt: skip


def _forms(
    table: t.Table, name: str, priority: int, match: tuple[Match, ...], ways: dict[str, tuple[Action, ...]], doc: str
) -> dict[str, FlowTemplate]:
    """What leads out into the provider network, tagged or not."""
    return {
        form: _template(f"{name}{form}", table, priority + number, match, ways[form], doc)
        for number, form in enumerate(_FORMS)
    }


_VIA = {
    32: (Match(f.ETH_TYPE, f.ETH_IPV4), Match(f.VIA[3], "ip3")),
    128: (Match(f.ETH_TYPE, f.ETH_IPV6), *(Match(f.VIA[word], f"ip{word}") for word in range(4))),
}
NEIGHBOUR = {
    bits: _forms(
        t.NEIGHBOUR, f"neighbour{suffix}", 100, (_SEGMENT, *_VIA[bits]),
        {form: (SetField(f.ETH_DST, "mac"), *_LEAVE[form]) for form in _FORMS},
        "The next hop's MAC is known: out to it.",
    )
    for bits, (suffix, *_) in FAMILIES.items()
}  # fmt: skip
NEIGHBOUR_HERE = {
    bits: _template(
        f"neighbour-here{suffix}", t.NEIGHBOUR, 110, (_SEGMENT, *_VIA[bits]),
        (SetField(f.ETH_DST, "mac"), Call(t.OUTSIDE)),
        "The next hop is a port of this host, directly on the provider network.",
    )
    for bits, (suffix, *_) in FAMILIES.items()
}  # fmt: skip
ASK = _template(
    "neighbour-unknown", t.NEIGHBOUR, 10, (_SEGMENT,), (Copy(NEIGHBOUR_METER, WHOLE),),
    "The next hop's MAC is not known yet: the agent asks for it, and this packet is lost.",
)  # fmt: skip
ON_LINK = {
    bits: _template(
        f"on-link{suffix}", t.BEYOND, 200, (_SEGMENT, Match(f.ETH_TYPE, family), Match(target, "ip", "mask")),
        (Move(target, f.VIA[3] if bits == 32 else f.VIA6), Goto(t.NEIGHBOUR)),
        "The receiver is on the provider network itself.",
    )
    for bits, (suffix, family, _, target) in FAMILIES.items()
}  # fmt: skip
BY_GATEWAY = {
    bits: _template(
        f"by-provider-gateway{suffix}", t.BEYOND, 100, (_SEGMENT, Match(f.ETH_TYPE, family)),
        (SetField(f.VIA[3] if bits == 32 else f.VIA6, "ip"), Goto(t.NEIGHBOUR)),
        "The receiver is further away: by the provider's gateway.",
    )
    for bits, (suffix, family, *_) in FAMILIES.items()
}  # fmt: skip

_OURS = (_SEGMENT, Match(f.ETH_DST, "mac"))
_TO_PORT: tuple[Action, ...] = (Output("ofport"),)
ARP_TO_PORT = _template(
    "arp-to-port", t.OUTSIDE, 180, (_SEGMENT, _ARP, Match(f.ARP_TPA, "ip")), _TO_PORT,
    "An ARP message about an address of a port here: to the port, which answers.",
)  # fmt: skip
NS_TO_PORT = _template(
    "solicitation-to-port", t.OUTSIDE, 180, (_SEGMENT, *_NS, Match(f.ND_TARGET, "ip")), _TO_PORT,
    "A solicitation for an address of a port here: to the port, which answers.",
)  # fmt: skip
NA_TO_PORT = _template(
    "advertisement-to-port", t.OUTSIDE, 175, (*_OURS, *_ICMPV6, Match(f.ICMPV6_TYPE, 136)), _TO_PORT,
    "The answer to a port's solicitation.",
)  # fmt: skip
IP_TO_PORT = {
    bits: _template(
        f"provider-to-port{suffix}", t.OUTSIDE, 160, (*_OURS, Match(f.ETH_TYPE, family)),
        (SetField(f.NET, "net"), SetField(f.DOMAIN, "domain"), Goto(t.DELIVER)),
        "A packet for a port here: its groups judge it as any.",
    )
    for bits, (suffix, family, *_) in FAMILIES.items()
}  # fmt: skip
HERE = _template(
    "on-this-host", t.L2, 210, (Match(f.NET, "net"), Match(f.ETH_DST, "mac")), (Goto(t.DELIVER),),
    "From a port on a provider network to another one on this host.",
)  # fmt: skip
_NET = Match(f.NET, "net")
_ABROAD = "Out to whoever is there."
TO_TRANSLATED = _forms(
    t.L2,
    "to-translated",
    200,
    (_NET, Match(f.ETH_DST, *OUTSIDE_MACS)),
    _LEAVE_AND_LOOK,
    "For an address that stands for ports behind a router, perhaps of this host.",
)
ABROAD = {
    "frame": _forms(t.L2, "frame-abroad", 20, (_NET,), _LEAVE, _ABROAD),
    "arp": _forms(t.ARP, "arp-abroad", 50, (_NET, _ARP), _LEAVE_AND_LOOK, _ABROAD),
    "nd": _forms(t.ND, "solicitation-abroad", 50, (_NET, *_NS), _LEAVE_AND_LOOK, _ABROAD),
}


def _leaving(forms: dict[str, FlowTemplate], up: Uplink, *values: int, look: bool = False) -> Row:
    """A row of the form that the provider network asks for; ``values`` are those before the tag and the port."""
    tail = (up.vid | PRESENT, up.ofport) if up.vid else (up.ofport,)
    return forms[TAGGED if up.vid else FLAT].row(*values, *tail, *((up.segment,) if look else ()))


def _words(ip: int, bits: int) -> tuple[int, ...]:
    return (ip,) if bits == 32 else tuple(ip >> 32 * (3 - word) & 0xFFFFFFFF for word in range(4))


def uplink(up: Uplink, _facts: Facts) -> Iterator[Row]:
    """Rows of a provider network that this host has: in, out, and who is known there."""
    tag = up.vid | PRESENT
    if up.vid:
        yield FROM_UPLINK[TAGGED].row(up.ofport, tag, up.segment)
        yield ND_REPLY_TAGGED.row(up.ofport, up.segment, tag)
    else:
        yield FROM_UPLINK[FLAT].row(up.ofport, up.segment)
    yield ASK.row(up.segment)
    for ip, bits, mac in up.neighbours:
        yield _leaving(NEIGHBOUR[bits], up, up.segment, *_words(ip, bits), mac)
    gateways: dict[int, int] = {}
    for one in up.ranges:
        mask = ((1 << one.length) - 1) << (one.bits - one.length)
        yield ON_LINK[one.bits].row(up.segment, one.ip, mask)
        if one.gateway:
            gateways.setdefault(one.bits, one.gateway)
    for bits, gateway in gateways.items():
        yield BY_GATEWAY[bits].row(up.segment, gateway)


def network(segment: Segment, _facts: Facts) -> Iterable[Row]:
    """Rows of a network that is on a provider network and has a port here: all that is not on this host leaves."""
    up = segment.uplink
    if up is None:
        return ()
    frame, arp, nd = ABROAD["frame"], ABROAD["arp"], ABROAD["nd"]
    return [
        _leaving(frame, up, segment.vni),
        *(_leaving(forms, up, segment.vni, look=True) for forms in (arp, nd, TO_TRANSLATED)),
    ]  # fmt: skip


def port(ep: Endpoint, _facts: Facts) -> Iterable[Row]:
    """Rows of a port of this host that is directly on a provider network."""
    up = ep.uplink
    if up is None or ep.ofport is None:
        return ()
    segment = up.segment
    rows = [HERE.row(ep.vni, ep.mac), NA_TO_PORT.row(segment, ep.mac, ep.ofport)]
    rows += [IP_TO_PORT[bits].row(segment, ep.mac, ep.vni, ep.domain) for bits in FAMILIES]
    rows += [ARP_TO_PORT.row(segment, ip, ep.ofport) for ip in ep.v4]
    rows += [NS_TO_PORT.row(segment, ip, ep.ofport) for ip in ep.v6_all]
    for bits, ips in ((32, ep.v4), (128, ep.v6_all)):
        rows += [NEIGHBOUR_HERE[bits].row(segment, *_words(ip, bits), ep.mac) for ip in ips]
    return rows


FEATURE = Feature(
    "provider",
    "Provider networks, flat or in a VLAN of a host's bridge: the way in and out, and ports that are directly on one.",
    (
        *FROM_UPLINK.values(), ND_REPLY_TAGGED, *(one for forms in NEIGHBOUR.values() for one in forms.values()),
        *NEIGHBOUR_HERE.values(), ASK, *ON_LINK.values(), *BY_GATEWAY.values(), ARP_TO_PORT, NS_TO_PORT, NA_TO_PORT,
        *IP_TO_PORT.values(), HERE, *TO_TRANSLATED.values(),
        *(one for forms in ABROAD.values() for one in forms.values()),
    ),
    port=port,
    network=network,
    uplink=uplink,
)  # fmt: skip
