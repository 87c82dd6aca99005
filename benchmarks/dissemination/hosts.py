"""Simulated hosts: each with a connection of its own to a real nats-server, in a process of their own.

A host subscribes, says hello, holds the states that it is told with their true digests, and reports each as enforced at
once: what a real one does apart from compiling and its switch. It speaks NATS's protocol itself, so that the machine
carries more of them.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Patch, Put, patched
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.messages import PROTOCOL, ChangeMessage, HeadsMessage, HelloMessage, ReportMessage, VpcReport
from ovsnet.transport.operations import operations_of
from ovsnet.transport.subjects import CHANGE, CHUNK, HEADS, HELLO, REPORT, Subjects

_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"bench","protocol":1,"name":"%s"}\r\n'
_SUBJECTS = Subjects()
_encode = msgspec.json.encode
_changes = msgspec.json.Decoder(ChangeMessage).decode
_heads = msgspec.json.Decoder(HeadsMessage).decode


@dataclass
class Tally:
    """What all hosts have seen: by transaction the hosts that have it and when the last got it; messages and bytes.

    ``bytes`` are of messages with their first lines. ``endpoints``: those elsewhere in the states that hosts were told
    whole, ``foreign``: of them in VPCs that the host has no port in.
    """

    arrivals: dict[str, list[float]] = field(default_factory=dict)
    messages: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    endpoints: int = 0
    foreign: int = 0
    connected: int = 0
    hellos: int = 0
    agreeing: int = 0


class Host:
    """One simulated host."""

    def __init__(self, name: str, port: int, tally: Tally) -> None:
        self.name, self.port, self.tally = name, port, tally
        self.held: dict[str, tuple[VpcState, int]] = {}
        self.serial = 0
        self.agrees = False
        self.writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            try:
                await self._session()
            except (OSError, asyncio.IncompleteReadError, ConnectionError):
                self.tally.connected -= self.writer is not None
                self.writer = None
                self._agree(False)
            await asyncio.sleep(0.2)

    async def _session(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        await reader.readline()  # INFO
        name = self.name.encode()
        writer.write(_CONNECT % name + b"SUB %s 1\r\nPING\r\n" % _SUBJECTS.all_to_host(self.name).encode())
        self.writer = writer
        self.tally.connected += 1
        self._hello("connect")
        while True:
            line = await reader.readuntil(b"\r\n")
            if line.startswith((b"MSG ", b"HMSG ")):
                words = line.split()
                body = (await reader.readexactly(int(words[-1]) + 2))[:-2]
                self._message(words[1].decode(), body, len(line) + len(body) + 2)
            elif line.startswith(b"PING"):
                writer.write(b"PONG\r\n")

    def _message(self, subject: str, body: bytes, size: int) -> None:
        kind = subject.rsplit(".", 1)[1]
        self.tally.messages[kind] = self.tally.messages.get(kind, 0) + 1
        self.tally.bytes[kind] = self.tally.bytes.get(kind, 0) + size
        if kind == CHANGE:
            self._change(_changes(body))
        elif kind == HEADS:
            wanted = _heads(body).vpcs
            agrees = {vpc: (one.revision, digest_text(total)) for vpc, (one, total) in self.held.items()} == wanted
            self._agree(agrees)
            if not agrees:
                self._hello("heads")
        else:
            assert kind == CHUNK, kind
            raise RuntimeError("the benchmark's VPCs fit into one message")

    def _change(self, message: ChangeMessage) -> None:
        told: dict[str, VpcReport | None] = {}
        for operation in operations_of(message.items):
            held = self.held.get(operation.vpc)
            if isinstance(operation, Put):
                self.held[operation.vpc] = (operation.state, state_sum(operation.state))
                self._count(operation.state)
            elif isinstance(operation, Patch):
                if held is None or held[0].revision != operation.previous:
                    self._hello("gap")
                    return
                self.held[operation.vpc] = (patched(held[0], operation), patched_sum(held[1], held[0], operation))
            else:
                self.held.pop(operation.vpc, None)
            now = self.held.get(operation.vpc)
            told[operation.vpc] = None if now is None else VpcReport(now[0].revision, now[0].revision)
        self._report(told)
        seen = self.tally.arrivals.setdefault(message.tx, [0, 0.0])
        seen[0], seen[1] = seen[0] + 1, time.monotonic()

    def _count(self, state: VpcState) -> None:
        own = sum(port.host == self.name for port in state.ports.values())
        self.tally.endpoints += len(state.ports) - own
        self.tally.foreign += 0 if own else len(state.ports)

    def _agree(self, agrees: bool) -> None:
        self.tally.agreeing += agrees - self.agrees
        self.agrees = agrees

    def _hello(self, reason: str) -> None:
        self.tally.hellos += 1
        heads = {vpc: (one.revision, digest_text(total)) for vpc, (one, total) in self.held.items()}
        hello = HelloMessage(
            v=PROTOCOL, id=f"{self.name}-{self.tally.hellos}", host=self.name, vtep="10.0.0.1", boot="b", reason=reason,
            source="controller", speaks=(PROTOCOL,), vpcs=heads,
        )  # fmt: skip
        self._publish(HELLO, _encode(hello))

    def _report(self, vpcs: dict[str, VpcReport | None]) -> None:
        self.serial += 1
        report = ReportMessage(
            v=PROTOCOL, run="bench", serial=self.serial, host=self.name, full=self.serial == 1, vpcs=vpcs
        )
        self._publish(REPORT, _encode(report))

    def _publish(self, kind: str, body: bytes) -> None:
        assert self.writer is not None
        subject = _SUBJECTS.from_host(self.name, kind).encode()
        self.writer.write(b"PUB %s %d\r\n%s\r\n" % (subject, len(body), body))


def main(names: list[str], port: int, pipe: Connection) -> None:
    """Run the hosts in this process; answers what is asked on ``pipe`` until it is told to end."""
    asyncio.run(_main(names, port, pipe))


async def _main(names: list[str], port: int, pipe: Connection) -> None:
    tally = Tally()
    tasks = []
    for number, name in enumerate(names):
        tasks.append(asyncio.ensure_future(Host(name, port, tally).run()))
        if number % 50 == 49:
            await asyncio.sleep(0.05)
    loop = asyncio.get_running_loop()
    asked: asyncio.Queue[str] = asyncio.Queue()
    loop.add_reader(pipe.fileno(), lambda: asked.put_nowait(pipe.recv()))
    while (what := await asked.get()) != "end":
        if what == "tally":
            pipe.send(msgspec.to_builtins(tally))
        else:
            pipe.send(tally.arrivals.get(what, [0, 0.0]))
    for task in tasks:
        task.cancel()
