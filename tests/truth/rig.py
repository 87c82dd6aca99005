"""The lab of the truth tables with its bench, and how its model is changed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from ovsnet.agent import deliver as delivering
from ovsnet.lab.deliver import socket_of
from ovsnet.lab.lab import Lab
from ovsnet.lab.patience import PATIENCE as SLOWNESS
from ovsnet.model.types import Model
from tests.truth.bench import Bench


class Rig:
    """The lab with its bench."""

    def __init__(self, lab: Lab) -> None:
        self.lab, self.bench = lab, Bench(lab)
        self._sockets = {name: socket_of(host) for name, host in lab.topology.hosts.items()}

    def bring(self, model: Model) -> None:
        """Tell every agent the model, and return when it is enforced and no older datapath flow is left.

        Under open connections the switches throw old flows out by themselves; else they are told to, which is quicker.
        """
        delivery = delivering.prepare(
            model, delivering.gather(self._sockets, model.underlay.encapsulation), everything=True
        )
        answers = delivering.tell(self._sockets, delivery, wait=10.0 * SLOWNESS, adopt=True)
        late = {host: answer["reason"] for host, answer in answers.items() if answer["reason"]}
        assert not late, late
        self._everywhere("revalidator/wait" if self.bench.live else "revalidator/purge")

    def forget_connections(self) -> None:
        """Let the switches forget all connections."""
        self._everywhere("dpctl/flush-conntrack")

    def _everywhere(self, command: str) -> None:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.lab.ovs(host).appctl(command), self.lab.topology.hosts))
