"""``ovsnet pki``: a working set made twice, what is kept, renewed and revoked, and what is said about it."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from ovsnet.pki.authority import Directory, Request
from ovsnet.pki.names import Identity, Kind, parse_identity
from ovsnet.pki.nats import ServerOptions, server_configuration
from ovsnet.pki.tokens import authenticate, parse_tokens
from ovsnet.transport.subjects import Subjects
from tests.unit.test_cli_basics import DEMO, ROOT, run

COMMANDS = ("init", "host", "caller", "client", "server", "renew", "revoke", "token", "list", "nats")


@pytest.fixture
def pki(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    folder = str(tmp_path / "pki")
    assert run(capsys, "pki", "init", folder, "--model", DEMO, "--host", "hv1=hv1.example.net,2001:db8::1")[0] == 0
    return folder


def contents(folder: str) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def certificate(folder: str, holder: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((Path(folder) / holder / "cert.pem").read_bytes())


def done(capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    code, out, err = run(capsys, "pki", *argv, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_a_working_set_for_all_hosts_of_a_model(pki: str) -> None:
    assert sorted(path.name for path in (Path(pki) / "hosts").iterdir()) == ["hv1", "hv2", "hv3"]
    hv1 = certificate(pki, "hosts/hv1")
    names = hv1.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["ovsnet:host:hv1"]
    assert names.get_values_for_type(x509.DNSName) == ["hv1", "hv1.example.net"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.11", "2001:db8::1"]
    usages = {
        holder: set(certificate(pki, holder).extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for holder in ("hosts/hv1", "callers/controller", "servers/nats")
    }
    client, server = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
    assert list(usages.values()) == [{client, server}, {client}, {server}]


def test_secrets_are_their_owner_s_alone(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "token", pki, "x", "--role", "read")
    for path in Path(pki).rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        secret = (
            path.suffix in {".key", ".json"} or path.name == "key.pem" or (path.is_dir() and path.parent != Path(pki))
        )
        assert not (secret and mode & 0o077), f"{path} {mode:o}"
    assert stat.S_IMODE(Path(pki).stat().st_mode) == 0o700
    keys = [path for path in Path(pki).rglob("*") if b"PRIVATE KEY" in (path.read_bytes() if path.is_file() else b"")]
    assert {path.suffix if path.parent.name == "authorities" else path.name for path in keys} == {".key", "key.pem"}


def test_again_changes_nothing_and_adds_what_is_missing(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(pki)
    again = done(capsys, "init", pki, "--model", DEMO, "--host", "hv9")
    assert {(one["name"], one["kind"]): one["action"] for one in again["certificates"]} == {
        ("hv1", "host"): "kept",
        ("hv2", "host"): "kept",
        ("hv3", "host"): "kept",
        ("hv9", "host"): "made",
        ("controller", "publisher"): "kept",
        ("controller", "server"): "kept",
        ("nats", "server"): "kept",
    }
    after = contents(pki)
    changed = {Path(path).name for path in before if before[path] != after[path]}
    assert changed <= {"issued.json", "nats.conf"} | {f"{one}.crl" for one in ("hosts", "callers", "clients")} | {
        name for name in changed if name.endswith("-ca.pem")
    }
    assert '"ovsnet:host:hv9"' in after[f"{pki}/servers/nats/nats.conf"].decode()


def test_a_certificate_without_its_key_is_made_anew(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    key, other = (Path(pki) / f"hosts/{one}/key.pem" for one in ("hv1", "hv2"))
    key.write_bytes(other.read_bytes())
    assert [one["action"] for one in done(capsys, "host", pki, "hv1")["certificates"]] == ["made"]
    assert done(capsys, "host", pki, "hv1")["certificates"][0]["action"] == "kept"


def test_what_is_kept_says_what_it_lacks(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    one = done(capsys, "host", pki, "hv2=10.0.0.12,192.0.2.7")["certificates"][0]
    assert (one["action"], one["note"]) == ("kept", "it does not serve 192.0.2.7; --renew adds that")
    old = certificate(pki, "hosts/hv2")
    one = done(capsys, "host", pki, "hv2=10.0.0.12,192.0.2.7", "--renew")["certificates"][0]
    assert (one["action"], one["uri"], one["addresses"]) == ("renewed", "ovsnet:host:hv2", ["10.0.0.12", "192.0.2.7"])
    assert certificate(pki, "hosts/hv2").public_key() != old.public_key()
    assert done(capsys, "host", pki, "hv2", "--renew")["certificates"][0]["addresses"] == ["10.0.0.12", "192.0.2.7"]
    done(capsys, "caller", pki, "cloud")
    assert "--renew changes that" in done(capsys, "caller", pki, "cloud", "--publisher")["certificates"][0]["note"]


def test_renewal_of_what_ends_soon(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    done(capsys, "host", pki, "soon", "--days", "10")
    directory = Directory(Path(pki))
    directory.issue([Request(Kind.HOST, "over")], now - timedelta(days=90), timedelta(days=30))
    assert [one["note"] for one in done(capsys, "host", pki, "over")["certificates"]] == [
        "it has expired; --renew makes a new one"
    ]
    assert "expired" in run(capsys, "pki", "list", pki)[1]
    assert {one["name"] for one in done(capsys, "renew", pki)["certificates"]} == {"soon", "over"}
    assert done(capsys, "renew", pki)["certificates"] == []


def test_no_certificate_outlives_its_authority(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    directory = Directory(tmp_path)
    directory.make_authorities(now, timedelta(days=5))
    (one,) = directory.issue([Request(Kind.HOST, "hv1")], now, timedelta(days=365))
    assert one.held.not_after <= now + timedelta(days=5)


def test_revocation_reaches_every_certificate_of_a_name(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = certificate(pki, "hosts/hv1").serial_number
    done(capsys, "host", pki, "hv1", "--renew")
    second = certificate(pki, "hosts/hv1").serial_number
    told = done(capsys, "revoke", pki, "host", "hv1")
    assert (told["revoked"], told["nats"]) == (2, [f"{pki}/servers/nats/nats.conf"])
    trusted = (Path(pki) / "callers/controller/hosts-ca.pem").read_bytes()
    revoked = x509.load_pem_x509_crl(trusted[trusted.index(b"-----BEGIN X509 CRL") :])
    assert {one.serial_number for one in revoked} == {first, second}
    assert not (Path(pki) / "hosts/hv1").exists()
    assert '"ovsnet:host:hv1"' not in (Path(pki) / "servers/nats/nats.conf").read_text()
    assert run(capsys, "pki", "revoke", pki, "host", "hv1")[0] == 2
    done(capsys, "host", pki, "hv1")
    assert '"ovsnet:host:hv1:2"' in (Path(pki) / "servers/nats/nats.conf").read_text()
    done(capsys, "host", pki, "hv1", "--renew")
    assert '"ovsnet:host:hv1:2"' in (Path(pki) / "servers/nats/nats.conf").read_text()


def test_a_token_is_shown_once_and_revoked(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "pki", "token", pki, "deploy", "--role", "write", "--tenant", "acme")
    assert code == 0
    file = Path(pki) / "tokens.json"
    principal = authenticate(parse_tokens(file.read_bytes(), "f"), text.strip(), datetime.now(UTC))
    assert principal is not None and (principal.role, principal.tenants) == ("write", frozenset({"acme"}))
    assert text.strip() not in file.read_text() + run(capsys, "pki", "list", pki)[1]
    code, _, err = run(capsys, "pki", "token", pki, "deploy", "--role", "admin")
    assert (code, "Revoke it first" in err) == (2, True)
    done(capsys, "revoke", pki, "token", "deploy")
    assert authenticate(parse_tokens(file.read_bytes(), "f"), text.strip(), datetime.now(UTC)) is None


def test_options_of_the_server_are_remembered(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    done(capsys, "nats", pki, "--listen", "192.0.2.1:4333", "--tls-dir", "/etc/nats/tls", "--prefix", "lab.one")
    done(capsys, "host", pki, "hv7")
    text = (Path(pki) / "servers/nats/nats.conf").read_text()
    assert 'listen: "192.0.2.1:4333"' in text and 'key_file: "/etc/nats/tls/key.pem"' in text
    assert 'allow: ["lab.one.host.hv7.out.>"]' in text and "ovsnet.host" not in text


@pytest.mark.parametrize(
    "argv",
    [
        ["host", "PKI", "HV1"],
        ["host", "PKI", "a.b"],
        ["host", "PKI", "../x"],
        ["host", "PKI", "hv1=not an address", "--renew"],
        ["host", "PKI", "hv8="],
        ["client", "PKI", "controller"],
        ["server", "PKI", "*"],
        ["revoke", "PKI", "host", "hv99"],
        ["revoke", "PKI", "publisher", "controller"],
        ["revoke", "PKI", "token", "none"],
        ["token", "PKI", "x", "--role", "root"],
        ["token", "PKI", "x", "--role", "read", "--tenant", "a b"],
        ["nats", "PKI", "--server", "nats2"],
        ["nats", "PKI", "--listen", "4222"],
        ["nats", "PKI", "--listen", "0.0.0.0:99999"],
        ["nats", "PKI", "--prefix", "a.*"],
        ["host", "PKI/none", "hv1"],
        ["list", "PKI/none"],
        ["init", "PKI/issued.json"],
        ["init", "PKI", "--model", "none.yaml"],
    ],
    ids=" ".join,
)
def test_a_mistake_changes_nothing_and_has_a_message(
    pki: str, capsys: pytest.CaptureFixture[str], argv: list[str]
) -> None:
    before = contents(pki)
    code, out, err = run(capsys, "pki", *(one.replace("PKI", pki) for one in argv))
    assert (code, out) == (2, "")
    assert err and "Traceback" not in err
    assert contents(pki) == before


def test_a_damaged_authority_is_not_replaced(pki: str, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(pki) / "authorities/hosts.key").unlink()
    code, _, err = run(capsys, "pki", "init", pki)
    assert (code, "hosts.key is missing. Restore it" in err) == (2, True)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, "pki", command, "--help")
    assert (code, "Example: ovsnet pki" in out) == (0, True)


def test_the_command_line_starts_without_cryptography() -> None:
    code = "import sys, ovsnet.cli, ovsnet.pki.tokens, ovsnet.tls, ovsnet.pki.nats; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert "cryptography" not in done.stdout.split()


def test_identities_are_read_back_and_nothing_else_is() -> None:
    for kind in Kind:
        for generation in (1, 2, 30):
            one = Identity(kind, "hv-1_x", generation)
            assert parse_identity(one.uri) == one
    for strange in ("", "ovsnet:host:", "ovsnet:host:a:0", "ovsnet:host:a:b", "ovsnet:root:a", "xovsnet:host:a",
                    "ovsnet:host:a.b", "ovsnet:host:*", "ovsnet:host:a\n", "OVSNET:host:a"):  # fmt: skip
        assert parse_identity(strange) is None, strange


def test_the_configuration_depends_on_who_there_is_and_on_nothing_else() -> None:
    some = [Identity(Kind.HOST, "b"), Identity(Kind.CLIENT, "c"), Identity(Kind.HOST, "a"), Identity(Kind.SERVER, "n")]
    options = ServerOptions(tls_dir="/x")
    text = server_configuration(some, options)
    assert text == server_configuration(reversed(some), options)
    assert "server:n" not in text
    assert server_configuration([], options).count("{user:") == 1


def test_answers_go_to_the_asker_s_inbox_alone() -> None:
    assert Subjects().answerable("ovsnet.ingest.billing", "_INBOX_billing.AbC.1")
    for subject, reply in (
        ("ovsnet.ingest.billing", ""),
        ("ovsnet.ingest.billing", "_INBOX_billing"),
        ("ovsnet.ingest.billing", "_INBOX_billing."),
        ("ovsnet.ingest.billing", "_INBOX_billing.>"),
        ("ovsnet.ingest.billing", "_INBOX_billing..x"),
        ("ovsnet.ingest.billing", "_INBOX_billing2.x"),
        ("ovsnet.ingest.billing", "_INBOX_orch.x"),
        ("ovsnet.ingest.billing", "ovsnet.host.hv1.in.change"),
        ("ovsnet.ingest.a.b", "_INBOX_a.b.x"),
        ("ovsnet.host.hv1.out.hello", "ovsnet.host.hv2.in.change"),
        ("ovsnet.host.hv1.out.hello", "_INBOX_hv1.x"),
    ):
        assert not Subjects().answerable(subject, reply), (subject, reply)
