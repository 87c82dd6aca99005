"""The hypervisor's API: HTTP on a unix socket. Imported once the first reconciliation is under way."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
from litestar import Litestar, Request, Response, delete, get, patch, post, put
from litestar.exceptions import HTTPException

from ovsnet.agent import report
from ovsnet.agent.agent import Agent, Ticket
from ovsnet.errors import ModelError, UserError
from ovsnet.model import VpcState, decode_state
from ovsnet.openflow.errors import SwitchError
from ovsnet.transport.changes import Operation, Patch, PatchBody, Put, Withdraw
from ovsnet.transport.view import ConflictError

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_BODY = 64 << 20
"""Bytes of a request's body: a state of a quarter of a million ports."""
MAX_WAIT = 600.0

_DURATION = re.compile(r"(\d{1,6}(?:\.\d{1,3})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
Json = Response[bytes]


class BatchItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One operation of ``POST /v1/batch``; ``op`` is ``put``, ``patch`` or ``delete``."""

    op: str
    vpc: str
    body: msgspec.Raw = msgspec.Raw()


class RequestError(Exception):
    """A request that cannot be understood or found; ``status`` is that of HTTP."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


def _json(data: Any, status: int = 200, media_type: str = "application/json") -> Json:
    return Response(msgspec.json.encode(data), status_code=status, media_type=media_type)


def _problem(status: int, code: str, detail: str, **more: Any) -> Json:
    """A problem document (RFC 9457); ``code`` is stable."""
    body = {"title": code.replace("-", " "), "status": status, "code": code, "detail": detail, **more}
    return _json(body, status, "application/problem+json")


def _agent(request: Request[Any, Any, Any]) -> Agent:
    agent: Agent = request.app.state.agent
    return agent


def _flag(request: Request[Any, Any, Any], name: str) -> bool:
    value = request.query_params.get(name, "false")
    if value not in {"true", "false"}:
        raise RequestError(400, "bad-parameter", f"{name}={value}: give true or false")
    return bool(value == "true")


def _wait(request: Request[Any, Any, Any]) -> float:
    """Seconds to wait for enforcement: ``5s``, ``500ms``, ``1m`` or a bare number; 0 if not asked for."""
    text = request.query_params.get("wait")
    if text is None:
        return 0.0
    found = _DURATION.fullmatch(text)
    if found is None:
        raise RequestError(400, "bad-parameter", f"wait={text}: give a duration such as 5s or 500ms")
    return min(MAX_WAIT, float(found[1]) * _UNITS[found[2]])


def _state_of(body: bytes, vpc: str) -> Put:
    try:
        state = msgspec.json.decode(body, type=VpcState)
    except msgspec.ValidationError:
        state = decode_state(body)  # says all that is wrong, with places
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RequestError(400, "malformed-json", f"the body is no JSON: {exc}") from None
    if state.name != vpc:
        raise RequestError(422, "name-mismatch", f"the state is named {state.name}, and the request says {vpc}")
    return Put(state)


def _patch_of(body: bytes, vpc: str) -> Patch:
    fields = _decode(body, PatchBody)
    return Patch(vpc=vpc, **{name: getattr(fields, name) for name in PatchBody.__struct_fields__})


def _decode(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as exc:
        raise RequestError(422, "wrong-structure", str(exc)) from None
    except (msgspec.DecodeError, RecursionError) as exc:
        raise RequestError(400, "malformed-json", f"the body is no JSON: {exc}") from None


def _operations(body: bytes) -> list[Operation]:
    result: list[Operation] = []
    for item in _decode(body, list[BatchItem]):
        if item.op == "put":
            result.append(_state_of(bytes(item.body), item.vpc))
        elif item.op == "patch":
            result.append(_patch_of(bytes(item.body), item.vpc))
        elif item.op == "delete":
            result.append(Withdraw(item.vpc))
        else:
            raise RequestError(422, "wrong-structure", f"op {item.op!r}: give put, patch or delete")
    return result


async def _change(request: Request[Any, Any, Any], read: Callable[[bytes], list[Operation]]) -> Json:
    """Carry out what a request asks for, as a dry run or for real, and answer it."""
    agent, body = _agent(request), await request.body()
    wait, adopt = _wait(request), _flag(request, "adopt")
    if _flag(request, "dry_run"):
        return _json(report.preview(await asyncio.to_thread(lambda: agent.preview(read(body), adopt=adopt))))
    # In a thread, since a large change elsewhere may hold the agent's lock for long.
    ticket = await asyncio.to_thread(lambda: agent.change(read(body), adopt=adopt))
    try:
        await asyncio.wrap_future(ticket.stored)
    except OSError as exc:
        return _problem(507, "not-stored", f"taken over, but it is lost when the agent ends: {exc.strerror or exc}")
    if wait:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(ticket.enforced)), wait)
    return _answer(agent, ticket)


def _answer(agent: Agent, ticket: Ticket) -> Json:
    status = agent.reconciler.status
    vpcs: dict[str, Any] = {}
    reasons = []
    for vpc in sorted({op.vpc for op in ticket.asked}):
        state = agent.view.states.get(vpc)
        if state is None:
            vpcs[vpc] = {"revision": None, "enforced": None, "held": None}
            continue
        hold = status.held.get(vpc)
        enforced = status.enforced.get(vpc)
        vpcs[vpc] = {"revision": state.revision, "enforced": enforced, "held": None if hold is None else hold.reason}
        if hold is not None:
            reasons.append(hold.reason)
        elif enforced != state.revision:
            reasons.append(status.fault or "on its way to the switch")
    if not ticket.enforced.done() and not reasons:
        reasons.append(status.fault or "on its way to the switch")
    body = {
        "changed": bool(ticket.change.operations),
        "vpcs": vpcs,
        "reason": "; ".join(dict.fromkeys(reasons)) or None,
    }
    return _json(body, 202 if reasons else 200)


