"""What a subscriber needs of an agent, and the agent seen that way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from typing import Protocol

from ovsnet.agent import report
from ovsnet.agent.agent import Agent
from ovsnet.agent.follow import Held
from ovsnet.transport.changes import Operation
from ovsnet.transport.reports import Difference, Picture
from ovsnet.transport.view import HostView


class Followed(Protocol):
    """One host that follows a publisher; ``boot`` is another one each time that the machine starts."""

    host: str
    vtep: str
    boot: str

    def held(self) -> Mapping[str, Held]:
        """What the host holds, of all owners."""

    def change(self, operations: Iterable[Operation]) -> Future[None]:
        """Take operations over, all or none; the future is done once they are on disk.

        Raises ConflictError or ModelError, and then nothing has changed.
        """

    def confirm(self, vpcs: Iterable[str]) -> None:
        """The publisher agrees with what is held of these VPCs."""

    def picture(self, owner: str) -> Picture:
        """All that the host reports to an owner: nothing of others' VPCs. "" for everything."""

    def changes(self, owner: str) -> Difference:
        """What of that may have changed since the last call of either."""

    def watch(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called, on any thread, when what is reported may have changed; it only takes note."""


class FollowedAgent:
    """An agent as a host that follows a publisher."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._reports = report.Reports(agent)
        self.host, self.vtep = agent.config.host, agent.config.vtep
        self.boot = agent.boot.id

    def held(self) -> Mapping[str, Held]:
        """What the agent holds."""
        return HeldStates(self._agent.view)

    def change(self, operations: Iterable[Operation]) -> Future[None]:
        """Take operations over. Raises ConflictError or ModelError."""
        return self._agent.change(operations).stored

    def confirm(self, vpcs: Iterable[str]) -> None:
        """The publisher agrees with what is held of these VPCs."""
        self._agent.confirm(vpcs)

    def picture(self, owner: str) -> Picture:
        """All that the agent reports to an owner."""
        return self._reports.picture(owner)

    def changes(self, owner: str) -> Difference:
        """What of that may have changed since the last call of either."""
        return self._reports.changes(owner)

    def watch(self, listener: Callable[[], None]) -> None:
        """Have ``listener()`` called when what is reported may have changed."""
        self._agent.watch(listener)


class HeldStates(Mapping[str, Held]):
    """A view's states as holdings; a digest is computed when somebody asks for it."""

    def __init__(self, view: HostView) -> None:
        self._view = view
        self._states = view.states

    def __getitem__(self, vpc: str) -> Held:
        state = self._states[vpc]
        return Held(state.revision, self._view.digest(state), state.owner)

    def __iter__(self) -> Iterator[str]:
        return iter(self._states)

    def __len__(self) -> int:
        return len(self._states)
