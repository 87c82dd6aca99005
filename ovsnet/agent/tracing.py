"""``POST /v1/trace``: a packet's way, as this host's tables and the states that it holds have it."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from ovsnet.agent import answers
from ovsnet.agent.agent import Agent
from ovsnet.errors import UserError
from ovsnet.pipeline.render import flow_text
from ovsnet.trace import Hop, model_of, ofproto_flow, places, trace
from ovsnet.transport.edits import UnknownVpcError

Number = Annotated[int, msgspec.Meta(ge=0, le=65535)]


class TraceRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A packet from a port (``VPC/NAME``) to another, or to an IP address; ``port`` is its destination port.

    ``family`` 4 or 6 chooses where both ports have both (0: the first that they share).
    """

    source: str
    target: str
    protocol: Literal["icmp", "tcp", "udp", "sctp"] = "icmp"
    port: Number = 0
    family: Literal[0, 4, 6] = 0


def traced(agent: Agent, wanted: TraceRequest) -> answers.TraceAnswer:
    """Follow the packet. Other hosts' switches are taken to be as they should. Raises UserError, UnknownVpcError."""
    vpc, slash, _ = wanted.source.partition("/")
    if not slash:
        raise UserError(f"{wanted.source[:80]}: give the port that sends as VPC/PORT")
    state = agent.view.states.get(vpc)
    if state is None:
        raise UnknownVpcError(vpc)
    model = model_of([state])
    facts = {agent.config.host: agent.facts()} if agent.config.host in model.hosts else {}
    found = trace(
        model, places(model, facts), wanted.source, wanted.target, wanted.protocol, wanted.port, wanted.family
    )
    return answers.TraceAnswer(
        source=found.source,
        target=found.target,
        delivered=found.delivered,
        reached=found.reached,
        reason=found.reason,
        decided_by=found.decided_by,
        hops=tuple(_hop(hop) for hop in found.hops),
    )


def _hop(hop: Hop) -> answers.TraceHop:
    tables = (
        answers.TraceTable(table=step.table.name, flow=flow_text(step.flow.row), object=step.flow.subject.path)
        for step in hop.walk.steps
    )
    return answers.TraceHop(host=hop.host, what=hop.what, packet=ofproto_flow(hop.packet), tables=tuple(tables))
