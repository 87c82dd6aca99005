"""TLS contexts from files in PEM form, for all that accept or open connections. The standard library only.

An authority's file may hold its list of revoked certificates too, as those of ``ovsnet pki`` do; it is checked then.
Files are read when a context is made: make it again when they change.
"""

from __future__ import annotations

import ssl
from pathlib import Path

from ovsnet.errors import UserError

_REVOKED = b"-----BEGIN X509 CRL-----"


def server_context(cert: Path, key: Path, clients: Path | None = None) -> ssl.SSLContext:
    """For one that accepts connections: from those with a certificate of the authority ``clients``, or from anybody.

    Raises UserError when a file is missing or wrong.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if clients is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return _loaded(context, cert, key, clients)


def client_context(ca: Path, cert: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    """For one that opens connections: to servers with a certificate of the authority ``ca`` for the name dialled.

    Raises UserError when a file is missing or wrong.
    """
    return _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), cert, key, ca)


def _loaded(context: ssl.SSLContext, cert: Path | None, key: Path | None, trusted: Path | None) -> ssl.SSLContext:
    path = cert
    try:
        if cert is not None:
            context.load_cert_chain(cert, key)
        if trusted is not None:
            path = trusted
            context.load_verify_locations(trusted)
            if _REVOKED in trusted.read_bytes():
                context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    except OSError as exc:  # ssl.SSLError is one
        beside = f" with {key}" if path == cert and key is not None else ""
        raise UserError(
            f"{path}{beside} cannot be used for TLS: {exc}. Give readable PEM files that belong together, "
            "such as those that `ovsnet pki` made"
        ) from None
    return context
