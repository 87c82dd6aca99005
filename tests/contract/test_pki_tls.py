"""Handshakes with the made certificates: who is let in by a host, and which server is believed."""

from __future__ import annotations

import contextlib
import ssl
from datetime import timedelta
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.names import Authority, Identity, Kind, peer_identity
from tests.contract.bus_kit import YEAR, make_directory, now
from tests.pki_kit import client_context, server_context


@pytest.fixture
def directory(tmp_path: Path) -> Directory:
    return make_directory(tmp_path / "pki")


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> Identity | None:
    """A handshake in memory, after which the server has read one byte; who it says the client is."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname=name)
    sides = [[theirs.do_handshake, lambda: theirs.write(b"x")], [ours.do_handshake, lambda: ours.read(1)]]
    for _ in range(10):
        for steps in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                while steps:
                    steps[0]()
                    del steps[0]
    assert not any(sides)
    return peer_identity(ours.getpeercert())


def host_api(directory: Directory, caller: Path, name: str = "hv1") -> Identity | None:
    """A caller's folder at the API of hv1, dialled by this name."""
    client = client_context(directory.root / "callers/controller", Authority.HOSTS)
    client.load_cert_chain(caller / "cert.pem", caller / "key.pem")
    return shake(server_context(directory.root / "hosts/hv1", Authority.CALLERS), client, name)


@pytest.mark.parametrize(("name", "kind"), [("controller", Kind.PUBLISHER), ("orch", Kind.CALLER)])
def test_a_host_lets_callers_in_and_knows_them(directory: Directory, name: str, kind: Kind) -> None:
    assert host_api(directory, directory.root / "callers" / name) == Identity(kind, name)


@pytest.mark.parametrize("folder", ["hosts/hv2", "hosts/hv1", "clients/billing", "servers/nats"])
def test_a_host_lets_nobody_else_in(directory: Directory, folder: str) -> None:
    with pytest.raises(ssl.SSLError):
        host_api(directory, directory.root / folder)


def test_a_host_wants_a_certificate(directory: Directory) -> None:
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.load_verify_locations(directory.root / "callers/orch/hosts-ca.pem")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shake(server_context(directory.root / "hosts/hv1", Authority.CALLERS), client, "hv1")


def test_a_caller_that_is_expired_revoked_or_of_other_authorities(directory: Directory, tmp_path: Path) -> None:
    orch = directory.root / "callers/orch"
    stolen = orch.rename(tmp_path / "stolen")
    assert host_api(directory, stolen) == Identity(Kind.CALLER, "orch")
    directory.revoke(Kind.CALLER, "orch", now())
    with pytest.raises(ssl.SSLError, match="revoked"):
        host_api(directory, stolen)
    directory.issue([Request(Kind.CALLER, "orch")], now(), YEAR)
    assert host_api(directory, orch) == Identity(Kind.CALLER, "orch", 2)
    directory.issue([Request(Kind.CALLER, "orch")], now() - YEAR, timedelta(days=30), renew=True)
    with pytest.raises(ssl.SSLError, match="expired"):
        host_api(directory, orch)
    with pytest.raises(ssl.SSLError):
        host_api(directory, make_directory(tmp_path / "other").root / "callers/orch")


def test_a_stolen_host_certificate_serves_under_its_own_name_only(directory: Directory) -> None:
    orch = directory.root / "callers/orch"
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        host_api(directory, orch, "hv2")
    directory.issue([Request(Kind.HOST, "nats")], now(), YEAR)  # a hypervisor that is called as the bus is
    thief = server_context(directory.root / "hosts/nats", None)
    for folder in ("hosts/hv2", "callers/controller", "clients/billing"):
        with pytest.raises(ssl.SSLError, match=r"self-signed|unable to get"):
            shake(thief, client_context(directory.root / folder, Authority.CALLERS), "nats")
    true = server_context(directory.root / "servers/nats", None)
    assert shake(true, client_context(directory.root / "hosts/hv2", Authority.CALLERS), "nats") is None


def test_a_client_s_certificate_serves_nothing(directory: Directory) -> None:
    with pytest.raises(ssl.SSLError):
        shake(
            server_context(directory.root / "callers/orch", None),
            client_context(directory.root / "hosts/hv2", Authority.CALLERS),
            "orch",
        )


def test_a_folder_that_is_not_whole_has_a_message(directory: Directory) -> None:
    (directory.root / "hosts/hv1/callers-ca.pem").unlink()
    with pytest.raises(UserError, match=r"callers-ca\.pem cannot be used for TLS: .* Give readable PEM files"):
        server_context(directory.root / "hosts/hv1", Authority.CALLERS)
