"""The checks of endpoints: neighbours that a VPC's state knows by their VTEP alone."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.addresses import ip_text, not_unicast, parse_ip
from ovsnet.model.checks import NAME, Drafts, NetworkView, check_name
from ovsnet.model.nic_checks import NicChecker
from ovsnet.model.types import RemoteEndpoint


class EndpointChecker(NicChecker):
    """Checks the endpoints of one VPC's state, after its ports, whose MACs and addresses are in ``networks``.

    ``vteps`` are those of the VPC's hosts, ``leading`` the host whose VTEP's family holds for the VPC.
    """

    def __init__(
        self, drafts: Drafts, networks: Mapping[str, NetworkView], vteps: Mapping[str, str], leading: str | None
    ) -> None:
        super().__init__(drafts, (), networks)
        self.hosts = {vtep: host for host, vtep in vteps.items()}
        self.first = (f"host {leading}", vteps[leading]) if leading is not None else None

    def check(self, endpoints: Mapping[str, RemoteEndpoint]) -> dict[str, RemoteEndpoint]:
        """The endpoints with canonical addresses."""
        return {name: self._endpoint(name, endpoint) for name, endpoint in endpoints.items()}

    def _endpoint(self, name: str, endpoint: RemoteEndpoint) -> RemoteEndpoint:
        path: Path = ("endpoints", name)
        if not NAME.fullmatch(name):
            check_name(self.drafts, name, path)
        view = self.network(endpoint.network, path)
        self.epoch(endpoint.epoch, path)
        return msgspec.structs.replace(
            endpoint,
            mac=self.mac(endpoint.mac, (*path, "mac"), view, path),
            ips=self.ips(endpoint.ips, path, view),
            vtep=self._vtep(endpoint.vtep, name, (*path, "vtep")),
        )

    def _vtep(self, text: str, name: str, place: Path) -> str:
        packed = parse_ip(text)
        fault = "no IP address" if packed is None else not_unicast(packed)
        if packed is None or fault:
            self.drafts.add("invalid-vtep", place, f"{shown(text)} is {fault}")
            return text
        vtep = ip_text(packed)
        host = self.hosts.get(vtep)
        if host is not None:
            reason = f"{vtep} is the VTEP of host {host}, which holds ports of this VPC"
            self.drafts.add("endpoint-at-host", place, reason, values={"host": host})
        self.first = self.first or (f"endpoint {name}", vtep)
        whose, other = self.first
        if (":" in vtep) != (":" in other):
            has, wanted = ("IPv6", "IPv4") if ":" in vtep else ("IPv4", "IPv6")
            reason = f"endpoint {name} has an {has} VTEP, and {whose} an {wanted} one"
            self.drafts.add("mixed-vtep-families", place, reason, values={"family": wanted})
        return vtep
