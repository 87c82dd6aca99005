"""A host that follows a publisher over a bus that loses, doubles, delays and reorders, while both restart."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovsnet.agent.follow import Action, Apply, Confirm, Follower, Outcome, Say, TellChanges
from ovsnet.transport.changes import Put
from ovsnet.transport.messages import PROTOCOL, ChangeMessage, HeadsMessage, HelloMessage, Message
from ovsnet.transport.operations import operations_of, withdraw_item
from ovsnet.transport.publisher import Told, answer_items
from ovsnet.transport.view import ConflictError
from tests.agent_kit import state
from tests.bus_kit import SOURCE, FakeHost, Truth, head_of

VPCS = ("red", "blue", "green")
EVERY = 4.0


class World:
    """One host, one publisher, and two queues between them that a test may tamper with."""

    def __init__(self, seed: int, source: str) -> None:
        self.rng = random.Random(seed)
        self.truth = Truth()
        self.truth.on_raise = self.send
        self.host = FakeHost()
        self.now = 0.0
        self.connected = False
        self.down: list[Message] = []
        self.up: list[HelloMessage] = []
        self.lives = 0
        self.instance = "i0"
        self.source = source
        self.backup = Truth()
        self.restart_host()

    def restart_host(self) -> None:
        """The agent starts again with what it has on disk."""
        self.lives += 1
        self.connected = False
        life = f"life{self.lives}"
        self.follower = Follower("hv1", self.host.vtep, "boot", life, self.source, random.Random(self.rng.random()))

    def send(self, messages: list[Told]) -> None:
        for message in messages:
            self.down.append(ChangeMessage(v=PROTOCOL, tx=message.tx, items=message.items, source=SOURCE))

    def announce(self) -> None:
        heads = {vpc: tuple(head) for vpc, head in self.truth.wanted("hv1").items()}
        self.down.append(HeadsMessage(v=PROTOCOL, source=SOURCE, vpcs=heads, spread=1.0, instance=self.instance))

    def answer(self, hello: HelloMessage) -> None:
        items = tuple(answer_items(self.truth, hello))
        self.down.append(ChangeMessage(v=PROTOCOL, tx=hello.id, items=items, answers=hello.id, source=SOURCE))
        self.announce()

    def deliver(self, index: int = 0, *, keep: bool = False) -> None:
        """Hand the host a message that is under way."""
        message = self.down[index] if keep else self.down.pop(index)
        if not self.connected:
            return
        if isinstance(message, ChangeMessage):
            self.do(self.follower.change(message, self.host.held(), self.now))
        elif isinstance(message, HeadsMessage):
            self.do(self.follower.heads(message, self.host.held(), self.now))

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Apply):
                outcome = self.apply(action)
                self.do(self.follower.outcome(action, outcome, self.host.held(), self.now))
            elif isinstance(action, Say):
                self.up.append(action.hello)
            elif isinstance(action, Confirm):
                for vpc in action.vpcs:
                    assert vpc in self.host.view.states

    def apply(self, action: Apply) -> Outcome:
        try:
            self.host.change(operations_of(action.items))
        except ConflictError as exc:
            raise AssertionError(f"the follower let something through that does not fit: {exc}") from exc
        return Outcome()

    def pass_time(self, seconds: float) -> None:
        until = self.now + seconds
        while self.follower.due is not None and self.follower.due <= until:
            self.now = max(self.now, self.follower.due)
            self.do(self.follower.tick(self.host.held(), self.now))
        self.now = until

    def set_connected(self, connected: bool) -> None:
        if connected and not self.connected:
            self.connected = True
            self.do(self.follower.connected(self.host.held(), self.now))
        elif not connected and self.connected:
            self.connected = False
            self.follower.disconnected()

    def check(self) -> None:
        """What the host holds was true at some time: it never has a hole in it."""
        for vpc, head in self.host.heads().items():
            assert (vpc, head) in self.truth.history, f"{vpc} at {head} was never so"

    def settle(self) -> None:
        """From now on nothing is lost: heads every few seconds, hellos are answered."""
        self.set_connected(True)
        for _ in range(12):
            self.announce()
            for _ in range(8):
                while self.up:
                    self.answer(self.up.pop(0))
                while self.down:
                    self.deliver()
                    self.check()
                self.pass_time(EVERY / 8)


def step(world: World, action: str, number: int) -> None:
    """One step of a random life."""
    if action in {"edit", "place", "delete", "backup", "restore"}:
        decide(world, action, number)
    elif action == "heads":
        world.announce()
    elif action in {"answer", "no-answer"}:
        hello = world.up.pop(number % len(world.up)) if world.up else None
        if hello is not None and action == "answer":
            world.answer(hello)
    elif action == "time":
        world.pass_time(number / 4)
    elif action == "connection":
        world.set_connected(not world.connected)
    elif action == "restart-host":
        world.restart_host()
    elif action == "restart-publisher":
        world.instance = f"i{number}"
        world.down.clear()
    elif world.down:
        tamper(world, action, number % len(world.down))


def decide(world: World, action: str, number: int) -> None:
    """Something changes in the publisher's truth."""
    truth, vpc = world.truth, VPCS[number % len(VPCS)]
    if action == "place" and vpc not in truth.states:
        world.send(truth.create(vpc, revision=1 + number % 2))
    elif action == "place":
        world.send(truth.concern(vpc, () if "hv1" in truth.interest[vpc] else ("hv1",)))
    elif action == "edit" and vpc in truth.states:
        world.send(truth.edit(vpc, 10 + number % 4, gone=number % 3 == 0))
    elif action == "delete" and vpc in truth.states:
        world.send(truth.delete(vpc))
    elif action == "restore":
        truth.states, truth.interest = dict(world.backup.states), {v: set(h) for v, h in world.backup.interest.items()}
    elif action == "backup":
        world.backup.states = dict(truth.states)
        world.backup.interest = {v: set(h) for v, h in truth.interest.items()}


