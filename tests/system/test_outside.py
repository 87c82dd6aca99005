"""The way out between real workloads and a station on the provider network: who sees whom, and who gets in."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.lab.physical import PhysicalSpec
from ovsnet.model import load
from ovsnet.model.types import FloatingIp, Model
from tests.agent_kit import until
from tests.system.conftest import temporary_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(180)]

MODEL = Path(__file__).parents[2] / "examples" / "models" / "outside.yaml"
GATEWAY, GATEWAY6 = "203.0.113.1", "2001:db8:ffff::1"
SEEN_AS = {
    ("web1", 4): "203.0.113.20", ("web2", 4): "203.0.113.21", ("db1", 4): "203.0.113.10", ("pub1", 4): "203.0.113.30",
    ("web1", 6): "2001:db8:ffff::20", ("web2", 6): "2001:db8:ffff::10", ("pub1", 6): "2001:db8:ffff::30",
}  # fmt: skip
"""As whom the station sees each port, by IP version: what the model declares, read by a person."""
ASK = (
    "import socket, sys\n"
    "s = socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)\n"
    "print(s.makefile().read(), end='')\n"
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab(load([MODEL])) as made:
        yield made


def station(lab: Lab) -> PhysicalSpec:
    return lab.topology.physical["ext"]


@contextlib.contextmanager
def telling(namespace: str, address: str, port: int = 8080) -> Iterator[None]:
    """A server that tells each caller which address it sees."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.inside(namespace):
        listener = socket.create_server((address, port), family=family)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, peer = listener.accept()
                with connection:
                    connection.sendall(peer[0].encode())

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def told(lab: Lab, port: str, address: str, number: int = 8080) -> str:
    """What a server tells a port; a second attempt, since the first packet to a neighbour may be lost."""
    return lab.run(f"shop/{port}", "python3", "-c", ASK, address, str(number)).stdout


def outside(lab: Lab, *argv: str) -> subprocess.CompletedProcess[str]:
    """A command at the station."""
    with netns.inside(station(lab).netns):
        return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def asked(lab: Lab, address: str, number: int = 8080) -> str:
    """What a server tells the station."""
    return outside(lab, "python3", "-c", ASK, address, str(number)).stdout


@pytest.mark.parametrize(("port", "family"), SEEN_AS)
def test_the_station_sees_the_address_that_is_declared(lab: Lab, port: str, family: int) -> None:
    address = GATEWAY if family == 4 else GATEWAY6
    with telling(station(lab).netns, address):
        assert told(lab, port, address) == SEEN_AS[port, family]


@pytest.mark.parametrize(("port", "family"), [(p, f) for p, f in SEEN_AS if (p, f) not in {("db1", 4), ("web2", 6)}])
def test_the_station_gets_in_by_addresses_that_stand_for_one_port(lab: Lab, port: str, family: int) -> None:
    spec = lab.port(f"shop/{port}")
    own = next(one.split("/")[0] for one in spec.addresses if (":" in one) == (family == 6))
    with telling(spec.netns, own):
        seen = asked(lab, SEEN_AS[port, family])
    assert seen == (GATEWAY if family == 4 else GATEWAY6)


def test_nobody_gets_in_by_an_address_that_stands_for_many(lab: Lab) -> None:
    with telling(lab.port("shop/db1").netns, "192.168.2.11"):
        assert asked(lab, "203.0.113.10") == ""
    assert outside(lab, "ping", "-c", "2", "-W", "1", "203.0.113.10").returncode


@pytest.mark.parametrize("port", ["web1", "web2", "db1", "pub1"])
def test_ports_reach_each_other_by_their_addresses_outside(lab: Lab, port: str) -> None:
    for target in ("web1", "web2", "pub1"):
        spec = lab.port(f"shop/{target}")
        if target == port:
            continue
        with telling(spec.netns, spec.addresses[0].split("/")[0]):
            assert told(lab, port, SEEN_AS[target, 4]) == SEEN_AS[port, 4], target


def test_the_way_costs_one_hop_and_traceroute_shows_it(lab: Lab) -> None:
    for port, hops in (("web1", ["192.168.1.1", GATEWAY]), ("db1", ["192.168.2.1", GATEWAY])):
        shown = lab.run(f"shop/{port}", "traceroute", "-n", "-q", "2", "-w", "2", "-m", "4", GATEWAY)
        assert [line.split()[1] for line in shown.stdout.splitlines()[1:]] == hops, shown
    answer = lab.run("shop/db1", "ping", "-c", "2", "-W", "2", GATEWAY).stdout
    assert "ttl=63" in answer, "the answer is routed once on its way in"


def test_an_error_about_a_connection_finds_its_way_in(lab: Lab) -> None:
    """The station has no port 9 open: its port unreachable is about the translated packet, and gets translated back."""
    code = (
        "import socket\n"
        "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(5)\n"
        f"s.connect(('{GATEWAY}', 9)); s.send(b'x')\n"
        "try: s.recv(1)\n"
        "except ConnectionRefusedError: print('refused')\n"
    )
    for port in ("web1", "db1"):
        assert lab.run(f"shop/{port}", "python3", "-c", code).stdout == "refused\n", port


