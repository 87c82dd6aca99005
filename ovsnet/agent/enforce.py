"""What is in the switch, and the way to change it.

A refused flow voids its whole bundle. So the VPC that it stems from is *held*: its flows stay as they were when the
switch last took them, and the rest of the change goes in without it.
"""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

from ovsnet.desired import Delta, Desired, Owned, Subject
from ovsnet.log import about
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.codec import encode_plan
from ovsnet.openflow.errors import SwitchDisconnected, SwitchError, SwitchTimeout
from ovsnet.openflow.meters import ADD, DELETE, METERS, change_meters, keep_meters, lacking, of_port
from ovsnet.openflow.tables import Refused, apply_plan, read_actual
from ovsnet.pipeline import fields
from ovsnet.pipeline.render import flow_text
from ovsnet.pipeline.template import Copy, FlowTemplate, Key, Row
from ovsnet.plan import Actual, Plan, Stray, plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hold:
    """Why a VPC stays at its last good flows: in words, with the flow and the model object that it stems from."""

    reason: str
    flow: str = ""
    path: str = ""


class Difference(NamedTuple):
    """A flow that is not as it was left, in words, and the model object that it stems from, if that is known."""

    text: str
    subject: Subject | None = None


OTHER_METERS = Difference("the meters are not ours")


