"""What a host's agent talks to is killed, stopped and cut off under traffic, and ports are plugged elsewhere.

Each is noticed within a second, recovers by itself, and leaves the matrix right.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from ovsnet.lab import host as hosts
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.ovs import OvsError
from tests.agent_kit import until
from tests.system.conftest import Measured, loaded, temporary_lab
from tests.system.streams import Pair, Streams

pytestmark = [pytest.mark.root, pytest.mark.alone, pytest.mark.timeout(90)]

MODEL = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
vpcs:
  shop:
    networks: {n: {vni: 5001, subnets: [{cidr: 10.1.0.0/24}, {cidr: "2001:db8:1::/64"}]}}
    ports: {a: {network: n, host: hv1}, b: {network: n, host: hv1}, c: {network: n, host: hv2}}
"""
LOCAL: Pair = ("shop/a", "shop/b")
OUT: Pair = ("shop/a", "shop/c")
IN: Pair = ("shop/c", "shop/a")
NOTICED = 1.0
"""Seconds within which an agent says that it has lost its switch or its database."""


@pytest.fixture(scope="module")
def module_lab() -> Iterator[Lab]:
    with temporary_lab(loaded(MODEL)) as made:
        yield made


@pytest.fixture
def lab(module_lab: Lab) -> Lab:
    """The lab, everything of it alive, whatever the test before has left."""
    return Lab.up(module_lab.model, module_lab.name)


def seen(lab: Lab, host: str = "hv1") -> Any:
    with lab.agent(host) as client:
        return client.host()


def noticed(lab: Lab, what: str) -> float:
    """Seconds in which the agent still said that it has its connection to ``what``."""
    start = asked = time.monotonic()
    took = 0.0
    while seen(lab)["connected"][what]:
        took = asked - start  # however long a busy machine took over the answer
        assert took < NOTICED
        time.sleep(0.01)
        asked = time.monotonic()
    with lab.agent("hv1") as client:
        assert not client.ready()["ready"]
    return took


def right(lab: Lab) -> None:
    """All is enforced again, and the matrix is as declared."""
    assert lab.wait_enforced(15.0) == []
    lab.warm()
    result = lab.test(patience=2.0)
    assert result.ok, result.as_dict()


@contextlib.contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """A process that hangs."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def answers(look: Callable[[], object]) -> bool:
    with contextlib.suppress(OvsError):
        look()
        return True
    return False


def test_vswitchd_killed_and_started_again(lab: Lab, measured: Measured) -> None:
    ovs = lab.ovs("hv1")
    with Streams(lab, [LOCAL, OUT, IN]) as streams:
        time.sleep(0.3)
        began = time.monotonic()
        ovs.stop_vswitchd(signal.SIGKILL)
        took = noticed(lab, "openflow")
        started = time.monotonic()
        ovs.start_vswitchd()
        until(lambda: answers(lambda: ovs.ofctl("show", INTEGRATION)))
        answered = time.monotonic()
        hosts.configure_vtep(lab.host("hv1"))
        for pair in (LOCAL, OUT, IN):
            until(lambda pair=pair: streams.flows_since(pair, answered))
        time.sleep(0.3)
    own = answered - started
    for pair in (LOCAL, OUT, IN):
        at, length = streams.outage(pair, began - 0.2)
        beyond = at + length - answered
        measured(
            f"{' to '.join(pair)}: interrupted {length:.2f} s: {started - began:.2f} s down (noticed in {took:.2f} s),"
            f" {own:.2f} s until ovs-vswitchd answers, packets {beyond:+.2f} s later"
        )
        assert beyond < 2.0, f"{pair}: {beyond:.2f} s after ovs-vswitchd answered"
    assert streams.strays() == 0
    right(lab)


def test_ovsdb_server_killed_and_started_again(lab: Lab, measured: Measured) -> None:
    """Without its database ovs-vswitchd's main thread does nothing, and it is what polls a user-space datapath."""
    ovs = lab.ovs("hv1")
    with Streams(lab, [LOCAL, OUT, IN]) as streams:
        time.sleep(0.3)
        began, pid = time.monotonic(), ovs.ovsdb_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        took = noticed(lab, "ovsdb")
        time.sleep(1.0)
        ovs.start_ovsdb()
        answered = time.monotonic()
        for pair in (LOCAL, OUT, IN):
            until(lambda pair=pair: streams.flows_since(pair, answered))
        time.sleep(0.3)
    for pair in (LOCAL, OUT, IN):
        at, length = streams.outage(pair, began - 0.2)
        beyond = at + length - answered
        measured(
            f"{' to '.join(pair)}: database down {answered - began:.2f} s (noticed in {took:.2f} s), longest silence"
            f" {length:.2f} s, {streams.lost(pair)} of {streams.sent(pair)} lost"
        )
        assert beyond < 2.0, f"{pair}: {beyond:.2f} s after the database answered"
    assert streams.strays() == 0
    right(lab)


