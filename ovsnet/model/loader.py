"""Files to a checked model, or to every problem that they have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path as FilePath
from typing import Any

import msgspec

from ovsnet.errors import ModelError, Path, Problem, path_text, place_text
from ovsnet.model.assign import apply_lock
from ovsnet.model.checks import Drafts, check_hosts, check_name, check_network, check_underlay
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
from ovsnet.model.lock import Lock, lock_path, read_lock
from ovsnet.model.nodes import Draft, Node, find, mark
from ovsnet.model.port_checks import PortChecker, check_families
from ovsnet.model.problems import PROBLEMS
from ovsnet.model.structure import BAD, build, convert_plain
from ovsnet.model.types import Model

Paths = str | PathLike[str] | Sequence[str | PathLike[str]]


def load(paths: Paths, site: str | PathLike[str] | None = None) -> Model:
    """Read and check a model: files and directories, their union; ``site`` replaces hosts and underlay.

    Addresses come out canonical, every port has its id and MAC, and what the lock file beside the first path has
    assigned is filled in; a VNI or ``ips`` that is neither declared nor assigned yet is ``None`` (see
    :func:`ovsnet.model.assign` and :func:`ovsnet.model.complete`). Raises ModelError with all problems at once.
    """
    files = [FilePath(paths)] if isinstance(paths, str | PathLike) else [FilePath(path) for path in paths]
    if not files:
        raise ModelError([make_problem(Draft("unreadable-file", (), "no file is named"), None)])
    lock = read_lock(lock_path(files))
    drafts: list[Draft] = []
    sources = read_sources(files, drafts)
    site_sources = read_sources([FilePath(site)], drafts) if site is not None else []
    name = default_name(files[0])
    if not drafts:
        model = _load_plain(sources, site_sources, name)
        checked = model and check_model(model, [], lock)
        if checked and not checked.drafts:
            return checked.model
    return _load_nodes(sources, site_sources, name, lock, drafts)


def _load_plain(sources: Sequence[Source], site_sources: Sequence[Source], name: str) -> Model | None:
    """The quick path: one JSON file, perhaps a site; ``None`` leaves it, and all complaints, to the other."""
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


def _load_nodes(
    sources: Sequence[Source], site_sources: Sequence[Source], name: str, lock: Lock, drafts: list[Draft]
) -> Model:
    roots = [root for source in sources if (root := parse(source, drafts)) is not None]
    sites = [root for source in site_sources if (root := parse(source, drafts)) is not None]
    for root in [*roots, *sites]:
        check_version(root, drafts)
    order = {source.name: index for index, source in enumerate([*sources, *site_sources])}
    if not roots:
        raise model_error(drafts, None, order)
    root = union(roots, drafts)
    if sites:
        root = apply_site(root, union(sites, drafts), drafts)
    if root.kind == "mapping" and "name" not in root.entries:
        place = mark(root.file)
        root.entries["name"] = (place, Node("quoted", root.file, 1, 1, text=name))
    whole = len(roots) == len(sources) and len(sites) == len(site_sources)
    model = build(root, Model, drafts)
    if whole:  # with a file missing, references into it would only add noise
        checked = check_model(model, drafts, lock)
        drafts = [*drafts, *checked.drafts]
        model = checked.model
    if drafts:
        raise model_error(drafts, root, order)
    return model


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
    vteps = {name: host.vtep for name, host in hosts.items()}
    vnis: dict[int, Path] = {}
    ids: dict[str, Path] = {}
    vpcs = {}
    for name, vpc in model.vpcs.items():
        base: Path = ("vpcs", name)
        check_name(drafts, name, base)
        if vpc.tenant and vpc.tenant is not BAD:
            check_name(drafts, vpc.tenant, (*base, "tenant"), on_key=False)
        networks, views = {}, {}
        for key, network in vpc.networks.items():
            networks[key], views[key] = check_network(drafts, (*base, "networks", key), network, vnis)
        ports = PortChecker(drafts, name, base, views, hosts, ids).check(vpc.ports)
        vpcs[name] = msgspec.structs.replace(vpc, tenant=vpc.tenant or name, networks=networks, ports=ports)
        check_families(drafts, base, ports, vteps)
    model = msgspec.structs.replace(model, hosts=hosts, vpcs=vpcs)
    if not drafts.found and not structural:
        model = apply_lock(model, lock, drafts.found)
    return Checked(model, drafts.found)


def make_problem(draft: Draft, root: Node | None) -> Problem:
    """The problem that a draft describes, with its place in ``root``'s text where there is one."""
    at = draft.at
    if at is None and root is not None:
        at = find(root, draft.path, on_key=draft.on_key)
    other = draft.other
    if isinstance(other, tuple):
        other = None if root is None else find(root, other, on_key=draft.other_on_key)
    reason = draft.reason
    if other is not None:
        reason += f" ({place_text(other.file, other.line, other.column)})"
    return Problem(
        code=draft.code,
        file=at.file if at else "",
        line=at.line if at else 0,
        column=at.column if at else 0,
        path=path_text(draft.path),
        reason=reason,
        remedy=PROBLEMS[draft.code].remedy.format_map(draft.values),
    )


def model_error(drafts: Sequence[Draft], root: Node | None, order: dict[str, int]) -> ModelError:
    """All problems, sorted by file and place; ``order``: the files in the order in which they were named."""
    problems = {make_problem(draft, root): None for draft in drafts}
    return ModelError(
        sorted(problems, key=lambda one: (order.get(one.file, -1), one.file, one.line, one.column, one.code))
    )
