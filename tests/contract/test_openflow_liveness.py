"""The OpenFlow connection when the switch dies, stalls or comes back, against a real ovs-vswitchd."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openflow_kit import OFP, Proxy, flows, payload, start_switch, until

from ovsnet.lab.ovs import OvsInstance
from ovsnet.openflow import SwitchDisconnected, SwitchTimeout, Timing
from ovsnet.openflow.app import OvsnetApp, start_app
from ovsnet.openflow.dump import parse_flow_stats

pytestmark = pytest.mark.alone


@pytest.fixture(scope="module")
def switch() -> Iterator[OvsInstance]:
    run_dir = Path(tempfile.mkdtemp(prefix="of-live-", dir="/tmp"))
    ovs = start_switch(run_dir)
    yield ovs
    ovs.stop()
    shutil.rmtree(run_dir)


@pytest.fixture
def app(switch: OvsInstance) -> Iterator[OvsnetApp]:
    app = start_app(switch.mgmt_target("br-int"))
    app.wait_connected(5)
    yield app
    app.stop()


class Stopped:
    """vswitchd does not run while inside."""

    def __init__(self, switch: OvsInstance) -> None:
        assert switch.vswitchd_pid is not None
        self._pid = switch.vswitchd_pid

    def __enter__(self) -> None:
        os.kill(self._pid, signal.SIGSTOP)

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, signal.SIGCONT)


def test_an_idle_connection_is_probed_and_stays(app: OvsnetApp) -> None:
    time.sleep(1.5)
    counters = app.counters()
    assert 3 <= counters["probes"] <= 6
    assert counters["probe_replies"] >= counters["probes"] - 1
    assert app.generation == 1


def test_a_killed_vswitchd_is_noticed_and_found_again(app: OvsnetApp, switch: OvsInstance) -> None:
    ups, downs = [], []
    app.on_connect(ups.append)
    app.on_disconnect(downs.append)
    switch.stop_vswitchd(signal.SIGKILL)
    assert until(lambda: not app.connected) < 1
    with pytest.raises(SwitchDisconnected):
        app.barrier(1)
    switch.start_vswitchd()
    assert until(lambda: app.connected) < 2
    app.barrier(2)
    assert app.apply_bundle(payload(flows(10)), 10).committed
    until(lambda: ups == [1, 2])
    assert downs == ["the switch closed the connection"]


def test_a_silent_vswitchd_is_noticed_within_a_second(app: OvsnetApp, switch: OvsInstance) -> None:
    for _ in range(3):
        generation = app.generation
        time.sleep(0.2)
        with Stopped(switch):
            assert until(lambda: not app.connected) < 1.1
            assert "no answer" in app.last_error
            with pytest.raises(SwitchDisconnected):
                app.barrier(1)
        assert until(lambda: app.connected) < 2.5
        assert app.generation == generation + 1


def test_a_pending_barrier_learns_of_the_loss(app: OvsnetApp, switch: OvsInstance) -> None:
    with Stopped(switch):
        start = time.monotonic()
        with pytest.raises(SwitchDisconnected, match="no answer"):
            app.barrier(10)
        assert time.monotonic() - start < 1.1
    app.wait_connected(5)


def test_a_barrier_times_out(app: OvsnetApp, switch: OvsInstance) -> None:
    with Stopped(switch), pytest.raises(SwitchTimeout):
        app.barrier(0.1)
    app.barrier(2)
    assert app.generation == 1


@pytest.mark.parametrize("count", [3_000, 20_000], ids=["small", "more than the socket's buffer"])
def test_a_switch_that_is_busy_with_our_bundle_is_not_dead(app: OvsnetApp, switch: OvsInstance, count: int) -> None:
    results = []
    make = payload(flows(count))
    worker = threading.Thread(target=lambda: results.append(app.apply_bundle(make, count)))
    with Stopped(switch):
        worker.start()
        time.sleep(1.6)
        assert app.connected
    worker.join(20)
    assert results[0].committed
    assert app.generation == 1
    time.sleep(0.5)
    assert app.connected


def test_a_switch_that_hangs_is_noticed_though_a_few_flows_are_on_their_way(
    app: OvsnetApp, switch: OvsInstance
) -> None:
    make = payload(flows(10))
    with Stopped(switch):
        start = time.monotonic()
        with pytest.raises(SwitchDisconnected, match="no answer"):
            app.apply_bundle(make, 10)
        assert time.monotonic() - start < 1.1
    app.wait_connected(5)


def test_a_switch_that_hangs_is_noticed_though_its_flows_were_asked_for(app: OvsnetApp, switch: OvsInstance) -> None:
    with Stopped(switch):
        start = time.monotonic()
        with pytest.raises(SwitchDisconnected, match="no answer"):
            app.dump_flows(timeout=3)
        assert time.monotonic() - start < 1.1
    app.wait_connected(5)


def test_a_bundle_that_times_out_leaves_nothing(app: OvsnetApp, switch: OvsInstance) -> None:
    switch.ofctl("del-flows", "br-int")
    with Stopped(switch), pytest.raises(SwitchTimeout):
        app.apply_bundle(payload(flows(10)), 10, timeout=0.3)
    app.wait_connected(5)
    app.barrier(2)
    assert list(parse_flow_stats(app.dump_flows())) == []


def test_patience_with_a_busy_switch_ends(switch: OvsInstance) -> None:
    app = start_app(switch.mgmt_target("br-int"), timing=Timing(busy_timeout=1.5))
    try:
        app.wait_connected(5)
        with Stopped(switch):
            start = time.monotonic()
            with pytest.raises(SwitchDisconnected, match="no answer"):
                app.apply_bundle(payload(flows(20_000)), 20_000)
            assert 1.4 < time.monotonic() - start < 2.2
        app.wait_connected(5)
    finally:
        app.stop()


@pytest.fixture
def proxy(switch: OvsInstance) -> Iterator[Proxy]:
    proxy = Proxy(switch.run_dir / "proxy.sock", switch.mgmt_target("br-int"))
    yield proxy
    proxy.stop()
    (switch.run_dir / "proxy.sock").unlink()


def test_a_path_that_swallows_everything_is_noticed(proxy: Proxy) -> None:
    app = start_app(proxy.target)
    try:
        app.wait_connected(5)
        proxy.frozen = True
        assert until(lambda: not app.connected) < 1.1
        proxy.frozen = False
        app.wait_connected(8)
    finally:
        app.stop()


def test_a_bundle_that_the_switch_gave_up_is_not_committed_in_part(switch: OvsInstance, proxy: Proxy) -> None:
    """A switch drops an idle bundle, and the messages that then come begin a new one: it must not be committed."""
    switch.vsctl("set", "Open_vSwitch", ".", "other_config:bundle-idle-timeout=1")
    switch.ofctl("del-flows", "br-int")
    app = start_app(proxy.target)
    try:
        app.wait_connected(5)
        results = []
        proxy.freeze_at = proxy.passed + 500_000
        make = payload(flows(20_000))
        worker = threading.Thread(target=lambda: results.append(app.apply_bundle(make, 20_000)))
        worker.start()
        until(lambda: proxy.frozen)
        time.sleep(2.5)
        proxy.freeze_at = None
        proxy.frozen = False
        worker.join(20)
        assert not results[0].committed
        assert [(r.index, r.type, r.code) for r in results[0].refusals] == [
            (None, OFP.OFPET_BUNDLE_FAILED, OFP.OFPBFC_TIMEOUT)
        ]
        assert list(parse_flow_stats(app.dump_flows())) == []
        assert app.apply_bundle(make, 20_000).committed
    finally:
        app.stop()
        switch.vsctl("remove", "Open_vSwitch", ".", "other_config", "bundle-idle-timeout")


def test_messages_may_come_in_any_pieces(switch: OvsInstance) -> None:
    path = switch.run_dir / "pieces.sock"
    proxy = Proxy(path, switch.mgmt_target("br-int"), piece=7)
    app = start_app(proxy.target)
    try:
        app.wait_connected(5)
        switch.ofctl("del-flows", "br-int")
        assert app.apply_bundle(payload(flows(200)), 200).committed
        assert len(list(parse_flow_stats(app.dump_flows()))) == 200
    finally:
        app.stop()
        proxy.stop()
        path.unlink()


def test_a_thousand_reconnects_leak_nothing(proxy: Proxy) -> None:
    app = start_app(proxy.target, timing=Timing(backoff_min=0.0005))
    this = psutil.Process()

    def reconnect(times: int) -> tuple[int, int, int]:
        for _ in range(times):
            app.wait_connected(5)
            generation = app.generation
            proxy.cut()
            until(lambda generation=generation: app.generation > generation)
        app.barrier(2)
        gc.collect()
        return this.num_threads(), this.num_fds(), this.memory_info().rss

    try:
        threads, fds, memory = reconnect(200)
        threads_after, fds_after, memory_after = reconnect(1000)
        assert app.generation > 1200
        assert threads_after == threads
        assert fds_after <= fds + 2  # a proxy's pair may be on its way
        assert memory_after - memory < 1 << 20
    finally:
        app.stop()


def test_a_peer_that_is_no_openflow_14_switch_is_told_of(switch: OvsInstance) -> None:
    switch.vsctl("--may-exist", "add-br", "br-old", "--", "set", "bridge", "br-old", "protocols=OpenFlow10")
    app = start_app(switch.mgmt_target("br-old"))
    try:
        until(lambda: "OpenFlow14" in app.last_error or "version" in app.last_error)
        assert not app.connected
    finally:
        app.stop()
