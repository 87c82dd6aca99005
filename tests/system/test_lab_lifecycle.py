"""A lab comes up, follows its model, and goes, whatever interrupted it; nothing else is touched."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.errors import UserError
from ovsnet.lab import netns
from ovsnet.lab.deliver import LabError
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.ovs import OvsError
from ovsnet.lab.record import locked
from ovsnet.lab.topology import lab_dir, prefix
from ovsnet.model.types import Host, Model, Port, Router
from tests.system.conftest import two_tenants

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]
ROOT = str(Path(__file__).resolve().parents[2])


def left_of(name: str) -> list[str]:
    """Whatever is left of a lab on this machine."""
    found = [f"namespace {one}" for one in netns.names(prefix(name))]
    base = lab_dir(name)
    found += [str(path) for path in (base, base.with_suffix(".lock")) if path.exists()]
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if f"{base}/".encode() in cmdline.read_bytes():
                found.append(f"process {cmdline.parent.name}")
    return found


def with_ports(model: Model, vpc: str, **ports: Port | None) -> Model:
    """The model with ports of a VPC changed; ``None`` removes one."""
    old = model.vpcs[vpc]
    changed = {name: port for name, port in {**old.ports, **ports}.items() if port is not None}
    return msgspec.structs.replace(model, vpcs={**model.vpcs, vpc: msgspec.structs.replace(old, ports=changed)})


def interfaces_of_this_namespace() -> set[str]:
    return set(os.listdir("/sys/class/net"))


def test_everything_is_there_and_afterwards_nothing(lab_name: str, cloud: Model) -> None:
    before = interfaces_of_this_namespace()
    lab = Lab.up(cloud, lab_name, agents=False)
    status = lab.status()
    assert status["healthy"], status["problems"]
    assert set(status["hosts"]) == {"hv1", "hv2"}
    assert set(status["ports"]) == {f"{vpc}/web{n}" for vpc in ("acme", "beta") for n in (1, 2, 3)}
    shown = json.loads(lab.run("acme/web1", "ip", "-j", "addr", "show", "dev", "eth0").stdout)[0]
    assert (shown["address"], shown["mtu"], shown["operstate"]) == ("02:00:00:00:01:01", 1450, "UP")
    assert {one["local"] for one in shown["addr_info"]} == {"192.168.1.11", "fe80::ff:fe00:101"}
    assert not any("tentative" in one for one in shown["addr_info"])
    assert "default" not in lab.run("acme/web1", "ip", "route").stdout, "no router, no way out"
    bound = lab.ovs("hv1").vsctl(
        "--bare", "--columns=external_ids", "find", "Interface", f"name={lab.port('acme/web1').tap}"
    )
    assert f"iface-id={cloud.vpcs['acme'].ports['web1'].id}" in bound
    assert lab.ovs("hv1").run("ping", "-c1", "-W2", "172.31.5.12")
    assert interfaces_of_this_namespace() == before
    assert down(lab_name) == []
    assert left_of(lab_name) == []


def test_ipv6_underlay(lab_name: str) -> None:
    lab = Lab.up(two_tenants(("2001:db8:a::1", "fd00:7::2"), ipv6=True), lab_name, agents=False)
    assert lab.port("acme/web1").mtu == 1430
    assert lab.ovs("hv1").run("ping", "-c1", "-W2", "fd00:7::2")
    assert "2001:db8:1::11/64" in lab.run("acme/web1", "ip", "-6", "addr").stdout


def test_a_host_does_not_answer_its_workloads(bare_lab: Lab) -> None:
    # The VTEP address is in the namespace of the host's end of the veth: Linux would take packets to it there.
    tap = bare_lab.port("acme/web1").tap
    host = bare_lab.host("hv1").netns
    mac = bare_lab.ovs("hv1").run("cat", f"/sys/class/net/{tap}/address").strip()

    def echoes_taken() -> int:
        counters = dict(
            line.split()[:2] for line in bare_lab.ovs("hv1").run("nstat", "-asz", "IcmpInEchos").splitlines()[1:]
        )
        return int(counters["IcmpInEchos"])

    def ping(*neighbour: str) -> str:
        bare_lab.run("acme/web1", "ip", "neigh", "flush", "dev", "eth0", "nud", "all")
        if neighbour:
            assert (
                bare_lab.run("acme/web1", "ip", "neigh", "replace", "10.0.0.11", "dev", "eth0", *neighbour).returncode
                == 0
            )
        bare_lab.run("acme/web1", "ping", "-c1", "-W1", "10.0.0.11")
        return bare_lab.run("acme/web1", "ip", "neigh", "show", "10.0.0.11").stdout

    assert bare_lab.run("acme/web1", "ip", "route", "add", "10.0.0.11", "dev", "eth0").returncode == 0
    before = echoes_taken()
    ping("lladdr", mac)
    assert echoes_taken() == before
    netns.sysctl(host, {f"ipv4/conf/{tap}/rp_filter": "0"})
    assert "lladdr" not in ping(), "the kernel answers no ARP there, whatever the reverse path filter does"
    ping("lladdr", mac)
    assert echoes_taken() == before + 1, "the control: without the filter it would take the packet"


def test_it_follows_the_model_and_leaves_the_rest_alone(lab_name: str, cloud: Model) -> None:
    lab = Lab.up(cloud, lab_name, agents=False)
    pids = {name: host["vswitchd_pid"] for name, host in lab.status()["hosts"].items()}
    with netns.inside(lab.port("acme/web1").netns):
        lives = subprocess.Popen(["sleep", "60"])
    stays = lab.run("acme/web2", "cat", "/sys/class/net/eth0/ifindex").stdout
    web1 = cloud.vpcs["acme"].ports["web1"]
    moved = msgspec.structs.replace(web1, host="hv3", ips=("192.168.1.99",))
    new = msgspec.structs.replace(web1, mac="02:00:00:00:01:77", ips=("192.168.1.77",), id="new")
    changed = with_ports(cloud, "acme", web1=moved, web3=None, web7=new)
    changed = msgspec.structs.replace(changed, hosts={**cloud.hosts, "hv3": Host(vtep="10.0.0.13")})
    lab = Lab.up(changed, lab_name, agents=False)
    status = lab.status()
    assert status["healthy"], status["problems"]
    assert set(status["ports"]) == {"acme/web1", "acme/web2", "acme/web7", "beta/web1", "beta/web2", "beta/web3"}
    assert {name: status["hosts"][name]["vswitchd_pid"] for name in pids} == pids
    assert lives.poll() is None, "what runs in a workload goes on when its port moves"
    lives.kill()
    lives.wait()
    assert lab.run("acme/web2", "cat", "/sys/class/net/eth0/ifindex").stdout == stays
    addresses = lab.run("acme/web1", "ip", "-4", "addr", "show", "dev", "eth0").stdout
    assert "192.168.1.99/24" in addresses
    assert "192.168.1.11" not in addresses
    for host, expected in (("hv1", 4), ("hv2", 1), ("hv3", 1)):
        listed = lab.ovs(host).vsctl("list-ports", "br-int").split()
        assert len(listed) == expected, (host, listed)
        assert "could not open" not in lab.ovs(host).vsctl("show")
    again = Lab.up(cloud, lab_name, agents=False)
    assert again.status()["healthy"]
    assert "hv3" not in again.status()["hosts"]
    assert set(again.status()["ports"]) == {f"{vpc}/web{n}" for vpc in ("acme", "beta") for n in (1, 2, 3)}
    assert len(netns.names(prefix(lab_name))) == 2 + 6 + 1


def test_a_change_of_routers_changes_routes_and_nothing_else(lab_name: str) -> None:
    plain = two_tenants(ipv6=True)
    router = Router(vni=9001, networks=("web",))
    routed = msgspec.structs.replace(
        plain, vpcs=plain.vpcs | {"acme": msgspec.structs.replace(plain.vpcs["acme"], routers={"r1": router})}
    )
    gateways = {"192.168.1.1", "2001:db8:1::1"}

    def state(lab: Lab, port: str) -> tuple[str, set[str]]:
        shown = "".join(lab.run(port, "ip", family, "route", "show", "default").stdout for family in ("-4", "-6"))
        index = lab.run(port, "cat", "/sys/class/net/eth0/ifindex").stdout
        return index, {line.split()[2] for line in shown.splitlines()}

    lab = Lab.up(plain, lab_name, agents=False)
    (index, none), other = state(lab, "acme/web1"), state(lab, "beta/web1")
    assert none == set()
    for model, wanted in ((routed, gateways), (routed, gateways), (plain, set())):
        lab = Lab.up(model, lab_name, agents=False)
        assert state(lab, "acme/web1") == (index, wanted)
        assert state(lab, "beta/web1") == other


def test_two_labs_of_one_model(lab_name: str, cloud: Model) -> None:
    other = f"{lab_name}-b"
    try:
        Lab.up(cloud, lab_name, agents=False)
        Lab.up(cloud, other, agents=False)
        assert down(lab_name) == []
        assert Lab.open(other).status()["healthy"]
        assert left_of(lab_name) == []
    finally:
        down(other)


def test_what_died_is_told_and_repaired(bare_lab: Lab) -> None:
    ovs = bare_lab.ovs("hv1")
    ovs.stop_vswitchd(signal.SIGKILL)
    assert bare_lab.status()["problems"] == ["hv1: ovs-vswitchd does not run"]
    web3 = bare_lab.port("acme/web3").netns
    netns.end(netns.pids_in([web3]))
    netns.delete(web3)
    assert "acme/web3: its workload is gone" in bare_lab.status()["problems"]
    lab = Lab.up(bare_lab.model, bare_lab.name, agents=False)
    assert lab.status()["healthy"]
    assert lab.ovs("hv1").run("ping", "-c1", "-W2", "172.31.5.12")


@contextlib.contextmanager
def coming_up(name: str, model: Model, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``Lab.up`` in a process of its own."""
    file = tmp_path / "model.json"
    file.write_bytes(msgspec.json.encode(model))
    code = (
        "import sys, msgspec; from ovsnet.lab.lab import Lab; from ovsnet.model.types import Model;"
        f"Lab.up(msgspec.json.decode(open({str(file)!r},'rb').read(), type=Model), {name!r}, agents=False)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": ROOT}, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_namespaces(name: str, count: int) -> None:
    deadline = time.monotonic() + 20
    while len(netns.names(prefix(name))) < count and time.monotonic() < deadline:
        time.sleep(0.002)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
