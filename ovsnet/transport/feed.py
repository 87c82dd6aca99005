"""What a transport needs of whoever decides, and gives to it: the controller is one such, a test another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.messages import Item, ReportMessage


@dataclass(frozen=True)
class HostMessage:
    """All of one transaction that concerns one host, or several in the same way; ``revisions`` of its VPCs."""

    tx: str
    items: tuple[Item, ...]
    revisions: Mapping[str, int]

    @cached_property
    def body(self) -> bytes:
        """The items as JSON, separated by commas; serialised once, whoever gets them."""
        return b",".join(msgspec.json.encode(item) for item in self.items)


class Feed(Protocol):
    """The side of a transport that knows what every host should hold. All methods are quick and thread-safe."""

    source: str
    """The owner of the states that it tells."""

    def hosts(self) -> Iterable[str]:
        """All hosts that there are, those without any VPC too."""

    def address(self, host: str) -> str | None:
        """Where the host's agent is called: a URL or ``unix:PATH``; ``None`` for a host that is no more."""

    def wanted(self, host: str) -> Mapping[str, Head]:
        """The VPCs that concern a host."""

    def state(self, vpc: str) -> VpcState | None:
        """A VPC as it is now; ``None`` if there is none."""

    def raise_revision(self, vpc: str, above: int) -> None:
        """Give a VPC a revision above ``above``, with the same contents."""

    def reported(self, report: ReportMessage) -> None:
        """A host has said where it stands."""

    def reachable(self, host: str, reason: str, *, refused: bool = False) -> None:
        """Whether a host is in contact: an empty reason, or why it is not; ``refused``: it answers, and says no."""

    def refused(self, host: str, vpcs: Mapping[str, str]) -> None:
        """The VPCs that a host does not take from here, with reasons: all of them, whenever that may have changed."""


class Transport(Protocol):
    """A way to hosts. What it loses shows when a host is asked, or told, what it should hold."""

    def send(self, message: HostMessage, hosts: Iterable[str]) -> bool:
        """Tell hosts a transaction, after all that they were told before; false if it was dropped.

        Quick, from any thread.
        """

    def faults(self) -> tuple[str, ...]:
        """What is wrong with the way itself, in words."""

    def statistics(self) -> Mapping[str, int]:
        """What was sent and heard since the start, by name."""

    def follow(self) -> None:
        """Hosts are new, gone, or called elsewhere. Quick, from any thread."""

    def flush(self) -> bool:
        """Wait a little until what was sent is out of this process's hands; whether it is, as far as not dropped."""
