"""Whether what concurrent clients saw of a server can have happened one call after the other (linearizability).

The search of Wing and Gong with Lowe's memory: a call takes effect at one moment between its beginning and its answer.
Calls are taken in every order that respects those moments, until a sequential specification agrees with all answers.
A call whose answer was lost took effect between its beginning and its end, or never; its end is the moment its client
saw that the server is no more, or infinity if the client only gave up waiting. Histories of different keys are checked
one by one: a history is linearizable if that of each key is.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

S = TypeVar("S", bound=Hashable)
LOST = object()
"""The answer of a call that nobody knows the outcome of."""


class Get(NamedTuple):
    """Read an object."""

    name: str


class Put(NamedTuple):
    """Write an object; with ``if_match`` only if that is the revision of the whole."""

    name: str
    value: Hashable
    if_match: int | None = None


class Delete(NamedTuple):
    """Remove an object; one that is not there is fine."""

    name: str
    if_match: int | None = None


class Seen(NamedTuple):
    """The answer of a read: the object (``None``: there is none), and the revision of the whole that it was read at.

    ``revision`` is ``None`` where the answer does not tell it.
    """

    value: Hashable | None
    revision: int | None


class Done(NamedTuple):
    """A write is committed; ``revision`` is what it made, or the present one if it changed nothing."""

    revision: int


class Refused(NamedTuple):
    """A write with ``if_match`` was refused; ``revision`` is the present one."""

    revision: int


class Document(NamedTuple):
    """The state of the register: a revision that each change raises by one, and objects by name."""

    revision: int = 0
    objects: frozenset[tuple[str, Hashable]] = frozenset()


class Specification(Protocol[S]):
    """What a server does when it has one client only."""

    def step(self, state: S, call: Any, answer: Any) -> S | None:
        """The state after a call; ``None`` if it cannot have been answered so. ``LOST`` fits whatever it answers."""


class Documents:
    """A register of named objects under one revision, with compare-and-set: a VPC, as the controller's API shows it."""

    def step(self, state: Document, call: Get | Put | Delete, answer: object) -> Document | None:
        """The document after a call; ``None`` if it cannot have been answered so."""
        after, right = self.apply(state, call)
        if answer is LOST or answer == right:
            return after
        untold = isinstance(answer, Seen) and answer.revision is None and answer == right._replace(revision=None)
        return after if untold else None

    def apply(self, state: Document, call: Get | Put | Delete) -> tuple[Document, Seen | Done | Refused]:
        """The document after a call, and the answer."""
        objects = dict(state.objects)
        held = objects.get(call.name)
        if isinstance(call, Get):
            return state, Seen(held, state.revision)
        if call.if_match is not None and call.if_match != state.revision:
            return state, Refused(state.revision)
        wanted = call.value if isinstance(call, Put) else None
        if wanted == held:
            return state, Done(state.revision)
        objects.pop(call.name, None)
        if wanted is not None:
            objects[call.name] = wanted
        after = Document(state.revision + 1, frozenset(objects.items()))
        return after, Done(after.revision)


@dataclass(frozen=True)
class Operation:
    """One call of a client: when it began and ended (seconds of one monotonic clock), what was asked and answered.

    If the answer is ``LOST``, ``end`` is the last moment it can have taken effect at.
    """

    client: str
    start: float
    end: float
    call: Any
    answer: Any = LOST


@dataclass(frozen=True)
class Verdict:
    """``stuck`` is empty if the history is linearizable; else the calls of which none could come next, at best."""

    ok: bool
    stuck: tuple[Operation, ...] = ()
    linearized: int = 0

    def __str__(self) -> str:
        if self.ok:
            return f"linearizable ({self.linearized} calls)"
        lines = [f"not linearizable: after {self.linearized} calls none of these can come next:"]
        lines += [f"  {one.client}: {one.call} -> {'?' if one.answer is LOST else one.answer}" for one in self.stuck]
        return "\n".join(lines)


class _Search(Generic[S]):
    """Depth first over (calls done, state); a pair that was seen leads nowhere the second time.

    A lost call that can no longer take effect counts as done, so that histories which differ in it alone are one.
    """

    def __init__(self, history: Iterable[Operation], specification: Specification[S]) -> None:
        self.calls = sorted(history, key=lambda one: one.start)
        self.step = specification.step
        self.must = sum(1 << n for n, one in enumerate(self.calls) if one.answer is not LOST)
        self.lost = [number for number, one in enumerate(self.calls) if one.answer is LOST]

    def after(self, done: int, number: int) -> int:
        """The calls done, or out of time, when ``number`` takes effect too."""
        done |= 1 << number
        latest = self.calls[done.bit_length() - 1].start
        return done | sum(1 << lost for lost in self.lost if self.calls[lost].end < latest and not done >> lost & 1)

    def next(self, done: int) -> Iterator[int]:
        """The calls that can take effect next: those that began before any other that is open was answered."""
        first = (~done & (done + 1)).bit_length() - 1
        earliest = math.inf
        for number in range(first, len(self.calls)):
            one = self.calls[number]
            if one.start > earliest:
                return
            if not done >> number & 1:
                yield number
                if one.answer is not LOST:
                    earliest = min(earliest, one.end)

    def run(self, initial: S) -> Verdict:
        """The verdict from an initial state."""
        seen: set[tuple[int, S]] = {(0, initial)}
        stack = [(0, initial)]
        best, farthest = -1, 0
        while stack:
            done, state = stack.pop()
            certain = (done & self.must).bit_count()
            if certain == self.must.bit_count():
                return Verdict(True, (), certain)
            if certain > best:
                best, farthest = certain, done
            following = []
            for number in self.next(done):
                one = self.calls[number]
                after = self.step(state, one.call, one.answer)
                if after is not None and (pair := (self.after(done, number), after)) not in seen:
                    seen.add(pair)
                    following.append((one.answer is LOST, -number, pair))
            # What was answered is tried first, the oldest before others: lost calls only where they are needed.
            stack += [pair for _, _, pair in sorted(following, key=lambda item: (not item[0], item[1]))]
        stuck = tuple(self.calls[number] for number in self.next(farthest))
        return Verdict(False, stuck, best)


def linearizable(history: Iterable[Operation], specification: Specification[S], initial: S) -> Verdict:
    """Whether the calls of ``history`` can have taken effect one after the other, beginning with ``initial``."""
    return _Search(history, specification).run(initial)


def partitioned(
    history: Iterable[tuple[str, Operation]], specification: Specification[S], initial: Mapping[str, S]
) -> dict[str, Verdict]:
    """The verdict for each key by itself; ``initial`` by key."""
    by_key: dict[str, list[Operation]] = {key: [] for key in initial}
    for key, operation in history:
        by_key[key].append(operation)
    return {key: linearizable(found, specification, initial[key]) for key, found in by_key.items()}


@dataclass
class Recorder:
    """Takes down what clients ask and are answered; may be used by several threads at once."""

    history: list[tuple[str, Operation]] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def record(self, key: str, client: str, call: Any, ask: Callable[[], Any]) -> Any:
        """Ask, and take down call and answer; what ``ask`` returns.

        ``ask`` returns ``LOST`` when the server ended before it answered, and raises TimeoutError if it may still act.
        """
        start = time.monotonic()
        try:
            answer = ask()
            end = time.monotonic()
        except TimeoutError:
            answer, end = LOST, math.inf
        with self._lock:
            self.history.append((key, Operation(client, start, end, call, answer)))
        return answer

    def unique(self) -> int:
        """A number that was not given before."""
        with self._lock:
            return next(self._numbers)
