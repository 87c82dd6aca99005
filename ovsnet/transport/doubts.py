"""Whether a host's reports fit what it was told: somebody else may have told it something. Pure; time is in seconds."""

from __future__ import annotations

from collections.abc import Mapping

from ovsnet.transport.messages import Item, VpcReport

GRACE = 0.5
"""Seconds that a report and what was told last are given to meet: each is on its way for a while."""


class Doubts:
    """What one host was told, what it has reported, and since when the two differ.

    ``told``: the revision of each VPC that it was told and that concerns it.
    """

    def __init__(self) -> None:
        self.told: dict[str, int] = {}
        self._said: dict[str, int | None] = {}
        self._since: dict[str, float] = {}

    @property
    def due(self) -> float | None:
        """When what differs now is to be looked into; ``None`` if nothing differs."""
        return min(self._since.values()) + GRACE if self._since else None

    def asking(self) -> None:
        """The host is about to be asked what it holds: what it reported before that is of no interest any more."""
        self._since.clear()

    def agreed(self, told: Mapping[str, int], now: float) -> None:
        """The host has answered, and was told what it lacked."""
        self.told = dict(told)
        for vpc in list(self._since):
            self._judge(vpc, now)

    def tell(self, items: tuple[Item, ...], revisions: Mapping[str, int], now: float) -> None:
        """The host has taken items over."""
        gone = {item.vpc: item.op == "delete" for item in items}
        for vpc, revision in revisions.items():
            if gone.get(vpc):
                self.told.pop(vpc, None)
            else:
                self.told[vpc] = revision
            if vpc in self._since:
                self._judge(vpc, now)

    def report(self, vpcs: Mapping[str, VpcReport | None], now: float, *, full: bool) -> None:
        """The host has said where it stands; what it says again raises no doubt a second time."""
        said = {vpc: None if one is None else one.revision for vpc, one in vpcs.items()}
        if full:
            said |= dict.fromkeys(self._said.keys() - said.keys())
        for vpc, revision in said.items():
            if self._said.get(vpc) != revision or vpc in self._since:
                self._said[vpc] = revision
                self._judge(vpc, now)

    def _judge(self, vpc: str, now: float) -> None:
        if self._said.get(vpc) != self.told.get(vpc):
            self._since[vpc] = now
        else:
            self._since.pop(vpc, None)
