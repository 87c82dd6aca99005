"""What Ctrl-C and SIGTERM may interrupt while a lab is changed."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM roll back as Ctrl-C does."""
    if not _in_main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


@contextlib.contextmanager
def _ignoring(*signals: int) -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def uninterruptible() -> contextlib.AbstractContextManager[None]:
    """Let nothing interrupt: what is taken back is taken back to the end."""
    return _ignoring(signal.SIGINT, signal.SIGTERM)


def ignoring_interrupts() -> contextlib.AbstractContextManager[None]:
    """Leave Ctrl-C to the program in the foreground."""
    return _ignoring(signal.SIGINT)
