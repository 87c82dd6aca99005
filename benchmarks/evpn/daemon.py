"""One gobgpd: started with a file, asked through its unix socket, measured by the kernel's accounts of its process."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

_END_WAIT = 5  # seconds until a daemon that was asked to end is killed


class MissingTool(RuntimeError):
    """A program that the benchmark needs is not installed."""


def version() -> str:
    """What ``gobgpd --version`` says. Raises MissingTool when a program that the benchmark needs is missing."""
    for tool, package in (("gobgpd", "gobgpd"), ("gobgp", "gobgpd"), ("ss", "iproute2")):
        if shutil.which(tool) is None:
            raise MissingTool(
                f"{tool} is not installed; install Debian's package {package} (apt-get install {package})"
            )
    words = subprocess.run(["gobgpd", "--version"], capture_output=True, text=True, check=True).stdout.split()
    return f"gobgpd {words[-1]}"


def cpu_seconds(pid: int) -> float:
    """CPU seconds that a process and all its threads, ended ones too, have used, from its CPU clock: exact to a ns."""
    return time.clock_gettime(~pid << 3 | 2)


def memory_bytes(pid: int) -> int:
    """Resident memory of a process. Raises OSError when it is gone."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"process {pid} has ended")


class Gobgpd:
    """A running gobgpd; ``stop`` ends it."""

    def __init__(self, folder: Path, name: str, config: str) -> None:
        """Start it in ``folder``, where its configuration, log and socket are called ``name``."""
        self.name = name
        self._socket, self._log = folder / f"{name}.sock", folder / f"{name}.log"
        file = folder / f"{name}.toml"
        file.write_text(config)
        command = ["gobgpd", "-f", str(file), "-p", "-l", "warn", "--pprof-disable", f"--api-hosts={self.target}"]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    @property
    def target(self) -> str:
        """What ``gobgp --target`` takes."""
        return f"unix://{self._socket}"

    @property
    def pid(self) -> int:
        """Its process."""
        return self.process.pid

    def ask(self, *words: str) -> Any:
        """The answer of ``gobgp WORDS -j``; ``None`` while there is none. Raises RuntimeError when it has ended."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with code {self.process.returncode}: {self._log.read_text()[-500:]}")
        command = ["gobgp", "--target", self.target, *words, "-j"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        return json.loads(answer.stdout) if answer.returncode == 0 else None

    def established(self) -> int:
        """How many of its sessions are up."""
        sessions = self.ask("neighbor") or []
        return sum(each["state"].get("session_state") == 6 for each in sessions)

    def routes(self) -> int:
        """How many EVPN routes it holds."""
        answer = self.ask("global", "rib", "summary", "-a", "evpn") or {}
        return int(answer.get("num_path", 0))

    def stop(self) -> None:
        """End it and wait for that."""
        self.process.terminate()
        try:
            self.process.wait(_END_WAIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
