"""Endpoints of this host's ports: how they stand, plugging, and migration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Annotated

import msgspec

from ovsnet.agent import answers, report
from ovsnet.agent.agent import Agent
from ovsnet.agent.answers import CountedPort, PortAnswer
from ovsnet.agent.api_common import CHANGED, REFUSED, WRITE, held, owner_of, write
from ovsnet.agent.plugging import PlugRequest, plug, unplug
from ovsnet.agent.writes import one_vpc
from ovsnet.http.endpoints import Answer, Call, Endpoints, Reply, reply
from ovsnet.http.parameters import NAME, WAIT, etag
from ovsnet.model.types import VpcState
from ovsnet.transport import moves
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.edits import port_of
from ovsnet.transport.view import ConflictError

PORTS: Endpoints[Agent] = Endpoints()
Name = Annotated[str, msgspec.Meta(pattern=f"^{NAME}$")]
_VERB = "/v1/vpcs/{vpc}/ports/{id}/"
LOOK_AGAIN = 0.01
"""Seconds between two looks at a port that is waited for."""


class PrepareRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ``host`` that a port is about to move to; its ``vtep``, unless the VPC knows it already."""

    host: Name
    vtep: str | None = None


class ActivateRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The ``host`` that the port was prepared for, so that the call may be repeated."""

    host: Name | None = None


@PORTS.add("GET", "/v1/ports", answers=(Answer(200, "The ports.", (list[PortAnswer],)),))
async def list_ports(call: Call[Agent]) -> Reply:
    """The ports that are on this host, or about to be."""
    return reply(report.ports(call.subject))


@PORTS.add(
    "GET", "/v1/ports/{vpc}/{id}", answers=(Answer(200, "The port.", (CountedPort,), etag=True),), problems=(404,)
)
async def get_port(call: Call[Agent]) -> Reply:
    """One port, with what port security has refused from it."""
    state, name = held(call), call.path["id"]
    declared = port_of(state, name)
    seen = await asyncio.to_thread(report.counted_port, call.subject, state, name, declared)
    return reply(seen, headers=etag(state.revision))


@PORTS.add(
    "POST",
    _VERB + "plug",
    query=(WAIT,),
    body=PlugRequest,
    optional_body=True,
    answers=(
        Answer(200, "It is plugged.", (answers.PlugAnswer,)),
        Answer(202, "It is plugged, and not enforced yet; `port.reason` says why.", (answers.PlugAnswer,)),
    ),
    problems=(404, 409, 413, 422, 503),
)
async def plug_port(call: Call[Agent]) -> Reply:
    """Plug a port in: make a veth pair or a tap, or take an existing device, and bind it; again is harmless."""
    agent, state, name = call.subject, held(call), call.path["id"]
    port = port_of(state, name)
    if agent.config.host not in port.hosts:
        where = f"declared on {port.host}" if port.host else "placed on no host"
        message = f"port {state.name}/{name} is {where}. Plug it there, or place it on {agent.config.host} first"
        raise ConflictError("not-here", message, state.revision)
    wanted = call.decode(PlugRequest) if call.body else PlugRequest()
    done = await asyncio.to_thread(plug, agent.ovsdb, state.name, name, port, wanted)
    seen = await _enforced(call, name, call.query["wait"])
    answer = answers.PlugAnswer(interface=done.interface, peer=done.peer, changed=done.changed, port=seen)
    return reply(answer, 200 if seen.enforced or not call.query["wait"] else 202)


@PORTS.add(
    "POST",
    _VERB + "unplug",
    answers=(Answer(200, "It is unplugged.", (answers.UnplugAnswer,)),),
    problems=(404, 422, 503),
)
async def unplug_port(call: Call[Agent]) -> Reply:
    """Undo what plug did, and nothing else; again is harmless."""
    return reply(await _unplug(call))


@PORTS.add(
    "POST", _VERB + "prepare", query=WRITE, body=PrepareRequest, answers=CHANGED, problems=REFUSED, conditional=True
)
async def prepare_port(call: Call[Agent]) -> Reply:
    """A port is about to move: from now on both hosts get what is sent to it."""
    wanted, name = call.decode(PrepareRequest), call.path["id"]
    known = {wanted.host: wanted.vtep} if wanted.vtep else {}
    return await _move(call, lambda state: moves.prepare(state, name, wanted.host), known)


@PORTS.add(
    "POST",
    _VERB + "activate",
    query=WRITE,
    body=ActivateRequest,
    optional_body=True,
    answers=CHANGED,
    problems=REFUSED,
    conditional=True,
)
async def activate_port(call: Call[Agent]) -> Reply:
    """The port has moved: it is on the other host now, in its next epoch."""
    wanted = call.decode(ActivateRequest) if call.body else ActivateRequest()
    return await _move(call, lambda state: moves.activate(state, call.path["id"], wanted.host), {})


@PORTS.add("POST", _VERB + "release", query=WRITE, answers=CHANGED, problems=REFUSED, conditional=True)
async def release_port(call: Call[Agent]) -> Reply:
    """Give a migration up, or, on the host that the port has left, unplug what plug made there."""
    agent, state, name = call.subject, held(call), call.path["id"]
    port = port_of(state, name)
    leaves = agent.config.host not in {port.host, None} and port.moving_to is None
    if leaves and not call.query["dry_run"]:
        await _unplug(call)
    return await _move(call, lambda held: moves.release(held, name), {})


async def _move(call: Call[Agent], change: Callable[[VpcState], PatchBody | None], known: dict[str, str]) -> Reply:
    config = call.subject.config
    vteps = {config.host: config.vtep} | known
    adopt = call.query["adopt"]
    edit = one_vpc(call.path["vpc"], change, owner_of(call), vteps, adopt=adopt, revision=call.if_match)
    return await write(call, lambda: edit)


async def _unplug(call: Call[Agent]) -> answers.UnplugAnswer:
    agent, vpc, name = call.subject, call.path["vpc"], call.path["id"]
    state = agent.view.states.get(vpc)
    port = None if state is None else state.ports.get(name)
    gone = await asyncio.to_thread(unplug, agent.ovsdb, vpc, name, port)
    return answers.UnplugAnswer(changed=bool(gone), interfaces=tuple(gone))


async def _enforced(call: Call[Agent], name: str, patience: float) -> PortAnswer:
    """The port once it is enforced, or as it is after ``patience`` seconds. Raises UnknownObjectError if it goes."""
    end = time.monotonic() + patience
    while True:
        state = held(call)
        seen = report.port(call.subject, state.name, name, port_of(state, name))
        if seen.enforced or time.monotonic() >= end:
            return seen
        await asyncio.sleep(LOOK_AGAIN)
