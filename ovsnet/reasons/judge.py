"""What the model's groups say of a packet, without compiling anything: for trying changes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ovsnet.lint.meaning import EXEMPT, Line, Scene
from ovsnet.lint.regions import Region
from ovsnet.model.rules import groups_of
from ovsnet.model.types import Port

Direction = Literal["ingress", "egress"]
Verdict = Literal["allow", "drop", "reject", "refuse", "unfiltered", "exempt"]
"""``refuse``: no rule matches. ``unfiltered``: the port has no port security. ``exempt``: no group is asked."""


@dataclass(frozen=True)
class Packet:
    """The first packet of a connection: IP version, protocol, the port or ``type * 256 + code`` (0 where the protocol
    has none), and the addresses as numbers.
    """

    family: int
    protocol: int
    detail: int
    source: int
    target: int

    def peer(self, direction: Direction) -> int:
        """The address of the other end, as the port that ``direction`` is seen from has it."""
        return self.source if direction == "ingress" else self.target


@dataclass(frozen=True)
class Judgement:
    """What one end says, and what decides: a line, or a group that allows all egress without a rule."""

    verdict: Verdict
    line: Line | None = None
    group: str | None = None


def judge(scene: Scene, port: Port, direction: Direction, packet: Packet) -> Judgement:
    """What the groups of a port say of a packet."""
    if not port.port_security:
        return Judgement("unfiltered")
    point = region_of(packet, direction)
    if point.meet(EXEMPT) is not None:
        return Judgement("exempt")
    lines = matching(scene, port, direction, packet)
    if lines:
        return Judgement(lines[0].rule.action, lines[0])
    if direction == "egress":
        opener = next((group for group in sorted(groups_of(port)) if allows_all_egress(scene, group)), None)
        if opener is not None:
            return Judgement("allow", None, opener)
    return Judgement("refuse")


def region_of(packet: Packet, direction: Direction) -> Region:
    """The region that holds nothing but this packet, as one end sees it."""
    peer = packet.peer(direction)
    return Region(packet.family, ((packet.protocol,) * 2,), ((packet.detail,) * 2,), ((peer, peer),))


def matching(scene: Scene, port: Port, direction: Direction, packet: Packet) -> list[Line]:
    """The lines of a port's groups that match a packet, the one that decides first."""
    point, meaning = region_of(packet, direction), scene.today(port.network)
    lines = [line for group in groups_of(port) for line in scene.lines.get(group, ())]
    found = [
        line
        for line in lines
        if line.rule.direction == direction and any(point.meet(region) is not None for region in meaning(line))
    ]
    return sorted(found, key=lambda line: (line.rank, line.path))


def allows_all_egress(scene: Scene, group: str) -> bool:
    """Whether a group, having no egress rule, allows all egress."""
    declared = scene.vpc.security_groups.get(group)
    silent = all(line.rule.direction == "ingress" for line in scene.lines.get(group, ()))
    return silent and (declared is None or declared.default_egress == "allow")
