"""A switch, from a library user's point of view: connect, compare, apply."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ovsnet.desired import Desired, Subject
from ovsnet.openflow.app import start_app
from ovsnet.openflow.tables import Outcome, apply_plan, read_actual
from ovsnet.pipeline.template import Row
from ovsnet.plan import Actual, Plan, plan


class Switch:
    """One bridge, through the Ryu app in this process.

    ``target`` is the bridge's management socket, such as ``unix:/run/openvswitch/br-int.mgmt``. Only flows that carry
    ovsnet's cookie are read and written. Usable as a context manager.
    """

    def __init__(self, target: str, *apps: type[Any], timeout: float = 10.0) -> None:
        """Connect within ``timeout`` seconds; ``apps`` are os-ken app classes to run beside ours in one AppManager.

        Raises SwitchTimeout with the reason.
        """
        self.target = target
        self._app = start_app(target, *apps)
        try:
            self._app.wait_connected(timeout)
        except BaseException:
            self._app.stop()
            raise

    def actual(self) -> Actual:
        """The flows of ours that the bridge has now. Raises SwitchError."""
        return read_actual(self._app)

    def plan(self, desired: Desired) -> Plan:
        """What leads from the bridge's flows to ``desired``; changes nothing. Raises SwitchError."""
        return plan(desired, self.actual())

    def apply(
        self, desired: Desired, before: Desired | None = None, *, revisions: Mapping[str, int] | None = None
    ) -> Outcome:
        """Make the bridge's flows those of ``desired``: one atomic bundle, then a barrier.

        A VPC of which the switch refuses a flow is left as it was and named in the outcome; ``before``, what was
        applied last, tells which of the flows to remove are that VPC's. ``revisions``, by VPC, are then announced to
        the apps beside ours (``events.EventEnforced``), without the refused ones. Raises SwitchError.
        """

        def owner_of(row: Row) -> Subject | None:
            flow = before.flows.get(row.key) if before else None
            return flow.subject if flow else None

        outcome = apply_plan(self._app, self.plan(desired), owner_of)
        enforced = {vpc: revision for vpc, revision in (revisions or {}).items() if vpc not in outcome.refused}
        if enforced:
            self._app.enforced(enforced)
        return outcome

    def close(self) -> None:
        """Disconnect; the flows stay."""
        self._app.stop()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
