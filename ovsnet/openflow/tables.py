"""A switch's tables as rows: reading them back, and applying a plan so that one refused flow stays its VPC's affair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ovsnet.desired import Owned, Subject
from ovsnet.openflow.api import BundleResult, Refusal, SwitchPort
from ovsnet.openflow.codec import decode, encode_plan
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.errors import SwitchError
from ovsnet.pipeline.render import flow_text
from ovsnet.pipeline.template import COOKIE_MASK, COOKIE_OWNER, Row
from ovsnet.plan import Actual, Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


@dataclass(frozen=True)
class Refused:
    """A flow that the switch refused; ``error`` is OpenFlow's type and code (OpenFlow 1.4, 7.5.4)."""

    flow: Owned
    error: tuple[int, int]

    def __str__(self) -> str:
        """One line: the model object, the error, the flow."""
        kind, code = self.error
        return f"{self.flow.subject.path}: the switch refused (error {kind}/{code}): {flow_text(self.flow.row)}"


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: ``applied`` holds now; the VPCs in ``refused`` were left as they were, with the reason."""

    applied: Plan
    refused: dict[str, Refused]


def read_actual(port: SwitchPort, timeout: float = 60.0) -> Actual:
    """The flows of ours that the switch has. Raises SwitchError."""
    return decode(parse_flow_stats(port.dump_flows(COOKIE_OWNER, COOKIE_MASK, timeout=timeout)))


def apply_plan(
    port: SwitchPort, plan: Plan, owner_of: Callable[[Row], Subject | None] = lambda _row: None, timeout: float = 60.0
) -> Outcome:
    """Apply a plan in one atomic bundle, without the VPCs of which the switch refuses a flow.

    ``owner_of`` tells the owner of a row to be removed, so that a refused VPC keeps its old flows too. Raises
    SwitchError when the connection fails, or when the switch refuses what belongs to no VPC.
    """
    refused: dict[str, Refused] = {}
    while True:
        count = len(plan.strays) + len(plan.add) + len(plan.change) + len(plan.remove)
        if not count:
            return Outcome(plan, refused)
        current = plan
        result = port.apply_bundle(lambda bundle, xid: encode_plan(current, bundle, xid), count, timeout)  # noqa: B023
        if result.committed:
            return Outcome(plan, refused)
        new = _blame(plan, result, owner_of)
        refused.update(new)
        plan = _without(plan, new.keys(), owner_of)


def _blame(plan: Plan, result: BundleResult, owner_of: Callable[[Row], Subject | None]) -> dict[str, Refused]:
    """The VPCs whose flows were refused. Raises SwitchError when none can be blamed."""
    found: dict[str, Refused] = {}
    for refusal in result.refusals:
        flow = _flow_at(plan, refusal, owner_of)
        if flow is not None and flow.subject.vpc:
            found.setdefault(flow.subject.vpc, Refused(flow, (refusal.type, refusal.code)))
    if not found:
        errors = ", ".join(f"{r.type}/{r.code}" for r in result.refusals) or "no error named"
        raise SwitchError(f"the switch refused a bundle, and no VPC's flow is to blame: {errors}")
    return found


def _flow_at(plan: Plan, refusal: Refusal, owner_of: Callable[[Row], Subject | None]) -> Owned | None:
    if refusal.index is None or refusal.index < len(plan.strays):
        return None
    index = refusal.index - len(plan.strays)
    flows = (*plan.add, *plan.change)
    if index < len(flows):
        return flows[index]
    index -= len(flows)
    if index >= len(plan.remove):
        return None
    row = plan.remove[index]
    subject = owner_of(row)
    return Owned(row, subject) if subject else None


def _without(plan: Plan, vpcs: Collection[str], owner_of: Callable[[Row], Subject | None]) -> Plan:
    """The plan without anything of these VPCs, and without the removals that would undo what they keep."""
    names = set(vpcs)

    def keeps(row: Row) -> bool:
        owner = owner_of(row)
        return owner is not None and owner.vpc in names

    return replace(
        plan,
        add=tuple(flow for flow in plan.add if flow.subject.vpc not in names),
        change=tuple(flow for flow in plan.change if flow.subject.vpc not in names),
        remove=tuple(row for row in plan.remove if not keeps(row)),
    )
