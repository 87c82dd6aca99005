"""The API under arbitrary bodies: it answers each with a problem or takes it, and goes on."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.agent_kit import AgentHost, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False),
    st.text(max_size=8),
    st.sampled_from(
        ["02:00:00:00:00:01", "10.1.0.2", "10.1.0.0/16", "::1", "hv1", "n", "p1", "shop", "club", 5001, 16777216]
    ),
)
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
)


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        one.start()
        one.client.put(state(), wait=5)
        yield one
        text = one.log.read_text()
        assert "Traceback" not in text and "internal-error" not in text, text[-3000:]
    finally:
        one.close()


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


@st.composite
def mutated(draw: st.DrawFn, value: Any) -> Any:
    """A JSON value with up to three places replaced, removed or added."""
    value = msgspec.json.decode(msgspec.json.encode(value))
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from(list(places(value))))
        if not path:
            if draw(st.integers(0, 9)) == 0:
                return draw(JSON)
            continue
        inner = value
        for step in path[:-1]:
            inner = inner[step]
        if isinstance(inner, dict) and draw(st.booleans()):
            moved = inner.pop(path[-1])
            if draw(st.booleans()):
                inner[draw(st.sampled_from(["p1", "hv1", "n", "", "name", "x" * 80, "é"]))] = moved
        else:
            inner[path[-1]] = draw(JSON)
    return value


def send(host: AgentHost, method: str, path: str, body: bytes) -> int:
    connection = http.client.HTTPConnection("localhost", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(host.client.address))
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        answer = msgspec.json.decode(response.read())
    finally:
        connection.close()
    assert response.status < 500, answer
    assert response.status < 300 or answer["detail"]
    return response.status


REVISIONS = st.integers(1, 6)
PATCH = {
    "previous": 1,
    "revision": 2,
    "ports": {"p1": msgspec.to_builtins(state().ports["p1"]), "p2": None},
    "networks": {"m": {"vni": 5002, "subnets": [{"cidr": "10.2.0.0/24"}]}},
    "hosts": {"hv9": "10.0.0.99"},
}
EASY = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@EASY
@given(
    body=mutated(msgspec.to_builtins(state(remote=2))), revision=REVISIONS, flags=st.sampled_from(["", "?dry_run=true"])
)
def test_put(host: AgentHost, body: Any, revision: int, flags: str) -> None:
    if isinstance(body, dict) and body.get("revision") == 1:
        body["revision"] = revision
    send(host, "PUT", f"/v1/vpcs/shop{flags}", msgspec.json.encode(body))


@EASY
@given(body=mutated(PATCH), revision=REVISIONS)
def test_patch(host: AgentHost, body: Any, revision: int) -> None:
    if isinstance(body, dict) and body.get("previous") == 1:
        body |= {"previous": revision, "revision": revision + 1}
    send(host, "PATCH", "/v1/vpcs/shop", msgspec.json.encode(body))


@EASY
@given(
    body=mutated(
        [
            {"op": "put", "vpc": "shop", "body": msgspec.to_builtins(state())},
            {"op": "patch", "vpc": "shop", "body": PATCH},
            {"op": "delete", "vpc": "shop"},
            {"op": "put", "vpc": "club", "body": msgspec.to_builtins(state("club", vni=6001))},
        ]
    )
)
def test_batch(host: AgentHost, body: Any) -> None:
    send(host, "POST", "/v1/batch", msgspec.json.encode(body))


@EASY
@given(
    body=st.binary(max_size=200),
    path=st.sampled_from(["/v1/vpcs/shop", "/v1/vpcs/%00", "/v1/vpcs/..%2f..", "/v1/batch"]),
)
def test_bytes(host: AgentHost, body: bytes, path: str) -> None:
    send(host, "POST" if path == "/v1/batch" else "PUT", path, body)


def test_after_all_that_the_switch_is_as_told(host: AgentHost) -> None:
    until(lambda: all(vpc["enforced"] == vpc["revision"] for vpc in host.client.vpcs().values()))
    assert sorted(flow["ofctl"] for flow in host.client.flows()) == sorted(
        flow["ofctl"] for flow in host.client.flows(source="switch")
    )
    host.client.put(msgspec.structs.replace(state("last", vni=9999), revision=1), wait=5)
    assert host.client.vpcs()["last"]["enforced"] == 1
