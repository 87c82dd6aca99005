"""TLS contexts of a holder of certificates, from its folder as `ovsnet pki` makes it."""

from __future__ import annotations

import ssl
from pathlib import Path

from ovsnet import tls
from ovsnet.pki.names import Authority


def server_context(folder: Path, clients: Authority | None) -> ssl.SSLContext:
    """As a host's API or a bus accepts connections."""
    trusted = None if clients is None else folder / f"{clients}-ca.pem"
    return tls.server_context(folder / "cert.pem", folder / "key.pem", trusted)


def client_context(folder: Path, servers: Authority) -> ssl.SSLContext:
    """As one opens connections with the certificate in a folder."""
    return tls.client_context(folder / f"{servers}-ca.pem", folder / "cert.pem", folder / "key.pem")
