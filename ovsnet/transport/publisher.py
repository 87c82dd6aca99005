"""The publisher's end of the bus: changes and heads to hosts, answers to their hellos, their reports.

It holds no truth: a ``Feed`` has it. Whatever is lost on the way shows in the next heads.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import msgspec

from ovsnet.log import about
from ovsnet.model.types import VpcState
from ovsnet.transport.bus import Bus, BusOptions, Incoming, Outgoing
from ovsnet.transport.catchup import Head, lacks
from ovsnet.transport.chunks import PART, split
from ovsnet.transport.feed import Feed, HostMessage
from ovsnet.transport.messages import (
    PROTOCOL,
    ChangeMessage,
    HelloMessage,
    Item,
    MalformedError,
    ReportMessage,
    UnknownVersionError,
    decode,
    encode,
    incompatible,
)
from ovsnet.transport.operations import begin_anew, put_item, withdraw_item
from ovsnet.transport.subjects import ANY, CHANGE, CHUNK, HEADS, HELLO, PREFIX, REPORT, Subjects

log = logging.getLogger(__name__)

HEADS_EVERY = 4.0
"""Seconds between two heads to one host; hosts may rely on 5."""
HOSTS_PER_SECOND = 500
"""So many hosts may say hello in a second when all find something missing: this is what heads' ``spread`` says."""
TOGETHER = 0.05
"""Seconds of a round whose hosts are told their heads in one go: waking the connection costs more than they do."""
SNAPSHOT_THREADS = 2
"""Hellos that are answered at a time."""
INGEST_THREADS = 4
CACHE = 64 << 20
"""Bytes of encoded states that are kept, for hosts that lack the same."""
MAX_KNOWN = 200_000
"""VPCs whose part of the heads is kept in writing."""


class Told(NamedTuple):
    """All that one transaction ``tx`` brings to one host. Hosts with the same items should share the tuple."""

    host: str
    items: tuple[Item, ...]
    tx: str


class _Frames(NamedTuple):
    """A change as it goes over the bus: one message, or the parts of a large one."""

    kind: str
    parts: list[tuple[bytes, dict[str, str] | None]]


Ingest = Callable[[str, bytes], bytes]


