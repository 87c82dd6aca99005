"""Endpoints of the host as a whole: health, state, flows, events, traces, metrics, and whole VPCs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec
from litestar import Response
from litestar.response import Stream

from ovsnet.agent import answers, report
from ovsnet.agent.agent import Agent, Edit
from ovsnet.agent.api_common import CHANGED, REFUSED, WRITE, held, write
from ovsnet.agent.metrics import METRICS, Observed
from ovsnet.agent.reporting import reports
from ovsnet.agent.tracing import TraceRequest, traced
from ovsnet.agent.writes import whole
from ovsnet.http import stream
from ovsnet.http.endpoints import Answer, Call, Endpoints, Reply, reply
from ovsnet.http.metrics import TEXT, exposition
from ovsnet.http.parameters import choice, etag, name_of
from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Operation, PatchBody, Withdraw
from ovsnet.transport.messages import RequestItem
from ovsnet.transport.operations import operations_of, patch_of, put_of
from ovsnet.transport.shapes import AnyItem

SITE: Endpoints[Agent] = Endpoints()


class ConfirmRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which VPCs are confirmed; left out, all that the host holds."""

    vpcs: tuple[str, ...] | None = None


_FLOWS = (
    choice("source", "What the agent has put there, or what the switch says now.", "account", "switch"),
    name_of("vpc", "Only this VPC's flows."),
    name_of("table", "Only this table's flows."),
)


@SITE.add("GET", "/healthz", unversioned=True, answers=(Answer(200, "It lives.", (answers.Health,)),))
async def healthz(_: Call[Agent]) -> Reply:
    """The process lives."""
    return reply(answers.Health())


@SITE.add(
    "GET",
    "/readyz",
    unversioned=True,
    answers=(Answer(200, "Ready.", (answers.Readiness,)), Answer(503, "Not ready.", (answers.Readiness,))),
)
async def readyz(call: Call[Agent]) -> Reply:
    """The agent enforces all that it was told; 503 with the reasons otherwise."""
    reasons = tuple(report.unready(call.subject))
    return reply(answers.Readiness(ready=not reasons, reasons=reasons), 503 if reasons else 200)


@SITE.add("GET", "/metrics", unversioned=True, answers=(Answer(200, "The text format of Prometheus.", media=TEXT),))
async def metrics(call: Call[Agent]) -> Reply:
    """Metrics for Prometheus (docs/metrics.md)."""
    text = await asyncio.to_thread(exposition, METRICS, Observed(call.subject, call.requests))
    return Response(text, media_type=TEXT)


@SITE.add("GET", "/v1/host", unversioned=True, answers=(Answer(200, "The host.", (answers.HostAnswer,)),))
async def get_host(call: Call[Agent]) -> Reply:
    """The host, its switch, its VPCs with revisions and digests, and its ports."""
    return reply(await asyncio.to_thread(report.host, call.subject))


@SITE.add(
    "POST",
    "/v1/host/confirm",
    body=ConfirmRequest,
    optional_body=True,
    answers=(Answer(200, "What still waits.", (answers.ConfirmAnswer,)),),
    problems=(413, 422),
)
async def confirm_host(call: Call[Agent]) -> Reply:
    """After a boot: what is held is still placed on this host, so its ports may come up."""
    wanted = call.decode(ConfirmRequest) if call.body else ConfirmRequest()
    await asyncio.to_thread(call.subject.confirm, wanted.vpcs)
    return reply(answers.ConfirmAnswer(waiting=tuple(sorted(call.subject.boot.waiting))))


@SITE.add(
    "GET",
    "/v1/reports",
    query=(name_of("owner", "Only what concerns this owner's VPCs."),),
    answers=(Answer(200, "ReportMessages as events.", media=stream.MEDIA_TYPE),),
)
async def get_reports(call: Call[Agent]) -> Reply:
    """What goes to whoever decides, as server-sent events: a full report, and then what changes."""
    owner = call.query["owner"] or ""
    return Stream(reports(call.subject, owner), media_type=stream.MEDIA_TYPE, headers={"Cache-Control": "no-store"})


