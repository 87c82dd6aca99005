"""The checks of ports: the only part of a model that grows to hundreds of thousands, so it is written to be quick."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import ip_text, unusable_range
from ovsnet.model.checks import NAME, Drafts, NetworkView, check_cidr, check_name, suggest
from ovsnet.model.fields import WORKLOAD_PATTERN
from ovsnet.model.identity import derive_mac, port_id
from ovsnet.model.nic_checks import NicChecker, called
from ovsnet.model.structure import BAD
from ovsnet.model.types import AllowedAddress, Port

_WORKLOAD = re.compile(WORKLOAD_PATTERN)


class PortChecker(NicChecker):
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
        super().__init__(drafts, base, networks)
        self.vpc = vpc
        self.base = (*base, "ports")
        self.hosts = hosts
        self.ids = ids
        self.hosts_known = bool(hosts) or not (drafts.broken_beside(()) or drafts.broken(("hosts",)))

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
        self._placement(port, path)
        view = self.network(port.network, path)
        ident = self._explicit_id(port.id, path) if port.id else port_id(self.vpc, name)
        mac = None if port.mac is None else self.mac(port.mac, (*path, "mac"), view, path)
        ips = port.ips
        if ips:
            ips = self.ips(ips, path, view)
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
            security_groups=port.security_groups,
        )

    def _placement(self, port: Port, path: Path) -> None:
        """Where the port is, where it is about to go, and which machine's it is."""
        for key, host in (("host", port.host), ("moving_to", port.moving_to)):
            if host is not None and host not in self.hosts and self.hosts_known:
                reason = f"there is no host {shown(host)}"
                self.drafts.add("unknown-host", (*path, key), reason, values=suggest(host, self.hosts, "hosts"))
        if port.epoch:
            self.epoch(port.epoch, path)
        if port.moving_to is not None and port.host in (None, port.moving_to):
            reason = "the port runs nowhere yet" if port.host is None else f"the port is on {port.host} already"
            self.drafts.add("invalid-move", (*path, "moving_to"), reason)
        if port.workload and port.workload is not BAD and not _WORKLOAD.fullmatch(port.workload):
            self.drafts.add("invalid-workload", (*path, "workload"), f"{shown(port.workload)} is no name of a workload")

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
        reason = f"{ident} is already the id of {called(owner)}"
        self.drafts.add("duplicate-id", place, reason, other=owner, on_key=not explicit, other_on_key=True)

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
                place = (*explicit[mac], "mac")
                self.drafts.add("duplicate-mac", place, reason, other=(*self.base, name), other_on_key=True)
            others[mac] = name
            ports[name] = msgspec.structs.replace(port, mac=mac)

    def _allowed(
        self, allowed: tuple[AllowedAddress, ...], path: Path, own_mac: str | None, own_ips: tuple[str, ...]
    ) -> tuple[AllowedAddress, ...]:
        result = []
        seen: dict[tuple[str, str | None], Path] = {}
        for index, one in enumerate(allowed):
            place = (*path, "allowed_addresses", index)
            mac = None if one.mac is None else self.mac(one.mac, (*place, "mac"), None, None)
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
) -> str | None:
    """``mixed-vtep-families``: hosts of one VPC have VTEPs of one family, that of ``local`` or of the first host.

    Returns the host whose family holds, ``None`` if no port is placed.
    """
    placed: dict[str, Path] = {}
    for name, port in ports.items():
        if port.host is not None and port.host not in placed and port.host in vteps:
            placed[port.host] = (*base, "ports", name, "host")
        if port.moving_to is not None and port.moving_to not in placed and port.moving_to in vteps:
            placed[port.moving_to] = (*base, "ports", name, "moving_to")
    if not placed:
        return None
    first = local if local in placed else next(iter(placed))
    family = ":" in vteps[str(first)]
    for host, path in placed.items():
        if (":" in vteps[host]) != family:
            has, other = ("IPv6", "IPv4") if not family else ("IPv4", "IPv6")
            reason = f"host {host} has an {has} VTEP, and host {first}, which has ports of this VPC too, an {other} one"
            drafts.add("mixed-vtep-families", path, reason, values={"family": other})
    return first