def test_killed_in_the_middle_of_up(lab_name: str, cloud: Model, tmp_path: Path, count: int) -> None:
    with coming_up(lab_name, cloud, tmp_path) as process:
        wait_for_namespaces(lab_name, count)
        process.kill()
        process.wait()
    assert left_of(lab_name)
    assert down(lab_name) == []
    assert left_of(lab_name) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_up_leaves_nothing(lab_name: str, cloud: Model, tmp_path: Path, number: signal.Signals) -> None:
    with coming_up(lab_name, cloud, tmp_path) as process:
        wait_for_namespaces(lab_name, 3)
        process.send_signal(number)
        assert process.wait(20) != 0
    assert left_of(lab_name) == []


def test_a_failed_change_goes_back(bare_lab: Lab) -> None:
    web1 = bare_lab.model.vpcs["acme"].ports["web1"]
    bad = msgspec.structs.replace(web1, mac="01:00:00:00:00:01", ips=("192.168.1.200",), id="bad")  # no unicast MAC
    with pytest.raises(LabError, match="kernel refused"):
        Lab.up(with_ports(bare_lab.model, "acme", bad=bad, web3=None), bare_lab.name, agents=False)
    lab = Lab.open(bare_lab.name)
    assert lab.status()["healthy"], lab.status()["problems"]
    assert set(lab.status()["ports"]) == set(bare_lab.status()["ports"])


