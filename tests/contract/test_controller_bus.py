"""A real controller on a real nats-server: clients that write over the bus, and what is told when it comes back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats
import pytest

from ovsnet.controller.client import ControllerClient
from ovsnet.transport.subjects import inbox_prefix
from tests.contract.bus_kit import flush
from tests.contract.nats_kit import NatsServer
from tests.controller_kit import controller

VPC = {"tenant": "acme", "networks": {"web": {"vni": 5001, "subnets": [{"cidr": "192.168.1.0/24"}]}}}


@pytest.fixture
def server() -> Iterator[NatsServer]:
    found = NatsServer().start()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def site(server: NatsServer, tmp_path: Path) -> Iterator[ControllerClient]:
    with controller(tmp_path, "--nats", server.url, "--ingest", "billing=acme", "--ingest", "root") as client:
        yield client


def ask(server: NatsServer, name: str, items: Any, *, inbox: str | None = None, timeout: float = 5.0) -> Any:
    """What the controller answers a client of the bus."""

    async def scene() -> Any:
        client = await nats.connect(server.url, inbox_prefix=inbox or inbox_prefix(name))
        try:
            answer = await client.request(f"ovsnet.ingest.{name}", json.dumps(items).encode(), timeout=timeout)
            return json.loads(answer.data)
        finally:
            await client.close()

    return asyncio.run(scene())


def put(vpc: str, body: Any) -> list[Any]:
    return [{"op": "put", "vpc": vpc, "body": body}]


def test_a_client_writes_what_its_tenants_have_and_nothing_else(server: NatsServer, site: ControllerClient) -> None:
    done = ask(server, "billing", put("shop", VPC))
    assert done["changed"] and done["vpcs"] == {"shop": {"previous": 0, "revision": 1}}
    assert site.vpc("shop")["owner"] == "billing"
    assert not ask(server, "billing", put("shop", VPC))["changed"], "again is harmless"
    other = ask(server, "billing", put("club", {"tenant": "other"}))
    assert (other["status"], other["code"]) == (403, "forbidden")
    assert ask(server, "root", put("club", {"tenant": "other"}))["changed"]
    foreign = ask(server, "root", [{"op": "delete", "vpc": "shop"}])
    assert (foreign["status"], foreign["code"]) == (409, "foreign-owner")
    assert site.vpcs().keys() == {"shop", "club"}


def test_what_is_wrong_is_said_in_the_models_words_and_changes_nothing(
    server: NatsServer, site: ControllerClient
) -> None:
    wrong = {"networks": {"web": {"vni": 0, "subnets": [{"cidr": "192.168.1.1/24"}]}}}
    answer = ask(server, "root", put("shop", wrong))
    assert answer["status"] == 422
    assert {one["code"] for one in answer["problems"]} == {"invalid-vni", "host-bits-set"}
    assert ask(server, "root", "no list")["status"] == 422
    assert ask(server, "root", put("shop", VPC) * 2)["status"] == 422
    stale = ask(server, "root", [{"op": "patch", "vpc": "shop", "body": {"previous": 7, "ports": {}}}])
    assert stale["status"] in {404, 412}
    assert site.vpcs() == {}
    refused = [one for one in site.audit() if one["what"] == "ingest"]
    assert refused and all(one["who"] == "root" for one in refused)


def test_who_is_not_let_in_hears_so(server: NatsServer, site: ControllerClient) -> None:
    assert ask(server, "stranger", put("shop", VPC))["status"] == 403
    assert site.vpcs() == {}


def test_no_answer_goes_where_the_sender_may_not_write(server: NatsServer, site: ControllerClient) -> None:
    with pytest.raises(nats.errors.TimeoutError):
        ask(server, "root", put("shop", VPC), inbox="ovsnet.host.hv1.in.change", timeout=1.0)
    assert site.vpcs().keys() == {"shop"}, "the request itself was permitted"


def test_what_is_committed_while_the_bus_is_away_is_published_when_it_is_back(
    server: NatsServer, site: ControllerClient
) -> None:
    site.put_host("hv1", {"vtep": "10.0.0.1"})
    site.put_vpc("shop", VPC)
    seen: list[Any] = []

    async def scene() -> None:
        async def heard(message: Any) -> None:
            seen.append((message.subject, json.loads(message.data)))

        client = await nats.connect(server.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
        await client.subscribe("ovsnet.host.hv1.in.>", cb=heard)
        await flush(client)
        server.kill()
        site.put("shop", "ports", "a", {"network": "web", "host": "hv1"})
        site.put("shop", "ports", "b", {"network": "web", "host": "hv1"})
        await asyncio.sleep(0.5)
        server.start()
        for _ in range(150):
            await asyncio.sleep(0.1)
            told = [item for subject, body in seen if subject.endswith(".change") for item in body["items"]]
            if any(item["body"]["revision"] == 3 for item in told) and any(
                subject.endswith(".heads") for subject, _ in seen
            ):
                break
        await client.close()

    asyncio.run(scene())
    told = [item for subject, body in seen if subject.endswith(".change") for item in body["items"]]
    revisions = [item["body"]["revision"] for item in told]
    assert [one for one in revisions if one > 1][:2] == [2, 3], "in the order of their commits"
    heads = [body["vpcs"] for subject, body in seen if subject.endswith(".heads")]
    assert heads and heads[-1] == {"shop": [3, site.vpc("shop")["digest"]]}