@SITE.add("GET", "/v1/events", query=(stream.SINCE,), answers=(Answer(200, "Events.", media=stream.MEDIA_TYPE),))
async def get_events(call: Call[Agent]) -> Reply:
    """What changes, as server-sent events: port, enforced, drift, conflict, log; reset when some were missed."""
    return stream.event_stream(call.subject.events, call.query["since"], call.headers)


@SITE.add(
    "GET", "/v1/flows", query=_FLOWS, answers=(Answer(200, "Flows.", (list[answers.FlowAnswer],)),), problems=(503,)
)
async def get_flows(call: Call[Agent]) -> Reply:
    """The flows of ours, in words and parts."""
    query = call.query
    return reply(await asyncio.to_thread(report.flows, call.subject, query["source"], query["vpc"], query["table"]))


@SITE.add(
    "POST",
    "/v1/trace",
    body=TraceRequest,
    answers=(Answer(200, "The packet's way.", (answers.TraceAnswer,)),),
    problems=(404, 413, 422),
)
async def post_trace(call: Call[Agent]) -> Reply:
    """Follow one packet through the tables, and name the model object that decides."""
    wanted = call.decode(TraceRequest)
    return reply(await asyncio.to_thread(traced, call.subject, wanted))


@SITE.add("GET", "/v1/vpcs", answers=(Answer(200, "By name.", (dict[str, answers.VpcAnswer],)),))
async def list_vpcs(call: Call[Agent]) -> Reply:
    """The VPCs that this host holds, with revisions and digests."""
    agent = call.subject

    def look() -> dict[str, answers.VpcAnswer]:
        status = agent.reconciler.status
        return {name: report.vpc(agent, state, status) for name, state in sorted(agent.view.states.items())}

    return reply(await asyncio.to_thread(look))


@SITE.add("GET", "/v1/vpcs/{vpc}", answers=(Answer(200, "The state.", (VpcState,), etag=True),), problems=(404,))
async def get_vpc(call: Call[Agent]) -> Reply:
    """The state of one VPC as it was told."""
    state = held(call)
    body = await asyncio.to_thread(msgspec.json.encode, state)
    return Response(body, media_type="application/json", headers=etag(state.revision))


@SITE.add("PUT", "/v1/vpcs/{vpc}", query=WRITE, body=VpcState, answers=CHANGED, problems=REFUSED, conditional=True)
async def put_vpc(call: Call[Agent]) -> Reply:
    """Tell the whole state of a VPC; again is harmless, an older revision is refused."""
    return await _whole(call, lambda: [put_of(call.body, call.path["vpc"])])


@SITE.add("PATCH", "/v1/vpcs/{vpc}", query=WRITE, body=PatchBody, answers=CHANGED, problems=REFUSED, conditional=True)
async def patch_vpc(call: Call[Agent]) -> Reply:
    """Tell a change of a VPC from one revision to another; a gap is refused with the revision that is held."""
    return await _whole(call, lambda: [patch_of(call.body, call.path["vpc"])])


@SITE.add("DELETE", "/v1/vpcs/{vpc}", query=WRITE, answers=CHANGED, problems=REFUSED, conditional=True)
async def delete_vpc(call: Call[Agent]) -> Reply:
    """This host has nothing to do with a VPC any more; again is harmless."""
    return await _whole(call, lambda: [Withdraw(call.path["vpc"])])


@SITE.add("POST", "/v1/batch", query=WRITE, body=list[AnyItem], answers=CHANGED, problems=REFUSED)
async def post_batch(call: Call[Agent]) -> Reply:
    """Several operations on whole VPCs, all or none, in one bundle."""
    return await _whole(call, lambda: operations_of(call.decode(list[RequestItem])))


async def _whole(call: Call[Agent], read: Callable[[], Sequence[Operation]]) -> Reply:
    """A write of whole VPCs; ``read`` decodes it, which may take a while."""
    query = call.query

    def edit() -> Edit:
        return whole(read(), query["owner"], call.caller, adopt=query["adopt"], revision=call.if_match)

    return await write(call, edit)
