"""What must hold between declared things; the checks also bring every address into canonical text.

The same checks serve a whole model and one VPC's state.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ovsnet.errors import Path, path_text, shown
from ovsnet.model.addresses import Cidr, ip_text, not_unicast, parse_cidr, parse_ip, unusable_range
from ovsnet.model.fields import AGENT_PATTERN, DOMAIN_PATTERN
from ovsnet.model.nodes import Draft
from ovsnet.model.routes import joined, usual_gateway
from ovsnet.model.structure import BAD
from ovsnet.model.types import Host, Network, Router, Subnet, Underlay

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
MIN_MTU, MAX_MTU = 1350, 65535
MAX_VNI = 0xFFFFFF
LEAST_MTU = 1280
"""Of a network, in bytes: what IPv6 needs (RFC 8200, section 5)."""
MIN_LEASE, MAX_LEASE = 60, 31536000
MOST_RESOLVERS = 8
LONGEST_DOMAIN = 253
_DOMAIN = re.compile(DOMAIN_PATTERN)


class NetworkView:
    """A checked network: its ranges with their gateways, and who has which address. ``sound``: its ranges are known."""

    __slots__ = ("addresses", "gateways", "macs", "path", "range_paths", "ranges", "sound")

    def __init__(self, path: Path) -> None:
        self.path = path
        self.ranges: list[Cidr] = []
        self.range_paths: list[Path] = []
        self.gateways: dict[bytes, Cidr] = {}
        self.addresses: dict[bytes, Path] = {}
        self.macs: dict[str, Path] = {}
        self.sound = True


def suggest(name: str, known: Collection[str], collection: str) -> dict[str, str]:
    """The values of a remedy for a reference to nothing: the closest name, or what there is."""
    close = get_close_matches(name, known, n=1)
    if close:
        return {"suggestion": f"Did you mean {shown(close[0])}?"}
    if not known:
        return {"suggestion": f"Declare it under '{collection}'."}
    some = ", ".join(sorted(known)[:8]) + (", ..." if len(known) > 8 else "")
    return {"suggestion": f"Declare it under '{collection}', or use one of: {some}."}


class Drafts:
    """Collects drafts; ``structural`` are those found before, which silence what follows from them."""

    def __init__(self, structural: list[Draft]) -> None:
        self.found: list[Draft] = []
        self._broken = {draft.path[:length] for draft in structural for length in range(1, len(draft.path) + 1)}

    def broken(self, path: Path) -> bool:
        """True if something at or below ``path`` was wrong in structure."""
        return path in self._broken

    def broken_beside(self, path: Path) -> bool:
        """True if a key directly below ``path`` was wrong in structure."""
        return any(len(one) == len(path) + 1 and one[: len(path)] == path for one in self._broken)

    def add(self, code: str, path: Path, reason: str, **more: Any) -> None:
        """One more problem; keyword arguments as of :class:`Draft`, and the remedy's values as ``values``."""
        self.found.append(Draft(code, path, reason, **more))


def check_name(drafts: Drafts, name: str, path: Path, *, on_key: bool = True) -> None:
    """``invalid-name`` unless the name is one that every part of the system can carry."""
    if NAME.fullmatch(name):
        return
    better = re.sub(r"[^a-z0-9_-]+", "-", name.lower()).strip("-_")[:63]
    suggestion = f"Call it '{better}'." if better else "Use lower-case letters, digits, '_' and '-'."
    drafts.add("invalid-name", path, f"{shown(name)} is no name", values={"suggestion": suggestion}, on_key=on_key)


def check_underlay(drafts: Drafts, underlay: Underlay) -> None:
    """``invalid-mtu``."""
    if not MIN_MTU <= underlay.mtu <= MAX_MTU:
        reason = f"an MTU of {underlay.mtu} is not within {MIN_MTU} to {MAX_MTU}"
        values = {"range": f"the MTU of the underlay, {MIN_MTU} to {MAX_MTU}"}
        drafts.add("invalid-mtu", ("underlay", "mtu"), reason, values=values)


def check_vteps(drafts: Drafts, vteps: Mapping[str, tuple[str, Path]]) -> dict[str, str]:
    """Canonical VTEP addresses by host, of those that are usable. ``vteps``: text and path by host."""
    good: dict[str, str] = {}
    owners: dict[bytes, tuple[str, Path]] = {}
    for host, (text, path) in vteps.items():
        if text is BAD:
            continue
        packed = parse_ip(text)
        fault = "no IP address" if packed is None else not_unicast(packed)
        if packed is None or fault:
            drafts.add("invalid-vtep", path, f"{shown(text)} is {fault}")
            continue
        if packed in owners:
            other, other_path = owners[packed]
            drafts.add("duplicate-vtep", path, f"{ip_text(packed)} is already the VTEP of {other}", other=other_path)
            continue
        owners[packed] = (host, path)
        good[host] = ip_text(packed)
    return good


