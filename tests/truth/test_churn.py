"""Rules and members change all the time under many open connections: those that stay allowed lose nothing, and those
that are not any more get nothing through a second after that is enforced.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ovsnet.agent.client import AgentClient
from ovsnet.errors import UserError
from ovsnet.lab.deliver import socket_of
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.patience import PATIENCE as SLOWNESS
from ovsnet.model.types import Model
from tests.conftest import FIGURE
from tests.truth import churn
from tests.truth.churn import Course, Verdicts, Wishes
from tests.truth.rig import Rig
from tests.truth.scenario import Step, model_of
from tests.truth.streams import Live

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timeout(300)]
SECONDS, PERIOD, CONNECTIONS, EVERY = 60.0, 0.01, 200, 0.1
"""How long, seconds between two changes, how many connections, seconds between two numbers in each."""
GRACE = 1.0
"""Seconds after which a change that is enforced is in force for old connections too."""


class Teller(threading.Thread):
    """Tells one host every change, and notes when it was told and when it was seen to be enforced."""

    def __init__(self, socket: Path, revision: int) -> None:
        super().__init__(daemon=True)
        self.course = Course([(0.0, revision)], [(0.0, revision)])
        self._socket, self._condition = socket, threading.Condition()
        self._queue: list[dict[str, Any] | None] = []
        self.failure: BaseException | None = None
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self.start()
        self._watcher.start()

    def tell(self, change: dict[str, Any]) -> None:
        """Have the host told a change, after those before."""
        with self._condition:
            self._queue.append(change)
            self._condition.notify()

    def finish(self) -> None:
        """Return when all is told and enforced. Raises what went wrong."""
        with self._condition:
            self._queue.append(None)
            self._condition.notify()
        self.join()
        deadline = time.monotonic() + 20.0 * SLOWNESS
        while self.course.enforced[-1][1] < self.course.told[-1][1] and time.monotonic() < deadline:
            time.sleep(0.02)
        self._over.set()
        self._watcher.join()
        if self.failure is not None:
            raise self.failure
        assert self.course.enforced[-1][1] == self.course.told[-1][1], "the last revision is not enforced"

    def run(self) -> None:
        with AgentClient(self._socket) as client:
            while True:
                with self._condition:
                    self._condition.wait_for(lambda: bool(self._queue))
                    change = self._queue.pop(0)
                if change is None:
                    return
                self.course.told.append((time.monotonic(), change["revision"]))
                try:
                    client.patch("t", change)
                except BaseException as error:
                    self.failure = error
                    return

    def _watch(self) -> None:
        with AgentClient(self._socket) as client:
            while not self._over.is_set():
                enforced = client.vpcs()["t"]["enforced"]
                if enforced is not None and enforced > self.course.enforced[-1][1]:
                    self.course.enforced.append((time.monotonic(), enforced))
                self._over.wait(0.01)


class Lag(threading.Thread):
    """How late the bench's own thread may be: the longest that something asked of it took."""

    def __init__(self, rig: Rig) -> None:
        super().__init__(daemon=True)
        self._rig, self._over, self.longest = rig, threading.Event(), 0.0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.05):
            asked = time.monotonic()
            self._rig.bench.run(_nothing())
            self.longest = max(self.longest, time.monotonic() - asked)

    def stop(self) -> float:
        """The longest, in seconds."""
        self._over.set()
        self.join()
        return self.longest


