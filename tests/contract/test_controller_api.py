"""The controller's API, by its real process, on its unix socket and by TLS."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.dissemination.agents import AgentApi
from benchmarks.dissemination.holding import Tally
from ovsnet.controller.client import ControllerClient
from ovsnet.http.client import ServiceError
from ovsnet.transport.messages import HEADER, PROTOCOL
from tests.agent_kit import until
from tests.controller_kit import controller

WEB = {"subnets": [{"cidr": "10.1.0.0/24"}]}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControllerClient]:
    with controller(tmp_path_factory.mktemp("controller")) as client:
        for number in (1, 2, 3):
            client.put_host(f"h{number}", {"vtep": f"10.0.0.{number}"})
        yield client


@pytest.fixture
def client(shared: ControllerClient) -> ControllerClient:
    """The shared controller with an empty VPC shop that has a network web."""
    shared.delete_vpc("shop", adopt=True)
    shared.put("shop", "networks", "web", WEB)
    return shared


def refused(call: Any) -> ServiceError:
    with pytest.raises(ServiceError) as found:
        call()
    return found.value


def revision(client: ControllerClient) -> int:
    found: int = client.vpcs()["shop"]["revision"]
    return found


def test_what_is_left_out_is_assigned_once_and_kept(client: ControllerClient) -> None:
    answer = client.put("shop", "ports", "a", {"network": "web", "host": "h1"})
    assert answer["assigned"]["ports"] == {"shop/a": ["10.1.0.2"]}
    held = client.get("shop", "ports", "a")["declared"]
    assert not client.put("shop", "ports", "a", {"network": "web", "host": "h1"})["changed"]
    client.put("shop", "ports", "a", {"network": "web", "host": "h2"})
    assert client.get("shop", "ports", "a")["declared"] == {**held, "host": "h2", "epoch": 1}
    assert client.vpc("shop")["hosts"] == {"h2": "10.0.0.2"}


def test_a_released_address_rests(client: ControllerClient) -> None:
    client.put("shop", "ports", "a", {"network": "web", "host": "h1"})
    client.delete("shop", "ports", "a")
    client.put("shop", "ports", "b", {"network": "web", "host": "h1"})
    assert client.get("shop", "ports", "b")["declared"]["ips"] == ["10.1.0.3"]


def test_manners_of_a_write(client: ControllerClient) -> None:
    port = {"network": "web", "host": "h1"}
    first = revision(client)
    preview = client.put("shop", "ports", "a", port, dry_run=True)
    assert preview["differences"] == [{"path": "vpcs.shop.ports.a", "change": "create"}]
    assert revision(client) == first
    late = client.put("shop", "ports", "a", port, wait=0.05)
    assert late["late"] == {"h1": "has not reported since the controller started"}
    stale = refused(lambda: client.put("shop", "ports", "a", {**port, "host": "h2"}, if_match=first))
    assert (stale.status, stale.code, stale.problem["current"]) == (412, "precondition-failed", first + 1)
    client.put("shop", "ports", "a", {**port, "host": "h2"}, if_match=first + 1)
    old = refused(lambda: client.put("shop", "ports", "b", {**port, "host": "h9"}))
    assert (old.status, old.problem["problems"][0]["path"]) == (422, "vpcs.shop.ports.b.host")
    unknown = refused(lambda: client.put("shop", "ports", "a", port, colour="red"))
    assert (unknown.status, unknown.code) == (400, "unknown-parameter")
    assert revision(client) == first + 2
    assert not client.delete("shop", "ports", "nobody")["changed"]


def test_an_older_placement_is_refused(client: ControllerClient) -> None:
    port = {"network": "web", "host": "h1"}
    client.put("shop", "ports", "a", port)
    client.place([{"port": "shop/a", "host": "h2"}])
    client.place([{"port": "shop/a", "host": "h3"}])
    stale = refused(lambda: client.put("shop", "ports", "a", {**port, "epoch": 1}))
    assert (stale.status, stale.code) == (409, "stale-epoch")
    assert client.get("shop", "ports", "a")["declared"]["host"] == "h3"


def test_owners_live_side_by_side(client: ControllerClient) -> None:
    client.put("shop", "ports", "a", {"network": "web", "host": "h1"})
    client.put("shop", "ports", "b", {"network": "web", "host": "h1"}, owner="nova")
    foreign = refused(lambda: client.put("shop", "ports", "b", {"network": "web", "description": "mine"}))
    assert (foreign.status, foreign.code) == (409, "foreign-owner")
    assert "belongs to nova" in str(foreign)
    client.put_vpc("shop", {"networks": {"web": WEB}, "ports": {}})
    assert client.vpc("shop")["ports"].keys() == {"b"}
    client.put("shop", "ports", "b", {"network": "web", "description": "mine"}, adopt=True)
    assert client.get("shop", "ports", "b")["owner"] == "api"
    used = refused(lambda: client.delete("shop", "networks", "web"))
    assert (used.status, used.code, used.problem["referrers"]) == (409, "in-use", ["ports.b"])


def test_a_model_is_applied_as_its_owner(client: ControllerClient) -> None:
    client.put("shop", "ports", "keep", {"network": "web", "host": "h1"})
    model = {"version": 1, "name": "file", "vpcs": {"lab": {"networks": {"net": WEB}, "ports": {}}}}
    model["vpcs"]["lab"]["ports"] = {"x": {"network": "net", "host": "h1"}, "y": {"network": "net"}}  # type: ignore[index]
    assert client.apply(model, dry_run=True)["changed"]
    assert client.apply(model)["assigned"]["ports"].keys() == {"lab/x", "lab/y"}
    assert not client.apply(model)["changed"]
    del model["vpcs"]["lab"]["ports"]["y"]  # type: ignore[index]
    client.apply(model)
    assert client.vpc("lab")["ports"].keys() == {"x"}
    client.apply({"version": 1, "name": "file"})
    assert "lab" not in client.vpcs()
    assert client.get("shop", "ports", "keep")["owner"] == "api"


def test_a_move_and_a_rollback_that_keeps_placements(client: ControllerClient) -> None:
    client.put("shop", "ports", "a", {"network": "web", "host": "h1", "description": "first"})
    first = revision(client)
    client.put("shop", "ports", "a", {"network": "web", "host": "h1", "description": "second"})
    client.put("shop", "ports", "b", {"network": "web", "host": "h1"})
    client.prepare("shop", "a", "h2")
    assert client.vpc("shop")["hosts"].keys() == {"h1", "h2"}
    client.activate("shop", "a")
    client.rollback("shop", first)
    ports = client.vpc("shop")["ports"]
    assert ports.keys() == {"a"}
    assert (ports["a"]["description"], ports["a"]["host"], ports["a"]["epoch"]) == ("first", "h2", 1)
    assert client.history("shop")[0]["revision"] == revision(client) == first + 5


RULE = {"direction": "ingress", "protocol": "tcp", "port": 3306, "remote": {"group": "web"}}


def test_groups_are_objects_with_owners_history_and_users(client: ControllerClient) -> None:
    client.put("shop", "address-groups", "office", ["198.51.100.0/24", "192.0.2.7"])
    assert not client.put("shop", "address-groups", "office", ["198.51.100.0/24", "192.0.2.7/32"])["changed"]
    client.put("shop", "security-groups", "web", {"rules": []})
    client.put("shop", "security-groups", "db", {"rules": [RULE], "default_egress": "deny"}, owner="nova")
    assert client.get("shop", "security-groups", "db") == {"rules": [RULE], "default_egress": "deny"}
    assert client.get("shop", "address-groups", "office") == ["198.51.100.0/24", "192.0.2.7/32"]
    assert client.vpc("shop")["owners"] == {"security_groups/db": "nova"}
    foreign = refused(lambda: client.put("shop", "security-groups", "db", {"rules": []}))
    assert (foreign.status, foreign.code) == (409, "foreign-owner")
    assert "security group shop/db belongs to nova" in str(foreign)
    before = revision(client)
    client.put("shop", "ports", "a", {"network": "web", "host": "h1", "security_groups": ["web", "db"]})
    used = refused(lambda: client.delete("shop", "security-groups", "web"))
    assert (used.status, used.code) == (409, "in-use")
    assert used.problem["referrers"] == ["ports.a", "security_groups.db.rules[0]"]
    unknown = refused(lambda: client.put("shop", "ports", "b", {"network": "web", "security_groups": ["wbe"]}))
    found = unknown.problem["problems"][0]
    assert (found["code"], found["path"]) == ("unknown-security-group", "vpcs.shop.ports.b.security_groups[0]")
    mixed = refused(lambda: client.put("shop", "security-groups", "web", {"stateful": False}))
    assert [one["code"] for one in mixed.problem["problems"]] == ["mixed-stateful"]
    assert mixed.problem["problems"][0]["path"] == "vpcs.shop.ports.a.security_groups"
    wrong = refused(lambda: client.put("shop", "address-groups", "office", {"ranges": []}))
    assert (wrong.status, wrong.code) == (422, "wrong-structure")
    assert (client.vpcs()["shop"]["security_groups"], client.vpcs()["shop"]["address_groups"]) == (2, 1)
    client.call("POST", "/v1/vpcs/shop/rollback?adopt=true", {"revision": before - 1})
    assert client.vpc("shop")["security_groups"].keys() == {"web"}
    assert "ports" not in client.vpc("shop")


def test_a_model_s_groups_are_applied_and_go_with_it(client: ControllerClient) -> None:
    vpc = {"networks": {"net": WEB}, "security_groups": {"web": {}, "db": {"rules": [RULE]}}}
    ports = {"x": {"network": "net", "host": "h1", "security_groups": ["web"]}}
    model = {
        "version": 1,
        "name": "file",
        "vpcs": {"lab": vpc | {"ports": ports, "address_groups": {"o": ["10.0.0.0/8"]}}},
    }
    client.apply(model)
    assert client.vpc("lab")["security_groups"].keys() == {"web", "db"}
    assert client.vpc("lab")["address_groups"] == {"o": ["10.0.0.0/8"]}
    assert not client.apply(model)["changed"]
    assert client.call("GET", "/v1/model")["vpcs"]["lab"]["security_groups"] == {"web": {}, "db": {"rules": [RULE]}}
    fewer = {"version": 1, "name": "file", "vpcs": {"lab": {"networks": {"net": WEB}, "ports": {}}}}
    paths = [one["path"] for one in client.apply(fewer, dry_run=True)["differences"]]
    assert "vpcs.lab.security_groups.db" in paths and "vpcs.lab.address_groups.o" in paths
    client.apply(fewer)
    assert "security_groups" not in client.vpc("lab")
    client.apply({"version": 1, "name": "file"})


DB = {"subnets": [{"cidr": "10.2.0.0/24"}]}
R1 = {"networks": ["web", "db"], "routes": [{"to": "10.50.0.0/16", "via": {"port": "fw"}}]}


def test_routers_are_objects_with_vnis_owners_history_and_users(client: ControllerClient) -> None:
    client.put("shop", "networks", "db", DB)
    client.put("shop", "ports", "fw", {"network": "web", "host": "h1"})
    answer = client.put("shop", "routers", "r1", R1, owner="nova")
    vni = answer["assigned"]["routers"]["shop/r1"]
    assert vni not in {one["vni"] for one in client.vpc("shop")["networks"].values()}
    assert not client.put("shop", "routers", "r1", R1, owner="nova")["changed"], "its VNI is kept"
    assert client.get("shop", "routers", "r1") == {"vni": vni, **R1}
    assert client.vpc("shop")["routers"] == {"r1": {"vni": vni, **R1}}
    assert client.vpc("shop")["owners"] == {"routers/r1": "nova"}
    assert client.vpcs()["shop"]["routers"] == 1
    foreign = refused(lambda: client.put("shop", "routers", "r1", {"networks": []}))
    assert (foreign.status, foreign.code) == (409, "foreign-owner")
    before = revision(client)
    used = refused(lambda: client.delete("shop", "ports", "fw"))
    assert (used.status, used.code, used.problem["referrers"]) == (409, "in-use", ["routers.r1.routes[0]"])
    used = refused(lambda: client.delete("shop", "networks", "db"))
    assert (used.code, used.problem["referrers"]) == ("in-use", ["routers.r1"])
    gateway = refused(lambda: client.put("shop", "ports", "x", {"network": "db", "ips": ["10.2.0.1"]}))
    assert [one["code"] for one in gateway.problem["problems"]] == ["reserved-address"]
    assert gateway.problem["problems"][0]["path"] == "vpcs.shop.ports.x.ips[0]"
    twice = refused(lambda: client.put("shop", "routers", "r2", {"networks": ["db"]}))
    assert [one["code"] for one in twice.problem["problems"]] == ["network-joined-twice"]
    assert revision(client) == before
    client.delete("shop", "routers", "r1", adopt=True)
    assert [client.history("shop")[at]["changes"] for at in (0, 1)] == [{"routers": 1}, {"routers": 1}]
    client.rollback("shop", before)
    assert client.get("shop", "routers", "r1") == {"vni": vni, **R1}
    assert client.vpc("shop")["owners"] == {"routers/r1": "nova"}


def test_a_model_s_routers_are_applied_and_go_with_it(client: ControllerClient) -> None:
    ports = {"fw": {"network": "web", "host": "h1"}}
    vpc = {"networks": {"web": WEB, "db": DB}, "ports": ports, "routers": {"r1": R1}}
    model = {"version": 1, "name": "file", "vpcs": {"lab": vpc}}
    vni = client.apply(model)["assigned"]["routers"]["lab/r1"]
    assert not client.apply(model)["changed"]
    assert client.call("GET", "/v1/model")["vpcs"]["lab"]["routers"] == {"r1": {"vni": vni, **R1}}
    alone = {"version": 1, "name": "file", "vpcs": {"lab": vpc | {"routers": {"r1": {"networks": ["web"]}}}}}
    assert client.apply(alone, dry_run=True)["differences"] == [{"path": "vpcs.lab.routers.r1", "change": "change"}]
    fewer = {"version": 1, "name": "file", "vpcs": {"lab": {"networks": {"web": WEB}}}}
    paths = {one["path"]: one["change"] for one in client.apply(fewer, dry_run=True)["differences"]}
    assert paths["vpcs.lab.routers.r1"] == "delete"
    client.apply(fewer)
    assert "routers" not in client.vpc("lab")
    client.apply({"version": 1, "name": "file"})


def test_a_batch_is_all_or_nothing(client: ControllerClient) -> None:
    bad = {"ports": {"a": {"network": "web"}, "b": {"network": "nowhere"}}}
    put = {"op": "put", "vpc": "other", "body": {"networks": {"net": WEB}}}
    assert refused(lambda: client.batch([put, {"op": "patch", "vpc": "shop", "body": bad}])).status == 422
    assert "other" not in client.vpcs()
    client.batch([put, {"op": "patch", "vpc": "shop", "body": {"ports": {"a": {"network": "web"}}}}])
    assert "other" in client.vpcs()
    client.batch([{"op": "delete", "vpc": "other"}])
    assert "other" not in client.vpcs()


def test_all_nics_of_a_machine(client: ControllerClient) -> None:
    nic = {"vpc": "shop", "name": "n1", "port": {"network": "web", "host": "h1"}}
    client.call("PUT", "/v1/workloads/vm1", {"nics": [nic, {**nic, "name": "n2"}]})
    client.call("PUT", "/v1/workloads/vm1", {"nics": [nic]})
    assert [one["name"] for one in client.call("GET", "/v1/workloads/vm1")["nics"]] == ["n1"]
    client.call("DELETE", "/v1/workloads/vm1")
    assert refused(lambda: client.call("GET", "/v1/workloads/vm1")).code == "unknown-workload"


def test_calls_are_audited_and_commits_are_events(client: ControllerClient) -> None:
    seen: list[tuple[int, str, Any]] = []
    follower = ControllerClient(client.address)
    thread = threading.Thread(target=lambda: seen.append(next(follower.follow())), daemon=True)
    thread.start()
    time.sleep(0.3)
    tx = client.put("shop", "ports", "a", {"network": "web"})["tx"]
    thread.join(5)
    assert seen[0][1] == "commit" and seen[0][2]["tx"] == tx
    refused(lambda: client.delete_host("h1", owner="you"))
    entries = client.audit(100)
    assert ("foreign-owner", "DELETE /v1/hosts/h1?owner=you") in {(one["outcome"], one["what"]) for one in entries}
    assert tx in {one["tx"] for one in entries if one["outcome"] == "done"}


def test_what_was_answered_survives_a_kill(tmp_path: Path) -> None:
    with controller(tmp_path, ends=-signal.SIGKILL) as client:
        client.put("shop", "networks", "web", WEB)
        client.put("shop", "ports", "a", {"network": "web"})
        held = client.vpc("shop")
        os.kill(int((tmp_path / "controller.pid").read_text()), signal.SIGKILL)
    with controller(tmp_path) as client:
        assert client.vpc("shop") == held


LATER: dict[str, tuple[str, str, Any]] = {
    "a model": ("POST", "/v1/apply", {"version": 1, "name": "m", "later": 1}),
    "a VPC": ("PUT", "/v1/vpcs/shop", {"later": 1}),
    "a host": ("PUT", "/v1/hosts/h1", {"vtep": "10.0.0.99", "later": 1}),
    "the underlay": ("PUT", "/v1/underlay", {"mtu": 9000, "later": 1}),
    "a batch's item": ("POST", "/v1/batch", [{"op": "delete", "vpc": "shop", "later": 1}]),
    "a batch's change": ("POST", "/v1/batch", [{"op": "patch", "vpc": "shop", "body": {"later": 1}}]),
    "a placement": ("POST", "/v1/placements", [{"port": "shop/a", "host": None, "later": 1}]),
    "a workload": ("PUT", "/v1/workloads/vm", {"nics": [], "later": 1}),
    "a port": ("PUT", "/v1/vpcs/shop/ports/a", {"network": "web", "later": 1}),
    "prepare": ("POST", "/v1/vpcs/shop/ports/a/prepare", {"host": "h2", "later": 1}),
    "rollback": ("POST", "/v1/vpcs/shop/rollback", {"revision": 1, "later": 1}),
}
"""Requests of a client of a later version: each with a field that this controller does not know."""


@pytest.mark.parametrize("what", LATER)
def test_what_it_does_not_know_in_a_request_is_refused(client: ControllerClient, what: str) -> None:
    client.put("shop", "ports", "a", {"network": "web", "host": "h1"})
    before = (client.vpcs(), client.hosts())
    found = refused(lambda: client.call(*LATER[what]))
    assert found.status == 422
    assert "later" in str(found)
    assert (client.vpcs(), client.hosts()) == before


def test_a_request_in_a_version_that_it_does_not_speak_is_refused(client: ControllerClient) -> None:
    later = {HEADER: str(PROTOCOL + 1)}
    for method, path in (("GET", "/v1/vpcs"), ("DELETE", "/v1/vpcs/shop")):
        found = refused(lambda method=method, path=path: client.call(method, path, headers=later))
        assert (found.status, found.code) == (400, "unknown-protocol")
    assert "shop" in client.vpcs()
    assert client.call("GET", "/v1/vpcs", headers={HEADER: str(PROTOCOL)}) == client.vpcs()


def test_log_lines_name_what_they_are_about(tmp_path: Path) -> None:
    with controller(tmp_path, "--direct", "--log-json") as client:
        client.put_host("h1", {"vtep": "10.0.0.1", "agent": f"unix:{tmp_path / 'nobody.sock'}"})
        until(lambda: "out of contact" in (tmp_path / "log").read_text())
    lines = [msgspec.json.decode(line) for line in (tmp_path / "log").read_text().splitlines()]
    gone = [line for line in lines if "out of contact" in line["message"]]
    assert {(line["host"], line["object"]) for line in gone} == {("h1", "hosts.h1")}
    assert not any("host" in line or "vpc" in line for line in lines if "serving" in line["message"])


def test_a_host_that_could_not_be_called_is_refused(client: ControllerClient) -> None:
    before = client.hosts()
    found = refused(lambda: client.put_host("h9", {"vtep": "10.0.0.9", "agent": "http://10.0.0.9"}))
    assert found.status == 422
    assert [(one["code"], one["path"]) for one in found.problem["problems"]] == [("invalid-agent", "hosts.h9.agent")]
    assert client.hosts() == before


def test_contact_with_a_host_is_an_event(tmp_path: Path) -> None:
    """Nobody there, one that speaks the next version only, one of today's, and nobody again."""
    with controller(tmp_path, "--direct") as client:
        since = client_serial(client)
        client.put_host("h1", {"vtep": "10.0.0.1", "agent": f"unix:{tmp_path / 'h1.sock'}"})
        events = (data for _, kind, data in ControllerClient(client.address).follow(since) if kind == "host")
        assert next(events)["state"] == "lost"
        asyncio.run(_live_and_die(tmp_path / "h1.sock", events))


