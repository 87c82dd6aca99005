"""A process of the lab that outlives whoever started it: found again, and ended, by what its directory says."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ovsnet.lab import netns


class Daemon:
    """The process ``name`` that works in ``run_dir``: ``NAME.lab-pid`` holds its id, ``NAME.log`` what it says."""

    def __init__(self, run_dir: Path | str, name: str) -> None:
        self.run_dir = Path(run_dir)
        self.name = name
        self.log = self.run_dir / f"{name}.log"
        self._pid_file = self.run_dir / f"{name}.lab-pid"

    @property
    def pid(self) -> int | None:
        """The running process's id, or ``None``. One that got the id later is told by its arguments."""
        try:
            pid = int(self._pid_file.read_text())
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (OSError, ValueError):
            return None
        directory = str(self.run_dir)
        mine = any(word == directory or word.startswith(f"{directory}/") for word in argv)
        return pid if mine and netns.alive(pid) else None

    def start(self, namespace: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
        """Start it in a namespace, which ``argv`` names ``run_dir`` to; returns its id. It is not yet ready then.

        Raises FileNotFoundError when there is no such program or namespace.
        """
        self.run_dir.mkdir(parents=True, exist_ok=True)
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
        with netns.inside(namespace), self.log.open("ab") as log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={**os.environ, "PYTHONPATH": path, **(environment or {})},
                start_new_session=True,
            )
        process.returncode = 0  # It outlives us on purpose: no warning when this object goes.
        _await_arguments(process.pid)
        self._pid_file.write_text(str(process.pid))
        return process.pid

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """End it with a signal, and wait until it is gone; one that does not run is fine."""
        pid = self.pid
        if pid is not None:
            netns.end([pid], sig)

    def log_end(self, lines: int = 5) -> str:
        """The end of its log, for messages."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError as error:
            return f"({error.strerror})"
        return "\n".join(text.splitlines()[-lines:]) or "(empty)"


def _await_arguments(pid: int) -> None:
    """Wait until a process that has just begun shows its arguments, by which it is known: they follow the exec."""
    while netns.alive(pid):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes():
                return
        time.sleep(0.001)
