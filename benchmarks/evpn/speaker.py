"""The far hosts as one BGP speaker: it announces and withdraws endpoints as EVPN routes, and asks for nothing."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, TypeAlias

from os_ken.lib.packet import bgp
from os_ken.lib.packet.afi import L2VPN
from os_ken.lib.packet.safi import EVPN

from benchmarks.evpn.config import AS, Centre
from ovsnet.model import Port

_VXLAN = 8  # tunnel type of the encapsulation community (RFC 8365)
_FLAGS = bgp.BGP_ATTR_FLAG_OPTIONAL
_MOST_ROUTES = 80  # of about 40 bytes each, below BGP's 4,096 for one message
_HEADER = 19  # bytes: marker, length, type
_HOLD = 3600  # seconds: long enough to need no keepalives


class RouteType(Enum):
    """How an endpoint is announced; the value is what gobgp calls it."""

    MAC_IP = "macadv"  # type 2: MAC and IP address
    PREFIX = "Prefix"  # type 5: a host route, which says no MAC


Route: TypeAlias = bgp.EvpnMacIPAdvertisementNLRI | bgp.EvpnIpPrefixNLRI


def announcements(vni: int, ports: Iterable[Port], vteps: Mapping[str, str], kind: RouteType) -> bytes:
    """UPDATE messages for endpoints of one VPC: as many routes in a message as share their attributes and fit."""
    target = bgp.BGPTwoOctetAsSpecificExtendedCommunity(subtype=2, as_number=AS, local_administrator=vni)
    encapsulation = bgp.BGPEncapsulationExtendedCommunity(subtype=12, tunnel_type=_VXLAN)
    shared = [
        bgp.BGPPathAttributeOrigin(bgp.BGP_ATTR_ORIGIN_IGP),
        bgp.BGPPathAttributeAsPath([]),
        bgp.BGPPathAttributeLocalPref(100),
        bgp.BGPPathAttributeExtendedCommunities([target, encapsulation]),
    ]
    return b"".join(
        _update([*shared, bgp.BGPPathAttributeMpReachNLRI(L2VPN, EVPN, address, routes, flags=_FLAGS)])
        for address, routes in _by_vtep(vni, ports, vteps, kind)
    )


def withdrawals(vni: int, ports: Iterable[Port], vteps: Mapping[str, str], kind: RouteType) -> bytes:
    """UPDATE messages that take the same endpoints back."""
    return b"".join(
        _update([bgp.BGPPathAttributeMpUnreachNLRI(L2VPN, EVPN, routes, flags=_FLAGS)])
        for _address, routes in _by_vtep(vni, ports, vteps, kind)
    )


def _update(attributes: list[Any]) -> bytes:
    return bytes(bgp.BGPUpdate(path_attributes=attributes).serialize())


def _by_vtep(
    vni: int, ports: Iterable[Port], vteps: Mapping[str, str], kind: RouteType
) -> Iterator[tuple[str, list[Route]]]:
    """VTEP address and routes of ports there, in parts that fit a message."""
    routes: dict[str, list[Route]] = defaultdict(list)
    for port in ports:
        address = vteps[str(port.host)]
        routes[address] += [_route(vni, address, str(port.mac), ip, kind) for ip in port.ips or ()]
    for address, all_there in routes.items():
        for start in range(0, len(all_there), _MOST_ROUTES):
            yield address, all_there[start : start + _MOST_ROUTES]


def _route(vni: int, vtep: str, mac: str, ip: str, kind: RouteType) -> Route:
    """The route of one address, under the VTEP's own route distinguisher."""
    common = {
        "route_dist": f"{vtep}:{vni}",
        "esi": bgp.EvpnArbitraryEsi(b"\x00" * 9),
        "ethernet_tag_id": 0,
        "vni": vni,
    }
    if kind is RouteType.MAC_IP:
        return bgp.EvpnMacIPAdvertisementNLRI(mac_addr=mac, ip_addr=ip, **common)
    return bgp.EvpnIpPrefixNLRI(ip_prefix=f"{ip}/32", gw_ip_addr="0.0.0.0", **common)


class Speaker:
    """A BGP session to the route reflector, from an address of its own; ``close`` ends it."""

    def __init__(self, address: str, centre: Centre) -> None:
        """Connect and open the session. Raises OSError, and RuntimeError when the reflector refuses it."""
        self._socket = socket.create_connection((centre.address, centre.port), 10, source_address=(address, 0))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        capabilities = [
            bgp.BGPOptParamCapabilityMultiprotocol(L2VPN, EVPN),
            bgp.BGPOptParamCapabilityFourOctetAsNumber(AS),
        ]
        opening = bgp.BGPOpen(
            my_as=AS,
            bgp_identifier=address,
            hold_time=_HOLD,
            opt_param=capabilities,
        )
        self._socket.sendall(opening.serialize())
        self._expect(bgp.BGP_MSG_OPEN)
        self._socket.sendall(bgp.BGPKeepAlive().serialize())
        self._expect(bgp.BGP_MSG_KEEPALIVE)

    def close(self) -> None:
        """End the session."""
        self._socket.close()

    def send(self, messages: bytes) -> None:
        """Send messages as they are. Raises OSError when the session is gone."""
        self._socket.sendall(messages)

    def _expect(self, kind: int) -> None:
        header = self._read(_HEADER)
        body = self._read(int.from_bytes(header[16:18], "big") - _HEADER)
        if header[18] != kind:
            raise RuntimeError(f"the reflector answered with a message of type {header[18]}: {body.hex()}")

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            part = self._socket.recv(size - len(data))
            if not part:
                raise RuntimeError("the reflector closed the session")
            data += part
        return data