def test_a_namespace_of_somebody_else_is_left_alone(lab_name: str, cloud: Model) -> None:
    foreign = f"{prefix(lab_name)}host.hv2"
    netns.create(foreign, "not ours")
    try:
        with pytest.raises(UserError, match=r"is not this lab's"):
            Lab.up(cloud, lab_name, agents=False)
        assert netns.names(prefix(lab_name)) == [foreign]
        assert down(lab_name) == [foreign]
        assert netns.marker_of(foreign) == "not ours"
    finally:
        netns.delete(foreign)
    assert left_of(lab_name) == []


def test_one_at_a_time(lab_name: str, cloud: Model) -> None:
    with locked(lab_name), pytest.raises(UserError, match="another process"):
        Lab.up(cloud, lab_name, agents=False)
    assert left_of(lab_name) == []


def test_a_torn_record_does_not_stop_down(bare_lab: Lab) -> None:
    (lab_dir(bare_lab.name) / "lab.json").write_text("{")
    with pytest.raises(UserError, match="unreadable"):
        Lab.open(bare_lab.name)
    assert down(bare_lab.name) == []
    assert left_of(bare_lab.name) == []


@pytest.mark.parametrize("name", ["", "Lab", "../x", "a b", "-a", "x" * 64, "a.b"])
def test_bad_names(name: str, cloud: Model) -> None:
    with pytest.raises(UserError, match="not a lab's name"):
        Lab.up(cloud, name or " ", agents=False)


