"""The digests of the VPCs that are held, kept up to date change by change."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Patch
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.view import Change


class Digests:
    """A digest is computed from the whole state when it is first asked for; from then on a patch costs what it touches.

    For any thread.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[VpcState, int]] = {}
        self._lock = threading.Lock()

    def of(self, state: VpcState) -> str:
        """The digest of a state, 32 hexadecimal digits."""
        known = self._sums.get(state.name)
        if known is not None and known[0] is state:
            return digest_text(known[1])
        total = state_sum(state)
        with self._lock:
            self._sums[state.name] = (state, total)
        return digest_text(total)

    def follow(self, change: Change, after: Mapping[str, VpcState]) -> None:
        """Take note of a change that was made; ``after`` are the states that are held now."""
        operations = Counter(operation.vpc for operation in change.operations)
        with self._lock:
            for operation in change.operations:
                known = self._sums.pop(operation.vpc, None)
                if known is None or not isinstance(operation, Patch) or operations[operation.vpc] > 1:
                    continue
                before, total = known
                state = after.get(operation.vpc)
                if state is not None and before.revision == operation.previous:
                    self._sums[operation.vpc] = (state, patched_sum(total, before, operation))
