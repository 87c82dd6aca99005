"""Whether a packet arrives, what decides at each end, and the smallest change that would turn the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import msgspec

from ovsnet.desired import Subject
from ovsnet.errors import UserError
from ovsnet.explain import Step
from ovsnet.model import Model, Port, check_state, vpc_states
from ovsnet.model.addresses import parse_ip
from ovsnet.model.nodes import Node, find
from ovsnet.model.numbers import ip_int, ip_text, mac_text
from ovsnet.model.routes import joined
from ovsnet.model.rules import groups_of
from ovsnet.model.types import Rule, Vpc
from ovsnet.pipeline import fields as f
from ovsnet.pipeline import verdicts as sg
from ovsnet.reasons.changes import Edit, EndPoint, turning
from ovsnet.reasons.judge import Direction, Packet, Verdict
from ovsnet.trace import Hop, Place, Trace, places, route_text, routed_by, trace

MOST_CHANGES = 3
"""How many changes are named: the smallest, and alternatives."""
_VERDICTS: dict[int, Verdict] = {sg.ALLOW: "allow", sg.DROP: "drop", sg.REJECT: "reject"}
_CODES = {"drop": "dropped", "reject": "rejected", "refuse": "refused"}
_NOT_ROUTED = {"no": "no-route", "route-unreachable": "unreachable", "route-nowhere": "black-hole"}
"""The reasons by the names of the templates that keep packets in a router."""
_STEP = re.compile(r"[a-z0-9_-]+")
_DETAILS = (f.TCP_DST, f.UDP_DST, f.SCTP_DST)


@dataclass(frozen=True)
class Probe:
    """The packet that is asked about: protocol (``icmp`` fits either IP version), destination port, ICMP type and code;
    ``family`` 4 or 6, 0 for the first that both ends share.
    """

    protocol: str | int = "icmp"
    port: int = 0
    icmp: tuple[int, int] | None = None
    family: int = 0


class End(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one end says. ``object`` is the path of the rule, or group, that decides (empty: none does), with its place
    in the model's text where that is known; ``rule`` is the rule.
    """

    direction: Direction
    port: str
    host: str
    verdict: Verdict
    object: str = ""
    file: str = ""
    line: int = 0
    column: int = 0
    rule: dict[str, Any] | None = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a packet arrives. ``reason`` is a code of ``REASONS``; ``end`` the end whose groups decide (``None``:
    none); ``route`` the router that it is for, with the route that holds; ``change`` the smallest one that turns the
    answer, empty if no change of groups does; ``stateless`` the ports whose groups are.
    """

    source: str
    target: str
    packet: str
    allowed: bool
    reason: str
    text: str
    end: Direction | None
    decided_by: str
    ends: tuple[End, ...] = ()
    change: tuple[Edit, ...] = ()
    alternatives: tuple[tuple[Edit, ...], ...] = ()
    stateless: tuple[str, ...] = ()
    route: str = ""


def explain(
    model: Model, at: Mapping[str, Place], source: str, target: str, probe: Probe
) -> tuple[Answer, Trace | None]:
    """The answer for one packet, and its way (``None``: it is not even sent). ``source`` is ``VPC/NAME``, ``target``
    that or an IP address. Raises UserError for a port that is not there, or a target that is neither.
    """
    vpc, _, name = source.partition("/")
    early = _before_sending(model, at, source, target, probe)
    if early is not None:
        return early, None
    found = trace(model, at, source, target, probe.protocol, probe.port, probe.family, probe.icmp)
    hop = found.hops[-1] if len(found.hops) == 1 else found.hops[1]
    packet = _packet(hop) if len(found.hops) > 1 else None
    receiver = _receiver(model, vpc, model.vpcs[vpc].ports[name].network, target, found)
    ends = tuple(_ends(model, source, receiver, found))
    code, text, end = _reason(model, at, source, receiver, target, found, ends)
    answer = Answer(
        source=source,
        target=target if receiver is None else receiver,
        packet=_packet_text(hop) if packet else hop.what,
        allowed=code == "allowed",
        reason=code,
        text=text,
        end=None if end is None else end.direction,
        decided_by=found.decided_by if end is None else end.object or end.port,
        ends=ends,
        stateless=_stateless(model, ends),
        route="" if packet is None else route_text(model, hop),
    )
    if packet is None or receiver is None or (code != "allowed" and end is None):
        return answer, found
    named = list(islice(_changes(model, at, answer, packet, target, probe), MOST_CHANGES))
    if named:
        answer = msgspec.structs.replace(answer, change=named[0], alternatives=tuple(named[1:]))
    return answer, found


def _before_sending(model: Model, at: Mapping[str, Place], source: str, target: str, probe: Probe) -> Answer | None:
    """The answer where nothing is sent at all."""
    sender, texts = _port(model, source), [target]
    if "/" in target:
        owner, _, other = target.partition("/")
        texts = list(model.vpcs[owner].ports[other].ips or ())
    elif parse_ip(target) is None:
        raise UserError(f"{target} is neither a port (VPC/PORT) nor an IP address.")
    mine, theirs = ({4 if ip_int(one)[1] == 32 else 6 for one in some} for some in (sender.ips or (), texts))
    shared = mine & theirs & ({probe.family} if probe.family else {4, 6})
    if sender.host is None:
        code, text = "source-unplaced", f"{source} has no host, so it sends nothing"
    elif sender.id not in at[sender.host].facts.ofports:
        code, text = "source-unplugged", f"{source} is not plugged on {sender.host}"
    elif not shared:
        which = f"IPv{probe.family} " if probe.family else ""
        code, text = "no-common-family", f"{source} and {target} have no {which}addresses of one family"
    else:
        return None
    return Answer(
        source=source, target=target, packet="", allowed=False, reason=code, text=text, end=None, decided_by=source
    )


def _packet(hop: Hop) -> Packet:
    packet, six = hop.packet, hop.packet[f.ETH_TYPE] == f.ETH_IPV6
    detail = next((packet[field] for field in _DETAILS if field in packet), 0)
    if f.ICMP_TYPE in packet:
        detail = packet[f.ICMP_TYPE] << 8 | packet[f.ICMP_CODE]
    elif f.ICMPV6_TYPE in packet:
        detail = packet[f.ICMPV6_TYPE] << 8 | packet[f.ICMPV6_CODE]
    source, target = (f.IPV6_SRC, f.IPV6_DST) if six else (f.IPV4_SRC, f.IPV4_DST)
    return Packet(6 if six else 4, packet[f.IP_PROTO], detail, packet[source], packet[target])


def _packet_text(hop: Hop) -> str:
    one = _packet(hop)
    bits = 32 if one.family == 4 else 128
    source, target = ip_text(one.source, bits), ip_text(one.target, bits)
    name = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}.get(one.protocol, f"protocol {one.protocol}")
    if one.protocol in {1, 58}:
        return f"{name} type {one.detail >> 8} code {one.detail & 0xFF}, {source} -> {target}"
    return f"{name} {source} -> {target}" + (f", port {one.detail}" if one.protocol in {6, 17, 132} else "")


def _receiver(model: Model, vpc: str, network: str, target: str, found: Trace) -> str | None:
    """The port that is meant, as ``VPC/NAME``, or the next hop that got it; ``None`` for nobody's address."""
    if "/" in target:
        return target
    networks = _together(model.vpcs[vpc], network)
    has = (
        name for name, port in model.vpcs[vpc].ports.items() if port.network in networks and target in (port.ips or ())
    )
    meant = next(has, None)
    if meant is not None:
        return f"{vpc}/{meant}"
    steps = found.hops[1].walk.steps if len(found.hops) > 1 else ()
    led = [step.flow.row.named() for step in steps if step.table.name in {"route", "next_hop"}]
    return next((_next_hop(model, vpc, values) for values in led if "mac" in values), None)


