"""What a lab has made, on disk: written before a thing is made, so that ``down`` finds it after any crash."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

import msgspec

from ovsnet.errors import UserError
from ovsnet.lab.topology import Topology, Transport, lab_dir, lab_home
from ovsnet.model.types import Model


class Record(msgspec.Struct, kw_only=True):
    """``lab.json``. ``pending`` names the hosts and ports (``VPC/PORT``) that are just being made, changed or removed.

    ``topology`` holds everything that exists or may exist; ``model`` is complete (everything assigned); ``revisions``
    are those last handed to the agents, by VPC; ``agents`` is false for a lab of bare switches. ``transport`` is how
    the agents are told.
    """

    version: int = 1
    name: str
    datapath: str
    agents: bool
    transport: Transport = "direct"
    model: Model
    topology: Topology
    pending: list[str] = []
    revisions: dict[str, int] = {}

    def write(self) -> None:
        """Write the record atomically."""
        path = lab_dir(self.name) / "lab.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        part.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))
        part.replace(path)


def read(lab: str) -> Record | None:
    """The lab's record; ``None`` if there is none. Raises UserError for one that cannot be read."""
    path = lab_dir(lab) / "lab.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise UserError(f"{path}: unreadable ({error}). `ovsnet lab down --name {lab}` removes the lab.") from error


@contextlib.contextmanager
def locked(lab: str) -> Iterator[None]:
    """Hold the lab's lock. Raises UserError at once when another process holds it."""
    path = lab_dir(lab).with_suffix(".lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise UserError(f"lab {lab}: another process is changing it. Try again when it is done.") from None
        # The holder before us may have removed the file: a lock on a file without a name locks nobody out.
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                break
        os.close(fd)
    try:
        yield
    finally:
        if not lab_dir(lab).exists():
            with contextlib.suppress(FileNotFoundError):
                path.unlink()
        os.close(fd)
        with contextlib.suppress(OSError):
            path.parent.rmdir()


def labs() -> list[str]:
    """The names of the labs of this machine that have a record."""
    found = []
    for path in sorted(lab_home().glob("*/lab.json")):
        with contextlib.suppress(OSError, msgspec.MsgspecError):
            found.append(msgspec.json.decode(path.read_bytes(), type=Record).name)
    return found
