"""What the controller's endpoints work on, and the manners that all their writes share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from ovsnet.controller.access import asked, check_edits, check_role, principal, sees
from ovsnet.controller.api.answers import Assigned, ChangeAnswer, Difference, PreviewAnswer, Step
from ovsnet.controller.commit import Committed
from ovsnet.controller.core import Core
from ovsnet.controller.errors import NotFoundError
from ovsnet.controller.requests import KINDS, Edit, PutHost, PutUnderlay, Request
from ovsnet.controller.status import Status
from ovsnet.controller.truth import Plan, Truth, VpcTruth
from ovsnet.errors import UserError
from ovsnet.http.endpoints import Answer, Call, Reply, reply
from ovsnet.http.events import EventLog
from ovsnet.http.parameters import ADOPT, DRY_RUN, OWNER, WAIT, etag

WRITE = (WAIT, DRY_RUN, ADOPT, OWNER)
"""The parameters of every write."""
REFUSED = (401, 403, 404, 409, 412, 413, 422, 503, 507)
"""The statuses of a write's refusals."""
CHANGED = (
    Answer(200, "It is durable, and in force if the call waited.", (ChangeAnswer, PreviewAnswer), etag=True),
    Answer(202, "It is durable, and not in force everywhere yet; `late` says where not and why.", (ChangeAnswer,)),
)
READ = (401, 403, 404)
"""The statuses of a read's refusals."""

Edits = Callable[[Truth], Iterable[Edit]]
Heads = dict[str, tuple[int, frozenset[str]]]
"""By VPC its revision, and who has to know it."""


@dataclass
class Service:
    """A controller as its API sees it. ``ready`` gives the reasons why calls cannot be carried out.

    ``faults``: why hosts cannot be told, ``told``: counts of what was sent to them and what they said.
    """

    core: Core
    status: Status = field(default_factory=Status)
    events: EventLog = field(default_factory=EventLog)
    ready: Callable[[], tuple[str, ...]] = tuple
    faults: Callable[[], tuple[str, ...]] = tuple
    told: Callable[[], Mapping[str, int]] = dict

    def __post_init__(self) -> None:
        """Tell commits, and contact with hosts, to those who follow events."""
        self.core.on_commit.append(self._note)
        self.status.on_contact = lambda contact: self.events.add("host", contact._asdict())

    def _note(self, committed: Committed) -> None:
        vpcs = {name: None if one.deleted else one.revision for name, one in committed.vpcs.items()}
        hosts = {name: host is not None for name, host in committed.hosts.items()}
        self.events.add("commit", {"tx": committed.tx, "vpcs": vpcs, "hosts": hosts})


async def write(
    call: Call[Service], edits: Edits, *, if_match: Mapping[str, int] | None = None, owner: str | None = None
) -> Reply:
    """Carry out what a request asks for, as a dry run or for real, and answer it.

    ``owner``: in whose name, unless the request says it; else the caller's. ``if_match``: revisions that VPCs must
    have, beside that of the VPC in the path.
    """
    caller = check_role("write")
    name, core, what = call.query["owner"] or owner or caller.name, call.subject.core, asked()
    wanted = dict(if_match or {})
    if call.if_match is not None and "vpc" in call.path:
        wanted[call.path["vpc"]] = call.if_match
    heads: Heads = {}

    def build(truth: Truth) -> Request:
        found = tuple(edits(truth))
        check_edits(truth, found, caller)
        named = {edit.vpc for edit in found if not isinstance(edit, PutHost | PutUnderlay)}
        named |= {call.path["vpc"]} if "vpc" in call.path else set()
        # What the call finds, not what there is when it is answered: by then others may have changed it.
        heads.clear()
        heads.update({vpc: (one.live.revision, one.interested) for vpc in named if (one := truth.vpcs.get(vpc))})
        return Request(found, name, caller.name, what, call.query["adopt"], wanted)

    try:
        if call.query["dry_run"]:
            return reply(_preview(await asyncio.to_thread(core.plan, build)))
        committed = await asyncio.to_thread(core.transact, build)
    except UserError as exc:
        core.refused(caller.name, what, str(getattr(exc, "code", "invalid-model")), str(exc))
        raise
    return await _answer(call, committed, heads)


