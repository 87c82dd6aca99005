"""The OVSDB driver against a real ovsdb-server and ovs-vswitchd (the test datapath)."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.lab.ovs import OvsInstance
from ovsnet.ovsdb import Ovsdb, OvsdbError

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture
def ovs() -> Iterator[OvsInstance]:
    run_dir = Path(tempfile.mkdtemp(prefix="ovsdbt-"))
    instance = OvsInstance(run_dir, dummy=True)
    try:
        yield instance.start()
    finally:
        for pid in (instance.ovsdb_pid, instance.vswitchd_pid):
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(run_dir, ignore_errors=True)


@pytest.fixture
def db(ovs: OvsInstance) -> Iterator[Ovsdb]:
    client = Ovsdb(ovs.db_target).start()
    try:
        assert client.wait_connected(5)
        yield client
    finally:
        client.close()


def until(condition: Callable[[], bool], timeout: float = 5.0) -> float:
    """Wait for a condition; the seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, "the condition did not come true"
        time.sleep(0.005)
    return time.monotonic() - start


def plug(ovs: OvsInstance, name: str, iface_id: str, *extra: str, bridge: str = "br-int") -> None:
    ovs.vsctl("add-port", bridge, name, "--", "set", "interface", name, f"external_ids:iface-id={iface_id}", *extra)


def test_bridge_is_created_corrected_and_then_left_alone(ovs: OvsInstance, db: Ovsdb) -> None:
    assert db.ensure_bridge("netdev") == ["bridge br-int: created"]
    assert db.wait(lambda s: s.exists and bool(s.datapath_id), 5)
    assert db.state.datapath_type == "netdev"
    assert db.state.nd_responder
    ovs.vsctl("set", "open_vswitch", ".", "ovs_version=3.1.0")  # ovs-ctl writes it, not ovs-vswitchd
    assert db.wait(lambda s: s.ovs_version == "3.1.0", 5)
    get = ["get", "bridge", "br-int"]
    assert ovs.vsctl(*get, "fail_mode").strip() == "secure"
    assert ovs.vsctl(*get, "other_config").strip() == '{disable-in-band="true"}'
    assert ovs.vsctl(*get, "external_ids").strip() == "{ovsnet=integration}"

    before = ovs.vsctl("get", "open_vswitch", ".", "next_cfg")
    assert db.ensure_bridge("netdev") == []
    assert ovs.vsctl("get", "open_vswitch", ".", "next_cfg") == before

    ovs.vsctl(
        "set", "bridge", "br-int", "protocols=OpenFlow13", "fail_mode=standalone", "other_config:mac-table-size=7"
    )
    ovs.vsctl("set", "bridge", "br-int", "external_ids:theirs=kept")
    ovs.vsctl("set-controller", "br-int", "tcp:127.0.0.1:1")
    assert len(db.ensure_bridge("netdev")) == 3
    assert ovs.vsctl(*get, "protocols").strip() == "[OpenFlow13, OpenFlow14]"
    assert ovs.vsctl("get-controller", "br-int").strip() == ""
    assert ovs.vsctl(*get, "other_config").strip() == '{disable-in-band="true", mac-table-size="7"}'
    assert ovs.vsctl(*get, "external_ids").strip() == "{ovsnet=integration, theirs=kept}"


def test_unclaimed_bridge_is_adopted_and_a_foreign_one_refused(ovs: OvsInstance, db: Ovsdb) -> None:
    ovs.vsctl("add-br", "br-int", "--", "set-controller", "br-int", "tcp:127.0.0.1:6653")
    with pytest.raises(UserError, match=r"br-int belongs to somebody else: it has a controller: tcp:127\.0\.0\.1:6653"):
        db.ensure_bridge("system")
    ovs.vsctl("del-controller", "br-int")
    ovs.vsctl("set", "open_vswitch", ".", "external_ids:ovn-remote=unix:/x")
    with pytest.raises(UserError, match="OVN is configured to use it"):
        db.ensure_bridge("system")
    ovs.vsctl("remove", "open_vswitch", ".", "external_ids", "ovn-remote")
    ovs.vsctl("set", "bridge", "br-int", "external_ids:ct-zone-x=3")
    with pytest.raises(UserError, match="OVN has used it"):
        db.ensure_bridge("system")
    assert "ovsnet" not in ovs.vsctl("get", "bridge", "br-int", "external_ids")
    ovs.vsctl("remove", "bridge", "br-int", "external_ids", "ct-zone-x")
    assert "bridge br-int: external_ids:ovsnet=integration" in db.ensure_bridge("system")
    assert not db.state.nd_responder


