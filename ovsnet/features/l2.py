"""L2 forwarding by declared MAC: nothing is learned, nothing is flooded."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.facts import Facts
from ovsnet.features.base import Endpoint, Feature, Segment
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import tables as t
from ovsnet.pipeline.template import FlowTemplate, Goto, Match, Output, Row, SetField

FROM_PORT = FlowTemplate(
    "from-port", "l2", t.CLASSIFY, 100,
    (Match(f.IN_PORT, "ofport"),),
    (SetField(f.NET, "net"), SetField(f.DOMAIN, "domain"), Goto(t.PORT_SECURITY)),
    "A frame from a port with `port_security: false`: it is in its port's network, and not filtered.",
)  # fmt: skip
FROM_SECURED_PORT = FlowTemplate(
    "from-secured-port", "l2", t.CLASSIFY, 110,
    (Match(f.IN_PORT, "ofport"),),
    (
        SetField(f.NET, "net"), SetField(f.DOMAIN, "domain"), SetField(f.POLICY, "policy"), SetField(f.BANK, "bank"),
        SetField(f.ZONE, "zone"), Goto(t.PORT_SECURITY),
    ),
    "A frame that a workload sent: it is in its port's network, and its security groups judge it; a stateful port's "
    "policy is looked up behind the connection tracker.",
)  # fmt: skip
FROM_TUNNEL = FlowTemplate(
    "from-tunnel", "l2", t.CLASSIFY, 100,
    (Match(f.IN_PORT, "tunnel"), Match(f.TUN_ID, "net")),
    (SetField(f.NET, "net"), SetField(f.DOMAIN, "domain"), Goto(t.DELIVER)),
    "A frame from another host, in a network that has a port here.",
)  # fmt: skip
_TO_MAC = (Match(f.NET, "net"), Match(f.ETH_DST, "mac"))
TO_HOST = FlowTemplate(
    "to-host", "l2", t.L2, 100,
    _TO_MAC,
    (SetField(f.TUN_ID, "net"), SetField(f.TUN_DST, "vtep"), Output("tunnel")),
    "The MAC is a port's on another host, or a neighbour's elsewhere: tunnel to its IPv4 VTEP.",
)  # fmt: skip
TO_HOST_V6 = FlowTemplate(
    "to-host-v6", "l2", t.L2, 101,
    _TO_MAC,
    (SetField(f.TUN_ID, "net"), SetField(f.TUN_IPV6_DST, "vtep"), Output("tunnel")),
    "The same over an IPv6 underlay.",
)  # fmt: skip
TO_BOTH_HOSTS = FlowTemplate(
    "to-both-hosts", "l2", t.L2, 102,
    _TO_MAC,
    (
        SetField(f.TUN_ID, "net"), SetField(f.TUN_DST, "vtep"), Output("tunnel"),
        SetField(f.TUN_DST, "target"), Output("tunnel"),
    ),
    "The port moves from one other host to another: a copy to each, so that it misses nothing wherever it wakes up.",
)  # fmt: skip
TO_BOTH_HOSTS_V6 = FlowTemplate(
    "to-both-hosts-v6", "l2", t.L2, 103,
    _TO_MAC,
    (
        SetField(f.TUN_ID, "net"), SetField(f.TUN_IPV6_DST, "vtep"), Output("tunnel"),
        SetField(f.TUN_IPV6_DST, "target"), Output("tunnel"),
    ),
    "The same over an IPv6 underlay.",
)  # fmt: skip
HERE_AND_TO_HOST = FlowTemplate(
    "here-and-to-host", "l2", t.L2, 104,
    _TO_MAC,
    (SetField(f.TUN_ID, "net"), SetField(f.TUN_DST, "vtep"), Output("tunnel"), Goto(t.DELIVER)),
    "The port moves between this host and another: a copy to that one, and on to the port here.",
)  # fmt: skip
HERE_AND_TO_HOST_V6 = FlowTemplate(
    "here-and-to-host-v6", "l2", t.L2, 105,
    _TO_MAC,
    (SetField(f.TUN_ID, "net"), SetField(f.TUN_IPV6_DST, "vtep"), Output("tunnel"), Goto(t.DELIVER)),
    "The same over an IPv6 underlay.",
)  # fmt: skip
_IPV4 = Match(f.ETH_TYPE, f.ETH_IPV4)
_IPV6 = Match(f.ETH_TYPE, f.ETH_IPV6)
_TO_PORT = (
    SetField(f.OUT, "ofport"), SetField(f.POLICY, "policy"), SetField(f.BANK, "bank"), SetField(f.ZONE, "zone"),
    SetField(f.SIDE, 1), Goto(t.INGRESS),
)  # fmt: skip
DELIVER_IPV4 = FlowTemplate(
    "deliver-ipv4", "l2", t.DELIVER, 100,
    (*_TO_MAC, _IPV4, Match(f.IPV4_DST, "ip")),
    _TO_PORT,
    "The port's MAC with one of its IPv4 addresses.",
)  # fmt: skip
DELIVER_IPV6 = FlowTemplate(
    "deliver-ipv6", "l2", t.DELIVER, 100,
    (*_TO_MAC, _IPV6, Match(f.IPV6_DST, "ip")),
    _TO_PORT,
    "The port's MAC with one of its IPv6 addresses, link-local included.",
)  # fmt: skip
DELIVER_SOLICITATION = FlowTemplate(
    "deliver-solicitation", "l2", t.DELIVER, 110,
    (
        *_TO_MAC, _IPV6, Match(f.IP_PROTO, f.PROTO_ICMPV6), Match(f.ICMPV6_TYPE, 135), Match(f.ND_TARGET, "ip"),
    ),
    (Output("ofport"),),
    "A solicitation for one of the port's addresses, sent on by a host whose datapath cannot answer it.",
)  # fmt: skip
DELIVER_ANY = FlowTemplate(
    "deliver-any", "l2", t.DELIVER, 50,
    _TO_MAC,
    (Output("ofport"),),
    "The port has `port_security: false`: whatever is sent to its MAC.",
)  # fmt: skip
DELIVER_REFUSED = FlowTemplate(
    "deliver-refused", "l2", t.DELIVER, 10,
    _TO_MAC,
    (),
    "The MAC is a port's here, the destination address is not one that the port has.",
)  # fmt: skip


def port(ep: Endpoint, facts: Facts) -> Iterable[Row]:
    """Rows of one port: into the tunnel for where it is elsewhere; classification and delivery for where it is here."""
    rows = list(_into_tunnel(ep, facts))
    if ep.ofport is None:
        return rows
    if not ep.secured:
        return [*rows, FROM_PORT.row(ep.ofport, ep.vni, ep.domain), DELIVER_ANY.row(ep.vni, ep.mac, ep.ofport)]
    judged = (0, 0, ep.zone) if ep.zone else (ep.policy, ep.bank, 0)  # a zone's policy is looked up later
    rows.append(FROM_SECURED_PORT.row(ep.ofport, ep.vni, ep.domain, *judged))
    rows += [DELIVER_IPV4.row(ep.vni, ep.mac, ip, ep.ofport, *judged) for ip in ep.v4]
    for ip in ep.v6_all:
        rows.append(DELIVER_IPV6.row(ep.vni, ep.mac, ip, ep.ofport, *judged))
        rows.append(DELIVER_SOLICITATION.row(ep.vni, ep.mac, ip, ep.ofport))
    rows.append(DELIVER_REFUSED.row(ep.vni, ep.mac))
    return rows


def _into_tunnel(ep: Endpoint, facts: Facts) -> Iterable[Row]:
    """The row that sends a frame for the port to the other hosts that it is on."""
    if facts.tunnel_ofport is None or not ep.vteps:
        return ()
    v4 = ep.vtep_bits == 32
    if ep.local:
        template = HERE_AND_TO_HOST if v4 else HERE_AND_TO_HOST_V6
        return (template.row(ep.vni, ep.mac, ep.vteps[0], facts.tunnel_ofport),)
    if len(ep.vteps) == 1:
        return ((TO_HOST if v4 else TO_HOST_V6).row(ep.vni, ep.mac, ep.vteps[0], facts.tunnel_ofport),)
    template = TO_BOTH_HOSTS if v4 else TO_BOTH_HOSTS_V6
    return (template.row(ep.vni, ep.mac, ep.vteps[0], facts.tunnel_ofport, ep.vteps[1]),)


def network(segment: Segment, facts: Facts) -> Iterable[Row]:
    """The row that lets a network's frames in from the tunnel."""
    tunnel = facts.tunnel_ofport
    return () if tunnel is None else (FROM_TUNNEL.row(tunnel, segment.vni, segment.domain),)


FEATURE = Feature(
    "l2",
    "L2 forwarding by declared MAC, on this host to a port, to other hosts through one flow-based tunnel port.",
    (
        FROM_PORT, FROM_SECURED_PORT, FROM_TUNNEL, TO_HOST, TO_HOST_V6, TO_BOTH_HOSTS, TO_BOTH_HOSTS_V6,
        HERE_AND_TO_HOST, HERE_AND_TO_HOST_V6, DELIVER_IPV4, DELIVER_IPV6, DELIVER_SOLICITATION, DELIVER_ANY,
        DELIVER_REFUSED,
    ),
    port=port,
    network=network,
)  # fmt: skip