@get("/healthz")
async def healthz() -> Json:
    """The process lives."""
    return _json({"status": "ok"})


@get("/readyz")
async def readyz(request: Request[Any, Any, Any]) -> Json:
    """The agent enforces all that it was told; 503 with the reasons otherwise."""
    reasons = report.unready(_agent(request))
    return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)


@get("/v1/host")
async def get_host(request: Request[Any, Any, Any]) -> Json:
    """The host, its switch, its VPCs and its ports."""
    return _json(await asyncio.to_thread(report.host, _agent(request)))


@get("/v1/vpcs")
async def list_vpcs(request: Request[Any, Any, Any]) -> Json:
    """The VPCs that this host holds, with revisions."""
    agent = _agent(request)
    states = sorted(agent.view.states.items())
    return _json({name: report.vpc(agent, state, agent.reconciler.status) for name, state in states})


@get("/v1/vpcs/{vpc:str}")
async def get_vpc(request: Request[Any, Any, Any], vpc: str) -> Json:
    """The state of one VPC as it was told."""
    return _json(_held(request, vpc))


@put("/v1/vpcs/{vpc:str}")
async def put_vpc(request: Request[Any, Any, Any], vpc: str) -> Json:
    """Tell the whole state of a VPC; again is harmless."""
    return await _change(request, lambda body: [_state_of(body, vpc)])


@patch("/v1/vpcs/{vpc:str}")
async def patch_vpc(request: Request[Any, Any, Any], vpc: str) -> Json:
    """Tell a change of a VPC from one revision to another."""
    return await _change(request, lambda body: [_patch_of(body, vpc)])


@delete("/v1/vpcs/{vpc:str}", status_code=200)
async def delete_vpc(request: Request[Any, Any, Any], vpc: str) -> Json:
    """This host has nothing to do with a VPC any more; again is harmless."""
    return await _change(request, lambda _: [Withdraw(vpc)])


@post("/v1/batch")
async def post_batch(request: Request[Any, Any, Any]) -> Json:
    """Several operations, all or none, in one bundle."""
    return await _change(request, _operations)


@get("/v1/ports")
async def list_ports(request: Request[Any, Any, Any]) -> Json:
    """The ports declared on this host."""
    return _json(report.ports(_agent(request)))


@get("/v1/ports/{vpc:str}/{name:str}")
async def get_port(request: Request[Any, Any, Any], vpc: str, name: str) -> Json:
    """One port, with what port security has refused from it."""
    agent, state = _agent(request), _held(request, vpc)
    declared = state.ports.get(name)
    if declared is None:
        raise RequestError(404, "unknown-port", f"VPC {vpc} has no port {name} here")
    return _json(await asyncio.to_thread(report.port_with_counters, agent, state, name, declared))


@get("/v1/flows")
async def get_flows(request: Request[Any, Any, Any]) -> Json:
    """The flows of ours; ``source=switch`` reads them back, ``vpc`` and ``table`` choose some of them."""
    query = request.query_params
    source = query.get("source", "account")
    if source not in {"account", "switch"}:
        raise RequestError(400, "bad-parameter", f"source={source}: give account or switch")
    agent = _agent(request)
    return _json(await asyncio.to_thread(report.flows, agent, source, query.get("vpc"), query.get("table")))


def _held(request: Request[Any, Any, Any], vpc: str) -> VpcState:
    state = _agent(request).view.states.get(vpc)
    if state is None:
        raise RequestError(404, "unknown-vpc", f"this host holds no VPC {vpc}")
    return state


def _on_error(_: Request[Any, Any, Any], exc: Exception) -> Json:
    """Every error as a problem document; ours are logged, the caller's are not."""
    if isinstance(exc, RequestError):
        return _problem(exc.status, exc.code, str(exc))
    if isinstance(exc, ModelError):
        return _problem(422, "invalid-model", str(exc), problems=list(exc.problems))
    if isinstance(exc, ConflictError):
        return _problem(409, exc.code, str(exc), current=exc.current)
    if isinstance(exc, UserError):
        return _problem(422, "refused", str(exc))
    if isinstance(exc, SwitchError):
        return _problem(503, "switch-unavailable", str(exc))
    if isinstance(exc, HTTPException):
        return _problem(exc.status_code, "http-error", exc.detail)
    log.error("a request failed", exc_info=exc)
    return _problem(500, "internal-error", "the agent failed to answer; its log says why")


HANDLERS: list[Any] = [
    healthz, readyz, get_host, list_vpcs, get_vpc, put_vpc, patch_vpc, delete_vpc, post_batch, list_ports, get_port,
    get_flows,
]  # fmt: skip


def create_app(agent: Agent) -> Litestar:
    """The API of an agent as an ASGI application."""
    app = Litestar(
        route_handlers=HANDLERS,
        exception_handlers={Exception: _on_error, HTTPException: _on_error},
        openapi_config=None,
        request_max_body_size=MAX_BODY,
        logging_config=None,
    )
    app.state.agent = agent
    return app
