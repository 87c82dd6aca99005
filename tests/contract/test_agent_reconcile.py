"""The loop between the compiler and a real switch, without the API: what cannot be compiled or installed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.agent.reconcile import Reconciler
from ovsnet.facts import Facts
from ovsnet.lab.ovs import OvsInstance
from ovsnet.model import Network, Subnet, VpcState
from ovsnet.model.types import RemoteEndpoint, Router, Rule, SecurityGroup
from ovsnet.openflow.meters import METERS
from ovsnet.openflow.process import SwitchProcess
from ovsnet.pipeline.template import Copy
from ovsnet.plan import Actual
from ovsnet.transport.changes import Patch, Put, Withdraw, patched
from ovsnet.transport.view import Change
from tests.agent_kit import port, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture
def ovs() -> Iterator[OvsInstance]:
    run_dir = Path(tempfile.mkdtemp(prefix="ovsrec-"))
    one = OvsInstance(run_dir, dummy=True)
    try:
        one.start()
        one.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "fail_mode=secure")
        yield one
    finally:
        for pid in (one.ovsdb_pid, one.vswitchd_pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(run_dir, ignore_errors=True)


@pytest.fixture
def loop(ovs: OvsInstance) -> Iterator[Reconciler]:
    switch = SwitchProcess(ovs.mgmt_target("br-int"))
    one = Reconciler("hv1", switch, audit_every=600).start()
    one.set_facts(Facts(tunnel_ofport=1))
    until(lambda: one.status.synced)
    try:
        yield one
    finally:
        one.stop()
        switch.stop()


def put(one: VpcState) -> Change:
    return Change((Put(one),), {one.name: one})


def flows(ovs: OvsInstance) -> list[str]:
    return sorted(line for line in ovs.ofctl("dump-flows", "br-int", "--no-stats").splitlines() if "actions=" in line)


def test_vpc_that_cannot_be_compiled_is_put_aside(ovs: OvsInstance, loop: Reconciler) -> None:
    loop.feed(put(state("shop"))).result(5)
    loop.feed(put(state("club", vni=6001))).result(5)
    before = flows(ovs)
    bad = msgspec.structs.replace(
        state("club", 2), networks={"n": Network(vni=None, subnets=(Subnet(cidr="10.1.0.0/16"),))}
    )
    status = loop.feed(put(bad)).result(5)
    assert status.held["club"].reason == "cannot be compiled: ValueError: club/n: the network has no VNI yet"
    assert status.enforced == {"shop": 1, "club": 1}
    assert flows(ovs) == before, "its last good flows stay"
    status = loop.feed(put(state("shop", 2, remote=4))).result(5)
    assert status.enforced == {"shop": 2, "club": 1}
    change = Patch(vpc="club", previous=2, revision=3, networks={"n": Network(vni=6001)})
    status = loop.feed(Change((change,), {"club": patched(bad, change)})).result(5)
    assert (status.enforced, status.held) == ({"shop": 2, "club": 3}, {})
    assert loop.feed(Change((Withdraw("club"),), {"club": None})).result(5).enforced == {"shop": 2}
    loop.feed(put(state("shop", 3))).result(5)
    assert len(flows(ovs)) < len(before)


def unnumbered(ovs: OvsInstance) -> list[str]:
    """The flows without the numbers of rules, which are given anew when rules come."""
    return [re.sub(r"load:\w+->NXM_NX_REG9", "rule", line) for line in flows(ovs)]


def test_a_change_of_whatever_kind_is_in_force_as_the_whole_state_would_be(ovs: OvsInstance, loop: Reconciler) -> None:
    """Each collection of objects comes and goes by a change of its own; the flows are those of the whole state."""
    bare = state("shop")
    loop.feed(put(bare)).result(5)
    before = unnumbered(ovs)
    changes: dict[str, dict[str, object]] = {
        "networks": {"m": Network(vni=5002, subnets=(Subnet(cidr="10.2.0.0/16"),))},
        "routers": {"r": Router(vni=9001, networks=("n",))},
        "security_groups": {"default": SecurityGroup(rules=(Rule(direction="ingress", protocol="tcp", port=80),))},
        "endpoints": {"e": RemoteEndpoint(network="n", mac="02:00:00:00:09:09", ips=("10.1.9.9",), vtep="10.0.0.99")},
    }
    for kind, brings in changes.items():
        change = Patch(vpc="shop", previous=1, revision=2, **{kind: brings})
        after = patched(bare, change)
        loop.feed(Change((change,), {"shop": after})).result(5)
        by_change = unnumbered(ovs)
        assert kind == "networks" or by_change != before, "a network without a port here is of no concern"
        loop.feed(put(after)).result(5)
        assert unnumbered(ovs) == by_change, kind
        back = Patch(vpc="shop", previous=2, revision=1, **dict.fromkeys([kind], dict.fromkeys(brings)))
        loop.feed(Change((back,), {"shop": bare})).result(5)
        assert unnumbered(ovs) == before, kind


def test_burst_makes_few_bundles(loop: Reconciler) -> None:
    one = state("shop")
    loop.feed(put(one)).result(5)
    steps = loop.status.steps
    futures = []
    for number in range(10, 210):
        change = Patch(
            vpc="shop", previous=one.revision, revision=one.revision + 1, ports={f"p{number}": port("shop", number)}
        )
        one = patched(one, change)
        futures.append(loop.feed(Change((change,), {"shop": one})))
    assert futures[-1].result(10).enforced == {"shop": one.revision}
    assert loop.status.steps - steps < 100


def test_flows_that_came_before_their_meter_are_added_again(ovs: OvsInstance, loop: Reconciler) -> None:
    """Such a flow has no meter, whatever its action says."""

    def read() -> Actual:
        return loop.enforcer.read_with_meters(loop.compiler.desired)

    rows = [
        owned.row
        for owned in loop.compiler.desired
        if any(isinstance(action, Copy) for action in owned.row.template.actions)
    ]
    before = flows(ovs)
    assert rows
    assert {meter.id for meter in METERS} <= numbers_of_meters(ovs)
    assert not loop.enforcer.lacks_meters()
    ovs.ofctl("del-meter", "br-int", f"meter={METERS[0].id}")
    assert loop.enforcer.lacks_meters()
    actual = loop.call(read).result(5)
    assert set(rows).isdisjoint(actual.rows.values())
    assert len(actual.rows) + len(rows) == len(before)
    assert {meter.id for meter in METERS} <= numbers_of_meters(ovs)
    assert len(loop.call(read).result(5).rows) == len(before), "they are there in time now"


def test_an_audit_finds_that_meters_are_gone(ovs: OvsInstance) -> None:
    drift: list[str] = []
    switch = SwitchProcess(ovs.mgmt_target("br-int"))
    one = Reconciler("hv1", switch, audit_every=0.2, on_drift=drift.extend).start()
    one.set_facts(Facts(tunnel_ofport=1))
    try:
        until(lambda: one.status.synced)
        ovs.ofctl("del-meter", "br-int", f"meter={METERS[0].id}")
        until(lambda: drift and one.status.synced and METERS[0].id in numbers_of_meters(ovs))
        assert set(drift) == {"the meters are not ours"}
    finally:
        one.stop()
        switch.stop()


def numbers_of_meters(ovs: OvsInstance) -> set[int]:
    return {int(number) for number in re.findall(r"meter=(\d+)", ovs.ofctl("dump-meters", "br-int"))}


def test_nothing_is_touched_before_the_facts_are_known(ovs: OvsInstance) -> None:
    ovs.ofctl("add-flow", "br-int", "cookie=0x4f56000000000001,table=7,priority=7,actions=drop")
    switch = SwitchProcess(ovs.mgmt_target("br-int"))
    one = Reconciler("hv1", switch).start()
    try:
        switch.wait_connected(5)
        until(lambda: "has not been read yet" in one.status.fault)
        assert len(flows(ovs)) == 1
        one.set_facts(Facts(tunnel_ofport=1))
        until(lambda: one.status.synced)
        assert not any("table=7," in line for line in flows(ovs))
    finally:
        one.stop()
        switch.stop()
