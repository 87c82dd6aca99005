"""What the agent's API answers, as types; the OpenAPI document shows them."""

from __future__ import annotations

from typing import Any

import msgspec

from ovsnet.model.types import Encapsulation, Port


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Health(Answer, frozen=True, kw_only=True):
    """The process lives."""

    status: str = "ok"


class Readiness(Answer, frozen=True, kw_only=True):
    """Whether the agent enforces all that it was told, and why not."""

    ready: bool
    reasons: tuple[str, ...]


class HeldAnswer(Answer, frozen=True, kw_only=True):
    """Why a VPC stays at its last good flows: in words, with the flow and the model object that it stems from."""

    reason: str
    flow: str = ""
    path: str = ""


class VpcAnswer(Answer, frozen=True, kw_only=True):
    """Where this host stands with a VPC. ``enforced``: the revision in force, ``null`` for none yet."""

    revision: int
    enforced: int | None
    owner: str
    digest: str
    ports: int
    held: HeldAnswer | None


class VpcEvent(Answer, frozen=True, kw_only=True):
    """What an ``enforced`` event says of a VPC."""

    revision: int
    enforced: int | None
    held: str | None


class PortAnswer(Answer, frozen=True, kw_only=True):
    """A port on this host: what is declared, what it is bound to, and the ``reason`` why it is not enforced.

    ``up``: the link of its interface; ``zone``: its conntrack zone, once flows may use it; ``epoch`` counts placements,
    ``moving_to`` is the host that it moves to; ``active``: it moves here, and has sent something from here already.
    """

    port: str
    id: str
    network: str
    host: str | None
    moving_to: str | None
    epoch: int
    workload: str
    mac: str | None
    ips: tuple[str, ...]
    bound: bool
    interface: str | None
    ofport: int | None
    zone: int | None
    up: bool
    active: bool
    enforced: bool
    reason: str | None


class CountedPort(PortAnswer, frozen=True, kw_only=True):
    """A port, with ``dropped``: the frames that port security has refused from it; ``null`` when nobody can tell.

    ``declared`` is the port as it was told.
    """

    dropped: int | None
    declared: Port


class ConfirmAnswer(Answer, frozen=True, kw_only=True):
    """``waiting``: the VPCs whose ports are kept down since the host was booted, until somebody confirms them."""

    waiting: tuple[str, ...]


class Connections(Answer, frozen=True, kw_only=True):
    """Which of the switch's connections stand."""

    ovsdb: bool
    openflow: bool


class Misplaced(Answer, frozen=True, kw_only=True):
    """An interface here whose port is declared on another host, or on none (empty)."""

    port: str
    interface: str
    declared_host: str


class ConflictAnswer(Answer, frozen=True, kw_only=True):
    """Several interfaces claim one port's id: the one that is bound, and the others."""

    iface_id: str
    bound: str
    ignored: tuple[str, ...]


class HostAnswer(Answer, frozen=True, kw_only=True):
    """The host, its switch and what that can, its VPCs and its ports."""

    host: str
    vtep: str
    encapsulation: Encapsulation
    version: str
    protocols: tuple[int, ...]
    capabilities: tuple[str, ...]
    ready: bool
    faults: tuple[str, ...]
    bridge: str
    ovsdb: str
    datapath: str
    datapath_id: str
    ovs_version: str
    connected: Connections
    tunnel_ofport: int | None
    mtu: int
    flows: int
    repairs: int
    vpcs: dict[str, VpcAnswer]
    ports: tuple[PortAnswer, ...]
    misplaced: tuple[Misplaced, ...]
    conflicts: tuple[ConflictAnswer, ...]
    warnings: tuple[str, ...]


class ChangedVpc(Answer, frozen=True, kw_only=True):
    """A VPC after a write; ``revision`` is ``null`` for one that is gone."""

    revision: int | None
    enforced: int | None
    held: str | None


class ChangeAnswer(Answer, frozen=True, kw_only=True):
    """What became of a write; ``reason``: why it is not in force yet, ``null`` once it is."""

    changed: bool
    vpcs: dict[str, ChangedVpc]
    reason: str | None


class PreviewAnswer(Answer, frozen=True, kw_only=True):
    """What a write would change in the switch: counts (added, changed, removed), and a line for each flow."""

    counts: dict[str, int]
    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]


class FlowAnswer(Answer, frozen=True, kw_only=True):
    """A flow: ``text`` in words, ``ofctl`` as ``ovs-ofctl`` writes it, and whose it is."""

    table: str
    table_id: int
    priority: int
    template: str
    feature: str
    text: str
    ofctl: str
    vpc: str
    object: str
    match: dict[str, Any]
    actions: tuple[str, ...]


class PlugAnswer(Answer, frozen=True, kw_only=True):
    """A port that is plugged; ``peer`` is the workload's end of a veth pair that was made; ``changed``: just now."""

    interface: str
    peer: str | None
    changed: bool
    port: PortAnswer


class UnplugAnswer(Answer, frozen=True, kw_only=True):
    """The interfaces that are unplugged now; of those that somebody else plugged, none."""

    changed: bool
    interfaces: tuple[str, ...]


class TraceTable(Answer, frozen=True, kw_only=True):
    """One table on a packet's way: the flow that matched, and the model object that it stems from."""

    table: str
    flow: str
    object: str


class TraceHop(Answer, frozen=True, kw_only=True):
    """A packet's way through one host. ``packet``: as ``ovs-appctl ofproto/trace`` takes it."""

    host: str
    what: str
    packet: str
    tables: tuple[TraceTable, ...]


class TraceAnswer(Answer, frozen=True, kw_only=True):
    """A packet's whole way: the ports that it ``reached``, and why it ended there."""

    source: str
    target: str
    delivered: bool
    reached: tuple[str, ...]
    reason: str
    decided_by: str
    hops: tuple[TraceHop, ...]
