"""A connection to NATS that restores itself, with a thread of its own: for programs that are not asynchronous.

What is published while there is no connection is lost, and what was on its way when one went may be: the messages of
this protocol are made for that. ``flush`` tells whether everything has arrived at the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.errors import Error as NatsError

from ovsnet.errors import UserError
from ovsnet.tls import client_context
from ovsnet.transport.subjects import inbox_prefix

log = logging.getLogger(__name__)

CONNECT_WITHIN = 3.0
"""Seconds for a server to take a connection."""
PAUSES = (0.5, 2.5)
"""The first and the longest span, in seconds, out of which the pause before the next attempt is drawn.

Together with ``CONNECT_WITHIN`` they bound how long after an outage a host is without the bus: hosts are to be up to
date within five seconds.
"""
PROBE_EVERY = 2.0
"""Seconds between two looks at whether the server still answers."""
DEAD_AFTER = 4.0
"""Seconds without an answer after which a connection is given up."""
MAX_QUEUE = 32 << 20
"""Bytes that wait for the connection before ``publish`` blocks."""
PATIENCE = 10.0
"""Seconds that ``publish`` blocks at most, before the message is dropped."""
HEADROOM = 4096
"""Bytes of a server's largest message that are left for headers."""


class Incoming(NamedTuple):
    """A message as it arrives; ``reply`` is the subject that an answer goes to, if one is awaited."""

    subject: str
    body: bytes
    headers: Mapping[str, str]
    reply: str = ""


@dataclass(frozen=True)
class BusOptions:
    """Where the bus is. ``servers`` are URLs, ``name`` is shown by the server.

    ``cert`` and ``key`` are this end's certificate and ``ca`` those that servers are verified against, as files (PEM);
    they are read anew for each connection. With ``ca`` a server without TLS is refused.
    """

    servers: tuple[str, ...]
    name: str
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    def context(self) -> ssl.SSLContext | None:
        """The context for TLS, if there is to be any. Raises UserError when the files cannot be used."""
        if self.ca is None:
            return None
        return client_context(self.ca, self.cert, self.key)


@dataclass
class BusStatistics:
    """What went over the bus since the start."""

    published: int = 0
    published_bytes: int = 0
    received: int = 0
    received_bytes: int = 0
    dropped: int = 0
    connections: int = 0


Handler = Callable[[Incoming], None]
Outgoing = tuple[str, bytes, dict[str, str] | None]
"""A subject, a body, and headers if there are any."""


@dataclass
class _Queue:
    """What waits to be sent over the present connection."""

    entries: deque[Outgoing] = field(default_factory=deque)
    size: int = 0
    scheduled: bool = False


