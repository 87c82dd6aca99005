"""ARP and IPv6 neighbour discovery, answered at the source host from what is declared."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import FlowTemplate, Goto, Match, Move, Output, Row, SetField

_ARP_REQUEST = (Match(f.ETH_TYPE, f.ETH_ARP), Match(f.ARP_OP, 1))
_ICMPV6 = (Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6))
_SOLICITATION = (*_ICMPV6, Match(f.ICMPV6_TYPE, 135))

ARP_OWN = FlowTemplate(
    "arp-own", "arp_nd", t.ARP, 200,
    (Match(f.IN_PORT, "ofport"), Match(f.ETH_TYPE, f.ETH_ARP), Match(f.ARP_TPA, "ip")),
    (),
    "A port asks for, or announces, its own address (RFC 5227): nobody else has it, nobody answers.",
)  # fmt: skip
ARP_REPLY = FlowTemplate(
    "arp-reply", "arp_nd", t.ARP, 100,
    (Match(f.NET, "net"), *_ARP_REQUEST, Match(f.ARP_TPA, "ip")),
    (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, "mac"), SetField(f.ARP_OP, 2),
        Move(f.ARP_SHA, f.ARP_THA), SetField(f.ARP_SHA, "mac"),
        Move(f.ARP_SPA, f.ARP_TPA), SetField(f.ARP_SPA, "ip"), Output(None),
    ),
    "A request for a declared address: turned into its reply (RFC 826) and sent back.",
)  # fmt: skip
ND_UNSPECIFIED = FlowTemplate(
    "nd-unspecified", "arp_nd", t.ND, 300,
    (*_SOLICITATION, Match(f.IPV6_SRC, 0)),
    (),
    "Duplicate address detection (RFC 4862): addresses are assigned, so there is nothing to detect and no answer.",
)  # fmt: skip
ND_OWN = FlowTemplate(
    "nd-own", "arp_nd", t.ND, 200,
    (Match(f.IN_PORT, "ofport"), *_SOLICITATION, Match(f.ND_TARGET, "ip")),
    (),
    "A port asks for its own address: nobody answers.",
)  # fmt: skip
ND_ANSWER = FlowTemplate(
    "nd-answer", "arp_nd", t.ND, 100,
    (Match(f.NET, "net"), *_SOLICITATION, Match(f.ND_TARGET, "ip")),
    (
        Move(f.ETH_SRC, f.ETH_DST), SetField(f.ETH_SRC, "mac"),
        Move(f.IPV6_SRC, f.IPV6_DST), SetField(f.IPV6_SRC, "ip"),
        SetField(f.ICMPV6_TYPE, 136), SetField(f.ND_OPTIONS_TYPE, 2), SetField(f.ND_RESERVED, 0x60000000),
        Goto(t.ND_REPLY),
    ),
    "A solicitation for a declared address: turned into a solicited, overriding advertisement (RFC 4861, 7.2.4).",
)  # fmt: skip
ND_TO_OWNER = FlowTemplate(
    "nd-to-owner", "arp_nd", t.ND, 101,
    (Match(f.NET, "net"), *_SOLICITATION, Match(f.ND_TARGET, "ip")),
    (SetField(f.ETH_DST, "mac"), Goto(t.L2)),
    "The same where the datapath cannot rewrite it: as unicast to the port that has the address, which answers.",
)  # fmt: skip
ND_PROBE = FlowTemplate(
    "nd-probe", "arp_nd", t.ND, 150,
    (*_SOLICITATION, Match(f.ND_SLL, 0)),
    (Goto(t.L2),),
    "Without a link-layer option it is a probe of a neighbour whose MAC is known (RFC 4861, 7.2.2), and there is no "
    "room for the answer's option: a unicast frame like any, which the neighbour answers.",
)  # fmt: skip
ND_REPLY = FlowTemplate(
    "nd-reply", "arp_nd", t.ND_REPLY, 100,
    (*_ICMPV6, Match(f.ICMPV6_TYPE, 136)),
    (Move(f.ETH_SRC, f.ND_TLL), Output(None)),
    "The target link-layer option says the MAC that the answer comes from; back to the port that asked.",
)  # fmt: skip


def port(ep: Endpoint, facts: Facts) -> Iterable[Row]:
    """Rows of one port: answers for each of its addresses, and silence to its questions about itself."""
    if not ep.present:
        return ()
    rows = [ARP_REPLY.row(ep.vni, ip, ep.mac) for ip in ep.v4]
    answer = ND_ANSWER if facts.nd_responder else ND_TO_OWNER
    rows += [answer.row(ep.vni, ip, ep.mac) for ip in ep.v6_all]
    if ep.local and ep.ofport is not None:
        rows += [ARP_OWN.row(ep.ofport, ip) for ip in ep.v4]
        rows += [ND_OWN.row(ep.ofport, ip) for ip in ep.v6_all]
    return rows


def host(facts: Facts) -> Iterable[Row]:
    """Rows that every host has."""
    return (ND_UNSPECIFIED.row(), ND_PROBE.row(), *((ND_REPLY.row(),) if facts.nd_responder else ()))


FEATURE = Feature(
    "arp_nd",
    "ARP and neighbour discovery answered on the sender's host from the declared addresses.",
    (ARP_OWN, ARP_REPLY, ND_UNSPECIFIED, ND_OWN, ND_ANSWER, ND_PROBE, ND_TO_OWNER, ND_REPLY),
    port=port,
    host=host,
)
