"""The agent's state on disk: what it was told, so that it needs nobody when it starts again.

One file holds one VPC: a line with its whole state, then one line for each change since. Each line begins with a
checksum of the rest of it. A change costs one short append and one fsync, however large the VPC is; from time to time
the file is written anew. A request that concerns several VPCs is first written to one file of its own, from which an
interrupted one is finished at the next start.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ovsnet.errors import UserError
from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Operation, Patch, Put, Withdraw, patched

log = logging.getLogger(__name__)

SUFFIX = ".vpc"
BATCH = "batch"
CHECKSUM = 16
"""Hexadecimal digits of SHA-256 that each line begins with."""
REWRITE_BEYOND = 1 << 20
"""A file is written anew once its changes take this many bytes and more than its state."""

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Operation).decode


class Store:
    """The directory ``root``, held by one agent at a time.

    Raises UserError when another agent holds it or it cannot be used.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._vpcs = root / "vpcs"
        self._sizes: dict[str, tuple[int, int]] = {}  # VPC -> bytes of its state, bytes of changes
        try:
            self._vpcs.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(root / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
        except OSError as exc:
            raise UserError(f"state directory {root}: {exc.strerror}. Give a writable one with --state-dir") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise UserError(
                f"state directory {root} is in use by another agent. End that one, or give another with --state-dir"
            ) from None

    def close(self) -> None:
        """Give the directory up."""
        os.close(self._lock)

    def load(self) -> tuple[dict[str, VpcState], list[str]]:
        """The states by VPC, and what was found damaged, in words; damaged files are set aside, not deleted."""
        damage: list[str] = []
        for leftover in self._vpcs.glob("*.tmp"):
            leftover.unlink()
        states: dict[str, VpcState] = {}
        for path in sorted(self._vpcs.glob(f"*{SUFFIX}")):
            state = self._load_one(path, damage)
            if state is not None:
                states[state.name] = state
        self._finish_batch(states, damage)
        return states, damage

    def write(self, operations: Iterable[Operation], states: dict[str, VpcState]) -> None:
        """Make operations durable, all or none; ``states`` are the states of their VPCs afterwards.

        Raises OSError when the disk does not take them; the state on disk is then as before.
        """
        batch = list(operations)
        try:
            if len(batch) > 1:
                replace_file(self.root / BATCH, b"".join(_line(_encode(one)) for one in batch))
            for operation in batch:
                self._apply(operation, states)
        except OSError:
            for operation in batch:
                self._sizes.pop(operation.vpc, None)
            raise
        finally:
            if len(batch) > 1:
                (self.root / BATCH).unlink(missing_ok=True)

    def rewrite(self, vpc: str, state: VpcState | None) -> None:
        """Write a VPC's file anew, or remove it. Raises OSError."""
        if state is None:
            self._apply(Withdraw(vpc), {})
        else:
            self._apply(Put(state), {vpc: state})

    def _apply(self, operation: Operation, states: dict[str, VpcState]) -> None:
        path = self._path(operation.vpc)
        if isinstance(operation, Withdraw):
            path.unlink(missing_ok=True)
            sync_directory(self._vpcs)
            self._sizes.pop(operation.vpc, None)
            return
        state, changes = self._sizes.get(operation.vpc, (0, 0))
        if isinstance(operation, Patch) and state and changes < max(REWRITE_BEYOND, state):
            line = _line(_encode(operation))
            _append(path, line, state + changes)
            self._sizes[operation.vpc] = (state, changes + len(line))
            return
        line = _line(_encode(Put(states[operation.vpc])))
        replace_file(path, line)
        self._sizes[operation.vpc] = (len(line), 0)

    def _path(self, vpc: str) -> Path:
        return self._vpcs / f"{vpc}{SUFFIX}"

    def _load_one(self, path: Path, damage: list[str]) -> VpcState | None:
        state: VpcState | None = None
        base = length = 0
        with contextlib.suppress(OSError):
            for raw in path.read_bytes().splitlines(keepends=True):
                operation = _parse(raw)
                before = state
                if isinstance(operation, Put):
                    state = operation.state
                elif isinstance(operation, Patch) and state is not None and operation.previous == state.revision:
                    state = patched(state, operation)
                else:
                    break
                length += len(raw)
                base = length if before is None else base
        if state is None or state.name != path.name.removesuffix(SUFFIX):
            damage.append(f"{path} is damaged; set aside as {set_aside(path).name}")
            return None
        if length != path.stat().st_size:
            aside = set_aside(path)
            damage.append(
                f"{path} is damaged after revision {state.revision}, which is used; the file is kept as {aside.name}"
            )
            line = _line(_encode(Put(state)))
            replace_file(path, line)
            base = length = len(line)
        self._sizes[state.name] = (base, length - base)
        return state

    def _finish_batch(self, states: dict[str, VpcState], damage: list[str]) -> None:
        """Finish a request that was interrupted: its file is complete, since it appears by renaming."""
        path = self.root / BATCH
        if not path.exists():
            return
        operations = [_parse(raw) for raw in path.read_bytes().splitlines(keepends=True)]
        if None in operations:
            damage.append(f"{path} is damaged; set aside as {set_aside(path).name}")
            return
        for operation in operations:
            held = None if operation is None else states.get(operation.vpc)
            if isinstance(operation, Put):
                if held is not None and held.revision > operation.state.revision:
                    continue
                states[operation.vpc] = operation.state
            elif isinstance(operation, Withdraw):
                states.pop(operation.vpc, None)
            elif operation is not None:
                if held is None or held.revision != operation.previous:
                    continue  # this one was already done
                states[operation.vpc] = patched(held, operation)
            if operation is not None:
                self._apply(operation, states)
        path.unlink()


def replace_file(path: Path, data: bytes) -> None:
    """Write a file so that a crash leaves the old one or the new one, and the new one once this returns."""
    temporary = path.with_name(path.name + ".tmp")
    fd = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, 0o640)
    try:
        _write_all(fd, data)
        os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _append(path: Path, line: bytes, length: int) -> None:
    """Append to a file that is ``length`` bytes long; a failed attempt is cut off again."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
    try:
        _write_all(fd, line)
        os.fdatasync(fd)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, length)
        raise
    finally:
        os.close(fd)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _line(body: bytes) -> bytes:
    return _checksum(body) + b" " + body + b"\n"


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).hexdigest()[:CHECKSUM].encode()


def _parse(raw: bytes) -> Operation | None:
    """The operation of a line, ``None`` if the line is torn or damaged."""
    body = raw[CHECKSUM + 1 : -1]
    if not raw.endswith(b"\n") or raw[: CHECKSUM + 1] != _checksum(body) + b" ":
        return None
    try:
        operation: Operation = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return operation


def set_aside(path: Path) -> Path:
    """Rename a damaged file so that nobody reads it again; the new path."""
    aside = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    path.rename(aside)
    return aside
