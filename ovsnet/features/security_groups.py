"""Security groups: what a port may send and be sent, judged on the connection that a packet belongs to.

A *policy* is the set of groups that a port has; rules are compiled once for each policy that a port here has. A *bank*
gives the remote groups and address ranges that rules of one VPC speak of a bit each. A packet's peer is looked up once
for its bits, the rules then match one bit: so flows are a sum of members, ranges and rules, never a product.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import (
    Action,
    Call,
    Commit,
    Copy,
    FlowTemplate,
    Goto,
    Match,
    Move,
    Output,
    Row,
    SetField,
    Track,
)
from ovsnet.pipeline.verdicts import ALLOW, DROP, LOG_LENGTH, LOG_METER, LOGGED, REJECT, REJECT_METER
from ovsnet.responders.reject import SNAP

INGRESS, IPV6, ALONE, LATER, JUDGED = 0x01, 0x02, 0x04, 0x08, 0x80
"""Bits of ``way``: which direction's rules count; the family; the packet's own ports and protocol count, not the
connection's; a later fragment, which has no ports; always set."""

FRAGMENT = 44
"""What Open vSwitch shows as the protocol of a later fragment of IPv6."""

ND_AND_MLD = (130, 131, 132, 133, 134, 135, 136, 137, 143)
"""ICMPv6 types that are not subject to groups: neighbour discovery (RFC 4861), multicast listeners (RFC 3810)."""

_FAMILIES = {"": Match(f.ETH_TYPE, f.ETH_IPV4), "-v6": Match(f.ETH_TYPE, f.ETH_IPV6)}


def _state(**bits: bool) -> Match:
    return Match(f.CT_STATE, *f.ct_state(**bits))


def _template(
    name: str, table: t.Table, priority: int | str, match: tuple[Match, ...], actions: tuple[Action, ...], doc: str
) -> FlowTemplate:
    return FlowTemplate(name, "security_groups", table, priority, match, actions, doc)


@dataclass(frozen=True)
class _End:
    """The tables of one end, what is wiped before anything is judged, and how a frame goes on behind them.

    ``exempt`` is the way of what is not judged: neighbours and listeners, whose messages no router passes on.
    """

    name: str
    first: t.Table
    tracked: t.Table
    verdict: t.Table
    wiped: tuple[Action, ...]
    onward: tuple[Action, ...]
    exempt: tuple[Action, ...]


_WIPED = tuple(
    SetField(field, 0) for field in (f.VERDICT, f.RULE, *f.GROUPS, *f.SETS, f.WAY, f.PORT, f.PROTO, *f.REMOTE)
)
"""What the rules of the sender, on the same host, have left."""
_ENDS = (
    _End("egress", t.EGRESS, t.EGRESS_TRACKED, t.EGRESS_VERDICT, (), (Goto(t.ROUTE),), (Goto(t.L2),)),
    _End("ingress", t.INGRESS, t.INGRESS_TRACKED, t.INGRESS_VERDICT, _WIPED, (Output(f.OUT),), (Output(f.OUT),)),
)


_LOGS: tuple[tuple[str, tuple[Action, ...]], ...] = (("", ()), ("-logged", (Copy(LOG_METER, LOG_LENGTH),)))


def _verdict(verdict: int, logged: str) -> Match:
    return Match(f.VERDICT, verdict | LOGGED * bool(logged))


