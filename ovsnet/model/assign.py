"""Assignment of what a model leaves out: VNIs from a pool, addresses from subnets; pure functions of model and lock."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from ovsnet.errors import Path, path_text
from ovsnet.model.addresses import Cidr, ip_text, parse_cidr, parse_ip
from ovsnet.model.checks import MAX_VNI
from ovsnet.model.lock import Lock
from ovsnet.model.nodes import Draft
from ovsnet.model.report import model_error
from ovsnet.model.types import Model, Network, Port, Router, Vpc

N = TypeVar("N", Network, Router)

FIRST_VNI = 10_000
"""The pool of assigned VNIs begins here, above the numbers that people like to choose."""


class _Addresses:
    """The ranges of one network and who has which address in it."""

    def __init__(self, network: Network, vpc: Vpc, name: str) -> None:
        self.ranges = [parsed[0] for one in network.subnets if (parsed := parse_cidr(one.cidr))]
        self.gateways = {parse_ip(one.gateway) for one in network.subnets if one.gateway}
        self.owners: dict[bytes, str] = {}
        self.shared: set[bytes] = set()
        self._next: dict[Cidr, Iterator[bytes]] = {}
        for key, port in vpc.ports.items():
            if port.network == name:
                self._note(key, port)

    def _note(self, key: str, port: Port) -> None:
        for text in port.ips or ():
            packed = parse_ip(text)
            if packed is not None:
                self.owners[packed] = key
        for one in port.allowed_addresses:
            packed = parse_ip(one.ip)
            if packed is not None:
                self.shared.add(packed)

    def usable(self, packed: bytes, cidr: Cidr) -> bool:
        """True if a port could have this address of ``cidr``, whoever has it now."""
        return packed in cidr and cidr.reserved(packed) is None and packed not in self.gateways

    def take(self, cidr: Cidr, key: str) -> bytes | None:
        """The lowest free address, which becomes ``key``'s; ``None`` if the range is full."""
        numbers = self._next.setdefault(cidr, _candidates(cidr))
        for packed in numbers:
            if packed not in self.owners and packed not in self.shared and packed not in self.gateways:
                self.owners[packed] = key
                return packed
        return None


def _candidates(cidr: Cidr) -> Iterator[bytes]:
    """A range's addresses from its second host address on: the first is the custom of gateways."""
    small = cidr.length > cidr.bits - 2
    number = int.from_bytes(cidr.first, "big") + (1 if small else 2)
    last = int.from_bytes(cidr.last, "big") - (0 if small or cidr.bits == 128 else 1)
    while number <= last:
        yield number.to_bytes(len(cidr.first), "big")
        number += 1


def _locked(locked: tuple[str, ...], addresses: _Addresses) -> dict[Cidr, bytes]:
    """The locked addresses that still fit, one a range; a changed subnet or gateway makes one unfit."""
    packed = [one for text in locked if (one := parse_ip(text)) is not None]
    found: dict[Cidr, bytes] = {}
    for cidr in addresses.ranges:
        fitting = next((one for one in packed if addresses.usable(one, cidr)), None)
        if fitting is not None:
            found[cidr] = fitting
    return found


def apply_lock(model: Model, lock: Lock, drafts: list[Draft]) -> Model:
    """Fill in what the lock has assigned; a declared value that is assigned to another is a draft (and stays)."""
    return Assignment(model, lock, drafts).model(fresh=False)


def assign(model: Model, lock: Lock) -> tuple[Model, Lock]:
    """Assign everything that ``model`` leaves out: the whole model, and the lock with what is in use and no more.

    ``model`` may have the lock applied already or not. What is locked stays; the rest gets the lowest
    free number, in the order of names. Raises ModelError
    (``subnet-full``, or a declared value that is assigned to another).
    """
    drafts: list[Draft] = []
    work = Assignment(model, lock, drafts)
    complete = work.model(fresh=True)
    if drafts:
        raise model_error(drafts, None)
    return complete, work.lock()