class Enforcer:
    """Keeps account of our flows in a switch and changes them. For one thread.

    ``flows`` are those in the switch, each with its model object; ``held`` the VPCs whose latest flows it refused,
    ``refusals`` how often that was. The flows of the VPCs in ``frozen`` are left as they are, whatever is desired.
    """

    def __init__(self, switch: SwitchPort) -> None:
        self.switch = switch
        self.flows: dict[Key, Owned] = {}
        self.held: dict[str, Hold] = {}
        self.refusals = 0
        self.frozen: frozenset[str] = frozenset()
        self._strays: tuple[Stray, ...] = ()
        self._claims: dict[str, frozenset[int]] = {}
        self._last_claimed: dict[int, str] = {}
        self._moved = False
        self._meterless = False
        self._meters: set[int] = set()  # those of single ports that are in the switch
        self._metered: Counter[int] = Counter()  # how many flows use each

    def read(self) -> Actual:
        """What the switch really has of ours. Raises SwitchError."""
        return read_actual(self.switch)

    def read_with_meters(self, desired: Desired) -> Actual:
        """The same, once our meters are in place. Flows that a meter came too late for count as not there.

        Raises SwitchError; a switch that refuses meters only gets a warning.
        """
        try:
            wanted = {*_port_meters(desired), *_port_meters(self.flows.values())}
            added = keep_meters(self.switch, [*METERS, *map(of_port, wanted)])
            self._meters = wanted
        except (SwitchDisconnected, SwitchTimeout):
            raise
        except SwitchError as exc:
            log.warning("%s: without meters nothing limits how many packets come to be answered or logged", exc)
            added, self._meterless = False, True
        else:
            self._meterless = False
        actual = self.read()
        if added:
            rows = {key: row for key, row in actual.rows.items() if not _metered(row.template)}
            actual = replace(actual, rows=rows)
        return actual

    def lacks_meters(self) -> bool:
        """Whether the switch has other meters than ours, though it took them before. Raises SwitchError."""
        return not self._meterless and bool(lacking(self.switch, [*METERS, *map(of_port, list(self._meters))]))

    def differences(self, actual: Actual) -> list[Difference]:
        """How the switch differs from what it was left with, flow by flow."""
        missing = [
            Difference(f"missing or changed: {flow_text(o.row)}", o.subject)
            for key, o in self.flows.items()
            if actual.rows.get(key) != o.row
        ]
        surplus = [
            Difference(f"not ours to be there: {flow_text(row)}")
            for key, row in actual.rows.items()
            if key not in self.flows
        ]
        strays = [
            Difference(f"unknown: table {s.table} priority {s.priority} match {s.match.hex()}") for s in actual.strays
        ]
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
        self._metered = Counter(_port_meters(self.flows.values()))

    def claim(self, vpc: str, vnis: frozenset[int]) -> None:
        """Note the VNIs that a VPC's networks and routers have from now on; none for a VPC that is gone."""
        self._moved |= any(self._last_claimed.get(vni, vpc) != vpc for vni in vnis)
        self._last_claimed |= dict.fromkeys(vnis, vpc)
        self._claims[vpc] = vnis

    def converge(self, desired: Desired) -> int:
        """Bring the switch from what it has to ``desired``, held VPCs too; the number of flows changed.

        Raises SwitchError.
        """
        self.held = {}
        empty = not self.flows
        rows = {key: owned.row for key, owned in self.flows.items()}
        keep = {key for key, owned in self.flows.items() if owned.subject.vpc in self.frozen} if self.frozen else ()
        steps = plan(desired, Actual(rows, self._strays), keep=keep)
        blockers = self._blockers(steps)
        if not steps and not blockers:
            return 0
        if not blockers:
            changed = self._apply(steps, desired)
        elif set().union(*blockers.values()) <= self._vpcs(steps) and self._attempt(steps):
            changed = sum(steps.counts.values())
        else:
            changed = self._apply_apart(steps, desired)
        self._moved = False
        if not empty:
            self._reassign(desired)
        return changed

    def advance(self, desired: Desired, delta: Delta) -> int:
        """Bring the difference of one update in; the number of flows changed. Raises SwitchError."""
        if (
            self._strays
            or self._moved
            or any(o.subject.vpc in self.held or self._owner_changes(o) for o in (*delta.add, *delta.remove))
        ):
            return self.converge(desired)  # the difference does not start from what the switch has
        return self._apply(Plan(add=delta.add, remove=tuple(owned.row for owned in delta.remove)), desired)

    def _apply(self, steps: Plan, desired: Desired) -> int:
        """Apply steps in one bundle, or VPC by VPC if the switch refuses it without naming a flow."""
        if not steps:
            return 0
        try:
            return self._apply_once(steps)
        except (SwitchDisconnected, SwitchTimeout):
            raise
        except SwitchError as exc:
            log.error("%s; trying each VPC alone", exc)
            return self._apply_apart(steps, desired)

    def _attempt(self, steps: Plan) -> bool:
        """Apply steps in which VPCs take over from each other, all or nothing; false if the switch refuses."""
        self._add_meters(steps)
        count = sum(steps.counts.values())
        result = self.switch.apply_bundle(lambda bundle_id, xid: encode_plan(steps, bundle_id, xid), count)
        if result.committed:
            self._record(steps)
        return result.committed

    def _apply_apart(self, steps: Plan, desired: Desired) -> int:
        """Apply the host's flows, then VPC by VPC, each once nobody else has flows in its networks any more."""
        changed = self._apply_once(Plan(strays=steps.strays)) if steps.strays else 0
        contested = bool(self._blockers(steps))
        waiting = sorted(self._vpcs(steps) | self._claims.keys() & self._blockers(steps).keys())
        while waiting:
            blockers = self._blockers(steps) if contested else {}
            vpc = next((name for name in waiting if not blockers.get(name)), None)
            if vpc is None:
                for name in waiting:
                    other = min(blockers[name])
                    self._hold(name, Hold(f"waits for VPC {other}, which still has flows where this one goes"))
                break
            waiting.remove(vpc)
            try:
                changed += self._apply_once(self._part(steps, vpc))
            except (SwitchDisconnected, SwitchTimeout):
                raise
            except SwitchError as exc:
                self._hold(vpc, Hold(str(exc)))
            if contested and vpc not in self.held:
                self._reassign(desired, vpc)
        return changed

    def _part(self, steps: Plan, vpc: str) -> Plan:
        return Plan(
            add=tuple(o for o in steps.add if o.subject.vpc == vpc),
            change=tuple(o for o in steps.change if o.subject.vpc == vpc),
            remove=tuple(row for row in steps.remove if self._vpc_of(row) == vpc),
        )

    def _vpcs(self, steps: Plan) -> set[str]:
        return {o.subject.vpc for o in (*steps.add, *steps.change)} | {self._vpc_of(row) for row in steps.remove}

    def _blockers(self, steps: Plan) -> dict[str, set[str]]:
        """By VPC, the others that have flows in its networks, or flows that ``steps`` would overwrite.

        Flows of two VPCs in one network, even for a moment, would let one tenant's frames reach the other.
        """
        users: dict[int, set[str]] = {}
        for owned in self.flows.values():
            for vni in named_vnis(owned.row):
                users.setdefault(vni, set()).add(owned.subject.vpc)
        found = {
            vpc: {user for vni in vnis for user in users.get(vni, ())} - {vpc, ""} for vpc, vnis in self._claims.items()
        }
        for owned in (*steps.add, *steps.change) if self.flows else ():
            if self._owner_changes(owned) and owned.subject.vpc:
                found.setdefault(owned.subject.vpc, set()).add(self.flows[owned.row.key].subject.vpc)
        return {vpc: others - {""} for vpc, others in found.items() if others - {""}}

    def _reassign(self, desired: Desired, giver: str | None = None) -> None:
        """Note the new owners of flows that stayed the same while their network went from ``giver`` to another VPC.

        Left out, that is every VPC that is not held.
        """
        for key, owned in self.flows.items():
            vpc = owned.subject.vpc
            if vpc == giver or (giver is None and vpc not in self.held):
                wanted = desired.flows.get(key)
                if wanted is not None and wanted.row == owned.row:
                    self.flows[key] = wanted

    def _apply_once(self, steps: Plan) -> int:
        """One bundle; takes note of what it changed and of the VPCs that had to be left out.

        Meters of ports are there before the flows that use them.
        """
        self._add_meters(steps)
        outcome = apply_plan(self.switch, steps, self._owner)
        self._record(outcome.applied)
        for vpc, refused in outcome.refused.items():
            self._hold(vpc, _refusal(refused))
        return sum(outcome.applied.counts.values())

    def _record(self, applied: Plan) -> None:
        gone = [owned for row in applied.remove if (owned := self.flows.pop(row.key, None)) is not None]
        new = [owned for owned in applied.add if owned.row.key not in self.flows]
        self.flows.update({owned.row.key: owned for owned in (*applied.add, *applied.change)})
        if applied.strays:
            self._strays = ()
        self._metered.update(_port_meters(new))
        self._metered.subtract(_port_meters(gone))
        unused = {number for number in _port_meters(gone) if not self._metered[number]}
        if not self._meterless:
            change_meters(self.switch, DELETE, map(of_port, unused))
        self._meters -= unused

    def _add_meters(self, steps: Plan) -> None:
        """Put the meters of single ports in place, which flows take hold of when they are added."""
        if not self._meterless:
            new = set(_port_meters(steps.add)) - self._meters
            change_meters(self.switch, ADD, map(of_port, new))
            self._meters |= new

    def _hold(self, vpc: str, hold: Hold) -> None:
        self.held[vpc] = hold
        self.refusals += 1
        what = f"VPC {vpc}" if vpc else "the host"
        log.error("%s is held at its last good flows: %s", what, hold.reason, extra=about(vpc, hold.path))

    def _owner(self, row: Row) -> Subject | None:
        owned = self.flows.get(row.key)
        return None if owned is None else owned.subject

    def _vpc_of(self, row: Row) -> str:
        owner = self._owner(row)
        return "" if owner is None else owner.vpc

    def _owner_changes(self, owned: Owned) -> bool:
        present = self.flows.get(owned.row.key)
        return present is not None and present.subject.vpc != owned.subject.vpc


