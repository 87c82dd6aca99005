"""From a request to what it makes of the truth: pure but for numbers taken from pools, which the plan can give back."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from ovsnet.controller.checking import Changed, canonical, canonical_networks, problems_in
from ovsnet.controller.completion import Completion, placed_endpoint
from ovsnet.controller.errors import NotFoundError, TakenError
from ovsnet.controller.index import NO_INDEX
from ovsnet.controller.outside import refuse_outside
from ovsnet.controller.requests import (
    KINDS,
    DropVpc,
    Edit,
    EnsureVpc,
    Kind,
    Object,
    PutHost,
    PutObject,
    PutUnderlay,
    PutVpc,
    RaiseRevision,
    Request,
)
from ovsnet.controller.site import plan_site
from ovsnet.controller.truth import ObjectKey, Plan, Truth, VpcMeta, VpcPlan, VpcTruth, compact, hosts_of, vnis_gone
from ovsnet.errors import ModelError, Path, path_text
from ovsnet.model.checks import Drafts, check_name
from ovsnet.model.nodes import Draft
from ovsnet.model.report import make_problem
from ovsnet.model.types import Network, Port, RemoteEndpoint, Router, VpcState
from ovsnet.transport.changes import PatchBody, vnis_of
from ovsnet.transport.digest import patched_sum
from ovsnet.transport.edits import SINGULAR, InUseError, PreconditionError
from ovsnet.transport.groups import GroupLists
from ovsnet.transport.view import ConflictError


def plan_request(truth: Truth, request: Request, tx: str) -> Plan:
    """What a request makes of the truth; empty if it is so already. Changes nothing but what ``Plan.abandon`` undoes.

    Raises ModelError with all that is wrong, ConflictError (``foreign-owner``, ``stale-epoch``, ``in-use``),
    PreconditionError, NotFoundError.
    """
    plan = Plan(tx)
    try:
        _Planning(truth, request, plan).run()
    except BaseException:
        plan.abandon()
        raise
    return plan


class _Work:
    """What a request has asked of one VPC so far."""

    def __init__(self, truth: Truth, vpc: str) -> None:
        self.vpc = vpc
        self.before: VpcTruth | None = truth.vpcs.get(vpc)
        self.revision = truth.retired.get(vpc, 0) if self.before is None else self.before.live.revision
        self.live = VpcState(name=vpc, revision=self.revision) if self.before is None else self.before.live
        self.meta: VpcMeta | None = None if self.before is None else self.before.meta
        self.objects: dict[Kind, dict[str, Object | None]] = {kind: {} for kind in KINDS}
        self.placements: set[ObjectKey] = set()
        self.given_owners: dict[ObjectKey, str] = {}
        self.deleted = False
        self.above: int | None = None

    def old(self, kind: Kind, name: str) -> Any:
        """An object as it was before the request."""
        return getattr(self.live, kind).get(name)


class _Planning:
    def __init__(self, truth: Truth, request: Request, plan: Plan) -> None:
        self.truth, self.request, self.plan = truth, request, plan
        self.works: dict[str, _Work] = {}
        self.vteps: Mapping[str, str] = {}

    def run(self) -> None:
        """Fill the plan."""
        self._check_revisions()
        site_edits = [edit for edit in self.request.edits if isinstance(edit, PutHost | PutUnderlay)]
        moved = plan_site(self.truth, self.request, site_edits, self.plan)
        self.vteps = _Vteps(self.truth, self.plan)
        for edit in self.request.edits:
            if not isinstance(edit, PutHost | PutUnderlay):
                self._edit(edit)
        for host in moved:
            for vpc in self.truth.host_vpcs.get(host, ()):
                self._work(vpc)
        vnis = {one.vni for work in self.works.values() for one in _numbered(work) if one.vni}
        for work in self.works.values():
            one = self._finish(work, moved, vnis)
            if one is not None:
                self.plan.vpcs[work.vpc] = one
        self._check_between()
        self._check_hosts_unused()

    def _check_revisions(self) -> None:
        for vpc, expected in self.request.if_match.items():
            held = self.truth.vpcs.get(vpc)
            current = None if held is None else held.live.revision
            if (current or 0) != expected:
                raise PreconditionError(vpc, expected, current)

    def _work(self, vpc: str) -> _Work:
        if vpc not in self.works:
            self.works[vpc] = _Work(self.truth, vpc)
        return self.works[vpc]

    def _edit(self, edit: Edit) -> None:
        assert not isinstance(edit, PutHost | PutUnderlay)
        work = self._work(edit.vpc)
        if isinstance(edit, DropVpc):
            self._drop(work)
        elif isinstance(edit, PutVpc | EnsureVpc):
            self._put_vpc(work, edit)
        elif work.meta is None:
            if isinstance(edit, PutObject) and edit.body is None:
                return
            raise NotFoundError("unknown-vpc", f"there is no VPC {edit.vpc}. Create it first")
        elif isinstance(edit, RaiseRevision):
            work.above = edit.above
        else:
            refuse_outside(f"vpcs.{edit.vpc}.{edit.kind}.{edit.name}", edit.body)
            work.objects[edit.kind][edit.name] = edit.body
            if edit.placement:
                work.placements.add((edit.kind, edit.name))
            if edit.owner is not None:
                work.given_owners[edit.kind, edit.name] = edit.owner

    def _drop(self, work: _Work) -> None:
        """The VPC goes, and may come again later in the same request."""
        if work.before is not None:
            self._permit(f"VPC {work.vpc}", work.before.meta.owner, work)
            for (kind, name), owner in work.before.owners.items():
                self._permit(f"{SINGULAR[kind]} {work.vpc}/{name}", owner, work)
        for kind in KINDS:
            work.objects[kind] = dict.fromkeys(getattr(work.live, kind))
        work.deleted, work.meta = work.before is not None, None

    def _put_vpc(self, work: _Work, edit: PutVpc | EnsureVpc) -> None:
        meta = work.meta
        if meta is None:
            drafts = Drafts([])
            check_name(drafts, work.vpc, ("vpcs", work.vpc))
            meta = VpcMeta(owner=self.request.owner, tenant=work.vpc)
            if drafts.found:
                raise ModelError([make_problem(drafts.found[0], None)])
        work.meta, work.deleted = meta, False
        if isinstance(edit, EnsureVpc):
            return
        drafts = Drafts([])
        tenant = edit.tenant or meta.tenant
        check_name(drafts, tenant, ("vpcs", work.vpc, "tenant"), on_key=False)
        if drafts.found:
            raise ModelError([make_problem(drafts.found[0], None)])
        given = VpcMeta(owner=meta.owner, tenant=tenant, labels=dict(edit.labels), description=edit.description)
        if given != meta:
            self._permit(f"VPC {work.vpc}", meta.owner, work)
        if self.request.adopt:
            given = msgspec.structs.replace(given, owner=self.request.owner)
        work.meta = given

    def _permit(self, what: str, owner: str, work: _Work) -> None:
        """Raises ConflictError (``foreign-owner``) unless the request may change what ``owner`` has declared."""
        if owner != self.request.owner and not self.request.adopt:
            message = (
                f"{what} belongs to {owner}, not to {self.request.owner}. Let {owner} change it, or take it over "
                f"with adopt=true"
            )
            raise ConflictError("foreign-owner", message, work.revision)

    def _finish(self, work: _Work, moved: Mapping[str, str], vnis: set[int]) -> VpcPlan | None:
        """The plan of one VPC, ``None`` if it stays as it is."""
        if work.meta is None:
            return self._deletion(work) if work.deleted else None
        try:
            changed = self._changed(work, vnis)
        except ModelError as exc:
            raise problems_in(work.vpc, exc.problems) from None
        owners = self._owners(work, changed)
        ports = {name: (work.old("ports", name), port) for name, port in changed.ports.items()}
        counts = _counts(ports)
        hosts = self._hosts(work, counts, moved)
        before_meta = None if work.before is None else work.before.meta
        revision = max(work.revision, -1 if work.above is None else work.above) + 1
        objects: dict[str, Any] = {kind: getattr(changed, kind) for kind in KINDS}
        patch = PatchBody(previous=work.revision, revision=revision, hosts=hosts, **objects)
        olds: dict[ObjectKey, Object] = {
            (kind, name): old for kind in KINDS for name in objects[kind] if (old := work.old(kind, name)) is not None
        }
        same = not (any(objects.values()) or hosts or owners)
        if same and before_meta == work.meta and work.above is None:
            return None
        total = 0 if work.before is None else work.before.total
        return VpcPlan(
            name=work.vpc,
            before=work.before,
            revision=revision,
            patch=patch,
            meta=work.meta,
            total=patched_sum(total, work.live, patch),
            counts=counts,
            owners=owners,
            released=_released(work, changed, vnis_gone(olds, patch)),
            olds=olds,
        )

    def _deletion(self, work: _Work) -> VpcPlan:
        before = work.before
        assert before is not None
        released = tuple(("vni", vni) for vni in vnis_of(before.live))
        patch = PatchBody(previous=work.revision, revision=work.revision + 1)
        return VpcPlan(work.vpc, before, work.revision + 1, patch, before.meta, 0, deleted=True, released=released)

    def _changed(self, work: _Work, vnis: set[int]) -> Changed:
        """The objects that differ from what they were, complete and canonical."""
        networks: dict[str, Network | None] = {}
        completion = Completion(self.truth, self.plan, work.vpc, {}, vnis, work.revision)
        for name, network in work.objects["networks"].items():
            assert network is None or isinstance(network, Network)
            old = work.old("networks", name)
            networks[name] = None if network is None else completion.numbered("network", name, network, old)
        routers: dict[str, Router | None] = {}
        for name, router in work.objects["routers"].items():
            assert router is None or isinstance(router, Router)
            old = work.old("routers", name)
            routers[name] = None if router is None else completion.numbered("router", name, router, old)
        networks = canonical_networks(work.vpc, networks)
        after = {**work.live.networks, **networks}
        completion.networks = {name: network for name, network in after.items() if network is not None}
        completion.claim(work.objects["ports"])
        completion.claim(work.objects["endpoints"])
        ports: dict[str, Port | None] = {}
        for name, port in work.objects["ports"].items():
            assert port is None or isinstance(port, Port)
            ports[name] = None if port is None else completion.port(name, port, work.old("ports", name))
        endpoints: dict[str, RemoteEndpoint | None] = {}
        for name, one in work.objects["endpoints"].items():
            assert one is None or isinstance(one, RemoteEndpoint)
            old = work.old("endpoints", name)
            endpoints[name] = None if one is None else placed_endpoint(name, one, old, work.revision)
        index, lists = (NO_INDEX, GroupLists()) if work.before is None else (work.before.index, work.before.lists)
        groups: dict[str, Any] = {kind: work.objects[kind] for kind in ("security_groups", "address_groups")}
        asked = Changed(networks=networks, routers=routers, ports=ports, endpoints=endpoints, **groups)
        checked = canonical(work.live, index, lists, asked, self.vteps)
        differing: dict[str, Any] = {
            kind: {name: compact(one) for name, one in getattr(checked, kind).items() if one != work.old(kind, name)}
            for kind in KINDS
        }
        return Changed(**differing)

    def _owners(self, work: _Work, changed: Changed) -> dict[ObjectKey, str | None]:
        """Whose the touched objects become (None: gone). Raises ConflictError (``foreign-owner``)."""
        owners: dict[ObjectKey, str | None] = {}
        for kind in KINDS:
            differing: Mapping[str, Object | None] = getattr(changed, kind)
            for name, asked in work.objects[kind].items():
                old = work.old(kind, name)
                if old is None:
                    if name in differing:
                        owners[kind, name] = work.given_owners.get((kind, name), self.request.owner)
                    continue
                assert work.before is not None
                owner = work.before.owner_of(kind, name)
                if name in differing and (kind, name) not in work.placements:
                    self._permit(f"{SINGULAR[kind]} {work.vpc}/{name}", owner, work)
                if asked is None:
                    owners[kind, name] = None
                elif self.request.adopt and owner != self.request.owner:
                    owners[kind, name] = self.request.owner
        return owners

    def _hosts(self, work: _Work, counts: Mapping[str, int], moved: Mapping[str, str]) -> dict[str, str | None]:
        """What changes in the VPC's ``hosts``."""
        held = {} if work.before is None else work.before.counts
        hosts: dict[str, str | None] = {}
        for host, change in counts.items():
            before, after = held.get(host, 0), held.get(host, 0) + change
            if before and not after:
                hosts[host] = None
            elif after and not before:
                hosts[host] = self.vteps[host]
        for host, vtep in moved.items():
            if held.get(host, 0) + counts.get(host, 0):
                hosts[host] = vtep
        family = {":" in vtep for host, vtep in {**work.live.hosts, **hosts}.items() if vtep is not None}
        if moved and len(family) > 1:
            reason = "with these VTEPs, hosts of this VPC have an IPv4 and an IPv6 one"
            raise ModelError([make_problem(Draft("mixed-vtep-families", ("vpcs", work.vpc), reason, _SAME), None)])
        return hosts

    def _check_between(self) -> None:
        """A VNI and a port's id belong to one object. Raises TakenError for what others have, else ModelError."""
        drafts, holders = [], []
        for kinds, field, word, held in _CLAIMS:
            had = {getattr(old, field) for one in self.plan.vpcs.values() for kind in kinds for old in _old(one, kind)}
            seen: dict[Hashable, Path] = {}
            for path, value in self._claimed(kinds, field):
                holder = None if value in had else held(self.truth).get(value)
                other = seen.setdefault(value, path) if holder is None else self._holder(kinds, field, holder, value)
                if other != path:
                    reason = f"{value} is already the {word} of {path_text(other)}"
                    drafts.append(Draft(f"duplicate-{field}", (*path, field), reason))
                    holders += [holder] if holder is not None else []
        if drafts:
            problems = [make_problem(draft, None) for draft in drafts]
            raise TakenError(problems, holders) if len(holders) == len(drafts) else ModelError(problems)

    def _claimed(self, kinds: tuple[Kind, ...], field: str) -> Iterator[tuple[Path, Any]]:
        """The paths of the objects that the plan brings, with what each has to itself."""
        for vpc, one in self.plan.vpcs.items():
            for kind in kinds:
                for name, body in getattr(one.patch, kind).items():
                    if body is not None:
                        yield ("vpcs", vpc, kind, name), getattr(body, field)

    def _holder(self, kinds: tuple[Kind, ...], field: str, vpc: str, value: Hashable) -> Path:
        """The path of the object of a VPC that has something to itself."""
        live = self.truth.vpcs[vpc].live
        objects = ((kind, name, one) for kind in kinds for name, one in getattr(live, kind).items())
        kind, name = next((kind, name) for kind, name, one in objects if getattr(one, field) == value)
        return ("vpcs", vpc, kind, name)

    def _check_hosts_unused(self) -> None:
        """Raises ConflictError (``in-use``) for a host that goes and still has ports."""
        for host in [name for name, one in self.plan.hosts.items() if one is None]:
            users = []
            for vpc in sorted(self.truth.host_vpcs.get(host, ())):
                one = self.plan.vpcs.get(vpc)
                if one is None or not (one.deleted or (host in one.patch.hosts and one.patch.hosts[host] is None)):
                    users.append(vpc)
            if users:
                raise InUseError(f"host {host}", tuple(f"vpcs.{vpc}" for vpc in users), None)


