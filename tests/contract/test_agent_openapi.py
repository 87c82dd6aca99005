"""The agent against its own OpenAPI document: generated requests get declared answers, and never a defect."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.agent_kit import AgentHost, state
from tests.tls_kit import Authority, start_by_tls

pytestmark = [pytest.mark.root, pytest.mark.timeout(900)]

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    negative_data_rejection,
]
ENDLESS = {"/v1/events", "/v1/reports"}
UNREADY = {"/readyz"}
"""Its 503 is an answer, not a defect."""
KNOWN = {"vpc": "shop", "id": "p2", "subnet": "n:10.1.0.0-16", "workload": "vm"}


class Agent:
    """A running agent with its document, and how to call it."""

    def __init__(self, host: AgentHost, url: str, verify: str, cert: tuple[str, str]) -> None:
        self.host, self.url = host, url
        self.how: dict[str, Any] = {"base_url": url, "verify": verify, "cert": cert, "timeout": 30}
        schema = schemathesis.openapi.from_dict(host.client.openapi())
        self.operations = [one.ok() for one in schema.get_all_operations()]


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Agent]:
    directory = tmp_path_factory.mktemp("pki")
    hosts, callers = Authority(directory, "hosts"), Authority(directory, "callers")
    mine = callers.issue("tests")
    one = AgentHost()
    try:
        one.ovs.start()
        url = start_by_tls(one, hosts, callers)
        one.plug("shop", 1)
        yield Agent(one, url, str(hosts.ca), (str(mine.cert), str(mine.key)))
    finally:
        one.close()


def exercise(agent: Agent, examples: int) -> int:
    """Call every operation with generated requests, valid and not; the number of calls."""
    calls = 0
    for operation in agent.operations:
        if operation.path in ENDLESS:
            continue
        checks = [one for one in CHECKS if one is not not_a_server_error or operation.path not in UNREADY]
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            strategy = operation.as_strategy(generation_mode=mode)
            agent.host.client.put(fresh(agent.host), adopt=True)

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy, known=st.booleans())
            def check(case: Any, known: bool) -> None:
                nonlocal calls
                calls += 1
                if known and mode is GenerationMode.POSITIVE:  # noqa: B023  (called at once)
                    case.path_parameters = {name: KNOWN[name] for name in case.path_parameters or {}}
                response = case.call(**agent.how)
                # A revision that is not held is told before anything else that may be wrong.
                left = [one for one in checks if response.status_code != 412 or one is not negative_data_rejection]  # noqa: B023
                case.validate_response(response, checks=left)

            with contextlib.suppress(Unsatisfiable):  # nothing about this operation can be wrong
                check()
    assert "Traceback" not in agent.host.log.read_text()
    return calls


def fresh(host: AgentHost) -> Any:
    """A state of the VPC that calls are about, above whatever the last calls left."""
    held = host.client.vpcs().get("shop")
    return msgspec.structs.replace(state(), revision=held["revision"] + 1 if held else 1)


def test_the_document_is_what_the_agent_does(agent: Agent) -> None:
    assert exercise(agent, 4) > 200


@pytest.mark.slow
def test_the_document_is_what_the_agent_does_at_length(agent: Agent) -> None:
    assert exercise(agent, 60) > 3000
