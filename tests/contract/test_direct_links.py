"""A controller's link to a host that fails as the controller ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from benchmarks.dissemination.agents import AgentApi, response
from benchmarks.dissemination.holding import Tally
from ovsnet.model import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.direct import Direct
from ovsnet.transport.messages import ReportMessage


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
