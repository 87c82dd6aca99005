"""The incremental picture is the one that a look at everything gives, whatever has changed in between."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from ovsnet.agent import picture
from ovsnet.agent.answers import PortAnswer
from ovsnet.agent.boot import REASON
from ovsnet.agent.enforce import Hold
from ovsnet.agent.lookout import Lookout
from ovsnet.agent.observe import LocalPorts
from ovsnet.agent.picture import Named, Pending, Scene, Things, look
from ovsnet.agent.reconcile import Status
from ovsnet.agent.seen import facts_of
from ovsnet.model.types import Network, Port, Router, Subnet, VpcState
from ovsnet.ovsdb import Conflict, Interface, SwitchState
from ovsnet.transport.changes import Operation, Patch, Put, Withdraw
from ovsnet.transport.view import HostView
from tests.agent_kit import port, state

VPCS = ("shop", "club")
NUMBERS = st.integers(1, 4)
VPC = st.sampled_from(VPCS)
SOME = st.frozensets(VPC)


class World:
    """Everything that an agent's picture depends on, without its switch."""

    def __init__(self) -> None:
        self.view = HostView("hv1", {})
        self.local = LocalPorts("hv1", [])
        self.interfaces: dict[str, Interface] = {}
        self.conflicts: tuple[Conflict, ...] = ()
        self.status = Status()
        self.fed = 0
        self.waiting: frozenset[str] = frozenset()
        self.active: frozenset[Named] = frozenset()
        self.unsaved: frozenset[str] = frozenset()
        self.unstored: frozenset[str] = frozenset()
        self.switch = SwitchState("br-int")
        self.begin()
        self.lookout = Lookout(self.scene, lambda: self.status.through)

    def scene(self, pending: Mapping[Named, Pending]) -> Scene:
        return Scene(
            host="hv1",
            states=self.view.states,
            local=self.local.by_vpc,
            pending=pending,
            switch=self.switch,
            status=self.status,
            waiting=self.waiting,
            active=self.active,
            unsaved=self.unsaved,
            unstored=self.unsaved | self.unstored,
            port_of=self.view.port_of,
            disk="/var/lib/ovsnet",
        )

    def change(self, *operations: Operation) -> None:
        change = self.view.check(operations)
        self.view.commit(change)
        self.local.follow(change)
        self.fed += 1
        self.lookout.note(change, self.fed, self.local.by_vpc)

    def plug(self, interface: Interface | None, iface_id: str) -> None:
        kept = {key: one for key, one in self.interfaces.items() if key != iface_id}
        self.interfaces = kept if interface is None else kept | {iface_id: interface}
        self.show()

    def show(self) -> None:
        self.switch = SwitchState(
            "br-int", interfaces=MappingProxyType(dict(self.interfaces)), conflicts=self.conflicts
        )

    def begin(self) -> None:
        """The switch's next step takes what has come in by now."""
        self.begun = (self.fed, self.view.states, replace(facts_of(self.switch), down=self.waiting))

    def barrier(self, held: frozenset[str] = frozenset(), fault: str = "") -> None:
        """The step that was begun last is through the switch."""
        fed, states, facts = self.begun
        if fault:
            self.status = replace(self.status, synced=False, fault=fault, enforced={})
            return
        self.status = Status(
            synced=True,
            fault="",
            enforced={vpc: one.revision for vpc, one in states.items() if vpc not in held},
            held={vpc: Hold(f"{vpc} is refused") for vpc in held & states.keys()},
            through=fed,
            facts=facts,
        )


def ident(vpc: str, number: int) -> str:
    return port(vpc, number).id


PLACES = st.none() | st.sampled_from(["hv1", "hv2"])
INTERFACES = st.none() | st.builds(
    Interface,
    name=st.sampled_from(["tap0", "tap1"]),
    bridge=st.just("br-int"),
    ofport=st.none() | st.integers(1, 3),
    up=st.booleans(),
    error=st.sampled_from(["", "no such device"]),
)


