"""Model in, flows out: the compiled tables of each example, kept as text with table names.

After a change that is meant: ``OVSNET_UPDATE_GOLDENS=1 ./test tests/golden`` and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ovsnet
from ovsnet.compiler import compile_states
from ovsnet.desired import HOST, Desired
from ovsnet.facts import Facts
from ovsnet.model import canonical_state, decode_state

HERE = Path(__file__).parent / "flows"
EXAMPLES = Path(__file__).parents[2] / "examples/models"
CASES = [
    ("two-hosts", "hv1"),
    ("two-hosts", "hv2"),
    ("same-addresses", "hv1"),
    ("ipv6-only", "hv1"),
    ("migration", "hv1"),
    ("migration", "hv2"),
    ("migration", "hv3"),
    ("shop", "hv1"),
    ("shop", "hv2"),
    ("routers", "hv1"),
    ("routers", "hv2"),
]


def compiled(example: str, host: str) -> str:
    return listed(ovsnet.compile(ovsnet.load([EXAMPLES / f"{example}.yaml"]), host=host))


def listed(desired: Desired) -> str:
    """All flows but those that are the same on every host."""
    flows = sorted(
        (flow for flow in desired if flow.row.values or flow.subject != HOST),
        key=lambda f: (f.row.template.table.id, str(f.subject), -f.row.priority, ovsnet.flow_text(f.row)),
    )
    return "".join(f"{f.subject} | {f.row.template.name} | {ovsnet.flow_text(f.row)}\n" for f in flows)


@pytest.mark.parametrize(("example", "host"), CASES)
def test_flows(example: str, host: str) -> None:
    held(HERE / f"{example}.{host}.txt", compiled(example, host))


def test_flows_to_an_endpoint() -> None:
    """What a host is told by a caller that knows no other hosts."""
    state = canonical_state(decode_state((HERE / "endpoints.state.json").read_bytes()))
    facts = Facts.assumed(port.id for port in state.ports.values())
    held(HERE / "endpoints.hv1.txt", listed(compile_states([state], "hv1", facts)))


def test_flows_of_every_host() -> None:
    """What a host has that holds nothing yet."""
    flows = sorted(compile_states([], "hv1", Facts()), key=lambda f: (f.row.template.table.id, -f.row.priority))
    held(
        HERE / "every-host.txt",
        "".join(f"{f.subject} | {f.row.template.name} | {ovsnet.flow_text(f.row)}\n" for f in flows),
    )


def held(golden: Path, text: str) -> None:
    if os.environ.get("OVSNET_UPDATE_GOLDENS"):
        golden.write_text(text)
    assert text == golden.read_text()
