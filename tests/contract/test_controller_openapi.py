"""The controller by TLS: what each token may, and generated requests against its own OpenAPI document."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from cryptography import x509
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ovsnet.controller.client import ControllerClient
from ovsnet.http.client import ServiceError, ServiceUnreachable
from ovsnet.pki.tokens import Role, TokenSet, make_token, tokens_text
from ovsnet.tls import client_context
from tests.controller_kit import controller
from tests.tls_kit import Authority, free_port

pytestmark = pytest.mark.timeout(900)
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
WEB = {"subnets": [{"cidr": "10.1.0.0/24"}]}
KNOWN = {"vpc": "shop", "id": "a", "host": "h1", "subnet": "web:10.1.0.0-24", "workload": "vm"}
ROLES: dict[str, tuple[Role, tuple[str, ...] | None]] = {
    "admin": ("admin", None),
    "reader": ("read", None),
    "acme": ("write", ("acme",)),
}


class Served:
    """A controller that serves by TLS, with a client on its unix socket and the tokens by name."""

    def __init__(self, directory: Path, local: ControllerClient, url: str, tokens: dict[str, str]) -> None:
        self.directory, self.local, self.url, self.tokens = directory, local, url, tokens
        self.ca = directory / "callers.pem"

    def by(self, name: str | None) -> ControllerClient:
        return ControllerClient(self.url, token=self.tokens.get(name or ""), context=client_context(self.ca))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    directory = tmp_path_factory.mktemp("served")
    mine = Authority(directory, "callers").issue("controller", x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    now = datetime.now(UTC)
    made = {name: make_token(name, role, tenants, now, None) for name, (role, tenants) in ROLES.items()}
    made["late"] = make_token("late", "admin", None, now - timedelta(days=2), timedelta(days=1))
    (directory / "tokens.json").write_bytes(tokens_text(TokenSet(tuple(token for _, token in made.values()))))
    port = free_port()
    options = ["--listen", f"127.0.0.1:{port}", "--tls-cert", str(mine.cert), "--tls-key", str(mine.key)]
    with controller(directory, *options, "--tokens", str(directory / "tokens.json")) as local:
        local.put_host("h1", {"vtep": "10.0.0.1"})
        for vpc, tenant in (("shop", "acme"), ("bank", "gold")):
            local.put_vpc(vpc, {"tenant": tenant, "networks": {"web": WEB}, "ports": {"a": {"network": "web"}}})
        yield Served(directory, local, f"https://127.0.0.1:{port}", {name: text for name, (text, _) in made.items()})


def status(call: Any) -> int:
    """The HTTP status of a call."""
    try:
        call()
    except ServiceError as exc:
        return exc.status
    return 200


def test_a_token_may_what_its_role_and_tenants_say(served: Served) -> None:
    port = {"network": "web"}
    for name, may in {"admin": (200, 200, 200), "reader": (200, 403, 403), "acme": (404, 403, 403)}.items():
        with served.by(name) as client:
            reads = status(lambda: client.vpc("bank"))
            writes = status(lambda: client.put("bank", "ports", "b", port))
            site = status(lambda: client.put_host("h2", {"vtep": "10.0.0.2"}))
            assert (reads, writes, site) == may, name
    with served.by("acme") as client:
        assert client.vpcs().keys() == {"shop"}
        assert client.put("shop", "ports", "mine", port)["changed"]
        assert client.get("shop", "ports", "mine")["owner"] == "acme"
        foreign = [{"op": "patch", "vpc": vpc, "body": {"ports": {"x": port}}} for vpc in ("shop", "bank")]
        assert status(lambda: client.batch(foreign)) == 403
        assert status(lambda: client.put_vpc("shop", {"tenant": "gold"})) == 403
        assert status(client.hosts) == status(client.audit) == status(client.status) == status(client.model) == 403
        assert client.get("shop", "ports", "mine")["declared"]["ips"]


def test_who_has_no_good_token_gets_nothing(served: Served) -> None:
    for name in (None, "late"):
        with served.by(name) as client:
            assert status(client.vpcs) == 401
            assert status(lambda: client.call("GET", "/openapi.json")) == 401
            assert client.ready()["ready"]
    stranger = ControllerClient(served.url, token=served.tokens["admin"])
    with pytest.raises(ServiceUnreachable, match="certificate"):
        stranger.vpcs()


def exercise(served: Served, examples: int) -> int:
    """Call every operation with generated requests, valid and not; the number of calls."""
    how = {"base_url": served.url, "verify": str(served.ca), "timeout": 30}
    how["headers"] = {"Authorization": f"Bearer {served.tokens['admin']}"}
    calls = 0
    for result in schemathesis.openapi.from_dict(served.local.call("GET", "/openapi.json")).get_all_operations():
        operation = result.ok()
        if operation.path == "/v1/events":
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(generation_mode=mode), known=st.booleans())
            def check(case: Any, known: bool) -> None:
                nonlocal calls
                calls += 1
                if known and mode is GenerationMode.POSITIVE:  # noqa: B023  (called at once)
                    case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
                for name in ("wait", "timeout"):
                    if case.query and name in case.query and case.query[name] != "up":
                        case.query[name] = "1ms"
                case.validate_response(case.call(**how), checks=CHECKS)

            with contextlib.suppress(Unsatisfiable):  # nothing about this operation can be wrong
                check()
    assert "Traceback" not in (served.directory / "log").read_text()
    return calls


def test_the_document_is_what_the_controller_does(served: Served) -> None:
    assert exercise(served, 3) > 200


@pytest.mark.slow
def test_the_document_is_what_the_controller_does_at_length(served: Served) -> None:
    assert exercise(served, 60) > 4000
