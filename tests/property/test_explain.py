"""What explain says of random models is what an evaluator of its own says, and its changes turn the answer."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import msgspec
import pytest

from ovsnet.model import Host, Model, Network, Port, Subnet, Vpc, check_state, port_id, vpc_states
from ovsnet.model.types import AllowedAddress, SecurityGroup
from ovsnet.reasons import Answer, Edit, End, Probe, explain
from ovsnet.trace import places
from tests.property.test_lint import GROUPS, NUMBERS, Packet, a_vpc, verdict

MODELS = 60
PROBES = 3
IPS = (("10.0.0.11", "fd00::11"), ("10.0.0.12", "fd00::12"), ("10.0.0.13",), ("10.1.0.11",))
PASSES = {"allow": "allowed", "drop": "dropped", "reject": "rejected", "refused": "refused"}


def a_model(random: Random, stateful: bool) -> Model:
    vpc = a_vpc(random, stateful)
    ports = {}
    for index, ips in enumerate(IPS):
        groups = tuple(random.sample(GROUPS, random.choice((0, 1, 1, 2, 2))))
        ports[f"p{index}"] = Port(
            network="n", host=random.choice(("h1", "h2")), mac=f"02:00:00:00:00:0{index}", ips=ips,
            id=port_id("v", f"p{index}"), security_groups=groups,
            allowed_addresses=random.choice(((), (AllowedAddress(ip="172.16.0.1"),))),
        )  # fmt: skip
    networks = {"n": Network(vni=1, subnets=(Subnet(cidr="10.0.0.0/8"), Subnet(cidr="fd00::/16")))}
    hosts = {"h1": Host(vtep="192.0.2.1"), "h2": Host(vtep="192.0.2.2")}
    model = Model(name="m", hosts=hosts, vpcs={"v": msgspec.structs.replace(vpc, networks=networks, ports=ports)})
    assert check_state(vpc_states(model)["v"]) == []
    return model


def a_probe(random: Random, sender: Port, receiver: Port) -> tuple[Probe, Packet, Packet]:
    """What is asked, and the packet as the sender's and as the receiver's rules see it."""
    six = random.choice([False, True]) and len(sender.ips or ()) == len(receiver.ips or ()) == 2
    protocol = random.choice(("tcp", "tcp", "udp", "icmp", "gre"))
    detail: tuple[int, ...] = ()
    if protocol in {"tcp", "udp"}:
        detail = (random.choice((53, 79, 80, 81)),)
    elif protocol == "icmp":
        detail = (random.choice((8, 128)), random.choice((0, 1)))
    number = NUMBERS["icmpv6" if six and protocol == "icmp" else protocol]
    probe = Probe(
        number if protocol == "gre" else protocol,
        detail[0] if len(detail) == 1 else 0,
        (detail[0], detail[1]) if len(detail) == 2 else None,
        6 if six else 4,
    )
    ours, theirs = ((port.ips or ())[int(six)] for port in (sender, receiver))
    return probe, Packet(number, detail, theirs), Packet(number, detail, ours)


def expected(vpc: Vpc, source: str, target: str, out: Packet, into: Packet) -> str:
    """The reason code that the evaluator's verdicts make."""
    for name, direction, packet in ((source, "egress", out), (target, "ingress", into)):
        word, _ = verdict(vpc, vpc.ports[name], direction, packet)
        if word != "allow":
            return f"{direction}-{PASSES[word] if vpc.ports[name].security_groups else 'no-groups'}"
    return "allowed"


def edited(vpc: Vpc, edits: tuple[Edit, ...]) -> Vpc:
    """The VPC with edits applied to it as plain data, by their paths."""
    data: dict[str, Any] = {"vpcs": {"v": msgspec.json.decode(msgspec.json.encode(vpc))}}
    for edit in edits:
        *way, last = [int(one) if one.isdigit() else one for one in re.findall(r"[a-z0-9_-]+", edit.path)]
        into: Any = data
        for step in way:
            into = into.setdefault(step, {}) if isinstance(into, dict) else into[step]
        if edit.op == "remove":
            assert into[last] == msgspec.json.decode(msgspec.json.encode(edit.value))
            del into[last]
        elif edit.op == "add" and last == "rules":
            into["rules"] = [*into.get("rules", []), edit.value]
        else:
            into[last] = edit.value
    return msgspec.convert(data["vpcs"]["v"], Vpc)


def decides(vpc: Vpc, end: End, packet: Packet) -> bool:
    """Whether the evaluator too has the end's rule decide: alone it matches and says what all rules together say."""
    found = re.fullmatch(r"vpcs\.v\.security_groups\.([a-z]+)\.rules\[(\d+)\]", end.object)
    assert found is not None
    port, rule = vpc.ports[end.port.removeprefix("v/")], vpc.security_groups[found[1]].rules[int(found[2])]
    assert msgspec.to_builtins(rule) == end.rule and found[1] in (port.security_groups or ())
    alone = SecurityGroup(rules=(rule,), default_egress="deny", stateful=vpc.security_groups[found[1]].stateful)
    groups = {**vpc.security_groups, "alone": alone}
    single = msgspec.structs.replace(port, security_groups=("alone",))
    word = verdict(msgspec.structs.replace(vpc, security_groups=groups), single, end.direction, packet)[0]
    return word == rule.action == end.verdict == verdict(vpc, port, end.direction, packet)[0]


@pytest.mark.parametrize("stateful", [True, False])
def test_the_answer_is_that_of_an_independent_evaluator_and_changes_turn_it(stateful: bool) -> None:
    answers: list[Answer] = []
    decided = 0
    for seed in range(MODELS):
        random = Random(seed)
        model = a_model(random, stateful)
        vpc, at = model.vpcs["v"], places(model)
        for _ in range(PROBES):
            source, target = random.sample(sorted(vpc.ports), 2)
            probe, out, into = a_probe(random, vpc.ports[source], vpc.ports[target])
            answer, _ = explain(model, at, f"v/{source}", f"v/{target}", probe)
            wanted = expected(vpc, source, target, out, into)
            assert answer.reason == wanted, f"seed {seed}, {probe}: {answer}"
            for end in (end for end in answer.ends if end.rule is not None):
                assert decides(vpc, end, out if end.direction == "egress" else into), f"seed {seed}, {probe}: {end}"
                decided += 1
            for edits in (answer.change, *answer.alternatives) if answer.change else ():
                after = expected(edited(vpc, edits), source, target, out, into)
                assert (after == "allowed") != answer.allowed, f"seed {seed}, {probe}: {edits} makes it {after}"
            answers.append(answer)
    assert decided > MODELS
    turned = [answer for answer in answers if answer.change]
    assert len(turned) == len(answers)
    assert {answer.reason for answer in answers} >= {
        "allowed",
        "egress-refused",
        "ingress-dropped",
        "ingress-no-groups",
    }
