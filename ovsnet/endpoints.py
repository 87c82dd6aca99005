"""Declared ports as the numbers that features take. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ovsnet.features.base import Endpoint, Members, SourceAddress
from ovsnet.model.numbers import cidr_int, ip_int, link_local, mac_int
from ovsnet.model.types import Port


def endpoint(
    port: Port,
    vni: int,
    ofport: int | None,
    local: bool,
    vteps: Sequence[tuple[int, int]],
    members: Members = (),
    **more: Any,
) -> Endpoint:
    """A declared port as the features see it.

    ``vteps`` are (address, bits) of the other hosts that it is on; ``more`` are other fields of an Endpoint.
    """
    mac = mac_int(port.mac or "")
    ips = [ip_int(ip) for ip in port.ips or ()]
    return Endpoint(
        vni=vni,
        mac=mac,
        v4=tuple([ip for ip, bits in ips if bits == 32]),
        v6=tuple([ip for ip, bits in ips if bits == 128]),
        link_local=link_local(mac),
        allowed=tuple(
            [
                SourceAddress(*cidr_int(allowed.ip), mac_int(allowed.mac) if allowed.mac else mac)
                for allowed in port.allowed_addresses
            ]
        ),
        secured=port.port_security,
        local=local,
        ofport=ofport,
        vteps=tuple([address for address, _bits in vteps]),
        vtep_bits=vteps[0][1] if vteps else 32,
        members=members,
        **{"domain": vni, **more},
    )
