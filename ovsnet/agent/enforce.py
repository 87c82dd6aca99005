"""What is in the switch, and the way to change it.

A refused flow voids its whole bundle. So the VPC that it stems from is *held*: its flows stay as they were when the
switch last took them, and the rest of the change goes in without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from ovsnet.compiler import Delta, Desired, Owned, Subject
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.errors import SwitchDisconnected, SwitchError, SwitchTimeout
from ovsnet.openflow.tables import Refused, apply_plan, read_actual
from ovsnet.pipeline.render import flow_text
from ovsnet.pipeline.template import Key, Row
from ovsnet.plan import Actual, Plan, Stray, plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hold:
    """Why a VPC stays at its last good flows: in words, with the flow and the model object that it stems from."""

    reason: str
    flow: str = ""
    path: str = ""


class Enforcer:
    """Keeps account of our flows in a switch and changes them. For one thread.

    ``flows`` are those in the switch, each with its model object; ``held`` the VPCs whose latest flows it refused.
    The flows of the VPCs in ``frozen`` are left as they are, whatever is desired.
    """

    def __init__(self, switch: SwitchPort) -> None:
        self.switch = switch
        self.flows: dict[Key, Owned] = {}
        self.held: dict[str, Hold] = {}
        self.frozen: frozenset[str] = frozenset()
        self._strays: tuple[Stray, ...] = ()

    def read(self) -> Actual:
        """What the switch really has of ours. Raises SwitchError."""
        return read_actual(self.switch)

    def differences(self, actual: Actual) -> list[str]:
        """How the switch differs from what it was left with, a readable line for each flow."""
        missing = [
            f"missing or changed: {flow_text(o.row)}" for k, o in self.flows.items() if actual.rows.get(k) != o.row
        ]
        surplus = [
            f"not ours to be there: {flow_text(row)}" for key, row in actual.rows.items() if key not in self.flows
        ]
        strays = [f"unknown: table {s.table} priority {s.priority} match {s.match.hex()}" for s in actual.strays]
        return [*missing, *surplus, *strays]

    def adopt(self, actual: Actual, desired: Desired, attribute: Callable[[Row], Subject]) -> None:
        """Take what was read as what the switch has.

        ``attribute`` tells the owner of a row that is neither wanted nor remembered.
        """
        before, self.flows = self.flows, {}
        for key, row in actual.rows.items():
            known = desired.flows.get(key) or before.get(key)
            self.flows[key] = Owned(row, known.subject if known is not None else attribute(row))
        self._strays = actual.strays

    def converge(self, desired: Desired) -> int:
        """Bring the switch from what it has to ``desired``, held VPCs too; the number of flows changed.

        Raises SwitchError.
        """
        self.held = {}
        rows = {key: owned.row for key, owned in self.flows.items()}
        keep = {key for key, owned in self.flows.items() if owned.subject.vpc in self.frozen} if self.frozen else ()
        return self._apply(plan(desired, Actual(rows, self._strays), keep=keep))

    def advance(self, desired: Desired, delta: Delta) -> int:
        """Bring the difference of one update in; the number of flows changed. Raises SwitchError."""
        if self._strays or any(
            owned.subject.vpc in self.held or self._owner_changes(owned) for owned in (*delta.add, *delta.remove)
        ):
            return self.converge(desired)  # the difference does not start from what the switch has
        return self._apply(Plan(add=delta.add, remove=tuple(owned.row for owned in delta.remove)))

    def reassign(self, desired: Desired) -> None:
        """Note new owners of flows that stayed the same, as when a VNI moves from one VPC to another."""
        for key, owned in desired.flows.items():
            present = self.flows.get(key)
            if present is not None and present.row == owned.row and present.subject.vpc not in self.held:
                self.flows[key] = owned

    def _apply(self, steps: Plan) -> int:
        """Apply steps in one bundle, or VPC by VPC where that cannot keep a held one apart."""
        if not steps:
            return 0
        givers = {self.flows[o.row.key].subject.vpc for o in (*steps.add, *steps.change) if self._owner_changes(o)}
        if givers:
            return self._apply_apart(steps, givers)
        try:
            return self._apply_once(steps)
        except (SwitchDisconnected, SwitchTimeout):
            raise
        except SwitchError as exc:
            log.error("%s; trying each VPC alone", exc)
            return self._apply_apart(steps, set())

    def _apply_apart(self, steps: Plan, first: set[str]) -> int:
        """Apply the host's flows, then VPC by VPC, those in ``first`` before the others that take over from them."""
        vpcs = {o.subject.vpc for o in (*steps.add, *steps.change)} | {self._vpc_of(row) for row in steps.remove}
        changed = self._apply_once(Plan(strays=steps.strays)) if steps.strays else 0
        for vpc in sorted(vpcs, key=lambda name: (name != "", name not in first, name)):
            part = Plan(
                add=tuple(o for o in steps.add if o.subject.vpc == vpc),
                change=tuple(o for o in steps.change if o.subject.vpc == vpc),
                remove=tuple(row for row in steps.remove if self._vpc_of(row) == vpc),
            )
            taken = {self.flows[o.row.key].subject.vpc for o in (*part.add, *part.change) if self._owner_changes(o)}
            if blockers := sorted(taken & self.held.keys()):
                self._hold(vpc, Hold(f"waits for VPC {blockers[0]}, which is held and still uses what moves here"))
                continue
            try:
                changed += self._apply_once(part)
            except (SwitchDisconnected, SwitchTimeout):
                raise
            except SwitchError as exc:
                self._hold(vpc, Hold(str(exc)))
        return changed

    def _apply_once(self, steps: Plan) -> int:
        """One bundle; takes note of what it changed and of the VPCs that had to be left out."""
        outcome = apply_plan(self.switch, steps, self._owner)
        applied = outcome.applied
        for row in applied.remove:
            self.flows.pop(row.key, None)
        for owned in (*applied.add, *applied.change):
            self.flows[owned.row.key] = owned
        if applied.strays:
            self._strays = ()
        for vpc, refused in outcome.refused.items():
            self._hold(vpc, _refusal(refused))
        return len(applied.add) + len(applied.change) + len(applied.remove) + len(applied.strays)

    def _hold(self, vpc: str, hold: Hold) -> None:
        self.held[vpc] = hold
        log.error("%s is held at its last good flows: %s", f"VPC {vpc}" if vpc else "the host", hold.reason)

    def _owner(self, row: Row) -> Subject | None:
        owned = self.flows.get(row.key)
        return None if owned is None else owned.subject

    def _vpc_of(self, row: Row) -> str:
        owner = self._owner(row)
        return "" if owner is None else owner.vpc

    def _owner_changes(self, owned: Owned) -> bool:
        present = self.flows.get(owned.row.key)
        return present is not None and present.subject.vpc != owned.subject.vpc


def _refusal(refused: Refused) -> Hold:
    return Hold(str(refused), flow_text(refused.flow.row), refused.flow.subject.path)