class Publisher:
    """Publishes the states of the owner ``source``, as ``feed`` has them.

    ``on_connected()`` is called after each connection, on the bus's thread. ``ingest(client, body)`` answers what
    clients ask for over the bus; it is called on other threads.
    """

    def __init__(
        self,
        feed: Feed,
        options: BusOptions,
        source: str,
        *,
        prefix: str = PREFIX,
        ingest: Ingest | None = None,
        on_connected: Callable[[], None] = lambda: None,
        heads_every: float = HEADS_EVERY,
    ) -> None:
        self.feed, self.source, self.subjects = feed, source, Subjects(prefix)
        self.instance = secrets.token_hex(8)
        self.counts: Counter[str] = Counter()
        self.incompatible: dict[str, tuple[int, ...]] = {}
        self._fresh = threading.Event()

        def connected() -> None:
            self._fresh.set()
            on_connected()

        self.bus = Bus(options, on_connected=connected)
        self.bus.subscribe(self.subjects.all_from_host(ANY), self._receive)
        if ingest is not None:
            self._ingest = ingest
            self.bus.subscribe(self.subjects.ingest(ANY), self._asked)
        self._heads = _HeadsEncoder(source, self.instance)
        self._snapshots = _Snapshots()
        self._hellos: dict[str, HelloMessage] = {}
        self._serials: dict[str, int] = {}
        self._hosts = 0
        self._lock = threading.Lock()
        self._heads_every = heads_every
        self._stopped = threading.Event()
        self._answering = ThreadPoolExecutor(SNAPSHOT_THREADS, thread_name_prefix="hello")
        self._reports = ThreadPoolExecutor(1, thread_name_prefix="report")
        self._asking = ThreadPoolExecutor(INGEST_THREADS, thread_name_prefix="ingest")
        self._announcer = threading.Thread(target=self._announce, name="heads", daemon=True)

    def start(self) -> Publisher:
        """Start to connect and to announce; returns at once."""
        self.bus.start()
        self._announcer.start()
        return self

    def stop(self) -> None:
        """End, after what was published."""
        self._stopped.set()
        self._announcer.join()
        for pool in (self._answering, self._reports, self._asking):
            pool.shutdown(cancel_futures=True)
        self.bus.close()

    def publish(self, messages: Iterable[Told]) -> bool:
        """Send messages, in order; what several hosts share is written once.

        False if one was dropped, since there is no connection or it is full; ``flush`` tells whether all arrived.
        """
        written: dict[tuple[int, str], _Frames] = {}
        sent = True
        for message in messages:
            key = (id(message.items), message.tx)
            if key not in written:
                change = ChangeMessage(v=PROTOCOL, tx=message.tx, items=message.items, source=self.source)
                written[key] = self._frames(change)
            sent &= self._send(message.host, written[key])
        return sent

    def send(self, message: HostMessage, hosts: Iterable[str]) -> bool:
        """Tell hosts a transaction; as ``publish`` does."""
        return self.publish(Told(host, message.items, message.tx) for host in hosts)

    def follow(self) -> None:
        """Hosts are new or gone: the next round of heads tells."""

    def flush(self, timeout: float = 2.0) -> bool:
        """Wait, at most ``timeout`` seconds, until the server has all that was published; whether it has."""
        return self.bus.flush(timeout)

    def announce(self, *hosts: str) -> bool:
        """Tell hosts what they should hold, now; false if one was not told."""
        spread = min(30.0, max(0.2, self._hosts / HOSTS_PER_SECOND))
        heads: list[Outgoing] = [
            (self.subjects.to_host(host, HEADS), self._heads.encode(self.feed.wanted(host), spread), None)
            for host in hosts
        ]
        fit = [one for one in heads if len(one[1]) <= self.bus.max_body]
        self._count("dropped", len(heads) - len(fit))
        return self._put(fit, "heads") and len(fit) == len(heads)

    def faults(self) -> tuple[str, ...]:
        """Why nobody can be told at present, and who speaks other versions of the protocol."""
        found = () if self.bus.connected else (f"no connection to the bus: {self.bus.last_error}",)
        return (*found, *(f"host {host} speaks versions {spoken} only" for host, spoken in self.incompatible.items()))

    def statistics(self) -> dict[str, int]:
        """All counters by name, for metrics."""
        bus = {f"bus_{name}": value for name, value in vars(self.bus.statistics).items()}
        with self._lock:
            return dict(self.counts) | bus | {"hosts_heard": len(self._serials)}

    def _frames(self, change: ChangeMessage) -> _Frames:
        body, limit = encode(change), min(PART, self.bus.max_body)
        if len(body) <= limit:
            return _Frames(CHANGE, [(body, None)])
        return _Frames(CHUNK, [(part.body, part.headers) for part in split(body, limit)])

    def _send(self, host: str, frames: _Frames) -> bool:
        subject = self.subjects.to_host(host, frames.kind)
        return self._put([(subject, body, headers) for body, headers in frames.parts], f"{frames.kind}s")

    def _put(self, messages: Sequence[Outgoing], kind: str) -> bool:
        sent = self.bus.publish(messages)
        self._count(kind if sent else "dropped", len(messages))
        self._count(f"{kind}_bytes", sum(len(body) for _, body, _ in messages) if sent else 0)
        return sent

    def _count(self, name: str, by: int = 1) -> None:
        with self._lock:
            self.counts[name] += by

    def _receive(self, message: Incoming) -> None:
        """A message of a host, on the bus's thread."""
        host, kind = self.subjects.parse(message.subject)
        if kind == HELLO:
            hello = self._decoded(message, host, HelloMessage)
            if hello is not None:
                self._greeted(hello)
        elif kind == REPORT and not self._stopped.is_set():
            self._reports.submit(self._reported, message, host)

    def _decoded(self, message: Incoming, host: str, kind: type[Any]) -> Any:
        """The message, ``None`` for one that is ignored: the subject, which permissions guard, says who speaks."""
        try:
            decoded = decode(message.body, kind)
        except UnknownVersionError as exc:
            self._count("unknown_versions")
            if kind is HelloMessage:
                self._differs(host, (exc.version,))
            else:
                log.warning("host %s: %s", host, exc, extra=about(host=host))
        except MalformedError as exc:
            self._count("malformed")
            log.warning("host %s: malformed message on %s: %s", host, message.subject, exc, extra=about(host=host))
        else:
            if decoded.host == host:
                return decoded
            self._count("malformed")
            log.warning(
                "host %s: a message that says it is from %s is ignored", host, decoded.host, extra=about(host=host)
            )
        return None

    def _greeted(self, hello: HelloMessage) -> None:
        """Have a hello answered; of several that wait only the last one of a host is."""
        self._count("hellos")
        if hello.source not in {"", self.source} or self._stopped.is_set():
            return
        with self._lock:
            waiting = hello.host in self._hellos
            self._hellos[hello.host] = hello
        if not waiting:
            self._answering.submit(self._guarded, self._answer_host, hello.host)

    def _guarded(self, function: Callable[..., object], *arguments: Any) -> None:
        try:
            function(*arguments)
        except Exception:
            self._count("failures")
            log.exception("the bus's publisher failed; the next heads mend what was lost")

    def _answer_host(self, host: str) -> None:
        with self._lock:
            hello = self._hellos.pop(host)
        if incompatible(hello.speaks):
            self._differs(host, hello.speaks)
            return
        self.incompatible.pop(host, None)
        items = tuple(answer_items(self.feed, hello, self._snapshots.item))
        answer = ChangeMessage(v=PROTOCOL, tx=hello.id, items=items, answers=hello.id, source=self.source)
        if self._send(host, self._frames(answer)):
            self._count("answers")
        self.announce(host)

    def _differs(self, host: str, spoken: tuple[int, ...]) -> None:
        """Nothing can be told to a host: it says hello in these versions of the protocol only."""
        self.incompatible[host] = spoken
        self._guarded(lambda: self.feed.reachable(host, incompatible(spoken), refused=True))

    def _reported(self, message: Incoming, host: str) -> None:
        report = self._decoded(message, host, ReportMessage)
        if report is None:
            return
        self._count("reports")
        last = self._serials.get(host, 0)
        if report.serial != last + 1 and not report.full:
            self._count("report_gaps")
        self._serials[host] = report.serial
        self._guarded(self.feed.reported, report)

    def _asked(self, message: Incoming) -> None:
        client, kind = self.subjects.parse(message.subject)
        if kind == "ingest" and not self._stopped.is_set():
            self._count("ingested")
            self._asking.submit(self._guarded, self._answer_client, client, message)

    def _answer_client(self, client: str, message: Incoming) -> None:
        answer = self._ingest(client, message.body)
        if self.subjects.answerable(message.subject, message.reply):
            self._put([(message.reply, answer, None)], "ingest_answers")
        elif message.reply:
            self._count("unanswerable")
            log.warning("client %s asks for an answer at %s, which is not its inbox: not given", client, message.reply)

    def _announce(self) -> None:
        """Tell each host its heads, round after round, evenly over the time; after a connection the first is short."""
        while not self._stopped.is_set():
            hosts = sorted(self.feed.hosts())
            self._hosts = len(hosts)
            began, every = time.monotonic(), self._heads_every
            if self._fresh.is_set():
                self._fresh.clear()
                every = min(every, max(0.1, len(hosts) / HOSTS_PER_SECOND))
            together = max(1, int(len(hosts) * TOGETHER / every))
            for first in range(0, len(hosts), together):
                if self._interrupted(began + every * first / len(hosts)):
                    break
                if self.bus.connected:
                    self._guarded(self.announce, *hosts[first : first + together])
            else:
                self._interrupted(began + max(0.01, every))

    def _interrupted(self, until: float) -> bool:
        """Wait until a moment; whether the bus has been connected anew, or is to end, before that."""
        while not (self._fresh.is_set() or self._stopped.is_set()):
            left = until - time.monotonic()
            if left <= 0:
                return False
            self._stopped.wait(min(0.1, left))
        return True


