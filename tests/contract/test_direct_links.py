"""A controller's links to hosts that fail as it ends, or that somebody else tells something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from msgspec.structs import replace

from benchmarks.dissemination.agents import AgentApi, event, response
from benchmarks.dissemination.holding import Tally
from ovsnet.model import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.digest import state_sum
from ovsnet.transport.direct import CHECK_EVERY, Direct
from ovsnet.transport.feed import HostMessage
from ovsnet.transport.messages import ReportMessage, VpcReport
from tests.bus_kit import SOURCE, Truth


class Feed:
    """A site of one host that no VPC concerns."""

    source = "controller"

    def __init__(self, socket: Path) -> None:
        self.socket = socket

    def hosts(self) -> Iterable[str]:
        """The one."""
        return ("h0",)

    def address(self, host: str) -> str | None:
        """A unix socket."""
        return f"unix:{self.socket}"

    def wanted(self, host: str) -> Mapping[str, Head]:
        """Nothing."""
        return {}

    def state(self, vpc: str) -> VpcState | None:
        """None."""
        return None

    def raise_revision(self, vpc: str, above: int) -> None:
        """Of nothing."""

    def reported(self, report: ReportMessage) -> None:
        """Of no concern here."""

    def reachable(self, host: str, reason: str) -> None:
        """Of no concern here."""


class Refusing(AgentApi):
    """A host that cannot say what it holds; its stream of reports goes on."""

    def __init__(self, name: str, tally: Tally, refused: asyncio.Event) -> None:
        super().__init__(name, tally)
        self.refused = refused

    def answered(self, method: str, path: str, body: bytes, size: int) -> bytes:
        """No, to everything."""
        self.refused.set()
        return response(503, b'{"detail":"its disk is full"}')


@pytest.mark.parametrize("turns", range(12))
def test_a_link_ends_even_if_its_host_refuses_at_that_moment(tmp_path: Path, turns: int) -> None:
    asyncio.run(_end_at_a_refusal(tmp_path, turns))


async def _end_at_a_refusal(directory: Path, turns: int) -> None:
    """End a link so many turns of the event loop after its host has refused."""
    feed, refused = Feed(directory / "h0.sock"), asyncio.Event()
    server = await Refusing("h0", Tally(), refused).serve(feed.socket)
    direct = Direct(feed)
    await direct.start()
    async with asyncio.timeout(5):
        await refused.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    ended = asyncio.ensure_future(direct.stop())
    done, _ = await asyncio.wait({ended}, timeout=1)
    server.close()
    assert done, "the link goes on after it was ended"


class Site(Truth):
    """A site of one host, and what is said of the way to it."""

    source = SOURCE

    def __init__(self, socket: Path) -> None:
        super().__init__(("hv1",))
        self.socket = socket
        self.reason = "never called"

    def address(self, host: str) -> str | None:
        """A unix socket."""
        return f"unix:{self.socket}"

    def reachable(self, host: str, reason: str) -> None:
        """Kept."""
        self.reason = reason


class Meddled(AgentApi):
    """A host that somebody tells something past its controller; ``looks`` counts how often it was asked."""

    looks = 0

    def meddle(self, vpc: str, state: VpcState | None) -> None:
        """Hold this from now on, and report it if the revision is another."""
        before = self.holding.states.pop(vpc)[0]
        if state is not None:
            self.holding.states[vpc] = (state, state_sum(state))
        if state is None or state.revision != before.revision:
            said = None if state is None else VpcReport(state.revision, state.revision)
            for stream in self.streams:
                stream.write(event(self.holding.report({vpc: said}, full=False)))

    def answered(self, method: str, path: str, body: bytes, size: int) -> bytes:
        """As any other."""
        self.looks += path == "/v1/vpcs"
        return super().answered(method, path, body, size)

    def agrees(self, site: Site) -> bool:
        """Whether it holds what it should."""
        return {vpc: Head(*head) for vpc, head in self.holding.heads().items()} == site.wanted("hv1")


MEDDLING: dict[str, tuple[Callable[[VpcState], VpcState | None], float]] = {
    "taken away": (lambda _: None, 1.5),
    "a later revision": (lambda held: replace(held, revision=held.revision + 5, ports={}), 1.5),
    "an older revision": (lambda held: replace(held, revision=held.revision - 1, ports={}), 1.5),
    "other contents at the same revision": (lambda held: replace(held, ports={}), CHECK_EVERY * 1.1 + 0.4),
}
"""What is done to a host, and the seconds within which that has to be mended."""


@pytest.mark.parametrize("what", MEDDLING)
def test_what_somebody_else_tells_a_host_does_not_last(tmp_path: Path, what: str) -> None:
    change, within = MEDDLING[what]
    assert within <= 5.0
    took, looks = asyncio.run(_meddle(tmp_path, change))
    assert took <= within
    assert looks <= 3, "one at the beginning, one at the report or when it is time, and perhaps one more for that"


async def _meddle(directory: Path, change: Callable[[VpcState], VpcState | None]) -> tuple[float, int]:
    """The seconds until a host holds again what it should, and how often it was asked."""
    site = Site(directory / "hv1.sock")
    site.create("red")
    api = Meddled("hv1", Tally())
    server = await api.serve(site.socket)
    direct = Direct(site)
    await direct.start()
    site.on_raise = lambda messages: [direct.send(HostMessage(m.tx, m.items, heads(site)), [m.host]) for m in messages]
    async with asyncio.timeout(10):
        while not (api.agrees(site) and api.streams):
            await asyncio.sleep(0.01)
        for message in site.edit("red", 3):
            direct.send(HostMessage(message.tx, message.items, heads(site)), [message.host])
        while not api.agrees(site):
            await asyncio.sleep(0.01)
        start = time.monotonic()
        api.meddle("red", change(site.states["red"]))
        assert not api.agrees(site)
        while not api.agrees(site):
            await asyncio.sleep(0.01)
        took = time.monotonic() - start
    await direct.stop()
    server.close()
    return took, api.looks


def heads(site: Site) -> dict[str, int]:
    """The revisions that the host should hold."""
    return {vpc: head.revision for vpc, head in site.wanted("hv1").items()}
