"""The checks that everything with a MAC and addresses in a network shares: ports, and endpoints elsewhere."""

from __future__ import annotations

from collections.abc import Mapping

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import canonical_mac, ip_text, mac_fault, not_unicast, parse_ip
from ovsnet.model.checks import Drafts, NetworkView, suggest
from ovsnet.model.structure import BAD

MAX_EPOCH = 2**53
"""The largest epoch: a whole number that every JSON reader keeps exactly."""


class NicChecker:
    """Checks who has which MAC and which address in the networks of one VPC; problems go to ``drafts``."""

    def __init__(self, drafts: Drafts, base: Path, networks: Mapping[str, NetworkView]) -> None:
        self.drafts = drafts
        self.networks = networks
        self.networks_known = bool(networks) or not drafts.broken_beside(base)

    def network(self, name: str, path: Path) -> NetworkView | None:
        """The view of the network that the object at ``path`` is in; ``unknown-network``."""
        view = self.networks.get(name)
        if view is None and name is not BAD and self.networks_known:
            reason = f"there is no network {shown(name)} in this VPC"
            values = suggest(name, self.networks, "networks")
            self.drafts.add("unknown-network", (*path, "network"), reason, values=values)
        return view

    def epoch(self, number: int, path: Path) -> None:
        """``invalid-epoch``."""
        if not 0 <= number <= MAX_EPOCH:
            self.drafts.add("invalid-epoch", (*path, "epoch"), f"{number} is not within 0 to 2**53")

    def mac(self, text: str, place: Path, view: NetworkView | None, owner: Path | None) -> str:
        """The canonical MAC; ``owner``: the path of the object that claims it in ``view``, ``None`` if none does."""
        mac = canonical_mac(text)
        fault = "no MAC address" if mac is None else mac_fault(mac)
        if mac is None or fault:
            self.drafts.add("invalid-mac", place, f"{shown(text)} is {fault}")
            return text
        if view is not None and owner is not None:
            first = view.macs.setdefault(mac, owner)
            if first is not owner:
                reason = (
                    f"{mac} is already the MAC of {str(first[-2]).removesuffix('s')} {first[-1]} in the same network"
                )
                self.drafts.add("duplicate-mac", place, reason, other=(*first, "mac"))
        return mac

    def ips(self, ips: tuple[str, ...], path: Path, view: NetworkView | None) -> tuple[str, ...]:
        """The canonical addresses of the object at ``path``, claimed in ``view``."""
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
            reason = f"{text} is already an address of {called(owner)} in the same network"
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


def called(path: Path) -> str:
    """What people call the port or the endpoint of a path to it or below it, with the VPC where the path has it."""
    inside = path[2:] if path[0] == "vpcs" else path
    vpc = f"{path[1]}/" if path[0] == "vpcs" else ""
    return f"{str(inside[0]).removesuffix('s')} {vpc}{inside[1]}"
