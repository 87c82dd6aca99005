"""DHCP and router solicitations: what a port asks of its own addresses goes to the agent, past all else.

Each port has a meter of its own, so that none keeps another from being answered. What the agent does not answer is
dropped here; what a port sends to a DHCP server of the tenant's own, as unicast, is a packet like any other.
RFC 2131, RFC 8415, RFC 4861.
"""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature
from ovsnet.features.routing import GATEWAY_MAC
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import Copy, FlowTemplate, Match, Row
from ovsnet.pipeline.verdicts import PORT_METERS

LENGTH = 2048
"""Bytes of a request that are looked at; longer ones are not answered."""
_EVERYBODY = 0xFFFFFFFFFFFF
_SERVERS = 0xFF02 << 112 | 0x10002  # ff02::1:2 (RFC 8415, 7.1)
_ROUTERS = 0xFF02 << 112 | 2  # ff02::2 (RFC 4291, 2.7.1)
_SENDER = (Match(f.IN_PORT, "ofport"), Match(f.VLAN_VID, 0), Match(f.ETH_SRC, "mac"))
_UDP4 = (Match(f.ETH_TYPE, f.ETH_IPV4), Match(f.IP_PROTO, f.PROTO_UDP))
_UDP6 = (Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_UDP))


def _template(name: str, match: tuple[Match, ...], doc: str) -> FlowTemplate:
    """Answered by the agent, before anything is checked that a port without an address could not pass."""
    return FlowTemplate(name, "dhcp", t.PORT_SECURITY, 240, (*_SENDER, *match), (Copy("meter", LENGTH),), doc)


_DHCP = (*_UDP4, Match(f.UDP_SRC, 68), Match(f.UDP_DST, 67))
REQUEST = _template(
    "dhcp-request", (Match(f.ETH_DST, _EVERYBODY), *_DHCP),
    "A port asks for its address by DHCP: the agent answers, to this port alone, with what is declared.",
)  # fmt: skip
RENEWAL = _template(
    "dhcp-renewal", (Match(f.ETH_DST, GATEWAY_MAC), *_DHCP),
    "A port renews its lease at the gateway, by DHCP: the agent answers.",
)  # fmt: skip
REQUEST6 = _template(
    "dhcpv6-request", (*_UDP6, Match(f.IPV6_DST, _SERVERS), Match(f.UDP_SRC, 546), Match(f.UDP_DST, 547)),
    "A port asks for its addresses by DHCPv6: the agent answers, to this port alone, with what is declared.",
)  # fmt: skip
SOLICITATION = _template(
    "router-solicitation",
    (
        Match(f.ETH_TYPE, f.ETH_IPV6), Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.IPV6_DST, _ROUTERS),
        Match(f.ICMPV6_TYPE, 133), Match(f.ICMPV6_CODE, 0),
    ),
    "A port asks for routers: the agent answers with the network's router advertisement.",
)  # fmt: skip


def port(ep: Endpoint, _facts: Facts) -> Iterable[Row]:
    """Rows of one port on this host: the ways in which it may ask, each with the port's meter."""
    if ep.ofport is None or ep.lease is None:
        return ()
    asked = []
    if ep.lease.v4 is not None:
        asked += [REQUEST, RENEWAL]
    if ep.lease.v6 is not None:
        asked.append(REQUEST6)
    if ep.lease.said is not None:
        asked.append(SOLICITATION)
    return [template.row(ep.ofport, ep.mac, PORT_METERS.start + ep.ofport) for template in asked]


FEATURE = Feature(
    "dhcp",
    "DHCP, DHCPv6 and router advertisements: each port is told its own addresses, by the agent of its host.",
    (REQUEST, RENEWAL, REQUEST6, SOLICITATION),
    port=port,
)