_CLAIMS: tuple[tuple[tuple[Kind, ...], str, str, Callable[[Truth], Mapping[Any, str]]], ...] = (
    (("networks", "routers"), "vni", "VNI", lambda truth: truth.vnis),
    (("ports",), "id", "id", lambda truth: truth.port_ids),
)
"""What an object has to itself in the whole site: kinds, field, the word for it, and the VPCs that have which."""
_SAME = {"family": "the same family's"}


class _Vteps(Mapping[str, str]):
    """The VTEP of every host of the site, as a plan leaves it, without a copy of them all."""

    def __init__(self, truth: Truth, plan: Plan) -> None:
        self._held, self._changed = truth.hosts, plan.hosts

    def __getitem__(self, host: str) -> str:
        one = self._changed[host] if host in self._changed else self._held[host]
        if one is None:
            raise KeyError(host)
        return one.host.vtep

    def __iter__(self) -> Any:
        return (host for host in {**self._held, **self._changed} if self._changed.get(host, self._held.get(host)))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _numbered(work: _Work) -> list[Network | Router]:
    objects = (*work.objects["networks"].values(), *work.objects["routers"].values())
    return [one for one in objects if isinstance(one, Network | Router)]


def _old(plan: VpcPlan, kind: Kind) -> list[Any]:
    """The objects that a plan changes or removes, as they were."""
    if plan.deleted and plan.before is not None:
        return list(getattr(plan.before.live, kind).values())
    return [old for name in getattr(plan.patch, kind) if (old := plan.old(kind, name)) is not None]


def _counts(ports: Mapping[str, tuple[Port | None, Port | None]]) -> dict[str, int]:
    """By host, how many more ports concern it, from each port before and after; without those that stay."""
    counts: dict[str, int] = {}
    for old, new in ports.values():
        for one, change in ((old, -1), (new, 1)):
            for host in () if one is None else hosts_of(one):
                counts[host] = counts.get(host, 0) + change
    return {host: change for host, change in counts.items() if change}


def _released(work: _Work, changed: Changed, vnis: Iterable[int]) -> tuple[Hashable, ...]:
    """VNIs and addresses that nobody of the VPC has any more; ``vnis`` are those that are gone."""
    keys: dict[Hashable, None] = {("vni", vni): None for vni in vnis}
    had = {(old.network, ip): None for name in changed.ports if (old := work.old("ports", name)) for ip in old.ips}
    for port in changed.ports.values():
        if port is not None:
            for address in port.ips or ():
                had.pop((port.network, address), None)
    keys |= {("ip", work.vpc, network, address): None for network, address in had}
    return tuple(keys)
