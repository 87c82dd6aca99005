"""From a controller to the hosts' APIs: one link a host, which keeps the host at what it should hold."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec

from ovsnet.log import about
from ovsnet.transport.catchup import Head, lacks
from ovsnet.transport.changes import owner_text
from ovsnet.transport.doubts import Doubts
from ovsnet.transport.feed import Feed, HostMessage
from ovsnet.transport.messages import (
    HEADER,
    PROTOCOL,
    Item,
    MalformedError,
    ReportMessage,
    UnknownVersionError,
    decode,
    incompatible,
)
from ovsnet.transport.operations import begin_anew, withdraw_item

log = logging.getLogger(__name__)

CHECK_EVERY = 4.0
"""Seconds between two looks at what a host holds; a tenth more or less at random.

A revision that the host was not told shows in its reports and is looked into at once; other contents at the same
revision show here.
"""
TRY_AGAIN = 0.5
"""Seconds until a VPC that a host has refused is tried again when it has changed."""
BACKOFF = (0.2, 2.0)
"""Shortest and longest pause after a failure, in seconds; half of it at random."""
CONNECT_WITHIN = 2.0
ANSWER_WITHIN = 30.0
SILENT = 6.0
"""Seconds without a sign of life on the stream of reports, which beats every two, after which a host is gone."""
LONGEST_EVENT = 4 << 20
"""Bytes of one report in the stream of reports."""
UNACKNOWLEDGED = 3000
"""Milliseconds that sent data may stay unacknowledged before the connection is given up (TCP_USER_TIMEOUT)."""
OUT_OF_STEP = frozenset({"revision-gap", "stale-revision", "unknown-vpc", "revision-reused"})
"""The codes with which a host says that it holds something else than was thought."""


class RefusedError(Exception):
    """A host refuses what it is told, or cannot take it, or speaks no version of the protocol that is known here."""


class _ItemsRefusedError(RefusedError):
    """A host refuses what is said of some VPC, and would take other things."""


class _Spoken(msgspec.Struct, frozen=True):
    """What is needed of a host's answer about itself before anything else is said."""

    protocols: tuple[int, ...] = ()


@dataclass
class Traffic:
    """What was sent to a host since the start: requests, messages in them, bytes of their bodies; and catch-ups."""

    requests: int = 0
    messages: int = 0
    bytes: int = 0
    catch_ups: int = 0
    failures: int = 0


@dataclass
class _Link:
    host: str
    address: str
    task: asyncio.Task[None] | None = None
    queue: deque[HostMessage] = field(default_factory=deque)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    doubts: Doubts = field(default_factory=Doubts)
    look_at: float = 0.0
    refused: Mapping[str, str] = field(default_factory=dict)
    """The VPCs that the host does not take from here, with reasons; the others go on."""
    traffic: Traffic = field(default_factory=Traffic)


