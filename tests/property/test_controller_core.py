"""Random calls, some of them refused or failing: memory, store and a truth made from scratch stay one and the same."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event

from ovsnet.controller.commit import Committed
from ovsnet.controller.core import Core
from ovsnet.controller.errors import StoreError
from ovsnet.controller.requests import (
    DropVpc,
    Edit,
    EnsureVpc,
    PutHost,
    PutObject,
    PutVpc,
    RaiseRevision,
)
from ovsnet.controller.store import Store, sqlite_url
from ovsnet.errors import UserError
from ovsnet.model import check_state
from ovsnet.model.types import (
    Host,
    Network,
    NextHop,
    Port,
    Remote,
    RemoteEndpoint,
    Route,
    Router,
    Rule,
    SecurityGroup,
    Subnet,
    VpcState,
)
from ovsnet.transport.changes import patched
from ovsnet.transport.digest import digest_text, state_sum
from tests.controller_kit import change, same_truth

NAMES = st.sampled_from(["a", "b", "c"])
VPCS = st.sampled_from(["red", "blue"])
HOSTS = st.sampled_from(["h1", "h2", "h3"])
ADDRESSES = st.sampled_from(["10.1.0.5", "10.1.0.6", "10.1.0.2", "10.1.0.1", "10.2.0.7"])
WIDE = (Subnet(cidr="10.1.0.0/24"), Subnet(cidr="10.2.0.0/24"))
NETWORKS = st.builds(
    Network,
    vni=st.sampled_from([None, None, 7, 8]),
    subnets=st.sampled_from([WIDE, WIDE, (Subnet(cidr="10.1.0.0/28"),), ()]),
    description=st.sampled_from(["", "x"]),
)
ROUTERS = st.builds(
    Router,
    vni=st.sampled_from([None, None, None, 7, 9]),
    networks=st.sampled_from([("a",), ("a",), ("b",), ("c",), ("a", "b"), ()]),
    routes=st.lists(
        st.builds(
            Route,
            to=st.sampled_from(["10.50.0.0/16", "2001:DB8::/32", "10.1.0.0/26"]),
            via=st.sampled_from([NextHop(port="a"), NextHop(port="b"), NextHop(ip="10.1.0.5")]),
        ),
        max_size=2,
    ).map(tuple),
)
PORTS = st.builds(
    Port,
    network=st.sampled_from(["a", "a", "b"]),
    host=st.none() | HOSTS,
    moving_to=st.sampled_from([None, None, "h1", "h2"]),
    ips=st.none() | st.none() | st.lists(ADDRESSES, max_size=2, unique=True).map(tuple),
    mac=st.sampled_from([None, None, None, "02:00:00:00:00:01"]),
    epoch=st.sampled_from([0, 0, 0, 0, 1, 2]),
    workload=st.sampled_from(["", "vm1"]),
    security_groups=st.sampled_from([None, None, (), ("a",), ("b", "default"), ("c",)]),
)
GROUPS = st.builds(
    SecurityGroup,
    rules=st.lists(
        st.builds(
            Rule,
            direction=st.just("ingress"),
            remote=st.sampled_from([None, Remote(group="a"), Remote(address_group="b"), Remote(cidr="10.1.0.9")]),
        ),
        max_size=2,
    ).map(tuple),
    stateful=st.sampled_from([True, True, True, False]),
)
RANGES = st.sampled_from([(), ("10.0.0.0/8",), ("10.0.0.1", "2001:DB8::/32")])
ENDPOINTS = st.builds(
    RemoteEndpoint,
    network=NAMES,
    mac=st.sampled_from(["02:00:00:00:00:01", "02:00:00:00:00:09"]),
    ips=st.lists(ADDRESSES, max_size=1).map(tuple),
    vtep=st.sampled_from(["10.9.0.1", "10.9.0.2"]),
    groups=st.sampled_from([(), ("a",)]),
)


def maybe(body: Any) -> Any:
    return st.one_of(st.none(), body, body, body)


EDITS: st.SearchStrategy[Edit] = st.one_of(
    st.builds(PutVpc, VPCS, description=st.sampled_from(["", "y"])),
    st.builds(EnsureVpc, VPCS),
    *[st.builds(PutObject, st.just("red"), st.just("ports"), NAMES, PORTS)] * 3,
    st.builds(DropVpc, st.just("blue")),
    st.builds(RaiseRevision, VPCS, st.integers(0, 9)),
    st.builds(PutObject, VPCS, st.just("networks"), NAMES, maybe(NETWORKS)),
    st.builds(PutObject, VPCS, st.just("routers"), NAMES, maybe(ROUTERS)),
    st.builds(PutObject, VPCS, st.just("routers"), NAMES, maybe(ROUTERS)),
    st.builds(PutObject, VPCS, st.just("ports"), NAMES, maybe(PORTS)),
    st.builds(PutObject, VPCS, st.just("ports"), NAMES, maybe(PORTS)),
    st.builds(PutObject, VPCS, st.just("endpoints"), NAMES, maybe(ENDPOINTS)),
    st.builds(PutObject, VPCS, st.just("security_groups"), NAMES, maybe(GROUPS)),
    st.builds(PutObject, VPCS, st.just("address_groups"), NAMES, maybe(RANGES)),
    st.builds(
        PutHost,
        HOSTS,
        maybe(st.builds(Host, vtep=st.sampled_from(["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"]))),
    ),
)
CALLS = st.lists(
    st.tuples(
        st.lists(EDITS, min_size=1, max_size=3),
        st.sampled_from(["me", "me", "me", "you"]),
        st.booleans(),
        st.sampled_from([*[None] * 18, 1, 2, 3, 4, 5, 6]),
    ),
    min_size=12,
    max_size=25,
)


START: tuple[Edit, ...] = (
    *(PutHost(f"h{number}", Host(vtep=f"10.0.0.{number}")) for number in (1, 2, 3)),
    *(EnsureVpc(vpc) for vpc in ("red", "blue")),
    *(PutObject(vpc, "networks", name, Network(subnets=WIDE)) for vpc in ("red", "blue") for name in ("a", "b")),
    *(PutObject("red", "security_groups", name, SecurityGroup()) for name in ("a", "b")),
    PutObject("red", "address_groups", "b", ("10.0.0.0/8",)),
    *(PutObject("red", "ports", name, Port(network="a", host="h1")) for name in ("a", "b")),
    PutObject(
        "red", "routers", "a", Router(networks=("a",), routes=(Route(to="10.50.0.0/16", via=NextHop(port="a")),))
    ),
)
"""What every run begins with, so that most calls have something to change."""


class Injected(Exception):
    """A failure of the database that is none."""


@contextmanager
def failing_at(core: Core, statement: int | None) -> Iterator[None]:
    """The database fails at the n-th statement of a transaction that writes."""
    count = 0

    def before(connection: Any, *_: Any) -> None:
        nonlocal count
        if connection.get_execution_options().get("writes"):
            count += 1
            if count == statement:
                raise Injected

    event.listen(core.store.engine, "before_cursor_execute", before)
    try:
        yield
    finally:
        event.remove(core.store.engine, "before_cursor_execute", before)


class Follower:
    """What somebody would hold who is only told commits: patches, and whole states of new VPCs."""

    def __init__(self) -> None:
        self.states: dict[str, VpcState] = {}

    def told(self, committed: Committed) -> None:
        for name, one in committed.vpcs.items():
            if one.deleted:
                assert one.state() is None
                del self.states[name]
                continue
            whole = one.state()
            assert whole is not None
            if not one.created:
                assert self.states[name].revision == one.previous < one.revision
                assert patched(self.states[name], one.patch) == whole
            self.states[name] = whole
            assert one.digest == digest_text(state_sum(whole))
            assert not check_state(whole), "what was taken is right as a whole"
            assert one.hosts_after == whole.hosts.keys()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(CALLS)
def test_memory_store_and_followers_agree_whatever_is_called(calls: Any) -> None:
    directory = Path(tempfile.mkdtemp(prefix="ovsnet-core-"))
    core = Core(Store(sqlite_url(directory / "c.db")), "controller")
    follower = Follower()
    core.on_commit.append(follower.told)
    try:
        change(core, *START)
        for edits, owner, adopt, fails in calls:
            before = {name: core.state(name) for name in core.read(lambda truth: list(truth.vpcs))}
            try:
                with failing_at(core, fails):
                    change(core, *edits, owner=owner, adopt=adopt)
            except (UserError, Injected):
                after = {name: core.state(name) for name in core.read(lambda truth: list(truth.vpcs))}
                assert after == before
            else:
                heads = core.read(lambda truth: {name: vpc.head for name, vpc in truth.vpcs.items()})
                assert {name: head.revision for name, head in heads.items()} == {
                    name: one.revision for name, one in follower.states.items()
                }
                again = change(core, *edits, owner=owner, adopt=adopt) if _repeats(edits) else None
                assert again is None or not again
        assert core.read(lambda truth: {name: vpc.snapshot() for name, vpc in truth.vpcs.items()}) == follower.states
        anew = Core(Store(sqlite_url(directory / "c.db")), "controller")
        core.read(lambda truth: same_truth(truth, anew.read(lambda other: other)))
        anew.close()
    finally:
        core.close()
        shutil.rmtree(directory)


def _repeats(edits: list[Edit]) -> bool:
    """Whether a call is one that changes nothing when it is made again: it says one thing about each object."""
    said = [(getattr(one, "vpc", ""), getattr(one, "kind", ""), getattr(one, "name", "")) for one in edits]
    return len(set(said)) == len(said) and not any(
        isinstance(one, RaiseRevision | DropVpc | EnsureVpc) for one in edits
    )


def test_a_store_error_is_told_as_one(tmp_path: Path) -> None:
    core = Core(Store(sqlite_url(tmp_path / "c.db")), "controller")
    change(core, PutVpc("red"))
    core.store.engine.dispose()
    for path in tmp_path.iterdir():
        path.unlink()
    (tmp_path / "c.db").mkdir()
    try:
        change(core, PutVpc("blue"))
    except StoreError as exc:
        assert exc.code == "store-unavailable"
    else:
        raise AssertionError("it was taken")
    assert core.read(lambda truth: list(truth.vpcs)) == ["red"]
