"""The fields that flows match and set: packet fields, and the register fields of this pipeline.

Names are those of ovs-fields(7) as ovs-ofctl writes them; ``oxm`` is the OpenFlow name that the codec uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["int", "hex", "mac", "ipv4", "ipv6"]

ETH_ARP = 0x0806
ETH_IPV4 = 0x0800
ETH_IPV6 = 0x86DD
PROTO_ICMPV6 = 58


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
IP_PROTO = _field("nw_proto", 8, "int", "ip_proto", "IP protocol")
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

NET = RegisterField(
    "net",
    24,
    "int",
    "reg0",
    "the network (L2 segment) that the frame is in: its VNI",
    register=0,
    low=0,
    first="classify",
    last="deliver",
)

PACKET_FIELDS: tuple[Field, ...] = (
    IN_PORT, ETH_DST, ETH_SRC, ETH_TYPE, VLAN_VID, IPV4_SRC, IPV4_DST, IPV6_SRC, IPV6_DST, IP_FRAG, IP_PROTO,
    ICMPV6_TYPE, ICMPV6_CODE, ND_TARGET, ND_SLL, ND_TLL, ND_RESERVED, ND_OPTIONS_TYPE, ARP_OP, ARP_SPA, ARP_TPA,
    ARP_SHA, ARP_THA, TUN_ID, TUN_DST, TUN_IPV6_DST,
)  # fmt: skip
REGISTER_FIELDS: tuple[RegisterField, ...] = (NET,)
