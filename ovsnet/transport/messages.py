"""The messages between a controller (or whoever publishes) and hosts: the same on every transport.

To a host go changes and heads, from it come hellos and reports. They carry state, never commands: a change that is
lost shows in the next heads, the host says hello with what it holds, and gets what is missing.
"""

from __future__ import annotations

import contextlib
from typing import Any, Literal

import msgspec

PROTOCOL = 1
"""The version of these messages. A message in another one is ignored, counted and reported.

Unknown fields of a message, an answer or an event are ignored. Unknown fields of a request, or of a model object in
whatever is told, are refused, since whoever does not know a field cannot enforce it. So who learns a new field still
speaks without it to those that do not.
"""


HEADER = "Ovsnet-Protocol"
"""The HTTP header in which a request says which version it is written in; without it, it is this one."""


def incompatible(spoken: tuple[int, ...]) -> str:
    """Why one who speaks these versions cannot be spoken to; empty if it can."""
    if PROTOCOL in spoken:
        return ""
    theirs = ", ".join(map(str, spoken)) or "none"
    return f"no common version of the protocol: the host speaks {theirs}, this end {PROTOCOL}. Upgrade the older one"


class Item(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """One operation as it travels, and as ``POST /v1/batch`` takes it.

    ``body`` is a whole state for ``put``, a PatchBody for ``patch``, and nothing for ``delete``; ``revision`` is that
    of a ``delete``.
    """

    op: Literal["put", "patch", "delete"]
    vpc: str
    body: msgspec.Raw = msgspec.Raw()
    revision: int | None = None


class RequestItem(Item, frozen=True, omit_defaults=True, kw_only=True, forbid_unknown_fields=True):
    """An item of a request, which is answered: what is not understood is refused, rather than left out."""


class Message(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """Base of all messages; ``v`` is the version of the protocol that it is written in."""

    v: int


class ChangeMessage(Message, frozen=True, kw_only=True):
    """To a host: operations that become true together. ``tx`` names the transaction, for logs and proofs.

    ``answers`` is the ``id`` of the hello that this answers; then ``items`` bring the host to all that concerns it.
    ``source`` is the owner of the states that it speaks of; "" says nothing about that.
    """

    tx: str
    items: tuple[Item, ...] = ()
    answers: str = ""
    source: str = ""


class HeadsMessage(Message, frozen=True, kw_only=True):
    """To a host, every few seconds: each VPC that concerns it, with ``[revision, digest]``.

    A host that holds something else says hello, after a random share of ``spread`` seconds. ``source`` is the owner of
    the states that it speaks of: what a host holds of other owners is none of its business. A digest may be "": then
    only revisions are compared. ``instance`` is another one each time that the publisher starts: it knows nothing of
    its hosts then, so each sends a full report.
    """

    source: str
    vpcs: dict[str, tuple[int, str]]
    spread: float = 0.0
    instance: str = ""


class HelloMessage(Message, frozen=True, kw_only=True):
    """From a host: what it holds of a ``source``'s states. It asks for whatever differs.

    With ``source`` "" the host does not know yet whose states it is to follow, and lists all that it holds: it is to
    be told what it lacks, and nothing is to be withdrawn. ``speaks``: the versions of the protocol that it understands;
    ``boot``: an id that changes when the machine starts.
    """

    id: str
    host: str
    vtep: str
    boot: str
    reason: str
    source: str = ""
    speaks: tuple[int, ...]
    vpcs: dict[str, tuple[int, str]] = {}


class VpcReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a host stands with a VPC: the revision that it was told, the one in force, and why it is held if it is."""

    revision: int
    enforced: int | None = None
    held: str = ""


class PortReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """A port on a host: ``up`` when it is plugged, its link is up and its policy is in force; else ``reason``.

    ``active``: the workload has sent something here, which tells that a migration has arrived.
    """

    up: bool
    reason: str = ""
    active: bool = False


class ReportMessage(Message, frozen=True, kw_only=True):
    """From a host: what has changed since its last report, or all of it (``full``).

    ``serial`` counts reports from 1 in each ``run`` of the agent's process; a gap means that some were lost, and the
    next full one mends it. ``None`` for a VPC or port that is gone. ``faults`` is always complete, as is ``misplaced``:
    ports that are plugged here and declared elsewhere.
    """

    run: str
    serial: int
    host: str
    full: bool = False
    vpcs: dict[str, VpcReport | None] = {}
    ports: dict[str, PortReport | None] = {}
    faults: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()


class UnknownVersionError(Exception):
    """A message is written in a version of the protocol that is not known here; ``version`` says which."""

    def __init__(self, version: int) -> None:
        super().__init__(f"a message in version {version} of the protocol; this end knows {PROTOCOL}")
        self.version = version


class MalformedError(Exception):
    """A message is none: no JSON, or not of the shape that it should have."""


_encoder = msgspec.json.Encoder()
_versions = msgspec.json.Decoder(Message)
_decoders: dict[type[Any], msgspec.json.Decoder[Any]] = {
    kind: msgspec.json.Decoder(kind) for kind in (ChangeMessage, HeadsMessage, HelloMessage, ReportMessage)
}


def encode(message: Message) -> bytes:
    """The message as JSON."""
    return _encoder.encode(message)


def decode(body: bytes, kind: type[Any]) -> Any:
    """The message of type ``kind`` in ``body``. Raises UnknownVersionError and MalformedError."""
    try:
        return _checked(_decoders[kind].decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        failure = MalformedError(f"{exc}")
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        _checked(_versions.decode(body))  # what a later version says need not have today's shape
    raise failure


def _checked(message: Message) -> Message:
    if message.v != PROTOCOL:
        raise UnknownVersionError(message.v)
    return message
