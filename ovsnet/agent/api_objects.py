"""Endpoints of single objects in a VPC, and of workloads: their writes are patches of what is held."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from ovsnet.agent.agent import Agent
from ovsnet.agent.answers import CountedPort
from ovsnet.agent.api_common import CHANGED, REFUSED, WRITE, held, owner_of, write
from ovsnet.agent.api_ports import get_port
from ovsnet.agent.writes import one_vpc, workload
from ovsnet.http.endpoints import Answer, Call, Endpoints, Reply, reply
from ovsnet.http.parameters import etag
from ovsnet.transport import edits
from ovsnet.transport.edits import KINDS, Kind
from ovsnet.transport.workloads import Workload, workload_of

OBJECTS: Endpoints[Agent] = Endpoints()
Handler = Callable[[Call[Agent]], Awaitable[Reply]]


def _collection(kind: Kind) -> Handler:
    async def get_collection(call: Call[Agent]) -> Reply:
        state = held(call)
        return reply(edits.collection(state, kind), headers=etag(state.revision))

    return get_collection


def _get(kind: Kind, place: str) -> Handler:
    async def get_object(call: Call[Agent]) -> Reply:
        state = held(call)
        return reply(edits.find(state, kind, call.path[place]), headers=etag(state.revision))

    return get_object


def _put(kind: Kind, place: str) -> Handler:
    async def put_object(call: Call[Agent]) -> Reply:
        name: str = call.path[place]
        return await _change(call, lambda state: edits.put(state, kind, name, call.body), create=kind == "networks")

    return put_object


def _delete(kind: Kind, place: str) -> Handler:
    async def delete_object(call: Call[Agent]) -> Reply:
        name: str = call.path[place]
        if call.path["vpc"] not in call.subject.view.states and call.if_match is None:
            return await write(call, lambda: lambda _: [])
        return await _change(call, lambda state: edits.delete(state, kind, name))

    return delete_object


async def _change(call: Call[Agent], change: Any, *, create: bool = False) -> Reply:
    agent = call.subject
    edit = one_vpc(
        call.path["vpc"],
        change,
        owner_of(call),
        {agent.config.host: agent.config.vtep},
        adopt=call.query["adopt"],
        revision=call.if_match,
        create=create,
    )
    return await write(call, lambda: edit)


def _declare(kind: Kind) -> None:
    """The five endpoints of one collection."""
    one, place = edits.SINGULAR[kind], "subnet" if kind == "subnets" else "id"
    base, kept = f"/v1/vpcs/{{vpc}}/{edits.segment(kind)}", edits.TYPES[kind]
    single = f"{base}/{{{place}}}"
    told = edits.SubnetBody if kind == "subnets" else kept
    seen = CountedPort if kind == "ports" else kept
    article = "an" if one[0] in "ae" else "a"
    OBJECTS.add(
        "GET",
        base,
        summary=f"The VPC's {kind.replace('_', ' ')}.",
        answers=(Answer(200, "By id.", (edits.COLLECTION_TYPES[kind],), etag=True),),
        problems=(404,),
    )(_collection(kind))
    OBJECTS.add(
        "GET",
        single,
        summary=f"One {one}.",
        answers=(Answer(200, f"The {one}.", (seen,), etag=True),),
        problems=(404,),
    )(get_port if kind == "ports" else _get(kind, place))
    written: dict[str, Any] = {"query": WRITE, "answers": CHANGED, "problems": REFUSED, "conditional": True}
    OBJECTS.add("PUT", single, summary=f"Declare {article} {one}; again is harmless.", body=told, **written)(
        _put(kind, place)
    )
    OBJECTS.add("DELETE", single, summary=f"Take {article} {one} away; again is harmless.", **written)(
        _delete(kind, place)
    )


for _kind in KINDS:
    _declare(_kind)


@OBJECTS.add("GET", "/v1/workloads/{workload}", answers=(Answer(200, "Its NICs.", (Workload,)),), problems=(404,))
async def get_workload(call: Call[Agent]) -> Reply:
    """All NICs of a machine."""
    return reply(await asyncio.to_thread(workload_of, call.subject.view.states, call.path["workload"]))


@OBJECTS.add("PUT", "/v1/workloads/{workload}", query=WRITE, body=Workload, answers=CHANGED, problems=REFUSED)
async def put_workload(call: Call[Agent]) -> Reply:
    """Declare all NICs of a machine in one call; one that is not named any more goes."""
    return await _workload(call, lambda: call.decode(Workload))


@OBJECTS.add("DELETE", "/v1/workloads/{workload}", query=WRITE, answers=CHANGED, problems=REFUSED)
async def delete_workload(call: Call[Agent]) -> Reply:
    """Take all NICs of a machine away; again is harmless."""
    return await _workload(call, lambda: None)


async def _workload(call: Call[Agent], read: Callable[[], Workload | None]) -> Reply:
    config = call.subject.config
    known = {config.host: config.vtep}
    name, adopt = call.path["workload"], call.query["adopt"]
    return await write(call, lambda: workload(name, read(), owner_of(call), known, adopt=adopt))
