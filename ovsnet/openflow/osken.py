"""os-ken's codec for OpenFlow 1.4, and the few encodings that it lacks."""

from __future__ import annotations

import struct
from typing import Any

from os_ken.lib import type_desc
from os_ken.lib.pack_utils import msg_pack_into
from os_ken.ofproto import ofproto_v1_4, ofproto_v1_4_parser, oxm_fields
from os_ken.ofproto.ofproto_protocol import ProtocolDesc

# Fields of ovs-fields(7) that os-ken has no name for.
ofproto_v1_4.oxm_types += [
    oxm_fields.NiciraExtended1("ip_frag", 26, type_desc.Int1),
    oxm_fields.NiciraExtended1("ct_nw_proto", 119, type_desc.Int1),
    oxm_fields.NiciraExtended1("ct_nw_src", 120, type_desc.IPv4Addr),
    oxm_fields.NiciraExtended1("ct_nw_dst", 121, type_desc.IPv4Addr),
    oxm_fields.NiciraExtended1("ct_ipv6_src", 122, type_desc.IPv6Addr),
    oxm_fields.NiciraExtended1("ct_ipv6_dst", 123, type_desc.IPv6Addr),
    oxm_fields.NiciraExtended1("ct_tp_src", 124, type_desc.Int2),
    oxm_fields.NiciraExtended1("ct_tp_dst", 125, type_desc.Int2),
]
oxm_fields.generate(ofproto_v1_4.__name__)

PROTOCOL: Any = ProtocolDesc(version=ofproto_v1_4.OFP_VERSION)
PARSER: Any = ofproto_v1_4_parser


def match_of(fields: dict[str, Any]) -> Any:
    """An OFPMatch; os-ken sorts by header, which puts fragments and TTLs before what they require."""
    match = PARSER.OFPMatch(**fields)
    match._fields2.sort(key=lambda field: field[0] in ("ip_frag", "nw_ttl"))
    return match


class ExtendedSetField(PARSER.OFPAction):  # type: ignore[misc]
    """OFPAT_SET_FIELD for the two ND fields that os-ken has no name for (OXM class 0x1000, ovs-fields(7))."""

    cls_action_type = 25  # OFPAT_SET_FIELD
    cls_action_len = 16
    HEADERS = {"nd_reserved": (1, 4), "nd_options_type": (2, 1)}  # field number, width in bytes

    def __init__(self, name: str, value: int) -> None:
        super().__init__()
        self.number, self.width = self.HEADERS[name]
        self.value = value

    def serialize(self, buf: bytearray, offset: int) -> None:
        """Write the action at ``offset``, as os-ken's own actions do."""
        header = struct.pack("!HHHBB", self.type, self.len, 0x1000, self.number << 1, self.width)
        buf[offset:] = (header + self.value.to_bytes(self.width, "big")).ljust(self.len, b"\0")


class ToController(PARSER.OFPAction):  # type: ignore[misc]
    """NXAST_CONTROLLER2 with a meter, which os-ken's lacks (``controller(max_len=,id=,meter_id=)``).

    A copy of the packet, of ``max_len`` bytes at most, goes to the connections that call themselves ``controller_id``,
    as long as the meter allows it. The packet itself goes on either way.
    """

    cls_action_type = 0xFFFF  # OFPAT_EXPERIMENTER
    cls_action_len = 40

    def __init__(self, max_len: int, controller_id: int, meter_id: int) -> None:
        super().__init__()
        self.max_len, self.controller_id, self.meter_id = max_len, controller_id, meter_id

    def serialize(self, buf: bytearray, offset: int) -> None:
        """Write the action at ``offset``, its properties in the order in which a switch echoes them."""
        header = struct.pack("!HHIH6x", self.type, self.len, 0x2320, 37)
        properties = struct.pack("!HHHxxHHHxx", 0, 8, self.max_len, 1, 8, self.controller_id)
        msg_pack_into("40s", buf, offset, header + properties + struct.pack("!HHI", 5, 8, self.meter_id))


def nxm_name(oxm: str) -> str:
    """The name of a field with its Nicira header: the form in which a switch echoes a move."""
    name = oxm.removeprefix("ipv6_") if oxm.startswith("ipv6_nd_") else f"{oxm}_nxm"
    if name not in _OXM_NAMES:
        name = oxm  # a Nicira field itself, or one that has no other header
    if name not in _OXM_NAMES:
        raise ValueError(f"os-ken has no Nicira header for {oxm}")
    return name


_OXM_NAMES = {descriptor.name for descriptor in ofproto_v1_4.oxm_types}