def _next_hop(model: Model, vpc: str, values: Mapping[str, int]) -> str | None:
    """The port that a route leads to, by its network's VNI and its MAC."""
    declared, mac = model.vpcs[vpc], mac_text(values["mac"])
    ports = (name for name, port in declared.ports.items() if port.mac == mac)
    vni = values["net"]
    return next((f"{vpc}/{name}" for name in ports if declared.networks[declared.ports[name].network].vni == vni), None)


def _together(vpc: Vpc, network: str) -> tuple[str, ...]:
    """The networks of a routed domain."""
    router = vpc.routers.get(joined(vpc.routers).get(network, ""))
    return (network,) if router is None else router.networks


def _ends(model: Model, source: str, receiver: str | None, found: Trace) -> Iterator[End]:
    """What both ends say, as the tables that were walked have it."""
    sender = _port(model, source)
    for index, hop in enumerate(found.hops[1:]):
        tables = [step.table.name for step in hop.walk.steps]
        split = tables.index("ingress") if "ingress" in tables else len(tables)
        if index == 0:
            if "egress" in tables[:split]:
                yield _end(model, "egress", source, hop, hop.walk.steps[:split])
            elif not sender.port_security and "l2" in tables:
                yield End(direction="egress", port=source, host=hop.host, verdict="unfiltered")
        if receiver is None:
            continue
        if split < len(tables):
            yield _end(model, "ingress", receiver, hop, hop.walk.steps[split:])
        elif hop.host in _port(model, receiver).hosts and not _port(model, receiver).port_security:
            yield End(direction="ingress", port=receiver, host=hop.host, verdict="unfiltered")


