"""How a host follows a publisher: what to apply, when to say hello. Pure: no clock, no I/O; time comes in as seconds.

A host may miss any message, get it twice, or get it late. It applies what follows from what it holds, drops what is
old, and at a gap says what it holds; the answer brings everything that is missing. The heads that arrive every few
seconds show what was lost without a gap.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ovsnet.transport.changes import owner_text
from ovsnet.transport.messages import (
    PROTOCOL,
    ChangeMessage,
    HeadsMessage,
    HelloMessage,
    Item,
    MalformedError,
)

SETTLE = 0.05
"""Seconds that a difference from the heads is given at least, since the change may be under way."""
HELLO_EVERY = 0.25
"""Seconds between two hellos at least."""
RETRY = (1.0, 30.0)
"""Seconds until an unanswered hello is said again: the first time, and at most; a quarter more or less at random."""
REFUSAL_HOLDS = 30.0
"""Seconds for which a state that was refused is not asked for again."""
MAX_TOMBSTONES = 4096
"""VPCs of which it is remembered that they were withdrawn."""
VERSION_FAULT = 60.0
"""Seconds for which a message in an unknown version remains a fault."""


class Held(NamedTuple):
    """What the host holds of a VPC, and whose that is."""

    revision: int
    digest: str
    owner: str


@dataclass(frozen=True)
class Apply:
    """Apply these items, all or none, and tell ``outcome`` what became of that."""

    tx: str
    items: tuple[Item, ...]
    answer: bool = False


@dataclass(frozen=True)
class Say:
    """Send this hello."""

    hello: HelloMessage


@dataclass(frozen=True)
class Confirm:
    """The publisher and this host agree on these VPCs."""

    vpcs: tuple[str, ...]


@dataclass(frozen=True)
class TellAll:
    """Send a full report: the publisher knows nothing of this host."""


@dataclass(frozen=True)
class TellChanges:
    """Report soon: what is refused has changed."""


Action = Apply | Say | Confirm | TellAll | TellChanges
Holdings = Mapping[str, Held]


@dataclass(frozen=True)
class Outcome:
    """What became of an ``Apply``: ``refused`` VPCs with the reasons; ``gap`` if something did not fit what is held."""

    refused: Mapping[str, str] = field(default_factory=dict)
    gap: bool = False


@dataclass
class Counts:
    """What has happened so far."""

    applied: int = 0
    old: int = 0
    gaps: int = 0
    hellos: int = 0
    answers: int = 0
    malformed: int = 0
    unknown_versions: int = 0
    foreign: int = 0


class _Peek(msgspec.Struct, frozen=True):
    """What is needed of an item's body before it is decoded."""

    revision: int
    previous: int | None = None
    owner: str = ""


class _Tombstone(NamedTuple):
    """The revision up to which a VPC is not wanted, and how many hellos had been said by then."""

    revision: int
    hellos: int


class _Refusal(NamedTuple):
    """A revision that was refused, why, and until when it is not asked for again; ``foreign``: another owner has it."""

    revision: int
    reason: str
    until: float
    foreign: bool = False


class _GapError(Exception):
    """An item does not follow from what is held."""


_peek = msgspec.json.Decoder(_Peek).decode


