"""The controller's store on real databases: SQLite, and a PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, text

from ovsnet.controller import migrations
from ovsnet.controller.core import Core
from ovsnet.controller.errors import StoreError
from ovsnet.controller.requests import DropVpc, PutObject, RaiseRevision
from ovsnet.controller.store import Store, sqlite_url
from ovsnet.model.types import Port
from tests.controller_kit import change, cloud, postgres, same_truth


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "c.db")
    server: str = request.getfixturevalue("server")
    engine = create_engine(server)
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return server


def test_what_was_answered_is_there_after_a_start(url: str) -> None:
    core = Core(Store(url), "controller")
    cloud(core)
    change(core, *(PutObject("shop", "ports", f"p{n}", Port(network="web", host=f"h{n % 3}")) for n in range(50)))
    change(core, PutObject("shop", "ports", "p7", None), PutObject("shop", "ports", "q", Port(network="web")))
    anew = Core(Store(url), "controller")
    core.read(lambda truth: same_truth(truth, anew.read(lambda other: other)))
    assert len(anew.state("shop").ports) == 50
    assert [patch.revision for _, _, patch in anew.leftover()] == [1, 2, 3]
    core.published([("shop", 1), ("shop", 2)])
    core.housekeeping()
    assert [patch.revision for _, _, patch in anew.leftover()] == [3]
    core.close()
    anew.close()


def test_a_name_that_was_deleted_goes_on_with_its_revisions(url: str) -> None:
    core = Core(Store(url), "controller")
    cloud(core)
    change(core, RaiseRevision("shop", 40))
    change(core, DropVpc("shop"))
    anew = Core(Store(url), "controller")
    cloud(anew)
    assert anew.state("shop").revision == 43
    core.close()
    anew.close()


def test_two_controllers_on_one_store_see_each_other(url: str) -> None:
    one = Core(Store(url), "controller")
    cloud(one)
    two = Core(Store(url), "controller")
    for number in range(6):
        change(one if number % 2 else two, PutObject("shop", "ports", f"p{number}", Port(network="web", host="h1")))
    assert sorted(one.state("shop").ports) == [f"p{number}" for number in range(6)]
    assert len({port.ips for port in one.state("shop").ports.values()}) == 6
    one.close()
    two.close()


@pytest.mark.parametrize("url", ["postgres"], indirect=True)  # SQLite is lost only with the process
def test_a_lost_commit_is_found_out(url: str) -> None:
    """The database dies in the commit: what the call says and what is in memory is what is in the store."""
    core = Core(Store(url), "controller")
    cloud(core)
    kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
    other = Store(url)

    def broken(connection: Connection) -> None:
        with other.write() as killing:
            killing.execute(kill)

    event.listen(core.store.engine, "commit", broken, once=True)
    with pytest.raises(StoreError, match="Try again"):
        change(core, PutObject("shop", "ports", "p", Port(network="web")))
    assert not core.state("shop").ports
    change(core, PutObject("shop", "ports", "p", Port(network="web")))
    anew = Core(other, "controller")
    core.read(lambda truth: same_truth(truth, anew.read(lambda found: found)))
    core.close()
    anew.close()


def _second(connection: Connection) -> None:
    connection.execute(text("ALTER TABLE vpcs ADD COLUMN colour VARCHAR"))


def test_a_store_is_led_to_the_next_version_and_a_newer_one_is_refused(url: str, tmp_path: Path) -> None:
    core = Core(Store(url), "controller")
    cloud(core)
    core.close()
    store = Store(url, (*migrations.STEPS, _second))
    with store.read() as connection:
        assert connection.execute(text("SELECT name, colour FROM vpcs")).all() == [("shop", None)]
    store.close()
    if url.startswith("sqlite"):
        copy = Core(Store(sqlite_url(tmp_path / "c.db.v1")), "controller")
        assert copy.state("shop").networks
        copy.close()
    with pytest.raises(StoreError, match="versions up to 1") as refused:
        Store(url)
    assert refused.value.code == "store-newer"


def test_an_upgrade_that_fails_changes_nothing(url: str) -> None:
    Core(Store(url), "controller").close()

    def fails(connection: Connection) -> None:
        _second(connection)
        raise ValueError

    with pytest.raises(ValueError):
        Store(url, (*migrations.STEPS, fails))
    store = Store(url)
    with store.read() as connection:
        columns = tuple(connection.execute(text("SELECT * FROM vpcs")).keys())
    assert "name" in columns and "colour" not in columns
    store.close()


def test_a_read_only_store_refuses_and_nothing_changes(tmp_path: Path) -> None:
    core = Core(Store(sqlite_url(tmp_path / "c.db")), "controller")
    cloud(core)

    @event.listens_for(core.store.engine, "begin")
    def read_only(connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA query_only=1")

    with pytest.raises(StoreError) as refused:
        change(core, PutObject("shop", "ports", "p", Port(network="web")))
    assert refused.value.code == "store-read-only"
    assert core.state("shop").revision == 1
    core.store.engine.dispose()


def test_a_full_disk_refuses_and_nothing_changes(tmp_path: Path) -> None:
    core = Core(Store(sqlite_url(tmp_path / "c.db")), "controller")
    cloud(core)
    with core.store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()

    @event.listens_for(core.store.engine, "checkout")
    def full(connection: object, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]

    ports = [PutObject("shop", "ports", f"p{n}", Port(network="web", description="x" * 5000)) for n in range(50)]
    with pytest.raises(StoreError) as refused:
        change(core, *ports)
    assert refused.value.code == "store-full"
    assert core.state("shop").revision == 1
    assert not core.state("shop").ports
    event.remove(core.store.engine, "checkout", full)
    core.store.engine.dispose()
    change(core, *ports)
    assert len(core.state("shop").ports) == 50
    core.close()
