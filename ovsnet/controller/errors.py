"""What the controller refuses, beside wrong models, conflicts and conditions that do not hold."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.errors import EXIT_UNAVAILABLE, ModelError, Problem, UserError


class NotFoundError(UserError):
    """There is no such thing; ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ForbiddenError(UserError):
    """The caller is known, and may not do that."""

    code = "forbidden"


class TakenError(ModelError):
    """What a request declares is sound, and others have what it claims for itself: a VNI, or the id of a port.

    ``holders``: their VPCs.
    """

    code = "taken"

    def __init__(self, problems: Iterable[Problem], holders: Iterable[str]) -> None:
        super().__init__(problems)
        self.holders = tuple(holders)


class StoreError(UserError):
    """The store did not take a change, and nothing changed.

    ``code``: ``store-full`` (no space), ``store-read-only``, ``store-unavailable`` (no answer, or locked), or
    ``store-newer`` (written by a later version).
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
