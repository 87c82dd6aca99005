"""Who calls, and what they may do: tokens on TCP, the mode of the file on a unix socket."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec

from ovsnet.controller.errors import ForbiddenError
from ovsnet.controller.requests import Edit, PutHost, PutUnderlay, PutVpc
from ovsnet.controller.truth import Truth
from ovsnet.http.problems import MEDIA_TYPE, problem
from ovsnet.pki.tokens import Principal, Role, permits

LOCAL = Principal("api", "admin", None)
"""Who calls on the unix socket: whoever may open the file."""
NOBODY = Principal("nobody", "read", frozenset())
"""Who calls without a token."""
OPEN = ("/healthz", "/readyz")
"""Paths that need no token: they say nothing about tenants."""

_principal: ContextVar[Principal] = ContextVar("principal", default=LOCAL)
_asked: ContextVar[str] = ContextVar("asked", default="")

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class Authenticator(Protocol):
    """Who presents a bearer token; ``pki.tokens.TokenFile`` is one."""

    def authenticate(self, presented: str, now: datetime) -> Principal | None:
        """The bearer of a token at a time (with a zone); ``None`` for nobody known."""


def gate(app: Asgi, authenticator: Authenticator | None) -> Asgi:
    """The application behind a check of who calls: those on the unix socket are LOCAL, others need a token.

    Without an ``authenticator`` nobody is known on TCP.
    """

    async def guarded(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            found = LOCAL if _is_local(scope) else _bearer(scope, authenticator)
            if found is None and scope["path"] not in OPEN:
                await _unknown(send)
                return
            _principal.set(found or NOBODY)
            query = scope["query_string"].decode("latin-1")
            _asked.set(f"{scope['method']} {scope['path']}" + (f"?{query}" if query else ""))
        await app(scope, receive, send)

    return guarded


def principal() -> Principal:
    """Who makes the request that is being answered."""
    return _principal.get()


def asked() -> str:
    """What is being answered: method, path and query, for the audit log."""
    return _asked.get()


def check_site(role: Role) -> Principal:
    """The caller, who may do something that belongs to no tenant. Raises ForbiddenError."""
    caller = principal()
    if not permits(caller, role, None):
        raise ForbiddenError(f"{caller.name} may not do that: it takes a token of role {role} for all tenants")
    return caller


def check_role(role: Role) -> Principal:
    """The caller, who has a role for some tenant at least. Raises ForbiddenError."""
    caller = principal()
    if not permits(Principal(caller.name, caller.role, None), role, None):
        raise ForbiddenError(f"{caller.name} may not do that: it takes a token of role {role}")
    return caller


def sees(caller: Principal, tenant: str) -> bool:
    """Whether a caller may read what belongs to a tenant."""
    return permits(caller, "read", tenant)


def check_edits(truth: Truth, edits: tuple[Edit, ...], caller: Principal) -> None:
    """Raises ForbiddenError unless the caller may make all of these edits.

    A host or the underlay takes the role admin, a VPC the role write, each for its tenant: the one that it has, and the
    one that it is given.
    """
    named = {edit.vpc: edit.tenant for edit in edits if isinstance(edit, PutVpc) and edit.tenant}
    checked: set[str] = set()
    for edit in edits:
        if isinstance(edit, PutHost | PutUnderlay):
            if not permits(caller, "admin", None):
                raise ForbiddenError(f"{caller.name} may not change the site: it takes the role admin for all tenants")
        elif edit.vpc not in checked:
            checked.add(edit.vpc)
            held = truth.vpcs.get(edit.vpc)
            tenants = {named.get(edit.vpc, edit.vpc) if held is None else held.meta.tenant}
            tenants |= {named[edit.vpc]} if edit.vpc in named else set()
            for tenant in tenants:
                if not permits(caller, "write", tenant):
                    message = (
                        f"{caller.name} may not change VPC {edit.vpc}: it takes the role write for tenant {tenant}"
                    )
                    raise ForbiddenError(message)


def _is_local(scope: Any) -> bool:
    """Whether a request came on a unix socket, whose address has no port."""
    server = scope.get("server")
    return server is None or server[1] is None


def _bearer(scope: Any, authenticator: Authenticator | None) -> Principal | None:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if authenticator is None or len(given) != 1:
        return None
    kind, _, token = given[0].decode("latin-1").partition(" ")
    return authenticator.authenticate(token.strip(), datetime.now(UTC)) if kind.lower() == "bearer" else None


async def _unknown(send: Any) -> None:
    document = problem(401, "unauthenticated", "no known bearer token is given. Make one with 'ovsnet pki token'")
    headers = [(b"content-type", MEDIA_TYPE.encode()), (b"www-authenticate", b'Bearer realm="ovsnet"')]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": msgspec.json.encode(document)})
