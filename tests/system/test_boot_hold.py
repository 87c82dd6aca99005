"""A machine that was booted keeps its ports down until their placement is confirmed; a restarted agent does not."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ovsnet.agent.boot import REASON
from tests.agent_kit import AgentHost, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


class Machine(AgentHost):
    """A host with two VPCs and a port plugged in for each; ``boot`` starts its agent in another boot."""

    boots = 0

    def boot(self, *extra: str, ready: bool = True) -> Machine:
        self.boots += 1
        (self.dir / "boot-id").write_text(f"boot {self.boots}\n")
        return self.again(*extra, ready=ready)

    def again(self, *extra: str, ready: bool = True) -> Machine:
        """Start the agent in the same boot."""
        self.start("--boot-id-file", str(self.dir / "boot-id"), *extra, ready=ready)
        return self

    def up(self) -> set[str]:
        """The VPCs whose port (plugged as VPC-1) gets its frames into the switch."""
        table = self.ovs.ofctl("dump-flows", "br-int", "table=0", "--no-stats", "--names")
        return set(re.findall(r'in_port="?(\w+)-1\b', table))

    def reasons(self) -> dict[str, str | None]:
        return {port["port"]: port["reason"] for port in self.client.ports()}


@pytest.fixture
def machine() -> Iterator[Machine]:
    one = Machine()
    try:
        one.ovs.start()
        one.boot()
        for vpc, vni in (("shop", 5001), ("club", 6001)):
            one.client.put(state(vpc, vni=vni), wait=5)
            one.plug(vpc, 1)
        until(lambda: one.up() == {"shop", "club"})
        yield one
    finally:
        one.close()


def test_a_restarted_agent_keeps_nothing_down(machine: Machine) -> None:
    before = machine.flows()
    machine.end()
    machine.again()
    assert machine.flows() == before
    assert machine.reasons() == {"shop/p1": None, "club/p1": None}


def test_after_a_boot_each_vpc_waits_to_be_confirmed(machine: Machine) -> None:
    whole = machine.flows()
    machine.end()
    machine.boot()
    until(lambda: len(machine.flows()) < len(whole))
    assert machine.up() == set()
    assert machine.reasons() == {"shop/p1": REASON, "club/p1": REASON}
    assert machine.client.host()["warnings"] == [f"VPC {vpc} is kept down: {REASON}" for vpc in ("club", "shop")]
    assert not machine.client.put(state("shop"), wait=5)["changed"], "the very same again is a confirmation"
    assert machine.up() == {"shop"}
    machine.end()
    machine.again()
    assert machine.up() == {"shop"}, "an agent that is restarted meanwhile has forgotten what waits"
    assert machine.reasons() == {"shop/p1": None, "club/p1": REASON}
    assert machine.client.confirm(["shop"]) == {"waiting": ["club"]}
    assert machine.client.confirm() == {"waiting": []}
    until(lambda: machine.up() == {"shop", "club"})
    assert machine.flows() == whole


def test_what_was_placed_elsewhere_meanwhile_never_comes_up(machine: Machine) -> None:
    """The change that confirms a VPC and the end of its waiting are one step: a port that has left is not let up."""
    machine.end()
    machine.boot()
    moved = state("shop", 2, local=0, remote=2)
    with monitored(machine) as events:
        machine.client.put(moved, wait=5)
        machine.client.put(state("club", vni=6001), wait=5)
        until(lambda: "club-1" in events.read_text())
    assert machine.up() == {"club"}
    assert "shop-1" not in events.read_text()
    assert [found["port"] for found in machine.client.host()["misplaced"]] == ["shop/p1"]


@contextlib.contextmanager
def monitored(machine: Machine) -> Iterator[Path]:
    """A file that gets every change of the first table's flows."""
    events = machine.dir / "events"
    command = ["ovs-ofctl", "--names", "monitor", machine.ovs.mgmt_target("br-int"), "watch:!initial,table=0"]
    env = os.environ | {"OVS_RUNDIR": str(machine.ovs.run_dir)}
    with events.open("wb") as out:
        watch = subprocess.Popen(command, stdout=out, stderr=out, env=env)
    try:
        time.sleep(0.3)
        yield events
    finally:
        watch.terminate()
        watch.wait(10)


def test_open_after_a_grace(machine: Machine) -> None:
    machine.end()
    machine.ovs.ofctl("del-flows", "br-int")  # as after a boot: a busy machine may take the grace to start the agent
    start = time.monotonic()
    machine.boot("--boot-policy", "open", "--boot-grace", "2", ready=False)
    assert machine.up() == set()
    until(lambda: machine.up() == {"shop", "club"})
    assert time.monotonic() - start > 2
    until(machine.ready)
    machine.end()
    machine.again()
    assert machine.up() == {"shop", "club"}


def test_a_new_host_and_an_upgraded_agent_wait_for_nobody(machine: Machine) -> None:
    machine.end()
    (machine.dir / "state" / "boot").unlink()
    machine.boot()
    assert machine.up() == {"shop", "club"}
    machine.end()
    (machine.dir / "state" / "boot").write_bytes(b"{torn")
    machine.again()
    assert machine.up() == set(), "who cannot tell which boot it was waits"
