"""The hypervisor's API, spoken to over its socket: revisions, conflicts, problems, dry runs, batches."""

from __future__ import annotations

import http.client
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ovsnet.agent.client import AgentClient, AgentError
from ovsnet.model import Network, Subnet, VpcState
from ovsnet.transport.messages import HEADER, PROTOCOL
from tests.agent_kit import HOSTS, AgentHost, port, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture(scope="module")
def running() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one.start()
    finally:
        one.close()


@pytest.fixture
def host(running: AgentHost) -> Iterator[AgentHost]:
    yield running
    for vpc in running.client.vpcs():
        running.client.delete(vpc, wait=5)


def raw(host: AgentHost, method: str, path: str, body: bytes | str | None = None) -> tuple[int, str, Any]:
    """One request as it stands: status, content type, decoded body."""
    connection = http.client.HTTPConnection("localhost", timeout=10)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(host.client.address))
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.headers.get("content-type", ""), msgspec.json.decode(response.read())
    finally:
        connection.close()


def refused(call: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        call()
    return caught.value


def test_socket_is_for_owner_and_group(host: AgentHost) -> None:
    assert stat.S_IMODE(Path(host.client.address).stat().st_mode) == 0o660


def test_put_is_idempotent_and_revisions_only_rise(host: AgentHost) -> None:
    assert host.client.put(state(revision=5), wait=5)["changed"]
    assert not host.client.put(state(revision=5), wait=5)["changed"]
    error = refused(lambda: host.client.put(state(revision=4)))
    assert (error.status, error.code, error.problem["current"]) == (409, "stale-revision", 5)
    error = refused(lambda: host.client.put(state(revision=5, remote=2)))
    assert (error.status, error.code) == (409, "revision-reused")
    assert host.client.vpc("shop") == state(revision=5)
    assert host.client.vpcs()["shop"]["enforced"] == 5


def test_vpc_belongs_to_its_owner(host: AgentHost) -> None:
    host.client.put(state(), wait=5)
    other = msgspec.structs.replace(state(revision=2), owner="someone")
    error = refused(lambda: host.client.put(other))
    assert (error.status, error.code) == (409, "foreign-owner")
    assert "belongs to tests" in str(error)
    assert host.client.put(other, adopt=True, wait=5)["vpcs"]["shop"]["enforced"] == 2


def test_patch_adds_changes_and_removes(host: AgentHost) -> None:
    host.client.put(state(remote=3), wait=5)
    flows = len(host.flows())
    change = {"previous": 1, "revision": 2, "ports": {"p2": None, "p9": port("shop", 9, "hv3")}}
    assert host.client.patch("shop", change, wait=5)["vpcs"]["shop"] == {"revision": 2, "enforced": 2, "held": None}
    assert sorted(host.client.vpc("shop").ports) == ["p1", "p3", "p4", "p9"]
    assert len(host.flows()) == flows
    assert not host.client.patch("shop", change, wait=5)["changed"], "again is harmless"
    extra = {"m": Network(vni=5002, subnets=(Subnet(cidr="10.2.0.0/24"),))}
    host.client.patch("shop", {"previous": 2, "revision": 3, "networks": extra, "hosts": {"hv4": "10.0.0.14"}}, wait=5)
    assert host.client.vpc("shop").hosts["hv4"] == "10.0.0.14"
    host.client.patch("shop", {"previous": 3, "revision": 4, "networks": {"m": None}, "hosts": {"hv4": None}}, wait=5)
    assert host.client.vpc("shop").networks.keys() == {"n"}


def test_patch_that_does_not_follow_is_a_gap(host: AgentHost) -> None:
    error = refused(lambda: host.client.patch("shop", {"previous": 1, "revision": 2}))
    assert (error.status, error.code) == (409, "unknown-vpc")
    host.client.put(state(revision=4), wait=5)
    error = refused(lambda: host.client.patch("shop", {"previous": 5, "revision": 6}))
    assert (error.status, error.code, error.problem["current"]) == (409, "revision-gap", 4)
    error = refused(lambda: host.client.patch("shop", {"previous": 4, "revision": 4, "ports": {"p1": None}}))
    assert (error.status, error.code) == (409, "stale-revision")


@pytest.mark.parametrize(
    ("ports", "code"),
    [
        ({"p7": {"mac": "02:00:00:00:00:02"}}, "duplicate-mac"),
        ({"p7": {"ips": ["10.1.0.4"]}}, "duplicate-address"),
        ({"p7": {"ips": ["10.9.0.4"]}}, "address-outside-subnet"),
        ({"p7": {"network": "nowhere"}}, "unknown-network"),
        ({"p7": {"host": "hv9"}}, "unknown-host"),
        ({"p7": {"mac": "ff:ff:ff:ff:ff:ff"}}, "invalid-mac"),
        ({"P 7": {}}, "invalid-name"),
        ({"p7": {}, "p8": {"mac": "02:00:00:00:00:07"}}, "duplicate-mac"),
        ({"p7": {"id": "ID-OF-P1"}}, "duplicate-id"),
    ],
)
def test_wrong_patch_changes_nothing(host: AgentHost, ports: dict[str, dict[str, Any]], code: str) -> None:
    host.client.put(state(), wait=5)
    before = host.flows()
    bodies = {}
    for number, (name, fields) in enumerate(ports.items(), 7):
        good = msgspec.to_builtins(port("shop", number))
        bodies[name] = good | {k: port("shop", 1).id if v == "ID-OF-P1" else v for k, v in fields.items()}
    error = refused(lambda: host.client.patch("shop", {"previous": 1, "revision": 2, "ports": bodies}))
    assert (error.status, error.code) == (422, "invalid-model")
    assert [problem["code"] for problem in error.problem["problems"]] == [code]
    assert host.client.vpc("shop") == state()
    assert host.flows() == before


def test_address_moves_between_ports_in_one_patch(host: AgentHost) -> None:
    host.client.put(state(remote=2), wait=5)
    moved = msgspec.structs.replace(port("shop", 9), mac=port("shop", 2).mac, ips=port("shop", 2).ips)
    host.client.patch("shop", {"previous": 1, "revision": 2, "ports": {"p2": None, "p9": moved}}, wait=5)
    again = {"previous": 2, "revision": 3, "ports": {"p10": msgspec.structs.replace(port("shop", 10), mac=moved.mac)}}
    assert refused(lambda: host.client.patch("shop", again)).problem["problems"][0]["code"] == "duplicate-mac"


def test_one_vni_in_two_vpcs_is_refused(host: AgentHost) -> None:
    host.client.put(state("shop"), wait=5)
    before = host.flows()
    error = refused(lambda: host.client.put(state("club")))
    assert (error.status, error.problem["problems"][0]["code"]) == (422, "duplicate-vni")
    assert list(host.client.vpcs()) == ["shop"]
    assert host.flows() == before


def test_batch_is_all_or_nothing(host: AgentHost) -> None:
    good = {"op": "put", "vpc": "shop", "body": state("shop")}
    bad = {"op": "put", "vpc": "club", "body": state("club", vni=5001)}
    assert refused(lambda: host.client.batch([good, bad])).status == 422
    assert host.client.vpcs() == {}
    bad["body"] = state("club", vni=6001)
    answer = host.client.batch([good, bad], wait=5)
    assert {name: vpc["enforced"] for name, vpc in answer["vpcs"].items()} == {"shop": 1, "club": 1}
    patch = {"op": "patch", "vpc": "shop", "body": {"previous": 1, "revision": 2, "ports": {"p2": None}}}
    gap = {"op": "patch", "vpc": "club", "body": {"previous": 3, "revision": 4}}
    assert refused(lambda: host.client.batch([patch, gap])).code == "revision-gap"
    assert host.client.vpcs()["shop"]["revision"] == 1
    host.client.batch([patch, {"op": "delete", "vpc": "club"}], wait=5)
    assert host.client.vpcs()["shop"]["enforced"] == 2
    assert list(host.client.vpcs()) == ["shop"]


def test_vni_moves_between_vpcs_in_a_batch(host: AgentHost) -> None:
    host.client.put(state("shop"), wait=5)
    give = {"op": "put", "vpc": "shop", "body": state("shop", 2, vni=7001)}
    take = {"op": "put", "vpc": "club", "body": state("club")}
    answer = host.client.batch([give, take], wait=5)
    assert {name: vpc["enforced"] for name, vpc in answer["vpcs"].items()} == {"shop": 2, "club": 1}
    assert host.client.host()["flows"] == len(host.flows())
    owners = {flow["object"].split(".")[1] for flow in host.client.flows(source="switch") if "5001" in flow["text"]}
    assert owners == {"club"}


def test_dry_run_says_what_would_change_and_changes_nothing(host: AgentHost) -> None:
    host.plug("shop", 1)
    host.client.put(state(remote=2), wait=5)
    until(lambda: host.client.port("shop", "p1")["enforced"])
    before = host.flows()
    answer = host.client.put(state(revision=2, remote=3), dry_run=True)
    assert answer["counts"] == {"added": 3, "changed": 0, "removed": 0}
    assert any("vpcs.shop.ports.p4" in line for line in answer["added"])
    moved = {"previous": 1, "revision": 2, "hosts": {"hv2": "10.0.0.99"}}
    assert host.client.patch("shop", moved, dry_run=True)["counts"] == {"added": 0, "changed": 2, "removed": 0}
    flows = host.client.delete("shop", dry_run=True)["counts"]["removed"]
    assert flows == len(host.client.flows(vpc="shop"))
    assert host.client.vpcs()["shop"]["revision"] == 1
    assert host.flows() == before
    host.ovs.vsctl("del-port", "shop-1")


def test_malformed_requests_are_answered_as_problems(host: AgentHost) -> None:
    good = msgspec.json.encode(state()).decode()
    cases = [
        ("PUT", "/v1/vpcs/shop", "", 400, "malformed-json"),
        ("PUT", "/v1/vpcs/shop", "{", 400, "malformed-json"),
        ("PUT", "/v1/vpcs/shop", b"\xff\xfe", 400, "malformed-json"),
        ("PUT", "/v1/vpcs/shop", "[" * 100_000, 422, "invalid-model"),
        ("PUT", "/v1/vpcs/shop", "[]", 422, "invalid-model"),
        ("PUT", "/v1/vpcs/shop", '{"name": "shop", "revision": "x"}', 422, "invalid-model"),
        ("PUT", "/v1/vpcs/shop", '{"name": "shop", "revision": 1, "colour": "red"}', 422, "invalid-model"),
        ("PUT", "/v1/vpcs/club", good, 422, "name-mismatch"),
        ("PUT", "/v1/vpcs/shop?wait=soon", good, 400, "bad-parameter"),
        ("PUT", "/v1/vpcs/shop?dry_run=maybe", good, 400, "bad-parameter"),
        ("PATCH", "/v1/vpcs/shop", '{"previous": 1}', 422, "wrong-structure"),
        ("PATCH", "/v1/vpcs/shop", '{"previous": 1, "revision": 2, "prots": {}}', 422, "wrong-structure"),
        ("POST", "/v1/batch", "{}", 422, "wrong-structure"),
        ("POST", "/v1/batch", '[{"op": "explode", "vpc": "shop"}]', 422, "wrong-structure"),
        ("POST", "/v1/batch", '[{"op": "put", "vpc": "shop"}]', 400, "malformed-json"),
        ("GET", "/v1/vpcs/shop", None, 404, "unknown-vpc"),
        ("GET", "/v1/ports/shop/p1", None, 404, "unknown-vpc"),
        ("GET", "/v1/flows?source=dreams", None, 400, "bad-parameter"),
        ("GET", "/v1/nothing", None, 404, "http-error"),
        ("POST", "/v1/host", None, 405, "http-error"),
    ]
    for method, path, body, status, code in cases:
        found = raw(host, method, path, body)
        assert (found[0], found[2].get("code")) == (status, code), (method, path, body, found)
        assert found[1].startswith("application/problem+json")
        assert found[2]["detail"]
    assert "Traceback" not in host.log.read_text()
    assert host.client.vpcs() == {}


def test_all_problems_of_a_state_are_told_at_once(host: AgentHost) -> None:
    wrong = VpcState(
        name="shop",
        revision=1,
        networks={"n": Network(vni=5001, subnets=(Subnet(cidr="10.1.0.1/16"),))},
        ports={"p1": msgspec.structs.replace(port("shop", 1), host="hv9", mac="nonsense")},
        hosts=HOSTS,
    )
    error = refused(lambda: host.client.put(wrong))
    codes = {problem["code"] for problem in error.problem["problems"]}
    assert codes >= {"host-bits-set", "unknown-host", "invalid-mac"}


def test_port_security_drops_are_counted_against_the_port(host: AgentHost) -> None:
    host.client.put(state(local=2), wait=5)
    host.plug("shop", 1)
    host.plug("shop", 2)
    until(lambda: all(host.client.port("shop", name)["enforced"] for name in ("p1", "p2")))
    frame = "eth(src=02:00:00:00:99:99,dst=02:00:00:00:00:02),eth_type(0x0800),"
    frame += "ipv4(src=10.1.0.3,dst=10.1.0.4,proto=17),udp(src=1,dst=2)"
    for _ in range(3):
        host.ovs.appctl("netdev-dummy/receive", "shop-1", frame)
    until(lambda: host.client.port("shop", "p1")["dropped"] == 3)
    assert host.client.port("shop", "p2")["dropped"] == 0
    host.ovs.vsctl("del-port", "shop-1", "--", "del-port", "shop-2")


LATER: dict[str, tuple[str, str, Any]] = {
    "a state": ("PUT", "/v1/vpcs/shop", {"name": "shop", "revision": 9, "owner": "tests", "later": 1}),
    "a port in a state": (
        *("PUT", "/v1/vpcs/shop"),
        {"name": "shop", "revision": 9, "owner": "tests", "ports": {"p1": {"network": "n", "later": 1}}},
    ),
    "a change": ("PATCH", "/v1/vpcs/shop", {"previous": 1, "revision": 2, "later": {}}),
    "a batch's item": ("POST", "/v1/batch", [{"op": "delete", "vpc": "shop", "later": 1}]),
    "a network": ("PUT", "/v1/vpcs/shop/networks/n?owner=tests", {"vni": 7, "later": 1}),
    "a subnet": ("PUT", "/v1/vpcs/shop/subnets/n:10.7.0.0-16?owner=tests", {"later": 1}),
    "a port": ("PUT", "/v1/vpcs/shop/ports/p9?owner=tests", {"network": "n", "later": 1}),
    "an endpoint": (
        *("PUT", "/v1/vpcs/shop/endpoints/e?owner=tests"),
        {"network": "n", "mac": "02:00:00:00:99:01", "vtep": "10.0.0.99", "later": 1},
    ),
    "a workload": ("PUT", "/v1/workloads/vm", {"nics": [], "later": 1}),
    "plug": ("POST", "/v1/vpcs/shop/ports/p1/plug", {"later": 1}),
    "prepare": ("POST", "/v1/vpcs/shop/ports/p1/prepare", {"host": "hv2", "later": 1}),
    "activate": ("POST", "/v1/vpcs/shop/ports/p1/activate", {"host": "hv2", "later": 1}),
    "confirm": ("POST", "/v1/host/confirm", {"later": 1}),
    "trace": ("POST", "/v1/trace", {"source": "shop/p1", "target": "shop/p2", "later": 1}),
}
"""Requests of a client of a later version: each with a field that this agent does not know."""


@pytest.mark.parametrize("what", LATER)
def test_what_it_does_not_know_in_a_request_is_refused_and_changes_nothing(host: AgentHost, what: str) -> None:
    host.client.put(state(), wait=5)
    before = host.client.vpcs()
    method, path, body = LATER[what]
    status, kind, problem = raw(host, method, path, msgspec.json.encode(body))
    assert (status, kind) == (422, "application/problem+json")
    assert "later" in problem["detail"]
    assert host.client.vpcs() == before


def test_a_request_in_a_version_that_it_does_not_speak_is_refused(host: AgentHost) -> None:
    host.client.put(state(), wait=5)
    assert host.client.host()["protocols"] == [PROTOCOL]
    with AgentClient(host.dir / "run" / "agent.sock") as later:
        later._headers[HEADER] = str(PROTOCOL + 1)
        assert later.ready()["ready"], "health is the same in all versions"
        for call in (later.vpcs, lambda: later.delete("shop")):
            with pytest.raises(AgentError, match=f"version {PROTOCOL} is spoken here") as found:
                call()
            assert (found.value.status, found.value.code) == (400, "unknown-protocol")
    assert "shop" in host.client.vpcs()