def tamper(world: World, action: str, index: int) -> None:
    if action == "deliver":
        world.deliver()
    elif action == "reorder":
        world.deliver(index)
    elif action == "double":
        world.deliver(index, keep=True)
    elif action == "lose":
        world.down.pop(index)


ACTIONS = (
    *("edit", "place", "deliver", "deliver", "deliver", "deliver", "answer", "answer"),
    *("heads", "time", "reorder", "double", "lose", "delete", "no-answer"),
    *("connection", "restart-host", "restart-publisher", "backup", "restore"),
)
STEPS = st.lists(st.tuples(st.sampled_from(ACTIONS), st.integers(0, 11)), max_size=120)


@settings(max_examples=250, deadline=None)
@given(STEPS, st.integers(0, 9), st.sampled_from([SOURCE, ""]))
def test_it_always_converges_and_never_applies_a_hole(steps: list[tuple[str, int]], seed: int, source: str) -> None:
    world = World(seed, source)
    world.set_connected(True)
    for action, number in steps:
        step(world, action, number)
        world.check()
    world.settle()
    assert world.host.heads() == world.truth.wanted("hv1")
    said = world.follower.counts.hellos
    world.settle()
    assert world.follower.counts.hellos == said, "once all is well nobody says hello"


@settings(max_examples=100, deadline=None)
@given(STEPS, st.integers(0, 9))
def test_without_loss_changes_arrive_at_once_and_doubles_do_nothing(steps: list[tuple[str, int]], seed: int) -> None:
    world = World(seed, SOURCE)
    world.set_connected(True)
    world.settle()
    said = world.follower.counts.hellos
    for action, number in steps:
        if action in {"edit", "place", "heads"}:
            step(world, action, number)
            for again in (True, True, False):
                fresh = world.host.fresh
                world.deliver(keep=again) if world.down else None
            assert world.host.heads() == world.truth.wanted("hv1")
            assert world.host.fresh == fresh, "the third time brings nothing"
    assert world.follower.counts.hellos == said, "nothing was missing"
    assert world.host.stale == 0, "what is old is not even offered to the agent"


@pytest.mark.parametrize("seed", range(60))
def test_long_lives_converge_too(seed: int) -> None:
    rng = random.Random(seed)
    world = World(seed, rng.choice([SOURCE, ""]))
    world.set_connected(True)
    for _ in range(300):
        step(world, rng.choice(ACTIONS), rng.randrange(12))
        world.check()
    world.settle()
    assert world.host.heads() == world.truth.wanted("hv1")


def told(world: World, *messages: Told, answers: str = "") -> None:
    """Messages arrive, in this order."""
    for message in messages:
        world.down = [
            ChangeMessage(v=PROTOCOL, tx=message.tx, items=message.items, source=SOURCE, answers=answers),
        ]
        world.deliver()


def test_what_was_withdrawn_does_not_come_back_late() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    (first,) = world.truth.create("red")
    (edit,) = world.truth.edit("red", 10)
    (gone,) = world.truth.concern("red", ())
    told(world, first, edit, gone)
    assert world.host.heads() == {}
    told(world, first, edit)
    assert world.host.heads() == {}
    assert len(world.up) == 1, "and nobody asks for it"
    world.restart_host()
    world.set_connected(True)
    told(world, gone, first)
    assert world.host.heads() == {}, "not even when the withdrawal overtakes it"
    (back,) = world.truth.concern("red", ("hv1",))
    told(world, back)
    assert world.host.heads() == world.truth.wanted("hv1")
    told(world, gone)
    assert world.host.heads() == world.truth.wanted("hv1"), "a late withdrawal undoes nothing newer"


