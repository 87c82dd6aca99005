"""A real nats-server with a generated configuration, and clients of it that note what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import signal
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.names import Authority, Kind
from ovsnet.pki.natsfile import configure, refresh
from tests.pki_kit import client_context

YEAR = timedelta(days=365)
HERE = ("127.0.0.1",)
REFUSED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"")


def now() -> datetime:
    return datetime.now(UTC)


def make_directory(root: Path) -> Directory:
    """Hosts hv1 and hv2, the publisher controller, the caller orch, the client billing, the server nats."""
    directory = Directory(root)
    directory.make_authorities(now(), YEAR)
    requests = [
        Request(Kind.HOST, "hv1"),
        Request(Kind.HOST, "hv2"),
        Request(Kind.PUBLISHER, "controller"),
        Request(Kind.CALLER, "orch"),
        Request(Kind.CLIENT, "billing"),
        Request(Kind.SERVER, "nats", HERE),
    ]
    directory.issue(requests, now(), YEAR)
    return directory


async def flush(client: Client) -> None:
    """Return when the server has done all that the client asked of it.

    The library's own ``flush`` alone has the server answer ahead of what the library has not written yet.
    """
    await client._flush_pending(force_flush=True)
    await client.flush()


class Peer:
    """A connection: what it heard, and what the server refused it."""

    def __init__(self) -> None:
        self.client: Client
        self.errors: list[str] = []
        self.closed = asyncio.Event()
        self._subscriptions: list[Subscription] = []

    async def listen(self, *subjects: str) -> None:
        for subject in subjects:
            self._subscriptions.append(await self.client.subscribe(subject))
        await flush(self.client)

    async def heard(self) -> list[tuple[str, bytes]]:
        """What arrived since last time: whatever the server had for this peer when this was called is there."""
        await flush(self.client)
        found = []
        for subscription in self._subscriptions:
            while subscription.pending_msgs:
                message = await subscription.next_msg()
                found.append((message.subject, message.data))
        return found

    async def send(self, *subjects: str, data: bytes = b"x", reply: str = "") -> None:
        for subject in subjects:
            await self.client.publish(subject, data, reply=reply)
        await flush(self.client)

    def refused(self) -> set[tuple[str, str]]:
        """("publish" or "subscription", subject) of all that was refused; nats-py gives it in small letters."""
        return {(found[1], found[2]) for found in map(REFUSED.search, self.errors) if found}


class Bus:
    """The server, on a loopback port of the kernel's choice; ``close`` ends it."""

    def __init__(self, directory: Directory, scratch: Path) -> None:
        self.directory, self.log = directory, scratch / "nats.log"
        self.configuration, _ = configure(directory, "nats", listen="127.0.0.1:-1")
        self._ports = scratch / "ports"
        self._ports.mkdir()
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> Bus:
        command = ["nats-server", "-c", str(self.configuration), "--ports_file_dir", str(self._ports)]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, stderr=log, stdout=log)
        self.port = _until(self._listening)
        return self

    def _listening(self) -> int | None:
        """The port in the server's file of ports, once that is there and whole."""
        for path in self._ports.glob("*.ports"):
            with contextlib.suppress(json.JSONDecodeError):
                return int(json.loads(path.read_text())["nats"][0].rpartition(":")[2])
        return None

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def reload(self) -> float:
        """Write the configuration from what the directory holds, tell the server; seconds until it says done."""
        refresh(self.directory)
        return self.signal_reload()

    def signal_reload(self) -> float:
        """Have the server take up its configuration as the file is; seconds until it says done."""
        before = self.log.read_text().count("Reloaded server configuration")
        start = time.monotonic()
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        _until(lambda: self.log.read_text().count("Reloaded server configuration") > before)
        return time.monotonic() - start

    async def connect(self, folder: str, context: ssl.SSLContext | None = None, **options: Any) -> Peer:
        """A peer with the certificate of a folder, such as ``hosts/hv1``."""
        peer = Peer()

        async def on_error(error: Exception) -> None:
            peer.errors.append(str(error))

        async def on_closed() -> None:
            peer.closed.set()

        context = context or client_context(self.directory.root / folder, Authority.CALLERS)
        peer.client = await nats.connect(
            f"tls://127.0.0.1:{self.port}",
            tls=context,
            allow_reconnect=False,
            connect_timeout=5,
            error_cb=on_error,
            closed_cb=on_closed,
            **options,
        )
        return peer


def _until(condition: Any, timeout: float = 10.0) -> Any:
    end = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < end, "the nats-server did not do it in time"
        time.sleep(0.005)
    return value