async def _answer(call: Call[Service], committed: Committed, heads: Heads) -> Reply:
    """Answer a change that is durable, once it is in force or ``wait`` is over.

    ``heads``: the named VPCs as the call found them, which are still so if it changed nothing.
    """
    steps = {vpc: Step(previous=revision, revision=revision) for vpc, (revision, _) in heads.items()}
    wanted: dict[str, dict[str, int]] = {}
    for vpc, one in committed.vpcs.items():
        steps[vpc] = Step(previous=one.previous, revision=None if one.deleted else one.revision)
        heads[vpc] = (one.revision, one.hosts_after)
        for host in one.hosts_before - one.hosts_after:
            wanted.setdefault(host, {})[vpc] = 0
    for vpc, (revision, hosts) in heads.items():
        for host in hosts:
            wanted.setdefault(host, {})[vpc] = revision
    late = await call.subject.status.await_enforced(wanted, call.query["wait"]) if call.query["wait"] else {}
    answer = ChangeAnswer(
        changed=bool(committed), tx=committed.tx, vpcs=steps, late=late, assigned=_assigned(committed.plan)
    )
    step = steps.get(call.path.get("vpc", ""))
    headers = {} if step is None or step.revision is None else etag(step.revision)
    return reply(answer, 202 if late else 200, headers)


def _assigned(plan: Plan) -> Assigned:
    """The numbers of what a plan has changed: those who left them out learn them here."""
    networks, routers = (
        {
            f"{vpc}/{name}": body.vni
            for vpc, one in plan.vpcs.items()
            for name, body in getattr(one.patch, kind).items()
            if body is not None and body.vni is not None
        }
        for kind in ("networks", "routers")
    )
    ports = {
        f"{vpc}/{name}": port.ips
        for vpc, one in plan.vpcs.items()
        for name, port in one.patch.ports.items()
        if port is not None and port.ips
    }
    return Assigned(networks=networks, routers=routers, ports=ports)


def _preview(plan: Plan) -> PreviewAnswer:
    differences = [
        Difference(path=f"hosts.{name}", change="delete" if host is None else "change")
        for name, host in plan.hosts.items()
    ]
    if plan.underlay is not None:
        differences.append(Difference(path="underlay", change="change"))
    steps = {}
    for vpc, one in plan.vpcs.items():
        steps[vpc] = Step(previous=one.previous, revision=None if one.deleted else one.revision)
        if one.deleted or one.before is None:
            differences.append(Difference(path=f"vpcs.{vpc}", change="delete" if one.deleted else "create"))
        elif one.meta != one.before.meta:
            differences.append(Difference(path=f"vpcs.{vpc}", change="change"))
        for kind in KINDS:
            for name, body in getattr(one.patch, kind).items():
                word = "delete" if body is None else "change" if one.old(kind, name) is not None else "create"
                differences.append(Difference(path=f"vpcs.{vpc}.{kind}.{name}", change=word))
    return PreviewAnswer(changed=bool(plan), differences=tuple(differences), vpcs=steps, assigned=_assigned(plan))


def seen_vpc(call: Call[Service], truth: Truth) -> VpcTruth:
    """The VPC in a request's path, if its caller may read it. Raises NotFoundError."""
    vpc = truth.vpcs.get(call.path["vpc"])
    if vpc is None or not sees(principal(), vpc.meta.tenant):
        raise NotFoundError("unknown-vpc", f"there is no VPC {call.path['vpc']}")
    return vpc


def wanted_of(truth: Truth) -> dict[str, dict[str, int]]:
    """What every host should enforce: by host, by VPC, the revision."""
    return {host: {vpc: truth.vpcs[vpc].live.revision for vpc in truth.host_vpcs.get(host, ())} for host in truth.hosts}
