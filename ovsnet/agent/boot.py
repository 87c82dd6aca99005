"""After the machine was booted, ports stay down until somebody confirms that they are still placed on this host.

While it was down, an orchestrator may have started its workloads elsewhere. A hypervisor that comes back and trusts its
disk would then deliver to two machines with one address. What waits is written down, so that an agent that is restarted
meanwhile does not forget it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovsnet.agent.store import replace_file
from ovsnet.errors import UserError

REASON = "the host was booted and the placement is not confirmed yet"


class _Record(msgspec.Struct, frozen=True):
    """What the file has: the boot that it was written in, and the VPCs that were not confirmed yet."""

    boot: str
    waiting: tuple[str, ...] = ()


class BootHold:
    """The VPCs that wait to be confirmed. ``id`` names this boot; ``waiting`` is only ever replaced as a whole.

    ``path`` is the file that remembers; ``vpcs`` are those that are held at the start. Without a file nothing waits:
    an agent that knows of no earlier boot was not away.
    """

    def __init__(self, path: Path, boot: str, vpcs: Iterable[str]) -> None:
        self.id = boot
        self._path = path
        self._lock = threading.Lock()
        held = frozenset(vpcs)
        known = _read(path)
        if known is None:
            self.waiting: frozenset[str] = frozenset()
        else:
            self.waiting = held.intersection(known.waiting) if known.boot == boot else held

    def confirm(self, vpcs: Iterable[str] | None = None) -> bool:
        """These VPCs (``None``: all) are placed as they are held; whether any of them had been waiting."""
        with self._lock:
            before = self.waiting
            self.waiting = frozenset() if vpcs is None else before.difference(vpcs)
            return self.waiting != before

    def save(self) -> None:
        """Write down what waits. Raises OSError."""
        replace_file(self._path, msgspec.json.encode(_Record(self.id, tuple(sorted(self.waiting)))))


def read_boot_id(path: Path) -> str:
    """The id of this boot. Raises UserError."""
    try:
        text = path.read_text().strip()
    except OSError as exc:
        raise UserError(f"--boot-id-file {path}: {exc.strerror}. Give a file that says which boot this is") from None
    if not text:
        raise UserError(f"--boot-id-file {path}: it is empty. Give a file that says which boot this is")
    return text


def _read(path: Path) -> _Record | None:
    """What was written down; ``None`` without a file, and no boot's for a damaged one, so that everything waits."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=_Record)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError):
        return _Record("")
