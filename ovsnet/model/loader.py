"""Files to a checked model, or to every problem that they have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path as FilePath
from typing import Any

import msgspec

from ovsnet.errors import Path
from ovsnet.model.assign import Assignment, apply_lock, missing
from ovsnet.model.checks import Drafts, check_hosts, check_name, check_networks, check_underlay
from ovsnet.model.collector import collector_paused
from ovsnet.model.files import (
    SITE_KEYS,
    Source,
    apply_site,
    check_version,
    default_name,
    parse,
    plain_json,
    read_sources,
    union,
)
from ovsnet.model.group_checks import GroupChecker
from ovsnet.model.lock import Lock, lock_path, read_lock, write_lock
from ovsnet.model.names import inner_mtu
from ovsnet.model.nodes import Draft, Node, mark
from ovsnet.model.outside_checks import OutsideChecker, check_bridges, check_provider_networks
from ovsnet.model.port_checks import PortChecker, check_families
from ovsnet.model.report import model_error
from ovsnet.model.router_checks import RouterChecker
from ovsnet.model.structure import BAD, build, convert_plain
from ovsnet.model.types import Model, Vpc

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def load(paths: Paths, site: str | PathLike[str] | None = None) -> Model:
    """Read and check a model: files and directories, their union; ``site`` replaces hosts and underlay.

    Addresses come out canonical, every port has its id and MAC, and what the lock file beside the first path has
    assigned is filled in; a VNI or ``ips`` that is neither declared nor assigned yet is ``None`` (see
    :func:`load_assigned`). Raises ModelError with all problems at once.
    """
    with collector_paused():
        return _Loading(paths, site).model()


def load_assigned(paths: Paths, site: str | PathLike[str] | None = None, *, write: bool = False) -> Model:
    """As :func:`load`, and complete: no VNI and no ``ips`` is ``None``.

    With ``write`` what is left out is assigned and kept in the lock file; without it, a model that needs more than the
    lock file has is refused. Raises ModelError (``assignment-missing``, ``subnet-full``), and UserError if the lock
    file cannot be written.
    """
    with collector_paused():
        loading = _Loading(paths, site)
        model = loading.model()
    drafts: list[Draft] = []
    if write:
        work = Assignment(model, loading.lock, drafts)
        model = work.model(fresh=True)
    else:
        drafts = missing(model)
    if drafts:
        raise model_error(drafts, loading.root(), loading.order)
    if write:
        write_lock(loading.lock_file, work.lock())
    return model


@dataclass(frozen=True, slots=True)
class Placed:
    """A model, the nodes of its text, and the ranks of its files as they were named."""

    model: Model
    root: Node
    order: dict[str, int]


def load_placed(paths: Paths, site: str | PathLike[str] | None = None) -> Placed:
    """As :func:`load`, and complete: what is not assigned yet is what would be, and no lock file is written.

    Raises as :func:`load`, and ModelError (``subnet-full``).
    """
    with collector_paused():
        loading = _Loading(paths, site)
        drafts: list[Draft] = []
        model = Assignment(loading.model(), loading.lock, drafts).model(fresh=True)
        root = loading.root()
    if drafts:
        raise model_error(drafts, root, loading.order)
    return Placed(model, root, loading.order)


class _Loading:
    """One reading of a model's files."""

    def __init__(self, paths: Paths, site: str | PathLike[str] | None) -> None:
        files = [FilePath(paths)] if isinstance(paths, str | PathLike) else [FilePath(path) for path in paths]
        if not files:
            raise model_error([Draft("unreadable-file", (), "no file is named")], None)
        self.name = default_name(files[0])
        self.lock_file = lock_path(files)
        self.lock = read_lock(self.lock_file)
        self.drafts: list[Draft] = []
        self.sources = read_sources(files, self.drafts)
        self.sites = read_sources([FilePath(site)], self.drafts) if site is not None else []
        self.order = {source.name: index for index, source in enumerate([*self.sources, *self.sites])}
        self.whole = not self.drafts

    def model(self) -> Model:
        """The checked model; JSON goes a quick way, which leaves every complaint to the other."""
        plain = _plain_model(self.sources, self.sites, self.name) if self.whole else None
        if plain is not None:
            checked = check_model(plain, [], self.lock)
            if not checked.drafts:
                return checked.model
        root = self.root()
        model = build(root, Model, self.drafts)
        if self.whole:  # with a file missing, references into it would only add noise
            checked = check_model(model, self.drafts, self.lock)
            self.drafts += checked.drafts
            model = checked.model
        if self.drafts:
            raise model_error(self.drafts, root, self.order)
        return model

    def root(self) -> Node:
        """The union of the files as nodes. Raises ModelError if there is none."""
        roots = [root for source in self.sources if (root := parse(source, self.drafts)) is not None]
        sites = [root for source in self.sites if (root := parse(source, self.drafts)) is not None]
        for root in [*roots, *sites]:
            check_version(root, self.drafts)
        self.whole = self.whole and len(roots) == len(self.sources) and len(sites) == len(self.sites)
        if not roots:
            raise model_error(self.drafts, None, self.order)
        root = union(roots, self.drafts)
        if sites:
            root = apply_site(root, union(sites, self.drafts), self.drafts)
        if root.kind == "mapping" and "name" not in root.entries:
            root.entries["name"] = (mark(root.file), Node("quoted", root.file, 1, 1, text=self.name))
        return root


