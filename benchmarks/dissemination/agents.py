"""Simulated hosts' APIs: each on a unix socket of its own, for a controller that calls hosts.

As on the bus, a host holds the states that it is told with their true digests and reports each as enforced at once. It
speaks as much HTTP as the controller's links need.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from benchmarks.dissemination.holding import GapError, Holding, Tally, answer
from ovsnet.transport.messages import PROTOCOL, Item
from ovsnet.transport.subjects import CHANGE, HEADS

BEAT = 2.0
"""Seconds between two signs of life on the stream of reports, as an agent gives them."""
_items = msgspec.json.Decoder(list[Item]).decode


class AgentApi:
    """One simulated host's API.

    It agrees with the controller from a confirmation, which comes once it was told all, until the stream of reports
    ends. ``protocols``: the versions of the protocol that it says it speaks.
    """

    protocols = (PROTOCOL,)

    def __init__(self, name: str, tally: Tally) -> None:
        self.tally = tally
        self.holding = Holding(name, tally)
        self.streams: set[asyncio.StreamWriter] = set()

    async def serve(self, path: Path) -> asyncio.Server:
        """Listen on a socket."""
        return await asyncio.start_unix_server(self._connected, path)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line, *fields = head.split(b"\r\n")
                length = next((int(one[15:]) for one in fields if one.lower().startswith(b"content-length:")), 0)
                body = await reader.readexactly(length)
                method, target, _ = line.decode().split(" ")
                if target.partition("?")[0] == "/v1/reports":
                    await self._stream(reader, writer)
                    return
                writer.write(self.answered(method, target.partition("?")[0], body, len(head) + length))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the controller has gone
        finally:
            writer.close()

    def answered(self, method: str, path: str, body: bytes, size: int) -> bytes:
        """The answer to a request of so many bytes, as bytes."""
        match method, path:
            case "GET", "/v1/host":
                return response(200, msgspec.json.encode({"protocols": self.protocols}))
            case "GET", "/v1/vpcs":
                held = {
                    vpc: {"owner": one.owner, "revision": one.revision, "enforced": one.revision, "digest": digest}
                    for (vpc, (one, _)), (_, digest) in zip(
                        self.holding.states.items(), self.holding.heads().values(), strict=True
                    )
                }
                reply = response(200, msgspec.json.encode(held))
                self.tally.heard(HEADS, size + len(reply))
                return reply
            case "POST", "/v1/batch":
                self.tally.heard(CHANGE, size)
                return self._batch(body)
            case "POST", "/v1/host/confirm":
                self.holding.agree(True)
                return response(200, b'{"waiting":[]}')
        return response(404, b'{"code":"not-found"}')

    def said(self, report: bytes) -> bytes:
        """A report as it goes into the stream."""
        return event(report)

    def _batch(self, body: bytes) -> bytes:
        try:
            told = self.holding.take(_items(body))
        except GapError:
            return response(409, b'{"code":"revision-gap"}')
        for stream in self.streams:
            stream.write(self.said(self.holding.report(told, full=False)))
        return response(200, b'{"changed":true}')

    async def _stream(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n")
        writer.write(self.said(self.holding.report(self.holding.everything(), full=True)))
        self.streams.add(writer)
        self.tally.connected += 1
        ended = asyncio.ensure_future(reader.read())
        try:
            while not (await asyncio.wait({ended}, timeout=BEAT))[0]:
                writer.write(b":\n\n")
        finally:
            ended.cancel()
            self.streams.discard(writer)
            self.tally.connected -= 1
            self.holding.agree(False)


def response(status: int, body: bytes) -> bytes:
    """A response with JSON in it."""
    head = b"HTTP/1.1 %d -\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


def event(report: bytes) -> bytes:
    """A report as it stands in the stream."""
    return b"event: report\ndata: %s\n\n" % report


def main(paths: dict[str, Path], unwatched: list[str], pipe: Connection) -> None:
    """Run the hosts whose sockets are given; what the ``unwatched`` see is not counted.

    Answers what is asked on ``pipe`` until it is told to end.
    """
    asyncio.run(_main(paths, unwatched, pipe))


async def _main(paths: dict[str, Path], unwatched: list[str], pipe: Connection) -> None:
    tally, aside = Tally(), Tally()
    apart = frozenset(unwatched)
    servers = [await AgentApi(name, aside if name in apart else tally).serve(path) for name, path in paths.items()]
    await answer(pipe, tally)
    for server in servers:
        server.close()
