"""What the controller refuses, beside wrong models (ModelError) and conflicts (ConflictError)."""

from __future__ import annotations

from ovsnet.errors import EXIT_UNAVAILABLE, UserError


class NotFoundError(UserError):
    """There is no such thing; ``code`` is stable."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class PreconditionError(UserError):
    """A VPC has another revision than the caller took it to have; ``current`` is its revision (``None``: no VPC)."""

    code = "precondition-failed"

    def __init__(self, message: str, current: int | None) -> None:
        super().__init__(message)
        self.current = current


class ReservedError(UserError):
    """A word of the model's language that this version does not enforce."""

    code = "reserved-not-enforced"


class StoreError(UserError):
    """The store did not take a change, and nothing changed.

    ``code``: ``store-full`` (no space), ``store-read-only``, ``store-unavailable`` (no answer, or locked), or
    ``store-newer`` (written by a later version).
    """

    exit_code = EXIT_UNAVAILABLE

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
