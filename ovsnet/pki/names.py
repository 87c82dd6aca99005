"""Identities: what a certificate says about its holder, in one URI, and which authority signs it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec

from ovsnet.errors import UserError, shown

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
"""Names are safe as a token of a subject on the bus, as the name of a directory and in a URI."""
_URI = re.compile(r"ovsnet:([a-z]+):([^:]+)(?::([1-9][0-9]{0,8}))?")


class Authority(StrEnum):
    """The three certificate authorities: each signs what one sort of verifier has to believe."""

    HOSTS = "hosts"
    CALLERS = "callers"
    CLIENTS = "clients"


class Kind(StrEnum):
    """What a certificate's holder is; this decides what it may do."""

    HOST = "host"
    CALLER = "caller"
    PUBLISHER = "publisher"
    CLIENT = "client"
    SERVER = "server"


AUTHORITY_OF = {
    Kind.HOST: Authority.HOSTS,
    Kind.CALLER: Authority.CALLERS,
    Kind.PUBLISHER: Authority.CALLERS,
    Kind.SERVER: Authority.CALLERS,
    Kind.CLIENT: Authority.CLIENTS,
}
FOLDER_OF = {
    Kind.HOST: "hosts",
    Kind.CALLER: "callers",
    Kind.PUBLISHER: "callers",
    Kind.CLIENT: "clients",
    Kind.SERVER: "servers",
}
"""Kinds that share a folder share their names: a caller becomes a publisher, and is never both."""
TRUSTS: dict[Kind, tuple[Authority, ...]] = {
    Kind.HOST: (Authority.CALLERS,),
    Kind.CALLER: (Authority.HOSTS, Authority.CALLERS),
    Kind.PUBLISHER: (Authority.HOSTS, Authority.CALLERS),
    Kind.CLIENT: (Authority.CALLERS,),
    Kind.SERVER: tuple(Authority),
}
"""Whose certificates a holder has to verify."""


class Identity(msgspec.Struct, frozen=True, order=True):
    """Kind, name and generation of a certificate's holder.

    A renewed certificate keeps the generation, so old and new work side by side. After a revocation the name goes on
    with the next one: what was stolen stays out although its name is in use again.
    """

    kind: Kind
    name: str
    generation: int = 1

    @property
    def uri(self) -> str:
        """``ovsnet:KIND:NAME``, with ``:GENERATION`` from the second on: the certificate's URI, the user on the bus."""
        return f"ovsnet:{self.kind}:{self.name}" + (f":{self.generation}" if self.generation > 1 else "")

    @property
    def folder(self) -> str:
        """Where its certificate and key lie, from the directory's top."""
        return f"{FOLDER_OF[self.kind]}/{self.name}"


def parse_identity(uri: str) -> Identity | None:
    """The identity that a certificate's URI states; ``None`` if it is not one of ours."""
    match = _URI.fullmatch(uri)
    if match is None or match[1] not in set(Kind) or not NAME.fullmatch(match[2]):
        return None
    return Identity(Kind(match[1]), match[2], int(match[3] or 1))


def checked_name(kind: str, name: str) -> str:
    """The name, if it is one. Raises UserError that says what a name looks like."""
    if not NAME.fullmatch(name):
        raise UserError(
            f"{shown(name)} is no name of a {kind}. Use 1 to 63 of a-z, 0-9, - and _, and begin with a letter or digit."
        )
    return name


def peer_identity(certificate: Mapping[str, Any] | None) -> Identity | None:
    """Whose a peer's certificate is, as ``SSLSocket.getpeercert`` gives it; ``None`` if it is not one of ours."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    return parse_identity(names[0]) if len(names) == 1 else None
