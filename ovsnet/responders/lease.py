"""All that one port is told of its addresses, and the answer to whatever way it asks: DHCP, DHCPv6, solicitation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from ovsnet.responders import dhcp4, dhcp6, ra, values
from ovsnet.responders.dhcp4 import Lease4
from ovsnet.responders.dhcp6 import Lease6
from ovsnet.responders.packet import ICMPV6, read
from ovsnet.responders.ra import Advertisement

_NAK_AT, _NAK = 14 + 20 + 8 + 240, bytes([53, 1, 6])
"""Where an answer says of what kind it is: behind Ethernet, IPv4, UDP and the fixed part (RFC 2131, 2)."""
_NOBODY = {4: bytes(4), 6: bytes(16)}


@dataclass(frozen=True)
class Lease:
    """What one port is told: by DHCP (``v4``), by DHCPv6 (``v6``) and by router advertisements (``said``).

    ``mac`` is the port's; it asks from one of ``ips``, or before it has any address. ``None``: that is not answered.
    """

    mac: str
    ips: tuple[str, ...]
    v4: Lease4 | None = None
    v6: Lease6 | None = None
    said: Advertisement | None = None


class Answer(NamedTuple):
    """A frame for the port that asked, and what is counted of it."""

    kind: Literal["leased", "refused", "advertised"]
    frame: bytes


def answer(frame: bytes, lease: Lease) -> Answer | None:
    """The answer to a port's frame; ``None``: silence, as for what it sends in the name of somebody else."""
    packet = read(frame)
    if packet is None or packet.eth_src != values.mac(lease.mac, "Lease.mac"):
        return None
    own = {_NOBODY[packet.family], *(_packed(ip) for ip in lease.ips)}
    if packet.source not in own:
        return None
    if packet.protocol == ICMPV6:
        told = ra.answer(frame, lease.said) if lease.said is not None else None
        return None if told is None else Answer("advertised", told)
    if packet.family == 4:
        told = dhcp4.answer(frame, lease.v4) if lease.v4 is not None else None
    else:
        told = dhcp6.answer(frame, lease.v6) if lease.v6 is not None else None
    if told is None:
        return None
    refused = packet.family == 4 and told[_NAK_AT : _NAK_AT + len(_NAK)] == _NAK
    return Answer("refused" if refused else "leased", told)


def _packed(ip: str) -> bytes:
    return values.ipv6(ip, "Lease.ips") if ":" in ip else values.ipv4(ip, "Lease.ips")
