"""HTTP on a unix socket as it is, with status and headers: for tests that look at more than a client shows."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec


class Answer(NamedTuple):
    """What was answered; ``body`` is the JSON."""

    status: int
    revision: int | None
    body: Any

    @property
    def code(self) -> str:
        """The stable code of a refusal, else empty."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) and self.status >= 400 else ""


class Unanswered(Exception):
    """No answer: whether the call happened, nobody knows. ``sent`` is false if it certainly did not.

    ``waiting`` is true if the server was still there: the call may yet happen.
    """

    def __init__(self, reason: str, *, sent: bool, waiting: bool = False) -> None:
        super().__init__(reason)
        self.sent, self.waiting = sent, waiting


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def call(
    path: Path,
    method: str,
    resource: str,
    body: Any = None,
    *,
    query: Mapping[str, str] | None = None,
    if_match: int | None = None,
    timeout: float = 30.0,
) -> Answer:
    """One request on a connection of its own. Raises Unanswered."""
    connection = _Connection(path, timeout)
    try:
        connection.connect()
    except OSError as error:
        connection.close()
        raise Unanswered(str(error), sent=False) from None
    headers = {"Content-Type": "application/json"} if body is not None else {}
    if if_match is not None:
        headers["If-Match"] = f'"{if_match}"'
    target = f"{resource}?{urlencode(query)}" if query else resource
    try:
        connection.request(method, target, None if body is None else msgspec.json.encode(body), headers)
        response = connection.getresponse()
        data = response.read()
    except (OSError, http.client.HTTPException) as error:
        waiting = isinstance(error, TimeoutError)
        raise Unanswered(str(error) or type(error).__name__, sent=True, waiting=waiting) from None
    finally:
        connection.close()
    etag = response.headers.get("ETag")
    return Answer(response.status, int(etag.strip('"')) if etag else None, msgspec.json.decode(data) if data else None)