def test_the_longest_names(tmp_path: Path, cloud: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    long = f"t{os.getpid()}-".ljust(63, "x")
    host = "h".ljust(63, "y")
    hosts = {host: Host(vtep="10.0.0.1")}
    ports = {"p".ljust(63, "z"): msgspec.structs.replace(cloud.vpcs["acme"].ports["web1"], host=host)}
    vpc = msgspec.structs.replace(cloud.vpcs["acme"], ports=ports)
    model = msgspec.structs.replace(cloud, hosts=hosts, vpcs={"v".ljust(63, "w"): vpc})
    try:
        assert Lab.up(model, long, agents=False).status()["healthy"]
    finally:
        down(long)
    monkeypatch.setenv("OVSNET_LAB_DIR", "/run/" + "d" * 80)
    with pytest.raises(UserError, match="OVSNET_LAB_DIR"):
        Lab.up(model, long, agents=False)


def test_ports_are_found_by_name(bare_lab: Lab) -> None:
    assert bare_lab.port("acme/web1").name == "acme/web1"
    with pytest.raises(UserError, match="several VPCs"):
        bare_lab.port("web1")
    with pytest.raises(UserError, match=r"no port .web9"):
        bare_lab.port("web9")
    with pytest.raises(UserError, match="no host hv9"):
        bare_lab.host("hv9")
    assert bare_lab.exec("acme/web1", ["sh", "-c", "exit 7"]) == 7
    assert bare_lab.exec("acme/web1", ["no-such-command"]) == 127


def test_without_root(lab_name: str, cloud: Model) -> None:
    failures: list[BaseException] = []

    def unprivileged() -> None:
        # The effective user of this thread alone, by the bare system call.
        import ctypes

        ctypes.CDLL(None).syscall(117, 65534, 65534, 0)
        try:
            Lab.up(cloud, lab_name, agents=False)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=unprivileged)
    thread.start()
    thread.join()
    assert isinstance(failures[0], UserError)
    assert "sudo" in str(failures[0])


def test_a_switch_that_cannot_start_says_why(bare_lab: Lab) -> None:
    with pytest.raises(OvsError, match="pid"):
        bare_lab.ovs("hv1").start_vswitchd()