def test_hanging_ovsdb_server(lab: Lab, measured: Measured) -> None:
    with Streams(lab, [LOCAL, OUT, IN]) as streams:
        with stopped(lab.ovs("hv1").ovsdb_pid):
            took = noticed(lab, "ovsdb")
            time.sleep(1.0)
        until(lambda: seen(lab)["ready"])
    lost = [streams.lost(pair) for pair in (LOCAL, OUT, IN)]
    measured(f"noticed in {took:.2f} s; lost {lost} of {streams.sent(LOCAL)} each")
    assert lost == [0, 0, 0]
    right(lab)


@pytest.mark.parametrize("when", ["idle", "a change on its way"])
def test_hanging_vswitchd(lab: Lab, measured: Measured, when: str) -> None:
    with stopped(lab.ovs("hv1").vswitchd_pid):
        if when != "idle":
            with lab.agent("hv1") as client:
                state = client.vpc("shop")
                ports = {name: port for name, port in state.ports.items() if name != "c"}
                client.put(msgspec.structs.replace(state, revision=state.revision + 1, ports=ports))
        took = noticed(lab, "openflow")
        time.sleep(1.0)
    back = until(lambda: seen(lab)["ready"])
    measured(f"noticed in {took:.2f} s, ready {back:.2f} s after it went on")
    right(Lab.up(lab.model, lab.name))


def test_openflow_connection_cut_under_traffic(lab: Lab, measured: Measured) -> None:
    pid = agent_of(lab)
    with Streams(lab, [LOCAL, OUT, IN]) as streams:
        for _ in range(3):
            children = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=True)
            for child in children.stdout.split():
                os.kill(int(child), signal.SIGKILL)
            took = noticed(lab, "openflow")
            back = until(lambda: seen(lab)["ready"])
            measured(f"noticed in {took:.2f} s, ready again in {back:.2f} s")
    assert [streams.lost(pair) for pair in (LOCAL, OUT, IN)] == [0, 0, 0]
    assert streams.strays() == 0
    assert agent_of(lab) == pid, "the agent itself has lived on"
    right(lab)


def agent_of(lab: Lab) -> int:
    pid = hosts.agent_pid(lab.host("hv1"))
    assert pid is not None
    return pid


def bound_to(lab: Lab, port: str) -> tuple[str | None, int | None]:
    """The interface and OpenFlow port that a port is bound to, once it is enforced."""
    with lab.agent("hv1") as client:
        found = client.port(*port.split("/"))
    return (found["interface"], found["ofport"]) if found["enforced"] else (None, None)


def plug(lab: Lab, host: str, interface: str, port: str, *more: str) -> None:
    ids = f"external_ids:iface-id={lab.port(port).id}"
    lab.ovs(host).vsctl("add-port", INTEGRATION, interface, "--", "set", "Interface", interface, ids, *more)


def test_port_unplugged_and_plugged_elsewhere(lab: Lab, measured: Measured) -> None:
    tap = lab.port("shop/a").tap
    before = bound_to(lab, "shop/a")
    assert before[0] == tap
    with Streams(lab, [OUT, IN]) as streams:
        time.sleep(0.2)
        lab.ovs("hv1").vsctl("del-port", tap)
        until(lambda: bound_to(lab, "shop/a") == (None, None))
        assert seen(lab)["ready"], "a port that is not plugged is nobody's fault"
        assert not any(f"in_port={before[1]} " in line for line in flows(lab))
        time.sleep(0.3)
        plugged = time.monotonic()
        plug(lab, "hv1", tap, "shop/a", "ofport_request=777")
        until(lambda: bound_to(lab, "shop/a") == (tap, 777))
        for pair in (OUT, IN):
            until(lambda pair=pair: streams.flows_since(pair, plugged))
    for pair in (OUT, IN):
        at, length = streams.outage(pair)
        measured(f"{' to '.join(pair)}: flows {at + length - plugged:+.2f} s after it was plugged again")
        assert at + length - plugged < 1.0
    right(lab)


