"""Bringing flows into a switch, and knowing what is in it.

A refused flow voids its whole bundle. So the VPC that it stems from is *held*: its flows stay as they were when the
switch last took them, and the rest of the change goes in without it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain

from ovsnet.compiler import Delta, Desired, Owned
from ovsnet.openflow.api import BundleResult, Refusal, SwitchPort
from ovsnet.openflow.codec import decode, encode_bundle, encode_strays
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.pipeline.template import COOKIE_MASK, COOKIE_OWNER, Key, Row
from ovsnet.plan import Actual, Stray

log = logging.getLogger(__name__)

ROUNDS = 8
"""Bundles to try, each without one more VPC, before the VPCs go in one by one."""


@dataclass(frozen=True)
class Hold:
    """Why a VPC stays at its last good flows: ``reason`` in words, ``flow`` readable, ``path`` of the model object."""

    reason: str
    flow: str = ""
    path: str = ""


@dataclass
class Step:
    """Flows of one VPC (or of the host, ``""``) to bring in and to take out."""

    add: list[Owned] = field(default_factory=list)
    remove: list[Row] = field(default_factory=list)


Attribute = Callable[[Row], str]
"""Says which VPC a row found in the switch belonged to, ``""`` for none that is known."""


class Enforcer:
    """What a switch has of ours, and the way to change it. Used by one thread.

    ``held`` are the VPCs whose latest state the switch has refused.
    """

    def __init__(self, switch: SwitchPort, describe: Callable[[Row], str]) -> None:
        self.switch = switch
        self.held: dict[str, Hold] = {}
        self.flows: dict[Key, tuple[Row, str]] = {}  # what the switch has, with the VPC of each
        self._strays: tuple[Stray, ...] = ()
        self._describe = describe

    def read(self) -> Actual:
        """What the switch really has of ours. Raises SwitchError."""
        return decode(parse_flow_stats(self.switch.dump_flows(COOKIE_OWNER, COOKIE_MASK)))

    def differences(self, actual: Actual) -> list[Row | Stray]:
        """How the switch differs from what it should have been left with."""
        missing = [row for key, (row, _) in self.flows.items() if actual.rows.get(key) != row]
        surplus = [row for key, row in actual.rows.items() if key not in self.flows]
        return [*missing, *surplus, *actual.strays]

    def adopt(self, actual: Actual, desired: Desired, attribute: Attribute) -> None:
        """Take what was read as what the switch has."""
        owners = {key: vpc for key, (_, vpc) in self.flows.items()}
        self.flows = {}
        for key, row in actual.rows.items():
            owned = desired.flows.get(key)
            vpc = owned.subject.vpc if owned is not None else owners.get(key) or attribute(row)
            self.flows[key] = (row, vpc)
        self._strays = actual.strays

    def converge(self, desired: Desired) -> int:
        """Bring the switch from what it has to ``desired``; the number of flows changed. Raises SwitchError."""
        steps: dict[str, Step] = {}
        for key, owned in desired.flows.items():
            present = self.flows.get(key)
            if present is None or present[0] != owned.row:
                steps.setdefault(owned.subject.vpc, Step()).add.append(owned)
        for key, (row, vpc) in self.flows.items():
            if key not in desired.flows:
                steps.setdefault(vpc, Step()).remove.append(row)
        self.held = {}
        return self._commit(steps)

    def advance(self, desired: Desired, delta: Delta) -> int:
        """Bring a small difference in; the number of flows changed. Raises SwitchError."""
        touched = {owned.subject.vpc for owned in chain(delta.add, delta.remove)}
        if self.held.keys() & touched or any(hold.reason.startswith(_WAITS) for hold in self.held.values()):
            return self.converge(desired)  # the delta of a held VPC does not start from what the switch has
        steps: dict[str, Step] = {}
        for owned in delta.add:
            steps.setdefault(owned.subject.vpc, Step()).add.append(owned)
        for owned in delta.remove:
            steps.setdefault(owned.subject.vpc, Step()).remove.append(owned.row)
        return self._commit(steps)

    def _commit(self, steps: dict[str, Step]) -> int:
        if not steps and not self._strays:
            return 0
        changed = 0
        for _ in range(ROUNDS):
            self._hold_dependants(steps)
            result = self._send(steps)
            if result.committed:
                return changed + self._record(steps)
            culprit = self._hold_culprit(steps, result)
            if culprit is None:
                break
            del steps[culprit]
            if not steps and not self._strays:
                return changed
        for vpc, step in list(steps.items()):
            one = {vpc: step}
            self._hold_dependants(one)
            if one and self._send(one).committed:
                changed += self._record(one)
            elif one and vpc not in self.held:
                self.held[vpc] = Hold("the switch refuses its flows as a whole")
        return changed

    def _send(self, steps: Mapping[str, Step]) -> BundleResult:
        strays = self._strays
        adds = [owned.row for step in steps.values() for owned in step.add]
        removes = [row for step in steps.values() for row in step.remove]

        def payload(bundle_id: int, first_xid: int) -> bytes:
            rows = encode_bundle(adds, removes, bundle_id, first_xid + len(strays))
            return encode_strays(strays, bundle_id, first_xid) + rows if strays else rows

        return self.switch.apply_bundle(payload, len(strays) + len(adds) + len(removes))

    def _record(self, steps: Mapping[str, Step]) -> int:
        changed = len(self._strays)
        self._strays = ()
        for step in steps.values():
            for row in step.remove:
                self.flows.pop(row.key, None)
            changed += len(step.add) + len(step.remove)
        for vpc, step in steps.items():
            for owned in step.add:
                self.flows[owned.row.key] = (owned.row, vpc)
        return changed

    def _hold_culprit(self, steps: Mapping[str, Step], result: BundleResult) -> str | None:
        """Hold the VPC of the flow that was refused; ``None`` when the refusal names no flow."""
        for refusal in result.refusals:
            place = self._find(steps, refusal)
            if place is None:
                continue
            vpc, row, path = place
            hold = Hold(
                f"the switch refused a flow: OpenFlow error type {refusal.type}, code {refusal.code}",
                self._describe(row),
                path,
            )
            self.held[vpc] = hold
            log.error("%s held at its last good flows: %s (%s: %s)", vpc or "host", hold.reason, hold.path, hold.flow)
            return vpc
        return None

    def _find(self, steps: Mapping[str, Step], refusal: Refusal) -> tuple[str, Row, str] | None:
        if refusal.index is None:
            return None
        index = refusal.index - len(self._strays)
        adds = [(vpc, owned.row, owned.subject.path) for vpc, step in steps.items() for owned in step.add]
        if 0 <= index < len(adds):
            return adds[index]
        index -= len(adds)
        removes = [(vpc, row, f"vpcs.{vpc}" if vpc else "hosts") for vpc, step in steps.items() for row in step.remove]
        return removes[index] if 0 <= index < len(removes) else None

    def _hold_dependants(self, steps: dict[str, Step]) -> None:
        """Hold a VPC that needs a flow which a held one still has: what moved between them, such as a VNI."""
        again = True
        while again:
            again = False
            for vpc, step in list(steps.items()):
                blocker = next(self._blockers(vpc, step.add), None)
                if blocker is not None:
                    self.held[vpc] = Hold(f"{_WAITS} VPC {blocker}, which is held and still uses what moves here")
                    del steps[vpc]
                    again = True

    def _blockers(self, vpc: str, add: Iterable[Owned]) -> Iterable[str]:
        if not self.held:
            return iter(())
        present = (self.flows.get(owned.row.key) for owned in add)
        return (p[1] for p in present if p is not None and p[1] != vpc and p[1] in self.held)


_WAITS = "waits for"