class Incremental(RuleBasedStateMachine):
    """Whatever happens, in whatever order, and looked at whenever: every reader sees what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.reader, self.slow = self.world.lookout.reader(), self.world.lookout.reader()
        self.seen, self.seen_late = Things(), Things()
        for vpc in VPCS:
            self.put(vpc, 2)
            for number in (1, 2, 3):
                name = f"{vpc}{number}"
                self.world.plug(Interface(name, "br-int", ofport=number, up=True), ident(vpc, number))
        self.world.begin()
        self.world.barrier()

    @rule(vpc=VPC, local=st.integers(0, 2))
    def put(self, vpc: str, local: int) -> None:
        held = self.world.view.states.get(vpc)
        vni = 5001 + VPCS.index(vpc)
        operations: list[Operation] = [] if held is None else [Withdraw(vpc)]
        self.world.change(*operations, Put(state(vpc, 1, vni=vni, local=local)))

    @rule(vpc=VPC)
    def raised(self, vpc: str) -> None:
        held = self.world.view.states.get(vpc)
        if held is not None:
            self.world.change(Put(msgspec.structs.replace(held, revision=held.revision + 1)))

    @rule(vpc=VPC, again=st.integers(0, 3))
    def withdraw(self, vpc: str, again: int) -> None:
        self.world.change(Withdraw(vpc))
        if again:
            self.put(vpc, again - 1)

    @rule(vpc=VPC, number=NUMBERS, host=PLACES, moving_to=PLACES, gone=st.booleans())
    def patch(self, vpc: str, number: int, host: str | None, moving_to: str | None, gone: bool) -> None:
        held, name = self.world.view.states.get(vpc), f"p{number}"
        if held is None:
            return
        epoch = held.ports[name].epoch + 1 if name in held.ports else 0
        moving_to = None if host in {None, moving_to} else moving_to
        new = msgspec.structs.replace(port(vpc, number, host), moving_to=moving_to, epoch=epoch)
        self.patched(held, ports={name: None if gone else new})

    @rule(vpc=VPC)
    def another_network(self, vpc: str) -> None:
        held = self.world.view.states.get(vpc)
        if held is not None:
            wide = Network(vni=held.networks["n"].vni, subnets=(Subnet(cidr="10.0.0.0/8"),))
            self.patched(held, networks={"n": wide})

    @rule(vpc=VPC, gone=st.booleans())
    def another_router(self, vpc: str, gone: bool) -> None:
        held = self.world.view.states.get(vpc)
        if held is not None:
            joins = Router(vni=9001 + VPCS.index(vpc), networks=("n",))
            self.patched(held, routers={"r1": None if gone else joins})

    @rule(vpc=VPC, number=NUMBERS, interface=INTERFACES)
    def plug(self, vpc: str, number: int, interface: Interface | None) -> None:
        self.world.plug(interface, ident(vpc, number))

    @rule(chosen=st.sampled_from(["", "tap0", "tap1"]), vpc=VPC, number=NUMBERS)
    def conflict(self, chosen: str, vpc: str, number: int) -> None:
        self.world.conflicts = (Conflict(ident(vpc, number), chosen, ("tap2",)),) if chosen else ()
        self.world.show()

    @rule()
    def begin(self) -> None:
        self.world.begin()

    @rule(held=SOME, fault=st.sampled_from(["", "", "", "no connection"]))
    def barrier(self, held: frozenset[str], fault: str) -> None:
        self.world.barrier(held, fault)

    @rule(waiting=SOME)
    def confirm(self, waiting: frozenset[str]) -> None:
        self.world.waiting = waiting

    @rule(vpc=VPC, number=NUMBERS)
    def arrive(self, vpc: str, number: int) -> None:
        self.world.active ^= {(vpc, f"p{number}")}

    @rule(unsaved=SOME, unstored=SOME)
    def disk(self, unsaved: frozenset[str], unstored: frozenset[str]) -> None:
        self.world.unsaved, self.world.unstored = unsaved, unstored

    @invariant()
    def read(self) -> None:
        self.seen.take(self.reader.changes())
        assert self.seen == look(self.world.lookout.scene())

    @rule(everything=st.booleans())
    def read_late(self, everything: bool) -> None:
        if everything:
            self.seen_late = self.slow.everything().copy()
        else:
            self.seen_late.take(self.slow.changes())
        assert self.seen_late == look(self.world.lookout.scene())

    def teardown(self) -> None:
        self.read_late(everything=False)

    def patched(self, held: VpcState, **changes: Any) -> None:
        self.world.change(Patch(vpc=held.name, previous=held.revision, revision=held.revision + 1, **changes))


TestIncremental = Incremental.TestCase
TestIncremental.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_a_change_of_one_port_looks_at_that_port_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.change(Put(state(local=50)))
    world.begin()
    world.barrier()
    reader = world.lookout.reader()
    reader.changes()
    looked: list[str] = []
    judge = picture.port_answer

    def counted(scene: Scene, vpc: str, name: str, declared: Port) -> PortAnswer:
        looked.append(name)
        return judge(scene, vpc, name, declared)

    monkeypatch.setattr(picture, "port_answer", counted)
    moved = msgspec.structs.replace(port("shop", 7, "hv1"), epoch=1)
    world.change(Patch(vpc="shop", previous=1, revision=2, ports={"p7": moved}))
    assert reader.changes().ports.keys() == {"shop/p7"} == {f"shop/{name}" for name in looked}
    world.begin()
    world.barrier()
    assert reader.changes().vpcs.keys() == {"shop"}
    assert set(looked) == {"p7"}, "the barrier concerns what was pending"
    world.plug(Interface("tap0", "br-int", ofport=3, up=True), ident("shop", 9))
    assert reader.changes().ports.keys() == {"shop/p9"}
    world.begin()
    world.barrier()
    assert reader.changes().ports.keys() == {"shop/p9"}
    assert set(looked) == {"p7", "p9"}


def reasons_of(world: World) -> Callable[[], dict[str, str]]:
    """What tells, of the ports that are not enforced, why."""
    reader = world.lookout.reader()
    reasons: dict[str, str | None] = {}

    def seen() -> dict[str, str]:
        reasons.update((path, one.answer.reason) for path, one in reader.changes().ports.items() if one is not None)
        return {path: reason for path, reason in reasons.items() if reason is not None}

    return seen


def test_a_port_is_enforced_while_changes_of_others_are_on_their_way() -> None:
    world = World()
    world.plug(Interface("tap0", "br-int", ofport=3, up=True), ident("shop", 1))
    world.plug(Interface("tap1", "br-int", ofport=4, up=True), ident("shop", 2))
    world.change(Put(state(local=2)))
    seen = reasons_of(world)
    world.begin()
    world.barrier()
    assert seen() == {}
    world.change(Patch(vpc="shop", previous=1, revision=2, ports={"p9": port("shop", 9)}))
    world.begin()
    anew = msgspec.structs.replace(port("shop", 1, "hv1"), epoch=1)
    world.change(Patch(vpc="shop", previous=2, revision=3, ports={"p1": anew}))
    assert seen() == {"shop/p1": "revision 1 is in force, 3 is on its way"}
    world.barrier()
    assert seen() == {"shop/p1": "revision 2 is in force, 3 is on its way"}
    world.begin()
    world.barrier()
    assert seen() == {}


def test_a_port_is_enforced_once_the_flows_of_its_interface_are_in_the_switch() -> None:
    world = World()
    world.change(Put(state(local=1)))
    world.waiting = frozenset({"shop"})
    seen = reasons_of(world)
    world.plug(Interface("tap0", "br-int", ofport=3, up=True), ident("shop", 1))
    world.begin()
    world.barrier()
    assert seen() == {"shop/p1": REASON}
    world.waiting = frozenset()
    on_their_way = {"shop/p1": "the flows of tap0 are on their way"}
    assert seen() == on_their_way, "what keeps it down is in the switch yet"
    world.begin()
    world.plug(Interface("tap0", "br-int", ofport=4, up=True), ident("shop", 1))
    world.barrier()
    assert seen() == on_their_way, "the step was begun with the former number"
    world.begin()
    world.barrier()
    assert seen() == {}


def test_what_went_stale_is_mended_when_all_is_looked_at(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.change(Put(state()))
    reader, other = world.lookout.reader(), world.lookout.reader()
    other.changes()
    change = world.view.check([Withdraw("shop")])
    world.view.commit(change)
    world.local.follow(change)
    assert reader.everything() == look(world.lookout.scene()) == Things()
    assert "shop" in caplog.text and "out of date" in caplog.text
    assert other.changes().vpcs == {"shop": None}