class Direct:
    """Links to all hosts of ``feed``; ``tls`` is for those whose address is a URL.

    Everything runs on the event loop that :meth:`start` is called on.
    """

    def __init__(self, feed: Feed, tls: ssl.SSLContext | None = None) -> None:
        self.feed = feed
        self.tls = tls
        self._links: dict[str, _Link] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    async def start(self) -> None:
        """Begin to connect to every host; returns at once."""
        self._loop = asyncio.get_running_loop()
        self._follow()

    async def stop(self) -> None:
        """End all links; what was not told is told after the next start."""
        tasks = [self._close(host) for host in list(self._links)]
        await asyncio.gather(*tasks, return_exceptions=True)

    def follow(self) -> None:
        """Take note of hosts that are new, gone, or called elsewhere now; from any thread."""
        assert self._loop is not None, "start first"
        self._loop.call_soon_threadsafe(self._follow)

    def flush(self) -> bool:
        """True: each link begins with what its host lacks, so nothing depends on what waits here."""
        return True

    def _follow(self) -> None:
        wanted = {host: self.feed.address(host) for host in self.feed.hosts()}
        for host, link in list(self._links.items()):
            if wanted.get(host) != link.address:
                self._close(host)
        for host, address in wanted.items():
            if address is not None and host not in self._links:
                link = self._links[host] = _Link(host, address)
                link.task = asyncio.ensure_future(self._keep(link))

    def send(self, message: HostMessage, hosts: Iterable[str]) -> bool:
        """Tell hosts a transaction, after all that they were told before; from any thread."""
        assert self._loop is not None, "start first"
        self._loop.call_soon_threadsafe(self._enqueue, message, list(hosts))
        return True

    def faults(self) -> tuple[str, ...]:
        """None: a host that cannot be called is its own trouble."""
        return ()

    def statistics(self) -> Mapping[str, int]:
        """What was sent to all hosts since the start."""
        names = [one.name for one in fields(Traffic)]
        return {name: sum(getattr(link.traffic, name) for link in self._links.values()) for name in names}

    def _enqueue(self, message: HostMessage, hosts: Iterable[str]) -> None:
        for host in hosts:
            link = self._links.get(host)
            if link is not None:
                link.queue.append(message)
                link.wake.set()

    def _close(self, host: str) -> asyncio.Future[None]:
        link = self._links.pop(host)
        assert link.task is not None
        link.task.cancel()
        return link.task

    async def _keep(self, link: _Link) -> None:
        shortest, longest = BACKOFF
        pause = shortest
        while True:
            try:
                async with self._session(link) as session:
                    await self._serve(link, session)
            except (aiohttp.ClientError, OSError, TimeoutError, RefusedError, msgspec.MsgspecError) as exc:
                link.traffic.failures += 1
                refused = isinstance(exc, RefusedError)
                self.feed.reachable(link.host, f"{exc}" or type(exc).__name__, refused=refused)
                if not refused and link.doubts.told:
                    pause = shortest
            except Exception:
                log.exception("the link to host %s failed; it begins anew", link.host, extra=about(host=link.host))
                self.feed.reachable(link.host, "the link failed; the controller's log says why")
            link.queue.clear()  # the next try begins with what the host lacks
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(longest, pause * 2)

    @contextlib.asynccontextmanager
    async def _session(self, link: _Link) -> AsyncIterator[aiohttp.ClientSession]:
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN, sock_read=ANSWER_WITHIN)
        connector: aiohttp.BaseConnector
        if link.address.startswith("unix:"):
            connector, base = aiohttp.UnixConnector(link.address.removeprefix("unix:")), "http://agent"
        else:
            connector, base = aiohttp.TCPConnector(ssl=self.tls or True, socket_factory=_socket), link.address
        async with aiohttp.ClientSession(
            base,
            connector=connector,
            timeout=timeout,
            read_bufsize=LONGEST_EVENT,
            headers={HEADER: str(PROTOCOL)},
        ) as session:
            yield session

    async def _serve(self, link: _Link, session: aiohttp.ClientSession) -> None:
        """Keep one host in step until something fails."""
        link.doubts = Doubts()
        await self._meet(link, session)
        listener = asyncio.ensure_future(self._listen(link, session))
        try:
            confirmed = False
            while True:
                await self._catch_up(link, session)
                if not confirmed:
                    await self._confirm(link, session)
                    confirmed = True
                while await self._next(link, listener):
                    if not await self._tell(link, session):
                        break
        finally:
            listener.cancel()
            await asyncio.wait({listener})  # unlike awaiting it, this lets the link's own cancellation through
            if not listener.cancelled():
                listener.exception()  # the link's own failure is the one that is told

    async def _meet(self, link: _Link, session: aiohttp.ClientSession) -> None:
        """Raises RefusedError unless the host speaks this version of the protocol; nothing is told until then."""
        async with session.get("/v1/host", server_hostname=link.host) as response:
            body = await response.read()
            if response.status != 200:
                raise RefusedError(_reason(body, response.status))
        if reason := incompatible(msgspec.json.decode(body, type=_Spoken).protocols):
            raise RefusedError(reason)

    async def _next(self, link: _Link, listener: asyncio.Future[None]) -> bool:
        """Wait for something to tell; false when it is time to look at what the host holds."""
        while not link.queue and (left := min(link.look_at, link.doubts.due or link.look_at) - time.monotonic()) > 0:
            link.wake.clear()
            waiting = asyncio.ensure_future(link.wake.wait())
            either: set[asyncio.Future[Any]] = {waiting, listener}
            await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if listener.done():
                break
        if listener.done():
            listener.result()
            raise aiohttp.ClientConnectionError("the stream of reports has ended")
        return bool(link.queue)

    async def _catch_up(self, link: _Link, session: aiohttp.ClientSession) -> None:
        """Ask what the host holds and tell what it lacks."""
        link.doubts.asking()
        link.queue.clear()  # what is in there is part of what is wanted now; what comes later is told later
        wanted = self.feed.wanted(link.host)
        held, refused = await self._held(link, session, wanted)
        wanted = {vpc: head for vpc, head in wanted.items() if vpc not in refused}
        lacking = lacks(wanted, held)
        for vpc, above in lacking.raised.items():
            await asyncio.to_thread(self.feed.raise_revision, vpc, above)
        concerned = self.feed.wanted(link.host) if lacking else wanted
        states = [state for vpc in lacking.put if vpc in concerned and (state := self.feed.state(vpc)) is not None]
        items = [withdraw_item(vpc, held[vpc].revision) for vpc in lacking.withdraw]
        items += [item for state in states for item in begin_anew(state, held.get(state.name))]
        told = {vpc: head.revision for vpc, head in wanted.items() if vpc not in lacking.put}
        told |= {state.name: state.revision for state in states}
        if items:
            link.traffic.catch_ups += 1
            refused |= await self._give(link, session, items)
        self._note_refused(link, refused)
        told = {vpc: revision for vpc, revision in told.items() if vpc not in refused}
        link.doubts.agreed(told, time.monotonic())
        link.look_at = time.monotonic() + CHECK_EVERY * random.uniform(0.9, 1.1)
        self.feed.reachable(link.host, "")

    async def _give(self, link: _Link, session: aiohttp.ClientSession, items: list[Item]) -> dict[str, str]:
        """Tell items together or, if that is refused, those of each VPC alone; returns the VPCs refused, with why."""
        try:
            if not await self._post(link, session, [HostMessage("catch-up", tuple(items), {})]):
                raise RefusedError("the host holds something else than it said")
        except _ItemsRefusedError as exc:
            vpcs = list(dict.fromkeys(item.vpc for item in items))
            if len(vpcs) == 1:
                return {vpcs[0]: str(exc).partition("\n")[0]}
            refused: dict[str, str] = {}
            for vpc in vpcs:
                refused |= await self._give(link, session, [item for item in items if item.vpc == vpc])
            return refused
        return {}

    def _note_refused(self, link: _Link, refused: Mapping[str, str]) -> None:
        for vpc, reason in refused.items():
            if link.refused.get(vpc) != reason:
                log.error("host %s refuses VPC %s: %s", link.host, vpc, reason, extra=about(vpc, host=link.host))
        link.refused = refused
        self.feed.refused(link.host, refused)

    async def _confirm(self, link: _Link, session: aiohttp.ClientSession) -> None:
        """Say that what the host holds now is so: one that was booted keeps its ports down until it hears that."""
        body = msgspec.json.encode({"vpcs": list(link.doubts.told)})
        headers = {"Content-Type": "application/json"}
        path = "/v1/host/confirm"
        async with session.post(path, data=body, headers=headers, server_hostname=link.host) as response:
            answer = await response.read()
            if response.status >= 300:
                raise RefusedError(_reason(answer, response.status))

    async def _held(
        self, link: _Link, session: aiohttp.ClientSession, wanted: Mapping[str, Head]
    ) -> tuple[dict[str, Head], dict[str, str]]:
        """What the host holds of ours, and the wanted VPCs that it has from another owner, with words for it."""
        async with session.get("/v1/vpcs", server_hostname=link.host) as response:
            body = await response.read()
            if response.status != 200:
                raise RefusedError(_reason(body, response.status))
            vpcs: dict[str, Any] = msgspec.json.decode(body)
        ours, foreign = dict[str, Head](), dict[str, str]()
        for name, vpc in vpcs.items():
            if vpc["owner"] == self.feed.source:
                ours[name] = Head(vpc["revision"], vpc["digest"])
            elif name in wanted:
                foreign[name] = f"it belongs to {owner_text(vpc['owner'])} there"
        return ours, foreign

    async def _tell(self, link: _Link, session: aiohttp.ClientSession) -> bool:
        """Tell all that waits, in one request; false when the host turns out to be out of step."""
        told = link.doubts.told
        if link.refused and any(not link.refused.keys().isdisjoint(one.revisions) for one in link.queue):
            link.look_at = min(link.look_at, time.monotonic() + TRY_AGAIN)
            link.queue = deque(_without(one, link.refused) for one in link.queue)
        messages = [one for one in link.queue if any(told.get(v, -1) < r for v, r in one.revisions.items())]
        link.queue.clear()
        if not messages:
            return True
        try:
            if not await self._post(link, session, messages):
                return False
        except _ItemsRefusedError:
            return False  # the next look tells each VPC alone
        for message in messages:
            link.doubts.tell(message.items, message.revisions, time.monotonic())
        return True

    async def _post(self, link: _Link, session: aiohttp.ClientSession, messages: list[HostMessage]) -> bool:
        """One batch; false when the host is out of step. Raises RefusedError when it does not take it."""
        body = b"[" + b",".join(message.body for message in messages) + b"]"
        link.traffic.requests += 1
        link.traffic.messages += len(messages)
        link.traffic.bytes += len(body)
        path = f"/v1/batch?owner={quote(self.feed.source)}"
        headers = {"Content-Type": "application/json"}
        async with session.post(path, data=body, headers=headers, server_hostname=link.host) as response:
            answer = await response.read()
            if response.status < 300:
                return True
            if response.status == 409 and _code(answer) in OUT_OF_STEP:
                return False
            kind = _ItemsRefusedError if response.status in (409, 422) else RefusedError
            raise kind(_reason(answer, response.status))

    async def _listen(self, link: _Link, session: aiohttp.ClientSession) -> None:
        """Follow the host's reports until the stream ends."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_WITHIN, sock_read=SILENT)
        path = f"/v1/reports?owner={quote(self.feed.source)}"
        async with session.get(path, timeout=timeout, server_hostname=link.host) as response:
            if response.status != 200:
                raise RefusedError(_reason(await response.read(), response.status))
            async for line in response.content:
                if line.startswith(b"data:"):
                    self._take(link, line[5:].strip())

    def _take(self, link: _Link, body: bytes) -> None:
        try:
            report: ReportMessage = decode(body, ReportMessage)
        except (MalformedError, UnknownVersionError) as exc:
            log.warning("host %s: a report that is not understood: %s", link.host, exc, extra=about(host=link.host))
            return
        if report.host != link.host:
            log.warning(
                "host %s reports in the name of %s: ignored", link.host, report.host, extra=about(host=link.host)
            )
            return
        self.feed.reported(report)
        link.doubts.report(report.vpcs, time.monotonic(), full=report.full)
        if link.doubts.due is not None:
            link.wake.set()


def _without(message: HostMessage, vpcs: Mapping[str, str]) -> HostMessage:
    """What a message says of other VPCs."""
    items = tuple(item for item in message.items if item.vpc not in vpcs)
    return HostMessage(message.tx, items, {v: r for v, r in message.revisions.items() if v not in vpcs})


def _socket(info: Any) -> socket.socket:
    family, kind, protocol, _, _ = info
    made = socket.socket(family, kind, protocol)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED)
    return made


def _code(body: bytes) -> str:
    with contextlib.suppress(msgspec.DecodeError, AttributeError):
        return str(msgspec.json.decode(body).get("code", ""))
    return ""


def _reason(body: bytes, status: int) -> str:
    with contextlib.suppress(msgspec.DecodeError, AttributeError):
        return str(msgspec.json.decode(body).get("detail", f"HTTP status {status}"))
    return f"HTTP status {status}"
