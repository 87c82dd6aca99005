"""Endpoints of VPCs: whole ones, their objects, their history, and where their ports run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from ovsnet.controller.access import check_role, principal, sees
from ovsnet.controller.api.answers import Back, PortAnswer, Target, VpcAnswer, VpcSummary
from ovsnet.controller.api.service import CHANGED, READ, REFUSED, WRITE, Service, seen_vpc, write
from ovsnet.controller.errors import NotFoundError
from ovsnet.controller.history import Revision, rollback_edits
from ovsnet.controller.intents import change_edits, port_of, vpc_edits, vpc_of
from ovsnet.controller.requests import KINDS as HELD
from ovsnet.controller.requests import DropVpc, Edit, EnsureVpc, PutObject, VpcBody
from ovsnet.controller.truth import Truth, VpcTruth
from ovsnet.http.endpoints import Answer, Call, Endpoints, Reply, reply
from ovsnet.http.parameters import Parameter, duration, etag
from ovsnet.model import decode_declared
from ovsnet.model.types import AddressGroup, Port, VpcState
from ovsnet.transport import edits, moves
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.edits import KINDS, Kind

VPCS: Endpoints[Service] = Endpoints()
Handler = Callable[[Call[Service]], Awaitable[Reply]]
_UP = Parameter("wait", "Hold the answer back until the port is up, or the timeout is over.", "up", "up")
_TIMEOUT = duration("timeout", "How long to wait for that.", 30.0)


@VPCS.add("GET", "/v1/vpcs", answers=(Answer(200, "By name.", (dict[str, VpcSummary],)),), problems=(401, 403))
async def list_vpcs(call: Call[Service]) -> Reply:
    """The VPCs that the caller may see."""
    caller = principal()

    def look(truth: Truth) -> dict[str, VpcSummary]:
        return {name: _summary(one) for name, one in sorted(truth.vpcs.items()) if sees(caller, one.meta.tenant)}

    return reply(call.subject.core.read(look))


def _summary(vpc: VpcTruth) -> VpcSummary:
    head, live = vpc.head, vpc.live
    return VpcSummary(
        revision=head.revision,
        digest=head.digest,
        owner=vpc.meta.owner,
        tenant=vpc.meta.tenant,
        networks=len(live.networks),
        routers=len(live.routers),
        ports=len(live.ports),
        endpoints=len(live.endpoints),
        security_groups=len(live.security_groups),
        address_groups=len(live.address_groups),
        hosts=len(vpc.interested),
    )


@VPCS.add("GET", "/v1/vpcs/{vpc}", answers=(Answer(200, "All of it.", (VpcAnswer,), etag=True),), problems=READ)
async def get_vpc(call: Call[Service]) -> Reply:
    """A VPC with all its objects."""

    def look(truth: Truth) -> VpcAnswer:
        vpc = seen_vpc(call, truth)
        state, meta = vpc.snapshot(), vpc.meta
        return VpcAnswer(
            name=state.name,
            revision=state.revision,
            digest=vpc.head.digest,
            owner=meta.owner,
            owners={f"{kind}/{name}": owner for (kind, name), owner in vpc.owners.items()},
            tenant=meta.tenant,
            labels=meta.labels,
            description=meta.description,
            **{kind: getattr(state, kind) for kind in (*HELD, "hosts")},
        )

    found = call.subject.core.read(look)
    return reply(found, headers=etag(found.revision))


@VPCS.add("PUT", "/v1/vpcs/{vpc}", query=WRITE, body=VpcBody, answers=CHANGED, problems=REFUSED, conditional=True)
async def put_vpc(call: Call[Service]) -> Reply:
    """Declare a VPC: the owner's objects in it are these and no others."""
    body, vpc = await asyncio.to_thread(decode_declared, call.body, VpcBody), call.path["vpc"]
    owner = call.query["owner"] or principal().name
    return await write(call, lambda truth: vpc_edits(truth, vpc, body, owner))