def _plain_model(sources: Sequence[Source], site_sources: Sequence[Source], name: str) -> Model | None:
    """The quick way: one JSON file, perhaps a site in JSON; ``None`` where it does not apply."""
    if len(sources) != 1:
        return None
    raw = plain_json(sources[0])
    site: dict[str, Any] | None = {}
    for source in site_sources:
        site = plain_json(source)
    if raw is None or site is None or not set(site) <= {*SITE_KEYS, "version", "name"}:
        return None
    if site_sources:
        raw = {key: value for key, value in raw.items() if key not in SITE_KEYS}
        raw |= {key: value for key, value in site.items() if key in SITE_KEYS}
    raw = {key: value for key, value in raw.items() if not key.startswith("x-")}
    raw.setdefault("name", name)
    return convert_plain(raw, Model)


@dataclass(frozen=True, slots=True)
class Checked:
    """A model with canonical addresses, and the drafts of what does not hold in it."""

    model: Model
    drafts: list[Draft]


def check_model(model: Model, structural: list[Draft], lock: Lock) -> Checked:
    """Check what must hold between the parts of a model, and fill in ids, MACs and what ``lock`` has assigned."""
    drafts = Drafts(structural)
    if model.name is not BAD:
        check_name(drafts, model.name, ("name",), on_key=False)
    check_underlay(drafts, model.underlay)
    hosts = check_hosts(drafts, model.hosts)
    check_bridges(drafts, hosts)
    provider_networks, provided = check_provider_networks(drafts, model.provider_networks, hosts)
    gateways = [name for name, host in hosts.items() if host.gateway]
    vteps = {name: host.vtep for name, host in hosts.items()}
    vnis: dict[int, Path] = {}
    ids: dict[str, Path] = {}
    vpcs = {}
    for name, vpc in model.vpcs.items():
        base: Path = ("vpcs", name)
        check_name(drafts, name, base)
        if vpc.tenant and vpc.tenant is not BAD:
            check_name(drafts, vpc.tenant, (*base, "tenant"), on_key=False)
        room = _room(model.underlay.mtu, vpc, vteps)
        outside = OutsideChecker(drafts, base, provided, gateways)
        networks, views = check_networks(drafts, base, outside.networks(vpc.networks), vpc.routers, vnis, room)
        ports = PortChecker(drafts, name, base, views, hosts, ids).check(vpc.ports)
        groups = GroupChecker(drafts, base, vpc.security_groups, vpc.address_groups)
        groups.check_members(ports, {})
        vpcs[name] = msgspec.structs.replace(
            vpc,
            tenant=vpc.tenant or name,
            networks=networks,
            routers=RouterChecker(drafts, base, views, ports, vnis).check(vpc.routers),
            ports=ports,
            floating_ips=outside.check(networks, views, vpc.routers, ports, vpc.floating_ips),
            security_groups=groups.check_groups(),
            address_groups=groups.check_address_groups(),
        )
        check_families(drafts, base, ports, vteps)
    model = msgspec.structs.replace(model, hosts=hosts, provider_networks=provider_networks, vpcs=vpcs)
    if not drafts.found and not structural:
        model = apply_lock(model, lock, drafts.found)
    return Checked(model, drafts.found)


def _room(mtu: int, vpc: Vpc, vteps: Mapping[str, str]) -> int:
    """The MTU in bytes that fits between the hosts of a VPC through an underlay of ``mtu``."""
    used = [vteps[host] for port in vpc.ports.values() for host in port.hosts if host in vteps]
    return min((inner_mtu(mtu, vtep) for vtep in used), default=mtu)
