"""Endpoints of the controller as a whole: models, hosts, batches, workloads, status, audit, events."""

from __future__ import annotations

import asyncio
from typing import Any

from ovsnet.controller.access import check_role, check_site, principal, sees
from ovsnet.controller.api.answers import BatchItem, Health, HostAnswer, HostState, Readiness, SiteStatus, Underlaid
from ovsnet.controller.api.metrics import METRICS
from ovsnet.controller.api.service import CHANGED, READ, REFUSED, WRITE, Service, wanted_of, write
from ovsnet.controller.errors import NotFoundError
from ovsnet.controller.history import AuditEntry
from ovsnet.controller.intents import (
    Placement,
    apply_edits,
    batch_edits,
    decode_batch,
    model_of,
    placement_edits,
    workload_edits,
    workload_of,
)
from ovsnet.controller.requests import Edit, PutHost, PutUnderlay
from ovsnet.controller.truth import Truth
from ovsnet.http import metrics, stream
from ovsnet.http.endpoints import Answer, Call, Endpoints, Reply, reply
from ovsnet.http.parameters import number
from ovsnet.model import decode_declared
from ovsnet.model.types import Host, Model, Underlay
from ovsnet.transport.messages import RequestItem
from ovsnet.transport.workloads import Workload

SITE: Endpoints[Service] = Endpoints()
_WRITE: dict[str, Any] = {"query": WRITE, "answers": CHANGED, "problems": REFUSED}
_TELLS = (401, 403)
_EVENTS = (
    "Events. `commit`: `tx`, `vpcs` with their revisions (`null`: gone), `hosts` that are declared (true) or gone. "
    "`host`: its name, `state` `back`, `lost` or `refused` (it answers, and cannot be told), and the `reason`."
)
_BEFORE = number("before", "Only entries with a lower id than this.")
_LIMIT = number("limit", "At most so many, 100 when left out, and never more than 1000.")


@SITE.add("GET", "/healthz", unversioned=True, answers=(Answer(200, "It lives.", (Health,)),))
async def healthz(_: Call[Service]) -> Reply:
    """The process lives."""
    return reply(Health())


@SITE.add(
    "GET",
    "/readyz",
    unversioned=True,
    answers=(Answer(200, "It is ready.", (Readiness,)), Answer(503, "It is not.", (Readiness,))),
)
async def readyz(call: Call[Service]) -> Reply:
    """Calls can be carried out; 503 with the reasons otherwise."""
    reasons = await asyncio.to_thread(call.subject.ready)
    return reply(Readiness(ready=not reasons, reasons=reasons), 503 if reasons else 200)


@SITE.add("GET", "/metrics", unversioned=True, answers=(Answer(200, "Metrics.", media=metrics.TEXT),), problems=_TELLS)
async def get_metrics(call: Call[Service]) -> Reply:
    """Metrics, as Prometheus reads them."""
    check_site("read")
    body = await asyncio.to_thread(metrics.exposition, METRICS, (call.subject, call.requests))
    return Reply(body, media_type=metrics.TEXT)


@SITE.add("GET", "/v1/model", answers=(Answer(200, "All of it.", (Model,)),), problems=_TELLS)
async def get_model(call: Call[Service]) -> Reply:
    """Everything that is declared, by whomever, as one model."""
    check_site("read")
    return reply(call.subject.core.read(model_of))


@SITE.add("POST", "/v1/apply", body=Model, **_WRITE)
async def apply(call: Call[Service]) -> Reply:
    """Make what an owner (the model's name) declares be this model: more is made, other changed, the rest goes."""
    model = await asyncio.to_thread(decode_declared, call.body, Model)
    owner, adopt = call.query["owner"] or model.name, call.query["adopt"]
    return await write(call, lambda truth: apply_edits(truth, model, owner, adopt=adopt), owner=owner)


@SITE.add("POST", "/v1/batch", body=list[BatchItem], **_WRITE)
async def batch(call: Call[Service]) -> Reply:
    """Several VPCs in one transaction: put, patch or delete, all or none."""
    asked = await asyncio.to_thread(lambda: decode_batch(call.decode(list[RequestItem])))
    owner = call.query["owner"] or principal().name
    return await write(call, lambda truth: batch_edits(truth, asked, owner), if_match=asked.revisions)


@SITE.add("POST", "/v1/placements", body=list[Placement], **_WRITE)
async def place(call: Call[Service]) -> Reply:
    """Ports run on other hosts from now on, all at once: after the death of a host or a rack."""
    placements = call.decode(list[Placement])
    return await write(call, lambda truth: placement_edits(truth, placements))


@SITE.add("GET", "/v1/workloads/{workload}", answers=(Answer(200, "Its NICs.", (Workload,)),), problems=READ)
async def get_workload(call: Call[Service]) -> Reply:
    """All NICs of a machine."""
    caller, ident = principal(), call.path["workload"]

    def look(truth: Truth) -> Workload:
        found = workload_of(truth, ident)
        if not all(sees(caller, truth.vpcs[nic.vpc].meta.tenant) for nic in found.nics):
            raise NotFoundError("unknown-workload", f"no port belongs to a workload {ident}")
        return found

    return reply(call.subject.core.read(look))


