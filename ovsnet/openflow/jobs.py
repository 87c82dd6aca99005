"""A thread that runs callbacks one after the other, so that no callback delays a connection."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

LOG = logging.getLogger(__name__)


class Jobs:
    """Runs what is posted, in order, on one daemon thread."""

    def __init__(self, name: str) -> None:
        self._jobs: deque[Callable[[], None]] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        """Run a job after all earlier ones; what it raises is logged."""
        with self._ready:
            self._jobs.append(job)
            self._ready.notify()

    def stop(self, patience: float = 2.0) -> None:
        """Finish what waits, and end the thread; a job that is stuck is left behind after ``patience`` seconds."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread is not threading.current_thread():
            self._thread.join(patience)

    def _run(self) -> None:
        while True:
            with self._ready:
                while not self._jobs and not self._stopping:
                    self._ready.wait()
                if not self._jobs:
                    return
                job = self._jobs.popleft()
            try:
                job()
            except Exception:
                LOG.exception("a callback or an observer failed")
