"""Wrong flows: every way in which one flow of a switch, as ``ovs-ofctl`` prints it, can be made wrong.

Works on the text alone and knows no table and no field by name, so that it grows with the pipeline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

FLOW = re.compile(r"cookie=(?P<cookie>\S+), (?:table=(?P<table>\d+), )?(?P<match>\S+) actions=(?P<actions>.+)")
SET = re.compile(r"^(set_field|load):([^-]+)->(.+)$")
TRACK = re.compile(r"^ct\((.*)\)$")
STATES = re.compile(r"[+-][a-z]+")
STATISTICS = re.compile(r"(duration|n_packets|n_bytes|idle_age|hard_age)=[^,]*, ?")
PACKETS = re.compile(r"n_packets=(\d+)")


@dataclass(frozen=True)
class Flow:
    """One flow: table, priority, match fields and actions as ``ovs-ofctl`` writes them, and how often it was hit."""

    table: int
    priority: int
    cookie: str
    match: tuple[str, ...]
    actions: tuple[str, ...]
    packets: int = 0

    @property
    def text(self) -> str:
        """The flow as ``ovs-ofctl`` reads it."""
        head = ",".join((f"cookie={self.cookie}", f"table={self.table}", f"priority={self.priority}", *self.match))
        return f"{head} actions={','.join(self.actions)}"

    @property
    def drops(self) -> bool:
        return self.actions == ("drop",)

    @property
    def reach(self) -> int:
        """How far it lets a frame get: the table that it goes to, or out of the switch."""
        tables = [int(action.partition(":")[2]) for action in self.actions if action.startswith("goto_table:")]
        return max(tables, default=256 * any(action.startswith("output:") for action in self.actions))

    @property
    def shape(self) -> str:
        """The flow without its values: which fields it matches and what it does to which."""
        match = [word.partition("=")[0] for word in self.match if not word.startswith("icmp")]
        kinds = [word for word in self.match if word.startswith("icmp")]
        actions = [re.sub(r"(?<=:)[^-\[]+(?=->)|(?<=output:)\d+", "*", action) for action in self.actions]
        states = [word for word in self.match if word.startswith("ct_state")]
        match = [next((word for word in states if word.startswith(name)), name) for name in match]
        return f"{self.priority},{','.join(match + kinds)} {','.join(actions)}"


@dataclass(frozen=True)
class Mutant:
    """``flow`` replaced by ``wrong`` (``None``: it is gone). Mutants of one ``group`` are wrong in the same way."""

    kind: str
    group: str
    flow: Flow
    wrong: Flow | None

    @property
    def changed(self) -> str:
        """The words of the flow that are others in the wrong one; all of them if it is gone."""
        words = {*self.flow.match, *self.flow.actions}
        return " ".join(sorted(words - {*self.wrong.match, *self.wrong.actions} if self.wrong else words))

    def __str__(self) -> str:
        return f"{self.kind} [{self.group}]: {self.flow.text} => {self.wrong.text if self.wrong else 'gone'}"


def read_flows(dump: str) -> list[Flow]:
    """The flows in the output of ``ovs-ofctl dump-flows``."""
    flows = []
    for line in dump.splitlines():
        hits = PACKETS.search(line)
        found = FLOW.search(STATISTICS.sub("", line))
        if found is None:
            continue
        words = _split(found["match"])
        priority = next((int(word[9:]) for word in words if word.startswith("priority=")), 32768)
        match = tuple(word for word in words if not word.startswith("priority="))
        table, packets = int(found["table"] or 0), int(hits[1]) if hits else 0
        flows.append(Flow(table, priority, found["cookie"], match, _split(found["actions"]), packets))
    return flows


def mutants(flows: list[Flow], ofports: list[int], last_table: int) -> Iterator[Mutant]:
    """All mutants of ``flows``; ``ofports`` are two ports that a wrong output may go to."""
    for flow in flows:
        where = f"{flow.table}: {flow.shape}"
        if flow.drops:
            yield from _permitted(flow, flows, where)
        else:
            yield Mutant("deleted", where, flow, None)
            yield from _wrong_actions(flow, where, ofports, last_table)
            yield from _wrong_matches(flow, where)
        yield from _match_left_out(flow)
    yield from _wrong_priorities(flows)


def _permitted(flow: Flow, flows: list[Flow], where: str) -> Iterator[Mutant]:
    """What the flow drops is treated as the most generous flow of its table treats others."""
    kinder = [other for other in flows if other.table == flow.table and not other.drops and other.packets]
    if kinder:
        generous = max(kinder, key=lambda other: (other.reach, -other.priority, other.text))
        yield Mutant("permitted", where, flow, _with(flow, actions=generous.actions))


def _wrong_actions(flow: Flow, where: str, ofports: list[int], last_table: int) -> Iterator[Mutant]:
    for i, action in enumerate(flow.actions):
        before, after = flow.actions[:i], flow.actions[i + 1 :]
        wrong = _wrong_action(action, ofports, last_table)
        if wrong is not None:
            yield Mutant("wrong value", f"{where} @{i}", flow, _with(flow, actions=(*before, wrong, *after)))
        if before + after:
            yield Mutant("left out", f"{where} @{i}", flow, _with(flow, actions=before + after))


def _wrong_action(action: str, ofports: list[int], last_table: int) -> str | None:
    assigned = SET.match(action)
    if assigned:
        return f"{assigned[1]}:{_other(assigned[2])}->{assigned[3]}"
    if action.startswith("goto_table:"):
        table = int(action.partition(":")[2])
        return None if table == last_table else f"goto_table:{last_table}"
    tracked = TRACK.match(action)
    if tracked:
        return action.replace("NXM_NX_REG2[0..15]", "NXM_NX_REG1[0..15]")
    if action.startswith("output:"):
        return f"output:{next(port for port in ofports if f'output:{port}' != action)}"
    if action == "IN_PORT":
        return f"output:{ofports[0]}"
    return None


def _wrong_matches(flow: Flow, where: str) -> Iterator[Mutant]:
    """A match value that is another; a wrong ``in_port`` would only be another port's flow, and a word has no other."""
    for i, word in enumerate(flow.match):
        name, equals, value = word.partition("=")
        if equals and name != "in_port" and not value.isalpha():
            other = _other_states(value) if name == "ct_state" else _other(value)
            wrong = (*flow.match[:i], f"{name}={other}", *flow.match[i + 1 :])
            yield Mutant("wrong match", f"{where} {name}", flow, _with(flow, match=wrong))
            wider = _wider(value)
            if wider is not None:
                wrong = (*flow.match[:i], f"{name}={wider}", *flow.match[i + 1 :])
                yield Mutant("wider mask", f"{where} {name}", flow, _with(flow, match=wrong))


