"""The library's short cuts: a model compiled for one host, and frames to walk through the result."""

from __future__ import annotations

from dataclasses import replace

from ovsnet.compiler import compile_states
from ovsnet.desired import Desired
from ovsnet.errors import UserError
from ovsnet.facts import Facts
from ovsnet.model import Host, Model, states_for_host
from ovsnet.model.names import inner_mtu
from ovsnet.model.numbers import ip_int, mac_int
from ovsnet.pipeline import fields as f
from ovsnet.pipeline.fields import Field

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "icmpv6": 58, "sctp": 132}

EPHEMERAL = 49152
"""The source port of frames made here (RFC 6335, section 6)."""
_PORTS = {
    PROTOCOLS["tcp"]: (f.TCP_SRC, f.TCP_DST),
    PROTOCOLS["udp"]: (f.UDP_SRC, f.UDP_DST),
    PROTOCOLS["sctp"]: (f.SCTP_SRC, f.SCTP_DST),
}


def compile(model: Model, host: str, facts: Facts | None = None) -> Desired:
    """The flows that ``host`` should have for ``model``.

    ``facts`` are its switch's OpenFlow ports; left out, ports are numbered as ``assumed_facts`` does, for reading.
    Raises UserError for an unknown host, ModelError (``assignment-missing``) for a model that is not complete.
    """
    host_of(model, host)
    states = states_for_host(model, host)
    return compile_states(states.values(), host, facts or assumed_facts(model, host))


def host_of(model: Model, host: str) -> Host:
    """The declared host of that name. Raises UserError that names those there are."""
    if host not in model.hosts:
        known = ", ".join(sorted(model.hosts)) or "none"
        raise UserError(f"{host} is not a host of the model. Name one of: {known}.")
    return model.hosts[host]


def assumed_facts(model: Model, host: str) -> Facts:
    """Facts for a host without looking at its switch: tunnel port 1, then its ports in the order of their names."""
    mine = sorted(
        (vpc, name, port.id)
        for vpc, has in model.vpcs.items()
        for name, port in has.ports.items()
        if host in port.hosts
    )
    seen = Facts.assumed(iface for _, _, iface in mine)
    return replace(seen, mtu=inner_mtu(model.underlay.mtu, model.hosts[host].vtep))


def frame(
    in_port: int,
    eth_src: str,
    eth_dst: str,
    ip_src: str,
    ip_dst: str,
    protocol: str | int = "icmp",
    port: int = 0,
    icmp: tuple[int, int] | None = None,
) -> dict[Field, int]:
    """A unicast IP frame as ``explain.Tables.walk`` takes it: field -> value.

    ``protocol`` is a name of ``PROTOCOLS``, or a number; ``icmp`` becomes ICMPv6 with IPv6 addresses, with the type and
    code that the argument ``icmp`` gives, an echo request without.
    """
    src, bits = ip_int(ip_src)
    dst, _ = ip_int(ip_dst)
    number = protocol if isinstance(protocol, int) else PROTOCOLS[protocol]
    if number == PROTOCOLS["icmp"] and bits == 128:
        number = PROTOCOLS["icmpv6"]
    packet = {
        f.IN_PORT: in_port,
        f.VLAN_VID: 0,
        f.ETH_SRC: mac_int(eth_src),
        f.ETH_DST: mac_int(eth_dst),
        f.ETH_TYPE: f.ETH_IPV4 if bits == 32 else f.ETH_IPV6,
        f.IP_FRAG: 0,
        f.IP_TTL: 64,
        f.IP_PROTO: number,
    }
    source, target = (f.IPV4_SRC, f.IPV4_DST) if bits == 32 else (f.IPV6_SRC, f.IPV6_DST)
    packet |= {source: src, target: dst}
    if number in _PORTS:
        from_port, to_port = _PORTS[number]
        packet |= {from_port: EPHEMERAL, to_port: port}
    if number == PROTOCOLS["icmp"]:
        kind, code = icmp or (8, 0)
        packet |= {f.ICMP_TYPE: kind, f.ICMP_CODE: code}
    if number == PROTOCOLS["icmpv6"]:
        kind, code = icmp or (128, 0)
        packet |= {f.ICMPV6_TYPE: kind, f.ICMPV6_CODE: code}
    return packet
