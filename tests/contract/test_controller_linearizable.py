"""Concurrent writers on the controller's API while it is killed and started again: what each saw fits one order.

A write that is acknowledged is durable and seen by every read that begins afterwards, also by those after a crash; a
write whose answer was lost happened once or not at all; of writers with one If-Match, one wins.
"""

from __future__ import annotations

import functools
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from ovsnet.model import port_id
from tests.agent_kit import until
from tests.api_kit import Unanswered, call
from tests.linearize import LOST, Delete, Document, Documents, Done, Get, Put, Recorder, Refused, Seen, partitioned

pytestmark = [pytest.mark.timeout(120)]
VPCS = ("red", "blue")
NAMES = ("p1", "p2", "p3")
WRITERS = 5


class Controller:
    """A controller of its own, without hosts, on a store of its own."""

    def __init__(self) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="ovsctl-"))
        self.socket = self.dir / "controller.sock"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; returns when it answers."""
        argv = [sys.executable, "-m", "ovsnet.controller.main", "--name", "controller", "--run-dir", str(self.dir)]
        with (self.dir / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*argv, "--store", f"sqlite:///{self.dir / 'store.db'}"], stdout=log, stderr=log
            )
        until(self._answers, timeout=20)

    def _answers(self) -> bool:
        assert self.process is not None and self.process.poll() is None, (self.dir / "log").read_text()
        with suppress(Unanswered):
            return call(self.socket, "GET", "/healthz").status == 200
        return False

    def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End it and remove its files."""
        if self.process is not None and self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.dir)


@pytest.fixture
def controller() -> Iterator[Controller]:
    one = Controller()
    try:
        one.start()
        yield one
    finally:
        one.close()


def port(vpc: str, name: str, value: int) -> dict[str, Any]:
    number = NAMES.index(name) + 1
    fixed = {"mac": f"02:00:00:00:00:{number:02x}", "ips": [f"10.1.0.{number + 1}"], "id": port_id(vpc, name)}
    return {"network": "n", "description": f"{value}", **fixed}


class Writer:
    """One client: reads, writes, compares and sets, on objects that others write too."""

    def __init__(self, number: int, controller: Controller, recorder: Recorder) -> None:
        self.name, self.rng = f"writer {number}", random.Random(number)
        self.controller, self.recorder = controller, recorder
        self.seen = dict.fromkeys(VPCS, 0)

    def run(self, ending: threading.Event) -> None:
        while not ending.is_set():
            vpc, name = self.rng.choice(VPCS), self.rng.choice(NAMES)
            guess = self.seen[vpc] if self.rng.random() < 0.4 else None
            ask = self.rng.choice([Get(name), Put(name, self.recorder.unique(), guess), Delete(name, guess)])
            answer = self.recorder.record(vpc, self.name, ask, functools.partial(self.ask, vpc, ask))
            if answer is LOST:
                time.sleep(0.02)
            else:
                self.seen[vpc] = answer.revision or self.seen[vpc]

    def ask(self, vpc: str, ask: Get | Put | Delete) -> object:
        """Call the API; what was answered, in the checker's words. Raises TimeoutError if the call may yet happen."""
        target = f"/v1/vpcs/{vpc}/ports/{ask.name}"
        while True:
            try:
                if isinstance(ask, Get):
                    answer = call(self.controller.socket, "GET", target)
                elif isinstance(ask, Put):
                    body = port(vpc, ask.name, ask.value)  # type: ignore[arg-type]
                    answer = call(self.controller.socket, "PUT", target, body, if_match=ask.if_match)
                else:
                    answer = call(self.controller.socket, "DELETE", target, if_match=ask.if_match)
            except Unanswered as error:
                if error.waiting:
                    raise TimeoutError from None
                if error.sent:
                    return LOST
                time.sleep(0.02)
                continue
            break
        if answer.status == 412:
            return Refused(answer.body["current"])
        if isinstance(ask, Get):
            assert answer.status == 200 or answer.code == "unknown-port", answer
            value = int(answer.body["declared"]["description"]) if answer.status == 200 else None
            return Seen(value, answer.revision)
        assert answer.status < 300 and answer.revision is not None, answer
        return Done(answer.revision)


@pytest.mark.parametrize("seconds", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_concurrent_writers_under_kills(controller: Controller, seconds: int) -> None:
    started: dict[str, Document] = {}
    for vpc in VPCS:
        made = call(
            controller.socket,
            "PUT",
            f"/v1/vpcs/{vpc}",
            {"networks": {"n": {"vni": 5001 + VPCS.index(vpc), "subnets": [{"cidr": "10.1.0.0/16"}]}}},
        )
        assert made.status < 300 and made.revision is not None, made
        started[vpc] = Document(made.revision)
    recorder, ending = Recorder(), threading.Event()
    writers = [Writer(number, controller, recorder) for number in range(WRITERS)]
    threads = [threading.Thread(target=one.run, args=(ending,), daemon=True) for one in writers]
    for thread in threads:
        thread.start()
    rng, until_then, kills = random.Random(os.environ.get("OVSNET_SEED", "1")), time.monotonic() + seconds, 0
    while time.monotonic() < until_then:
        time.sleep(rng.uniform(0.3, 1.5))
        controller.kill()
        controller.start()
        kills += 1
    ending.set()
    for thread in threads:
        thread.join(30)
    answered = [one for _, one in recorder.history if one.answer is not LOST]
    lost = len(recorder.history) - len(answered)
    assert kills >= 2 and lost > 0 and len(answered) > 10 * kills, (kills, lost, len(answered))
    assert any(isinstance(one.answer, Refused) for one in answered)
    for vpc, verdict in partitioned(recorder.history, Documents(), started).items():
        assert verdict.ok, f"{vpc}: {verdict}"
