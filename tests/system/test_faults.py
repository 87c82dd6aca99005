"""What dies, or is cut off, in the middle of a bulk change: afterwards all is as if nothing had happened.

Each script lets a model of many ports be applied again and again, breaks something meanwhile and mends it. Within
seconds every host has to hold and enforce exactly what the controller acknowledged, and every packet goes as declared.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from ovsnet.lab.lab import Lab
from ovsnet.model import Model
from tests.system.conftest import Measured
from tests.system.faults import Churn, World, cloud, turn_of
from tests.system.streams import Streams

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(120)]
ONLY_NATS = pytest.mark.parametrize("world", ["nats"], indirect=True)
MANY = 150
"""Ports that change their host with every turn."""


def many(turn: int) -> Model:
    return cloud(MANY, turn)


def check(world: World, churn: Churn, measured: Measured) -> None:
    """Assert that all is well: in time, nothing acknowledged lost, nothing half done, packets as declared."""
    took = world.settle()
    turn = turn_of(world.state("red"))
    assert churn.acknowledged <= turn <= churn.begun
    measured(f"settled {took:.1f} s after the end, {churn.acknowledged} turns")
    answer = world.apply(many(churn.begun + 1), wait="3s")
    assert answer.status == 200, "and the controller hears of it again"
    world.matrix()


def restart_controller(lab: Lab) -> None:
    lab.kill_controller()
    lab.start_controller()


def restart_agent(lab: Lab) -> None:
    lab.kill_agent("hv2")
    lab.start_agent("hv2")


def restart_vswitchd(lab: Lab) -> None:
    lab.restart_vswitchd("hv3")


@pytest.mark.parametrize("restart", [restart_controller, restart_agent, restart_vswitchd])
def test_killed_in_the_middle(world: World, restart: Callable[[Lab], None], measured: Measured) -> None:
    rng = random.Random(20)
    with Churn(world, many) as churn:
        for _ in range(2):
            churn.wait(1)
            time.sleep(rng.uniform(0.0, 0.3))
            restart(world.lab)
        churn.wait(1)
    check(world, churn, measured)


@ONLY_NATS
def test_bus_killed_in_the_middle(world: World, measured: Measured) -> None:
    with Churn(world, many) as churn:
        for _ in range(2):
            churn.wait(1)
            world.lab.kill_nats()
            churn.wait(1)  # the controller takes changes without a bus
            world.lab.start_nats()
        churn.wait(1)
    check(world, churn, measured)


def test_one_host_cut_off_while_its_vpc_changes(world: World, measured: Measured) -> None:
    """Its tenants' packets go on, the others follow the change, and it is named as the one that does not."""
    world.apply(cloud())
    world.settle()
    world.lab.warm()
    pair = ("green/p1", "green/p2")
    with Streams(world.lab, [pair]) as streams:
        world.lab.partition("hv3")
        try:
            answer = world.apply(cloud(MANY, 1), wait="1s")
            assert answer.status == 202, answer
            assert set(answer.body["late"]) == {"hv3"}, answer.body
            world.settle(hosts=["hv1", "hv2"])
        finally:
            world.lab.heal("hv3")
        took = world.settle()
    measured(f"settled {took:.1f} s after the link was there again")
    assert streams.sent(pair) > 100
    assert streams.lost(pair) == 0
    world.matrix()