class Follower:
    """One host's view of one publisher.

    ``source`` is the owner whose states are followed, "" to learn it from the heads; ``life`` differs each time that
    the process starts. The holdings that each call takes are those of the moment, of all owners.
    """

    def __init__(self, host: str, vtep: str, boot: str, life: str, source: str = "", rng: random.Random | None = None):
        self.host, self.vtep, self.boot, self.life, self.source = host, vtep, boot, life, source
        self.counts = Counts()
        self._rng = rng or random.Random()
        self._online = False
        self._instance = ""
        self._wanted: dict[str, tuple[int, str]] | None = None
        self._touched: set[str] = set()
        self._tombstones: dict[str, _Tombstone] = {}
        self._refused: dict[str, _Refusal] = {}
        self._missed: dict[str, int] = {}
        self._pending = ""
        self._said_at = float("-inf")
        self._retry_at: float | None = None
        self._hello_at: float | None = None
        self._reason = ""
        self._backoff = RETRY[0]
        self._rival = ""
        self._odd_version: tuple[int, float] | None = None

    @property
    def due(self) -> float | None:
        """When ``tick`` is to be called next, in the seconds that the calls are given."""
        times = [at for at in (self._hello_at, self._retry_at) if at is not None]
        return min(times) if times else None

    def connected(self, held: Holdings, now: float) -> list[Action]:
        """There is a connection, and the subscription is in place."""
        self._online, self._wanted, self._instance = True, None, ""
        self._backoff = RETRY[0]
        self._missed.clear()
        return [*self._hello("connect", held, now), TellAll()]

    def disconnected(self) -> None:
        """The connection is gone; nothing is to be said until the next."""
        self._online, self._pending = False, ""
        self._retry_at = self._hello_at = None

    def change(self, message: ChangeMessage, held: Holdings, now: float) -> list[Action]:
        """A change has arrived. Raises MalformedError for one whose items are none."""
        if message.source and self.source and message.source != self.source:
            self.counts.foreign += 1
            return []
        answers = self._count_of(message.answers)
        answer = bool(message.answers) and message.answers == self._pending
        if answer:
            self._settled()
            self.counts.answers += 1
        try:
            kept = tuple(self._kept(message.items, held, answers, now))
        except _GapError:
            self.counts.gaps += 1
            for item in message.items:
                if item.op != "delete":
                    self._missed[item.vpc] = max(self._missed.get(item.vpc, 0), revision_of(item))
            return [] if self._pending else self._soon("gap", held, now)
        self.counts.old += len(message.items) - len(kept)
        if kept:
            return [Apply(message.tx, kept, answer)]
        return self._after_answer(held, now) if answer else []

    def outcome(self, done: Apply, outcome: Outcome, held: Holdings, now: float) -> list[Action]:
        """What became of an ``Apply``."""
        self.counts.applied += not outcome.gap and not outcome.refused
        for item in done.items:
            self._touched.add(item.vpc)
            if item.vpc in outcome.refused:
                foreign = self._foreign(held.get(item.vpc))
                self._refuse(item.vpc, revision_of(item), outcome.refused[item.vpc], now, foreign=foreign)
            elif not outcome.gap:
                self._refused.pop(item.vpc, None)
                if item.op == "put":
                    self._tombstones.pop(item.vpc, None)
        told: list[Action] = [TellChanges()] if outcome.refused else []
        if outcome.gap:
            return told + self._soon("conflict", held, now)
        return told + self._after_answer(held, now) if done.answer else told

    def heads(self, message: HeadsMessage, held: Holdings, now: float) -> list[Action]:
        """The publisher has said what this host should hold."""
        if not self.source:
            self.source = message.source
        if message.source != self.source:
            self.counts.foreign += 1
            self._rival = message.source
            return []
        actions: list[Action] = []
        if message.instance != self._instance:
            self._instance = message.instance
            actions.append(TellAll())
        self._wanted, self._touched = message.vpcs, set()
        agreed = tuple(vpc for vpc, head in message.vpcs.items() if self._agrees(held.get(vpc), head))
        before, others = self._refused, message.vpcs.keys() - agreed
        refusals = ((vpc, self._still_refused(held.get(vpc), message.vpcs[vpc], before.get(vpc))) for vpc in others)
        self._refused = {vpc: refusal for vpc, refusal in refusals if refusal is not None}
        if before.keys() != self._refused.keys():
            actions.append(TellChanges())
        if agreed:
            actions.append(Confirm(agreed))
        if not self._differs(held, now):
            self._settled()
            self._hello_at = None
            self._missed.clear()
            return actions
        at = now + SETTLE + self._rng.random() * max(0.0, message.spread)
        if self._pending:
            if now - self._said_at > RETRY[0] * 5 and self._retry_at is not None:
                self._retry_at = min(self._retry_at, at)  # the publisher lives, and has not heard the hello
        elif self._hello_at is None:
            self._hello_at, self._reason = at, "heads"
        return actions

    def _still_refused(self, has: Held | None, head: tuple[int, str], before: _Refusal | None) -> _Refusal | None:
        """Why a wanted VPC that is not agreed on is not asked for: another owner has it, or as before."""
        if has is not None and self._foreign(has):
            reason = f"it belongs to {owner_text(has.owner)} here"
            return before or _Refusal(head[0], reason, float("inf"), foreign=True)
        return None if before is None or before.foreign else before

    def progress(self, now: float) -> None:
        """A part of an answer has arrived, so there is no need to ask again soon."""
        if self._retry_at is not None:
            self._retry_at = max(self._retry_at, now + RETRY[0] * 5)

    def unknown_version(self, version: int, now: float) -> None:
        """A message in a version that is not known here has arrived, and was ignored."""
        self.counts.unknown_versions += 1
        self._odd_version = (version, now)

    def tick(self, held: Holdings, now: float) -> list[Action]:
        """Say what is due by now."""
        if self._retry_at is not None and now >= self._retry_at:
            return self._say("again", held, now)
        if self._hello_at is not None and now >= self._hello_at:
            self._hello_at = None
            if self._reason != "heads" or self._differs(held, now):
                return self._hello(self._reason, held, now)
        return []

    def faults(self, now: float) -> tuple[str, ...]:
        """What is wrong between this host and its publisher, in words."""
        found = [
            f"VPC {vpc}: revision {r.revision} was refused: {r.reason}" for vpc, r in sorted(self._refused.items())
        ]
        if self._odd_version is not None and now - self._odd_version[1] < VERSION_FAULT:
            found.append(
                f"messages in version {self._odd_version[0]} of the protocol are ignored; this agent speaks {PROTOCOL}"
            )
        if self._rival:
            found.append(f"{self._rival} publishes to this host as well, which follows {self.source}; see --source")
        return tuple(found)

    def _kept(self, items: tuple[Item, ...], held: Holdings, answers: int, now: float) -> Iterator[Item]:
        """The items that bring something new. Raises _GapError, MalformedError."""
        within: dict[str, int | None] = {}
        for item in items:
            has = held.get(item.vpc)
            foreign = self._foreign(has)
            have = within.get(item.vpc, None if has is None else has.revision)
            revision = None
            if item.op == "delete":
                keep = not foreign and self._withdraws(item, have)
            else:
                peek = self._read(item)
                revision = peek.revision
                if foreign:
                    keep = item.op == "put" and item.vpc not in self._refused
                else:
                    keep = self._follows(item, peek, have, answers, now)
            if keep:
                within[item.vpc] = revision
                yield item

    def _foreign(self, has: Held | None) -> bool:
        return has is not None and bool(self.source) and has.owner != self.source

    def _read(self, item: Item) -> _Peek:
        try:
            return _peek(item.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
            self.counts.malformed += 1
            raise MalformedError(f"{item.op} of VPC {item.vpc}: {exc}") from None

    def _follows(self, item: Item, peek: _Peek, have: int | None, answers: int, now: float) -> bool:
        """Whether a state or a change is news that fits. Raises _GapError."""
        grave, refusal = self._tombstones.get(item.vpc), self._refused.get(item.vpc)
        buried = grave is not None and peek.revision <= grave.revision and answers <= grave.hellos
        if (have is not None and peek.revision <= have) or (have is None and buried):
            return False
        if item.op == "put" and self.source and peek.owner != self.source:
            self._refuse(item.vpc, peek.revision, f"its owner is {peek.owner!r}, and not {self.source}", now)
            return False
        if item.op == "patch" and peek.previous != have:
            if refusal is not None and now < refusal.until:
                return False  # the heads will tell when there is something else to try
            raise _GapError
        return True

    def _refuse(self, vpc: str, revision: int, reason: str, now: float, *, foreign: bool = False) -> None:
        until = now + REFUSAL_HOLDS * self._rng.uniform(0.75, 1.25)
        self._refused[vpc] = _Refusal(revision, reason, until, foreign)

    def _withdraws(self, item: Item, have: int | None) -> bool:
        """Whether a withdrawal is one; it is remembered in any case."""
        if have is not None and item.revision is not None and have > item.revision:
            return False
        revision = max(have or 0, item.revision or 0)
        grave = self._tombstones.pop(item.vpc, None)
        self._tombstones[item.vpc] = _Tombstone(max(revision, grave.revision if grave else 0), self.counts.hellos)
        if len(self._tombstones) > MAX_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]
        return have is not None

    def _agrees(self, has: Held | None, head: tuple[int, str]) -> bool:
        return has is not None and has.owner == self.source and has.revision == head[0] and head[1] in {"", has.digest}

    def _differs(self, held: Holdings, now: float) -> bool:
        """Whether what is held is not what the last heads say, apart from what has changed since."""
        if self._wanted is None:
            return False
        for vpc, head in self._wanted.items():
            has, refusal = held.get(vpc), self._refused.get(vpc)
            known = refusal is not None and (
                self._foreign(has) or (refusal.revision == head[0] and now < refusal.until)
            )
            if vpc not in self._touched and not known and not self._agrees(has, head):
                return True
        return any(
            has.owner == self.source and vpc not in self._wanted and vpc not in self._touched
            for vpc, has in held.items()
        )

    def _after_answer(self, held: Holdings, now: float) -> list[Action]:
        """What an answer settles: all is agreed on, unless something newer came in while it was under way."""
        missed, self._missed = self._missed, {}
        for vpc, revision in missed.items():
            has, grave = held.get(vpc), self._tombstones.get(vpc)
            refused = vpc in self._refused or self._foreign(has)
            if not refused and (has or grave or _NOTHING).revision < revision:
                return self._soon("gap", held, now)
        agreed = tuple(v for v, has in held.items() if has.owner == self.source and v not in self._refused)
        return [Confirm(agreed)] if agreed else []

    def _count_of(self, answers: str) -> int:
        """The number of the hello that is answered, counted from 1; 0 if it is none of this process."""
        life, _, number = answers.rpartition("-")
        return int(number) if life == self.life and number.isdigit() else 0

    def _settled(self) -> None:
        self._pending, self._retry_at, self._backoff = "", None, RETRY[0]

    def _soon(self, reason: str, held: Holdings, now: float) -> list[Action]:
        """Hello, but not more often than every so often."""
        at = self._said_at + HELLO_EVERY
        if now >= at:
            return self._hello(reason, held, now)
        self._hello_at, self._reason = min(at, self._hello_at or at), reason
        return []

    def _hello(self, reason: str, held: Holdings, now: float) -> list[Action]:
        self._hello_at = None
        return self._say(reason, held, now)

    def _say(self, reason: str, held: Holdings, now: float) -> list[Action]:
        if not self._online:
            return []
        self.counts.hellos += 1
        self._pending = f"{self.life}-{self.counts.hellos}"
        self._said_at = now
        self._retry_at = now + self._backoff * self._rng.uniform(0.75, 1.25)
        self._backoff = min(RETRY[1], self._backoff * 2)
        vpcs = {
            vpc: (has.revision, has.digest) for vpc, has in held.items() if not self.source or has.owner == self.source
        }
        hello = HelloMessage(
            v=PROTOCOL,
            id=self._pending,
            host=self.host,
            vtep=self.vtep,
            boot=self.boot,
            reason=reason,
            source=self.source,
            speaks=(PROTOCOL,),
            vpcs=vpcs,
        )
        return [Say(hello)]


_NOTHING = Held(0, "", "")


def revision_of(item: Item) -> int:
    """The revision that an item brings, 0 if it says none."""
    if item.op == "delete":
        return item.revision or 0
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _peek(item.body).revision
    return 0