def answer_items(feed: Feed, hello: HelloMessage, item_of: Callable[[VpcState], Item] = put_item) -> Iterator[Item]:
    """The items that bring a host from what it says it holds to what it should hold."""
    held = {vpc: Head(*head) for vpc, head in hello.vpcs.items()}
    missing = lacks(feed.wanted(hello.host), held)
    for vpc, revision in missing.raised.items():
        feed.raise_revision(vpc, revision)
    if hello.source:
        for vpc in missing.withdraw:
            yield withdraw_item(vpc, held[vpc].revision)
    for vpc in missing.put:
        state = feed.state(vpc)
        if state is not None:  # else it is gone meanwhile
            yield from begin_anew(state, held.get(vpc), item_of)


class _HeadsEncoder:
    """Writes heads: what is said of one VPC is written once for all its hosts."""

    def __init__(self, source: str, instance: str) -> None:
        self._start = b'{"v":%d,"source":%s,"instance":%s,"spread":' % (
            PROTOCOL,
            msgspec.json.encode(source),
            msgspec.json.encode(instance),
        )
        self._known: dict[str, tuple[Head, bytes]] = {}

    def encode(self, heads: Mapping[str, Head], spread: float) -> bytes:
        """The HeadsMessage of a host."""
        parts = b",".join(self._part(vpc, head) for vpc, head in heads.items())
        return self._start + b'%.3f,"vpcs":{' % spread + parts + b"}}"

    def _part(self, vpc: str, head: Head) -> bytes:
        known = self._known.get(vpc)
        if known is None or known[0] != head:
            if len(self._known) > MAX_KNOWN:
                self._known.clear()  # most of it is of VPCs that are gone
            text = msgspec.json.encode(vpc) + b":" + msgspec.json.encode(head)
            known = self._known[vpc] = (head, text)
        return known[1]


class _Snapshots:
    """Encoded states, so that hosts that lack the same share them; the least used go first."""

    def __init__(self) -> None:
        self._items: OrderedDict[str, tuple[VpcState, Item]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def item(self, state: VpcState) -> Item:
        """The state as an item."""
        with self._lock:
            known = self._items.pop(state.name, None)
            if known is None or known[0] is not state:
                self._size -= 0 if known is None else len(known[1].body)
                known = (state, put_item(state))
                self._size += len(known[1].body)
            self._items[state.name] = known
            while self._size > CACHE and len(self._items) > 1:
                _, (_, old) = self._items.popitem(last=False)
                self._size -= len(old.body)
            return known[1]
