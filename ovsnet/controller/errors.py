"""What the controller refuses, beside wrong models, conflicts and conditions that do not hold."""

from __future__ import annotations

from ovsnet.errors import EXIT_UNAVAILABLE, UserError


class NotFoundError(UserError):
    """There is no such thing; ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class ForbiddenError(UserError):
    """The caller is known, and may not do that."""

    code = "forbidden"


class StoreError(UserError):
    """The store did not take a change, and nothing changed.

    ``code``: ``store-full`` (no space), ``store-read-only``, ``store-unavailable`` (no answer, or locked), or
    ``store-newer`` (written by a later version).
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