def check_hosts(drafts: Drafts, hosts: Mapping[str, Host]) -> dict[str, Host]:
    """The hosts with canonical VTEP addresses; ``invalid-agent``."""
    for name, host in hosts.items():
        check_name(drafts, name, ("hosts", name))
        fault = "" if host.agent in {None, BAD} else _agent_fault(host.agent or "")
        if fault:
            drafts.add("invalid-agent", ("hosts", name, "agent"), f"{shown(host.agent or '')} {fault}")
    good = check_vteps(drafts, {name: (host.vtep, ("hosts", name, "vtep")) for name, host in hosts.items()})
    return {
        name: msgspec.structs.replace(host, vtep=good[name]) if good.get(name, host.vtep) != host.vtep else host
        for name, host in hosts.items()
    }


def _agent_fault(text: str) -> str:
    """What is wrong with the place where an agent is called; empty if nothing is."""
    if not re.fullmatch(AGENT_PATTERN, text) or not text.isprintable():
        return "is neither https://ADDRESS:PORT nor unix:/PATH"
    if text.startswith("unix:"):
        return ""
    try:
        parts = urlsplit(text)
        named, port = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    extra = parts.query or parts.fragment or parts.username is not None
    return "" if named and port != 0 and not extra else "has no address and port in it, or more than that"


def check_network(
    drafts: Drafts, path: Path, network: Network, vnis: dict[int, Path], *, routed: bool = False
) -> tuple[Network, NetworkView]:
    """The network with canonical ranges, and its view for the ports.

    ``vnis``: the path of whatever has a VNI, for all that must not share one. ``routed``: a router joins it, so that
    every subnet has a gateway.
    """
    check_name(drafts, str(path[-1]), path)
    view = NetworkView(path)
    view.sound = not drafts.broken(path)
    if network.vni is not None:
        check_vni(drafts, path, network.vni, vnis)
    subnets = check_subnets(drafts, path, network.subnets, view, routed=routed)
    return (network if subnets == network.subnets else msgspec.structs.replace(network, subnets=subnets)), view


def check_subnets(
    drafts: Drafts, path: Path, declared: tuple[Subnet, ...], view: NetworkView, *, routed: bool = False
) -> tuple[Subnet, ...]:
    """The subnets of the network at ``path`` with canonical ranges, which ``view`` then has too."""
    subnets = []
    for index, subnet in enumerate(declared):
        checked, cidr = _check_subnet(drafts, (*path, "subnets", index), subnet, view)
        subnets.append(checked)
        view.sound &= cidr is not None
        if routed and cidr is not None and checked.gateway is None:
            view.gateways[usual_gateway(cidr)] = cidr
    return declared if tuple(subnets) == declared else tuple(subnets)


def check_networks(
    drafts: Drafts,
    base: Path,
    networks: Mapping[str, Network],
    routers: Mapping[str, Router],
    vnis: dict[int, Path],
    room: int = MAX_MTU,
) -> tuple[dict[str, Network], dict[str, NetworkView]]:
    """All networks of a VPC, as :func:`check_network`; ``room`` is the MTU in bytes that fits into the underlay."""
    routed = joined(routers)
    result, views = {}, {}
    for name, network in networks.items():
        path = (*base, "networks", name)
        result[name], views[name] = check_network(drafts, path, network, vnis, routed=name in routed)
        _check_told(drafts, path, network, room)
    return result, views


def _check_told(drafts: Drafts, path: Path, network: Network, room: int) -> None:
    """``invalid-mtu``, ``invalid-domain``: what a network's ports are told."""
    if network.mtu is not None and not LEAST_MTU <= network.mtu <= room:
        reason = f"an MTU of {network.mtu} is not within {LEAST_MTU} to {room}"
        values = {"range": f"an MTU of {LEAST_MTU} to {room}"}
        drafts.add("invalid-mtu", (*path, "mtu"), reason, values=values)
    domain = network.domain
    if domain and domain is not BAD and (not _DOMAIN.fullmatch(domain) or len(domain) > LONGEST_DOMAIN):
        drafts.add("invalid-domain", (*path, "domain"), f"{shown(domain)} is no domain")


def check_vni(drafts: Drafts, path: Path, vni: int, vnis: dict[int, Path]) -> None:
    """``invalid-vni``, ``duplicate-vni``: of the network or router at ``path``; ``vnis`` as for ``check_network``."""
    place = (*path, "vni")
    if not 1 <= vni <= MAX_VNI:
        drafts.add("invalid-vni", place, f"{vni} is not within 1 to {MAX_VNI}")
    elif vni in vnis:
        owner = vnis[vni]
        reason = f"{vni} is already the VNI of {path_text(owner)}"
        drafts.add("duplicate-vni", place, reason, other=(*owner, "vni"))
    else:
        vnis[vni] = path