def _end(model: Model, direction: Direction, port: str, hop: Hop, steps: tuple[Step, ...]) -> End:
    judged = next((step for step in steps if step.table.name == "rules"), None)
    if judged is None:
        verdict: Verdict = "exempt" if steps[-1].table.name != f"{direction}_tracked" else "refuse"
        return End(direction=direction, port=port, host=hop.host, verdict=verdict)
    values = judged.flow.row.named()
    verdict = _VERDICTS.get(values.get("verdict", 0) & ~sg.LOGGED, "refuse")
    subject = judged.flow.subject
    if verdict == "refuse":
        return End(direction=direction, port=port, host=hop.host, verdict=verdict)
    rule = _rule(model, subject)
    shown = None if rule is None else msgspec.to_builtins(rule)
    return End(direction=direction, port=port, host=hop.host, verdict=verdict, object=subject.path, rule=shown)


def _rule(model: Model, subject: Subject) -> Rule | None:
    """The rule that a flow stems from; ``None`` where it is what a group allows without a rule."""
    group, bracket, index = subject.name.partition(".rules[")
    declared = model.vpcs[subject.vpc].security_groups.get(group)
    return declared.rules[int(index.rstrip("]"))] if bracket and declared is not None else None


def _port(model: Model, name: str) -> Port:
    vpc, _, port = name.partition("/")
    return model.vpcs[vpc].ports[port]


def _reason(
    model: Model,
    at: Mapping[str, Place],
    source: str,
    receiver: str | None,
    target: str,
    found: Trace,
    ends: tuple[End, ...],
) -> tuple[str, str, End | None]:
    """The code, a sentence, and the end that decides."""
    stopped = next((end for end in ends if end.verdict in _CODES), None)
    if stopped is not None and not found.delivered:
        groups = groups_of(_port(model, stopped.port))
        code = f"{stopped.direction}-{_CODES[stopped.verdict] if groups else 'no-groups'}"
        by = stopped.object or (f"no rule of {', '.join(groups)}" if groups else "its empty list of groups")
        what = {"drop": f"{by} drops it", "reject": f"{by} rejects it"}
        otherwise = f"{by} allows it" if groups else f"{by} lets nothing pass"
        return code, f"{stopped.direction} of {stopped.port}: {what.get(stopped.verdict, otherwise)}", stopped
    if found.delivered:
        decides = next((end for end in reversed(ends) if end.verdict == "allow"), None)
        return "allowed", found.reason, decides
    code, text = _elsewhere(model, at, source, receiver, target, found)
    return code, text, None