def _end_templates(end: _End) -> Iterator[FlowTemplate]:
    icmpv6 = (Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6))
    for kind in ND_AND_MLD:
        yield _template(
            f"{end.name}-icmpv6-{kind}", end.first, 300, (*icmpv6, Match(f.ICMPV6_TYPE, kind)), end.exempt,
            f"ICMPv6 type {kind}: how neighbours and listeners find each other is not subject to groups.",
        )  # fmt: skip
    for suffix, family in _FAMILIES.items():
        yield _template(
            f"{end.name}-stateless{suffix}", end.first, 200, (Match(f.ZONE, 0), family),
            (*end.wiped, Call(t.WAY), Goto(end.verdict)),
            "The port's groups are stateless: each packet is judged alone.",
        )  # fmt: skip
        yield _template(
            f"{end.name}-track{suffix}", end.first, 100, (family,), (*end.wiped, Track(f.ZONE, end.tracked)),
            "Ask the connection tracker, in the port's own zone.",
        )  # fmt: skip
        for logged, copies in _LOGS:
            yield _template(
                f"{end.name}-allow-new{suffix}{logged}", end.verdict, 150,
                (family, _verdict(ALLOW, logged), _state(trk=True, new=True)), (*copies, Commit(f.ZONE), *end.onward),
                f"Allowed, and the first packet of a connection: remember it{' and tell' if logged else ''}.",
            )  # fmt: skip
    yield _template(
        f"{end.name}-invalid", end.tracked, 200, (_state(trk=True, inv=True),), (),
        "The connection tracker calls it invalid: malformed, or out of its connection's window.",
    )  # fmt: skip
    yield _template(
        f"{end.name}-judge", end.tracked, 100, (_state(trk=True),), (Call(t.POLICY), Goto(end.verdict)),
        "The rules of the connection's own direction judge it.",
    )  # fmt: skip
    for logged, copies in _LOGS:
        yield _template(
            f"{end.name}-allow-alone{logged}", end.verdict, 200, (Match(f.ZONE, 0), _verdict(ALLOW, logged)),
            (*copies, *end.onward), f"Allowed by a stateless group{', and told' if logged else ''}.",
        )  # fmt: skip
        yield _template(
            f"{end.name}-allow{logged}", end.verdict, 100, (_verdict(ALLOW, logged),), end.onward, "Allowed.",
        )  # fmt: skip
        yield _template(
            f"{end.name}-drop{logged}", end.verdict, 100, (_verdict(DROP, logged),), copies,
            f"A rule drops it{', and it is told' if logged else ''}.",
        )  # fmt: skip
        yield _template(
            f"{end.name}-reject{logged}", end.verdict, 100, (_verdict(REJECT, logged),),
            (Copy(REJECT_METER, SNAP),),
            f"A rule rejects it: the agent answers{' and tells' if logged else ''}.",
        )  # fmt: skip


_PEERS = {  # by family and whether it is the connection's source: the tracker's field, the packet's own
    ("", True): (f.CT_NW_SRC, f.IPV4_SRC),
    ("", False): (f.CT_NW_DST, f.IPV4_DST),
    ("-v6", True): (f.CT_IPV6_SRC, f.IPV6_SRC),
    ("-v6", False): (f.CT_IPV6_DST, f.IPV6_DST),
}


def _way(suffix: str, ingress: bool, alone: int, extra: int = 0) -> tuple[Action, ...]:
    peer = _PEERS[suffix, ingress][alone]
    bits = JUDGED | INGRESS * ingress | IPV6 * bool(suffix) | extra
    return (SetField(f.WAY, bits), Move(peer, f.REMOTE6 if suffix else f.REMOTE[3]))


def _way_templates() -> Iterator[FlowTemplate]:
    for side, end in enumerate(_ENDS):
        for suffix, family in _FAMILIES.items():
            yield from _tracked_ways(side, end.name, suffix, family)
            yield from _packet_ways(side, end.name, suffix, family)


def _tracked_ways(side: int, end: str, suffix: str, family: Match) -> Iterator[FlowTemplate]:
    for reply in (False, True):
        ingress = bool(side) != reply
        match = (_state(trk=True, inv=False, rpl=reply), Match(f.SIDE, side), family)
        name = f"{end}-{'reply' if reply else 'forward'}{suffix}"
        what = f"{'A reply' if reply else 'The way of the first packet'}: {'ingress' if ingress else 'egress'} rules"
        way = _way(suffix, ingress, 0)
        yield _template(f"{name}", t.WAY, 100, match, (*way, Goto(t.MEMBERS)), f"{what}.")
        port = f.SCTP_SRC if reply else f.SCTP_DST
        sctp = (SetField(f.PROTO, f.PROTO_SCTP), Move(port, f.PORT))
        yield _template(
            f"{name}-sctp", t.WAY, 150, (*match, Match(f.IP_PROTO, f.PROTO_SCTP)),
            (*_way(suffix, ingress, 0, ALONE), *sctp, Goto(t.MEMBERS)),
            f"{what}; the ports are the packet's, since not every connection tracker knows SCTP's.",
        )  # fmt: skip