@SITE.add("PUT", "/v1/workloads/{workload}", body=Workload, **_WRITE)
async def put_workload(call: Call[Service]) -> Reply:
    """Declare all NICs of a machine; others that it had go."""
    workload = call.decode(Workload)
    return await write(call, lambda truth: workload_edits(truth, call.path["workload"], workload))


@SITE.add("DELETE", "/v1/workloads/{workload}", **_WRITE)
async def delete_workload(call: Call[Service]) -> Reply:
    """Take all NICs of a machine away; again is harmless."""
    return await write(call, lambda truth: workload_edits(truth, call.path["workload"], Workload(())))


@SITE.add("GET", "/v1/hosts", answers=(Answer(200, "By name.", (dict[str, HostAnswer],)),), problems=_TELLS)
async def list_hosts(call: Call[Service]) -> Reply:
    """The hosts of the site."""
    check_site("read")
    hosts = sorted(call.subject.core.hosts().items())
    return reply({name: HostAnswer(declared=one.host, owner=one.owner) for name, one in hosts})


@SITE.add("GET", "/v1/hosts/{host}", answers=(Answer(200, "As declared.", (HostAnswer,)),), problems=READ)
async def get_host(call: Call[Service]) -> Reply:
    """One host."""
    check_site("read")
    found = call.subject.core.read(lambda truth: truth.hosts.get(call.path["host"]))
    if found is None:
        raise NotFoundError("unknown-host", f"there is no host {call.path['host']}")
    return reply(HostAnswer(declared=found.host, owner=found.owner))


@SITE.add("PUT", "/v1/hosts/{host}", body=Host, **_WRITE)
async def put_host(call: Call[Service]) -> Reply:
    """Declare a host; a new VTEP becomes a change of every VPC that has ports on it."""
    host = decode_declared(call.body, Host)
    return await write(call, lambda _: [PutHost(call.path["host"], host)])


@SITE.add("DELETE", "/v1/hosts/{host}", **_WRITE)
async def delete_host(call: Call[Service]) -> Reply:
    """Take a host away that has no ports; again is harmless."""
    return await write(call, lambda _: [PutHost(call.path["host"], None)])


@SITE.add("GET", "/v1/underlay", answers=(Answer(200, "As declared.", (Underlaid,)),), problems=_TELLS)
async def get_underlay(call: Call[Service]) -> Reply:
    """The physical network that carries the tunnels."""
    check_site("read")
    return reply(call.subject.core.read(lambda truth: Underlaid(declared=truth.underlay, owner=truth.underlay_owner)))


@SITE.add("PUT", "/v1/underlay", body=Underlay, **_WRITE)
async def put_underlay(call: Call[Service]) -> Reply:
    """Declare the physical network that carries the tunnels."""
    edits: list[Edit] = [PutUnderlay(decode_declared(call.body, Underlay))]
    return await write(call, lambda _: edits)


@SITE.add("GET", "/v1/status", answers=(Answer(200, "By host.", (SiteStatus,)),), problems=_TELLS)
async def get_status(call: Call[Service]) -> Reply:
    """Where every host stands, from what it reported."""
    check_site("read")
    return reply(await asyncio.to_thread(_status, call.subject))


def _status(service: Service) -> SiteStatus:
    wanted = service.core.read(wanted_of)
    hosts = {}
    for name, vpcs in sorted(wanted.items()):
        one = service.status.host(name)
        late = {vpc: why for vpc, rev in vpcs.items() for why in service.status.late({name: {vpc: rev}}).values()}
        hosts[name] = HostState(
            reason=one.reason, vpcs=dict(one.vpcs), late=late, faults=one.faults, misplaced=one.misplaced
        )
    converged = not any(one.late for one in hosts.values())
    return SiteStatus(converged=converged, hosts=hosts, faults=service.faults())


@SITE.add(
    "GET",
    "/v1/audit",
    query=(_BEFORE, _LIMIT),
    answers=(Answer(200, "The last first.", (list[AuditEntry],)),),
    problems=(401, 403, 503),
)
async def get_audit(call: Call[Service]) -> Reply:
    """Who asked for which change, when, and with what outcome."""
    check_site("admin")
    limit = 100 if call.query["limit"] is None else min(1000, call.query["limit"])
    core, before = call.subject.core, call.query["before"]
    return reply(await asyncio.to_thread(core.audit, before=before, limit=limit))


@SITE.add(
    "GET",
    "/v1/events",
    query=(stream.SINCE,),
    answers=(Answer(200, _EVENTS, media=stream.MEDIA_TYPE),),
    problems=_TELLS,
)
async def get_events(call: Call[Service]) -> Reply:
    """What happens, as server-sent events: commit, host; reset when some were missed."""
    check_role("read")
    check_site("read")
    return stream.event_stream(call.subject.events, call.query["since"], call.headers)
