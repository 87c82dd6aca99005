"""The API by TLS: only callers with a certificate of their authority get in, and their name is the owner."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from ovsnet.agent.client import AgentClient, AgentUnreachable, Credentials
from ovsnet.errors import UserError
from tests.agent_kit import AgentHost
from tests.tls_kit import Authority, start_by_tls

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> tuple[Authority, Authority]:
    directory = tmp_path_factory.mktemp("pki")
    return Authority(directory, "hosts"), Authority(directory, "callers")


@pytest.fixture(scope="module")
def running(authorities: tuple[Authority, Authority]) -> Iterator[tuple[AgentHost, str]]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one, start_by_tls(one, *authorities)
    finally:
        one.close()


def caller(
    authorities: tuple[Authority, Authority], url: str, issuer: Authority, name: str, *, expired: bool = False
) -> AgentClient:
    """A client with a certificate of ``issuer``; it holds the agent to the authority of hosts."""
    theirs = issuer.issue(name, x509.UniformResourceIdentifier(f"ovsnet:caller:{name}"), expired=expired)
    return AgentClient(url, 10, credentials=Credentials(theirs.cert, theirs.key, authorities[0].ca))


def test_a_caller_gets_in_and_owns_what_it_makes(
    running: tuple[AgentHost, str], authorities: tuple[Authority, Authority]
) -> None:
    host, url = running
    with caller(authorities, url, authorities[1], "cloud") as client:
        assert client.host()["host"] == "hv1"
        client.put_object("shop", "networks", "n", {"vni": 5001}, wait=20)
        assert client.vpc("shop").owner == "cloud"
        client.delete("shop", wait=20)
    assert host.client.host()["vpcs"] == {}, "the socket is the same agent"


def test_the_name_of_the_host_is_held_to(
    running: tuple[AgentHost, str], authorities: tuple[Authority, Authority]
) -> None:
    theirs = authorities[1].issue("named")
    credentials = Credentials(theirs.cert, theirs.key, authorities[0].ca)
    assert AgentClient(running[1], 10, credentials=credentials, name="hv1").host()["host"] == "hv1"
    with pytest.raises(AgentUnreachable, match=r"(?i)hostname mismatch"):
        AgentClient(running[1], 10, credentials=credentials, name="hv2").host()


@pytest.mark.parametrize("who", ["host", "stranger", "expired"])
def test_other_certificates_do_not_open_the_api(
    who: str, running: tuple[AgentHost, str], authorities: tuple[Authority, Authority], tmp_path: Path
) -> None:
    issuers = {"host": authorities[0], "stranger": Authority(tmp_path, "callers"), "expired": authorities[1]}
    with (
        caller(authorities, running[1], issuers[who], "mallory", expired=who == "expired") as client,
        pytest.raises(AgentUnreachable),
    ):
        client.host()
    with caller(authorities, running[1], authorities[1], "cloud") as client:
        assert client.ready()["ready"], "a good one still does"


def test_no_certificate_does_not_open_the_api(
    running: tuple[AgentHost, str], authorities: tuple[Authority, Authority]
) -> None:
    with pytest.raises(UserError, match="needs the certificate"):
        AgentClient(running[1])
    address, _, port = running[1].removeprefix("https://").partition(":")
    context = ssl.create_default_context(cafile=str(authorities[0].ca))
    request, answer = b"GET /healthz HTTP/1.1\r\nHost: hv1\r\n\r\n", b""
    # In TLS 1.3 the client hears only after its own part of the handshake that it is refused.
    with (
        socket.create_connection((address, int(port)), 10) as plain,
        contextlib.suppress(OSError),
        context.wrap_socket(plain, server_hostname="hv1") as secured,
    ):
        secured.sendall(request)
        answer = secured.recv(100)
    assert answer == b""
    with socket.create_connection((address, int(port)), 10) as plain:
        plain.sendall(request)
        assert b"200" not in plain.recv(100), "nothing is said in the clear"


def test_options_that_do_not_belong_together_are_told(running: tuple[AgentHost, str]) -> None:
    for extra, text in (
        (["--listen", "127.0.0.1:0"], "--listen needs --tls-cert"),
        (["--tls-ca", "x.pem"], "are for --listen"),
        (["--listen", "here", "--tls-cert", "a", "--tls-key", "b", "--tls-ca", "c"], "give ADDRESS:PORT"),
    ):
        done = subprocess.run(running[0].argv(*extra), capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert text in done.stderr
