"""Disks that are full, damaged, empty or of yesterday: nothing acknowledged is lost, and all comes right."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovsnet.lab.lab import Lab
from tests.agent_kit import until
from tests.system.faults import World, cloud

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(120)]
FULL = "ballast"


@contextlib.contextmanager
def small_disk(directory: Path, size: str) -> Iterator[None]:
    """The directory on a disk of its own, with what was in it; nobody may have files in it open."""
    kept = directory.with_name(f"{directory.name}.kept")
    shutil.copytree(directory, kept)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)], check=True)
    try:
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        yield
    finally:
        shutil.rmtree(kept)
        shutil.copytree(directory, kept)
        subprocess.run(["umount", "-l", str(directory)], check=True)
        shutil.copytree(kept, directory, dirs_exist_ok=True)
        shutil.rmtree(kept)


def fill(directory: Path, spare: int = 0) -> None:
    """Leave no more than ``spare`` bytes on the directory's disk."""
    free = shutil.disk_usage(directory).free
    with contextlib.suppress(OSError), (directory / FULL).open("wb") as ballast:
        for _ in range(max(0, free - spare) // 4096):
            ballast.write(bytes(4096))


def test_a_host_whose_disk_is_full(world: World) -> None:
    """It says so, and catches up when there is space; the others are not kept waiting."""
    lab = world.lab
    world.apply(cloud())
    world.settle()
    state = Path(lab.host("hv2").run_dir) / "state"
    lab.kill_agent("hv2")
    with small_disk(state, "4m"):
        lab.start_agent("hv2")
        world.settle()
        fill(state)
        answer = world.apply(cloud(300, 1), wait="2s")
        assert answer.status in {200, 202}, answer
        world.settle(hosts=["hv1", "hv3"])
        until(lambda: any("disk" in one or "No space" in one for one in complaints(lab, "hv2")))
        (state / FULL).unlink()
        world.settle()
        until(lambda: complaints(lab, "hv2") == [])
        lab.kill_agent("hv2")
        lab.start_agent("hv2")
        world.settle()
        lab.kill_agent("hv2")
    lab.start_agent("hv2")
    world.settle()
    world.matrix()


def complaints(lab: Lab, host: str) -> list[str]:
    """What the agent says is wrong with it."""
    with lab.agent(host) as client:
        seen = client.host()
    return [*seen["faults"], *seen["warnings"]]


def test_a_controller_whose_disk_is_full(world: World) -> None:
    """It refuses, and nothing has changed, neither in its answers nor on hosts; with space it goes on."""
    lab = world.lab
    world.apply(cloud(10, 0))
    world.settle()
    store = Path(lab.control.run_dir) / "store"
    lab.kill_controller()
    with small_disk(store, "8m"):
        lab.start_controller()
        before = world.states()
        fill(store)
        refused = world.apply(cloud(400, 1))
        assert (refused.status, refused.code) == (507, "store-full"), refused
        assert world.states() == before
        world.settle()
        assert world.states() == before
        (store / FULL).unlink()
        assert world.apply(cloud(400, 2), wait="10s").status == 200
        world.settle()
        lab.kill_controller()
    lab.start_controller()
    world.settle()
    assert len(world.state("red").ports) == 403
    world.matrix()


@pytest.mark.parametrize("damage", [lambda data: data[:50], lambda data: b"", lambda data: data[:-40] + bytes(40)])
def test_a_damaged_file_of_a_host(world: World, damage: Callable[[bytes], bytes]) -> None:
    """The agent sets it aside and asks for what it has lost."""
    lab = world.lab
    world.apply(cloud(20, 1))
    world.settle()
    lab.kill_agent("hv1")
    for name in ("red", "blue"):
        path = Path(lab.host("hv1").run_dir) / "state/vpcs" / f"{name}.vpc"
        path.write_bytes(damage(path.read_bytes()))
    lab.start_agent("hv1")
    world.settle()
    world.matrix()


def test_a_host_that_has_lost_its_disk(world: World) -> None:
    lab = world.lab
    lab.kill_agent("hv1")
    shutil.rmtree(Path(lab.host("hv1").run_dir) / "state")
    lab.start_agent("hv1")
    world.settle()
    world.matrix()


def test_a_controller_whose_store_is_of_yesterday(world: World) -> None:
    """Hosts hold later revisions than it knows of: theirs are passed over, and its contents win."""
    lab = world.lab
    world.apply(cloud(10, 0))
    world.settle()
    store = Path(lab.control.run_dir) / "store"
    lab.kill_controller()
    shutil.copytree(store, store.with_name("backup"))
    lab.start_controller()
    for turn in range(1, 6):
        assert world.apply(cloud(10, turn)).status < 300
    world.settle()
    late = world.state("red")
    lab.kill_controller()
    shutil.rmtree(store)
    shutil.move(store.with_name("backup"), store)
    lab.start_controller()
    world.settle()
    now = world.state("red")
    assert now.revision > late.revision
    assert {port.description for name, port in now.ports.items() if name.startswith("bulk")} == {"turn 0"}
    world.matrix()