def _error_templates(judged: bool) -> Iterator[FlowTemplate]:
    """ICMP errors that go the way of the connection's first packet, for which Open vSwitch hides the connection.

    A user-space datapath still matches its protocol and ports (``judged``); the kernel's shows tables nothing of it.
    """
    state = _state(trk=True, inv=False, rpl=False, rel=True)
    for side, end in enumerate(_ENDS):
        for suffix, family in _FAMILIES.items():
            name, match = f"{end.name}-forward{suffix}-error", (state, Match(f.SIDE, side), family)
            if judged:
                yield _template(
                    name, t.WAY, 160, match, (*_way(suffix, bool(side), 1), Goto(t.MEMBERS)),
                    f"An ICMP error that goes the way of the first packet: {end.name} rules; the peer is the packet's, "
                    "since Open vSwitch does not hand out the connection's addresses here.",
                )  # fmt: skip
            else:
                yield _template(
                    f"{name}-known", t.WAY, 161, match, (SetField(f.VERDICT, ALLOW),),
                    "The same on the kernel datapath, where tables are shown nothing of the connection: it passes, "
                    "since the tracker knows the connection.",
                )  # fmt: skip


def _packet_ways(side: int, end: str, suffix: str, family: Match) -> Iterator[FlowTemplate]:
    match = (Match(f.ZONE, 0), Match(f.SIDE, side), family)
    way = _way(suffix, bool(side), 1, ALONE)
    protocols: dict[str, tuple[int, tuple[Action, ...]]] = {
        "tcp": (f.PROTO_TCP, (Move(f.TCP_DST, f.PORT),)),
        "udp": (f.PROTO_UDP, (Move(f.UDP_DST, f.PORT),)),
        "sctp-alone": (f.PROTO_SCTP, (Move(f.SCTP_DST, f.PORT),)),
    }
    if suffix:
        protocols["icmp"] = (
            f.PROTO_ICMPV6, (Move(f.ICMPV6_TYPE, f.ICMP_KIND), Move(f.ICMPV6_CODE, f.ICMP_DETAIL))
        )  # fmt: skip
    else:
        protocols["icmp"] = (f.PROTO_ICMP, (Move(f.ICMP_TYPE, f.ICMP_KIND), Move(f.ICMP_CODE, f.ICMP_DETAIL)))
    for name, (number, moves) in protocols.items():
        yield _template(
            f"{end}-{name}{suffix}", t.WAY, 300, (*match, Match(f.IP_PROTO, number)),
            (*way, SetField(f.PROTO, number), *moves, Goto(t.MEMBERS)), f"{name.split('-')[0].upper()}, judged alone.",
        )  # fmt: skip
    yield _template(
        f"{end}-alone{suffix}", t.WAY, 250, match, (*way, Move(f.IP_PROTO, f.PROTO), Goto(t.MEMBERS)),
        "Any other protocol, judged alone.",
    )  # fmt: skip
    later = _way(suffix, bool(side), 1, ALONE | LATER)
    yield _template(
        f"{end}-fragment{suffix}", t.WAY, 350, (*match, Match(f.IP_FRAG, 3)),
        (*later, Move(f.IP_PROTO, f.PROTO), Goto(t.MEMBERS)),
        "A later fragment has no ports: peer and protocol decide.",
    )  # fmt: skip


OF_ZONE = _template(
    "of-zone", t.POLICY, 100, (Match(f.ZONE, "zone"),),
    (SetField(f.POLICY, "policy"), SetField(f.BANK, "bank"), Goto(t.WAY)), "The port whose connections these are.",
)  # fmt: skip


