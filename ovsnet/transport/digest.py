"""A checksum of a VPC's contents that a change of one object costs one object's time.

It is the sum, modulo 2**128, of one BLAKE2b-128 hash for each object: the hash of ``KIND/NAME=JSON``, where JSON is the
object in compact form with sorted keys and without what is default. So it depends neither on the order of objects nor
on the changes that led to them, and anybody who holds a state can compute it (docs/bus.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import COLLECTIONS, PatchBody

_MODULUS = 1 << 128
_encode = msgspec.json.Encoder(order="deterministic").encode


def state_sum(state: VpcState) -> int:
    """The sum of all objects of a state: 0 .. 2**128 - 1."""
    return sum(_hash(kind, name, value) for kind, name, value in _objects(state)) % _MODULUS


def patched_sum(total: int, before: VpcState, patch: PatchBody) -> int:
    """The sum after a change of ``before``, whose own is ``total``; costs what the change touches."""
    for kind in COLLECTIONS:
        held = getattr(before, kind)
        for name, value in getattr(patch, kind).items():
            if name in held:
                total -= _hash(kind, name, held[name])
            if value is not None:
                total += _hash(kind, name, value)
    return total % _MODULUS


def digest_text(total: int) -> str:
    """A sum as it is written: 32 hexadecimal digits."""
    return f"{total:032x}"


def _objects(state: VpcState) -> Iterator[tuple[str, str, Any]]:
    for kind in COLLECTIONS:
        for name, value in getattr(state, kind).items():
            yield kind, name, value


def _hash(kind: str, name: str, value: Any) -> int:
    body = b"%s/%s=%s" % (kind.encode(), name.encode(), _encode(value))
    return int.from_bytes(blake2b(body, digest_size=16).digest(), "big")
