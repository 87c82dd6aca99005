"""What a declaration leaves out is kept from before, or assigned: ids, MACs, addresses, VNIs and epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ovsnet.controller.index import AddressIndex, addresses_of
from ovsnet.controller.requests import Object
from ovsnet.controller.truth import Plan, Truth
from ovsnet.errors import ModelError
from ovsnet.model.addresses import canonical_mac, ip_text, parse_ip
from ovsnet.model.identity import derive_mac, port_id
from ovsnet.model.nodes import Draft
from ovsnet.model.report import make_problem
from ovsnet.model.types import Network, Port, RemoteEndpoint, Router, VpcState
from ovsnet.transport.view import ConflictError

N = TypeVar("N", Network, Router)


def placed(name: str, new: Port, old: Port | None, current: int) -> Port:
    """The port with its epoch: kept, or raised by one when its host changes and the caller gives no later one.

    Raises ConflictError (``stale-epoch``), with the VPC's revision ``current``, for an epoch below the one that holds.
    """
    if old is None:
        return new
    epoch = _epoch(f"port {name}", new.epoch, old.epoch, current, moved=new.host != old.host)
    return new if epoch == new.epoch else msgspec.structs.replace(new, epoch=epoch)


def placed_endpoint(name: str, new: RemoteEndpoint, old: RemoteEndpoint | None, current: int) -> RemoteEndpoint:
    """The endpoint with its epoch, as :func:`placed`."""
    if old is None:
        return new
    epoch = _epoch(f"endpoint {name}", new.epoch, old.epoch, current, moved=new.vtep != old.vtep)
    return new if epoch == new.epoch else msgspec.structs.replace(new, epoch=epoch)


def _epoch(what: str, given: int, held: int, current: int, *, moved: bool) -> int:
    if moved and given and given < held:
        message = (
            f"{what} has been placed again since: its epoch is {held}, and {given} is given. "
            f"Read it anew, and give a higher epoch or none"
        )
        raise ConflictError("stale-epoch", message, current)
    return max(given, held + 1 if moved and given <= held else held)


class Completion:
    """One VPC's new objects, completed. Numbers that are taken are noted in ``plan``, and their VNIs in ``vnis``.

    ``networks`` are the VPC's as they will be.
    """

    def __init__(
        self, truth: Truth, plan: Plan, vpc: str, networks: Mapping[str, Network], vnis: set[int], current: int
    ) -> None:
        self.truth, self.plan, self.vpc, self.networks, self.vnis = truth, plan, vpc, networks, vnis
        self.current = current
        held = truth.vpcs.get(vpc)
        self.index = AddressIndex(VpcState(name=vpc, revision=0)) if held is None else held.index
        self._claims: dict[str, set[str]] = {}

    def claim(self, objects: Mapping[str, Object | None]) -> None:
        """What the given objects declare themselves is not assigned to others."""
        for one in objects.values():
            if isinstance(one, Port | RemoteEndpoint):
                claims = self._claims.setdefault(one.network, set())
                for address in addresses_of(one):
                    packed = parse_ip(address)
                    claims.add((canonical_mac(address) or address) if packed is None else ip_text(packed))

    def numbered(self, kind: str, name: str, new: N, old: N | None) -> N:
        """A network or router (``kind``) with a VNI: its own, or one of the pool.

        Raises ModelError (``duplicate-vni``) if all are in use.
        """
        if new.vni is not None:
            return new
        if old is not None:
            return msgspec.structs.replace(new, vni=old.vni)
        truth = self.truth

        def usable(vni: int) -> bool:
            return vni not in truth.vnis and vni not in self.vnis and ("vni", vni) not in truth.quarantine

        vni = truth.vni_pool.take(usable)
        if vni is None:
            reason = f"every VNI that may be assigned is in use or resting, so none is left for {kind} {name}"
            raise ModelError([make_problem(Draft("duplicate-vni", (f"{kind}s", name), reason), None)])
        self.plan.taken.append((truth.vni_pool, vni))
        self.vnis.add(vni)
        return msgspec.structs.replace(new, vni=vni)

    def port(self, name: str, new: Port, old: Port | None) -> Port:
        """The port with its id, MAC, addresses and epoch. Raises ModelError (``subnet-full``), ConflictError."""
        new = placed(name, new, old, self.current)
        if new.id and new.mac is not None and new.ips is not None:
            return new
        same = old is not None and old.network == new.network
        ident = new.id or (old.id if old is not None else port_id(self.vpc, name))
        mac = new.mac
        if mac is None:
            mac = old.mac if same and old is not None and old.id == ident else self._mac(ident, new.network, name)
        ips = new.ips
        if ips is None:
            kept = old.ips if same and old is not None else None
            ips = kept if kept is not None else self._ips(name, new.network)
        return msgspec.structs.replace(new, id=ident, mac=mac, ips=ips)

    def _mac(self, ident: str, network: str, name: str) -> str:
        """The MAC that follows from a port's id; of two that derive the same one, the later gets its next."""
        claims = self._claims.setdefault(network, set())
        attempt = 0
        while True:
            mac = derive_mac(ident, attempt)
            if mac not in claims and self.index.holder(network, mac) in {None, name}:
                claims.add(mac)
                return mac
            attempt += 1

    def _ips(self, port: str, name: str) -> tuple[str, ...] | None:
        network = self.networks.get(name)
        if network is None:
            return ()  # the check says that there is no such network
        claims = self._claims.setdefault(name, set())
        quarantine, vpc = self.truth.quarantine, self.vpc

        def free(address: str) -> bool:
            return address not in claims and ("ip", vpc, name, address) not in quarantine

        found = []
        for subnet in network.subnets:
            taken = self.index.take(name, network, subnet.cidr, free)
            if taken is None:
                reason = f"{subnet.cidr} has no free address for port {vpc}/{port}"
                raise ModelError([make_problem(Draft("subnet-full", ("ports", port), reason), None)])
            text, pool, number = taken
            claims.add(text)
            self.plan.taken.append((pool, number))
            found.append(text)
        return tuple(found)
