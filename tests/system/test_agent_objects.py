"""The hypervisor's API for single objects: every manner of its writes, workloads, migration, events, traces."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ovsnet.agent.client import AgentClient, AgentError
from ovsnet.model import port_id
from tests.agent_kit import VTEP, AgentHost, port, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NETWORK = {"vni": 5001, "subnets": [{"cidr": "10.1.0.0/16"}]}


@pytest.fixture(scope="module")
def running() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one.start("--audit-interval", "1")
    finally:
        one.close()


@pytest.fixture
def host(running: AgentHost) -> Iterator[AgentHost]:
    yield running
    for vpc in running.client.vpcs():
        running.client.delete(vpc, wait=20)


def refused(call: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        call()
    return caught.value


def nic(number: int, host: str | None = "hv1") -> dict[str, Any]:
    return {"network": "n", "host": host, "ips": [f"10.1.0.{number}"]}


def test_a_vpc_grows_object_by_object(host: AgentHost) -> None:
    client = host.client
    made = client.put_object("shop", "networks", "n", NETWORK, wait=20)
    assert made["vpcs"]["shop"] == {"revision": 1, "enforced": 1, "held": None}
    assert client.vpc("shop").owner == "api"
    assert not client.put_object("shop", "networks", "n", NETWORK)["changed"]
    assert client.put_object("shop", "ports", "web1", nic(11), wait=20)["vpcs"]["shop"]["enforced"] == 2
    assert not client.put_object("shop", "ports", "web1", nic(11))["changed"], "again is harmless"
    assert client.vpc("shop").hosts == {"hv1": VTEP}, "this host knows its own VTEP"
    seen = client.object("shop", "ports", "web1")
    assert seen["declared"]["ips"] == ["10.1.0.11"]
    assert (seen["bound"], seen["enforced"], seen["dropped"]) == (False, False, None)
    assert port_id("shop", "web1") in seen["reason"]
    client.put_object("shop", "subnets", "n:2001:db8:1::-64", {"gateway": "2001:db8:1::1"}, wait=20)
    assert client.objects("shop", "subnets").keys() == {"n:10.1.0.0-16", "n:2001:db8:1::-64"}
    assert client.object("shop", "subnets", "n:2001:db8:1::-64")["gateway"] == "2001:db8:1::1"
    assert client.delete_object("shop", "ports", "web1", wait=20)["changed"]
    assert not client.delete_object("shop", "ports", "web1")["changed"]
    assert not client.delete_object("nowhere", "ports", "web1")["changed"]
    assert client.delete_object("shop", "networks", "n", wait=20)["changed"]
    assert client.vpc("shop").networks == {}


def test_refusals_name_the_reason(host: AgentHost) -> None:
    client = host.client
    error = refused(lambda: client.put_object("shop", "ports", "web1", nic(11)))
    assert (error.status, error.code) == (404, "unknown-vpc")
    client.put_object("shop", "networks", "n", NETWORK)
    client.put_object("shop", "ports", "web1", nic(11), wait=20)
    before = host.flows()
    error = refused(lambda: client.delete_object("shop", "networks", "n"))
    assert (error.status, error.code, error.problem["referrers"]) == (409, "in-use", ["ports.web1"])
    error = refused(lambda: client.delete_object("shop", "subnets", "n:10.1.0.0-16"))
    assert error.code == "in-use"
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(11)))
    assert (error.status, error.problem["problems"][0]["code"]) == (422, "duplicate-address")
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(12, "hv9")))
    assert error.problem["problems"][0]["code"] == "unknown-host"
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(12) | {"colour": "red"}))
    assert (error.status, error.code) == (422, "wrong-structure")
    error = refused(lambda: client.put_object("shop", "routers", "r1", {"networks": ["n"]}))
    assert error.problem["problems"][0]["code"] == "assignment-missing", "an agent assigns no VNI"
    assert refused(lambda: client.object("shop", "ports", "web9")).code == "unknown-port"
    assert refused(lambda: client.put_object("shop", "ports", "WEB", nic(12))).status == 400
    assert client.vpc("shop").revision == 2
    assert host.flows() == before


def test_groups_are_objects_too(host: AgentHost) -> None:
    client = host.client
    client.put_object("shop", "networks", "n", NETWORK)
    office = ["198.51.100.0/24", "2001:DB8::/32", "192.0.2.7"]
    client.put_object("shop", "address-groups", "office", office)
    assert not client.put_object("shop", "address-groups", "office", office)["changed"], "again is harmless"
    rules = [
        {"direction": "ingress", "protocol": "tcp", "port": [80, "8000-8010"], "remote": {"address_group": "office"}}
    ]
    client.put_object("shop", "security-groups", "web", {"rules": rules})
    client.put_object("shop", "ports", "web1", nic(11) | {"security_groups": ["web"]}, wait=20)
    assert client.objects("shop", "address-groups") == {"office": [*office[:1], "2001:db8::/32", "192.0.2.7/32"]}
    assert client.object("shop", "security-groups", "web") == {"rules": rules}
    held = client.vpc("shop")
    assert held.ports["web1"].security_groups == ("web",)
    assert list(held.security_groups) == ["web"]
    error = refused(lambda: client.delete_object("shop", "security-groups", "web"))
    assert (error.status, error.code, error.problem["referrers"]) == (409, "in-use", ["ports.web1"])
    error = refused(lambda: client.delete_object("shop", "address-groups", "office"))
    assert (error.code, error.problem["referrers"]) == ("in-use", ["security_groups.web.rules[0]"])
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(12) | {"security_groups": ["wbe"]}))
    assert (error.status, error.problem["problems"][0]["code"]) == (422, "unknown-security-group")
    assert "Did you mean 'web'?" in str(error)
    error = refused(lambda: client.put_object("shop", "security-groups", "fast", {"rules": [{"direction": "in"}]}))
    assert (error.status, error.code) == (422, "wrong-structure")
    assert refused(lambda: client.object("shop", "security-groups", "db")).code == "unknown-security-group"
    assert client.vpc("shop") == held
    gone = {"previous": held.revision, "revision": held.revision + 1, "security_groups": {"web": None}}
    error = refused(lambda: client.patch("shop", gone, owner="api"))
    assert error.problem["problems"][0]["path"] == "ports.web1.security_groups[0]"
    client.delete_object("shop", "ports", "web1", wait=20)
    client.delete_object("shop", "security-groups", "web")
    client.delete_object("shop", "address-groups", "office", wait=20)
    assert client.vpc("shop").security_groups == {} == client.vpc("shop").address_groups


def test_routers_are_objects_too(host: AgentHost) -> None:
    client = host.client
    client.put_object("shop", "networks", "n", NETWORK)
    client.put_object("shop", "networks", "db", {"vni": 5002, "subnets": [{"cidr": "10.2.0.0/16"}]})
    client.put_object("shop", "ports", "fw", nic(11))
    routes = [{"to": "2001:DB8::/32", "via": {"port": "fw"}}, {"to": "10.66.0.0/16", "blackhole": True}]
    told = {"vni": 9001, "networks": ["n", "db"], "routes": routes}
    assert client.put_object("shop", "routers", "r1", told, wait=20)["vpcs"]["shop"]["enforced"] == 4
    assert not client.put_object("shop", "routers", "r1", told)["changed"], "again is harmless"
    kept = {**told, "routes": [{**routes[0], "to": "2001:db8::/32"}, routes[1]]}
    assert client.objects("shop", "routers") == {"r1": kept}
    assert client.object("shop", "routers", "r1") == kept
    held = client.vpc("shop")
    assert held.routers["r1"].vni == 9001
    for kind, name, referrers in (("ports", "fw", "routers.r1.routes[0]"), ("networks", "db", "routers.r1")):
        error = refused(lambda kind=kind, name=name: client.delete_object("shop", kind, name))
        assert (error.status, error.code, error.problem["referrers"]) == (409, "in-use", [referrers])
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(12) | {"ips": ["10.1.0.1"]}))
    assert error.problem["problems"][0]["code"] == "reserved-address"
    gone = {"previous": held.revision, "revision": held.revision + 1, "ports": {"fw": None}}
    error = refused(lambda: client.patch("shop", gone, owner="api"))
    assert error.problem["problems"][0]["path"] == "routers.r1.routes[0].via.port"
    assert refused(lambda: client.object("shop", "routers", "r2")).code == "unknown-router"
    assert client.vpc("shop") == held
    host.end()
    host.start("--audit-interval", "1")
    assert client.vpc("shop") == held, "it is on disk"
    client.delete_object("shop", "routers", "r1", wait=20)
    client.delete_object("shop", "ports", "fw")
    client.delete_object("shop", "networks", "db", wait=20)
    assert client.vpc("shop").routers == {}


def test_another_owners_vpc_is_refused_unless_adopted(host: AgentHost) -> None:
    client = host.client
    client.put(state(), wait=20)
    for call in (
        lambda: client.put_object("shop", "ports", "web1", nic(99)),
        lambda: client.delete_object("shop", "ports", "p1", owner="me"),
        lambda: client.delete("shop", owner="me"),
        lambda: client.patch("shop", {"previous": 1, "revision": 2, "ports": {"p1": None}}, owner="me"),
        lambda: client.batch([{"op": "delete", "vpc": "shop"}], owner="me"),
        lambda: client.prepare("shop", "p1", "hv2"),
        lambda: client.put_workload("vm", {"nics": [{"vpc": "shop", "name": "x", "port": nic(99)}]}),
    ):
        error = refused(call)
        assert (error.status, error.code) == (409, "foreign-owner")
        assert "belongs to tests" in str(error)
    assert client.vpc("shop") == state()
    assert client.put_object("shop", "ports", "web1", nic(99), owner="tests", wait=20)["changed"]
    client.put_object("shop", "ports", "web1", nic(98), owner="me", adopt=True, wait=20)
    assert (client.vpc("shop").owner, client.vpc("shop").revision) == ("me", 3)


def test_if_match_holds_a_write_to_a_revision(host: AgentHost) -> None:
    client = host.client
    client.put_object("shop", "networks", "n", NETWORK)
    client.put_object("shop", "ports", "web1", nic(11), if_match=1)
    error = refused(lambda: client.put_object("shop", "ports", "web2", nic(12), if_match=1))
    assert (error.status, error.code, error.problem["current"]) == (412, "precondition-failed", 2)
    assert refused(lambda: client.put(state(revision=9), if_match=1)).status == 412
    assert refused(lambda: client.delete_object("nowhere", "ports", "p", if_match=1)).status == 412
    assert sorted(client.vpc("shop").ports) == ["web1"]


def test_dry_run_of_an_object(host: AgentHost) -> None:
    client = host.client
    client.put(state(), wait=20)
    before = host.flows()
    told = msgspec.to_builtins(port("shop", 7))
    answer = client.put_object("shop", "ports", "p7", told, dry_run=True, owner="tests")
    assert answer["counts"] == {"added": 3, "changed": 0, "removed": 0}
    assert client.delete_object("shop", "ports", "p2", dry_run=True, owner="tests")["counts"]["removed"] == 3
    assert (client.vpc("shop"), host.flows()) == (state(), before)


def test_wait_expires_with_202_and_the_reason(host: AgentHost) -> None:
    client = host.client
    pid = host.ovs.vswitchd_pid
    assert pid is not None
    host.ovs.stop_vswitchd()
    try:
        start = time.monotonic()
        answer = client.put(state(), wait=0.3)
        assert time.monotonic() - start >= 0.3
        assert "no OpenFlow connection" in answer["reason"]
        assert answer["vpcs"]["shop"] == {"revision": 1, "enforced": None, "held": None}
    finally:
        host.ovs.start_vswitchd()
    until(host.ready, 30)
    assert client.put(state(), wait=20)["reason"] is None


def test_a_workload_in_two_vpcs_is_one_change(host: AgentHost) -> None:
    client = host.client
    nics = [
        {"vpc": "shop", "name": "vm1", "port": nic(11), "network": NETWORK},
        {"vpc": "club", "name": "vm1", "port": nic(11, "hv2"), "network": NETWORK | {"vni": 5002}},
    ]
    wanted = {"nics": nics, "hosts": {"hv2": "10.0.0.12"}}
    steps = client.host()["flows"]
    answer = client.put_workload("vm1", wanted, wait=20)
    assert {name: vpc["enforced"] for name, vpc in answer["vpcs"].items()} == {"shop": 1, "club": 1}
    assert client.host()["flows"] > steps
    assert not client.put_workload("vm1", wanted)["changed"]
    assert [one["port"]["workload"] for one in client.workload("vm1")["nics"]] == ["vm1", "vm1"]
    wrong = {"nics": [nics[0], nics[1] | {"port": nic(11) | {"network": "nowhere"}, "network": None}]}
    assert refused(lambda: client.put_workload("vm2", wrong)).status == 422
    assert not client.vpc("shop").ports.keys() - {"vm1"}, "all or nothing"
    assert client.put_workload("vm1", {"nics": nics[:1]}, wait=20)["vpcs"].keys() == {"club"}
    client.delete_workload("vm1", wait=20)
    assert refused(lambda: client.workload("vm1")).code == "unknown-workload"
    assert client.vpc("shop").ports == {}


def test_a_migration_by_verbs(host: AgentHost) -> None:
    client = host.client
    client.put(state(), wait=20)
    mine: dict[str, Any] = {"owner": "tests"}
    client.prepare("shop", "p2", "hv7", vtep="10.0.0.17", **mine)
    held = client.vpc("shop")
    assert (held.ports["p2"].moving_to, held.hosts["hv7"]) == ("hv7", "10.0.0.17")
    client.release("shop", "p2", **mine)
    assert client.vpc("shop").ports["p2"].moving_to is None
    assert refused(lambda: client.activate("shop", "p2", **mine)).code == "not-prepared"
    client.prepare("shop", "p2", "hv3", **mine)
    assert client.activate("shop", "p2", "hv3", wait=20, **mine)["changed"]
    assert not client.activate("shop", "p2", "hv3", **mine)["changed"], "again is harmless"
    moved = client.vpc("shop").ports["p2"]
    assert (moved.host, moved.moving_to, moved.epoch) == ("hv3", None, 1)


def test_events_tell_what_changes_and_can_be_resumed(host: AgentHost) -> None:
    client = host.client
    found: list[tuple[int, str, Any]] = []

    def follow() -> None:
        with AgentClient(client.address) as other:
            for event in other.events():
                found.append(event)
                if event[1] == "drift":
                    return

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    time.sleep(0.5)
    client.put(state(), wait=20)
    host.plug("shop", 1)
    until(lambda: client.port("shop", "p1")["enforced"], 20)
    until(lambda: any(kind == "port" and data.get("enforced") for _, kind, data in found), 20)
    assert any(kind == "enforced" and data.get("enforced") == 1 for _, kind, data in found)
    host.plug("shop", 1, "twin")
    until(lambda: any(kind == "conflict" for _, kind, _ in found), 20)
    host.ovs.ofctl("del-flows", "br-int", "table=0")
    thread.join(20)
    assert not thread.is_alive(), "drift was not told"
    assert found[-1][2]["flows"] > 0
    serials = [serial for serial, _, _ in found]
    assert serials == sorted(set(serials))
    middle = len(found) // 2
    again = list(itertools.islice(client.events(since=found[middle][0]), len(found) - middle - 1))
    assert again == found[middle + 1 :], "nothing is lost or doubled"
    (reset,) = itertools.islice(client.events(since=1), 1)
    assert reset[1] == "reset"
    host.ovs.vsctl("del-port", "shop-1", "--", "del-port", "twin")


def test_a_trace_names_what_decides(host: AgentHost) -> None:
    host.client.put(state(local=2), wait=20)
    host.plug("shop", 1)
    host.plug("shop", 2)
    until(lambda: all(host.client.port("shop", name)["enforced"] for name in ("p1", "p2")), 20)
    answer = host.client.trace("shop/p1", "shop/p2", protocol="tcp", port=80)
    assert (answer["delivered"], answer["reached"]) == (True, ["shop/p2"])
    assert "vpcs.shop.ports.p2" in [table["object"] for table in answer["hops"][-1]["tables"]]
    lost = host.client.trace("shop/p1", "10.1.9.9")
    assert not lost["delivered"]
    assert refused(lambda: host.client.trace("shop/p9", "shop/p1")).status == 422
    assert refused(lambda: host.client.trace("club/p9", "club/p1")).status == 404
    host.ovs.vsctl("del-port", "shop-1", "--", "del-port", "shop-2")


def test_metrics_and_the_report(host: AgentHost) -> None:
    host.client.put(state(), wait=20)
    text = host.client.metrics()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines["ovsnet_agent_vpcs"] == "1.0"
    assert lines["ovsnet_agent_vpcs_behind"] == "0.0"
    assert float(lines["ovsnet_agent_apply_seconds_count"]) >= 1
    assert float(lines["ovsnet_agent_flows"]) == len(host.flows())
    assert float(lines['ovsnet_agent_requests_total{method="PUT",status="200"}']) >= 1
    stream = host.client.reports()
    first = next(stream)
    assert (first["serial"], first["full"]) == (1, True)
    assert first["vpcs"] == {"shop": {"revision": 1, "enforced": 1}}
    assert first["ports"]["shop/p1"]["up"] is False
    with AgentClient(host.client.address) as other:
        other.patch("shop", {"previous": 1, "revision": 2, "ports": {"p1": None}}, wait=5)
    gone: dict[str, Any] = {}
    for told in stream:
        assert (told["run"], told.get("full", False)) == (first["run"], False)
        gone |= told.get("ports", {})
        if told.get("vpcs", {}).get("shop", {}).get("enforced") == 2:
            break
    assert gone == {"shop/p1": None}