def _match_left_out(flow: Flow) -> Iterator[Mutant]:
    """A match that asks for less, unless that leaves others without their prerequisite."""
    for i, word in enumerate(flow.match):
        name, equals, _ = word.partition("=")
        rest = (*flow.match[:i], *flow.match[i + 1 :])
        if equals and not (name == "icmp_type" and any(other.startswith("nd_") for other in rest)):
            verdict = "drop" if flow.drops else "go on"
            yield Mutant("match left out", f"{flow.table}: {name}, {verdict}", flow, _with(flow, match=rest))


def _wrong_priorities(flows: list[Flow]) -> Iterator[Mutant]:
    """The lowest flow of a table above all others, and the highest below them; the table's miss does not count."""
    for table in sorted({flow.table for flow in flows}):
        ours = sorted((flow for flow in flows if flow.table == table and flow.priority), key=lambda flow: flow.priority)
        if ours and ours[0].priority < ours[-1].priority:
            top, bottom = ours[-1].priority, ours[0].priority
            for flow in (flow for flow in ours if flow.priority < top):
                yield Mutant("priority", f"{table}: raised", flow, _with(flow, priority=top + 1))
            for flow in (flow for flow in reversed(ours) if flow.priority > bottom):
                yield Mutant("priority", f"{table}: lowered", flow, _with(flow, priority=bottom - 1))


def _with(flow: Flow, **changed: object) -> Flow:
    return Flow(**{**flow.__dict__, **changed})


def _other(value: str) -> str:
    """Another value of the same kind: a number, a MAC or an IP address, with or without a mask, one bit away."""
    plain, slash, mask = value.partition("/")
    if re.fullmatch(r"(..:){5}..", plain):
        other = f"{plain[:-2]}{int(plain[-2:], 16) ^ 1:02x}"
    elif "." in plain or ":" in plain:
        bits = 16 if slash and mask.isdigit() else 0
        address = ip_address(plain)
        other = str(type(address)(int(address) ^ 1 << bits))
    elif plain.startswith("0x") or mask.startswith("0x"):
        bit = int(mask, 16) & -int(mask, 16) if mask else 1
        other = hex(int(plain, 0) ^ bit)
    else:
        other = str(int(plain) ^ 1)
    return other + slash + mask


def _other_states(value: str) -> str:
    """Connection states of which the last is the opposite."""
    words = STATES.findall(value)
    return "".join(words[:-1]) + {"+": "-", "-": "+"}[words[-1][0]] + words[-1][1:]


def _wider(value: str) -> str | None:
    """The value with a mask that asks for one bit less; ``None`` if it has no mask in numbers."""
    plain, _, mask = value.partition("/")
    if not mask.startswith("0x"):
        return None
    bit = int(mask, 16) & -int(mask, 16)
    return f"{hex(int(plain, 0) & ~bit)}/{hex(int(mask, 16) & ~bit)}" if int(mask, 16) != bit else None


def _split(text: str) -> tuple[str, ...]:
    """Split at the commas outside of brackets."""
    return tuple(re.findall(r"(?:[^,(]|\([^)]*\))+", text))