def _port_meters(flows: Iterable[Owned]) -> list[int]:
    """The numbers of single ports' meters, once for each flow that uses one."""
    return [owned.row.values[at] for owned in flows if (at := _meter_place(owned.row.template)) is not None]


@functools.cache
def _meter_place(template: FlowTemplate) -> int | None:
    """Which of a template's values is the number of a port's meter."""
    named = {action.meter for action in template.actions if isinstance(action, Copy)}
    return next((at for at, param in enumerate(template.params) if param.name in named), None)


@functools.cache
def _metered(template: FlowTemplate) -> bool:
    """Whether the flows of a template copy packets through a meter."""
    return any(isinstance(action, Copy) for action in template.actions)


@functools.cache
def _vni_places(template: FlowTemplate) -> tuple[int, ...]:
    """Which of a template's values are numbers of networks or of routed domains."""
    numbered = {fields.NET, fields.DOMAIN, fields.TUN_ID}
    return tuple(i for i, param in enumerate(template.params) if param.field in numbered)


def named_vnis(row: Row) -> Iterator[int]:
    """The numbers of networks and routed domains that a flow names."""
    return (row.values[place] for place in _vni_places(row.template))


def _refusal(refused: Refused) -> Hold:
    return Hold(str(refused), flow_text(refused.flow.row), refused.flow.subject.path)
