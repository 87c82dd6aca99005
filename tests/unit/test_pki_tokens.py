"""Tokens of the controller's API: who presents one, what it permits, and a file that changes under a server."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.errors import UserError
from ovsnet.pki.tokens import (
    Principal,
    Role,
    Token,
    TokenFile,
    TokenSet,
    authenticate,
    make_token,
    parse_tokens,
    permits,
    tokens_text,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def test_a_token_is_known_by_its_text_alone() -> None:
    text, kept = make_token("deploy", "write", ("acme",), NOW, None)
    other, kept_other = make_token("deploy", "write", ("acme",), NOW, None)
    assert len({text, other, kept.sha256, kept_other.sha256}) == 4
    assert text not in tokens_text(TokenSet((kept, kept_other))).decode()
    tokens = TokenSet((kept_other, kept))
    assert authenticate(tokens, text, NOW) == Principal("deploy", "write", frozenset({"acme"}))
    for wrong in ("", text[:-1], text + " ", text.upper(), kept.sha256, "ovsnet_", "\udcff", "é"):
        assert authenticate(tokens, wrong, NOW) is None
    assert authenticate(TokenSet(), text, NOW) is None


def test_a_token_ends_when_it_says() -> None:
    text, kept = make_token("ci", "read", None, NOW, HOUR)
    assert authenticate(TokenSet((kept,)), text, NOW + HOUR - timedelta(microseconds=1)) is not None
    assert authenticate(TokenSet((kept,)), text, NOW + HOUR) is None


@pytest.mark.parametrize(
    ("role", "kind", "enough"),
    [
        ("read", "read", True),
        ("read", "write", False),
        ("read", "admin", False),
        ("write", "read", True),
        ("write", "write", True),
        ("write", "admin", False),
        ("admin", "read", True),
        ("admin", "write", True),
        ("admin", "admin", True),
    ],
)
def test_roles_and_tenants(role: Role, kind: Role, enough: bool) -> None:
    everywhere, acme = Principal("a", role, None), Principal("b", role, frozenset({"acme"}))
    assert permits(everywhere, kind, "acme") is permits(everywhere, kind, None) is enough
    assert permits(acme, kind, "acme") is enough
    for tenant in ("other", None, "", "acm", "acme2"):
        assert not permits(acme, kind, tenant)


def test_a_token_for_no_tenant_is_refused() -> None:
    with pytest.raises(UserError, match="for no tenant"):
        make_token("x", "read", (), NOW, None)


@given(
    st.lists(
        st.builds(
            Token,
            name=st.text(max_size=5),
            role=st.sampled_from(["read", "write", "admin"]),
            sha256=st.text("0123456789abcdef", max_size=64),
            tenants=st.none() | st.lists(st.text(max_size=3), max_size=2).map(tuple),
            expires=st.none() | st.datetimes(timezones=st.just(UTC)),
        )
    ).map(lambda some: TokenSet(tuple(some)))
)
def test_what_is_written_is_read(tokens: TokenSet) -> None:
    assert parse_tokens(tokens_text(tokens), "f") == tokens


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"tokens": [{"name": "x"}]}',
        b'{"tokens": [{"name": "x", "role": "root", "sha256": ""}]}',
        b'{"tokens": [{"name": "x", "role": "read", "sha256": "", "tenant": "acme"}]}',
        b'{"tokens": [{"name": "x", "role": "read", "sha256": "", "expires": "2030-01-01T00:00:00"}]}',
    ],
)
def test_a_wrong_file_is_refused_with_its_place(text: bytes) -> None:
    with pytest.raises(UserError, match=r"^/etc/tokens\.json: "):
        parse_tokens(text, "/etc/tokens.json")


def test_a_server_sees_the_file_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    text, kept = make_token("deploy", "admin", None, NOW, None)
    with caplog.at_level(logging.ERROR):
        assert file.authenticate(text, NOW) is None
        path.write_bytes(tokens_text(TokenSet((kept,))))
        assert file.authenticate(text, NOW) == Principal("deploy", "admin", None)
        assert not caplog.records
        path.write_text(json.dumps({"tokens": "none, I hope"}))
        assert file.authenticate(text, NOW) is None
        assert file.authenticate(text, NOW) is None
        assert len(caplog.records) == 1, "said once a change"
        path.write_bytes(tokens_text(TokenSet((kept,))))
        assert file.authenticate(text, NOW) is not None
        path.unlink()
        assert file.authenticate(text, NOW) is None
