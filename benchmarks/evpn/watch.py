"""When a new endpoint is in a VTEP's table: ``gobgp monitor global rib`` at some of them, read line by line."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterable
from types import TracebackType

from benchmarks.evpn.daemon import Gobgpd

_ROUTE = re.compile(rb"\[ROUTE\] \[type:\w+\]\[rd:[^\]]*:(\d+)\].*?\[(?:ip|prefix):([0-9a-f.:]+)")


def routes_in(line: bytes) -> tuple[int, str] | None:
    """The VNI and the IP address that a line of the monitor says were added; ``None`` for every other line."""
    match = _ROUTE.search(line)
    return (int(match[1]), match[2].decode()) if match else None


class Watch:
    """Monitors of some VTEPs; a context that ends them."""

    def __init__(self, vteps: Iterable[Gobgpd]) -> None:
        self._selector = selectors.DefaultSelector()
        self._monitors = []
        self._rest: dict[int, bytes] = {}
        for vtep in vteps:
            command = ["gobgp", "--target", vtep.target, "monitor", "global", "rib", "-a", "evpn"]
            monitor = subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0)
            self._monitors.append(monitor)
            if monitor.stdout is None:
                raise RuntimeError("the monitor has no output")
            self._selector.register(monitor.stdout, selectors.EVENT_READ)
            self._rest[monitor.stdout.fileno()] = b""

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._selector.close()
        for monitor in self._monitors:
            monitor.terminate()
            monitor.communicate()

    def until_all_have(self, routes: Iterable[tuple[int, str]], patience: float) -> float:
        """Wait until every watched VTEP has all (VNI, IP address): the ``perf_counter`` of the last one.

        Raises RuntimeError when that takes longer than ``patience`` seconds.
        """
        wanted = set(routes)
        missing = {file: set(wanted) for file in self._rest}
        deadline = time.perf_counter() + patience
        while any(missing.values()):
            ready = self._selector.select(deadline - time.perf_counter())
            now = time.perf_counter()
            if not ready:
                left = sum(map(len, missing.values()))
                raise RuntimeError(f"{left} routes had not arrived after {patience:g} s")
            for key, _events in ready:
                missing[key.fd] -= set(self._read(key.fd))
        return now

    def _read(self, file: int) -> Iterable[tuple[int, str]]:
        data = os.read(file, 1 << 20)
        if not data:
            raise RuntimeError("a monitor ended: its gobgpd is gone")
        *lines, self._rest[file] = (self._rest[file] + data).split(b"\n")
        return filter(None, map(routes_in, lines))