async def _nothing() -> None:
    """Be done at once."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    name = f"churn{os.getpid()}"
    step = Step({"networks": {"net": {"vni": 7007, "subnets": [{"cidr": "192.168.7.0/24"},
                 {"cidr": "2001:db8:7::/64"}]}}, "ports": churn.bare_ports()}, {})  # fmt: skip
    try:
        made = Rig(Lab.up(wished(model_of(step, tmp_path), Wishes()), name))
        yield made
        made.bench.close()
    finally:
        with contextlib.suppress(UserError):
            down(name)


def wished(model: Model, wishes: Wishes) -> Model:
    return msgspec.structs.replace(model, vpcs={"t": churn.vpc_of(model.vpcs["t"], wishes)})


def test_what_stays_allowed_loses_nothing_and_what_is_revoked_gets_nothing_through(
    rig: Rig, record_property: Callable[[str, object], None]
) -> None:
    rng = random.Random(7)
    lives = open_all(rig, rng)
    wishes, model = Wishes(), rig.lab.model
    tellers = [Teller(socket_of(host), first_revision(rig)) for host in rig.lab.topology.hosts.values()]
    verdicts = {live.stream.name: Verdicts([(0, True)]) for live in lives}
    first = revision = first_revision(rig)
    lag, due = Lag(rig), time.monotonic()
    end = due + SECONDS
    while time.monotonic() < end:
        concerned = churn.change(rng, wishes)
        before, model = model, wished(model, wishes)
        told = churn.difference(before.vpcs["t"], model.vpcs["t"])
        for teller in tellers:
            teller.tell({"previous": revision, "revision": revision + 1, **told})
        revision += 1
        note(verdicts, lives, concerned, model, revision)
        due = max(due + PERIOD, time.monotonic() - 1.0)
        time.sleep(max(0.0, due - time.monotonic()))
    for teller in tellers:
        teller.finish()
    time.sleep(GRACE)
    late = lag.stop()
    problems = [problem for live in lives for problem in faults(live, verdicts[live.stream.name], tellers, late)]
    steady = sum(len(verdict.changes) == 1 for verdict in verdicts.values())
    cut = sum(len(verdict.changes) - 1 for verdict in verdicts.values())
    record_property(
        FIGURE,
        f"{revision - first} changes in {SECONDS:.0f} s, {len(lives)} connections, "
        f"{steady} never touched, {cut} times cut or given back; the bench was up to {late * 1000:.0f} ms late",
    )
    assert not problems, "\n".join(problems[:40])
    assert steady >= 20 and cut >= 200, "the changes do not do what they are for"


def open_all(rig: Rig, rng: random.Random) -> list[Live]:
    lives = []
    for stream in churn.streams(rng, CONNECTIONS):
        lives.append(rig.bench.live.setdefault(stream.name, Live(rig.bench, stream, EVERY)))
        rig.bench.run(lives[-1].open())
    return lives


def first_revision(rig: Rig) -> int:
    with rig.lab.agent("hv1") as client:
        return int(client.vpcs()["t"]["revision"])


def note(
    verdicts: dict[str, Verdicts], lives: list[Live], concerned: tuple[str, ...], model: Model, revision: int
) -> None:
    """What the revision says of the connections that it may matter to."""
    for live in lives:
        if churn.touches(live.stream, concerned):
            says, known = churn.allowed(model, live.stream), verdicts[live.stream.name]
            if says != known.changes[-1][1]:
                known.changes.append((revision, says))


def faults(live: Live, verdict: Verdicts, tellers: list[Teller], late: float) -> Iterator[str]:
    """What came though it must not, and what did not come though it must."""
    name = f"{live.stream}"
    yield from (f"{name}: {fault}" for fault in live.faults)
    for moment, number in live.arrivals:
        spans = [teller.course.span(moment - GRACE - late, moment) for teller in tellers]
        if all(verdict.all_between(*span, False) for span in spans):
            yield f"{name}: number {number} came {GRACE + late:.2f} s and more after it was revoked"
    if len(verdict.changes) == 1 and live.stream.protocol == "udp":
        came = {number for _, number in live.arrivals}
        missing = [number for number in range(live.sent - int(GRACE / EVERY)) if number not in came]
        if missing:
            yield f"{name}: always allowed, and {len(missing)} of {live.sent} are lost, the first {missing[0]}"
    if len(verdict.changes) == 1 and live.stream.protocol == "tcp" and live.received < live.sent - 2 / EVERY:
        yield f"{name}: always allowed, and {live.sent - live.received} of {live.sent} have not come"
