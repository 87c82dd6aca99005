"""The OpenFlow app in a child process: the same calls, whatever happens to either process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from openflow_kit import flow, flows, payload, start_switch, until, wire_of

from ovsnet.lab.ovs import OvsInstance
from ovsnet.openflow import SwitchDisconnected, SwitchError, SwitchPort, SwitchTimeout
from ovsnet.openflow.dump import parse_flow_stats
from ovsnet.openflow.process import SwitchProcess


@pytest.fixture(scope="module")
def switch() -> Iterator[OvsInstance]:
    run_dir = Path(tempfile.mkdtemp(prefix="of-proc-", dir="/tmp"))
    ovs = start_switch(run_dir)
    yield ovs
    ovs.stop()
    shutil.rmtree(run_dir)


@pytest.fixture
def port(switch: OvsInstance) -> Iterator[SwitchProcess]:
    switch.ofctl("del-flows", "br-int")
    port = SwitchProcess(switch.mgmt_target("br-int"))
    port.wait_connected(10)
    yield port
    port.stop()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_does_what_the_app_does(port: SwitchProcess) -> None:
    as_protocol: SwitchPort = port
    as_protocol.barrier(2)
    assert as_protocol.apply_bundle(payload(flows(30_000)), 30_000).committed
    assert len(list(parse_flow_stats(as_protocol.dump_flows()))) == 30_000
    messages = flows(10)
    messages[6] = wire_of(flow(port=0xFFFFFE00))
    result = as_protocol.apply_bundle(payload(messages), 10)
    assert not result.committed
    assert [(r.index, r.type, r.code) for r in result.refusals] == [(6, 2, 4)]
    assert result.refusals[0].data
    as_protocol.enforced({"shop": 3})
    assert as_protocol.counters()["connects"] == 1
    assert as_protocol.generation == 1


def test_the_childs_errors_are_the_callers(port: SwitchProcess, switch: OvsInstance) -> None:
    ups, downs = [], []
    port.on_connect(ups.append)
    port.on_disconnect(downs.append)
    switch.stop_vswitchd(signal.SIGKILL)
    until(lambda: not port.connected)
    with pytest.raises(SwitchDisconnected):
        port.barrier(1)
    with pytest.raises(SwitchTimeout, match=r"refused|No such file"):
        port.wait_connected(0.3)
    switch.start_vswitchd()
    port.wait_connected(5)
    pid = switch.vswitchd_pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SwitchTimeout, match="barrier"):
        port.barrier(0.1)
    os.kill(pid, signal.SIGCONT)
    until(lambda: ups == [1, 2])
    assert downs == ["the switch closed the connection"]


def spin(seconds: float) -> None:
    """Pure Python that gives up the interpreter only when it is made to."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        sum(range(1000))


@pytest.mark.alone
def test_the_connection_lives_while_the_parent_is_busy(port: SwitchProcess) -> None:
    before = port.counters()
    slowest = [0.0]
    running = threading.Event()

    def barriers() -> None:
        while not running.is_set():
            start = time.monotonic()
            port.barrier(5)
            slowest[0] = max(slowest[0], time.monotonic() - start)
            time.sleep(0.35)  # longer than the idle time: echoes flow between

    thread = threading.Thread(target=barriers)
    thread.start()
    spin(3)
    running.set()
    thread.join()
    after = port.counters()
    assert slowest[0] < 0.5
    assert after["probe_replies"] - before.get("probe_replies", 0) >= 4
    assert port.generation == 1
    assert after["connects"] == 1


def test_a_bundle_that_is_given_up_while_it_is_made_changes_nothing(port: SwitchProcess) -> None:
    def broken(bundle_id: int, first_xid: int) -> Iterator[bytes]:
        yield from map(bytes, payload(flows(5000))(bundle_id, first_xid))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        port.apply_bundle(broken, 5001)
    port.barrier()
    assert not list(parse_flow_stats(port.dump_flows()))
    assert port.apply_bundle(payload(flows(7)), 7).committed
    assert port.generation == 1, "the connection is the same"


