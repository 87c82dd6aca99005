"""The fields that flows match and set: packet fields, and the register fields of this pipeline.

Names are those of ovs-fields(7) as ovs-ofctl writes them; ``oxm`` is the OpenFlow name that the codec uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "hex", "mac", "ipv4", "ipv6", "ct"]

ETH_ARP = 0x0806
ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD
PROTO_ICMP, PROTO_TCP, PROTO_UDP, PROTO_ICMPV6, PROTO_SCTP = 1, 6, 17, 58, 132


@dataclass(frozen=True, eq=False)
class Field:
    """A field of the packet or of its metadata.

    ``bits`` is its width; ``requires`` are the (field name, value) pairs that a flow has to match before it may
    match or set this one (ovs-fields(7), "Prerequisites").
    """

    name: str
    bits: int
    kind: Kind
    oxm: str
    meaning: str
    requires: tuple[tuple[str, int], ...] = ()

    @property
    def full_mask(self) -> int:
        """The mask of all bits."""
        return (1 << self.bits) - 1


@dataclass(frozen=True, eq=False)
class RegisterField(Field):
    """Bits ``low``.. of an Open vSwitch register, live from table ``first`` (which writes it) to table ``last``."""

    register: int = 0
    low: int = 0
    first: str = ""
    last: str = ""


def _field(name: str, bits: int, kind: Kind, oxm: str, meaning: str, **requires: int) -> Field:
    return Field(name, bits, kind, oxm, meaning, tuple(requires.items()))


IN_PORT = _field("in_port", 32, "int", "in_port", "OpenFlow port that the frame came in on")
TUN_ID = _field("tun_id", 64, "int", "tunnel_id", "VNI of the tunnel header")
TUN_DST = _field("tun_dst", 32, "ipv4", "tun_ipv4_dst", "IPv4 VTEP that the frame is sent to")
TUN_IPV6_DST = _field("tun_ipv6_dst", 128, "ipv6", "tun_ipv6_dst", "IPv6 VTEP that the frame is sent to")
CT_STATE = _field("ct_state", 32, "ct", "ct_state", "what the connection tracker says of the packet")
CT_NW_SRC = _field(
    "ct_nw_src", 32, "ipv4", "ct_nw_src", "IPv4 source of the connection's first packet", dl_type=ETH_IPV4
)
CT_NW_DST = _field(
    "ct_nw_dst", 32, "ipv4", "ct_nw_dst", "IPv4 destination of the connection's first packet", dl_type=ETH_IPV4
)
CT_IPV6_SRC = _field(
    "ct_ipv6_src", 128, "ipv6", "ct_ipv6_src", "IPv6 source of the connection's first packet", dl_type=ETH_IPV6
)
CT_IPV6_DST = _field(
    "ct_ipv6_dst", 128, "ipv6", "ct_ipv6_dst", "IPv6 destination of the connection's first packet", dl_type=ETH_IPV6
)
CT_NW_PROTO = _field("ct_nw_proto", 8, "int", "ct_nw_proto", "IP protocol of the connection")
CT_TP_SRC = _field("ct_tp_src", 16, "int", "ct_tp_src", "source port (or ICMP type) of the connection's first packet")
CT_TP_DST = _field("ct_tp_dst", 16, "int", "ct_tp_dst", "its destination port (or ICMP code)")
ETH_SRC = _field("dl_src", 48, "mac", "eth_src", "source MAC")
ETH_DST = _field("dl_dst", 48, "mac", "eth_dst", "destination MAC")
ETH_TYPE = _field("dl_type", 16, "hex", "eth_type", "EtherType")
VLAN_VID = _field("vlan_vid", 16, "hex", "vlan_vid", "VLAN id with its present bit; 0 is untagged")
ARP_OP = _field("arp_op", 16, "int", "arp_op", "ARP operation: 1 request, 2 reply", dl_type=ETH_ARP)
ARP_SPA = _field("arp_spa", 32, "ipv4", "arp_spa", "ARP sender's address", dl_type=ETH_ARP)
ARP_TPA = _field("arp_tpa", 32, "ipv4", "arp_tpa", "ARP target's address", dl_type=ETH_ARP)
ARP_SHA = _field("arp_sha", 48, "mac", "arp_sha", "ARP sender's MAC", dl_type=ETH_ARP)
ARP_THA = _field("arp_tha", 48, "mac", "arp_tha", "ARP target's MAC", dl_type=ETH_ARP)
IPV4_SRC = _field("nw_src", 32, "ipv4", "ipv4_src", "IPv4 source", dl_type=ETH_IPV4)
IPV4_DST = _field("nw_dst", 32, "ipv4", "ipv4_dst", "IPv4 destination", dl_type=ETH_IPV4)
IPV6_SRC = _field("ipv6_src", 128, "ipv6", "ipv6_src", "IPv6 source", dl_type=ETH_IPV6)
IPV6_DST = _field("ipv6_dst", 128, "ipv6", "ipv6_dst", "IPv6 destination", dl_type=ETH_IPV6)
IP_FRAG = _field("nw_frag", 8, "int", "ip_frag", "fragment: 1 first, 3 later, 0 none (two bits are used)")
IP_TTL = _field("nw_ttl", 8, "int", "nw_ttl", "IPv4 TTL, IPv6 hop limit")
IP_PROTO = _field("nw_proto", 8, "int", "ip_proto", "IP protocol")
ICMP_TYPE = _field("icmp_type", 8, "int", "icmpv4_type", "ICMP type", dl_type=ETH_IPV4, nw_proto=PROTO_ICMP)
ICMP_CODE = _field("icmp_code", 8, "int", "icmpv4_code", "ICMP code", dl_type=ETH_IPV4, nw_proto=PROTO_ICMP)
TCP_SRC = _field("tcp_src", 16, "int", "tcp_src", "TCP source port", nw_proto=PROTO_TCP)
UDP_SRC = _field("udp_src", 16, "int", "udp_src", "UDP source port", nw_proto=PROTO_UDP)
TCP_DST = _field("tcp_dst", 16, "int", "tcp_dst", "TCP destination port", nw_proto=PROTO_TCP)
UDP_DST = _field("udp_dst", 16, "int", "udp_dst", "UDP destination port", nw_proto=PROTO_UDP)
SCTP_SRC = _field("sctp_src", 16, "int", "sctp_src", "SCTP source port", nw_proto=PROTO_SCTP)
SCTP_DST = _field("sctp_dst", 16, "int", "sctp_dst", "SCTP destination port", nw_proto=PROTO_SCTP)
ICMPV6_TYPE = _field("icmpv6_type", 8, "int", "icmpv6_type", "ICMPv6 type", dl_type=ETH_IPV6, nw_proto=PROTO_ICMPV6)
ICMPV6_CODE = _field("icmpv6_code", 8, "int", "icmpv6_code", "ICMPv6 code", dl_type=ETH_IPV6, nw_proto=PROTO_ICMPV6)
ND_TARGET = _field(
    "nd_target", 128, "ipv6", "ipv6_nd_target", "ND target address", dl_type=ETH_IPV6, nw_proto=PROTO_ICMPV6
)
ND_SLL = _field(
    "nd_sll",
    48,
    "mac",
    "ipv6_nd_sll",
    "ND source link-layer option (0: absent)",
    dl_type=ETH_IPV6,
    nw_proto=PROTO_ICMPV6,
    icmpv6_type=135,
)
ND_TLL = _field(
    "nd_tll",
    48,
    "mac",
    "ipv6_nd_tll",
    "ND target link-layer option (0: absent)",
    dl_type=ETH_IPV6,
    nw_proto=PROTO_ICMPV6,
    icmpv6_type=136,
)
ND_RESERVED = _field("nd_reserved", 32, "hex", "nd_reserved", "ND flags word", dl_type=ETH_IPV6, nw_proto=PROTO_ICMPV6)
ND_OPTIONS_TYPE = _field(
    "nd_options_type", 8, "int", "nd_options_type", "type of the ND option", dl_type=ETH_IPV6, nw_proto=PROTO_ICMPV6
)


def _register(name: str, register: int, low: int, bits: int, lives: tuple[str, str], meaning: str) -> RegisterField:
    kind: Kind = "hex" if name.startswith(("way", "groups", "sets", "remote", "via")) else "int"
    return RegisterField(name, bits, kind, f"reg{register}", meaning, (), register, low, *lives)


_JUDGED = ("classify", "rules")
_JUDGE = ("ingress", "rules")
NET = _register("net", 0, 0, 24, ("classify", "rules"), "the network (L2 segment) that the frame is in: its VNI")
POLICY = _register(
    "policy", 1, 0, 32, _JUDGED, "the set of security groups of the port that is judged; 0: it has no filter"
)
ZONE = _register("zone", 2, 0, 16, _JUDGED, "the conntrack zone of the port that is judged; 0: it is stateless")
BANK = _register("bank", 2, 16, 16, _JUDGED, "which groups and ranges the bits below stand for")
SIDE = _register("side", 3, 0, 8, ("deliver", "rules"), "0: the sender's port is judged, 1: the receiver's")
WAY = _register("way", 3, 8, 8, _JUDGE, "which rules count, and how the packet is looked at (below)")
VERDICT = _register("verdict", 3, 16, 8, ("egress", "rules"), "1 allow, 2 drop, 3 reject; 16 more if it is logged")
GROUPS = tuple(
    _register(f"groups{i}", 4 + i, 0, 32, _JUDGE, f"remote groups {32 * i}-{32 * i + 31} that the peer is in")
    for i in range(2)
)
SETS = tuple(
    _register(f"sets{i}", register, 0, 32, _JUDGE, f"address ranges {32 * i}-{32 * i + 31} that the peer is in")
    for i, register in enumerate((6, 7, 11))
)
OUT = _register("out", 8, 0, 16, ("deliver", "ingress_verdict"), "the OpenFlow port that the frame is for")
RULE = _register("rule", 9, 0, 32, ("egress", "rules"), "the number of the rule that decided")
PORT = _register("port", 8, 16, 16, _JUDGE, "destination port, or ICMP type and code, where the tracker has none")
ICMP_KIND, ICMP_DETAIL = (
    _register(name, 8, low, 8, _JUDGE, f"half of ``port``: the ICMP {name}")
    for name, low in (("kind", 24), ("detail", 16))
)
PROTO = _register("proto", 0, 24, 8, _JUDGE, "IP protocol, where it is the packet's own that counts")
DOMAIN = _register(
    "domain", 10, 0, 24, ("classify", "rules"), "where addresses are one's own: the router's VNI, or the network's"
)
WHY = _register("why", 10, 24, 8, ("route", "route_error"), "why a router does not pass a packet on (below)")
HOP = _register("hop", 15, 0, 8, ("route", "next_hop"), "which of several next hops a packet takes")
GATEWAY = _register("gateway", 15, 0, 32, ("route_error", "route_error"), "the address that an error comes from")
GATEWAY6 = RegisterField("gateway6", 128, "ipv6", "xxreg3", "the same in IPv6", (), 12, 0, "route_error", "route_error")
SEGMENT = _register(
    "segment", 4, 0, 32, ("classify", "neighbour"), "the provider network: 4096 times its port here, plus its VLAN"
)
VIA = tuple(
    _register(f"via{i}", 12 + i, 0, 32, ("beyond", "neighbour"), f"the next hop outside, word {i}; IPv4 is in word 3")
    for i in range(4)
)
_OUT = ("beyond", "neighbour")
VIA6 = RegisterField("via", 128, "ipv6", "xxreg3", "the IPv6 next hop: all four words", (), 12, 0, *_OUT)
REMOTE = tuple(
    _register(f"remote{i}", 12 + i, 0, 32, _JUDGE, f"the peer's address, word {i}; IPv4 is in word 3") for i in range(4)
)
REMOTE6 = RegisterField("remote", 128, "ipv6", "xxreg3", "the peer's IPv6 address: all four words", (), 12, 0, *_JUDGE)
"""Only written: switches list matches on it word by word."""

PACKET_FIELDS: tuple[Field, ...] = (
    IN_PORT, ETH_DST, ETH_SRC, ETH_TYPE, VLAN_VID, IPV4_SRC, IPV4_DST, IPV6_SRC, IPV6_DST, IP_FRAG, IP_TTL, IP_PROTO,
    TCP_SRC, TCP_DST, UDP_SRC, UDP_DST, SCTP_SRC, SCTP_DST, ICMP_TYPE, ICMP_CODE,
    ICMPV6_TYPE, ICMPV6_CODE, ND_TARGET, ND_SLL, ND_TLL, ND_RESERVED, ND_OPTIONS_TYPE, ARP_OP, ARP_SPA, ARP_TPA,
    ARP_SHA, ARP_THA, TUN_ID, TUN_DST, TUN_IPV6_DST,
)  # fmt: skip
TRACKER_FIELDS: tuple[Field, ...] = (
    CT_STATE, CT_NW_SRC, CT_NW_DST, CT_IPV6_SRC, CT_IPV6_DST, CT_NW_PROTO, CT_TP_SRC, CT_TP_DST,
)  # fmt: skip
REGISTER_FIELDS: tuple[RegisterField, ...] = (
    NET, POLICY, ZONE, BANK, SIDE, WAY, VERDICT, *GROUPS, *SETS, OUT, RULE, PORT, PROTO, DOMAIN, WHY, HOP, GATEWAY,
    SEGMENT, *VIA, *REMOTE,
)  # fmt: skip

CT_BITS = {"new": 1, "est": 2, "rel": 4, "rpl": 8, "inv": 16, "trk": 32}
"""The bits of ct_state (ovs-fields(7))."""


def ct_state(**wanted: bool) -> tuple[int, int]:
    """Value and mask of ct_state: ``ct_state(trk=True, inv=False)`` is ``+trk-inv``."""
    value = sum(CT_BITS[name] for name, on in wanted.items() if on)
    return value, sum(CT_BITS[name] for name in wanted)