def _words(count: int, partial: bool) -> tuple[Match, ...]:
    """Matches on the first words of the peer's IPv6 address: ``count`` whole ones, then one under a mask."""
    whole = tuple(Match(f.REMOTE[i], f"ip{i}") for i in range(count))
    return (*whole, Match(f.REMOTE[count], f"ip{count}", "mask")) if partial else whole


_IS_V4, _IS_V6 = Match(f.WAY, 0, IPV6), Match(f.WAY, IPV6, IPV6)
_TO_GROUPS: tuple[Action, ...] = (*(SetField(field, field.name) for field in f.GROUPS), Goto(t.RANGES))
_TO_SETS: tuple[Action, ...] = (*(SetField(field, field.name) for field in f.SETS), Goto(t.RULES))
_AT = (Match(f.DOMAIN, "domain"), Match(f.BANK, "bank"))
MEMBER = _template(
    "member", t.MEMBERS, 100, (*_AT, _IS_V4, Match(f.REMOTE[3], "ip")), _TO_GROUPS, "An IPv4 address of a member.",
)  # fmt: skip
MEMBER_V6 = _template(
    "member-v6", t.MEMBERS, 100, (*_AT, _IS_V6, *_words(4, False)), _TO_GROUPS, "An IPv6 address of a member.",
)  # fmt: skip
MEMBER_LOCAL = _template(
    "member-local", t.MEMBERS, 110, (Match(f.NET, "net"), Match(f.BANK, "bank"), _IS_V6, *_words(4, False)), _TO_GROUPS,
    "A member's link-local address, which is its own in its network alone.",
)  # fmt: skip
_IN_BANK = Match(f.BANK, "bank")
RANGE = {
    exact: _template(
        "range-host" if exact else "range", t.RANGES, "priority",
        (_IN_BANK, _IS_V4, Match(f.REMOTE[3], "ip", None if exact else "mask")), _TO_SETS,
        "One IPv4 address." if exact else "An IPv4 range.",
    )
    for exact in (True, False)
}  # fmt: skip
RANGE_V6 = {
    (count, partial): _template(
        f"range-v6-{count}{'-part' if partial else ''}", t.RANGES, "priority",
        (_IN_BANK, _IS_V6, *_words(count, partial)), _TO_SETS,
        f"An IPv6 range of {32 * count + 1} to {32 * count + 31} bits." if partial
        else f"An IPv6 range of {32 * count} bits.",
    )
    for count in range(5) for partial in (False, True) if (count or partial) and (count < 4 or not partial)
}  # fmt: skip

