"""The reports of this host as a stream, for a controller that calls the hypervisor's API."""

from __future__ import annotations

import asyncio
import contextlib
import random
import secrets
import time
from collections.abc import AsyncIterator, Iterable

from ovsnet.agent import report
from ovsnet.agent.agent import Agent
from ovsnet.transport.messages import ReportMessage, encode
from ovsnet.transport.reports import FULL_EVERY, Pace, Reporter

BEAT = 2.0
"""Seconds between two signs of life; a reader may give up after three times that."""


async def reports(agent: Agent, owner: str) -> AsyncIterator[bytes]:
    """A full report to an owner, then differences as they come, as server-sent events, until the agent ends.

    "" is told of everybody's VPCs.
    """
    loop, woken = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile, and nobody reads
            loop.call_soon_threadsafe(woken.set)

    reporter, pace, seen = Reporter(agent.config.host, secrets.token_hex(8)), Pace(), report.Reports(agent)
    stops = [agent.watch(wake), agent.events.listen(wake)]
    full_at = 0.0
    try:
        while not agent.events.closed:
            woken.clear()
            now = time.monotonic()
            if now >= full_at:
                full_at = now + FULL_EVERY * random.uniform(0.75, 1.25)
                yield _text(reporter.full(seen.picture(owner)))
            else:
                yield _text(reporter.delta(seen.changes(owner)))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(woken.wait(), BEAT)
                await asyncio.sleep(pace.delay(time.monotonic()))
    finally:
        for stop in stops:
            stop()
        seen.close()


def _text(messages: Iterable[ReportMessage]) -> bytes:
    """Messages as events; a comment for none, so that the reader knows that somebody is there."""
    return b"".join(b"event: report\ndata: %s\n\n" % encode(message) for message in messages) or b":\n\n"