@VPCS.add("DELETE", "/v1/vpcs/{vpc}", query=WRITE, answers=CHANGED, problems=REFUSED, conditional=True)
async def delete_vpc(call: Call[Service]) -> Reply:
    """Take a VPC away with all that is in it; again is harmless."""
    return await write(call, lambda _: [DropVpc(call.path["vpc"])])


def _collection(kind: Kind) -> Handler:
    async def get_collection(call: Call[Service]) -> Reply:
        def look(truth: Truth) -> VpcState:
            return seen_vpc(call, truth).snapshot()

        state = call.subject.core.read(look)
        return reply(edits.collection(state, kind), headers=etag(state.revision))

    return get_collection


def _get(kind: Kind, place: str) -> Handler:
    async def get_object(call: Call[Service]) -> Reply:
        def look(truth: Truth) -> tuple[Any, int]:
            live = seen_vpc(call, truth).live
            return edits.find(live, kind, call.path[place]), live.revision

        found, revision = call.subject.core.read(look)
        return reply(found, headers=etag(revision))

    return get_object


def _put(kind: Kind, place: str) -> Handler:
    async def put_object(call: Call[Service]) -> Reply:
        vpc, name = call.path["vpc"], call.path[place]
        body: Any = None
        if kind == "address_groups":
            body = msgspec.json.decode(call.body, type=AddressGroup)
        elif kind != "subnets":
            body = decode_declared(call.body, edits.TYPES[kind])

        def asked(truth: Truth) -> list[Edit]:
            held = truth.vpcs.get(vpc)
            if kind == "subnets":
                return _edits(vpc, edits.put(vpc_of(truth, vpc).live, kind, name, call.body))
            if kind != "networks":
                vpc_of(truth, vpc)
                return [PutObject(vpc, kind, name, body)]
            network = edits.filled_network(body, None if held is None else held.live.networks.get(name))
            return [EnsureVpc(vpc), PutObject(vpc, kind, name, network)]

        return await write(call, asked)

    return put_object


def _edits(vpc: str, patch: PatchBody | None, *, placement: bool = False) -> list[Edit]:
    return [] if patch is None else change_edits(vpc, patch, placement=placement)


def _delete(kind: Kind, place: str) -> Handler:
    async def delete_object(call: Call[Service]) -> Reply:
        vpc, name = call.path["vpc"], call.path[place]

        def asked(truth: Truth) -> list[Edit]:
            held = truth.vpcs.get(vpc)
            if held is None:
                return []
            if kind == "subnets":
                return _edits(vpc, edits.delete(held.live, kind, name))
            return [PutObject(vpc, kind, name, None)]

        return await write(call, asked)

    return delete_object


def _declare_objects() -> None:
    for kind in KINDS:
        what = edits.SINGULAR[kind]
        place = "subnet" if kind == "subnets" else "id"
        path = f"/v1/vpcs/{{vpc}}/{edits.segment(kind)}"
        one = f"{path}/{{{place}}}"
        shown = Answer(200, "By id.", (edits.COLLECTION_TYPES[kind],), etag=True)
        VPCS.add("GET", path, summary=f"All {kind.replace('_', ' ')} of a VPC.", answers=(shown,), problems=READ)(
            _collection(kind)
        )
        if kind != "ports":
            shown = Answer(200, "As it is declared.", (edits.TYPES[kind],), etag=True)
            VPCS.add("GET", one, summary=f"One {what}.", answers=(shown,), problems=READ)(_get(kind, place))
        common: dict[str, Any] = {"query": WRITE, "answers": CHANGED, "problems": REFUSED, "conditional": True}
        body = edits.SubnetBody if kind == "subnets" else edits.TYPES[kind]
        VPCS.add("PUT", one, summary=f"Declare one {what}.", body=body, **common)(_put(kind, place))
        gone = f"Take one {what} away; again is harmless."
        VPCS.add("DELETE", one, summary=gone, **common)(_delete(kind, place))


_declare_objects()