@pytest.mark.parametrize("vtep", ["192.0.2.1", "2001:db8::1"])
def test_tunnel_port(ovs: OvsInstance, db: Ovsdb, vtep: str) -> None:
    with pytest.raises(UserError, match="br-int does not exist"):
        db.ensure_tunnel(vtep)
    db.ensure_bridge("netdev")
    assert db.ensure_tunnel("192.0.2.99", "geneve") == ["port geneve0: created, geneve from 192.0.2.99"]
    assert 'dst_port="6081"' in ovs.vsctl("get", "interface", "geneve0", "options")
    assert db.ensure_tunnel(vtep) == [
        "port geneve0: removed, a tunnel port of ours by another name",
        f"port vxlan0: created, vxlan from {vtep}",
    ]
    assert db.wait(lambda s: s.tunnel is not None and s.tunnel.name == "vxlan0" and s.tunnel.ofport is not None, 5)
    assert str(db.tunnel_ofport()) == ovs.vsctl("get", "interface", "vxlan0", "ofport").strip()
    assert db.ensure_tunnel(vtep) == []
    ovs.vsctl("set", "interface", "vxlan0", "options:local_ip=192.0.2.77", "options:csum=true")
    assert db.ensure_tunnel(vtep) == [f"port vxlan0: options:local_ip={vtep}"]
    options = ovs.vsctl("get", "interface", "vxlan0", "options")
    assert 'csum="true"' in options
    assert "remote_ip=flow" in options and "key=flow" in options and 'dst_port="4789"' in options
    assert "geneve0" not in ovs.vsctl("list-ports", "br-int")


