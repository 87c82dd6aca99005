"""What a port asks of its own addresses: an independent reading of docs/addresses.md, without looking at the pipeline.

Sources: RFC 2131 (4.1: ports, broadcast), RFC 8415 (7.1, 7.2: group and ports), RFC 4861 (4.1: solicitations).
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address, ip_network

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.headers import Parsed
from ovsnet.lab.segments import ICMPV6, UDP, Segment
from ovsnet.model.types import Network, Port

DHCP, DHCPV6, ROUTERS = "dhcp", "dhcpv6", "routers"
_SERVERS, _ROUTERS = IPv6Address("ff02::1:2"), IPv6Address("ff02::2")
_TO_SERVER = frozenset({"ff:ff:ff:ff:ff:ff", GATEWAY_MAC})


def services(network: Network, port: Port) -> frozenset[str]:
    """What the agent answers to a port: by what its subnets say, and only what the port has addresses for."""
    ips = [ip_address(ip) for ip in port.ips or ()]
    found = set()
    for subnet in network.subnets:
        cidr = ip_network(subnet.cidr)
        if cidr.version == 4 and subnet.dhcp and any(ip in cidr for ip in ips):
            found.add(DHCP)
        if cidr.version == 6 and any(ip.version == 6 for ip in ips):
            found |= {DHCPV6} if subnet.dhcp else set()
            found |= {ROUTERS} if subnet.ra != "none" and (subnet.ra or subnet.dhcp) else set()
    return frozenset(found)


def asks(seen: Parsed, packet: Segment | None, mac: str, answered: frozenset[str]) -> bool:
    """Whether a frame is a port's own question about its addresses, which goes to the agent and nowhere else."""
    if packet is None or seen.tagged or seen.src != mac:
        return False
    ends = packet.protocol == UDP and (packet.sport, packet.dport)
    if packet.version == 4:
        return DHCP in answered and ends == (68, 67) and seen.dst in _TO_SERVER
    if ends == (546, 547):
        return DHCPV6 in answered and packet.dst == _SERVERS
    solicits = packet.protocol == ICMPV6 and (packet.kind, packet.code) == (133, 0)
    return ROUTERS in answered and solicits and packet.dst == _ROUTERS
