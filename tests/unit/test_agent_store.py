"""The agent's state on disk: torn, damaged, interrupted, and written by two at once."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.agent import store as store_module
from ovsnet.agent.store import Store
from ovsnet.errors import UserError
from ovsnet.model.types import VpcState
from ovsnet.transport.changes import Patch, Put, Withdraw, patched
from tests.agent_kit import port, state


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    one = Store(tmp_path / "s")
    yield one
    one.close()


def reopened(store: Store) -> tuple[dict[str, VpcState], list[str]]:
    """What another agent finds after this one is gone; the store goes on as that agent's."""
    root = store.root
    store.close()
    store.__init__(root)  # type: ignore[misc]
    return store.load()


def put(store: Store, one: VpcState) -> VpcState:
    store.write([Put(one)], {one.name: one})
    return one


def patch(store: Store, before: VpcState, number: int) -> VpcState:
    change = Patch(
        vpc=before.name,
        previous=before.revision,
        revision=before.revision + 1,
        ports={f"p{number}": port(before.name, number)},
    )
    after = patched(before, change)
    store.write([change], {before.name: after})
    return after


def file_of(store: Store, vpc: str = "shop") -> Path:
    return store.root / "vpcs" / f"{vpc}.vpc"


def test_what_is_written_is_read(store: Store) -> None:
    shop = put(store, state())
    for number in range(10, 20):
        shop = patch(store, shop, number)
    club = put(store, state("club", vni=7))
    gone = put(store, state("gone", vni=8))
    store.write([Withdraw(gone.name)], {})
    assert reopened(store) == ({"club": club, "shop": shop}, [])
    assert file_of(store).read_bytes().count(b"\n") == 11, "changes are appended"


def test_removed_objects_stay_removed(store: Store) -> None:
    shop = put(store, state())
    change = Patch(vpc="shop", previous=1, revision=2, ports={"p1": None}, hosts={"hv3": None})
    store.write([change], {"shop": patched(shop, change)})
    states, _ = reopened(store)
    assert states["shop"].ports.keys() == {"p2"}
    assert states["shop"].hosts.keys() == {"hv1", "hv2"}


@pytest.mark.parametrize("cut", [1, 5, 30, 200])
def test_torn_last_line_costs_that_change_only(store: Store, cut: int) -> None:
    shop = put(store, state())
    shop = patch(store, shop, 10)
    patch(store, shop, 11)
    data = file_of(store).read_bytes()
    file_of(store).write_bytes(data[:-cut])
    states, damage = reopened(store)
    assert states == {"shop": shop}
    assert len(damage) == 1 and "damaged after revision 2, which is used" in damage[0]
    assert reopened(store) == (states, []), "it is told once"
    assert patch(store, shop, 12) == reopened(store)[0]["shop"]


@pytest.mark.parametrize("place", [0, 3, 40, 200])
def test_flipped_byte_is_found(store: Store, place: int) -> None:
    put(store, state())
    club = put(store, state("club", vni=7))
    data = bytearray(file_of(store).read_bytes())
    data[place] ^= 1
    file_of(store).write_bytes(data)
    states, damage = reopened(store)
    assert states == {"club": club}
    assert len(damage) == 1 and "shop.vpc is damaged; set aside as shop.vpc.damaged-" in damage[0]
    assert any("damaged" in path.name for path in file_of(store).parent.iterdir())


def test_empty_and_strange_files_are_set_aside(store: Store) -> None:
    file_of(store, "empty").write_bytes(b"")
    put(store, state("other"))
    file_of(store, "other").rename(file_of(store, "renamed"))
    (store.root / "vpcs" / "half.vpc.tmp").write_bytes(b"x")
    states, damage = reopened(store)
    assert states == {}
    assert len(damage) == 2
    assert not list(store.root.glob("vpcs/*.tmp"))


def test_file_is_written_anew_when_changes_outgrow_it(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "REWRITE_BEYOND", 2000)
    shop = put(store, state(remote=1))
    sizes = []
    for number in range(10, 60):
        shop = patch(store, shop, number)
        sizes.append(file_of(store).stat().st_size)
    assert any(after < before for before, after in itertools.pairwise(sizes))
    assert reopened(store)[0] == {"shop": shop}


def test_interrupted_batch_is_finished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    old = put(store, state("gone", vni=9))
    shop = put(store, state())
    change = Patch(vpc="shop", previous=1, revision=2, ports={"p9": port("shop", 9)})
    after = patched(shop, change)
    club = state("club", vni=7)
    operations = [change, Put(club), Withdraw(old.name)]
    for survived in range(4):
        root = store.root.parent / f"copy{survived}"
        os.system(f"cp -r {store.root} {root}")
        copy = Store(root)
        copy.load()
        done = 0
        apply = copy._apply

        def crash(operation: object, states: object, survived: int = survived, apply: object = apply) -> None:
            nonlocal done
            if done == survived:
                raise KeyboardInterrupt
            done += 1
            apply(operation, states)  # type: ignore[operator]

        monkeypatch.setattr(copy, "_apply", crash)
        batch = root / "batch"
        kept = b""
        real_unlink = Path.unlink

        def unlink(path: Path, missing_ok: bool = False, real: object = real_unlink, batch: Path = batch) -> None:
            if path != batch:  # the process is dead: nobody cleans up
                real(path, missing_ok)  # type: ignore[operator]

        with monkeypatch.context() as patching:
            patching.setattr(Path, "unlink", unlink)
            try:
                copy.write(operations, {"shop": after, "club": club})
            except KeyboardInterrupt:
                kept = batch.read_bytes()
        assert kept or survived == 3
        copy.close()
        again = Store(root)
        assert again.load() == ({"shop": after, "club": club}, [])
        assert again.load() == ({"shop": after, "club": club}, [])
        assert not batch.exists()
        again.close()


def test_full_disk_leaves_the_state_on_disk_as_it_was(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = put(store, state())
    real = os.write
    with monkeypatch.context() as patching:

        def short(fd: int, data: bytes) -> int:
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return real(fd, bytes(data)[: len(data) // 2])

        patching.setattr(os, "write", short)
        with pytest.raises(OSError, match="No space left"):
            patch(store, shop, 10)
    assert reopened(store) == ({"shop": shop}, [])


def test_after_a_failed_write_the_next_one_is_whole(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = put(store, state())
    with monkeypatch.context() as patching:
        patching.setattr(os, "fdatasync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        with pytest.raises(OSError, match="Input/output"):
            patch(store, shop, 10)
    lost = msgspec.structs.replace(shop, revision=2, ports=shop.ports | {"p10": port("shop", 10)})
    assert patch(store, lost, 11) == reopened(store)[0]["shop"]


def test_one_agent_at_a_time(store: Store) -> None:
    with pytest.raises(UserError, match="is in use by another agent"):
        Store(store.root)


def test_unusable_directory() -> None:
    with pytest.raises(UserError, match=r"state directory /proc/nowhere: .*--state-dir"):
        Store(Path("/proc/nowhere"))
