"""The shared parts of the services: parameters, conditions, events, metrics, certificates' names, documents."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from ovsnet.agent.api import agent_api
from ovsnet.agent.observe import LocalPorts
from ovsnet.errors import UserError
from ovsnet.http import openapi
from ovsnet.http.events import EventLog
from ovsnet.http.metrics import Distribution, Metric, exposition, markdown
from ovsnet.http.parameters import ADOPT, WAIT, choice, if_match, number, parse_query
from ovsnet.http.problems import RequestError, problem_of
from ovsnet.http.serve import certificate_name
from ovsnet.http.service import parse_listen
from ovsnet.http.stream import follow
from ovsnet.log import FIELDS
from ovsnet.transport.changes import Patch, Put, Withdraw
from ovsnet.transport.digest import digest_text, state_sum
from ovsnet.transport.view import ConflictError, HostView
from tests.agent_kit import port, state

DECLARED = (WAIT, ADOPT, choice("source", "", "account", "switch"), number("since", ""))


def test_parameters_have_values_and_defaults() -> None:
    assert parse_query([], DECLARED) == {"wait": 0.0, "adopt": False, "source": "account", "since": None}
    given = [("wait", "1.5s"), ("adopt", "true"), ("source", "switch"), ("since", "7")]
    assert parse_query(given, DECLARED) == {"wait": 1.5, "adopt": True, "source": "switch", "since": 7}
    waits = ("250ms", "1m", "3", "999999m")
    assert [parse_query([("wait", text)], DECLARED)["wait"] for text in waits] == [0.25, 60.0, 3.0, 600.0]


@pytest.mark.parametrize(
    ("items", "code"),
    [
        ([("waiting", "1s")], "unknown-parameter"),
        ([("wait", "1s"), ("wait", "2s")], "bad-parameter"),
        ([("wait", "soon")], "bad-parameter"),
        ([("wait", "-1s")], "bad-parameter"),
        ([("wait", "1s\n")], "bad-parameter"),
        ([("wait", "\u0661s")], "bad-parameter"),
        ([("adopt", "yes")], "bad-parameter"),
        ([("source", "")], "bad-parameter"),
        ([("since", "-3")], "bad-parameter"),
    ],
)
def test_wrong_parameters_are_told(items: Sequence[tuple[str, str]], code: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_query(items, DECLARED)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert items[0][0] in str(caught.value)


def test_conditions_are_one_revision_in_quotes() -> None:
    assert [if_match(text) for text in (None, "*", '"0"', ' "42" ')] == [None, None, 0, 42]
    for wrong in ("42", 'W/"42"', '"4", "5"', '"x"', ""):
        with pytest.raises(RequestError):
            if_match(wrong)


def test_errors_as_problem_documents() -> None:
    conflict = problem_of(ConflictError("revision-gap", "a gap", 5))
    assert conflict is not None
    assert (conflict.status, conflict.code, conflict.current) == (409, "revision-gap", 5)
    assert problem_of(ZeroDivisionError()) is None


def test_listening_addresses() -> None:
    assert parse_listen("10.0.0.1:6650") == ("10.0.0.1", 6650)
    assert parse_listen("[::1]:0") == ("::1", 0)
    for wrong in ("6650", ":6650", "10.0.0.1:", "10.0.0.1:http", "10.0.0.1:70000"):
        with pytest.raises(UserError):
            parse_listen(wrong)


def test_names_in_certificates() -> None:
    named = {"subject": ((("commonName", "cn"),),), "subjectAltName": (("DNS", "x"), ("URI", "ovsnet:caller:ctl"))}
    assert certificate_name(named) == "ctl"
    assert certificate_name({"subject": ((("commonName", "cn"),),)}) == "cn"


def test_event_log_keeps_and_forgets() -> None:
    log = EventLog(kept=3)
    start = log.last
    assert log.since(start) == []
    serials = [log.add("port", number) for number in range(5)]
    assert serials == [start + number for number in range(1, 6)]
    assert [event.data for event in log.since(start + 2)] == [2, 3, 4]
    for lost in (start, start + 1, start + 99):
        (reset,) = log.since(lost)
        assert (reset.kind, reset.serial) == ("reset", log.last)


def test_event_stream_resumes_beats_and_ends() -> None:
    async def read() -> list[bytes]:
        log = EventLog()
        log.add("port", {"id": "a"})
        found: list[bytes] = []
        async for chunk in follow(log, log.last - 1, heartbeat=0.01):
            found.append(chunk)
            if len(found) == 3:
                log.add("drift", 1)
            if len(found) > 3 and b"drift" in chunk:
                log.close()
        return found

    first, port_event, beat, *rest = asyncio.run(read())
    assert first.startswith(b": serial ")
    assert b'event: port\ndata: {"id":"a"}\n\n' in port_event
    assert beat == b":\n\n"
    assert b"event: drift\ndata: 1\n\n" in rest[-1]


def test_metrics_from_a_table() -> None:
    latency = Distribution((0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 7.0):
        latency.add(value)
    metrics: tuple[Metric[Any], ...] = (
        Metric("x_things", "gauge", "Things.", lambda subject: {("a",): subject}, ("kind",)),
        Metric("x_calls", "counter", "Calls.", lambda _: 3),
        Metric("x_seconds", "histogram", "Seconds.", lambda _: latency),
    )
    lines = exposition(metrics, 7).decode().splitlines()
    assert {'x_things{kind="a"} 7.0', "x_calls_total 3.0", 'x_seconds_bucket{le="0.1"} 2.0'} <= set(lines)
    assert {'x_seconds_bucket{le="1.0"} 3.0', 'x_seconds_bucket{le="+Inf"} 4.0', "x_seconds_count 4.0"} <= set(lines)
    assert "| `x_calls_total` | counter |  | Calls. |" in markdown("T", "i", {"X": metrics})


def test_digests_follow_changes_and_equal_those_computed_anew() -> None:
    view = HostView("hv1", {})
    local = LocalPorts("hv1", [])

    def tell(*operations: Any) -> None:
        change = view.check(operations)
        view.commit(change)
        local.follow(change)
        for name, one in view.states.items():
            assert view.digest(one) == digest_text(state_sum(one))
            wanted = {key: port for key, port in one.ports.items() if port.host == "hv1"}
            assert local.by_vpc[name] == wanted
        assert local.by_vpc.keys() == view.states.keys()

    tell(Put(state()))
    before = view.digest(view.states["shop"])
    tell(Patch(vpc="shop", previous=1, revision=2, ports={"p2": None, "p9": port("shop", 9, "hv1")}))
    assert view.digest(view.states["shop"]) != before
    tell(
        Patch(vpc="shop", previous=2, revision=3, ports={"p8": port("shop", 8, "hv1")}),
        Patch(vpc="shop", previous=3, revision=4, ports={"p8": None, "p1": port("shop", 1, "hv2")}),
    )
    tell(
        Patch(
            vpc="shop", previous=4, revision=5, ports={"p2": port("shop", 2), "p1": port("shop", 1, "hv1"), "p9": None}
        )
    )
    assert view.digest(view.states["shop"]) == before, "the same contents, by another way"
    tell(Withdraw("shop"), Put(state("club", vni=6001)))


def test_a_patch_costs_no_whole_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    view = HostView("hv1", {"shop": state(remote=20)})
    view.digest(view.states["shop"])
    monkeypatch.setattr("ovsnet.transport.view.state_sum", lambda _: pytest.fail("the whole state was hashed"))
    change = view.check([Patch(vpc="shop", previous=1, revision=2, ports={"p2": None})])
    view.commit(change)
    assert view.digest(view.states["shop"]) == digest_text(state_sum(view.states["shop"]))


def test_the_document_is_openapi_and_its_schemas_are_sound() -> None:
    document = agent_api().document()
    assert document["openapi"] == "3.1.0"
    names = set(document["components"]["schemas"])
    text = msgspec.json.encode(document).decode()
    assert {ref.split('"')[0] for ref in text.split("#/components/schemas/")[1:]} <= names
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    operations = [one for path in document["paths"].values() for one in path.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    assert all(one["summary"].endswith(".") for one in operations)


def test_an_endpoint_shows_its_parameters_and_refusals() -> None:
    put = agent_api().document()["paths"]["/v1/vpcs/{vpc}"]["put"]
    assert [one["name"] for one in put["parameters"]] == ["vpc", "wait", "dry_run", "adopt", "owner", "If-Match"]
    assert {"200", "202", "400", "409", "412", "422", "507"} <= put["responses"].keys()
    assert openapi.MEDIA_TYPE in put["responses"]["409"]["content"]


def test_the_page_speaks_of_every_path() -> None:
    page = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()
    for path in agent_api().document()["paths"]:
        words = [word for word in path.split("/") if word and not word.startswith("{")]
        assert words[-1] in page, f"docs/agent.md does not speak of {path}"


def test_log_lines_as_json_name_what_they_are_about() -> None:
    code = (
        "import logging; from ovsnet.http.service import log_to_stderr; from ovsnet.log import about, about_port\n"
        "log_to_stderr(json=True, host='hv1'); log = logging.getLogger('x')\n"
        "log.info('a'); log.info('b %s', 1, extra=about('shop', revision=7)); log.info('c', extra=about(host='hv2'))\n"
        "log.info('d', extra=about_port('shop', 'web1')); log.info('e', extra=about())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = [msgspec.json.decode(line) for line in done.stderr.splitlines()]
    seen = [{name: one[name] for name in ("message", *FIELDS) if name in one} for one in lines]
    assert seen == [
        {"message": "a", "host": "hv1"},
        {"message": "b 1", "host": "hv1", "vpc": "shop", "object": "vpcs.shop", "revision": 7},
        {"message": "c", "host": "hv2", "object": "hosts.hv2"},
        {"message": "d", "host": "hv1", "vpc": "shop", "object": "vpcs.shop.ports.web1"},
        {"message": "e", "host": "hv1"},
    ]
