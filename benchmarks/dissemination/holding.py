"""What a simulated host holds, and what all of them have seen: the same however hosts are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Patch, Put, patched
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.messages import PROTOCOL, Item, ReportMessage, VpcReport
from ovsnet.transport.operations import operations_of


@dataclass
class Tally:
    """What all hosts have seen: messages and bytes by kind, and by ``(VPC, revision)`` who has it and since when.

    An arrival is the number of hosts and the time of the last, by the machine's monotonic clock. ``bytes`` are of
    messages with their first lines. ``endpoints``: those elsewhere in the states that hosts were told whole,
    ``foreign``: of them in VPCs that the host has no port in. ``agreeing``: hosts that hold what they should.
    """

    arrivals: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    endpoints: int = 0
    foreign: int = 0
    connected: int = 0
    hellos: int = 0
    agreeing: int = 0

    def heard(self, kind: str, size: int) -> None:
        """A message of a kind, of so many bytes."""
        self.messages[kind] = self.messages.get(kind, 0) + 1
        self.bytes[kind] = self.bytes.get(kind, 0) + size

    def arrived(self, revisions: Mapping[str, int]) -> tuple[int, float]:
        """How often a host got one of these VPCs at its revision, and when the last did."""
        seen = [self.arrivals.get(each, [0, 0.0]) for each in revisions.items()]
        return int(sum(count for count, _ in seen)), max((last for _, last in seen), default=0.0)

    def summary(self) -> dict[str, Any]:
        """All but the arrivals."""
        return {name: value for name, value in vars(self).items() if name != "arrivals"}


class GapError(Exception):
    """A change does not follow what the host holds."""


class Holding:
    """The states that one host holds, with their true digests."""

    def __init__(self, name: str, tally: Tally) -> None:
        self.name, self.tally = name, tally
        self.states: dict[str, tuple[VpcState, int]] = {}
        self.serial = 0
        self.agrees = False

    def heads(self) -> dict[str, tuple[int, str]]:
        """Revision and digest by VPC."""
        return {vpc: (one.revision, digest_text(total)) for vpc, (one, total) in self.states.items()}

    def take(self, items: Iterable[Item]) -> dict[str, VpcReport | None]:
        """Hold what is told; what is to be reported then. Raises GapError, and holds what it held."""
        now = dict(self.states)
        told: dict[str, VpcReport | None] = {}
        for operation in operations_of(items):
            vpc, held = operation.vpc, now.get(operation.vpc)
            if isinstance(operation, Put):
                now[vpc] = (operation.state, state_sum(operation.state))
                self._count(operation.state)
            elif isinstance(operation, Patch):
                if held is None or held[0].revision != operation.previous:
                    raise GapError
                now[vpc] = (patched(held[0], operation), patched_sum(held[1], held[0], operation))
            else:
                now.pop(vpc, None)
            told[vpc] = VpcReport(now[vpc][0].revision, now[vpc][0].revision) if vpc in now else None
        before, self.states, moment = self.states, now, time.monotonic()
        for vpc, report in told.items():
            if report is not None and (vpc not in before or before[vpc][0].revision != report.revision):
                seen = self.tally.arrivals.setdefault((vpc, report.revision), [0, 0.0])
                seen[0], seen[1] = seen[0] + 1, moment
        return told

    def everything(self) -> dict[str, VpcReport | None]:
        """All that is held, to be reported."""
        return {vpc: VpcReport(one.revision, one.revision) for vpc, (one, _) in self.states.items()}

    def report(self, vpcs: dict[str, VpcReport | None], *, full: bool) -> bytes:
        """The next report."""
        self.serial += 1
        message = ReportMessage(v=PROTOCOL, run="bench", serial=self.serial, host=self.name, full=full, vpcs=vpcs)
        return msgspec.json.encode(message)

    def agree(self, agrees: bool) -> None:
        """Whether the host now holds what it should."""
        self.tally.agreeing += agrees - self.agrees
        self.agrees = agrees

    def _count(self, state: VpcState) -> None:
        own = sum(port.host == self.name for port in state.ports.values())
        self.tally.endpoints += len(state.ports) - own
        self.tally.foreign += 0 if own else len(state.ports)


async def answer(pipe: Connection, tally: Tally) -> None:
    """Answer on ``pipe``: to "tally" with that, to revisions by VPC with who has them; until "end"."""
    asked: asyncio.Queue[Any] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
    while (what := await asked.get()) != "end":
        pipe.send(tally.summary() if what == "tally" else tally.arrived(what))
