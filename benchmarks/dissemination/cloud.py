"""A controller in a process of its own, a way to its hosts, and simulated hosts in another process."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal

from benchmarks.common import cpu_of, memory_of
from benchmarks.dissemination import agents, hosts
from ovsnet.controller.client import ControllerClient
from tests.contract.nats_kit import NatsServer
from tests.controller_kit import controller

Say = Callable[[str], None]
Way = Literal["nats", "direct"]
WAYS: tuple[Way, ...] = ("nats", "direct")
_SPAWN = multiprocessing.get_context("spawn")


class Cloud:
    """A controller and the hosts that it tells, over a bus or by calling their APIs; ``bus`` is ``None`` then.

    ``hosts``: how many are watched. Whoever declares says how many ``ports`` there are, and how many ports all hosts
    together are ``told`` of.
    """

    def __init__(self, directory: Path, hosts: int, bus: NatsServer | None, pipe: Connection) -> None:
        self.directory, self.hosts, self.bus, self.pipe = directory, hosts, bus, pipe
        self.ports = self.told = 0
        self._running = ExitStack()
        self.start()

    def start(self) -> None:
        """Start the controller, and wait until it is ready."""
        way = ("--direct",) if self.bus is None else ("--nats", self.bus.url)
        self.client: ControllerClient = self._running.enter_context(controller(self.directory, *way))
        self.client.timeout = 300

    def stop(self) -> None:
        """End the controller, and wait until it has gone."""
        self._running.close()

    def host(self, name: str, vtep: str) -> dict[str, str]:
        """The declaration of a host."""
        return {"vtep": vtep} if self.bus else {"vtep": vtep, "agent": f"unix:{self.socket(name)}"}

    def socket(self, name: str) -> Path:
        """Where a simulated host's API is."""
        return self.directory / f"{name}.sock"

    @property
    def pid(self) -> int:
        """The controller's process."""
        return int((self.directory / "controller.pid").read_text())

    @property
    def bus_pid(self) -> int:
        """The bus's process. Raises ValueError if there is none."""
        if self.bus is None or self.bus.process is None:
            raise ValueError("there is no bus")
        return self.bus.process.pid

    def centre(self) -> tuple[int, ...]:
        """The processes that are not hosts."""
        return (self.pid, self.bus_pid) if self.bus else (self.pid,)

    def tally(self) -> dict[str, Any]:
        """What the hosts have seen; see ``holding.Tally``."""
        self.pipe.send("tally")
        found: dict[str, Any] = self.pipe.recv()
        return found

    def arrived(self, answer: dict[str, Any]) -> tuple[int, float]:
        """How often a host has got one of the VPCs that a call has changed, and when the last did."""
        self.pipe.send({vpc: step["revision"] for vpc, step in answer["vpcs"].items()})
        count, last = self.pipe.recv()
        return count, last

    def await_all(self, within: float) -> float:
        """Wait until every host holds what it should; seconds that it took. Raises RuntimeError if it takes longer."""
        started = time.monotonic()
        while self.tally()["agreeing"] < self.hosts:
            if time.monotonic() - started > within:
                raise RuntimeError(f"not all hosts have caught up within {within:g} s: {self.tally()}")
            time.sleep(0.1)
        return time.monotonic() - started


@dataclass
class Made:
    """A cloud whose hosts have all that concerns them; what declaring and catching up took.

    ``cpu``: the seconds of it that each process of the centre used for catching up."""

    cloud: Cloud
    declared: float
    kilobytes: float
    seconds: float
    cpu: list[float]


@contextmanager
def simulated_cloud(
    names: list[str], declare: Callable[[Cloud], None], say: Say, way: Way = "nats", unwatched: Sequence[str] = ()
) -> Iterator[Made]:
    """A cloud that ``declare`` declares, with a simulated host for each name.

    ``unwatched``: more hosts, whose part in anything is not counted. On a bus nobody is there for them.
    """
    ours, theirs = multiprocessing.Pipe()
    with tempfile.TemporaryDirectory(prefix="ovsnet-bench-") as place, ExitStack() as stack:
        bus = NatsServer().start() if way == "nats" else None
        if bus:
            stack.callback(bus.close)
        cloud = Cloud(Path(place), len(names), bus, ours)
        stack.callback(cloud.stop)
        before, started = memory_of(cloud.pid), time.monotonic()
        declare(cloud)
        declared, kilobytes = time.monotonic() - started, memory_of(cloud.pid) - before
        process = _hosts(cloud, names, unwatched, theirs)
        before_cpu = [cpu_of(pid) for pid in cloud.centre()]
        process.start()
        theirs.close()  # so that its end is noticed here
        stack.callback(process.kill)
        say(f"{len(names)} hosts: connecting")
        took = cloud.await_all(300)
        cpu = [cpu_of(pid) - past for pid, past in zip(cloud.centre(), before_cpu, strict=True)]
        yield Made(cloud, declared, kilobytes, took, cpu)
        ours.send("end")
        process.join(20)


def _hosts(cloud: Cloud, names: list[str], unwatched: Sequence[str], pipe: Connection) -> Any:
    if cloud.bus:
        return _SPAWN.Process(target=hosts.main, args=(names, cloud.bus.port, pipe), daemon=True)
    paths = {name: cloud.socket(name) for name in (*names, *unwatched)}
    return _SPAWN.Process(target=agents.main, args=(paths, list(unwatched), pipe), daemon=True)
