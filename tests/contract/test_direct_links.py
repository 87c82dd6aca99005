"""A controller's links to hosts that fail as it ends, or that somebody else tells something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from benchmarks.dissemination.agents import AgentApi, event, response
from benchmarks.dissemination.holding import Tally
from ovsnet.model import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.digest import state_sum
from ovsnet.transport.direct import CHECK_EVERY, Direct
from ovsnet.transport.feed import HostMessage
from ovsnet.transport.messages import PROTOCOL, ReportMessage, VpcReport
from ovsnet.transport.publisher import Told
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

    def reachable(self, host: str, reason: str, *, refused: bool = False) -> None:
        """Of no concern here."""

    def refused(self, host: str, vpcs: Mapping[str, str]) -> None:
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
    """Hosts with a socket each in a directory."""

    source = SOURCE

    def __init__(self, directory: Path, hosts: Iterable[str] = ("hv1",)) -> None:
        super().__init__(hosts)
        self.directory = directory

    def address(self, host: str) -> str | None:
        """A unix socket."""
        return f"unix:{self.socket(host)}"

    def socket(self, host: str) -> Path:
        """Where a host's API is."""
        return self.directory / f"{host}.sock"

    def tell(self, direct: Direct, messages: Iterable[Told]) -> None:
        """Have hosts told."""
        for one in messages:
            revisions = {item.vpc: self.states[item.vpc].revision for item in one.items}
            direct.send(HostMessage(one.tx, one.items, revisions), [one.host])

    def agrees(self, api: AgentApi) -> bool:
        """Whether a host holds what it should."""
        return {vpc: Head(*head) for vpc, head in api.holding.heads().items()} == self.wanted(api.holding.name)


async def come_true(condition: Callable[[], object]) -> None:
    """Wait for it; ten seconds are enough for everything here."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


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
                stream.write(self.said(self.holding.report({vpc: said}, full=False)))

    def answered(self, method: str, path: str, body: bytes, size: int) -> bytes:
        """As any other."""
        self.looks += path == "/v1/vpcs"
        return super().answered(method, path, body, size)


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
    site, api = Site(directory), Meddled("hv1", Tally())
    site.create("red")
    server, direct = await api.serve(site.socket("hv1")), Direct(site)
    await direct.start()
    site.on_raise = lambda messages: site.tell(direct, messages)
    await come_true(lambda: site.agrees(api) and api.streams)
    site.tell(direct, site.edit("red", 3))
    await come_true(lambda: site.agrees(api))
    start = time.monotonic()
    api.meddle("red", change(site.states["red"]))
    assert not site.agrees(api)
    await come_true(lambda: site.agrees(api))
    took = time.monotonic() - start
    await direct.stop()
    server.close()
    return took, api.looks


class Later(AgentApi):
    """A host of a later version: it counts what it is asked, and says more than is known today."""

    def __init__(self, name: str, tally: Tally) -> None:
        super().__init__(name, tally)
        self.asked: list[str] = []

    def answered(self, method: str, path: str, body: bytes, size: int) -> bytes:
        """As any other, with more in it."""
        self.asked.append(path)
        head, _, answer = super().answered(method, path, body, size).partition(b"\r\n\r\n")
        return response(int(head.split(b" ")[1]), msgspec.json.encode(more(msgspec.json.decode(answer))))

    def said(self, report: bytes) -> bytes:
        """A report with more in it."""
        return event(msgspec.json.encode(more(msgspec.json.decode(report)) | {"v": PROTOCOL}))


def more(said: Any) -> Any:
    """The same with a field in every object that nobody knows; objects by name stay that."""
    if not isinstance(said, dict):
        return said
    named = all(isinstance(one, dict | None) for one in said.values()) and "protocols" not in said
    return {key: more(value) for key, value in said.items()} | ({} if named else {"later": {"x": [1]}})


def test_a_host_without_a_common_version_is_left_alone_until_it_has_one(tmp_path: Path) -> None:
    asyncio.run(_meet(tmp_path))


async def _meet(directory: Path) -> None:
    """One host speaks the next version only, the other today's."""
    site = Site(directory, ("hv1", "hv2"))
    later, today = Later("hv1", Tally()), AgentApi("hv2", Tally())
    later.protocols = (PROTOCOL + 1,)
    site.create("red", ("hv1", "hv2"))
    servers = [await one.serve(site.socket(one.holding.name)) for one in (later, today)]
    direct = Direct(site)
    await direct.start()
    await come_true(lambda: site.agrees(today) and len(later.asked) >= 3)
    site.tell(direct, site.edit("red", 3))
    await come_true(lambda: site.agrees(today))
    assert f"the host speaks {PROTOCOL + 1}, this end {PROTOCOL}" in site.reasons["hv1"]
    assert site.reasons["hv2"] == ""
    assert set(later.asked) == {"/v1/host"}, "it is asked what it speaks, and told nothing"
    assert not later.holding.states
    assert not later.streams
    later.protocols = (PROTOCOL, PROTOCOL + 1)
    await come_true(lambda: site.agrees(later) and site.reasons["hv1"] == "")
    site.tell(direct, site.edit("red", 4))
    await come_true(lambda: site.agrees(later) and site.agrees(today))
    await come_true(lambda: site.told["hv1"].vpcs["red"].revision == site.states["red"].revision)
    assert "later" not in str(site.told["hv1"])
    await direct.stop()
    for server in servers:
        server.close()