class Bus:
    """A connection to one of several servers.

    ``on_connected()`` and ``on_lost(reason)`` are called on the bus's thread, and so are the handlers of subscriptions:
    they must be quick. Raises UserError when the certificates cannot be used.
    """

    def __init__(
        self,
        options: BusOptions,
        *,
        on_connected: Callable[[], None] = lambda: None,
        on_lost: Callable[[str], None] = lambda _: None,
    ) -> None:
        options.context()
        self.options = options
        self.statistics = BusStatistics()
        self.last_error = ""
        self.max_body = (1 << 20) - HEADROOM
        self._on_connected, self._on_lost = on_connected, on_lost
        self._subscriptions: list[tuple[str, Handler]] = []
        self._room = threading.Condition()
        self._queue = _Queue()
        self._client: Any = None
        self._sent = 0
        self._closing = False
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="bus", daemon=True)

    @property
    def connected(self) -> bool:
        """Whether there is a connection, as far as is known."""
        return self._client is not None

    def subscribe(self, subject: str, handler: Handler) -> None:
        """Have ``handler`` called for each message of a subject, in order; before ``start``."""
        self._subscriptions.append((subject, handler))

    def start(self) -> Bus:
        """Start to connect, for as long as it takes; returns at once."""
        self._thread.start()
        return self

    def close(self) -> None:
        """End the connection, after what was published."""
        self._closing = True
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join()
        with self._room:
            self._room.notify_all()

    def publish(self, messages: Sequence[Outgoing]) -> bool:
        """Send messages, side by side and after all earlier ones; false if they are dropped.

        They are when there is no connection, when it takes nothing any more, and when one has more than ``max_body``
        bytes. May block while much is waiting, but never on the bus's own thread.
        """
        size = sum(len(body) for _, body, _ in messages)
        with self._room:
            queue = self._queue
            if queue.size > MAX_QUEUE and threading.current_thread() is not self._thread:
                self._room.wait_for(lambda: queue.size <= MAX_QUEUE or self._queue is not queue, PATIENCE)
            stuck = self._client is None or self._queue is not queue or queue.size > MAX_QUEUE
            if stuck or any(len(body) > self.max_body for _, body, _ in messages):
                self.statistics.dropped += len(messages)
                return False
            queue.entries.extend(messages)
            queue.size += size
            self.statistics.published += len(messages)
            self.statistics.published_bytes += size
            if not queue.scheduled:
                queue.scheduled = True
                self._loop.call_soon_threadsafe(self._schedule, queue)
        return True

    def flush(self, timeout: float = PATIENCE) -> bool:
        """Wait, at most ``timeout`` seconds, until the server has all that was published so far; whether it has."""
        with self._room:
            if self._client is None:
                return False
            done = asyncio.run_coroutine_threadsafe(self._flushed(self._queue, self._client, timeout), self._loop)
        try:
            return done.result(timeout)
        except TimeoutError:
            done.cancel()
            return False

    async def _flushed(self, queue: _Queue, client: Any, timeout: float) -> bool:
        until = time.monotonic() + timeout
        while queue.scheduled and self._queue is queue and time.monotonic() < until:
            await asyncio.sleep(0.001)
        if self._queue is not queue or queue.scheduled:
            return False
        return await _answers(client, until - time.monotonic()) and self._queue is queue

    def _schedule(self, queue: _Queue) -> None:
        task = self._loop.create_task(self._drain(queue))
        task.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def _drain(self, queue: _Queue) -> None:
        """Hand what waits to the library, which blocks when the server does not read."""
        while True:
            with self._room:
                if self._queue is not queue or not queue.entries:
                    queue.scheduled = False
                    return
                subject, body, headers = queue.entries.popleft()
                client = self._client
            with contextlib.suppress(NatsError, OSError):
                await client.publish(subject, body, headers=headers)
            self._sent += 1
            with self._room:
                queue.size -= len(body)
                self._room.notify_all()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        finally:
            left = asyncio.all_tasks(self._loop)
            for task in left:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
            self._loop.close()

    async def _live(self) -> None:
        span, servers = PAUSES[0], list(self.options.servers)
        random.shuffle(servers)
        while not self._closing:
            servers.append(servers.pop(0))
            try:
                reason, lived = await self._connection(servers[0])
            except Exception as exc:  # a defect in the library must not end the attempts
                log.exception("the bus failed unexpectedly")
                reason, lived = f"unexpected {type(exc).__name__}: {exc}", 0.0
                with self._room:
                    self._client, self._queue = None, _Queue()
            span = PAUSES[0] if lived > PAUSES[1] else min(PAUSES[1], span * 2)
            if not self._closing:
                self._note(reason)
                with contextlib.suppress(TimeoutError):  # the pause is random, lest all hosts come at once
                    await asyncio.wait_for(self._stop.wait(), random.uniform(0.02, span))

    def _note(self, reason: str) -> None:
        if reason != self.last_error:
            log.warning("bus: %s", reason)
        self.last_error = reason

    async def _connection(self, server: str) -> tuple[str, float]:
        """One connection from its beginning to its end; why it ended, and for how many seconds it stood."""
        lost = asyncio.Event()
        client = Client()

        async def on_error(exc: Exception) -> None:
            self._note(f"{server}: {exc}")

        async def on_closed() -> None:
            lost.set()

        try:
            await asyncio.wait_for(
                client.connect(
                    server,
                    name=self.options.name,
                    tls=self.options.context(),
                    allow_reconnect=False,
                    connect_timeout=CONNECT_WITHIN,  # type: ignore[arg-type]
                    error_cb=on_error,
                    closed_cb=on_closed,
                    inbox_prefix=inbox_prefix(self.options.name),
                ),
                CONNECT_WITHIN,
            )
            if self.options.ca is not None and not client._server_info.get("tls_required"):
                raise UserError("the server speaks no TLS, and certificates are given")  # it might be anybody
            await asyncio.wait_for(self._subscribe(client), CONNECT_WITHIN)
        except (NatsError, OSError, TimeoutError, UserError, ValueError) as exc:
            await _abandon(client)
            return f"cannot connect to {server}: {str(exc) or type(exc).__name__}", 0.0
        return await self._serve(server, client, lost)

    async def _subscribe(self, client: Any) -> None:
        for subject, handler in self._subscriptions:
            await client.subscribe(subject, cb=self._receiver(handler))
        await client.flush(CONNECT_WITHIN)

    async def _serve(self, server: str, client: Any, lost: asyncio.Event) -> tuple[str, float]:
        began = time.monotonic()
        with self._room:
            self._client, self._queue = client, _Queue()
        self.max_body = max(1024, client.max_payload - HEADROOM)
        self.statistics.connections += 1
        self.last_error = ""
        log.info("bus: connected to %s", server)
        self._on_connected()
        reason = await self._watch(server, client, lost)
        if self._closing:
            await self._flushed(self._queue, client, 1.0)
        with self._room:
            self.statistics.dropped += len(self._queue.entries)
            self._client, self._queue = None, _Queue()
            self._room.notify_all()
        await _abandon(client)
        self._on_lost(reason)
        return reason, time.monotonic() - began

    async def _watch(self, server: str, client: Any, lost: asyncio.Event) -> str:
        """Return when the connection is lost, the server is silent, or the bus is to be closed; says which."""
        waits = [asyncio.ensure_future(event.wait()) for event in (lost, self._stop)]
        try:
            while True:
                await asyncio.wait(waits, timeout=PROBE_EVERY, return_when=asyncio.FIRST_COMPLETED)
                if self._stop.is_set():
                    return "closed"
                if lost.is_set():
                    return f"lost the connection to {server}"
                before = self._sent
                if not await _answers(client, DEAD_AFTER) and self._sent == before:
                    return f"{server} has not answered for {DEAD_AFTER:g} s"
        finally:
            for wait in waits:
                wait.cancel()

    def _receiver(self, handler: Handler) -> Callable[[Any], Any]:
        async def receive(message: Any) -> None:
            self.statistics.received += 1
            self.statistics.received_bytes += len(message.data)
            try:
                handler(Incoming(message.subject, message.data, message.headers or {}, message.reply))
            except Exception:
                log.exception("a message on %s could not be handled", message.subject)

        return receive


async def _answers(client: Any, timeout: float) -> bool:
    """Whether the server answers a probe that follows all that was written, within so many seconds."""
    probe = asyncio.ensure_future(client.flush(60))  # never cancelled: the library fails at an answer to such a one
    probe.add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait({probe}, timeout=max(0.001, timeout))
    return probe.done() and not probe.cancelled() and probe.exception() is None


async def _abandon(client: Any) -> None:
    """Close a connection, at once if it does not go by itself: the library would wait for a server that hangs."""
    with contextlib.suppress(Exception):
        await asyncio.wait_for(client.close(), 0.5)
    writer = getattr(getattr(client, "_transport", None), "_io_writer", None)
    if writer is not None:
        with contextlib.suppress(AttributeError):  # Python 3.11: a TLS transport that is closed already has no protocol
            writer.transport.abort()
