"""A synchronous client of our services: HTTP on a unix socket or by TLS, with the standard library and msgspec."""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from ovsnet.errors import EXIT_UNAVAILABLE, UserError
from ovsnet.transport.messages import HEADER, PROTOCOL


class ServiceError(UserError):
    """The service refused a request: HTTP ``status``, stable ``code``, and the whole problem document."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        super().__init__(str(problem.get("detail", f"HTTP status {status}")))
        self.status = status
        self.code = str(problem.get("code", ""))
        self.problem = dict(problem)


class ServiceUnreachable(UserError):
    """Nobody answers there."""

    exit_code = EXIT_UNAVAILABLE


class UnixConnection(http.client.HTTPConnection):
    """HTTP on a unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


class TlsConnection(http.client.HTTPSConnection):
    """HTTP by TLS with a service whose certificate says ``name`` (empty: the address)."""

    def __init__(self, address: str, port: int, timeout: float, context: ssl.SSLContext, name: str) -> None:
        super().__init__(address, port, timeout=timeout, context=context)
        self._tls, self._name = context, name or address

    def connect(self) -> None:
        """Connect, and see who is there."""
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=self._name)


class ServiceClient:
    """A client of the service at ``address``: a socket's path (or ``unix:PATH``), or ``https://HOST:PORT``.

    Not for several threads at once. ``context`` is for TLS (``ovsnet.tls``; left out, the system's authorities are
    believed), ``name`` what the service's certificate has to say, if not the address; ``token``: a bearer token. Every
    call raises ServiceUnreachable without an answer within ``timeout`` seconds (beyond what it asks to wait), and
    ServiceError when it is refused.
    """

    service = "service"
    refused: type[ServiceError] = ServiceError
    unreachable: type[ServiceUnreachable] = ServiceUnreachable

    def __init__(
        self,
        address: Path | str,
        timeout: float = 30.0,
        *,
        context: ssl.SSLContext | None = None,
        name: str = "",
        token: str | None = None,
    ) -> None:
        self.address = str(address)
        self.timeout = timeout
        self.name = name
        self._headers = {HEADER: str(PROTOCOL)} | ({"Authorization": f"Bearer {token}"} if token else {})
        self._context = context
        if self.address.startswith("https:") and context is None:
            self._context = ssl.create_default_context()
        self._connection: http.client.HTTPConnection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        wait: float = 0.0,
        accept: Sequence[int] = (),
    ) -> Any:
        """One request; the answer's JSON. ``wait``: seconds that the service may take beyond the timeout.

        ``query``: parameters, of which those that are None or False are left out. ``accept``: statuses from 400 on that
        are answers.
        """
        sent = {**self._headers, **(headers or {})}
        data = None if body is None else body if isinstance(body, bytes) else msgspec.json.encode(body)
        if data is not None:
            sent["Content-Type"] = "application/json"
        status, answer = self._exchange(method, path + query_text(query), data, sent, wait)
        try:
            found = msgspec.json.decode(answer) if answer else {}
        except msgspec.DecodeError:
            found = {"detail": answer.decode(errors="replace")}
        if status >= 400 and status not in accept:
            raise self.refused(status, found)
        return found

    def text(self, path: str) -> str:
        """What is there, as text."""
        return self._exchange("GET", path, None, self._headers, 0.0)[1].decode()

    def stream(self, path: str, since: int | None = None) -> Iterator[tuple[int, str, Any]]:
        """Follow a stream of events on a connection of its own: serial, kind and data of each, without an end."""
        with closing(self._open(self.timeout)) as connection:
            try:
                connection.request("GET", path + query_text({"since": since}), headers=self._headers)
                response = connection.getresponse()
                if response.status != 200:
                    raise self.refused(response.status, msgspec.json.decode(response.read()))
                yield from _events(response)
            except (OSError, http.client.HTTPException) as exc:
                raise self._unreachable(exc) from None

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        """A connection that opens with its first request."""
        if self._context is None:
            return UnixConnection(Path(self.address.removeprefix("unix:")), timeout)
        parts = urlsplit(self.address)
        return TlsConnection(parts.hostname or "", parts.port or 443, timeout, self._context, self.name)

    def _exchange(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], wait: float
    ) -> tuple[int, bytes]:
        """One request; a kept connection that was closed meanwhile is replaced once (every call may be repeated)."""
        while True:
            kept = self._connection is not None
            connection = self._connection = self._connection or self._open(self.timeout)
            connection.timeout = self.timeout + wait
            if connection.sock is not None:
                connection.sock.settimeout(self.timeout + wait)
            try:
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                return response.status, response.read()
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                if not kept or isinstance(exc, TimeoutError):
                    raise self._unreachable(exc) from None

    def _unreachable(self, exc: Exception) -> ServiceUnreachable:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        return self.unreachable(f"no {self.service} answers on {self.address}: {reason}. Is it running?")


def _events(response: http.client.HTTPResponse) -> Iterator[tuple[int, str, Any]]:
    serial, kind = 0, ""
    while line := response.readline():
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name == "id":
            serial = int(value)
        elif name == "event":
            kind = value
        elif name == "data":
            yield serial, kind, msgspec.json.decode(value)


def query_text(query: Mapping[str, Any] | None) -> str:
    """Parameters as they stand in a URL; those that are None or False are left out."""
    chosen = {name: "true" if value is True else value for name, value in (query or {}).items()}
    chosen = {name: value for name, value in chosen.items() if value is not None and value is not False}
    return f"?{urlencode(chosen)}" if chosen else ""
