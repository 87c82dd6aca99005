"""The way out of a routed domain: addresses of provider networks in place of those inside, by conntrack.

Each such address has a MAC and a conntrack zone of its own. A connection from inside gets it as its source, in
``outward``; what comes from outside for it is sent on to who it stands for, by ``inward``. RFC 3022; RFC 5508 (ICMP
errors).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ovsnet.facts import Facts
from ovsnet.features.base import Domain, Feature, Translation
from ovsnet.features.routing import GATEWAY_MAC
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import (
    Action,
    Call,
    Copy,
    DecTtl,
    FlowTemplate,
    ForgetInPort,
    Goto,
    Match,
    Move,
    Output,
    PushVlan,
    Row,
    SetField,
    Track,
    Translate,
)
from ovsnet.pipeline.verdicts import NEIGHBOUR_METER

FAMILIES = {32: ("", f.ETH_IPV4, f.IPV4_SRC, f.IPV4_DST), 128: ("-v6", f.ETH_IPV6, f.IPV6_SRC, f.IPV6_DST)}
WHOLE = 256
"""Bytes of a copied packet: more than ARP and neighbour discovery need."""
PRESENT = 0x1000
"""The bit of ``vlan_vid`` that says that there is a tag."""


def _template(
    name: str, table: t.Table, priority: int, match: tuple[Match, ...], actions: tuple[Action, ...], doc: str
) -> FlowTemplate:
    return FlowTemplate(name, "nat", table, priority, match, actions, doc)


FROM_DOMAIN = _template(
    "from-domain", t.CLASSIFY, 101, (Match(f.IN_PORT, "tunnel"), Match(f.TUN_ID, "domain")),
    (SetField(f.DOMAIN, "domain"), ForgetInPort(), Goto(t.OUTWARD)),
    "A packet from another host that leaves its domain here. It may have to go back into the tunnel, if it is for an "
    "address that is served here too, and no frame leaves by the port that it came in on.",
)  # fmt: skip

_SEGMENT = Match(f.SEGMENT, "segment")
_ASKED = (_SEGMENT, Match(f.ETH_TYPE, f.ETH_ARP), Match(f.ARP_OP, 1), Match(f.ARP_TPA, "ip"))
_REPLY: tuple[Action, ...] = (
    Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, "mac"), SetField(f.ARP_OP, 2), Move(f.ARP_SHA, f.ARP_THA),
    SetField(f.ARP_SHA, "mac"), Move(f.ARP_SPA, f.ARP_TPA), SetField(f.ARP_SPA, "ip"),
)  # fmt: skip
ARP_OUTSIDE = _template(
    "arp-outside", t.OUTSIDE, 200, _ASKED, (*_REPLY, Output(None)),
    "A request for an address that is served here: turned into its reply and sent back.",
)  # fmt: skip
ARP_OUTSIDE_TAGGED = _template(
    "arp-outside-tagged", t.OUTSIDE, 210, (Match(f.IN_PORT, "ofport"), *_ASKED),
    (*_REPLY, PushVlan(), SetField(f.VLAN_VID, "vid"), Output(None)),
    "The same for one that came in a VLAN.",
)  # fmt: skip
_NS = (
    _SEGMENT, Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.ICMPV6_TYPE, 135),
    Match(f.ND_TARGET, "ip"),
)  # fmt: skip
ND_OUTSIDE = _template(
    "nd-outside", t.OUTSIDE, 200, _NS,
    (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, "mac"), Move(f.IPV6_SRC, f.IPV6_DST),
        SetField(f.IPV6_SRC, "ip"), SetField(f.ICMPV6_TYPE, 136), SetField(f.ND_OPTIONS_TYPE, 2),
        SetField(f.ND_RESERVED, 0xE0000000), Goto(t.ND_REPLY),
    ),
    "A solicitation for an address that is served here: turned into its advertisement.",
)  # fmt: skip
_ASK_AGENT: tuple[Action, ...] = (SetField(f.ETH_DST, "mac"), Copy(NEIGHBOUR_METER, WHOLE))
ND_OUTSIDE_ASK = _template(
    "nd-outside-agent", t.OUTSIDE, 201, _NS, _ASK_AGENT,
    "The same where the datapath cannot rewrite it: the agent answers, with the MAC that it is for now.",
)  # fmt: skip
ND_OUTSIDE_PROBE = _template(
    "nd-outside-probe", t.OUTSIDE, 220, (*_NS, Match(f.ND_SLL, 0)), _ASK_AGENT,
    "A probe of such an address, without room for the answer's option: the agent answers.",
)  # fmt: skip
_FOR_US = (_SEGMENT, Match(f.ETH_DST, "mac"))
HEARD = {
    32: _template(
        "heard-neighbour", t.OUTSIDE, 190, (*_FOR_US, Match(f.ETH_TYPE, f.ETH_ARP), Match(f.ARP_OP, 2)),
        (Copy(NEIGHBOUR_METER, WHOLE),), "The answer to an ARP request of this host: its agent takes note.",
    ),
    128: _template(
        "heard-neighbour-v6", t.OUTSIDE, 195,
        (
            *_FOR_US, Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.ICMPV6_TYPE, 136),
        ),
        (Copy(NEIGHBOUR_METER, WHOLE),), "The answer to a solicitation of this host: its agent takes note.",
    ),
}  # fmt: skip


def _outside(bits: int) -> tuple[Match, ...]:
    _, family, _, target = FAMILIES[bits]
    return (_SEGMENT, Match(f.ETH_DST, "mac"), Match(f.ETH_TYPE, family), Match(target, "ip"))


FLOATING_IN = {
    bits: _template(
        f"floating-in{suffix}", t.OUTSIDE, 150, _outside(bits),
        (SetField(f.ZONE, "zone"), Translate(f.ZONE, t.INWARD, target, "inside")),
        "A floating IP: on to the address that it stands for.",
    )
    for bits, (suffix, _, _, target) in FAMILIES.items()
}  # fmt: skip
SNAT_IN = {
    bits: _template(
        f"snat-in{suffix}", t.OUTSIDE, 151, _outside(bits),
        (SetField(f.ZONE, "zone"), Track(f.ZONE, t.INWARD, restore=True)),
        "An address that stands for a whole domain: replies go on to who has asked.",
    )
    for bits, (suffix, *_) in FAMILIES.items()
}  # fmt: skip
_INVALID = f.ct_state(inv=True)
_ON: tuple[Action, ...] = (SetField(f.DOMAIN, "domain"), SetField(f.ETH_DST, GATEWAY_MAC), Goto(t.ROUTE))
FLOATING_ON = _template(
    "floating-on", t.INWARD, 100, (Match(f.ZONE, "zone"), Match(f.CT_STATE, *f.ct_state(trk=True, inv=False))), _ON,
    "For the port behind a floating IP: its own groups judge it.",
)  # fmt: skip
SNAT_ON = _template(
    "snat-on", t.INWARD, 100,
    (Match(f.ZONE, "zone"), Match(f.CT_STATE, *f.ct_state(trk=True, inv=False, rpl=True))), _ON,
    "A reply, or an error about a connection, that was opened from inside.",
)  # fmt: skip
REFUSED = {
    bits: _template(
        f"inside-from-outside{suffix}", t.INWARD, 200,
        (Match(f.ZONE, "zone"), Match(f.ETH_TYPE, family), Match(source, "ip", "mask")), (),
        "Its source claims to be inside, where it does not come from.",
    )
    for bits, (suffix, family, source, _) in FAMILIES.items()
}  # fmt: skip


def _routed(bits: int) -> tuple[Match, ...]:
    return (Match(f.DOMAIN, "domain"), Match(f.ETH_DST, GATEWAY_MAC), Match(f.ETH_TYPE, FAMILIES[bits][1]))


OUT = {
    bits: _template(
        f"way-out{suffix}", t.ROUTE, 60, _routed(bits), (DecTtl(), Goto(t.OUTWARD)), "It leaves the domain.",
    )
    for bits, (suffix, *_) in FAMILIES.items()
}  # fmt: skip
OUT_FROM = {
    bits: _template(
        f"way-out-from{suffix}", t.ROUTE, 61, (*_routed(bits), Match(source, "ip")), (DecTtl(), Goto(t.OUTWARD)),
        "It leaves the domain: its sender has a floating IP.",
    )
    for bits, (suffix, _, source, _) in FAMILIES.items()
}  # fmt: skip


def _leaving(bits: int) -> tuple[Match, ...]:
    return (Match(f.DOMAIN, "domain"), Match(f.ETH_TYPE, FAMILIES[bits][1]))


def _translated(source: f.Field) -> tuple[Action, ...]:
    return (
        SetField(f.ZONE, "zone"), SetField(f.SEGMENT, "segment"), SetField(f.ETH_SRC, "mac"),
        Translate(f.ZONE, t.BEYOND, source, "address"),
    )  # fmt: skip


FLOATING_OUT = {
    bits: _template(
        f"floating-out{suffix}", t.OUTWARD, 200, (*_leaving(bits), Match(source, "ip")), _translated(source),
        "Its sender has a floating IP, which becomes its source.",
    )
    for bits, (suffix, _, source, _) in FAMILIES.items()
}  # fmt: skip
SNAT_OUT = {
    bits: _template(
        f"snat-out{suffix}", t.OUTWARD, 100, _leaving(bits), _translated(source),
        "The address that stands for the whole domain becomes its source.",
    )
    for bits, (suffix, _, source, _) in FAMILIES.items()
}  # fmt: skip
TO_GATEWAY = {
    (bits, vtep): _template(
        f"to-gateway{suffix}{'-over-v6' if vtep == 128 else ''}", t.OUTWARD, 101 if vtep == 32 else 102,
        _leaving(bits),
        (
            SetField(f.TUN_ID, "domain"), SetField(f.TUN_DST if vtep == 32 else f.TUN_IPV6_DST, "vtep"),
            Output("tunnel"),
        ),
        "Into the tunnel to the gateway host where it leaves the domain.",
    )
    for bits, (suffix, *_) in FAMILIES.items() for vtep in (32, 128)
}  # fmt: skip
BEYOND_INVALID = _template(
    "translation-failed", t.BEYOND, 400, (Match(f.CT_STATE, *_INVALID),), (),
    "The connection tracker can make nothing of it, or has no port left for it.",
)  # fmt: skip
TURN = {
    bits: _template(
        f"turn-round{suffix}", t.BEYOND, 300, (_SEGMENT, Match(f.ETH_TYPE, family), Match(target, "ip")),
        (SetField(f.ETH_DST, "mac"), Call(t.OUTSIDE)),
        "For an address that is served here, too: as if it had come in from outside.",
    )
    for bits, (suffix, family, _, target) in FAMILIES.items()
}  # fmt: skip


def domain(routed: Domain, facts: Facts) -> Iterator[Row]:
    """Rows of a routed domain: what may leave it, and to which host it goes for that."""
    for way in routed.ways:
        if way.everybody:
            yield OUT[way.bits].row(routed.vni)
        for source in () if way.everybody else way.sources:
            yield OUT_FROM[way.bits].row(routed.vni, source)
        if not way.here and way.vtep and facts.tunnel_ofport is not None:
            yield TO_GATEWAY[way.bits, way.vtep_bits].row(routed.vni, way.vtep, facts.tunnel_ofport)
    if facts.tunnel_ofport is not None and any(way.here for way in routed.ways):
        yield FROM_DOMAIN.row(facts.tunnel_ofport, routed.vni)


def translation(one: Translation, facts: Facts) -> Iterator[Row]:
    """Rows of one address outside: who asks for it, what comes for it, and what leaves with it."""
    segment, up = one.uplink.segment, one.uplink
    yield HEARD[one.bits].row(segment, one.mac)
    if one.bits == 32:
        yield ARP_OUTSIDE.row(segment, one.address, one.mac)
        if up.vid:
            yield ARP_OUTSIDE_TAGGED.row(up.ofport, segment, one.address, one.mac, up.vid | PRESENT)
    else:
        yield (ND_OUTSIDE if facts.nd_responder else ND_OUTSIDE_ASK).row(segment, one.address, one.mac)
        yield ND_OUTSIDE_PROBE.row(segment, one.address, one.mac)
    yield TURN[one.bits].row(segment, one.address, one.mac)
    if one.inside is None:
        yield SNAT_IN[one.bits].row(segment, one.mac, one.address, one.zone)
        yield SNAT_ON.row(one.zone, one.domain)
        yield SNAT_OUT[one.bits].row(one.domain, one.zone, segment, one.mac, one.address)
    else:
        yield FLOATING_IN[one.bits].row(segment, one.mac, one.address, one.zone, one.inside)
        yield FLOATING_ON.row(one.zone, one.domain)
        yield FLOATING_OUT[one.bits].row(one.domain, one.inside, one.zone, segment, one.mac, one.address)
    for ip, mask in one.refused:
        yield REFUSED[one.bits].row(one.zone, ip, mask)


def host(_facts: Facts) -> Iterable[Row]:
    """The row that every host has: what cannot be translated."""
    return (BEYOND_INVALID.row(),)


FEATURE = Feature(
    "nat",
    "The way out of a routed domain: SNAT at a gateway host, floating IPs there or on the port's own host.",
    (
        FROM_DOMAIN, ARP_OUTSIDE, ARP_OUTSIDE_TAGGED, ND_OUTSIDE, ND_OUTSIDE_ASK, ND_OUTSIDE_PROBE, *HEARD.values(),
        *FLOATING_IN.values(), *SNAT_IN.values(), FLOATING_ON, SNAT_ON, *REFUSED.values(), *OUT.values(),
        *OUT_FROM.values(), *FLOATING_OUT.values(), *SNAT_OUT.values(), *TO_GATEWAY.values(), BEYOND_INVALID,
        *TURN.values(),
    ),
    domain=domain,
    translation=translation,
    host=host,
)  # fmt: skip
