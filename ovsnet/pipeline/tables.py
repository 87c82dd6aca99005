"""The tables of the pipeline, declared once, in the order in which a frame meets them.

Ids are spaced, so that a capability finds room between its neighbours. The drawing and the reference page
(``docs/pipeline.md``) and every check derive from this declaration.
"""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.pipeline import fields as f


@dataclass(frozen=True, eq=False)
class Table:
    """One OpenFlow table.

    ``features`` may put flows here; ``reads`` may be matched and ``writes`` set; ``next`` are the tables that a flow
    may go to, ``calls`` those that it may look up before it carries on here, ``back`` earlier ones that may have a
    frame again, as if it had come in just now; ``output`` says whether frames leave the switch here, ``copies`` whether
    the agent gets copies; ``miss`` is what befalls a frame that no flow matches:
    ``drop``, or the name of a table; ``missed`` says in a sentence what such a frame was.
    """

    id: int
    name: str
    doc: str
    features: tuple[str, ...]
    reads: tuple[f.Field, ...]
    writes: tuple[f.Field, ...] = ()
    next: tuple[str, ...] = ()
    calls: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    output: bool = False
    copies: bool = False
    miss: str = "drop"
    missed: str = ""


CLASSIFY = Table(
    0,
    "classify",
    "Where does the frame come from, and in which network is it? A workload's frame goes on to the checks of its "
    "port; a frame out of the tunnel was checked by its sender's host and can only be delivered here, or leave by a "
    "router's gateway host, never be sent back into a tunnel; a frame from a provider network has no standing at all.",
    features=("l2", "nat", "provider"),
    reads=(f.IN_PORT, f.TUN_ID, f.VLAN_VID),
    writes=(f.NET, f.DOMAIN, f.POLICY, f.BANK, f.ZONE, f.SEGMENT),
    next=("outside", "port_security", "outward", "deliver"),
    missed="It came in on a port, or in a network, that is not declared on this host.",
)
OUTSIDE = Table(
    2,
    "outside",
    "What comes from a provider network: for a port that is directly on it, or for an address that stands for ports "
    "behind a router. ARP requests for such an address are answered here; the agent hears who has the addresses "
    "that it asked for.",
    features=("nat", "provider"),
    reads=(
        f.SEGMENT,
        f.IN_PORT,
        f.ETH_DST,
        f.ETH_TYPE,
        f.ARP_OP,
        f.ARP_TPA,
        f.IPV4_DST,
        f.IPV6_DST,
        f.IP_PROTO,
        f.ICMPV6_TYPE,
        f.ND_TARGET,
        f.ND_SLL,
    ),
    writes=(
        f.NET,
        f.DOMAIN,
        f.ZONE,
        f.ETH_SRC,
        f.ETH_DST,
        f.ARP_OP,
        f.ARP_SHA,
        f.ARP_SPA,
        f.ARP_THA,
        f.ARP_TPA,
        f.VLAN_VID,
        f.IPV6_SRC,
        f.IPV6_DST,
        f.ICMPV6_TYPE,
        f.ND_OPTIONS_TYPE,
        f.ND_RESERVED,
    ),
    next=("inward", "nd_reply", "deliver"),
    output=True,
    copies=True,
    missed="Nobody here has the address.",
)
INWARD = Table(
    4,
    "inward",
    "The tracker has put a port's own address in place of the one outside: on to the router, as from its gateway. What "
    "claims to come from an address inside is dropped.",
    features=("nat",),
    reads=(f.ZONE, f.CT_STATE, f.ETH_TYPE, f.IPV4_SRC, f.IPV6_SRC),
    writes=(f.DOMAIN, f.ETH_DST),
    next=("route",),
    missed="It belongs to no connection that was opened from inside.",
)
PORT_SECURITY = Table(
    10,
    "port_security",
    "A workload sends with its own addresses only: source MAC with source IP, ARP sender addresses, untagged. What "
    "is not listed is dropped, and counted against the port. What it asks of its own addresses, by DHCP or a router "
    "solicitation, goes to the agent.",
    features=("port_security", "dhcp"),
    reads=(
        f.IN_PORT, f.VLAN_VID, f.ETH_SRC, f.ETH_DST, f.ETH_TYPE, f.ARP_OP, f.ARP_SHA, f.ARP_SPA, f.IPV4_SRC,
        f.IPV6_SRC, f.IPV6_DST, f.IP_FRAG, f.IP_PROTO, f.UDP_SRC, f.UDP_DST, f.ICMPV6_TYPE, f.ICMPV6_CODE,
        f.ND_TARGET, f.ND_SLL,
    ),
    next=("nd_security", "arp", "nd", "egress", "route"),
    copies=True,
    missed="It came in on a port that is not bound.",
)  # fmt: skip
ND_SECURITY = Table(
    15,
    "nd_security",
    "What a neighbour discovery message says inside must be the port's own too: the link-layer option, and the "
    "target of an advertisement.",
    features=("port_security",),
    reads=(f.IN_PORT, f.ETH_SRC, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET, f.ND_SLL, f.ND_TLL),
    next=("nd", "l2"),
    missed="It came in on a port that is not bound.",
)
ARP = Table(
    20,
    "arp",
    "ARP requests are answered here, from what is declared; no ARP message ever reaches another port or the wire.",
    features=("arp_nd", "routing", "provider"),
    reads=(f.NET, f.IN_PORT, f.ETH_TYPE, f.ARP_OP, f.ARP_TPA),
    writes=(f.ETH_SRC, f.ETH_DST, f.ARP_OP, f.ARP_SHA, f.ARP_SPA, f.ARP_THA, f.ARP_TPA, f.VLAN_VID, f.SEGMENT),
    back=("outside",),
    output=True,
    missed="No port of this network has the address asked for, or it is no request.",
)
ND = Table(
    30,
    "nd",
    "Neighbour solicitations for declared addresses: turned into the answer on a user-space datapath; on the kernel "
    "datapath, which cannot rewrite the option, sent as unicast to the one port that has the address.",
    features=("arp_nd", "routing", "provider"),
    reads=(f.NET, f.IN_PORT, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET, f.ND_SLL, f.IPV6_SRC),
    writes=(
        f.ETH_SRC, f.ETH_DST, f.IPV6_SRC, f.IPV6_DST, f.ICMPV6_TYPE, f.ND_OPTIONS_TYPE, f.ND_RESERVED, f.VLAN_VID,
        f.SEGMENT,
    ),
    next=("nd_reply", "l2"),
    back=("outside",),
    output=True,
    copies=True,
    missed="No port of this network has the address asked for.",
)  # fmt: skip
ND_REPLY = Table(
    31,
    "nd_reply",
    "The second half of the answer to a solicitation: the option that exists only now that the message is an "
    "advertisement.",
    features=("arp_nd", "provider"),
    reads=(f.IN_PORT, f.SEGMENT, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE),
    writes=(f.ND_TLL, f.VLAN_VID),
    output=True,
    missed="It is no advertisement.",
)
EGRESS = Table(
    32,
    "egress",
    "What a port may send, by its security groups: to the connection tracker in the port's own zone, or, for stateless "
    "groups, straight to judgement. Neighbour discovery and multicast listener messages are not subject to groups.",
    features=("security_groups",),
    reads=(f.ZONE, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE),
    next=("egress_tracked", "egress_verdict", "route", "l2"),
    calls=("way",),
    missed="It is neither IPv4 nor IPv6.",
)
EGRESS_TRACKED = Table(
    34,
    "egress_tracked",
    "The connection is known or new: it is judged by the rules of its sender's port, every packet anew.",
    features=("security_groups",),
    reads=(f.CT_STATE,),
    next=("egress_verdict",),
    calls=("policy",),
    missed="The connection tracker has not seen it.",
)
EGRESS_VERDICT = Table(
    36,
    "egress_verdict",
    "The judgement is carried out; a connection that is allowed and new is remembered.",
    features=("security_groups",),
    reads=(f.ETH_TYPE, f.CT_STATE, f.ZONE, f.VERDICT),
    next=("route",),
    copies=True,
    missed="No rule of the sending port's security groups allows it.",
)
ROUTE = Table(
    37,
    "route",
    "What is sent to the gateways' MAC is routed here, at its source: to the MAC of the port that has the address, or "
    "that the longest prefix leads to, in that port's network. All else is passed by.",
    features=("routing", "nat"),
    reads=(
        f.DOMAIN, f.ETH_DST, f.ETH_TYPE, f.IPV4_SRC, f.IPV4_DST, f.IPV6_SRC, f.IPV6_DST, f.IP_TTL, f.IP_PROTO,
        f.ICMP_TYPE, f.ICMPV6_TYPE,
    ),
    writes=(
        f.NET, f.ETH_SRC, f.ETH_DST, f.IP_TTL, f.IPV4_SRC, f.IPV4_DST, f.IPV6_SRC, f.IPV6_DST, f.ICMP_TYPE,
        f.ICMPV6_TYPE, f.WHY, f.HOP,
    ),
    next=("next_hop", "route_error", "l2", "outward"),
    output=True,
    miss="l2",
    missed="It is not for a router.",
)  # fmt: skip
NEXT_HOP = Table(
    38,
    "next_hop",
    "Of several next hops, the one that was chosen.",
    features=("routing",),
    reads=(f.DOMAIN, f.HOP, f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST),
    writes=(f.NET, f.ETH_SRC, f.ETH_DST, f.IP_TTL),
    next=("l2",),
    missed="There is no such next hop.",
)
ROUTE_ERROR = Table(
    39,
    "route_error",
    "What a router does not pass on: the agent gets a copy, tells the sender why, and does so from the gateway of the "
    "sender's subnet.",
    features=("routing",),
    reads=(f.NET, f.ETH_TYPE, f.IPV4_SRC, f.IPV6_SRC),
    writes=(f.GATEWAY, f.GATEWAY6),
    copies=True,
    missed="There is no gateway here to tell it from.",
)
L2 = Table(
    40,
    "l2",
    "Destination MACs on other hosts: into the tunnel, to the VTEP of the port's host; to both hosts of a port that "
    "moves.",
    features=("l2", "provider"),
    reads=(f.NET, f.ETH_DST),
    writes=(f.TUN_ID, f.TUN_DST, f.TUN_IPV6_DST, f.VLAN_VID, f.SEGMENT),
    next=("deliver",),
    back=("outside",),
    output=True,
    miss="deliver",
    missed="The MAC is not that of a port on another host.",
)
OUTWARD = Table(
    44,
    "outward",
    "What leaves its routed domain: here the tracker puts an address of the provider network in place of the "
    "sender's own, for as long as the connection lasts; elsewhere, into the tunnel to the gateway host where that is "
    "done.",
    features=("nat",),
    reads=(f.DOMAIN, f.ETH_TYPE, f.IPV4_SRC, f.IPV6_SRC),
    writes=(f.ZONE, f.SEGMENT, f.ETH_SRC, f.TUN_ID, f.TUN_DST, f.TUN_IPV6_DST),
    next=("beyond",),
    output=True,
    missed="There is no address outside that stands for its sender.",
)
BEYOND = Table(
    45,
    "beyond",
    "The next hop on the provider network: the receiver itself, or the provider's gateway. What is for an address "
    "that stands for ports of this host, too, turns round here.",
    features=("nat", "provider"),
    reads=(f.SEGMENT, f.CT_STATE, f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST),
    writes=(f.ETH_DST, f.VIA[3], f.VIA6),
    next=("neighbour",),
    back=("outside",),
    missed="The provider network has no gateway for it.",
)
NEIGHBOUR = Table(
    46,
    "neighbour",
    "The next hop's MAC, as far as it is known, and out; the agent asks for one that is not.",
    features=("provider",),
    reads=(f.SEGMENT, f.ETH_TYPE, *f.VIA),
    writes=(f.ETH_DST, f.VLAN_VID),
    back=("outside",),
    output=True,
    copies=True,
    missed="The provider network is not on this host.",
)
DELIVER = Table(
    50,
    "deliver",
    "Destination MACs on this host: to the port, if the destination IP is the port's own. A destination that is "
    "not declared ends here.",
    features=("l2", "routing"),
    reads=(f.NET, f.ETH_DST, f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET),
    writes=(f.OUT, f.POLICY, f.BANK, f.ZONE, f.SIDE),
    next=("ingress",),
    output=True,
    missed="This network has no such destination: not declared, or broadcast or multicast, which go nowhere.",
)
INGRESS = Table(
    52,
    "ingress",
    "What a port may be sent, by its security groups: as in `egress`, for the port that the frame is for. What the "
    "sender's rules have left behind is wiped first, so that the connection tracker gives the same frame back whatever "
    "changes in rules meanwhile.",
    features=("security_groups",),
    reads=(f.ZONE, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE),
    writes=(f.WAY, f.VERDICT, f.RULE, *f.GROUPS, *f.SETS, f.PORT, f.PROTO, *f.REMOTE),
    next=("ingress_tracked", "ingress_verdict"),
    calls=("way",),
    output=True,
    missed="It is neither IPv4 nor IPv6.",
)
INGRESS_TRACKED = Table(
    54,
    "ingress_tracked",
    "The connection is known or new: it is judged by the rules of its receiver's port, every packet anew.",
    features=("security_groups",),
    reads=(f.CT_STATE,),
    next=("ingress_verdict",),
    calls=("policy",),
    missed="The connection tracker has not seen it.",
)
INGRESS_VERDICT = Table(
    56,
    "ingress_verdict",
    "The judgement is carried out; a connection that is allowed and new is remembered.",
    features=("security_groups",),
    reads=(f.ETH_TYPE, f.CT_STATE, f.ZONE, f.VERDICT),
    output=True,
    copies=True,
    missed="No rule of the receiving port's security groups allows it.",
)
POLICY = Table(
    78,
    "policy",
    "Called to judge what the connection tracker has seen: which set of groups does the port of this zone have? It is "
    "looked up behind the tracker, since whatever a frame carries through it may be older than the flows that it meets "
    "there.",
    features=("security_groups",),
    reads=(f.ZONE,),
    writes=(f.POLICY, f.BANK),
    next=("way",),
    missed="The zone is no port's of this host.",
)
WAY = Table(
    80,
    "way",
    "Called to judge. Which rules count: a connection's first packet is held to the rules of its own direction, and so "
    "are all after it, replies included; the peer is who the first packet came from or went to. Packets of stateless "
    "groups are each looked at alone.",
    features=("security_groups",),
    reads=(f.CT_STATE, f.SIDE, f.ZONE, f.ETH_TYPE, f.IP_PROTO, f.IP_FRAG),
    writes=(f.VERDICT, f.WAY, f.PORT, f.ICMP_KIND, f.ICMP_DETAIL, f.PROTO, f.REMOTE[3], f.REMOTE6),
    next=("members",),
    missed="It is neither IPv4 nor IPv6.",
)
MEMBERS = Table(
    82,
    "members",
    "Which of the groups that rules here speak of the peer is in.",
    features=("security_groups",),
    reads=(f.NET, f.DOMAIN, f.BANK, f.WAY, *f.REMOTE),
    writes=f.GROUPS,
    next=("ranges",),
    miss="ranges",
    missed="The peer is in no group that a rule here speaks of.",
)
RANGES = Table(
    84,
    "ranges",
    "Which of the address groups and ranges that rules here speak of the peer is in: the longest prefix says all.",
    features=("security_groups",),
    reads=(f.BANK, f.WAY, *f.REMOTE),
    writes=f.SETS,
    next=("rules",),
    miss="rules",
    missed="The peer is in no range that a rule here speaks of.",
)
RULES = Table(
    86,
    "rules",
    "The rules, for each set of groups that a port here has: the first in order that matches gives the verdict.",
    features=("security_groups",),
    reads=(
        f.CT_STATE, f.CT_NW_PROTO, f.CT_TP_SRC, f.CT_TP_DST, f.POLICY, f.WAY, *f.GROUPS, *f.SETS, f.PORT, f.PROTO,
    ),
    writes=(f.VERDICT, f.RULE),
    missed="No rule speaks of it.",
)  # fmt: skip

TABLES: tuple[Table, ...] = (
    CLASSIFY, OUTSIDE, INWARD, PORT_SECURITY, ND_SECURITY, ARP, ND, ND_REPLY, EGRESS, EGRESS_TRACKED, EGRESS_VERDICT,
    ROUTE, NEXT_HOP, ROUTE_ERROR, L2, OUTWARD, BEYOND, NEIGHBOUR, DELIVER, INGRESS, INGRESS_TRACKED, INGRESS_VERDICT,
    POLICY, WAY, MEMBERS, RANGES, RULES,
)  # fmt: skip
BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}
