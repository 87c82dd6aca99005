"""Refusals as problem documents (RFC 9457), and the errors that lead to them."""

from __future__ import annotations

from typing import Any

import msgspec

from ovsnet.errors import ModelError, Problem, UserError
from ovsnet.transport.edits import PreconditionError, UnknownObjectError
from ovsnet.transport.view import ConflictError

MEDIA_TYPE = "application/problem+json"


class ProblemDocument(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a request was refused; ``code`` is stable, ``detail`` is for people: place, reason and remedy.

    ``problems``: all that is wrong with a model. ``current``: the revision that is held, where revisions disagree.
    ``referrers``: the objects that refer to one that should go.
    """

    title: str
    status: int
    code: str
    detail: str
    problems: tuple[Problem, ...] = ()
    current: int | None = None
    referrers: tuple[str, ...] = ()


class RequestError(Exception):
    """A request that cannot be understood, or whose object is not there; ``status`` is that of HTTP."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.code = status, code


def problem(status: int, code: str, detail: str, **more: Any) -> ProblemDocument:
    """A problem document; the title follows from the code."""
    return ProblemDocument(title=code.replace("-", " "), status=status, code=code, detail=detail, **more)


_KINDS: tuple[tuple[type[Exception] | tuple[type[Exception], ...], int, str], ...] = (
    (PreconditionError, 412, "precondition-failed"),
    (ConflictError, 409, "conflict"),
    (UnknownObjectError, 404, "unknown-object"),
    (ModelError, 422, "invalid-model"),
    (UserError, 422, "refused"),
    (msgspec.ValidationError, 422, "wrong-structure"),
    ((msgspec.DecodeError, UnicodeDecodeError, RecursionError), 400, "malformed-json"),
)
"""Errors with their status, and the code of those that have none of their own; the first that fits counts."""


def problem_of(exc: Exception) -> ProblemDocument | None:
    """What a caller is told of an error, ``None`` for one that is not the caller's doing."""
    if isinstance(exc, RequestError):
        return problem(exc.status, exc.code, str(exc))
    for kind, status, code in _KINDS:
        if isinstance(exc, kind):
            text = f"the body is no JSON: {exc}" if code == "malformed-json" else str(exc)
            known = {name: getattr(exc, name) for name in ("current", "referrers") if hasattr(exc, name)}
            if isinstance(exc, ModelError):
                known["problems"] = tuple(exc.problems)
            return problem(status, getattr(exc, "code", code), text, **known)
    return None