_TRACKED = _state(trk=True, inv=False)
_CT_PROTO = (_TRACKED, Match(f.CT_NW_PROTO, "proto"))
_OWN_PROTO = Match(f.PROTO, "proto")
_KINDS: dict[str, tuple[tuple[Match, ...], str]] = {
    "any": ((), "any protocol"),
    "protocol": (_CT_PROTO, "a protocol"),
    "port": ((*_CT_PROTO, Match(f.CT_TP_DST, "port")), "a protocol and port"),
    "ports": ((*_CT_PROTO, Match(f.CT_TP_DST, "port", "mask")), "a protocol and part of a range of ports"),
    "type": ((*_CT_PROTO, Match(f.CT_TP_SRC, "type")), "an ICMP type"),
    "code": ((*_CT_PROTO, Match(f.CT_TP_SRC, "type"), Match(f.CT_TP_DST, "code")), "an ICMP type and code"),
    "own-protocol": ((_OWN_PROTO,), "a protocol, of a packet judged alone"),
    "own-port": ((_OWN_PROTO, Match(f.PORT, "port")), "a protocol and port, of a packet judged alone"),
    "own-ports": ((_OWN_PROTO, Match(f.PORT, "port", "mask")), "part of a range of ports, of a packet judged alone"),
}
_PEER_BITS: dict[str, tuple[tuple[Match, ...], str]] = {
    "": ((), "anybody"),
    **{f"-group{i}": ((Match(field, "bit", "bit"),), "the members of a group") for i, field in enumerate(f.GROUPS)},
    **{f"-set{i}": ((Match(field, "bit", "bit"),), "an address range") for i, field in enumerate(f.SETS)},
}
RULES = {
    (kind, peer): _template(
        f"rule-{kind}{peer}", t.RULES, "priority",
        (Match(f.POLICY, "policy"), Match(f.WAY, "way", "under"), *peer_match, *kind_match),
        (SetField(f.VERDICT, "verdict"), SetField(f.RULE, "rule")),
        f"A rule about {what}, for {whom}.",
    )
    for kind, (kind_match, what) in _KINDS.items() for peer, (peer_match, whom) in _PEER_BITS.items()
}  # fmt: skip
"""By what a rule says of protocol and ports, and by the register word that has the bit of its remote."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule as numbers, for all ports of a policy.

    ``family`` is 4, 6 or 0 for both; ``protocol`` ``None`` is any; ``ports`` are (value, mask) pairs of 16 bits, none
    for any; ``icmp`` is (type, code or ``None``). ``peer`` is the bit of the remote group (``group``) or of its range
    (``set``) in the policy's bank, ``None`` for anybody. ``priority`` is OpenFlow's, ``number`` names it in events.
    """

    ingress: bool
    family: int
    protocol: int | None
    ports: tuple[tuple[int, int], ...]
    icmp: tuple[int, int | None] | None
    peer: tuple[str, int] | None
    priority: int
    verdict: int
    number: int


IMPLICIT = 50
"""OpenFlow priority of what a group allows without a rule: all egress."""


def priority(rank: int, action: int) -> int:
    """The OpenFlow priority of a rule of priority ``rank`` (1-1000): at a tie drop wins over reject over allow."""
    return 100 + 3 * (1000 - rank) + {DROP: 2, REJECT: 1, ALLOW: 0}[action]


def rule_rows(policy: int, stateful: bool, rule: Rule) -> Iterator[Row]:
    """The rows of one rule for the ports of a policy; a stateful rule looks at connections, others at packets."""
    if rule.protocol is None:
        yield _rule_row("any", policy, rule)
        return
    own = not stateful or (rule.protocol == f.PROTO_SCTP and bool(rule.ports))
    if own and rule.icmp is not None:
        kind, code = rule.icmp
        ports: tuple[tuple[int, int], ...] = ((kind << 8, 0xFF00),) if code is None else ((kind << 8 | code, 0xFFFF),)
    else:
        ports = rule.ports
    if own:
        yield from _own_rows(policy, stateful, rule, ports)
    elif rule.icmp is not None:
        kind, code = rule.icmp
        yield _rule_row("type" if code is None else "code", policy, rule, type=kind, code=code or 0)
    elif ports:
        for value, mask in ports:
            yield _rule_row("port" if mask == 0xFFFF else "ports", policy, rule, port=value, mask=mask)
    else:
        yield _rule_row("protocol", policy, rule)
    if own and stateful and rule.verdict & ~LOGGED == ALLOW:  # an error about a connection shows no ports of it
        yield _rule_row("protocol", policy, rule, under=ALONE)


def _own_rows(policy: int, stateful: bool, rule: Rule, ports: tuple[tuple[int, int], ...]) -> Iterator[Row]:
    """Rows that look at the packet's own protocol and ports; a later fragment has no ports, in IPv6 no protocol."""
    for value, mask in ports:
        name = "own-port" if mask == 0xFFFF else "own-ports"
        yield _rule_row(name, policy, rule, port=value, mask=mask, under=LATER)
    if not ports:
        yield _rule_row("own-protocol", policy, rule)
    if stateful or rule.verdict & ~LOGGED != ALLOW:
        return
    if ports and rule.family != 6:
        yield _rule_row("own-protocol", policy, rule, way=LATER, under=LATER)
    if rule.family != 4:
        yield _rule_row("own-protocol", policy, rule, way=LATER | IPV6, under=LATER | IPV6, proto=FRAGMENT)


