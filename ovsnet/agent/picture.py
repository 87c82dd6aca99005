"""What a host shows of its ports and VPCs, kept current piece by piece. Pure: a function of scenes, done incrementally.

Reports, events and the API all show the same things. Looking at everything for each change would cost what the host
holds; so a picture is told which ports and VPCs a change touches, finds in two scenes what else differs, and looks at
that alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from ovsnet.agent.answers import ConflictAnswer, Misplaced, PortAnswer, VpcEvent
from ovsnet.agent.boot import REASON
from ovsnet.agent.reconcile import Status
from ovsnet.model.types import Port, VpcState
from ovsnet.ovsdb import Interface, SwitchState
from ovsnet.transport.changes import Patch
from ovsnet.transport.messages import PortReport, VpcReport
from ovsnet.transport.view import Change

T = TypeVar("T")

Named = tuple[str, str]
"""A port: its VPC, and its name there."""


class Pending(NamedTuple):
    """A change that touches a port and may not be in the switch yet: its number, and the revision that it leads to."""

    serial: int
    revision: int


@dataclass(frozen=True)
class Scene:
    """All that ports and VPCs are judged by, at one moment; nothing of it is changed in place.

    ``local`` are the ports on the host ``host`` or about to be, by VPC; ``pending`` those of them whose last change is
    not through the switch; ``waiting`` the VPCs that nobody has confirmed since a boot; ``active`` the ports that have
    arrived; ``unsaved`` the VPCs that the disk has refused, ``unstored`` these and those that it has not taken yet.
    ``port_of(id)`` finds a port by its id, ``disk`` names the state directory.
    """

    host: str
    states: Mapping[str, VpcState]
    local: Mapping[str, Mapping[str, Port]]
    pending: Mapping[Named, Pending]
    switch: SwitchState
    status: Status
    waiting: frozenset[str]
    active: frozenset[Named]
    unsaved: frozenset[str]
    unstored: frozenset[str]
    port_of: Callable[[str], Named | None]
    disk: str


class VpcLook(NamedTuple):
    """What is shown of a VPC: in events, and in reports."""

    event: VpcEvent
    report: VpcReport


class PortLook(NamedTuple):
    """What is shown of a port on this host: in events and answers, and in reports."""

    answer: PortAnswer
    report: PortReport


@dataclass(frozen=True)
class Things:
    """What there is to see: VPCs by name, ports as ``VPC/NAME``, interfaces' conflicts by id.

    As a difference it has what may be another, ``None`` for what is gone.
    """

    vpcs: dict[str, VpcLook | None] = field(default_factory=dict)
    ports: dict[str, PortLook | None] = field(default_factory=dict)
    misplaced: dict[str, Misplaced | None] = field(default_factory=dict)
    conflicts: dict[str, ConflictAnswer | None] = field(default_factory=dict)

    def take(self, difference: Things) -> None:
        """Take a difference over into what there is."""
        for mine, changes in zip(self.parts(), difference.parts(), strict=True):
            for key, value in changes.items():
                if value is None:
                    mine.pop(key, None)
                else:
                    mine[key] = value

    def take_all(self, difference: Things) -> None:
        """Add a later difference to this one."""
        for mine, changes in zip(self.parts(), difference.parts(), strict=True):
            mine.update(changes)

    def copy(self) -> Things:
        """The same things, apart from those that others go on with."""
        return Things(dict(self.vpcs), dict(self.ports), dict(self.misplaced), dict(self.conflicts))

    def names(self) -> list[str]:
        """What there is, by name."""
        return sorted(name for part in self.parts() for name in part)

    def beside(self, before: Things) -> Things:
        """The difference that leads from ``before`` to this."""
        found = Things()
        for into, old, new in zip(found.parts(), before.parts(), self.parts(), strict=True):
            into.update((key, new.get(key)) for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        return found

    def parts(self) -> tuple[dict[str, object], ...]:
        """The four mappings."""
        return (self.vpcs, self.ports, self.misplaced, self.conflicts)  # type: ignore[return-value]

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return any(self.parts())


@dataclass
class Touched:
    """What changes have touched: single ports, VPCs (at least their revision), and VPCs with all ports in them."""

    ports: set[Named] = field(default_factory=set)
    vpcs: set[str] = field(default_factory=set)
    whole: set[str] = field(default_factory=set)

    def note(self, change: Change) -> None:
        """Take note of a change that was made."""
        for operation in change.operations:
            self.vpcs.add(operation.vpc)
            if isinstance(operation, Patch) and not _of_all(operation):
                self.ports.update((operation.vpc, name) for name in operation.ports)
            else:
                self.whole.add(operation.vpc)


def _of_all(operation: Patch) -> bool:
    """Whether a change is about groups or routers, and so about any port of the VPC."""
    return bool(operation.security_groups or operation.address_groups or operation.routers)


def pending_of(change: Change, serial: int, local: Mapping[str, Mapping[str, Port]]) -> dict[Named, Pending]:
    """The ports on this host that a change touches, as pending; ``local`` are those after it, ``serial`` its number."""
    found: dict[Named, Pending] = {}
    for operation in change.operations:
        vpc, here = operation.vpc, local.get(operation.vpc, {})
        state = change.states[vpc]
        names: Iterator[str]
        if not isinstance(operation, Patch) or _of_all(operation):
            names = iter(here)
        elif operation.networks:
            names = (n for n, port in here.items() if n in operation.ports or port.network in operation.networks)
        else:
            names = (name for name in operation.ports if name in here)
        if state is not None:
            found.update(((vpc, name), Pending(serial, state.revision)) for name in names)
    return found


class Picture:
    """What there is to see in the scenes that it is shown, one after the other. For one thread."""

    def __init__(self) -> None:
        self.things = Things()
        self._scene: Scene | None = None

    def advance(self, scene: Scene, touched: Touched) -> Things:
        """Go on to another scene; ``touched`` is what changes between the two have touched. Returns the difference."""
        before, self._scene = self._scene, scene
        difference = look(scene).beside(self.things) if before is None else self._looked(before, scene, touched)
        self.things.take(difference)
        return difference

    def check(self) -> Things:
        """Look at all of the present scene; returns what was not as it should be, which is mended."""
        wrong = Things() if self._scene is None else look(self._scene).beside(self.things)
        self.things.take(wrong)
        return wrong

    def _looked(self, before: Scene, scene: Scene, touched: Touched) -> Things:
        vpcs, ports = _affected(before, scene, touched)
        for path in self.things.misplaced if touched.whole else ():
            vpc, _, name = path.partition("/")
            if vpc in touched.whole:
                ports.add((vpc, name))
        now = Things()
        now.vpcs.update((vpc, _vpc(scene, vpc)) for vpc in vpcs)
        for named in ports:
            path = "/".join(named)
            now.ports[path] = _port(scene, named)
            now.misplaced[path] = _misplaced(scene, named)
        if before.switch.conflicts != scene.switch.conflicts:
            now.conflicts.update((one.iface_id, None) for one in before.switch.conflicts)
            now.conflicts.update(_conflicts(scene))
        return Things(
            *(
                {key: value for key, value in new.items() if value != old.get(key)}
                for new, old in zip(now.parts(), self.things.parts(), strict=True)
            )  # type: ignore[arg-type]
        )


def look(scene: Scene) -> Things:
    """All that there is to see, from scratch."""
    things = Things()
    things.vpcs.update((vpc, _vpc(scene, vpc)) for vpc in scene.states)
    for vpc, local in scene.local.items():
        if vpc in scene.states:
            things.ports.update((f"{vpc}/{name}", _port(scene, (vpc, name))) for name in local)
    things.misplaced.update((one.port, one) for one in misplaced(scene))
    things.conflicts.update(_conflicts(scene))
    return things


def misplaced(scene: Scene) -> list[Misplaced]:
    """The interfaces here whose ports are declared on another host, or on none, by their ids."""
    named = (scene.port_of(iface_id) for iface_id in sorted(scene.switch.interfaces))
    return [found for one in named if one is not None and (found := _misplaced(scene, one)) is not None]


def port_answer(scene: Scene, vpc: str, name: str, declared: Port) -> PortAnswer:
    """One port: what is declared, what it is bound to, and why it is not enforced."""
    interface = scene.switch.interfaces.get(declared.id)
    zone = scene.switch.zones.zones.get(declared.id)
    reason = _reason(scene, (vpc, name), declared, interface)
    return PortAnswer(
        port=f"{vpc}/{name}",
        id=declared.id,
        network=declared.network,
        host=declared.host,
        moving_to=declared.moving_to,
        epoch=declared.epoch,
        workload=declared.workload,
        mac=declared.mac,
        ips=declared.ips or (),
        bound=interface is not None and scene.host in declared.hosts,
        interface=None if interface is None else interface.name,
        ofport=None if interface is None else interface.ofport,
        zone=None if zone is None else zone.number,
        up=interface is not None and interface.up,
        active=(vpc, name) in scene.active,
        enforced=not reason,
        reason=reason or None,
    )


def _reason(scene: Scene, named: Named, declared: Port, interface: Interface | None) -> str:
    """Why a port is not enforced as it was last declared; empty if it is."""
    status, (vpc, _) = scene.status, named
    if scene.host not in declared.hosts:
        where = f"declared on {declared.host}" if declared.host else "placed on no host"
        return f"{where}, and plugged here" if interface is not None else where
    if interface is None:
        return f"no interface on {scene.switch.bridge} has external_ids:iface-id={declared.id}"
    if interface.ofport is None:
        return interface.error or "ovs-vswitchd has given the interface no OpenFlow port yet"
    if vpc in scene.waiting:
        return REASON
    if vpc in status.held:
        return status.held[vpc].reason
    if status.fault:
        return status.fault
    pending = scene.pending.get(named)
    if pending is None:
        in_force = vpc not in status.facts.down and status.facts.ofports.get(declared.id) == interface.ofport
        return "" if in_force else f"the flows of {interface.name} are on their way"
    return f"revision {status.enforced.get(vpc)} is in force, {pending.revision} is on its way"


def _port(scene: Scene, named: Named) -> PortLook | None:
    vpc, name = named
    declared = scene.local.get(vpc, {}).get(name)
    if declared is None or vpc not in scene.states:
        return None
    answer = port_answer(scene, vpc, name, declared)
    reason = answer.reason or ("" if answer.up else f"the link of {answer.interface} is down")
    return PortLook(answer, PortReport(up=not reason, reason=reason, active=answer.active))


def _vpc(scene: Scene, vpc: str) -> VpcLook | None:
    """A VPC. One that is not on disk is not reported as enforced: it is lost when the agent ends."""
    state = scene.states.get(vpc)
    if state is None:
        return None
    hold = scene.status.held.get(vpc)
    held = None if hold is None else hold.reason
    enforced = scene.status.enforced.get(vpc)
    reason = f"not on disk: {scene.disk} takes nothing" if vpc in scene.unsaved else held or ""
    return VpcLook(
        VpcEvent(revision=state.revision, enforced=enforced, held=held),
        VpcReport(state.revision, None if vpc in scene.unstored else enforced, reason),
    )


def _misplaced(scene: Scene, named: Named) -> Misplaced | None:
    state = scene.states.get(named[0])
    port = None if state is None else state.ports.get(named[1])
    interface = None if port is None else scene.switch.interfaces.get(port.id)
    if port is None or interface is None or scene.host in port.hosts:
        return None
    return Misplaced(port="/".join(named), interface=interface.name, declared_host=port.host or "")


def _conflicts(scene: Scene) -> dict[str, ConflictAnswer]:
    return {
        c.iface_id: ConflictAnswer(iface_id=c.iface_id, bound=c.chosen, ignored=c.others)
        for c in scene.switch.conflicts
    }


def _affected(before: Scene, scene: Scene, touched: Touched) -> tuple[set[str], set[Named]]:
    """The VPCs and the ports that may look different."""
    old, new = before.status, scene.status
    vpcs, ports, whole = set(touched.vpcs), set(touched.ports), set(touched.whole)
    vpcs |= (before.unsaved ^ scene.unsaved) | (before.unstored ^ scene.unstored)
    ports |= before.active ^ scene.active
    whole |= before.waiting ^ scene.waiting
    if old is not new:
        vpcs.update(_differing(old.enforced, new.enforced))
        held = set(_differing(old.held, new.held))
        vpcs |= held
        whole |= held
        whole |= old.facts.down ^ new.facts.down
        if old.fault != new.fault:
            whole |= before.local.keys() | scene.local.keys()
    ids = _differing(old.facts.ofports, new.facts.ofports)
    ids += _differing(before.switch.interfaces, scene.switch.interfaces)
    ids += _differing(before.switch.zones.zones, scene.switch.zones.zones)
    ports.update(named for iface_id in ids if (named := scene.port_of(iface_id)) is not None)
    ports.update(_differing(before.pending, scene.pending))
    ports.update(named for named in scene.pending if named[0] in vpcs)
    for vpc in whole:
        ports.update((vpc, name) for scenes in (before, scene) for name in scenes.local.get(vpc, ()))
    if touched.whole:
        known = [scene.port_of(iface_id) for iface_id in scene.switch.interfaces]
        ports.update(named for named in known if named is not None and named[0] in touched.whole)
    return vpcs, ports


def _differing(before: Mapping[T, object], now: Mapping[T, object]) -> list[T]:
    """The keys of what is not the very same; what is equal and made anew counts too, which costs a look."""
    if before is now:
        return []
    found = [key for key, value in now.items() if before.get(key) is not value]
    return found + [key for key in before if key not in now]
