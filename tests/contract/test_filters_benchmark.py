"""The benchmark of security groups on a real agent and switch, small: what it counts is what was compiled."""

from __future__ import annotations

from benchmarks import filters
from ovsnet.compiler import HostCompiler
from ovsnet.facts import Facts
from tests.agent_kit import HOST

LOCAL = 3


def compiled(members: int, rules: int) -> int:
    state = filters.state(members, local=LOCAL, rules=rules)
    compiler = HostCompiler(HOST)
    compiler.set_facts(Facts.assumed(port.id for port in state.ports.values() if port.host == HOST))
    compiler.put_vpc(state)
    return len(compiler.update().add)


def test_flows_are_a_sum_of_members_and_rules() -> None:
    """A member elsewhere has two flows without groups (ARP, MAC), and one more in the group; a rule has one."""
    base = compiled(40, 20)
    assert compiled(41, 20) == base + 3
    assert compiled(40, 21) == base + 1
    assert compiled(80, 40) == base + 40 * 3 + 20


def test_a_small_host() -> None:
    measures = filters.run([40], 2, lambda _text: None, local=LOCAL, starts=1)
    figures = {one.name.partition(": ")[2]: one for one in measures}
    assert figures["flows of a host"].median == compiled(40, filters.RULES)
    fixed = figures["of them for security groups"].median - 40 - filters.RULES
    assert 0 < fixed < 150, "what every host has"
    for what in ("member", "rule"):
        assert figures[f"one {what} added"].samples == figures[f"one {what} removed"].samples == 2
