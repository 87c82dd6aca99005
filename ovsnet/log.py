"""What a log line is about, for programs that read logs: the model object, beside the words."""

from __future__ import annotations

import logging
from typing import Any

FIELDS = ("host", "vpc", "object", "revision")
"""The fields that a line may have beside its words, in the order in which they are written."""
_KEY = "about"


def about(vpc: str = "", object: str = "", *, host: str = "", revision: int | None = None) -> dict[str, dict[str, Any]]:
    """What a line is about, as the ``extra`` of a logging call; what is left out the line does not have.

    ``object`` is a path in the model, such as ``vpcs.shop.ports.web1``; left out, it follows from ``vpc`` or ``host``.
    """
    path = object or (f"vpcs.{vpc}" if vpc else f"hosts.{host}" if host else "")
    known = {"host": host, "vpc": vpc, "object": path, "revision": revision}
    return {_KEY: {name: value for name, value in known.items() if value not in {"", None}}}


def about_port(vpc: str, name: str, *, host: str = "") -> dict[str, dict[str, Any]]:
    """That a line is about a port."""
    return about(vpc, f"vpcs.{vpc}.ports.{name}", host=host)


def subject_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a line is about: some of FIELDS."""
    found: dict[str, Any] = getattr(record, _KEY, {})
    return found