@pytest.mark.alone
def test_a_frozen_parent_costs_no_connection(switch: OvsInstance) -> None:
    """The parent's interpreter does not run at all for a while; its child's connection must not notice."""
    code = (
        "import sys, time\n"
        "from ovsnet.openflow.process import SwitchProcess\n"
        "port = SwitchProcess(sys.argv[1]); port.wait_connected(10); print(port.pid, flush=True)\n"
        "sys.stdin.readline(); print(port.generation, port.counters()['connects'], flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, switch.mgmt_target("br-int")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as parent:  # fmt: skip
        try:
            assert parent.stdout is not None
            assert parent.stdin is not None
            child = int(parent.stdout.readline())
            os.kill(parent.pid, signal.SIGSTOP)
            time.sleep(2.5)
            os.kill(parent.pid, signal.SIGCONT)
            parent.stdin.write("\n")
            parent.stdin.flush()
            assert parent.stdout.readline().split() == ["1", "1"]
        finally:
            parent.kill()
        # and once the parent is gone, so is the child
        assert until(lambda: not alive(child)) < 1


def test_a_killed_child_is_replaced(port: SwitchProcess) -> None:
    pid = port.pid
    assert pid is not None
    downs: list[str] = []
    port.on_disconnect(downs.append)
    os.kill(pid, signal.SIGSTOP)
    failures: list[Exception] = []

    def ask() -> None:
        try:
            port.barrier(10)
        except SwitchError as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    asking.join(2)
    assert "ended with status -9" in str(failures[0])
    until(lambda: not port.connected)
    port.wait_connected(10)
    assert port.generation == 2
    assert port.pid not in {None, pid}
    port.barrier(2)
    until(lambda: downs == ["its process ended with status -9"])


def test_a_killed_child_leaves_all_of_a_bundle_or_nothing(port: SwitchProcess, switch: OvsInstance) -> None:
    make = payload(flows(20_000))
    seen = set()
    for delay in (0.0, 0.005, 0.02, 0.04, 0.07, 0.1):
        switch.ofctl("del-flows", "br-int")
        port.wait_connected(10)
        pid = port.pid
        assert pid is not None
        killer = threading.Timer(delay, os.kill, (pid, signal.SIGKILL))
        killer.start()
        try:
            committed = port.apply_bundle(make, 20_000).committed
        except SwitchError:
            committed = False
        killer.join()
        until(lambda pid=pid: not alive(pid))
        count = switch.ofctl("dump-flows", "br-int").count(" cookie=")
        assert count in {0, 20_000}
        assert count or not committed
        seen.add(count)
        until(lambda pid=pid: port.pid not in {None, pid})
    assert 0 in seen


def test_stop_ends_the_child_and_all_threads(switch: OvsInstance) -> None:
    before = set(threading.enumerate())
    port = SwitchProcess(switch.mgmt_target("br-int"))
    port.wait_connected(10)
    pid = port.pid
    assert pid is not None
    port.stop()
    port.stop()
    assert not alive(pid)
    assert set(threading.enumerate()) <= before
    with pytest.raises(SwitchDisconnected):
        port.barrier(1)


def test_the_child_imports_no_web_model_or_bus_code_and_the_parent_no_os_ken() -> None:
    code = "import sys, {module}; print(' '.join(sorted(name.split('.')[0] for name in sys.modules)))"

    def loaded(module: str) -> set[str]:
        run = subprocess.run(
            [sys.executable, "-c", code.format(module=module)], capture_output=True, text=True, check=True
        )
        return set(run.stdout.split())

    heavy = {"litestar", "uvicorn", "sqlalchemy", "nats", "grpc", "numpy", "pydantic", "yaml"}
    child = loaded("ovsnet.openflow.child, ovsnet.openflow.app")
    assert not child & heavy
    assert "os_ken" in child
    assert not loaded("ovsnet.openflow.process") & (heavy | {"os_ken"})
    assert "os_ken" not in loaded("ovsnet.agent.agent, ovsnet.agent.api"), "it takes longer than all else at a start"
    run = subprocess.run(
        [sys.executable, "-c", "import sys, ovsnet.openflow.app; print('ovsnet.model' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("make", ["app.start_app", "process.SwitchProcess"])
def test_a_program_that_forgets_to_stop_ends_quietly(switch: OvsInstance, make: str) -> None:
    module, name = make.split(".")
    target = switch.mgmt_target("br-int")
    code = f"from ovsnet.openflow.{module} import {name} as make; make({target!r}).wait_connected(10)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=15, check=True)
    assert run.stdout + run.stderr == ""