async def _live_and_die(path: Path, events: Iterator[Any]) -> None:
    """Be h1 for a while."""

    async def told() -> tuple[str, str]:
        event = await asyncio.wait_for(asyncio.to_thread(lambda: next(events)), 10)
        assert event["host"] == "h1"
        return event["state"], event["reason"]

    api = AgentApi("h1", Tally())
    api.protocols = (PROTOCOL + 1,)
    server = await api.serve(path.with_suffix(".new"))
    path.with_suffix(".new").rename(path)  # nobody finds it before it listens
    state, reason = await told()
    assert (state, "no common version" in reason) == ("refused", True)
    api.protocols = (PROTOCOL,)
    assert await told() == ("back", "")
    while not api.streams:  # the controller begins to listen while it still looks at what the host holds
        await asyncio.sleep(0.01)
    server.close()
    for stream in api.streams:
        stream.close()
    state, reason = await told()
    assert state == "lost"
    assert reason


def client_serial(client: ControllerClient) -> int:
    """The serial of the last event."""
    with contextlib.closing(http.client.HTTPConnection("localhost")) as connection:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(client.address)
        connection.request("GET", "/v1/events")
        return int(connection.getresponse().readline().split()[-1])


def test_two_controllers_on_one_store(tmp_path: Path) -> None:
    """What the other one has taken is a conflict, which names who has it."""
    first, second = tmp_path / "one", tmp_path / "two"
    first.mkdir()
    second.mkdir()
    (second / "c.db").symlink_to(first / "c.db")
    with controller(first) as one, controller(second) as two:
        one.put("shop", "networks", "web", {**WEB, "vni": 5001})
        found = refused(lambda: two.put("bank", "networks", "web", {**WEB, "vni": 5001}))
        assert (found.status, found.code) == (409, "taken")
        assert "5001 is already the VNI of vpcs.shop.networks.web" in str(found)
        assert [one["path"] for one in found.problem["problems"]] == ["vpcs.bank.networks.web.vni"]
        assert two.put("bank", "networks", "web", WEB)["assigned"]["networks"] == {"bank/web": 10000}