def _check_subnet(drafts: Drafts, path: Path, subnet: Subnet, view: NetworkView) -> tuple[Subnet, Cidr | None]:
    cidr = None if subnet.cidr is BAD else check_cidr(drafts, (*path, "cidr"), subnet.cidr)
    if cidr is None:
        return subnet, None
    fault = unusable_range(cidr)
    if fault:
        drafts.add("unusable-subnet", (*path, "cidr"), f"{cidr} is in {fault}")
        return subnet, None
    for other, other_path in zip(view.ranges, view.range_paths, strict=True):
        if cidr.overlaps(other):
            drafts.add("overlapping-subnets", (*path, "cidr"), f"{cidr} overlaps {other}", other=other_path)
            break
    view.ranges.append(cidr)
    view.range_paths.append((*path, "cidr"))
    gateway = subnet.gateway
    if gateway is not None and gateway is not BAD:
        gateway = _check_gateway(drafts, (*path, "gateway"), gateway, cidr, view)
    dns = _check_offer(drafts, path, subnet, cidr)
    if (str(cidr), gateway, dns) == (subnet.cidr, subnet.gateway, subnet.dns):
        return subnet, cidr
    return msgspec.structs.replace(subnet, cidr=str(cidr), gateway=gateway, dns=dns), cidr


def _check_offer(drafts: Drafts, path: Path, subnet: Subnet, cidr: Cidr) -> tuple[str, ...]:
    """The resolvers of a subnet, canonical; ``invalid-dns``, ``invalid-lease``, ``invalid-ra``."""
    if not MIN_LEASE <= subnet.lease <= MAX_LEASE:
        reason = f"{subnet.lease} seconds are not within {MIN_LEASE} to {MAX_LEASE}"
        drafts.add("invalid-lease", (*path, "lease"), reason)
    if cidr.bits == 32 and subnet.ra not in (None, "none"):
        values = {"suggestion": "Leave out 'ra', or give it to an IPv6 range."}
        drafts.add("invalid-ra", (*path, "ra"), f"{cidr} is a range of IPv4", values=values)
    elif subnet.ra == "stateful" and not subnet.dhcp:
        values = {"suggestion": "Leave out 'dhcp: false', or say 'ra: slaac' or 'ra: none'."}
        drafts.add("invalid-ra", (*path, "ra"), "addresses come by DHCPv6, and 'dhcp' is false", values=values)
    version = {"version": "IPv4" if cidr.bits == 32 else "IPv6"}
    if len(subnet.dns) > MOST_RESOLVERS:
        reason = f"there are {len(subnet.dns)}, and at most {MOST_RESOLVERS} are possible"
        drafts.add("invalid-dns", (*path, "dns"), reason, values=version)
    return tuple(_resolver(drafts, (*path, "dns", index), text, cidr, version) for index, text in enumerate(subnet.dns))


def _resolver(drafts: Drafts, path: Path, text: str, cidr: Cidr, version: dict[str, str]) -> str:
    if text is BAD:
        return text
    packed = parse_ip(text)
    fault = "no IP address" if packed is None else not_unicast(packed)
    if packed is not None and not fault and len(packed) != len(cidr.first):
        fault = f"of another IP version than {cidr}"
    if packed is None or fault:
        drafts.add("invalid-dns", path, f"{shown(text)} is {fault}", values=version)
        return text
    return ip_text(packed)


def _check_gateway(drafts: Drafts, path: Path, text: str, cidr: Cidr, view: NetworkView) -> str:
    packed = parse_ip(text)
    if packed is None:
        fault = "no IP address"
    elif packed not in cidr:
        fault = f"not in {cidr}"
    else:
        reserved = cidr.reserved(packed)
        fault = f"the {reserved} of {cidr}" if reserved else ""
    if packed is None or fault:
        drafts.add("invalid-gateway", path, f"{shown(text)} is {fault}", values={"range": str(cidr)})
        return text
    view.gateways[packed] = cidr
    return ip_text(packed)


def check_cidr(drafts: Drafts, path: Path, text: str, *, bare: bool = False) -> Cidr | None:
    """The range, or ``None`` after ``invalid-cidr`` or ``host-bits-set``; with ``bare`` a lone address is a range."""
    parsed = parse_cidr(text, bare=bare)
    if parsed is None:
        drafts.add("invalid-cidr", path, f"{shown(text)} is no address range")
        return None
    cidr, written = parsed
    if written != cidr.first:
        also = f", or {ip_text(written)} alone for the one address" if bare else ""
        drafts.add("host-bits-set", path, f"{shown(text)} has host bits", values={"range": f"{cidr}{also}"})
        return None
    return cidr
