"""One switch whose flows are made wrong, one after the other, and the frames that must show it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

from ovsnet.lab.ovs import OvsError
from ovsnet.model.types import Model
from ovsnet.pipeline.tables import TABLES
from tests.mutation.mutants import Flow, Mutant, mutants, read_flows
from tests.property.compiled import Installer
from tests.property.harness import Cloud

HOST = "hv1"
FILTERS = frozenset(table.id for table in TABLES if table.features == ("security_groups",))
"""The tables that filters alone use."""
ATTEMPTS = 10
"""Mutants tried of one group before the group counts as hidden."""


class Hidden(NamedTuple):
    """Mutants that no packet can show: of these kinds, with a text in which the pattern is found, and why."""

    kinds: tuple[str, ...]
    pattern: str
    reason: str

    def hides(self, mutant: Mutant) -> bool:
        """Whether the mutant is one of them."""
        return mutant.kind in self.kinds and re.search(self.pattern, str(mutant)) is not None


class Bench:
    """One switch as compiled, the frames that show what it does, and the means to make one flow wrong.

    ``probes`` send frames and return what differs; ``concerns`` says of a mutant whether they can show it.
    """

    def __init__(
        self,
        cloud: Cloud,
        install: Installer,
        model: Model,
        probes: list[Callable[[], list[str]]],
        concerns: Callable[[Mutant], bool],
        *,
        nd_responder: bool = True,
    ) -> None:
        self.switch, self.probes, self._concerns = cloud.switches[HOST], probes, concerns
        self.switch.ofctl("del-flows", "br-int")  # so that the counters start afresh
        cloud.load(model, install, nd_responder=nd_responder)
        self.problems = [problem for probe in probes for problem in probe()]
        cloud.forget()
        self.flows = read_flows(self.switch.ofctl("dump-flows", "br-int"))

    def write(self, flows: list[Flow]) -> None:
        self.switch.ofctl("replace-flows", "br-int", "-", stdin="\n".join(flow.text for flow in flows).encode())
        self.switch.forget()

    def groups(self, kind: str) -> dict[str, list[Mutant]]:
        """All mutants of a kind by group: of flows that the frames hit first, and of each shape of flow one first."""
        ofports = [self.switch.ofports[nic] for nic in self.switch.nics[:2]]
        groups: dict[str, list[Mutant]] = defaultdict(list)
        for mutant in mutants(self.flows, ofports, max(flow.table for flow in self.flows)):
            if mutant.kind == kind and self._concerns(mutant):
                groups[mutant.group].append(mutant)
        return {name: _varied(group) for name, group in groups.items()}

    def shows(self, mutant: Mutant) -> bool | None:
        """Whether the frames show ``mutant``, and no longer once it is restored; ``None``: the switch refuses it."""
        others = [flow for flow in self.flows if flow is not mutant.flow]
        try:
            self.write([*others, mutant.wrong] if mutant.wrong else others)
        except OvsError:
            return None
        telling = next((probe for probe in self.probes if probe()), None)
        self.write(self.flows)
        if telling is None:
            return False
        left = telling()
        assert not left, f"still wrong after restoring {mutant}: {left}"
        return True


def _varied(group: list[Mutant]) -> list[Mutant]:
    turns: Counter[str] = Counter()
    ordered: list[tuple[bool, int, int, Mutant]] = []
    for mutant in sorted(group, key=lambda mutant: not mutant.flow.packets):
        turns[mutant.flow.shape] += 1
        ordered.append((not mutant.flow.packets, turns[mutant.flow.shape], len(ordered), mutant))
    return [mutant for *_, mutant in sorted(ordered, key=lambda entry: entry[:3])]


def judge(benches: Iterable[Bench], kind: str, tried: Collection[str] | None = None) -> tuple[set[str], list[Mutant]]:
    """The groups of which a mutant shows on any bench, and one mutant of each group that hides.

    ``tried``: the names of those that are, if not all.
    """
    shown: set[str] = set()
    hiding: dict[str, Mutant] = {}
    for bench in benches:
        assert not bench.problems, f"wrong as compiled, so mutants prove nothing: {bench.problems[0]}"
        for name, group in bench.groups(kind).items():
            if name in shown or (tried is not None and name not in tried):
                continue
            verdicts = [bench.shows(group[0])]
            while verdicts[-1] is not True and len(verdicts) < min(ATTEMPTS, len(group)):
                verdicts.append(bench.shows(group[len(verdicts)]))
            if True in verdicts:
                shown.add(name)
            elif False in verdicts:
                hiding[name] = group[0]
    return shown, [mutant for name, mutant in hiding.items() if name not in shown]
