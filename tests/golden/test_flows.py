"""Model in, flows out: the compiled tables of each example, kept as text with table names.

After a change that is meant: ``OVSNET_UPDATE_GOLDENS=1 ./test tests/golden`` and read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import ovsnet

HERE = Path(__file__).parent / "flows"
EXAMPLES = Path(__file__).parents[2] / "examples/models"
CASES = [("two-hosts", "hv1"), ("two-hosts", "hv2"), ("same-addresses", "hv1"), ("ipv6-only", "hv1")]


def compiled(example: str, host: str) -> str:
    desired = ovsnet.compile(ovsnet.load([EXAMPLES / f"{example}.yaml"]), host=host)
    flows = sorted(
        desired,
        key=lambda f: (f.row.template.table.id, str(f.subject), -f.row.template.priority, ovsnet.flow_text(f.row)),
    )
    return "".join(f"{f.subject} | {f.row.template.name} | {ovsnet.flow_text(f.row)}\n" for f in flows)


@pytest.mark.parametrize(("example", "host"), CASES)
def test_flows(example: str, host: str) -> None:
    golden = HERE / f"{example}.{host}.txt"
    if os.environ.get("OVSNET_UPDATE_GOLDENS"):
        golden.write_text(compiled(example, host))
    assert compiled(example, host) == golden.read_text()
