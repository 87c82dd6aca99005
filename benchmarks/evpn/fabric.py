"""A route reflector, its VTEPs and the far hosts' speaker, on loopback addresses of their own, and their accounts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.evpn import config
from benchmarks.evpn.daemon import Gobgpd, cpu_seconds, memory_bytes
from benchmarks.evpn.speaker import RouteType, Speaker, announcements, withdrawals
from benchmarks.scenario import Scenario
from ovsnet.model import Port

PATIENCE = 300  # seconds for anything to come about
_POLL = 0.1  # seconds
_QUIET = 1.0  # seconds without a byte read and almost without CPU: all is done
_QUIET_CPU = 0.01  # CPU seconds a second of each daemon that count as doing nothing


@dataclass(frozen=True)
class Accounts:
    """What has been used so far: bytes read from the reflector and CPU seconds of each host, CPU of the reflector."""

    at: float
    received: dict[str, int]
    host_cpu: dict[str, float]
    centre_cpu: float

    @property
    def all_cpu(self) -> float:
        """CPU seconds of all daemons."""
        return sum(self.host_cpu.values()) + self.centre_cpu


class Fabric:
    """Running daemons for a scenario; ``Fabric.running`` makes and ends one."""

    def __init__(self, scenario: Scenario, folder: Path, kind: RouteType, *, constrain: bool) -> None:
        self._scenario, self._kind = scenario, kind
        self._net = 20 + os.getpid() % 200
        self._host_of = {self._address(2 + i // 250, 1 + i % 250): host for i, host in enumerate(scenario.hosts)}
        self._centre = config.Centre(self._address(0, 1), _free_port(self._address(0, 1)))
        self._speaker_address = self._address(1, 1)
        text = config.reflector(self._centre, list(self._host_of), self._speaker_address, constrain=constrain)
        self.reflector = Gobgpd(folder, "reflector", text)
        self.vteps = {
            host: Gobgpd(folder, host, config.vtep(address, self._centre, self._vnis(host), constrain=constrain))
            for address, host in self._host_of.items()
        }
        self._speaker: Speaker | None = None

    @classmethod
    @contextlib.contextmanager
    def running(cls, scenario: Scenario, kind: RouteType, *, constrain: bool) -> Iterator[Fabric]:
        """A fabric with all sessions up; nothing of it is left afterwards.

        ``kind``: what endpoints are announced as. ``constrain``: with RFC 4684.
        """
        folder = Path(tempfile.mkdtemp(prefix="ovsnet-evpn-"))
        fabric = cls(scenario, folder, kind, constrain=constrain)
        try:
            fabric._connect()
            yield fabric
        finally:
            fabric.stop()
            shutil.rmtree(folder)

    def stop(self) -> None:
        """End the speaker and all daemons."""
        if self._speaker:
            self._speaker.close()
        for daemon in (*self.vteps.values(), self.reflector):
            daemon.stop()

    def announcement(self, vpc: str, ports: dict[str, Port]) -> bytes:
        """The messages that announce ports of a VPC."""
        return announcements(self._scenario.vni(vpc), ports.values(), self._scenario.vteps, self._kind)

    def withdrawal(self, vpc: str, ports: dict[str, Port]) -> bytes:
        """The messages that take ports of a VPC back."""
        return withdrawals(self._scenario.vni(vpc), ports.values(), self._scenario.vteps, self._kind)

    def send(self, messages: bytes) -> None:
        """Messages from the far hosts to the reflector. Raises RuntimeError when the session is not up."""
        if self._speaker is None:
            raise RuntimeError("the far hosts' session is not up")
        self._speaker.send(messages)

    def accounts(self) -> Accounts:
        """All that has been used until now."""
        return Accounts(
            time.perf_counter(),
            self._received(),
            {host: cpu_seconds(daemon.pid) for host, daemon in self.vteps.items()},
            cpu_seconds(self.reflector.pid),
        )

    def settled(self) -> tuple[Accounts, float]:
        """Wait until nothing moves: the accounts then, and when (``perf_counter``) something was last seen to move.

        Raises RuntimeError when it does not come to rest.
        """
        deadline = time.perf_counter() + PATIENCE
        last = moved = self.accounts()
        allowed = _QUIET_CPU * (1 + len(self.vteps))
        while time.perf_counter() < deadline:
            time.sleep(_POLL)
            now = self.accounts()
            rate = (now.all_cpu - last.all_cpu) / (now.at - last.at)
            if now.received != last.received or rate > allowed:
                moved = now
            elif now.at - moved.at > _QUIET:
                return now, moved.at
            last = now
        raise RuntimeError(f"the daemons did not come to rest in {PATIENCE} s")

    def memory(self) -> tuple[list[int], int]:
        """Resident bytes of each VTEP's daemon, and of the reflector."""
        return [memory_bytes(daemon.pid) for daemon in self.vteps.values()], memory_bytes(self.reflector.pid)

    def _connect(self) -> None:
        self._until_established(len(self.vteps))
        self._speaker = Speaker(self._speaker_address, self._centre)
        self._until_established(len(self.vteps) + 1)
        time.sleep(2 * config.DEFERRAL)

    def _until_established(self, sessions: int) -> None:
        deadline = time.perf_counter() + PATIENCE
        while self.reflector.established() < sessions:
            if time.perf_counter() > deadline:
                raise RuntimeError(f"not all of {sessions} BGP sessions came up in {PATIENCE} s")
            time.sleep(0.5)

    def _received(self) -> dict[str, int]:
        """Host -> bytes that its daemon has read from its session, by the kernel's account of the connection."""
        command = ["ss", "-tniH", "state", "established", "dst", f"{self._centre.address}:{self._centre.port}"]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        found = received_bytes(output)
        return {host: found.get(address, 0) for address, host in self._host_of.items()}

    def _vnis(self, host: str) -> list[int]:
        return [self._scenario.vni(vpc) for vpc in self._scenario.vpcs_of[host]]

    def _address(self, third: int, fourth: int) -> str:
        return f"127.{self._net}.{third}.{fourth}"


def received_bytes(output: str) -> dict[str, int]:
    """Local address -> TCP payload bytes received, from what ``ss -tni`` prints (two lines for each connection)."""
    found, address = {}, ""
    for line in output.splitlines():
        if not line[:1].isspace():
            address = line.split()[-2].rpartition(":")[0]
        elif match := re.search(r"\bbytes_received:(\d+)", line):
            found[address] = int(match[1])
    return found


def _free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])