def test_foreign_port_of_the_tunnels_name_is_refused(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    ovs.vsctl("add-port", "br-int", "vxlan0")
    with pytest.raises(UserError, match="a port vxlan0 exists and is not our tunnel port"):
        db.ensure_tunnel("192.0.2.1")
    assert "remote_ip" not in ovs.vsctl("get", "interface", "vxlan0", "options")


def test_interfaces_appear_late_are_replugged_and_renumbered(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    ovs.vsctl("add-br", "br-other", "--", "set", "bridge", "br-other", "datapath_type=netdev")
    assert dict(db.interfaces()) == {}
    plug(ovs, "p1", "id-1")
    plug(ovs, "q1", "id-9", bridge="br-other")
    assert db.wait(lambda s: "id-1" in s.interfaces and s.interfaces["id-1"].ofport is not None, 5)
    assert str(db.interfaces()["id-1"].ofport) == ovs.vsctl("get", "interface", "p1", "ofport").strip()
    assert db.interfaces()["id-1"].up
    assert "id-9" not in db.interfaces()

    ovs.vsctl("set", "interface", "p1", "ofport_request=77")
    assert db.wait(lambda s: s.interfaces["id-1"].ofport == 77, 5)
    ovs.vsctl("del-port", "p1")
    assert db.wait(lambda s: "id-1" not in s.interfaces, 5)
    plug(ovs, "p2", "id-1", "ofport_request=78")
    assert db.wait(lambda s: "id-1" in s.interfaces and s.interfaces["id-1"].ofport == 78, 5)
    assert db.interfaces()["id-1"].name == "p2"
    ovs.vsctl("remove", "interface", "p2", "external_ids", "iface-id")
    assert db.wait(lambda s: "id-1" not in s.interfaces, 5)
    ovs.vsctl("set", "interface", "p2", "external_ids:iface-id=id-2")
    assert db.wait(lambda s: "id-2" in s.interfaces, 5)


def test_one_iface_id_on_two_interfaces(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    plug(ovs, "b1", "id-1", "ofport_request=9")
    plug(ovs, "a1", "id-1", "ofport_request=20")
    assert db.wait(lambda s: len(s.conflicts) == 1 and s.interfaces["id-1"].ofport is not None, 5)
    assert db.wait(lambda s: s.conflicts[0].others == ("a1",), 5)
    assert db.interfaces()["id-1"].name == "b1"
    ovs.vsctl("del-port", "b1")
    assert db.wait(lambda s: not s.conflicts and s.interfaces["id-1"].name == "a1", 5)


def test_interface_in_error_is_not_bound(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    plug(ovs, "t1", "id-1", "type=unheard-of")
    assert db.wait(lambda s: "id-1" in s.interfaces and bool(s.interfaces["id-1"].error), 5)
    assert db.interfaces()["id-1"].ofport is None


@pytest.mark.alone
def test_stopped_server_is_noticed_within_a_second_and_found_again(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    pid = ovs.ovsdb_pid
    assert pid is not None
    for _ in range(3):
        time.sleep(0.4)
        os.kill(pid, signal.SIGSTOP)
        assert until(lambda: not db.connected) < 1.0
        with pytest.raises(OvsdbError, match="is not connected within"):
            db.ensure_tunnel("192.0.2.1", timeout=0.2)
        assert db.state.exists, "the last known facts stay"
        os.kill(pid, signal.SIGCONT)
        assert until(lambda: db.connected) < 4.0
    db.ensure_tunnel("192.0.2.1")
    assert "vxlan0" in ovs.vsctl("list-ports", "br-int")


@pytest.mark.alone
def test_killed_server_is_noticed_at_once_and_changes_meanwhile_are_seen(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    plug(ovs, "p1", "id-1")
    assert db.wait(lambda s: "id-1" in s.interfaces, 5)
    pid = ovs.ovsdb_pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert until(lambda: not db.connected) < 0.5
    results: list[object] = []
    waiter = threading.Thread(target=lambda: results.append(db.ensure_tunnel("192.0.2.1", timeout=10)))
    waiter.start()  # asked for while nobody answers, done once somebody does
    ovs.start_ovsdb()
    ovs.vsctl("--no-wait", "del-port", "p1")
    assert until(lambda: db.connected) < 2.0
    waiter.join(10)
    assert results == [["port vxlan0: created, vxlan from 192.0.2.1"]]
    assert db.wait(lambda s: "id-1" not in s.interfaces and s.tunnel is not None, 5)


def test_reconnections_leak_neither_threads_nor_descriptors(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")

    def resources() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def cycle() -> None:
        pid = ovs.ovsdb_pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        until(lambda: not db.connected)
        ovs.start_ovsdb()
        assert db.wait_connected(5)

    cycle()
    before = resources()
    for _ in range(10):
        cycle()
    until(lambda: resources() <= before)


def test_restarted_vswitchd_renumbers(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    plug(ovs, "p1", "id-1")
    assert db.wait(lambda s: "id-1" in s.interfaces and s.interfaces["id-1"].ofport is not None, 5)
    ovs.stop_vswitchd(signal.SIGKILL)
    ovs.vsctl("--no-wait", "set", "interface", "p1", "ofport_request=55")
    with pytest.raises(OvsdbError, match=r"did not apply the configuration within 0\.3 s"):
        db.sync(timeout=0.3)
    assert db.connected
    ovs.start_vswitchd()
    assert db.wait(lambda s: s.interfaces["id-1"].ofport == 55, 5)
    db.sync()


def test_a_burst_of_changes_makes_few_calls(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    calls: list[float] = []
    db.on_change(lambda: calls.append(time.monotonic()))
    words: list[str] = []
    for n in range(100):
        words += ["--", "add-port", "br-int", f"p{n}", "--", "set", "interface", f"p{n}", f"external_ids:iface-id=i{n}"]
    ovs.vsctl(*words[1:])
    assert db.wait(lambda s: sum(i.ofport is not None for i in s.interfaces.values()) == 100, 10)
    assert 1 <= len(calls) <= 20


def restore_wait(ovs: OvsInstance) -> str:
    return ovs.vsctl("--if-exists", "get", "open_vswitch", ".", "other_config:flow-restore-wait").strip()


def test_restore_wait_holds_a_restarted_switch_until_released(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")

    def receive() -> None:
        ovs.appctl("netdev-dummy/receive", "p1", "eth(src=02:00:00:00:00:01,dst=02:00:00:00:00:02),eth_type(0x1234)")

    assert not db.release_restore_wait(), "nothing to release that was not armed"
    assert db.arm_restore_wait()
    assert restore_wait(ovs) == '"true"'
    ovs.vsctl("add-port", "br-int", "p1", "--", "add-port", "br-int", "p2")  # a running switch takes no notice
    ovs.stop_vswitchd(signal.SIGKILL)
    ovs.start_vswitchd()
    ovs.ofctl("add-flow", "br-int", "in_port=p1,actions=output:p2")
    receive()
    time.sleep(0.3)
    assert "n_packets=0" in ovs.ofctl("dump-flows", "br-int")
    assert db.release_restore_wait()
    assert restore_wait(ovs) == '"true"'
    receive()
    until(lambda: "n_packets=1" in ovs.ofctl("dump-flows", "br-int"))


def test_restore_wait_is_not_armed_beside_other_peoples_bridges(ovs: OvsInstance, db: Ovsdb) -> None:
    db.ensure_bridge("netdev")
    assert db.arm_restore_wait()
    ovs.vsctl("add-br", "br-ex")
    assert db.wait(lambda s: s.foreign_bridges == ("br-ex",), 5)
    assert not db.arm_restore_wait()
    assert restore_wait(ovs) == ""
    ovs.vsctl("set", "open_vswitch", ".", "other_config:flow-restore-wait=true")  # an administrator's own restart
    ovs.vsctl("del-br", "br-ex")
    assert db.wait(lambda s: not s.foreign_bridges, 5)
    assert not db.arm_restore_wait()
    assert not db.release_restore_wait()
    assert restore_wait(ovs) == '"true"'


def test_missing_server_is_waited_for() -> None:
    with tempfile.TemporaryDirectory(prefix="ovsdbt-") as name:
        ovs = OvsInstance(Path(name), dummy=True)
        client = Ovsdb(ovs.db_target).start()
        try:
            assert not client.wait_connected(0.3)
            with pytest.raises(OvsdbError, match="is not connected"):
                client.ensure_bridge(timeout=0.1)
            ovs.start_ovsdb()
            assert client.wait_connected(3)
        finally:
            client.close()
            ovs.stop()
