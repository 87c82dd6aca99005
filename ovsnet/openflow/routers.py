"""What the agent answers for routers: errors about what they do not pass on, solicitations for gateways. Pure."""

from __future__ import annotations

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.openflow.notices import PacketIn
from ovsnet.pipeline import fields, tables
from ovsnet.pipeline.verdicts import EXPIRED, NO_HOST, NO_NETWORK, NO_SERVICE
from ovsnet.responders import icmp, nd, reject
from ovsnet.responders.packet import TCP, Packet

_MAC = bytes.fromhex(GATEWAY_MAC.replace(":", ""))
_ERRORS = {
    EXPIRED: icmp.Error.TIME_EXCEEDED,
    NO_HOST: icmp.Error.HOST_UNREACHABLE,
    NO_NETWORK: icmp.Error.NO_ROUTE,
    NO_SERVICE: icmp.Error.PORT_UNREACHABLE,
}


def answer(copied: PacketIn, packet: Packet) -> bytes | None:
    """The frame that goes back to a packet's sender; ``None``: silence, or the copy is not a router's."""
    if copied.table == tables.ND.id:
        return nd.answer(packet, _MAC)
    error = _ERRORS.get(copied.field(fields.WHY))
    if copied.table != tables.ROUTE_ERROR.id or error is None:
        return None
    if error is icmp.Error.PORT_UNREACHABLE:  # the router's own address was asked, and answers
        return reject.answer(packet) if packet.protocol == TCP else icmp.about(packet, error, _MAC, packet.destination)
    gateway = copied.field(fields.GATEWAY if packet.family == 4 else fields.GATEWAY6)
    return icmp.about(packet, error, _MAC, gateway.to_bytes(4 if packet.family == 4 else 16, "big"))


def goes_through(frame: bytes) -> bool:
    """Whether an answer's way leads through a router: it is for the gateways' MAC."""
    return frame[:6] == _MAC
