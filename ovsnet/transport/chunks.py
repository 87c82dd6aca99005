"""Messages too large for the bus, in parts: each says which part of which message it is. Pure.

A part carries three headers: ``Ovsnet-Chunk: ID/INDEX/COUNT`` (from 0), ``Ovsnet-Hash``, the SHA-256 of the whole in
hexadecimal digits, and ``Ovsnet-Length``, the bytes of the whole. A part that is lost makes the whole one lost.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import NamedTuple

CHUNK, HASH, LENGTH = "Ovsnet-Chunk", "Ovsnet-Hash", "Ovsnet-Length"
PART = 512 << 10
"""Bytes of a part, and of the largest message that is not cut: half of what a NATS server takes by default."""
MAX_LENGTH = 256 << 20
"""Bytes of the largest message that is put together: a million ports."""
PATIENCE = 30.0
"""Seconds without a further part after which a message is given up."""

_CHUNK = re.compile(r"([0-9A-Za-z-]{1,64})/(\d{1,5})/(\d{1,5})")
_HASH = re.compile(r"[0-9a-f]{64}")
_LENGTH = re.compile(r"\d{1,10}")


class Part(NamedTuple):
    """A part of a message, and the headers that it travels with."""

    headers: dict[str, str]
    body: bytes


class ChunkError(Exception):
    """A part that fits nothing: its headers are wrong, or the whole has another length or hash than they say."""


def split(body: bytes, size: int = PART) -> list[Part]:
    """A message in parts of at most ``size`` bytes. Equal messages have equal parts, whoever they are for."""
    digest = hashlib.sha256(body).hexdigest()
    slices = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    fixed = {HASH: digest, LENGTH: str(len(body))}
    return [Part({CHUNK: f"{digest[:16]}/{index}/{len(slices)}", **fixed}, piece) for index, piece in enumerate(slices)]


class Assembler:
    """Puts one message at a time together. Parts may come doubled and in any order."""

    def __init__(self) -> None:
        self.forgotten = 0
        self._key: tuple[str, int, str, int] | None = None
        self._parts: dict[int, bytes] = {}
        self._heard = 0.0

    def add(self, headers: Mapping[str, str], body: bytes, now: float) -> bytes | None:
        """Take a part at ``now`` seconds; the whole message once it is complete.

        A part of another message makes an incomplete one forgotten. Raises ChunkError.
        """
        ident, index, count, digest, length = _read(headers)
        key = (ident, count, digest, length)
        if key != self._key:
            self._forget()
            self._key = key
        self._heard = now
        self._parts[index] = body
        if sum(len(part) for part in self._parts.values()) > length:
            self._forget()
            raise ChunkError(f"message {ident} has more bytes than the {length} that it announces")
        if len(self._parts) < count:
            return None
        whole = b"".join(self._parts[at] for at in range(count))
        self._key, self._parts = None, {}
        if len(whole) != length or hashlib.sha256(whole).hexdigest() != digest:
            self.forgotten += 1
            raise ChunkError(f"message {ident} is not the one that its headers announce")
        return whole

    def expire(self, now: float) -> None:
        """Forget an incomplete message whose last part is too long ago; ``now`` in seconds."""
        if self._key is not None and now - self._heard > PATIENCE:
            self._forget()

    def _forget(self) -> None:
        self.forgotten += self._key is not None
        self._key, self._parts = None, {}


def _read(headers: Mapping[str, str]) -> tuple[str, int, int, str, int]:
    """Id, index, count, hash and length. Raises ChunkError."""
    chunk = _CHUNK.fullmatch(headers.get(CHUNK, ""))
    digest = _HASH.fullmatch(headers.get(HASH, ""))
    length = _LENGTH.fullmatch(headers.get(LENGTH, ""))
    if chunk is None or digest is None or length is None:
        raise ChunkError(f"a part without proper {CHUNK}, {HASH} and {LENGTH}")
    ident, index, count, size = chunk[1], int(chunk[2]), int(chunk[3]), int(length[0])
    if index >= count or size > MAX_LENGTH:
        raise ChunkError(f"part {index} of {count}, of {size} bytes: not among those, or more than {MAX_LENGTH} bytes")
    return ident, index, count, digest[0], size