def flows(lab: Lab, host: str = "hv1") -> list[str]:
    return sorted(lab.ovs(host).ofctl("dump-flows", INTEGRATION, "--no-stats").splitlines())


def test_interface_renamed(lab: Lab) -> None:
    tap = lab.port("shop/b").tap
    ovs = lab.ovs("hv1")
    try:
        ovs.vsctl("del-port", tap)
        ovs.run("ip", "link", "set", tap, "down")
        ovs.run("ip", "link", "set", tap, "name", "renamed0", "up")
        plug(lab, "hv1", "renamed0", "shop/b")
        until(lambda: bound_to(lab, "shop/b")[0] == "renamed0")
        right(lab)
    finally:
        ovs.vsctl("--if-exists", "del-port", "renamed0")
        ovs.run("ip", "link", "set", "renamed0", "down", check=False)
        ovs.run("ip", "link", "set", "renamed0", "name", tap, "up", check=False)
        plug(lab, "hv1", tap, "shop/b", "external_ids:ovsnet-lab=port")
    until(lambda: bound_to(lab, "shop/b")[0] == tap)


def test_lab_up_plugs_in_again_what_somebody_unplugged(lab: Lab) -> None:
    lab.ovs("hv1").vsctl("del-port", lab.port("shop/b").tap)
    until(lambda: bound_to(lab, "shop/b") == (None, None))
    right(Lab.up(lab.model, lab.name))
    assert bound_to(lab, "shop/b")[0] == lab.port("shop/b").tap


@pytest.mark.parametrize("host", ["hv1", "hv2"])
def test_second_interface_with_the_same_id_changes_nothing(lab: Lab, host: str) -> None:
    """On the declared host it is a conflict, on another one it is misplaced; both are told."""
    before = flows(lab, host)
    try:
        plug(lab, host, "double0", "shop/b", "type=internal")
        until(lambda: seen(lab, host)["conflicts"] or seen(lab, host)["misplaced"])
        found = seen(lab, host)
        if host == "hv1":
            one = {"iface_id": lab.port("shop/b").id, "bound": lab.port("shop/b").tap, "ignored": ["double0"]}
            assert found["conflicts"] == [one]
        else:
            assert found["misplaced"] == [{"port": "shop/b", "interface": "double0", "declared_host": "hv1"}]
        assert flows(lab, host) == before
        right(lab)
    finally:
        lab.ovs(host).vsctl("--if-exists", "del-port", "double0")
    until(lambda: not seen(lab, host)["conflicts"] and not seen(lab, host)["misplaced"])


def test_a_port_that_turns_up_on_another_host_is_not_connected_there(lab: Lab) -> None:
    """The whole interface moves to a host that the model does not say: nothing to it, nothing from it."""
    spec = lab.port("shop/b")
    lab.ovs("hv1").vsctl("del-port", spec.tap)
    try:
        lab.ovs("hv1").run("ip", "link", "set", spec.tap, "netns", lab.host("hv2").netns)
        lab.ovs("hv2").run("ip", "link", "set", spec.tap, "up")
        plug(lab, "hv2", spec.tap, "shop/b")
        until(lambda: seen(lab, "hv2")["misplaced"])
        with Streams(lab, [("shop/b", "shop/c"), ("shop/c", "shop/b"), ("shop/b", "shop/a"), OUT]) as streams:
            time.sleep(0.5)
        assert [streams.delivered(pair) for pair in streams.pairs[:3]] == [0, 0, 0]
        assert streams.lost(OUT) == 0
    finally:
        lab.ovs("hv2").vsctl("--if-exists", "del-port", spec.tap)
        lab.ovs("hv2").run("ip", "link", "set", spec.tap, "netns", lab.host("hv1").netns)
        lab.ovs("hv1").run("ip", "link", "set", spec.tap, "up")
        plug(lab, "hv1", spec.tap, "shop/b", "external_ids:ovsnet-lab=port")
    until(lambda: bound_to(lab, "shop/b")[0] == spec.tap)
    right(lab)
