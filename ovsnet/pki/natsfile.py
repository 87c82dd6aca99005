"""The nats-server configuration beside the server's certificate: made from what the directory holds."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from ovsnet.errors import UserError, shown
from ovsnet.pki.authority import Directory
from ovsnet.pki.files import write_changed
from ovsnet.pki.names import Identity, Kind, checked_name
from ovsnet.pki.nats import ServerOptions, server_configuration

CONFIGURATION = "nats.conf"
OPTIONS = "nats.json"
"""The options that were given, for the next time that the configuration is written."""
_PREFIX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


def configure(
    directory: Directory,
    server: str,
    *,
    listen: str | None = None,
    tls_dir: str | None = None,
    max_payload: int | None = None,
    prefix: str | None = None,
) -> tuple[Path, int]:
    """Write a server's configuration; its path, and how many users it lets in.

    What is ``None`` stays as it was. Raises UserError for a server that has no certificate, or for an option
    that the server would not take.
    """
    folder = directory.root / Identity(Kind.SERVER, checked_name("server", server)).folder
    if not (folder / "cert.pem").exists():
        raise UserError(
            f"There is no server {server} in {directory.root}. Make its certificate first: "
            f"ovsnet pki server {directory.root} {server}=ADDRESS"
        )
    given = {"listen": listen, "tls_dir": tls_dir, "max_payload": max_payload, "prefix": prefix}
    changes = {key: value for key, value in given.items() if value is not None}
    options = msgspec.structs.replace(_options(folder), **changes)
    _check(options)
    users = [one.identity for one in directory.held() if one.identity.kind is not Kind.SERVER]
    write_changed(folder / OPTIONS, msgspec.json.encode(options) + b"\n")
    write_changed(folder / CONFIGURATION, server_configuration(users, options).encode())
    return folder / CONFIGURATION, len(users)


def refresh(directory: Directory) -> list[Path]:
    """Write those configurations anew that what the directory holds has changed; their paths."""
    changed = []
    for path in sorted(directory.root.glob(f"servers/*/{CONFIGURATION}")):
        before = path.read_bytes()
        configure(directory, path.parent.name)
        if path.read_bytes() != before:
            changed.append(path)
    return changed


def _options(folder: Path) -> ServerOptions:
    path = folder / OPTIONS
    if not path.exists():
        return ServerOptions(tls_dir=str(folder.resolve()))
    try:
        return msgspec.json.decode(path.read_bytes(), type=ServerOptions)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: {error}. Remove it, and give the options again.") from None


def _check(options: ServerOptions) -> None:
    address, _, port = options.listen.rpartition(":")
    if not address or not (port == "-1" or (port.isdecimal() and 0 < int(port) <= 65535)):  # -1: one that is free
        raise UserError(
            f"{shown(options.listen)} is no address to listen on. Write ADDRESS:PORT, such as 0.0.0.0:4222."
        )
    if not _PREFIX.fullmatch(options.prefix):
        raise UserError(
            f"{shown(options.prefix)} begins no subject. Write words of a-z, 0-9, - and _ with dots between."
        )
