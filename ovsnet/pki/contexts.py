"""TLS contexts from a holder's folder, and who is at the other end. The standard library only.

A ``*-ca.pem`` holds the authority's certificate and its list of revoked ones; both are checked. They are read when the
context is made: make it again when the files change.
"""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ovsnet.errors import UserError
from ovsnet.pki.names import Authority, Identity, parse_identity


def server_context(folder: Path, clients: Authority | None) -> ssl.SSLContext:
    """For one that accepts connections: the clients' certificates have to be of this authority.

    A host's API takes ``Authority.CALLERS``. ``None`` asks for no certificate, as the controller's API, which has
    tokens. Raises UserError when a file of the folder is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return _loaded(context, folder, clients)


def client_context(folder: Path, servers: Authority) -> ssl.SSLContext:
    """For one that opens connections: the server's certificate has to be of this authority, for the name dialled.

    ``Authority.HOSTS`` for a host's API, ``Authority.CALLERS`` for the bus and the controller's API. Raises UserError
    when a file of the folder is missing or wrong.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), folder, servers)


def peer_identity(certificate: Mapping[str, Any] | None) -> Identity | None:
    """Whose a peer's certificate is, as ``SSLSocket.getpeercert`` gives it; ``None`` if it is not one of ours."""
    names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "URI"]
    return parse_identity(names[0]) if len(names) == 1 else None


def _loaded(context: ssl.SSLContext, folder: Path, trusted: Authority | None) -> ssl.SSLContext:
    path = folder / "cert.pem"
    try:
        context.load_cert_chain(path, folder / "key.pem")
        if trusted is not None:
            path = folder / f"{trusted}-ca.pem"
            context.load_verify_locations(path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as error:  # ssl.SSLError is one
        raise UserError(
            f"{path} and what belongs to it cannot be used: {error}. "
            f"Copy the whole folder {folder.name} again from where 'ovsnet pki' made it."
        ) from None
    return context
