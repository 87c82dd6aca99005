"""The compiler's numbers on disk: written before the flows that have them, so that a restart changes nothing."""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec

from ovsnet.agent.store import replace_file, set_aside
from ovsnet.numbers import Numbers, Snapshot

log = logging.getLogger(__name__)


class NumbersFile:
    """``numbers``, and the file that keeps them. Without one that can be used they begin anew.

    Then flows get other numbers, which replaces them in one bundle: that costs a moment, and nothing is lost.
    ``damage`` says in words what was wrong with the file; that there is none is wrong only if one is ``expected``.
    """

    def __init__(self, path: Path, *, expected: bool = False) -> None:
        self.path = path
        self.damage: list[str] = []
        self.numbers = self._load(expected)
        self._saved = self.numbers.changes
        self._failed = False

    def save(self) -> bool:
        """Write the numbers if they have changed; false if the disk does not take them, for another attempt.

        Flows may be applied all the same: what is lost with the numbers is only that a restart changes nothing.
        """
        changes = self.numbers.changes
        if changes == self._saved:
            return True
        try:
            replace_file(self.path, msgspec.json.encode(self.numbers.snapshot()))
        except OSError as exc:
            if not self._failed:
                log.error("cannot write %s: %s", self.path, exc.strerror or exc)
            self._failed = True
            return False
        self._saved, self._failed = changes, False
        return True

    def _load(self, expected: bool) -> Numbers:
        try:
            return Numbers.restore(msgspec.json.decode(self.path.read_bytes(), type=Snapshot))
        except FileNotFoundError:
            if expected:
                log.warning("%s is missing: the numbers of security groups begin anew", self.path)
        except (OSError, ValueError, msgspec.MsgspecError) as exc:
            reason = exc.strerror if isinstance(exc, OSError) else str(exc)
            aside = set_aside(self.path).name
            self.damage.append(f"{self.path} is damaged ({reason}); set aside as {aside}, and its numbers begin anew")
        return Numbers()
