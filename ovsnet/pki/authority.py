"""The directory with three certificate authorities and what they have issued.

    authorities/{hosts,callers,clients}.{crt,key}   sign; never leave this directory
    {hosts,callers,clients,servers}/NAME/           cert.pem, key.pem and the authorities NAME trusts: goes to NAME
    issued.json                                     every certificate ever issued, and which are revoked
    tokens.json                                     digests of the tokens of the controller's API

A key is never overwritten unless that is asked for; what is missing is added.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Literal

import msgspec

from ovsnet.errors import UserError
from ovsnet.pki import certificates
from ovsnet.pki.certificates import Held, Issuer, Pair
from ovsnet.pki.files import PUBLIC, write_changed, write_file
from ovsnet.pki.names import AUTHORITY_OF, FOLDER_OF, TRUSTS, Authority, Identity, Kind, checked_name, parse_identity
from ovsnet.pki.nats import check_senders

Action = Literal["made", "kept", "renewed"]


class Request(msgspec.Struct, frozen=True):
    """A certificate that is wanted; ``addresses`` are DNS names and IP addresses it serves besides its name."""

    kind: Kind
    name: str
    addresses: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True):
    """What became of a request, and the certificate that there is now; ``note`` says what is not as requested."""

    action: Action
    held: Held
    note: str = ""


class Issued(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One certificate in the register. The serial number is hexadecimal: JSON's numbers are too short for it."""

    uri: str
    serial: str
    not_after: datetime
    revoked: datetime | None = None


