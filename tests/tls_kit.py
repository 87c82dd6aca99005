"""Certificates for tests, and an agent's host that serves by TLS."""

from __future__ import annotations

import datetime
import ipaddress
import socket
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ovsnet.agent.client import Credentials
from tests.agent_kit import AgentHost


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path, name: str) -> None:
        self.directory, self.name = directory, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        authority = x509.BasicConstraints(ca=True, path_length=0)
        certificate = _builder(self.subject, self.subject, self.key).add_extension(authority, critical=True)
        self.ca = _write(directory / f"{name}.pem", certificate.sign(self.key, hashes.SHA256()))

    def issue(self, name: str, *names: x509.GeneralName, expired: bool = False) -> Credentials:
        """A certificate with its key, and this authority."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        builder = _builder(subject, self.subject, key, expired=expired)
        builder = builder.add_extension(x509.SubjectAlternativeName([*names, x509.DNSName(name)]), critical=False)
        pem = _write(self.directory / f"{self.name}-{name}.pem", builder.sign(self.key, hashes.SHA256()))
        private = self.directory / f"{self.name}-{name}.key"
        private.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return Credentials(pem, private, self.ca)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, *, expired: bool = False
) -> x509.CertificateBuilder:
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)
    end = start + datetime.timedelta(days=1 if expired else 30)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(end)


def _write(path: Path, certificate: x509.Certificate) -> Path:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path


def free_port() -> int:
    """A TCP port of the loopback address that nobody uses."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


def start_by_tls(host: AgentHost, hosts: Authority, callers: Authority) -> str:
    """Start an agent that also serves by TLS; its URL."""
    mine = hosts.issue("hv1", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    port = free_port()
    tls = ["--tls-cert", str(mine.cert), "--tls-key", str(mine.key), "--tls-ca", str(callers.ca)]
    host.start("--listen", f"127.0.0.1:{port}", *tls)
    return f"https://127.0.0.1:{port}"
