"""The bus's subjects, who may use which, and the nats-server configuration that says so.

Every permission is an allow list that is fixed by the certificate: nothing of it follows from what is placed where, so
it never has to change on a live connection.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import msgspec

from ovsnet.errors import UserError
from ovsnet.pki.names import FOLDER_OF, Identity, Kind
from ovsnet.transport.subjects import ANY, PREFIX, Subjects, inbox_prefix

_QUOTED = json.dumps
"""A string as the configuration takes it: quoted, with the escapes that JSON has."""


class Permissions(msgspec.Struct, frozen=True):
    """The subjects that one identity may publish to and subscribe to; everything else is refused."""

    publish: tuple[str, ...] = ()
    subscribe: tuple[str, ...] = ()


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What the nats-server is told besides users.

    ``listen`` is ADDRESS:PORT, ``tls_dir`` the directory with ``cert.pem``, ``key.pem`` and ``peers-ca.pem`` on the
    server's machine, ``max_payload`` the longest message in bytes, ``prefix`` what subjects begin with.
    """

    tls_dir: str
    listen: str = "0.0.0.0:4222"
    max_payload: int = 1 << 20
    prefix: str = PREFIX


def permissions(identity: Identity, inboxes: Iterable[str] = (), prefix: str = PREFIX) -> Permissions:
    """What an identity may do on the bus; ``inboxes`` are the names whose requests a publisher answers."""
    name, subjects = identity.name, Subjects(prefix)
    match identity.kind:
        case Kind.HOST:
            return Permissions((subjects.all_from_host(name),), (subjects.all_to_host(name),))
        case Kind.PUBLISHER:
            answers = (f"{inbox_prefix(one)}.>" for one in inboxes)
            reads = (subjects.all_from_host(ANY), subjects.ingest(">"))
            return Permissions((subjects.all_to_host(ANY), *answers), reads)
        case Kind.CALLER | Kind.CLIENT:
            return Permissions((subjects.ingest(name),), (f"{inbox_prefix(name)}.>",))
        case Kind.SERVER:
            return Permissions()


def server_configuration(identities: Iterable[Identity], options: ServerOptions) -> str:
    """The text of a nats-server configuration that lets these identities in, and nobody else.

    Identities of servers have no user. The text is the same for the same identities, whatever their order. Raises
    UserError for a name that a caller and a client share, since their inboxes would be one.
    """
    users = sorted(one for one in identities if one.kind is not Kind.SERVER)
    check_senders(users)
    inboxes = sorted({one.name for one in users if one.kind in {Kind.CALLER, Kind.CLIENT}})
    rows = [_user(one, permissions(one, inboxes, options.prefix)) for one in users]
    tls = {part: _QUOTED(f"{options.tls_dir}/{part}.pem") for part in ("cert", "key", "peers-ca")}
    lines = [
        "# Written by 'ovsnet pki nats'; changes made here are lost when it runs again.",
        f"listen: {_QUOTED(options.listen)}",
        f"max_payload: {options.max_payload}",
        "tls {",
        f"  cert_file: {tls['cert']}",
        f"  key_file: {tls['key']}",
        f"  ca_file: {tls['peers-ca']}",
        "  verify_and_map: true",
        "  timeout: 5",
        "}",
        "authorization {",
        '  default_permissions: {publish: {deny: ">"}, subscribe: {deny: ">"}}',
        "  users: [",
        *(f"    {row}" for row in rows or [_nobody()]),
        "  ]",
        "}",
    ]
    return "\n".join(lines) + "\n"


def check_senders(identities: Iterable[Identity]) -> None:
    """Raises UserError for a name that a caller and a client share: they would read each other's answers."""
    seen: dict[str, Identity] = {}
    for one in identities:
        if one.kind in {Kind.HOST, Kind.SERVER}:
            continue
        other = seen.setdefault(one.name, one)
        if FOLDER_OF[other.kind] != FOLDER_OF[one.kind]:
            raise UserError(
                f"{one.name} would be the name of a {other.kind} and of a {one.kind}, who would read each other's "
                f"answers on the bus. Choose another name, or revoke the one there is first."
            )


def _user(identity: Identity, may: Permissions) -> str:
    publish, subscribe = (f"{{allow: [{', '.join(map(_QUOTED, some))}]}}" for some in (may.publish, may.subscribe))
    return f"{{user: {_QUOTED(identity.uri)}, permissions: {{publish: {publish}, subscribe: {subscribe}}}}}"


def _nobody() -> str:
    """A user that no certificate maps to: with no users at all, the server lets in every valid certificate."""
    return f"{{user: {_QUOTED('ovsnet:nobody')}}}"
