"""A real nats-server of a test's own, on a loopback port, ended by its process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def free_port() -> int:
    """A port of the loopback that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One server; it keeps its port through ``kill`` and ``start``. ``options`` are further lines of configuration."""

    def __init__(self, options: str = "") -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="ovsnats-"))
        self.port = free_port()
        self.options = options
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> NatsServer:
        """Start it; returns when it takes connections."""
        config = self.dir / "nats.conf"
        config.write_text(f"listen: 127.0.0.1:{self.port}\n{self.options}\n")
        with (self.dir / "log").open("ab") as log:
            self.process = subprocess.Popen(["nats-server", "-c", str(config)], stdout=log, stderr=log)
        end = time.monotonic() + 10
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return self
            assert self.process.poll() is None and time.monotonic() < end, (self.dir / "log").read_text()
            time.sleep(0.01)

    def kill(self, sig: int = signal.SIGKILL) -> None:
        """End it."""
        assert self.process is not None
        os.kill(self.process.pid, sig)
        self.process.wait(10)
        self.process = None

    def pause(self) -> None:
        """Let it hang: connections stay, and nothing is answered."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGCONT)

    def close(self) -> None:
        """End it and remove its directory."""
        if self.process is not None:
            self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)
