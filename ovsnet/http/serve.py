"""Serving an application on several sockets at once, some of them by TLS, in one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from ovsnet.http.endpoints import CALLER
from ovsnet.http.service import Listener, Tls
from ovsnet.pki.names import peer_identity
from ovsnet.tls import server_context

GRACE = 1
"""Seconds that requests under way get to end."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def serve(app: Any, listeners: Sequence[Listener], *, on_stop: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, on the main thread; then ``on_stop()``, and requests under way get to end.

    Raises UserError for certificates that cannot be used.
    """
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    servers = [(_Server(_config(app, one.tls)), one) for one in listeners]
    before = [signal.getsignal(number) for number in _SIGNALS]
    try:
        asyncio.run(_serve(servers, on_stop))
    finally:
        for number, handler in zip(_SIGNALS, before, strict=True):
            signal.signal(number, handler)


async def _serve(servers: Sequence[tuple[_Server, Listener]], on_stop: Callable[[], None]) -> None:
    stop = asyncio.Event()
    for number in _SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    tasks = [asyncio.create_task(server.serve(sockets=[listener.socket])) for server, listener in servers]
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    on_stop()
    for server, _ in servers:
        server.should_exit = True
    await asyncio.gather(*tasks)


class _Server(uvicorn.Server):
    """One of several servers of a process, so signals are not its affair."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _config(app: Any, tls: Tls | None) -> uvicorn.Config:
    config = uvicorn.Config(
        app,
        http=_NamedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE,
    )
    config.load()
    config.ssl = None if tls is None else server_context(tls.cert, tls.key, tls.callers)
    return config


class _NamedProtocol(H11Protocol):
    """HTTP/1.1 that tells the application the name in the client's certificate."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look who calls."""
        super().connection_made(transport)
        connection = transport.get_extra_info("ssl_object")
        certificate = None if connection is None else connection.getpeercert()
        if certificate:
            app, name = self.app, certificate_name(certificate)

            async def named(scope: Any, receive: Any, send: Any) -> None:
                await app({**scope, CALLER: name}, receive, send)

            self.app = named


def certificate_name(certificate: Any) -> str:
    """Whose certificate (as ``getpeercert`` gives it) this is: the name of the identity in it, or the common name."""
    identity = peer_identity(certificate)
    if identity is not None:
        return identity.name
    names = [value for parts in certificate.get("subject", ()) for key, value in parts if key == "commonName"]
    return str(names[0]) if names else ""
