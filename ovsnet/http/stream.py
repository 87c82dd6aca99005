"""An event log as a stream of server-sent events (HTML Living Standard, 9.2)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

import msgspec
from litestar.response import Stream

from ovsnet.http.events import Event, EventLog
from ovsnet.http.parameters import number

HEARTBEAT = 5.0
"""Seconds between two comments in a stream where nothing happens, so that both ends notice the other's death."""
MEDIA_TYPE = "text/event-stream"
SINCE = number("since", "Begin after the event of this serial; left out, with what happens from now on.")


def event_stream(log: EventLog, since: int | None, headers: Mapping[str, str]) -> Stream:
    """The answer that follows a log; a browser that reconnects says with a header where it was."""
    last = headers.get("last-event-id", "")
    if since is None and last.isascii() and last.isdigit():
        since = int(last)
    return Stream(follow(log, since), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})


async def follow(log: EventLog, since: int | None, heartbeat: float = HEARTBEAT) -> AsyncIterator[bytes]:
    """The events after ``since`` (``None``: from now on) as they come, until the log is closed."""
    serial = log.last if since is None else since
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody reads
            loop.call_soon_threadsafe(woken.set)

    stop = log.listen(wake)
    try:
        yield f": serial {log.last}\n\n".encode()
        while not log.closed:
            woken.clear()
            events = log.since(serial)
            if events:
                serial = events[-1].serial
                yield b"".join(_text(event) for event in events)
                continue
            try:
                await asyncio.wait_for(woken.wait(), heartbeat)
            except TimeoutError:
                yield b":\n\n"
    finally:
        stop()


def _text(event: Event) -> bytes:
    body = msgspec.json.encode(event.data).decode()
    return f"id: {event.serial}\nevent: {event.kind}\ndata: {body}\n\n".encode()