class Directory:
    """The directory at ``root``. Its methods that write expect the caller to hold :func:`ovsnet.pki.files.locked`."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def make_authorities(self, now: datetime, valid: timedelta) -> list[Authority]:
        """Make the authorities that are missing; which these were. Raises UserError when one is damaged."""
        folder = self.root / "authorities"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        missing = [one for one in Authority if not any((folder / f"{one}.{end}").exists() for end in ("crt", "key"))]
        for one in missing:
            pair = certificates.make_authority(one, now, valid)
            write_file(folder / f"{one}.key", pair.key)
            write_file(folder / f"{one}.crt", pair.certificate, PUBLIC)
        for one in Authority:
            self._write_revocations(one, now)
        return missing

    def issuer(self, authority: Authority) -> Issuer:
        """An authority, able to sign. Raises UserError when it is missing or damaged."""
        path = self.root / "authorities" / authority
        try:
            return certificates.read_issuer(_read_pair(path.with_suffix(".crt"), path.with_suffix(".key")))
        except FileNotFoundError as error:
            raise UserError(
                f"{error.filename} is missing. Restore it from a copy, or make a new directory: ovsnet pki init DIR."
            ) from None
        except ValueError as error:
            raise UserError(f"{path}.crt: {error}. Restore it and its key from a copy.") from None

    def held(self) -> list[Held]:
        """The certificates that are there, sorted by identity; those without a matching key are left out."""
        found = [
            self._held(f"{folder}/{path.name}")
            for folder in sorted(set(FOLDER_OF.values()))
            for path in (self.root / folder).glob("*")
        ]
        return sorted((one for one in found if one is not None), key=lambda one: one.identity)

    def register(self) -> list[Issued]:
        """Every certificate ever issued. Raises UserError when the register is damaged."""
        path = self.root / "issued.json"
        try:
            return msgspec.json.decode(path.read_bytes(), type=list[Issued])
        except FileNotFoundError:
            return []
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise UserError(f"{path}: {error}. Restore it: it says what may not be used any more.") from None

    def issue(
        self, requests: Sequence[Request], now: datetime, valid: timedelta, *, renew: bool = False
    ) -> list[Outcome]:
        """Make what is missing of these certificates; with ``renew`` also new ones, with new keys, for those held.

        A renewed certificate keeps its addresses unless others are requested. Raises UserError, before anything is
        written, for a wrong name or address, and for a name that a caller and a client would share.
        """
        register = self.register()
        plans = [self._planned(request, register, renew) for request in requests]
        check_senders([*(one.identity for one in self.held()), *(new for _, new, _ in plans)])
        issuers = {authority: self.issuer(authority) for authority in {AUTHORITY_OF[new.kind] for _, new, _ in plans}}
        made: dict[Identity, tuple[Pair, Held]] = {}
        for old, new, addresses in plans:
            if old is None or renew:
                issuer = issuers[AUTHORITY_OF[new.kind]]
                serial = certificates.new_serial()
                pair = certificates.make_certificate(issuer, new, addresses, serial, now, valid)
                made[new] = (pair, certificates.read_certificate(pair))
        register += [
            Issued(uri=new.uri, serial=f"{held.serial:x}", not_after=held.not_after) for new, (_, held) in made.items()
        ]
        if made:  # before the certificates are there: what is not in the register cannot be revoked
            self._write_register(register)
        for new, (pair, _) in made.items():
            self._write_holder(new, pair)
        outcomes = []
        for (old, new, _), request in zip(plans, requests, strict=True):
            if new in made:
                outcomes.append(Outcome("made" if old is None else "renewed", made[new][1]))
            elif old is not None:
                outcomes.append(Outcome("kept", old, _difference(old, request, now)))
        return outcomes

    def renew(self, now: datetime, valid: timedelta, within: timedelta) -> list[Outcome]:
        """Renew each certificate that ends ``within`` this time from now; who it is for and where stays as it was."""
        due = [one for one in self.held() if one.not_after <= now + within]
        requests = [Request(one.identity.kind, one.identity.name, one.addresses) for one in due]
        return self.issue(requests, now, valid, renew=True)

    def revoke(self, kind: Kind, name: str, now: datetime) -> int:
        """Revoke every certificate of a name, remove its key, and tell all holders' files; how many were revoked.

        A later certificate of this name is of the next generation. Raises UserError when there is none to revoke.
        """
        folder = Identity(kind, checked_name(kind, name)).folder
        register = self.register()
        mine = [one for one in register if one.revoked is None and _folder(one) == folder]
        if not mine:
            raise UserError(f"No {kind} {name} has a certificate. 'ovsnet pki list {self.root}' shows those there are.")
        for one in mine:
            one.revoked = now
        self._write_register(register)
        shutil.rmtree(self.root / folder, ignore_errors=True)
        self._write_revocations(AUTHORITY_OF[kind], now)
        self.refresh_trust()
        return len(mine)

    def refresh_trust(self) -> int:
        """Write the trusted authorities into every holder's folder where they differ; into how many."""
        texts = {authority: self.trust_text(authority) for authority in Authority}
        return sum(self._write_trust(one.identity, texts) for one in self.held())

    def trust_text(self, authority: Authority) -> bytes:
        """What is needed to verify an authority's certificates: its own, and its list of revoked ones."""
        path = self.root / "authorities" / authority
        return path.with_suffix(".crt").read_bytes() + path.with_suffix(".crl").read_bytes()

    def _planned(
        self, request: Request, register: Iterable[Issued], renew: bool
    ) -> tuple[Held | None, Identity, tuple[str, ...]]:
        """What is held for a request, whose the certificate is to be, and its addresses."""
        identity = Identity(request.kind, checked_name(request.kind, request.name))
        old = self._held(identity.folder)
        if old is not None and not renew:
            return old, old.identity, old.addresses
        addresses = request.addresses or (old.addresses if old is not None else ())
        for one in addresses:
            certificates.general_name(one)
        return old, msgspec.structs.replace(identity, generation=_generation(register, identity.folder)), addresses

    def _held(self, folder: str) -> Held | None:
        path = self.root / folder
        try:
            held = certificates.read_certificate(_read_pair(path / "cert.pem", path / "key.pem"))
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None  # never finished, or a renewal was interrupted between the two files: made anew
        return held if held.identity.folder == folder else None

    def _write_holder(self, identity: Identity, pair: Pair) -> None:
        folder = self.root / identity.folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._write_trust(identity, {one: self.trust_text(one) for one in TRUSTS[identity.kind]})
        write_file(folder / "key.pem", pair.key, durable=False)
        write_file(folder / "cert.pem", pair.certificate, PUBLIC, durable=False)

    def _write_trust(self, identity: Identity, texts: dict[Authority, bytes]) -> bool:
        folder, trusted = self.root / identity.folder, TRUSTS[identity.kind]
        files = {folder / f"{one}-ca.pem": texts[one] for one in trusted}
        if identity.kind is Kind.SERVER:
            files = {folder / "peers-ca.pem": b"".join(texts[one] for one in trusted)}
        return sum(write_changed(path, text, PUBLIC) for path, text in files.items()) > 0

    def _write_register(self, register: list[Issued]) -> None:
        rows = b",\n".join(map(msgspec.json.encode, register))
        write_file(self.root / "issued.json", b"[\n" + rows + b"\n]\n")

    def _write_revocations(self, authority: Authority, now: datetime) -> None:
        revoked = []
        for one in self.register():
            identity = parse_identity(one.uri)
            if one.revoked is not None and identity is not None and AUTHORITY_OF[identity.kind] is authority:
                revoked.append((int(one.serial, 16), one.revoked))
        text = certificates.make_revocations(self.issuer(authority), revoked, now)
        write_file(self.root / "authorities" / f"{authority}.crl", text, PUBLIC)


def _generation(register: Iterable[Issued], folder: str) -> int:
    """The generation that a new certificate of a folder's name is of: one beyond those that were revoked."""
    identities = (parse_identity(one.uri) for one in register if one.revoked is not None)
    return 1 + max((one.generation for one in identities if one is not None and one.folder == folder), default=0)


def _folder(issued: Issued) -> str | None:
    identity = parse_identity(issued.uri)
    return None if identity is None else identity.folder


def _difference(held: Held, request: Request, now: datetime) -> str:
    """Why a certificate that is kept is not what is wanted; empty if it is."""
    if held.not_after <= now:
        return "it has expired; --renew makes a new one"
    if held.identity.kind is not request.kind:
        return f"it is a {held.identity.kind}'s, not a {request.kind}'s; --renew changes that"
    missing = [one for one in request.addresses if certificates.general_name(one).value not in _values(held)]
    return f"it does not serve {', '.join(missing)}; --renew adds that" if missing else ""


def _values(held: Held) -> list[object]:
    return [certificates.general_name(one).value for one in (held.identity.name, *held.addresses)]


def _read_pair(certificate: Path, key: Path) -> Pair:
    return Pair(certificate.read_bytes(), key.read_bytes())
