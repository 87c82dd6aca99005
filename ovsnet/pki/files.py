"""Files that hold secrets: written whole or not at all, readable by their owner alone."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from ovsnet.errors import UserError

SECRET = 0o600
PUBLIC = 0o644


def write_file(path: Path, data: bytes, mode: int = SECRET, *, durable: bool = True) -> None:
    """Write a file with this mode so that a reader finds the old contents or the new.

    ``durable``: the new ones are on the disk once this returns, and a crash leaves one or the other. Without it a
    crash of the machine may leave the file empty: for what is checked when it is read, and can be made anew.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, SECRET)
    with os.fdopen(fd, "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    temporary.rename(path)
    if durable:
        _sync_directory(path.parent)


def write_changed(path: Path, data: bytes, mode: int = SECRET) -> bool:
    """Write a file unless it has these contents already, not durably; whether it was written."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == data:
            return False
    write_file(path, data, mode, durable=False)
    return True


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextlib.contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the directory, made for its owner alone if absent; another process that changes it waits.

    Raises UserError where the directory cannot be made or written to.
    """
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(root / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, SECRET)
    except OSError as error:
        raise UserError(f"{root} cannot be used: {error.strerror}. Name a directory that you may write to.") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
