"""A proxy between NATS clients and a server that loses, doubles, delays and reorders messages, and stalls or cuts.

It reads the protocol, so only whole messages are touched, in either direction: ``down`` is MSG and HMSG to clients,
``up`` is PUB and HPUB to the server. As a thread: ``NatsProxy(url)``. As a process, with a control socket that takes
one JSON object a line, such as ``{"down": {"drop": 0.1, "match": "in.change$"}}``, ``{"stall": true}`` or
``{"cut": true}``, and answers with the counts:

    python -m tests.contract.nats_proxy --server nats://127.0.0.1:4222 --listen 4223 --control /tmp/proxy.sock
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlparse


@dataclass
class Faults:
    """What happens to messages whose subject matches: each a probability, ``delay`` in seconds at most."""

    drop: float = 0.0
    double: float = 0.0
    reorder: float = 0.0
    delayed: float = 0.0
    delay: float = 0.0
    match: str = ""


class _Direction:
    """One direction of one connection: frames in, frames out."""

    def __init__(self, proxy: NatsProxy, name: str, verbs: tuple[bytes, ...], writer: asyncio.StreamWriter) -> None:
        self.proxy, self.name, self.verbs, self.writer = proxy, name, verbs, writer
        self.withheld: bytes | None = None

    async def run(self, reader: asyncio.StreamReader) -> None:
        """Hand on what arrives until the connection ends."""
        while True:
            line = await reader.readline()
            if not line:
                return
            verb, *words = line.split()
            frame = line
            if verb.upper() in self.verbs:
                frame += await reader.readexactly(int(words[-1]) + 2)
                await self.proxy.flowing()
                await self.message(words[0].decode(), frame)
            else:
                await self.proxy.flowing()
                self.release()
                self.send(frame)
            await self.writer.drain()

    async def message(self, subject: str, frame: bytes) -> None:
        """One message, with what befalls it."""
        faults, rng, counts = self.proxy.faults[self.name], self.proxy.rng, self.proxy.counts
        if not re.search(faults.match, subject):
            self.release()
            self.send(frame)
            return
        counts[f"{self.name}_messages"] += 1
        if rng.random() < faults.drop:
            counts[f"{self.name}_dropped"] += 1
            return
        if rng.random() < faults.delayed:
            counts[f"{self.name}_delayed"] += 1
            asyncio.get_running_loop().call_later(rng.random() * faults.delay, self.send, frame)
            return
        if self.withheld is None and rng.random() < faults.reorder:
            counts[f"{self.name}_reordered"] += 1
            self.withheld = frame  # goes after the next one
            asyncio.get_running_loop().call_later(0.5, self.release)
            return
        self.send(frame)
        self.release()
        if rng.random() < faults.double:
            counts[f"{self.name}_doubled"] += 1
            self.send(frame)

    def release(self) -> None:
        """Let the message go that was withheld."""
        frame, self.withheld = self.withheld, None
        if frame is not None:
            self.send(frame)

    def send(self, frame: bytes) -> None:
        """Write a frame, if the connection still stands."""
        if not self.writer.is_closing():
            self.writer.write(frame)


class NatsProxy:
    """Listens on a loopback port and hands on to ``server``; faults, ``stall`` and ``cut`` may change at any time."""

    def __init__(self, server: str, *, port: int = 0, seed: int = 0, control: str | None = None) -> None:
        url = urlparse(server)
        self._server = (url.hostname or "127.0.0.1", url.port or 4222)
        self.port, self._control = port, control
        self.rng = random.Random(seed)
        self.faults = {"down": Faults(), "up": Faults()}
        self.counts: Counter[str] = Counter()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="nats proxy", daemon=True)

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> NatsProxy:
        """Start to listen; returns when it does."""
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)
        return self

    def close(self) -> None:
        """Cut everything and end."""
        self.cut()
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def down(self, **faults: Any) -> None:
        """From now on these faults on the way to clients; none if none are given."""
        self.faults["down"] = Faults(**faults)

    def up(self, **faults: Any) -> None:
        """From now on these faults on the way to the server."""
        self.faults["up"] = Faults(**faults)

    def stall(self, stalled: bool = True) -> None:
        """Let nothing through, or go on."""
        self._call(self._flowing.clear if stalled else self._flowing.set)

    def cut(self) -> None:
        """Cut all connections; clients may connect again."""

        def abort() -> None:
            for writer in list(self._connections):
                writer.transport.abort()

        self._call(abort)

    async def flowing(self) -> None:
        """Wait while it is stalled."""
        await self._flowing.wait()

    def _call(self, function: Callable[[], None]) -> None:
        done = threading.Event()
        self._loop.call_soon_threadsafe(lambda: (function(), done.set()))
        done.wait(5)

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    async def _listen(self) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=1 << 22)
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]
        if self._control is not None:
            self._servers.append(await asyncio.start_unix_server(self._obey, self._control))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            up_reader, up_writer = await asyncio.open_connection(*self._server, limit=1 << 22)
        except OSError:
            writer.transport.abort()
            return
        self._connections |= {writer, up_writer}
        ways = [
            asyncio.ensure_future(_Direction(self, "up", (b"PUB", b"HPUB"), up_writer).run(reader)),
            asyncio.ensure_future(_Direction(self, "down", (b"MSG", b"HMSG"), writer).run(up_reader)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError, asyncio.IncompleteReadError):
                await way
        for one in (writer, up_writer):
            self._connections.discard(one)
            one.transport.abort()

    async def _obey(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            order = json.loads(line)
            for way in ("down", "up"):
                if way in order:
                    self.faults[way] = Faults(**order[way])
            if "stall" in order:
                self._flowing.clear() if order["stall"] else self._flowing.set()
            if order.get("cut"):
                for one in list(self._connections):
                    one.transport.abort()
            writer.write(json.dumps(self.counts).encode() + b"\n")
            await writer.drain()


def main() -> None:
    """Run as a process until it is ended."""
    parser = argparse.ArgumentParser(description="A faulty line between NATS clients and a server.")
    parser.add_argument("--server", required=True)
    parser.add_argument("--listen", type=int, default=0)
    parser.add_argument("--control", required=True)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    proxy = NatsProxy(options.server, port=options.listen, seed=options.seed, control=options.control).start()
    print(proxy.url, flush=True)  # noqa: T201
    threading.Event().wait()


if __name__ == "__main__":
    main()
