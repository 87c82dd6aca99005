"""Keys, certificates and revocation lists as values: nothing here reads a clock or touches a file."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ovsnet.errors import UserError, shown
from ovsnet.pki.names import Authority, Identity, Kind, parse_identity

SKEW = timedelta(minutes=10)
"""A certificate is valid from this long before it is made, for clocks that are behind."""
_DNS = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*"
)
_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
USAGES = {
    Kind.HOST: (_CLIENT, _SERVER),
    Kind.CALLER: (_CLIENT,),
    Kind.PUBLISHER: (_CLIENT,),
    Kind.CLIENT: (_CLIENT,),
    Kind.SERVER: (_SERVER,),
}
"""Who opens connections, who accepts them: a caller's certificate is no server's, and a server's opens nothing."""


class Issuer(msgspec.Struct, frozen=True):
    """A certificate authority: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate as it was read: whose it is, its serial number, the names and addresses it serves, its end."""

    identity: Identity
    serial: int
    addresses: tuple[str, ...]
    not_after: datetime


class Pair(msgspec.Struct, frozen=True):
    """A certificate and its private key in PEM."""

    certificate: bytes
    key: bytes


def make_authority(authority: Authority, now: datetime, valid: timedelta) -> Pair:
    """A new self-signed certificate authority. Its name has random digits: two of the same sort are told apart."""
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = _common_name(f"ovsnet {authority} {serial & 0xFFFFFFFF:08x}")
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)  # signs certificates, lists
    builder = _builder(name, name, key.public_key(), serial, now, now + valid)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _pair(builder.add_extension(usage, critical=True).sign(key, hashes.SHA256()), key)


def make_certificate(
    issuer: Issuer, identity: Identity, addresses: Sequence[str], serial: int, now: datetime, valid: timedelta
) -> Pair:
    """A new key with a certificate for an identity; ``addresses`` are further DNS names and IP addresses it serves.

    It ends with its authority's at the latest. Raises UserError for what is neither a DNS name nor an address.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(identity.uri)]
    if _SERVER in USAGES[identity.kind]:
        names += dict.fromkeys([x509.DNSName(identity.name), *map(general_name, addresses)])
    elif addresses:
        raise UserError(f"A {identity.kind} accepts no connections: {identity.name} takes no names and addresses.")
    not_after = min(now + valid, issuer.certificate.not_valid_after_utc)
    subject = _common_name(identity.name)
    builder = _builder(subject, issuer.certificate.subject, key.public_key(), serial, now, not_after)
    authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)  # signs handshakes
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(USAGES[identity.kind]), critical=False)
        .add_extension(authority_key, critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _pair(builder.sign(issuer.key, hashes.SHA256()), key)


def make_revocations(issuer: Issuer, revoked: Iterable[tuple[int, datetime]], now: datetime) -> bytes:
    """The authority's revocation list in PEM, from (serial, time of revocation); it ends with the authority."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now - SKEW)
        .next_update(issuer.certificate.not_valid_after_utc)
        .add_extension(x509.CRLNumber(int(now.timestamp() * 1000)), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial, at in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(at).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def read_issuer(pair: Pair) -> Issuer:
    """An authority from PEM. Raises ValueError for what is not one, or a key that belongs to another certificate."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    return Issuer(certificate, _matching_key(certificate, pair.key))


def read_certificate(pair: Pair) -> Held:
    """Whose a certificate is. Raises ValueError for one without our URI, or with another certificate's key."""
    certificate = x509.load_pem_x509_certificate(pair.certificate)
    _matching_key(certificate, pair.key)
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise ValueError("the certificate has no alternative names") from None
    found = [parse_identity(uri) for uri in names.get_values_for_type(x509.UniformResourceIdentifier)]
    if len(found) != 1 or found[0] is None:
        raise ValueError("the certificate has no URI that begins with ovsnet:")
    dns = [one for one in names.get_values_for_type(x509.DNSName) if one != found[0].name]
    addresses = [str(one) for one in names.get_values_for_type(x509.IPAddress)]
    return Held(
        identity=found[0],
        serial=certificate.serial_number,
        addresses=(*dns, *addresses),
        not_after=certificate.not_valid_after_utc,
    )


def general_name(text: str) -> x509.GeneralName:
    """A DNS name or an IP address as a certificate has it. Raises UserError for anything else."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        pass
    if not _DNS.fullmatch(text):
        raise UserError(f"{shown(text)} is neither an IP address nor a DNS name. Write one, such as hv1.example.net.")
    return x509.DNSName(text.lower())


def new_serial() -> int:
    """A random serial number."""
    return x509.random_serial_number()


def _matching_key(certificate: x509.Certificate, pem: bytes) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ValueError("the key is not the certificate's")
    return key


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, serial: int, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial)
        .not_valid_before(now - SKEW)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _pair(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> Pair:
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(certificate.public_bytes(pem), private)
