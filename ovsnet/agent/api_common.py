"""What the endpoints of the hypervisor's API share: the manners of writes, and their answers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from ovsnet.agent import answers, report
from ovsnet.agent.agent import Agent, Edit, Ticket
from ovsnet.agent.writes import ANONYMOUS
from ovsnet.http.endpoints import Answer, Call, Reply, refusal, reply
from ovsnet.http.parameters import ADOPT, DRY_RUN, OWNER, WAIT
from ovsnet.http.problems import problem
from ovsnet.model.types import VpcState
from ovsnet.transport.edits import UnknownVpcError

WRITE = (WAIT, DRY_RUN, ADOPT, OWNER)
"""The parameters of every write."""
REFUSED = (404, 409, 412, 413, 422, 503, 507)
"""The statuses of a write's refusals."""
CHANGED = (
    Answer(200, "It is in force.", (answers.ChangeAnswer, answers.PreviewAnswer)),
    Answer(202, "It is taken over, and not in force yet; `reason` says why.", (answers.ChangeAnswer,)),
)


def owner_of(call: Call[Agent]) -> str:
    """In whose name a call writes: ``owner=``, else the client's certificate, else ``api``."""
    return call.query["owner"] or call.caller or ANONYMOUS


def held(call: Call[Agent]) -> VpcState:
    """The state of the VPC in the request's path. Raises UnknownVpcError."""
    vpc: str = call.path["vpc"]
    state = call.subject.view.states.get(vpc)
    if state is None:
        raise UnknownVpcError(vpc)
    return state


async def write(call: Call[Agent], read: Callable[[], Edit]) -> Reply:
    """Carry out what a request asks for, as a dry run or for real, and answer it; ``read`` makes the edit of it."""
    agent, adopt = call.subject, call.query["adopt"]
    if call.query["dry_run"]:
        return reply(report.preview(await asyncio.to_thread(lambda: agent.preview(read(), adopt=adopt))))
    # In a thread, since a large change elsewhere may hold the agent's lock for long.
    return await _finish(call, await asyncio.to_thread(lambda: agent.edit(read(), adopt=adopt)))


async def _finish(call: Call[Agent], ticket: Ticket) -> Reply:
    """Answer a change once it is on disk, and in force or ``wait`` is over."""
    try:
        await asyncio.wrap_future(ticket.stored)
    except OSError as exc:
        reason = f"taken over, but it is lost when the agent ends: {exc.strerror or exc}"
        return refusal(problem(507, "not-stored", reason))
    if call.query["wait"]:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(ticket.enforced)), call.query["wait"])
    answer = _answer(call.subject, ticket, call.path.get("vpc"))
    return reply(answer, 202 if answer.reason else 200)


def _answer(agent: Agent, ticket: Ticket, named: str | None) -> answers.ChangeAnswer:
    status = agent.reconciler.status
    vpcs: dict[str, answers.ChangedVpc] = {}
    reasons = []
    for vpc in sorted({op.vpc for op in ticket.asked} | ({named} if named else set())):
        state = agent.view.states.get(vpc)
        if state is None:
            vpcs[vpc] = answers.ChangedVpc(revision=None, enforced=None, held=None)
            continue
        hold = status.held.get(vpc)
        enforced = status.enforced.get(vpc)
        reason = None if hold is None else hold.reason
        vpcs[vpc] = answers.ChangedVpc(revision=state.revision, enforced=enforced, held=reason)
        if reason is not None:
            reasons.append(reason)
        elif enforced != state.revision:
            reasons.append(status.fault or "on its way to the switch")
    if not ticket.enforced.done() and not reasons:
        reasons.append(status.fault or "on its way to the switch")
    reason = "; ".join(dict.fromkeys(reasons)) or None
    return answers.ChangeAnswer(changed=bool(ticket.change.operations), vpcs=vpcs, reason=reason)
