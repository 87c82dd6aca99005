"""The lock file: what was assigned to the things that a model leaves out, kept beside the model."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ovsnet.errors import ModelError, Problem, UserError, shown
from ovsnet.model.files import LOCK_SUFFIX, SUFFIXES, default_name
from ovsnet.model.nodes import Draft, SourceError
from ovsnet.model.problems import PROBLEMS
from ovsnet.model.report import make_problem
from ovsnet.model.structure import build
from ovsnet.model.types import Declared
from ovsnet.model.yaml_source import read_yaml

_HEAD = """\
# Addresses and VNIs that ovsnet assigned because the model leaves them out.
# Keep this file with the model, in version control: without it everything is assigned anew.
# A line that is removed is assigned anew; what the model declares or no longer has goes away by itself.
"""


class Lock(Declared, frozen=True, kw_only=True):
    """Assignments: VNIs by ``VPC/NETWORK`` and ``VPC/ROUTER``, IP addresses by ``VPC/PORT``."""

    lock_version: int = 1
    networks: dict[str, int] = {}
    routers: dict[str, int] = {}
    ports: dict[str, tuple[str, ...]] = {}


def lock_path(paths: Sequence[Path]) -> Path:
    """Where the assignments of a model are kept: beside its first file, or in its first directory."""
    first = Path(paths[0])
    if first.is_dir():
        return first / f"{default_name(first)}{LOCK_SUFFIX}"
    stem = first.name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return first.with_name(f"{stem}{LOCK_SUFFIX}")


def read_lock(path: Path) -> Lock:
    """The assignments in a file; none if there is no file. Raises ModelError (``invalid-lock``)."""
    try:
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: no file can have this name
        return Lock()
    except OSError as error:
        raise _invalid(path, f"the lock file cannot be read: {error}") from None
    body = data.lstrip()
    while body.startswith(b"#"):
        body = body.partition(b"\n")[2].lstrip()
    with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _check(path, msgspec.json.decode(body, type=Lock))
    return _check(path, _read_edited(path, data))


def _read_edited(path: Path, data: bytes) -> Lock:
    """Any YAML that means the same: somebody may have edited the file."""
    drafts: list[Draft] = []
    try:
        root = read_yaml(data.decode(), str(path), drafts)
        lock = Lock() if root is None else build(root, Lock, drafts)
    except UnicodeDecodeError:
        raise _invalid(path, "the lock file is not UTF-8 text") from None
    except SourceError as error:
        drafts.append(error.draft)
        root, lock = None, Lock()
    if drafts:
        first = make_problem(drafts[0], root)
        raise _invalid(path, first.reason, first.line, first.column)
    return lock


def _check(path: Path, lock: Lock) -> Lock:
    if lock.lock_version != 1:
        raise _invalid(path, f"the lock file has version {lock.lock_version}, and this program knows version 1")
    return lock


def _invalid(path: Path, reason: str, line: int = 0, column: int = 0) -> ModelError:
    remedy = PROBLEMS["invalid-lock"].remedy
    return ModelError(
        [Problem(code="invalid-lock", file=str(path), line=line, column=column, reason=reason, remedy=remedy)]
    )


def lock_text(lock: Lock) -> str:
    """The file's text: comments and JSON (which is YAML), sorted, one line an entry."""
    numbers = {"networks": lock.networks, "routers": lock.routers}
    ports = ",\n".join(
        f"    {_key(key)}: {msgspec.json.format(msgspec.json.encode(lock.ports[key]), indent=0).decode()}"
        for key in sorted(lock.ports)
    )
    parts = [f'  "lock_version": {lock.lock_version}']
    for what, vnis in numbers.items():
        lines = ",\n".join(f"    {_key(key)}: {vnis[key]}" for key in sorted(vnis))
        if lines:
            parts.append(f'  "{what}": {{\n{lines}\n  }}')
    if ports:
        parts.append('  "ports": {\n' + ports + "\n  }")
    return _HEAD + "{\n" + ",\n".join(parts) + "\n}\n"


def _key(text: str) -> str:
    return msgspec.json.encode(text).decode()


def write_lock(path: Path, lock: Lock) -> bool:
    """Replace the file as a whole, atomically; ``False`` if there was nothing to change.

    The file belongs to whom the directory belongs to, so that a run as root leaves no root-owned file in a user's tree.
    Raises UserError if it cannot be written.
    """
    if lock == Lock() and not path.exists():
        return False
    text = lock_text(lock).encode()
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() and path.read_bytes() == text:
            return False
        with temporary.open("wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if os.geteuid() == 0:
            owner = path.parent.stat()
            os.chown(temporary, owner.st_uid, owner.st_gid)
        temporary.replace(path)
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        reason = error.strerror or str(error)
        raise UserError(
            f"{path}: the lock file cannot be written: {reason}. Make its directory writable, "
            f"or declare what {shown('ips')} and {shown('vni')} leave out."
        ) from None
    return True
