"""A switch, from a library user's point of view: connect, compare, apply."""

from __future__ import annotations

from types import TracebackType

from ovsnet.compiler import Desired, Subject
from ovsnet.openflow.app import start_app
from ovsnet.openflow.tables import Outcome, apply_plan, read_actual
from ovsnet.pipeline.template import Row
from ovsnet.plan import Actual, Plan, plan


class Switch:
    """One bridge, through the Ryu app in this process.

    ``target`` is the bridge's management socket, such as ``unix:/run/openvswitch/br-int.mgmt``. Only flows that carry
    ovsnet's cookie are read and written. Usable as a context manager.
    """

    def __init__(self, target: str, *, timeout: float = 10.0) -> None:
        """Connect within ``timeout`` seconds. Raises SwitchTimeout with the reason."""
        self.target = target
        self._app = start_app(target)
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

    def apply(self, desired: Desired, before: Desired | None = None) -> Outcome:
        """Make the bridge's flows those of ``desired``: one atomic bundle, then a barrier.

        A VPC of which the switch refuses a flow is left as it was and named in the outcome; ``before``, what was
        applied last, tells which of the flows to remove are that VPC's. Raises SwitchError.
        """

        def owner_of(row: Row) -> Subject | None:
            flow = before.flows.get(row.key) if before else None
            return flow.subject if flow else None

        return apply_plan(self._app, self.plan(desired), owner_of)

    def close(self) -> None:
        """Disconnect; the flows stay."""
        self._app.stop()

    def __enter__(self) -> Switch:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()
