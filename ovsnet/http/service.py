"""What a service's process needs before it serves: its run directory, its sockets, its log. Loads no web framework."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ovsnet.errors import UserError
from ovsnet.log import subject_of

SOCKET_MODE = 0o660
MAX_SOCKET_PATH = 107


@dataclass(frozen=True)
class Tls:
    """PEM files: the service's certificate with its key, and the authority of those who may call.

    Without ``callers`` a client needs no certificate.
    """

    cert: Path
    key: Path
    callers: Path | None = None


@dataclass(frozen=True)
class Listener:
    """A listening socket, what it is known by, and how it is secured."""

    socket: socket.socket
    place: str
    tls: Tls | None = None


class _JsonFormatter(logging.Formatter):
    """One JSON object a line; ``always`` is in every one."""

    def __init__(self, always: Mapping[str, Any]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        entry = {
            "time": record.created,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **subject_of(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(entry).decode()


def log_to_stderr(*, json: bool, host: str = "") -> None:
    """Log to standard error, as text or one JSON object a line; ``host``: whose lines these are, if one host's."""
    handler = logging.StreamHandler()
    plain = logging.Formatter("%(asctime)s.%(msecs)03d %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%S")
    handler.setFormatter(_JsonFormatter({"host": host} if host else {}) if json else plain)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


@contextlib.contextmanager
def pid_file(run_dir: Path, name: str) -> Iterator[None]:
    """Hold ``run_dir`` for this process, with its pid in ``NAME.pid``. Raises UserError."""
    path = run_dir / f"{name}.pid"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError as exc:
        raise UserError(f"run directory {run_dir}: {exc.strerror}. Give a writable one with --run-dir") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"another {name} runs in {run_dir}. End it, or give another with --run-dir") from None
        os.ftruncate(fd, 0)
        os.write(fd, f"{os.getpid()}\n".encode())
        yield
        path.unlink(missing_ok=True)
    finally:
        os.close(fd)


@contextlib.contextmanager
def unix_listener(path: Path) -> Iterator[Listener]:
    """A listening unix socket at ``path``, open to its owner and group; a stale one is replaced. Raises UserError.

    It is bound under another name and renamed once it listens: nobody finds one that refuses.
    """
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        raise UserError(
            f"{path} is longer than {MAX_SOCKET_PATH} bytes, too long for a socket. Give a shorter --run-dir"
        )
    unready = path.with_name("~" + path.name[1:])
    unready.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o777 & ~SOCKET_MODE)
        try:
            listener.bind(os.fspath(unready))
        except OSError as exc:
            raise UserError(f"cannot listen on {path}: {exc.strerror}. Give another --run-dir") from None
        finally:
            os.umask(before)
        listener.listen(128)
        listener.setblocking(False)
        unready.replace(path)
        yield Listener(listener, str(path))
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def tcp_listener(text: str, tls: Tls) -> Iterator[Listener]:
    """A listening TCP socket at ``ADDRESS:PORT`` (``[ADDRESS]:PORT`` for IPv6). Raises UserError."""
    for path in (tls.cert, tls.key, tls.callers):
        if path is not None and not os.access(path, os.R_OK):
            raise UserError(f"{path} cannot be read. Give PEM files with --tls-cert, --tls-key and --tls-ca")
    address, port = parse_listen(text)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # With its protocol named, asyncio turns Nagle's algorithm off for what is accepted: it delays events by 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((address, port))
        except OSError as exc:
            raise UserError(f"cannot listen on {text}: {exc.strerror}. Give another address with --listen") from None
        listener.listen(1024)
        listener.setblocking(False)
        address, port = listener.getsockname()[:2]
        yield Listener(listener, f"[{address}]:{port}" if ":" in address else f"{address}:{port}", tls)


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of ``ADDRESS:PORT``. Raises UserError."""
    address, colon, port = text.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535 or not address:
        raise UserError(f"--listen {text}: give ADDRESS:PORT, such as 10.0.0.11:6650 or [2001:db8::11]:6650")
    return address, int(port)


def notify_ready() -> None:
    """Tell systemd, if it asked (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, contextlib.suppress(OSError):
            notify.sendto(b"READY=1", "\0" + address[1:] if address.startswith("@") else address)