def _elsewhere(
    model: Model, at: Mapping[str, Place], source: str, receiver: str | None, target: str, found: Trace
) -> tuple[str, str]:
    """Why a packet does not arrive though no group stops it."""
    routed = next((step for hop in found.hops[1:2] if (step := routed_by(hop))), None)
    why = None if routed is None else routed.flow.row.template.name.removesuffix("-v6").rpartition("-")[0]
    if routed is not None and why in _NOT_ROUTED:
        return _NOT_ROUTED[why], found.reason
    if receiver is None:
        return "unknown-address", f"no port of {source}'s network has {target}"
    sender, port = _port(model, source), _port(model, receiver)
    if source.partition("/")[0] != receiver.partition("/")[0]:
        return "other-vpc", f"{source} and {receiver} are in different VPCs"
    if port.network not in _together(model.vpcs[source.partition("/")[0]], sender.network):
        return "other-network", f"{source} is in network {sender.network}, {receiver} in {port.network}"
    if port.host is None:
        return "target-unplaced", f"{receiver} has no host, so it is delivered to nobody"
    last = found.hops[-1].walk.last
    if last.table.name.endswith("security"):
        return "port-security", found.reason
    if port.id not in at[port.host].facts.ofports:
        return "target-unplugged", f"{receiver} is not plugged on {port.host}"
    return "not-delivered", found.reason


def _stateless(model: Model, ends: tuple[End, ...]) -> tuple[str, ...]:
    """The ports whose groups are stateless: what answers them needs rules of its own."""
    found = []
    for end in ends:
        groups = model.vpcs[end.port.partition("/")[0]].security_groups
        if any(name in groups and not groups[name].stateful for name in groups_of(_port(model, end.port))):
            found.append(end.port)
    return tuple(found)


def _changes(
    model: Model, at: Mapping[str, Place], answer: Answer, packet: Packet, target: str, probe: Probe
) -> Iterator[tuple[Edit, ...]]:
    """The changes that turn the answer: the changed model is checked, compiled and walked before one is named."""
    vpc = answer.source.partition("/")[0]
    facts = {end.host: at[end.host].facts for end in answer.ends}
    sender, receiver = answer.source.partition("/")[2], answer.target.partition("/")[2]
    ports = model.vpcs[vpc].ports
    points = (
        EndPoint("egress", sender, ports[sender], (receiver, ports[receiver])),
        EndPoint("ingress", receiver, ports[receiver], (sender, ports[sender])),
    )
    for change in turning(vpc, model.vpcs[vpc], points, packet):
        changed = msgspec.structs.replace(model, vpcs={vpc: change.vpc})
        if check_state(vpc_states(changed)[vpc]):
            continue
        again = trace(
            changed, places(changed, facts), answer.source, target, probe.protocol, probe.port,
            packet.family, probe.icmp,
        )  # fmt: skip
        if again.delivered != answer.allowed:
            yield change.edits


def placed(answer: Answer, root: Node) -> Answer:
    """The answer with the places of what decides, from the nodes of the model's text."""
    ends = []
    for end in answer.ends:
        steps = [int(one) if one.isdigit() else one for one in _STEP.findall(end.object)]
        at = find(root, tuple(steps), on_key="rules" not in steps)
        declared = find(root, tuple(steps[:3])).entries  # the built-in group has no place
        known = len(steps) > 3 and str(steps[3]) in declared
        ends.append(msgspec.structs.replace(end, file=at.file, line=at.line, column=at.column) if known else end)
    return msgspec.structs.replace(answer, ends=tuple(ends))
