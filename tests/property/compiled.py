"""The compiler's flows on the harness's switches, through the library as a user has it."""

from __future__ import annotations

import ovsnet
from ovsnet.compiler import compile_states
from ovsnet.desired import Desired
from ovsnet.model.types import Model
from ovsnet.openflow import SwitchError
from tests.property.harness import DummySwitch, Facts
from tests.property.world import places, states_of

ATTEMPTS = 4
"""A busy machine may leave a switch without an answer for longer than a connection waits; that is no difference."""


class Installer:
    """Compiles a model for a host and applies it; what the switch had of a model before is the plan's to change."""

    def __init__(self) -> None:
        self._connections: dict[str, ovsnet.Switch] = {}

    def __call__(self, switch: DummySwitch, model: Model, facts: Facts) -> None:
        """Raises AssertionError if the switch refuses a flow, or has another than the desired ones afterwards."""
        ids = {name: port.id for _, at, name, port in places(model) if at == facts.host}
        ofports = {ids[port]: number for port, number in facts.ofports.items()}
        known = ovsnet.Facts(ofports, facts.tunnel_ofport, facts.nd_responder, zones=ofports)
        desired = compile_states(states_of(model, facts.host).values(), facts.host, known)
        for again in range(ATTEMPTS):
            try:
                self._install(switch, facts.host, desired)
            except SwitchError:
                if again == ATTEMPTS - 1:
                    raise
                self._connections.pop(facts.host).close()
            else:
                return

    def _install(self, switch: DummySwitch, host: str, desired: Desired) -> None:
        if host not in self._connections:
            self._connections[host] = ovsnet.Switch(switch.mgmt_target("br-int"))
        connection = self._connections[host]
        outcome = connection.apply(desired)
        assert not outcome.refused, outcome
        assert not connection.plan(desired)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()
