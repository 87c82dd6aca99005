"""Simulated hosts: each with a connection of its own to a real nats-server, in a process of their own.

A host subscribes, says hello, holds the states that it is told with their true digests, and reports each as enforced at
once: what a real one does apart from compiling and its switch. It speaks NATS's protocol itself, so that the machine
carries more of them.
"""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection

import msgspec

from benchmarks.dissemination.holding import GapError, Holding, Tally, answer
from ovsnet.transport.messages import PROTOCOL, ChangeMessage, HeadsMessage, HelloMessage
from ovsnet.transport.subjects import CHANGE, CHUNK, HEADS, HELLO, REPORT, Subjects

_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"lang":"bench","protocol":1,"name":"%s"}\r\n'
_SUBJECTS = Subjects()
_encode = msgspec.json.encode
_changes = msgspec.json.Decoder(ChangeMessage).decode
_heads = msgspec.json.Decoder(HeadsMessage).decode


class Host:
    """One simulated host."""

    def __init__(self, name: str, port: int, tally: Tally) -> None:
        self.name, self.port, self.tally = name, port, tally
        self.holding = Holding(name, tally)
        self.instance = ""
        self.writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Stay connected, until cancelled."""
        while True:
            try:
                await self._session()
            except (OSError, asyncio.IncompleteReadError, ConnectionError):
                self.tally.connected -= self.writer is not None
                self.writer = None
                self.holding.agree(False)
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
        self.tally.heard(kind, size)
        if kind == CHANGE:
            self._change(_changes(body))
        elif kind == HEADS:
            self._compare(_heads(body))
        else:
            assert kind == CHUNK, kind
            raise RuntimeError("the benchmark's VPCs fit into one message")

    def _change(self, message: ChangeMessage) -> None:
        try:
            told = self.holding.take(message.items)
        except GapError:
            self._hello("gap")
            return
        self._publish(REPORT, self.holding.report(told, full=self.holding.serial == 0))

    def _compare(self, heads: HeadsMessage) -> None:
        agrees = self.holding.heads() == heads.vpcs
        self.holding.agree(agrees)
        if not agrees:
            self._hello("heads")
        elif heads.instance != self.instance:  # a publisher that was started anew knows nothing
            self.instance = heads.instance
            self._publish(REPORT, self.holding.report(self.holding.everything(), full=True))

    def _hello(self, reason: str) -> None:
        self.tally.hellos += 1
        hello = HelloMessage(
            v=PROTOCOL, id=f"{self.name}-{self.tally.hellos}", host=self.name, vtep="10.0.0.1", boot="b", reason=reason,
            source="controller", speaks=(PROTOCOL,), vpcs=self.holding.heads(),
        )  # fmt: skip
        self._publish(HELLO, _encode(hello))

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
    await answer(pipe, tally)
    for task in tasks:
        task.cancel()
