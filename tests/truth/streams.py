"""Connections that stay open, with numbers in them: what has arrived, and whether everything did, in order."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from ovsnet.lab.segments import TCP, UDP
from tests.truth.scenario import Stream, address

if TYPE_CHECKING:
    from tests.truth.bench import Bench
    from tests.truth.wire import Tuple

PERIOD = 0.01
RECORD = struct.Struct("!Q")


class Live:
    """One open connection whose one end sends numbers all the time; ``received`` are those that came, in order."""

    def __init__(self, bench: Bench, stream: Stream, period: float = PERIOD) -> None:
        self._bench, self.stream, self.number, self._period = bench, stream, bench.number(), period
        self.sent = self.received = 0
        self.faults: list[str] = []
        self.arrivals: list[tuple[float, int]] = []
        self._rest = b""
        self._tasks: list[asyncio.Task[Any]] = []
        self.socket: socket.socket | None = None

    async def open(self) -> None:
        """Connect, and begin. Raises TimeoutError when the other end does not answer."""
        stream = self.stream
        await self._bench.serve(stream.dst, stream.protocol, stream.port)
        kind = socket.SOCK_STREAM if stream.protocol == "tcp" else socket.SOCK_DGRAM
        made = self.socket = self._bench.open(stream.src, stream.family, kind)
        loop = asyncio.get_running_loop()
        self._said = (b"push" if stream.pushes == "server" else b"sink") + struct.pack("!I", self.number)
        there = self._bench.end(stream.dst, stream.src, stream.family, stream.port)
        await asyncio.wait_for(loop.sock_connect(made, there), 5.0)
        if stream.protocol == "tcp":
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if stream.protocol == "tcp" or stream.pushes == "server":
            await loop.sock_sendall(made, self._said)
        if stream.pushes == "server":
            self._start(self._receive(made))
        else:
            self._start(self._push(made, None, b"" if stream.protocol == "tcp" else self._said))

    def close(self) -> None:
        """End it."""
        for task in self._tasks:
            task.cancel()
        if self.socket is not None:
            self.socket.close()

    def tuple_from(self, end: str) -> Tuple:
        """The packets that ``end`` sends in it."""
        assert self.socket is not None
        stream, protocol = self.stream, TCP if self.stream.protocol == "tcp" else UDP
        here = address(stream.src, stream.family), self.socket.getsockname()[1]
        there = address(stream.dst, stream.family), stream.port
        return (protocol, *here, *there) if end == stream.src else (protocol, *there, *here)

    def packets(self) -> int:
        """How many packets of it have arrived at either end so far."""
        stream, heard = self.stream, self._bench.heard.tuples
        return heard[stream.dst, self.tuple_from(stream.src)] + heard[stream.src, self.tuple_from(stream.dst)]

    async def serve_tcp(self, connection: socket.socket, said: bytes) -> None:
        """The server's end of a TCP connection, as the client asked for it."""
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await (self._push(connection, None, b"") if said == b"push" else self._receive(connection))

    def served_udp(self, made: socket.socket, said: bytes, peer: Any) -> None:
        """The server's end of a UDP conversation: a datagram came."""
        if said[:4] == b"push":
            self._start(self._push(made, peer, b""))
        else:
            self._take(said[8:])

    def _start(self, work: Any) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _push(self, made: socket.socket, peer: Any, head: bytes) -> None:
        """Send numbers until cancelled. TCP keeps what it cannot send yet; of datagrams an error is as good as lost."""
        loop = asyncio.get_running_loop()
        while True:
            record = head + RECORD.pack(self.sent)
            if self.stream.protocol == "tcp":
                await loop.sock_sendall(made, record)
            else:
                with contextlib.suppress(OSError):
                    await (loop.sock_sendto(made, record, peer) if peer else loop.sock_sendall(made, record))
            self.sent += 1
            await asyncio.sleep(self._period)

    async def _receive(self, made: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.sock_recv(made, 65535)
            except OSError as error:
                if self.stream.protocol == "udp":
                    continue  # an ICMP error was heard; datagrams go on
                self.faults.append(f"broken: {error.strerror}")
                return
            if not data and self.stream.protocol == "tcp":
                self.faults.append("closed by the other end")
                return
            self._take(data)

    def _take(self, data: bytes) -> None:
        data = self._rest + data
        usable = len(data) - len(data) % RECORD.size
        self._rest = data[usable:]
        now = time.monotonic()
        for (number,) in RECORD.iter_unpack(data[:usable]):
            if self.stream.protocol == "tcp" and number != self.received:
                self.faults.append(f"{number} came instead of {self.received}")
            self.received += 1
            self.arrivals.append((now, number))