@VPCS.add(
    "GET",
    "/v1/vpcs/{vpc}/ports/{id}",
    query=(_UP, _TIMEOUT),
    answers=(
        Answer(200, "As it is declared, and what its host says of it.", (PortAnswer,), etag=True),
        Answer(202, "It was waited for, and is not up; `status` says why.", (PortAnswer,), etag=True),
    ),
    problems=READ,
)
async def get_port(call: Call[Service]) -> Reply:
    """One port, and how it stands on its host."""

    def look(truth: Truth) -> tuple[Port, str, int]:
        vpc, name = seen_vpc(call, truth), call.path["id"]
        return port_of(truth, vpc.live.name, name), vpc.owner_of("ports", name), vpc.live.revision

    port, owner, revision = call.subject.core.read(look)
    name, status = f"{call.path['vpc']}/{call.path['id']}", call.subject.status
    report = None if port.host is None else status.port(port.host, name)
    code = 200
    if call.query["wait"] is not None:
        if port.host is not None:
            report = await status.await_up(port.host, name, call.query["timeout"])
        code = 200 if report is not None and report.up else 202
    return reply(PortAnswer(declared=port, owner=owner, status=report), code, etag(revision))


_MOVE: dict[str, Any] = {"query": WRITE, "answers": CHANGED, "problems": REFUSED, "conditional": True}


def _move(call: Call[Service], change: Callable[[VpcState], PatchBody | None]) -> Awaitable[Reply]:
    vpc = call.path["vpc"]
    return write(call, lambda truth: _edits(vpc, change(vpc_of(truth, vpc).live), placement=True))


@VPCS.add("POST", "/v1/vpcs/{vpc}/ports/{id}/prepare", body=Target, **_MOVE)
async def prepare(call: Call[Service]) -> Reply:
    """Have another host ready for a port, which gets a copy of what is sent to it."""
    target = call.decode(Target).host
    return await _move(call, lambda state: moves.prepare(state, call.path["id"], target))


@VPCS.add("POST", "/v1/vpcs/{vpc}/ports/{id}/activate", body=Target, optional_body=True, **_MOVE)
async def activate(call: Call[Service]) -> Reply:
    """The port runs on the prepared host from now on; with the host in the body, again is harmless."""
    target = call.decode(Target).host if call.body else None
    return await _move(call, lambda state: moves.activate(state, call.path["id"], target))


@VPCS.add("POST", "/v1/vpcs/{vpc}/ports/{id}/release", **_MOVE)
async def release(call: Call[Service]) -> Reply:
    """The port stays where it runs, after all; again is harmless."""
    return await _move(call, lambda state: moves.release(state, call.path["id"]))


@VPCS.add(
    "GET", "/v1/vpcs/{vpc}/history", answers=(Answer(200, "The last first.", (list[Revision],)),), problems=(*READ, 503)
)
async def get_history(call: Call[Service]) -> Reply:
    """The latest revisions of a VPC: when, by whom, what."""
    name = call.subject.core.read(lambda truth: seen_vpc(call, truth).live.name)
    return reply(await asyncio.to_thread(call.subject.core.history, name))


@VPCS.add("POST", "/v1/vpcs/{vpc}/rollback", body=Back, **_MOVE)
async def rollback(call: Call[Service]) -> Reply:
    """Make a VPC as it was at a revision, as a new one; where its ports run stays as it is."""
    check_role("write")
    vpc, asked, core = call.path["vpc"], call.decode(Back).revision, call.subject.core
    if asked < 1:
        raise NotFoundError("unknown-revision", f"VPC {vpc} has no revision {asked}. GET its history")
    revision = core.read(lambda truth: seen_vpc(call, truth).live.revision)
    if asked > revision:
        raise NotFoundError("unknown-revision", f"VPC {vpc} is at revision {revision}, and has no {asked}")
    steps = await asyncio.to_thread(core.back, vpc, asked)
    return await write(call, lambda truth: rollback_edits(vpc_of(truth, vpc), steps), if_match={vpc: revision})