def _rule_row(kind: str, policy: int, rule: Rule, way: int = 0, under: int = 0, **values: int) -> Row:
    way, under = way | JUDGED | INGRESS * rule.ingress, under | JUDGED | INGRESS
    if rule.family:
        way, under = way | IPV6 * (rule.family == 6), under | IPV6
    peer = ""
    if rule.peer is not None:
        word, bit = divmod(rule.peer[1], 32)
        peer, values["bit"] = f"-{rule.peer[0]}{word}", 1 << bit
    values |= {"policy": policy, "way": way, "under": under, "priority": rule.priority}
    values = {"proto": rule.protocol or 0, "verdict": rule.verdict, "rule": rule.number} | values
    template = RULES[kind, peer]
    return Row(template, tuple(values[param.name] for param in template.params))


def _halves(bits: int, fields: tuple[f.RegisterField, ...]) -> tuple[int, ...]:
    return tuple(bits >> 32 * i & 0xFFFFFFFF for i in range(len(fields)))


def member_rows(vni: int, domain: int, ip: int, width: int, member_of: Iterable[tuple[int, int]]) -> list[Row]:
    """The rows that say which groups an address of ``width`` 32 or 128 is in: ``member_of`` are (bank, bits)."""
    if width == 32:
        return [Row(MEMBER, (domain, bank, ip, bits & 0xFFFFFFFF, bits >> 32)) for bank, bits in member_of]
    template, at = (MEMBER_LOCAL, vni) if ip >> 118 == _LINK_LOCAL else (MEMBER_V6, domain)
    words = _ip_words(ip)
    return [template.row(at, bank, *words, *_halves(bits, f.GROUPS)) for bank, bits in member_of]


_LINK_LOCAL = 0xFE80 >> 6
"""The first 10 bits of a link-local address (RFC 4291, 2.5.6)."""


def range_row(bank: int, ip: int, length: int, v6: bool, bits: int) -> Row:
    """The row that says which sets an address range is in: ``length`` is its prefix's."""
    count, rest = divmod(length, 32)
    mask = (0xFFFFFFFF << 32 - rest & 0xFFFFFFFF,) if rest else ()
    last = (100 + length, *_halves(bits, f.SETS))
    if not v6:
        return RANGE[not rest].row(bank, ip, *mask, *last)
    return RANGE_V6[count, bool(rest)].row(bank, *_ip_words(ip)[: count + bool(rest)], *mask, *last)


def _ip_words(ip: int) -> tuple[int, int, int, int]:
    return (ip >> 96, ip >> 64 & 0xFFFFFFFF, ip >> 32 & 0xFFFFFFFF, ip & 0xFFFFFFFF)


def port(ep: Endpoint, _facts: Facts) -> Iterable[Row]:
    """The rows that say which groups a port's addresses are in, and which rules are a stateful port's own."""
    rows = [OF_ZONE.row(ep.zone, ep.policy, ep.bank)] if ep.zone and ep.ofport is not None else []
    return rows + [
        row for ip, width, member_of in ep.members for row in member_rows(ep.vni, ep.domain, ip, width, member_of)
    ]


_ERRORS = {judged: tuple(_error_templates(judged)) for judged in (True, False)}
_STATIC = (*(template for end in _ENDS for template in _end_templates(end)), *_way_templates())


def host(facts: Facts) -> Iterable[Row]:
    """The rows that every host has: tracking, which way, verdicts. The kernel's datapath is no ``nd_responder``."""
    return [template.row() for template in (*_STATIC, *_ERRORS[facts.nd_responder])]


FEATURE = Feature(
    "security_groups",
    "Stateful and stateless filters by groups of ports, at both ends.",
    (
        *_STATIC,
        *_ERRORS[True],
        *_ERRORS[False],
        OF_ZONE,
        MEMBER,
        MEMBER_V6,
        MEMBER_LOCAL,
        *RANGE.values(),
        *RANGE_V6.values(),
        *RULES.values(),
    ),
    port=port,
    host=host,
)