def test_an_answer_brings_a_vpc_back_that_begins_anew() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    told(world, *world.truth.create("red", revision=7), *world.truth.delete("red"))
    (anew,) = world.truth.create("red", revision=1)
    told(world, anew)
    assert world.host.heads() == {}
    world.settle()
    assert world.host.heads() == world.truth.wanted("hv1")


def test_a_gap_is_answered_at_once_and_what_came_meanwhile_is_asked_for() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    world.answer(world.up.pop())
    while world.down:
        world.deliver()
    world.now += 10
    world.truth.create("red")
    (second,) = world.truth.edit("red", 10)
    told(world, second)
    assert [hello.reason for hello in world.up] == ["gap"]
    world.answer(world.up.pop())
    answer = world.down[0]
    (third,) = world.truth.edit("red", 11)
    told(world, third)
    assert world.up == [], "it has asked already"
    world.down = [answer]
    world.deliver()
    world.pass_time(1.0)
    assert [hello.reason for hello in world.up] == ["gap"]
    world.answer(world.up.pop())
    world.deliver()
    assert world.host.heads() == world.truth.wanted("hv1")


def test_other_owners_are_none_of_its_business() -> None:
    world = World(1, SOURCE)
    own = msgspec.structs.replace(state("mine"), owner="operator")
    world.host.change([Put(own)])
    world.truth.history.add(("mine", head_of(own)))
    world.set_connected(True)
    world.settle()
    assert world.up == [] and world.host.heads().keys() == {"mine"}
    assert "mine" not in world.follower.connected(world.host.held(), world.now)[0].hello.vpcs  # type: ignore[union-attr]
    told(world, Told("hv1", (withdraw_item("mine", 9),), "tx"))
    assert world.host.heads().keys() == {"mine"}
    foreign = ChangeMessage(v=PROTOCOL, tx="tx", items=Truth().create("theirs")[0].items, source="rival")
    assert world.follower.change(foreign, world.host.held(), world.now) == []
    rival = HeadsMessage(v=PROTOCOL, source="rival", vpcs={"theirs": (1, "")})
    assert world.follower.heads(rival, world.host.held(), world.now) == []
    assert "rival" in world.follower.faults(world.now)[0]


def test_what_is_refused_is_asked_for_again_only_after_a_while() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    world.settle()
    (first,) = world.truth.create("red")
    apply, *_ = world.follower.change(
        ChangeMessage(v=PROTOCOL, tx="t", items=first.items, source=SOURCE), world.host.held(), world.now
    )
    assert isinstance(apply, Apply)
    refusal = Outcome({"red": "its VNI is taken"})
    assert world.follower.outcome(apply, refusal, world.host.held(), world.now) == [TellChanges()]
    assert world.follower.faults(world.now) == ("VPC red: revision 2 was refused: its VNI is taken",)
    for _ in range(3):
        world.announce()
        world.deliver()
        world.pass_time(EVERY)
    assert world.up == []
    world.pass_time(40.0)
    world.settle()
    assert world.host.heads() == world.truth.wanted("hv1")
    assert world.follower.faults(world.now) == ()


def test_a_hello_that_nobody_answers_is_said_again_ever_more_rarely() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    times = []
    for _ in range(2400):
        world.pass_time(0.1)
        times += [world.now] * len(world.up)
        world.up.clear()
    pauses = [later - earlier for earlier, later in pairwise(times)]
    assert 0.6 <= pauses[0] <= 1.4
    assert all(20 <= pause <= 40 for pause in pauses[5:])
    assert 8 <= len(times) <= 20


def test_heads_without_digests_compare_revisions() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    told(world, *world.truth.create("red"))
    same = HeadsMessage(v=PROTOCOL, source=SOURCE, vpcs={"red": (2, "")})
    assert Confirm(("red",)) in world.follower.heads(same, world.host.held(), world.now)
    other = HeadsMessage(v=PROTOCOL, source=SOURCE, vpcs={"red": (2, "f" * 32)})
    world.up.clear()
    world.do(world.follower.heads(other, world.host.held(), world.now))
    world.pass_time(0.5)
    assert [hello.reason for hello in world.up] == ["heads"]


def test_a_change_that_arrives_before_the_hello_is_due_settles_the_matter() -> None:
    world = World(1, SOURCE)
    world.set_connected(True)
    world.settle()
    late = world.truth.create("red")
    world.announce()
    world.deliver()
    told(world, *late)
    world.pass_time(2.0)
    assert world.up == []
