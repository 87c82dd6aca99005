"""The checks of ports: the only part of a model that grows to hundreds of thousands, so it is written to be quick."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import canonical_mac, ip_text, mac_fault, not_unicast, parse_ip, unusable_range
from ovsnet.model.checks import NAME, Drafts, NetworkView, check_cidr, check_name, suggest
from ovsnet.model.identity import derive_mac, port_id
from ovsnet.model.structure import BAD
from ovsnet.model.types import AllowedAddress, Port


class PortChecker:
    """Checks the ports of one VPC. ``vpc`` names it, ``base`` is its path; ``ids`` is shared by all VPCs."""

    def __init__(
        self,
        drafts: Drafts,
        vpc: str,
        base: Path,
        networks: Mapping[str, NetworkView],
        hosts: Collection[str],
        ids: dict[str, Path],
    ) -> None:
        self.drafts = drafts
        self.vpc = vpc
        self.base = (*base, "ports")
        self.networks = networks
        self.hosts = hosts
        self.ids = ids
        self.hosts_known = bool(hosts) or not (drafts.broken_beside(()) or drafts.broken(("hosts",)))
        self.networks_known = bool(networks) or not drafts.broken_beside(base)

    def check(self, ports: Mapping[str, Port]) -> dict[str, Port]:
        """The ports with canonical addresses, ids and MACs; explicit ones are settled before derived ones."""
        result = {name: self._port(name, port) for name, port in ports.items()}
        derived: list[tuple[str, str]] = []
        for name, port in ports.items():
            if not port.id:
                self._claim_id(result[name].id, (*self.base, name), explicit=False)
            if port.mac is None and port.network in self.networks:
                derived.append((result[name].id, name))
        self._derive_macs(derived, result)
        return result

    def _port(self, name: str, port: Port) -> Port:
        path = (*self.base, name)
        if not NAME.fullmatch(name):
            check_name(self.drafts, name, path)
        if port.host is not None and port.host not in self.hosts and self.hosts_known:
            reason = f"there is no host {shown(port.host)}"
            self.drafts.add("unknown-host", (*path, "host"), reason, values=suggest(port.host, self.hosts, "hosts"))
        view = self.networks.get(port.network)
        if view is None and port.network is not BAD and self.networks_known:
            reason = f"there is no network {shown(port.network)} in this VPC"
            values = suggest(port.network, self.networks, "networks")
            self.drafts.add("unknown-network", (*path, "network"), reason, values=values)
        ident = self._explicit_id(port.id, path) if port.id else port_id(self.vpc, name)
        mac = None if port.mac is None else self._mac(port.mac, (*path, "mac"), view, name)
        ips = port.ips
        if ips:
            ips = self._ips(ips, path, view)
        elif ips is None and view is not None and view.sound and not view.ranges:
            ips = ()
        allowed = port.allowed_addresses
        if allowed:
            allowed = self._allowed(allowed, path, mac, ips or ())
        if ident == port.id and mac == port.mac and ips == port.ips and allowed == port.allowed_addresses:
            return port
        return Port(
            labels=port.labels,
            description=port.description,
            network=port.network,
            host=port.host,
            mac=mac,
            ips=ips,
            allowed_addresses=allowed,
            port_security=port.port_security,
            id=ident,
            epoch=port.epoch,
            moving_to=port.moving_to,
            workload=port.workload,
        )

    def _explicit_id(self, text: str, path: Path) -> str:
        try:
            ident = str(UUID(text))
        except ValueError:
            ident = ""
        if ident.replace("-", "") != text.replace("-", "").lower():
            self.drafts.add("invalid-id", (*path, "id"), f"{shown(text)} is no UUID")
            return text
        self._claim_id(ident, path, explicit=True)
        return ident

    def _claim_id(self, ident: str, path: Path, *, explicit: bool) -> None:
        owner = self.ids.setdefault(ident, path)
        if owner is path:
            return
        place = (*path, "id") if explicit else path
        reason = f"{ident} is already the id of port {_name(owner)}"
        self.drafts.add("duplicate-id", place, reason, other=owner, on_key=not explicit, other_on_key=True)

    def _mac(self, text: str, place: Path, view: NetworkView | None, name: str | None) -> str:
        mac = canonical_mac(text)
        fault = "no MAC address" if mac is None else mac_fault(mac)
        if mac is None or fault:
            self.drafts.add("invalid-mac", place, f"{shown(text)} is {fault}")
            return text
        if view is not None and name is not None:
            owner = view.macs.setdefault(mac, name)
            if owner is not name:
                reason = f"{mac} is already the MAC of port {owner} in the same network"
                self.drafts.add("duplicate-mac", place, reason, other=(*self.base, owner, "mac"))
        return mac

    def _derive_macs(self, derived: Iterable[tuple[str, str]], ports: dict[str, Port]) -> None:
        """Give the rest a MAC from their ids; of two that derive the same one, the higher id takes its next."""
        taken: dict[str, dict[str, str]] = {}
        for ident, name in sorted(derived):
            port = ports[name]
            explicit = self.networks[port.network].macs
            others = taken.setdefault(port.network, {})
            attempt = 0
            mac = derive_mac(ident)
            while mac in others:
                attempt += 1
                mac = derive_mac(ident, attempt)
            if mac in explicit:
                reason = f"{mac} is the MAC that derives from the id of port {name} in the same network"
                place = (*self.base, explicit[mac], "mac")
                self.drafts.add("duplicate-mac", place, reason, other=(*self.base, name), other_on_key=True)
            others[mac] = name
            ports[name] = msgspec.structs.replace(port, mac=mac)

    def _ips(self, ips: tuple[str, ...], path: Path, view: NetworkView | None) -> tuple[str, ...]:
        result = []
        for index, text in enumerate(ips):
            packed = None if text is BAD else parse_ip(text)
            fault = "no IP address" if packed is None else not_unicast(packed)
            if packed is None or fault:
                if text is not BAD:
                    self._invalid_address(text, (*path, "ips", index), str(fault))
                result.append(text)
                continue
            result.append(text if len(packed) == 4 else ip_text(packed))
            if view is not None:
                self._claim_address(packed, (*path, "ips", index), view)
        return tuple(result)

    def _invalid_address(self, text: str, place: Path, fault: str) -> None:
        detail = " without a prefix length" if parse_ip(text.partition("/")[0]) and "/" in text else ""
        self.drafts.add("invalid-address", place, f"{shown(text)} is {fault}", values={"detail": detail})

    def _claim_address(self, packed: bytes, place: Path, view: NetworkView) -> None:
        cidr = next((one for one in view.ranges if packed in one), None)
        if cidr is None:
            if view.sound:
                self._outside(packed, place, view)
            return
        reserved = "gateway's address" if packed in view.gateways else cidr.reserved(packed)
        if reserved:
            reason = f"{ip_text(packed)} is the {reserved} of {cidr}"
            self.drafts.add("reserved-address", place, reason, values={"range": str(cidr)})
            return
        owner = view.addresses.setdefault(packed, place)
        if owner is not place:
            text = ip_text(packed)
            values = {"suggestion": f"Give another address of {cidr}."}
            reason = f"{text} is already an address of port {_name(owner)} in the same network"
            self.drafts.add("duplicate-address", place, reason, other=owner, values=values)

    def _outside(self, packed: bytes, place: Path, view: NetworkView) -> None:
        name = view.path[-1]
        if not view.ranges:
            reason = f"{ip_text(packed)} is an address, and network {name} has no subnets"
            ranges = f"a subnet that network {name} declares"
        else:
            reason = f"{ip_text(packed)} is in no subnet of network {name}"
            ranges = " or ".join(str(cidr) for cidr in view.ranges)
        self.drafts.add("address-outside-subnet", place, reason, values={"ranges": ranges})

    def _allowed(
        self, allowed: tuple[AllowedAddress, ...], path: Path, own_mac: str | None, own_ips: tuple[str, ...]
    ) -> tuple[AllowedAddress, ...]:
        result = []
        seen: dict[tuple[str, str | None], Path] = {}
        for index, one in enumerate(allowed):
            place = (*path, "allowed_addresses", index)
            mac = None if one.mac is None else self._mac(one.mac, (*place, "mac"), None, None)
            cidr = None if one.ip is BAD else check_cidr(self.drafts, (*place, "ip"), one.ip, bare=True)
            if cidr is None:
                continue
            text = ip_text(cidr.first) if cidr.length == cidr.bits else str(cidr)
            fault = unusable_range(cidr)
            if fault:
                reason = f"{text} is in {fault}"
                self.drafts.add("invalid-address", (*place, "ip"), reason, values={"detail": " or range"})
                continue
            key = (text, None if mac == own_mac else mac)
            first = seen.setdefault(key, (*place, "ip"))
            values = {"suggestion": "Remove it."}
            if first != (*place, "ip"):
                reason = f"{text} stands in this list already"
                self.drafts.add("duplicate-address", (*place, "ip"), reason, other=first, values=values)
            elif key[1] is None and text in own_ips:
                reason = f"{text} is the port's own address, which it may send from anyway"
                other = (*path, "ips", own_ips.index(text))
                self.drafts.add("duplicate-address", (*place, "ip"), reason, other=other, values=values)
            result.append(AllowedAddress(ip=text, mac=mac))
        return tuple(result)


def check_families(
    drafts: Drafts, base: Path, ports: Mapping[str, Port], vteps: Mapping[str, str], local: str | None = None
) -> None:
    """``mixed-vtep-families``: hosts of one VPC have VTEPs of one family, that of ``local`` or of the first host."""
    placed: dict[str, str] = {}
    for name, port in ports.items():
        if port.host is not None and port.host not in placed and parse_ip(vteps.get(port.host, "")):
            placed[port.host] = name
    if not placed:
        return
    first = local if local in placed else next(iter(placed))
    family = ":" in vteps[str(first)]
    for host, name in placed.items():
        if (":" in vteps[host]) != family:
            has, other = ("IPv6", "IPv4") if not family else ("IPv4", "IPv6")
            reason = f"host {host} has an {has} VTEP, and host {first}, which has ports of this VPC too, an {other} one"
            drafts.add("mixed-vtep-families", (*base, "ports", name, "host"), reason, values={"family": other})


def _name(path: Path) -> str:
    """The port's name of a path to it or below it: the step after ``ports``, with the VPC where the path has it."""
    at = path.index("ports", 2 if path[0] == "vpcs" else 0)
    return f"{path[1]}/{path[at + 1]}" if path[0] == "vpcs" else str(path[at + 1])