class Assignment:
    """One pass over a model; problems go to ``drafts``."""

    def __init__(self, model: Model, lock: Lock, drafts: list[Draft]) -> None:
        self.source = model
        self.before = lock
        self.drafts = drafts
        self.vnis: dict[str, dict[str, int]] = {"networks": {}, "routers": {}}
        self.ips: dict[str, tuple[str, ...]] = {}

    def lock(self) -> Lock:
        """What is in use of the old lock, and what is new."""
        return Lock(networks=self.vnis["networks"], routers=self.vnis["routers"], ports=self.ips)

    def model(self, *, fresh: bool) -> Model:
        """The model with locked values filled in, and with new ones too if ``fresh``."""
        vnis = self._assigned_vnis(fresh)
        vpcs = {}
        for name, vpc in self.source.vpcs.items():
            networks = {key: _numbered(one, vnis.get((name, "networks", key))) for key, one in vpc.networks.items()}
            routers = {key: _numbered(one, vnis.get((name, "routers", key))) for key, one in vpc.routers.items()}
            ports = self._ports(name, vpc, fresh)
            changed = networks != vpc.networks or routers != vpc.routers or ports is not vpc.ports
            new = {"networks": networks, "routers": routers, "ports": ports}
            vpcs[name] = msgspec.structs.replace(vpc, **new) if changed else vpc
        return msgspec.structs.replace(self.source, vpcs=vpcs)

    def _assigned_vnis(self, fresh: bool) -> dict[tuple[str, str, str], int]:
        """The VNIs that the lock has for what declares none, and with ``fresh`` new ones, by VPC, collection, name."""
        every = [
            (vpc, kind, name, one.vni)
            for kind in self.vnis
            for vpc, declared in self.source.vpcs.items()
            for name, one in getattr(declared, kind).items()
        ]
        owners: dict[int, Path] = {
            vni: ("vpcs", vpc, kind, name, "vni") for vpc, kind, name, vni in every if vni is not None
        }
        found: dict[tuple[str, str, str], int] = {}
        waiting = []
        for vpc, kind, name, declared_vni in every:
            vni = getattr(self.before, kind).get(f"{vpc}/{name}")
            if declared_vni is not None:
                if declared_vni == vni:  # the model had the lock applied already
                    self.vnis[kind][f"{vpc}/{name}"] = declared_vni
            elif vni is None or not 1 <= vni <= MAX_VNI:
                waiting.append((vpc, kind, name))
            elif vni in owners:
                reason = f"{vni} was assigned to {kind[:-1]} {vpc}/{name}, as the lock file says"
                self.drafts.append(Draft("duplicate-vni", owners[vni], reason))
            else:
                owners[vni] = ("vpcs", vpc, kind, name)
                found[vpc, kind, name] = vni
        if fresh:
            pool = (vni for vni in range(FIRST_VNI, MAX_VNI + 1) if vni not in owners)
            order = sorted(waiting, key=lambda key: (key[1], f"{key[0]}/{key[2]}"))
            found |= dict(zip(order, pool, strict=False))
        for (vpc, kind, name), vni in found.items():
            self.vnis[kind][f"{vpc}/{name}"] = vni
        return found

    def _ports(self, vpc_name: str, vpc: Vpc, fresh: bool) -> dict[str, Port]:
        if self.before.ports:
            self.ips |= {
                key: port.ips
                for name, port in vpc.ports.items()
                if port.ips and self.before.ports.get(key := f"{vpc_name}/{name}") == port.ips
            }
        waiting = sorted(name for name, port in vpc.ports.items() if port.ips is None and port.network in vpc.networks)
        if not waiting:
            return vpc.ports
        used = {vpc.ports[name].network for name in waiting}
        addresses = {name: _Addresses(vpc.networks[name], vpc, name) for name in used}
        found = {name: self._settle(vpc_name, name, addresses[vpc.ports[name].network]) for name in waiting}
        ports = dict(vpc.ports)
        for name in waiting:
            port = ports[name]
            space = addresses[port.network]
            if fresh:
                self._fill(vpc_name, name, space, found[name])
            if all(cidr in found[name] for cidr in space.ranges):
                ips = tuple(ip_text(found[name][cidr]) for cidr in space.ranges)
                ports[name] = msgspec.structs.replace(port, ips=ips)
                self.ips[f"{vpc_name}/{name}"] = ips
        return ports

    def _settle(self, vpc: str, name: str, space: _Addresses) -> dict[Cidr, bytes]:
        """The locked addresses of a port, claimed."""
        found = _locked(self.before.ports.get(f"{vpc}/{name}", ()), space)
        for packed in found.values():
            owner = space.owners.setdefault(packed, name)
            if owner != name:
                reason = f"{ip_text(packed)} was assigned to port {vpc}/{name}, as the lock file says"
                values = {"suggestion": "Give another address, or remove that port's line from the lock file."}
                self.drafts.append(Draft("duplicate-address", self._place(vpc, owner, packed), reason, values))
        return found

    def _place(self, vpc: str, name: str, packed: bytes) -> tuple[str | int, ...]:
        texts = [parse_ip(text) for text in self.source.vpcs[vpc].ports[name].ips or ()]
        at = ("ips", texts.index(packed)) if packed in texts else ()
        return ("vpcs", vpc, "ports", name, *at)

    def _fill(self, vpc: str, name: str, space: _Addresses, found: dict[Cidr, bytes]) -> None:
        for cidr in space.ranges:
            if cidr in found:
                continue
            packed = space.take(cidr, name)
            if packed is None:
                reason = f"{cidr} has no free address for port {vpc}/{name}"
                self.drafts.append(Draft("subnet-full", ("vpcs", vpc, "ports", name), reason, on_key=True))
                return
            found[cidr] = packed


def _numbered(one: N, vni: int | None) -> N:
    return one if vni is None else msgspec.structs.replace(one, vni=vni)


def missing(model: Model) -> list[Draft]:
    """``assignment-missing`` for every VNI and every port's addresses that are neither declared nor assigned."""
    paths: list[Path] = []
    for vpc, one in model.vpcs.items():
        base = ("vpcs", vpc)
        paths += [(*base, "networks", name, "vni") for name, network in one.networks.items() if network.vni is None]
        paths += [(*base, "routers", name, "vni") for name, router in one.routers.items() if router.vni is None]
        paths += [(*base, "ports", name, "ips") for name, port in one.ports.items() if port.ips is None]
    values = {
        "command": "Declare it, or run 'ovsnet apply' or 'ovsnet lab up', which assign it and write the lock file."
    }
    reason = "it is neither declared nor assigned yet"
    return [Draft("assignment-missing", path, reason, values, on_key=True) for path in paths]


def assignments_missing(model: Model) -> list[str]:
    """The paths of what is neither declared nor assigned, as ``vpcs.shop.networks.web.vni``; empty if nothing."""
    return [path_text(draft.path) for draft in missing(model)]


def complete(model: Model) -> Model:
    """``model`` itself if nothing in it is left to assign; else raises ModelError (``assignment-missing``)."""
    drafts = missing(model)
    if drafts:
        raise model_error(drafts, None)
    return model
