"""Bearer tokens of the controller's API: who presents one, and what its bearer may do.

The file holds SHA-256 digests and no token. A token is 256 random bits, so a digest needs neither salt nor stretching.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from ovsnet.errors import UserError

log = logging.getLogger(__name__)

Role = Literal["read", "write", "admin"]
RANK: dict[Role, int] = {"read": 0, "write": 1, "admin": 2}
"""A role may do what the lower ones may."""
PREFIX = "ovsnet_"
"""What a token begins with, so that a scanner for leaked secrets knows one."""


class Token(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """One token as it is kept. ``tenants`` it is good for; ``None``: all of them, and what belongs to no tenant.

    ``expires`` has a time zone; ``None``: never.
    """

    name: str
    role: Role
    sha256: str
    tenants: tuple[str, ...] | None = None
    expires: datetime | None = None


class TokenSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of ``tokens.json``."""

    tokens: tuple[Token, ...] = ()


class Principal(msgspec.Struct, frozen=True):
    """Who makes a request: the token's name, for the audit log, its role and its tenants (``None``: all)."""

    name: str
    role: Role
    tenants: frozenset[str] | None


def make_token(
    name: str, role: Role, tenants: tuple[str, ...] | None, now: datetime, valid: timedelta | None
) -> tuple[str, Token]:
    """A new random token, to be shown once, and what is kept of it. ``valid`` counts from ``now``; ``None``: for ever.

    Raises UserError for an empty list of tenants: such a token would be good for nothing.
    """
    if tenants is not None and not tenants:
        raise UserError(f"The token {name} is for no tenant. Name the tenants, or leave the list out for all.")
    text = PREFIX + secrets.token_urlsafe(32)
    expires = None if valid is None else now + valid
    return text, Token(name=name, role=role, sha256=digest(text), tenants=tenants, expires=expires)


def digest(text: str) -> str:
    """What is kept of a token: SHA-256 in hexadecimal."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def authenticate(tokens: TokenSet, presented: str, now: datetime) -> Principal | None:
    """Who presents this token at this time (with a time zone); ``None``: nobody known, or an expired token.

    Every kept digest is compared, each in constant time, so the time taken says nothing about them.
    """
    found: Token | None = None
    shown = digest(presented).encode()
    for token in tokens.tokens:
        if hmac.compare_digest(token.sha256.encode(), shown):
            found = token
    if found is None or (found.expires is not None and found.expires <= now):
        return None
    tenants = None if found.tenants is None else frozenset(found.tenants)
    return Principal(found.name, found.role, tenants)


def permits(principal: Principal, method_kind: Role, tenant: str | None) -> bool:
    """Whether a principal may make a request of this kind about a tenant's objects.

    ``tenant`` is ``None`` for what belongs to no tenant (hosts, provider networks, tokens): that takes a principal for
    all tenants.
    """
    if RANK[principal.role] < RANK[method_kind]:
        return False
    return principal.tenants is None or (tenant is not None and tenant in principal.tenants)


def parse_tokens(text: bytes, place: str) -> TokenSet:
    """The contents of a tokens file. Raises UserError with the place and what is wrong."""
    try:
        found = msgspec.json.decode(text, type=TokenSet)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UserError(f"{place}: {error}. Restore the file, or remove it and make the tokens anew.") from None
    for token in found.tokens:
        if token.expires is not None and token.expires.tzinfo is None:
            raise UserError(f"{place}: the token {token.name} expires at a time without a zone. Add one, as in ...Z.")
    return found


def tokens_text(tokens: TokenSet) -> bytes:
    """A tokens file."""
    return msgspec.json.format(msgspec.json.encode(tokens), indent=2) + b"\n"


class TokenFile:
    """A tokens file that is read again when it changes, for a server; one ``stat`` a request.

    While the file is absent or wrong nobody is authenticated: a file that somebody edits in order to lock a bearer out
    must not go on letting it in.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, int, int] | None = None
        self._tokens = TokenSet()

    def authenticate(self, presented: str, now: datetime) -> Principal | None:
        """As the function :func:`authenticate`, with what the file says now."""
        return authenticate(self.current(), presented, now)

    def current(self) -> TokenSet:
        """The file's tokens, none while it cannot be read; why is logged once a change."""
        try:
            status = os.stat(self.path)
            stamp = (status.st_mtime_ns, status.st_ino, status.st_size)
            if stamp != self._stamp:
                self._stamp, self._tokens = stamp, TokenSet()
                self._tokens = parse_tokens(self.path.read_bytes(), str(self.path))
        except (OSError, UserError) as error:
            if not isinstance(error, FileNotFoundError) or self._stamp is not None:
                log.error("no token is accepted: %s", error)
            if isinstance(error, OSError):
                self._stamp, self._tokens = None, TokenSet()
        return self._tokens