def test_what_claims_to_be_inside_is_dropped_outside(lab: Lab) -> None:
    """A station that sends as a port inside would count as a member of that port's groups."""
    spec = lab.port("shop/web1")
    with netns.inside(spec.netns):
        listening = subprocess.Popen(
            ["tcpdump", "-i", "eth0", "-Q", "in", "-n", "-l", "udp port 5353"], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert listening.stderr is not None
    listening.stderr.readline()
    mac = outside(lab, "ip", "neigh", "show", "203.0.113.20").stdout
    code = (
        "import sys\nfrom scapy.all import Ether, IP, UDP, sendp\n"
        "for source in ('192.168.1.12', '203.0.113.1'):\n"
        "    sendp(Ether(dst=sys.argv[1]) / IP(src=source, dst='203.0.113.20') / UDP(sport=1, dport=5353) / b'x',"
        " iface='vlan100', verbose=False)\n"
    )

    done = outside(lab, sys.executable, "-c", code, mac.split("lladdr ")[1].split()[0])
    assert not done.returncode, done.stderr
    time.sleep(1)
    listening.terminate()
    shown, _ = listening.communicate(timeout=10)
    assert "203.0.113.1.1 > 192.168.1.11.5353" in shown, "the control: an honest one arrives"
    assert "192.168.1.12" not in shown


def test_connections_are_in_the_zone_of_their_address_as_declared(lab: Lab) -> None:
    with telling(station(lab).netns, GATEWAY):
        told(lab, "db1", GATEWAY)
    zones = {
        key.removeprefix("ovsnet-zone-"): value
        for key, value in _external_ids(lab, "gw1").items()
        if key.startswith("ovsnet-zone-shop/")
    }
    assert {"shop/203.0.113.10", "shop/2001:db8:ffff::10", "shop/203.0.113.21"} <= zones.keys()
    number = zones["shop/203.0.113.10"]
    tracked = lab.ovs("gw1").appctl("dpctl/dump-conntrack", f"zone={number}")
    assert "orig=(src=192.168.2.11,dst=203.0.113.1," in tracked
    assert "reply=(src=203.0.113.1,dst=203.0.113.10," in tracked


def _external_ids(lab: Lab, host: str) -> dict[str, str]:
    text = lab.ovs(host).run("ovs-vsctl", "--db", lab.ovs(host).db_target, "--format=json", "list", "Bridge", "br-int")
    row = dict(zip(msgspec.json.decode(text)["headings"], msgspec.json.decode(text)["data"][0], strict=True))
    return dict(row["external_ids"][1])


def test_an_agent_that_comes_again_changes_nothing(lab: Lab) -> None:
    flows = "n_packets"
    with telling(station(lab).netns, GATEWAY):
        assert told(lab, "web1", GATEWAY)
        before = _flows(lab, "hv1")
        lab.kill_agent("hv1")
        lab.start_agent("hv1")
        assert not lab.wait_enforced(20)
        assert _flows(lab, "hv1") == before, flows
        assert told(lab, "web1", GATEWAY) == SEEN_AS["web1", 4]


def _flows(lab: Lab, host: str) -> list[str]:
    ovs = lab.ovs(host)
    target = ovs.mgmt_target("br-int")
    text = ovs.run("ovs-ofctl", "-O", "OpenFlow14", "--no-stats", "--no-names", "dump-flows", target)
    return sorted(text.splitlines())


def test_the_sites_bridge_keeps_all_that_is_its_own(lab: Lab) -> None:
    ovs = lab.ovs("gw1")
    ports = set(ovs.vsctl("list-ports", "br-ex").split())
    uplink = lab.host("gw1").bridges[0].uplink
    assert ports == {uplink, "br-ex-to-br-int"}
    assert "actions=NORMAL" in ovs.run("ovs-ofctl", "dump-flows", ovs.mgmt_target("br-ex"))
    assert "br-ex-to-br-int" not in lab.ovs("hv2").vsctl("show"), "hv2 has no such bridge"


def test_floating_ips_come_and_go(lab: Lab) -> None:
    model = lab.model
    shop = model.vpcs["shop"]
    more = shop.floating_ips | {"db1": FloatingIp(provider_network="internet", address="203.0.113.40", port="db1")}
    less = {name: one for name, one in more.items() if name != "web1"}
    try:
        Lab.up(_with(model, less), lab.name)
        with telling(station(lab).netns, GATEWAY):
            until(lambda: told(lab, "db1", GATEWAY) == "203.0.113.40", 10)
            assert told(lab, "web1", GATEWAY) == "203.0.113.10", "it has the domain's address now"
        assert outside(lab, "ping", "-c", "2", "-W", "1", "203.0.113.20").returncode
        assert not outside(lab, "ping", "-c", "3", "-W", "1", "203.0.113.21").returncode
        until(lambda: "ovsnet-zone-shop/203.0.113.20" not in _external_ids(lab, "hv1"), 10)
    finally:
        Lab.up(model, lab.name)


def _with(model: Model, floating_ips: dict[str, FloatingIp]) -> Model:
    shop = msgspec.structs.replace(model.vpcs["shop"], floating_ips=floating_ips)
    return msgspec.structs.replace(model, vpcs=model.vpcs | {"shop": shop})
