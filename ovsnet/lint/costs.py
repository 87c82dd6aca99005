"""What the rules of a model cost in flows: by rule, and by host."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from ovsnet.errors import path_text
from ovsnet.lint.meaning import Scene
from ovsnet.model.rules import PROTOCOLS, family, port_masks, port_ranges, protocol_number
from ovsnet.model.types import Rule


class RuleCost(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule costs. ``flows``: for each set of groups (policy) that some port of a host has; ``policies``: how
    many of those have the rule; ``hosts``: how many hosts have flows of it; ``most``: flows on ``busiest``, the host
    with most of them (empty: no host has any).
    """

    path: str
    flows: int
    policies: int
    hosts: int
    most: int
    busiest: str


def cost(rule: Rule, *, stateful: bool) -> int:
    """The flows that one rule becomes in each policy that has it.

    One a port mask, or one without ports. Errors about SCTP connections take one more, if the rule has ports and
    allows. Later fragments, which an allow rule of a stateless group lets pass, take one for each family: in IPv4 only
    beside ports.
    """
    masks = [mask for first, last in port_ranges(rule) for mask in port_masks(first, last)]
    ports = 0 if masks == [(0, 0)] else len(masks)
    number = protocol_number(rule)
    if number is None:
        return 1
    if stateful:
        told = number == PROTOCOLS["sctp"] and ports > 0 and rule.action == "allow"
        return (ports or 1) + told
    if rule.action != "allow":
        return ports or 1
    beside_ports = ports > 0 or rule.type is not None
    return (ports or 1) + (beside_ports and family(rule) != 6) + (family(rule) != 4)


def policies_by_host(scene: Scene) -> dict[str, set[tuple[str, ...]]]:
    """The policies of the ports that each host delivers to."""
    found: dict[str, set[tuple[str, ...]]] = {}
    for groups, ports in scene.policies.items():
        for port in ports:
            for host in port.hosts:
                found.setdefault(host, set()).add(groups)
    return found


def rule_costs(scene: Scene) -> list[RuleCost]:
    """The cost of every declared rule of a VPC, in the order of declaration."""
    at = policies_by_host(scene)
    result = []
    for group in scene.vpc.security_groups:
        policies = sum(group in groups for groups in scene.policies)
        by_host = {host: count for host, held in at.items() if (count := sum(group in groups for groups in held))}
        busiest = min(by_host, key=lambda host: (-by_host[host], host), default="")
        for line in scene.lines[group]:
            flows = cost(line.rule, stateful=line.stateful)
            result.append(
                RuleCost(
                    path=path_text(line.path),
                    flows=flows,
                    policies=policies,
                    hosts=len(by_host),
                    most=flows * by_host.get(busiest, 0),
                    busiest=busiest,
                )
            )
    return result


def host_totals(scenes: Iterable[Scene]) -> Mapping[str, int]:
    """The flows that declared rules cost on each host that has some, most first."""
    totals: dict[str, int] = {}
    for scene in scenes:
        each = {
            group: sum(cost(line.rule, stateful=line.stateful) for line in scene.lines[group])
            for group in scene.vpc.security_groups
        }
        for host, held in policies_by_host(scene).items():
            flows = sum(each.get(group, 0) for groups in held for group in groups)
            totals[host] = totals.get(host, 0) + flows
    return dict(sorted(((host, flows) for host, flows in totals.items() if flows), key=lambda one: (-one[1], one[0])))
