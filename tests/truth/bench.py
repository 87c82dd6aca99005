"""The workloads of the truth table: their sockets, the servers in them, and what is tried from one to another.

Everything runs in one thread of its own, so that connections that stay open go on while the model changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import socket
import struct
import threading
import time
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, TypeVar

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.lab.patience import PATIENCE as SLOWNESS
from ovsnet.lab.segments import SCTP, TCP, UDP
from ovsnet.lab.workload import INTERFACE
from tests.truth import wire
from tests.truth.scenario import PORTS, Cell, Error, Family, Said, Service, Verdict, address
from tests.truth.streams import Live

SETTLE, PATIENCE = 0.3 * SLOWNESS, 4.0 * SLOWNESS
"""Seconds that what must not come is waited for, and what must."""
REFUSALS = frozenset({errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.EACCES, errno.ECONNRESET, errno.EPROTO})
LINGER_NOT = struct.pack("ii", 1, 0)
ECHOED = {8, 128}
T = TypeVar("T")
Address = tuple[Any, ...]


class Bench:
    """The workloads of a lab, by the names of their ports; ``close`` ends everything that runs in them."""

    def __init__(self, lab: Lab, vpc: str = "t") -> None:
        self._netns = {port: lab.port(f"{vpc}/{port}").netns for port in PORTS}
        self.heard = wire.Heard()
        self._closing = contextlib.ExitStack()
        self._servers: set[tuple[str, str, int]] = set()
        self._number = itertools.count(int.from_bytes(os.urandom(2), "big") << 8)
        self._tuples: dict[Cell, tuple[wire.Tuple, int]] = {}
        self._numbers: dict[Cell, int] = {}
        self._index: dict[str, int] = {}
        self.live: dict[str, Live] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="bench", daemon=True)
        self._thread.start()
        for port in PORTS:
            self._prepare(port)

    def close(self) -> None:
        """End all connections and servers."""
        self.run(self._cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._closing.close()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        """Do something in the bench's own thread, and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    async def _cancel_all(self) -> None:
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)

    def _prepare(self, port: str) -> None:
        """Hear what arrives, and let the workload's kernel send as many ICMP errors as there are reasons for."""
        netns.sysctl(self._netns[port], {"ipv4/icmp_ratelimit": "0", "ipv6/icmp/ratelimit": "0"})
        with netns.inside(self._netns[port]):
            self._index[port] = socket.if_nametoindex(INTERFACE)
            ear = self._closing.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
            ear.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
            ear.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
            ear.bind((INTERFACE, 3))
        ear.setblocking(False)
        self._loop.call_soon_threadsafe(self._loop.add_reader, ear, self._hear, port, ear)

    def _hear(self, port: str, ear: socket.socket) -> None:
        for _ in range(256):
            try:
                frame = ear.recv(65535)
            except OSError:
                return
            self.heard.note(port, frame)

    def end(self, of: str, seen_from: str, family: Family, number: int) -> Address:
        """A socket address: ``of``'s, as ``seen_from`` names it."""
        ip = address(of, family)
        if family == "4":
            return ip, number
        return ip, number, 0, self._index[seen_from] if family == "ll" else 0

    @contextlib.contextmanager
    def opened(self, port: str, family: Family, kind: int, protocol: int = 0) -> Iterator[socket.socket]:
        """A socket in a workload, bound to its address of the family (and a free number, if it has numbers)."""
        made = self.open(port, family, kind, protocol)
        with made:
            yield made

    def open(self, port: str, family: Family, kind: int, protocol: int = 0) -> socket.socket:
        """As ``opened``, to be closed by the caller."""
        with netns.inside(self._netns[port]):
            made = socket.socket(socket.AF_INET if family == "4" else socket.AF_INET6, kind, protocol)
        made.setblocking(False)
        made.bind(self.end(port, port, family, 0))
        if kind == socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
        return made

    async def serve(self, port: str, kind: str, number: int) -> None:
        """Let a workload answer on a TCP or UDP port, or (``raw``) take a protocol, unless it does already."""
        if (port, kind, number) in self._servers:
            return
        self._servers.add((port, kind, number))
        with netns.inside(self._netns[port]):
            if kind == "raw":
                for family in (socket.AF_INET, socket.AF_INET6):
                    taken = self._closing.enter_context(socket.socket(family, socket.SOCK_RAW, number))
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
                return
            type_ = socket.SOCK_STREAM if kind == "tcp" else socket.SOCK_DGRAM
            made = self._closing.enter_context(socket.socket(socket.AF_INET6, type_))
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind(("::", number))
        if kind == "tcp":
            made.listen(512)
        self._loop.create_task(self._accept(made) if kind == "tcp" else self._answer(made))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            with contextlib.suppress(OSError):
                connection, _ = await self._loop.sock_accept(listener)
                connection.setblocking(False)
                self._loop.create_task(self._talk(connection))

    async def _talk(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, struct.error):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
            said = await self._loop.sock_recv(connection, 8)
            if said[:4] == b"ping":
                await self._loop.sock_sendall(connection, said)
                await self._loop.sock_recv(connection, 1)
            elif said[:4] in (b"push", b"sink") and (live := self._by_number(said)):
                await live.serve_tcp(connection, said[:4])

    async def _answer(self, made: socket.socket) -> None:
        while True:
            with contextlib.suppress(OSError):
                said, peer = await self._loop.sock_recvfrom(made, 65535)
                if said[:4] == b"ping":
                    await self._loop.sock_sendto(made, said[:32], peer)
                elif said[:4] in (b"push", b"sink") and (live := self._by_number(said)):
                    live.served_udp(made, said, peer)

    def _by_number(self, said: bytes) -> Live | None:
        """Whose it is; ``None``: it comes late, of what has ended."""
        (number,) = struct.unpack("!I", said[4:8])
        return next((live for live in self.live.values() if live.number == number), None)

    def number(self) -> int:
        """A number that nothing else in this bench has."""
        return next(self._number)

    def measure(self, cells: Mapping[Cell, Said]) -> dict[Cell, Verdict]:
        """Try every cell at once; returns what came of it. What must pass has ``PATIENCE`` seconds to do so."""
        return self.run(self._measure(cells))

    async def _measure(self, cells: Mapping[Cell, Said]) -> dict[Cell, Verdict]:
        for cell in cells:
            await self._serve_cell(cell)
        tasks = {cell: self._loop.create_task(self._try(cell)) for cell in cells}
        started = progress = time.monotonic()
        missing = len(cells)
        while True:
            await asyncio.sleep(0.02)
            now = time.monotonic()
            left = sum(not self._settled(cell, said.verdict, tasks[cell]) for cell, said in cells.items())
            progress, missing = (now, left) if left < missing else (progress, missing)
            enough = SETTLE if not left else PATIENCE
            if now - started > enough and now - progress > min(enough, SETTLE):
                break
        for task in tasks.values():
            task.cancel()
        found = await asyncio.gather(*tasks.values(), return_exceptions=True)
        return {cell: self._outcome(cell, one) for cell, one in zip(cells, found, strict=True)}

    def _settled(self, cell: Cell, verdict: Verdict, task: asyncio.Task[Verdict]) -> bool:
        if verdict in ("allow", "reject"):
            return task.done()
        return verdict == "drop" or self._arrived(cell)

    def _outcome(self, cell: Cell, found: Verdict | BaseException) -> Verdict:
        if isinstance(found, BaseException) and not isinstance(found, asyncio.CancelledError):
            raise found
        if isinstance(found, str):
            return found
        return "oneway" if self._arrived(cell) else "drop"

    def _arrived(self, cell: Cell) -> bool:
        """Whether what was sent for a cell came to its destination."""
        if cell in self._tuples:
            sent, before = self._tuples[cell]
            return self.heard.tuples[cell.dst, sent] > before
        return self.heard.tokens[cell.dst, self._numbers.get(cell, -1)] > 0

    async def _serve_cell(self, cell: Cell) -> None:
        kind, number = cell.service.kind, cell.service.number
        if kind in ("tcp", "udp", "fragments"):
            await self.serve(cell.dst, "udp" if kind == "fragments" else kind, number)
        if kind in ("sctp", "proto"):
            for end in (cell.src, cell.dst):
                await self.serve(end, "raw", SCTP if kind == "sctp" else number)

    async def _try(self, cell: Cell) -> Verdict:
        """Try one cell until its answer is there; cancelled if there is none."""
        ways = {"tcp": self._tcp, "udp": self._udp, "closed": self._udp, "fragments": self._udp, "icmp": self._icmp}
        return await ways.get(cell.service.kind, self._raw)(cell)

    def _name(self, cell: Cell, made: socket.socket, protocol: int) -> None:
        sport = made.getsockname()[1]
        ends = address(cell.src, cell.family), sport, address(cell.dst, cell.family), cell.service.number
        sent = (protocol, *ends)
        self._tuples[cell] = sent, self.heard.tuples[cell.dst, sent]  # an earlier cell may have had the same number

    async def _tcp(self, cell: Cell) -> Verdict:
        with self.opened(cell.src, cell.family, socket.SOCK_STREAM) as made:
            self._name(cell, made, TCP)
            try:
                await self._loop.sock_connect(made, self.end(cell.dst, cell.src, cell.family, cell.service.number))
                await self._loop.sock_sendall(made, b"ping")
                return "allow" if await self._loop.sock_recv(made, 8) == b"ping" else "reject"
            except OSError as error:
                return _refused(error)

    async def _udp(self, cell: Cell) -> Verdict:
        size = 4000 if cell.service.kind == "fragments" else 8
        with self.opened(cell.src, cell.family, socket.SOCK_DGRAM) as made:
            self._name(cell, made, UDP)
            try:
                made.connect(self.end(cell.dst, cell.src, cell.family, cell.service.number))
                await self._loop.sock_sendall(made, b"ping" + bytes(size))
                await self._loop.sock_recv(made, 100)
            except OSError as error:
                return _refused(error)
        return "allow"

    async def _icmp(self, cell: Cell) -> Verdict:
        number, kind = self.number(), cell.service.number
        ident = number & 0xFFFF
        self._numbers[cell] = number
        src, dst = address(cell.src, cell.family), address(cell.dst, cell.family)
        message = wire.icmp(src, dst, kind, ident, wire.token(number))
        self._send_raw(cell, cell.src, cell.dst, 1 if cell.family == "4" else 58, message)
        while not self.heard.errors[cell.src, number]:
            timestamp = kind == 13 and self.heard.answers[cell.src, 14, ident]
            if timestamp or (kind in ECHOED and self.heard.tokens[cell.src, number]):
                return "allow"
            await asyncio.sleep(0.01)
        return "reject"

    async def _raw(self, cell: Cell) -> Verdict:
        """One packet there and, when it has arrived, one back."""
        number = self.number()
        self._numbers[cell] = number
        protocol = SCTP if cell.service.kind == "sctp" else cell.service.number
        here, there = 20000 + number % 20000, cell.service.number
        forth, back = wire.token(number), wire.token(number)
        if protocol == SCTP and cell.service.kind == "sctp":
            forth, back = wire.sctp(here, there, forth), wire.sctp(there, here, back, answer=True)
        self._send_raw(cell, cell.src, cell.dst, protocol, forth)
        while not self._arrived(cell):
            if self.heard.errors[cell.src, number]:
                return "reject"
            await asyncio.sleep(0.01)
        self._send_raw(cell, cell.dst, cell.src, protocol, back)
        while not self.heard.tokens[cell.src, number]:
            await asyncio.sleep(0.01)
        return "allow"

    def _send_raw(self, cell: Cell, src: str, dst: str, protocol: int, message: bytes) -> None:
        with self.opened(src, cell.family, socket.SOCK_RAW, protocol) as made:
            made.sendto(message, self.end(dst, src, cell.family, 0))

    def error_arrives(self, error: Error) -> bool:
        """Send an ICMP error about a stream, or about what nobody sent, and tell whether it arrives."""
        return self.run(self._error_arrives(error))

    async def _error_arrives(self, error: Error) -> bool:
        number = self.number()
        family: Family = "4"
        if error.stream is not None:
            live = self.live[error.stream]
            family, sent = live.stream.family, live.tuple_from(error.dst)
        else:
            sent = (TCP, address(error.dst, "4"), 9, address(error.src, "4"), error.port)
        src, dst = address(error.src, family), address(error.dst, family)
        cell = Cell(error.src, error.dst, Service("icmp", 3), family)
        protocol = 1 if family == "4" else 58
        message = wire.too_big(src, dst, sent, wire.token(number))
        deadline = time.monotonic() + (PATIENCE if error.arrives else SETTLE)
        while not self.heard.tokens[error.dst, number] and time.monotonic() < deadline:
            self._send_raw(cell, error.src, error.dst, protocol, message)  # a single packet may be lost
            await asyncio.sleep(SETTLE / 3)
        return self.heard.tokens[error.dst, number] > 0


def _refused(error: OSError) -> Verdict:
    """An error that came back over the network. Raises any other."""
    if error.errno in REFUSALS:
        return "reject"
    raise error
