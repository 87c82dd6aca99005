"""The controller's store on real databases: SQLite, and a PostgreSQL of its own."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Connection, create_engine, event, text

from ovsnet.controller import migrations
from ovsnet.controller.core import Core
from ovsnet.controller.errors import StoreError, TakenError
from ovsnet.controller.requests import DropVpc, PutObject, PutVpc, RaiseRevision
from ovsnet.controller.store import Store, sqlite_url
from ovsnet.model.types import Network, Port, Subnet
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


def put_network(vpc: str, vni: int | None) -> tuple[PutVpc, PutObject]:
    """A VPC with a network that has a VNI, or gets one."""
    return PutVpc(vpc), PutObject(vpc, "networks", "web", Network(vni=vni, subnets=(Subnet(cidr="10.1.0.0/24"),)))


def vni_of(core: Core, vpc: str) -> int:
    """The VNI of its network."""
    return core.state(vpc).networks["web"].vni or 0


def test_two_controllers_never_give_one_vni_or_port_id_to_two(url: str) -> None:
    """Neither knows what the other has done since they started."""
    one, two = Core(Store(url), "controller"), Core(Store(url), "controller")
    change(one, *put_network("red", None))
    change(two, *put_network("blue", None))
    assert {vni_of(one, "red"), vni_of(two, "blue")} == {10000, 10001}, "what is assigned is assigned anew"
    change(one, *put_network("green", 5001))
    with pytest.raises(TakenError, match=r"5001 is already the VNI of vpcs\.green\.networks\.web") as refused:
        change(two, *put_network("black", 5001))
    assert refused.value.problems[0].path == "vpcs.black.networks.web.vni"
    assert "black" not in two.read(lambda truth: truth.vpcs)
    ident = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
    change(one, PutObject("red", "ports", "p", Port(network="web", id=ident)))
    with pytest.raises(TakenError, match=rf"{ident} is already the id of vpcs\.red\.ports\.p"):
        change(two, PutObject("blue", "ports", "q", Port(network="web", id=ident)))
    assert not two.state("blue").ports
    anew = Core(Store(url), "controller")
    assert len({vni_of(anew, vpc) for vpc in ("red", "blue", "green")}) == 3
    for core in (one, two, anew):
        core.close()


def test_what_another_controller_has_released_may_be_taken(url: str) -> None:
    one, two = Core(Store(url), "controller"), Core(Store(url), "controller")
    change(one, *put_network("red", 5001), *put_network("blue", 5002))
    with pytest.raises(TakenError):
        change(two, *put_network("green", 5001))
    change(one, DropVpc("red"))
    change(two, *put_network("green", 5001))
    assert vni_of(two, "green") == 5001
    change(one, *put_network("blue", 5003), *put_network("black", 5002))
    change(two, *put_network("black", 5003), *put_network("blue", 5002))
    anew = Core(Store(url), "controller")
    assert {vpc: vni_of(anew, vpc) for vpc in ("green", "blue", "black")} == {
        "green": 5001,
        "blue": 5002,
        "black": 5003,
    }
    for core in (one, two, anew):
        core.close()


def test_two_controllers_at_the_same_time_never_give_one_vni_to_two(url: str) -> None:
    cores = [Core(Store(url), "controller") for _ in range(2)]

    def work(number: int) -> None:
        for turn in range(15):
            change(cores[number], *put_network(f"v{number}-{turn}", None))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))
    anew = Core(Store(url), "controller")
    vnis = [vni_of(anew, vpc) for vpc in anew.read(lambda truth: list(truth.vpcs))]
    assert len(vnis) == len(set(vnis)) == 30
    for core in (*cores, anew):
        core.close()


def test_a_store_without_claims_gets_them(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """One of version one, in which two controllers have given a VNI to two VPCs already."""
    core = Core(Store(url), "controller")
    change(core, *put_network("red", 5001), *put_network("blue", 5002), *put_network("green", 5003))
    change(core, PutObject("red", "ports", "p", Port(network="web")))
    core.close()
    same = "UPDATE objects SET body = (SELECT body FROM objects WHERE vpc = 'green')"
    with create_engine(url).begin() as connection:
        for statement in (
            "DROP INDEX objects_claim",
            "ALTER TABLE objects DROP COLUMN claim",
            "UPDATE settings SET value = '1' WHERE key = 'schema'",
            f"{same} WHERE vpc = 'red' AND kind = 'networks'",
        ):
            connection.execute(text(statement))
    anew, other = Core(Store(url), "controller"), Core(Store(url), "controller")
    assert "vpcs.red.networks.web and vpcs.green.networks.web have the same vni:5003" in caplog.text
    assert vni_of(anew, "red") == vni_of(anew, "green") == 5003
    change(anew, *put_network("red", 5001))
    change(other, PutObject("red", "ports", "q", Port(network="web")))
    with pytest.raises(TakenError):
        change(other, *put_network("black", 5002))
    anew.close()
    other.close()


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
        copy = Core(Store(sqlite_url(tmp_path / "c.db.v2")), "controller")
        assert copy.state("shop").networks
        copy.close()
    with pytest.raises(StoreError, match="versions up to 2") as refused:
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
