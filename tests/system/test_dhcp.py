"""What real clients on real ports are told of their addresses, byte by byte, and what nobody gets."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import ICMPv6ND_RA, IPv6
from scapy.layers.l2 import Ether

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign, port_id
from tests.agent_kit import until
from tests.system.conftest import loaded, temporary_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(240)]

MODEL = """
version: 1
underlay: {mtu: 1400}
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
vpcs:
  shop:
    networks:
      web:
        domain: shop.example
        subnets:
          - {cidr: 192.168.1.0/24, dns: [192.168.1.53, 9.9.9.9], lease: 3600}
          - {cidr: "2001:db8:1::/64", dns: ["2001:db8:1::53"]}
      db: {subnets: [{cidr: 192.168.2.0/24}, {cidr: "2001:db8:2::/64"}]}
      own: {mtu: 1300, subnets: [{cidr: "2001:db8:3::/64", ra: slaac}]}
      mute: {subnets: [{cidr: 192.168.4.0/24, dhcp: false}]}
    security_groups:
      closed: {default_egress: deny}
      default: {rules: [{direction: ingress}]}
    routers:
      r1: {networks: [web, db], routes: [{to: 10.50.0.0/16, via: {port: db1}}]}
    ports:
      web1: {network: web, host: hv1, mac: "02:00:00:00:01:01", ips: [192.168.1.11, "2001:db8:1::11"]}
      web_2:
        network: web
        host: hv1
        mac: "02:00:00:00:01:02"
        ips: [192.168.1.12, "2001:db8:1::12"]
        security_groups: [closed]
      db1: {network: db, host: hv2, mac: "02:00:00:00:02:01", ips: [192.168.2.11, "2001:db8:2::11"]}
      own1: {network: own, host: hv1, mac: "02:00:00:00:03:01", ips: ["2001:db8:3::ff:fe00:301"]}
      mute1: {network: mute, host: hv1, mac: "02:00:00:00:04:01", ips: [192.168.4.11]}
"""
MAC, OTHER_MAC, GATEWAY_MAC, EVERY_MAC = "02:00:00:00:01:01", "02:00:00:00:01:02", "02:6f:76:00:00:01", "ff:" * 5 + "ff"
ASKED = [1, 3, 6, 15, 12, 26, 28, 51, 58, 59, 119, 121]
SCRIPT = """#!/bin/sh
env >> {events}
[ -n "$new_ip_address" ] && ip addr replace "$new_ip_address/24" dev eth0
[ -n "$new_ip_address" ] && ip route replace default via "$new_routers"
[ -n "$new_ip6_address" ] && ip addr replace "$new_ip6_address/128" dev eth0
[ -n "$ip" ] && ip addr replace "$ip/24" dev eth0
exit 0
"""
CONFIG = """
option classless-routes code 121 = array of unsigned integer 8;
also request classless-routes, interface-mtu, domain-search, dhcp6.domain-search;
initial-interval 1; initial-delay 0; backoff-cutoff 2; retry 2; timeout 30;
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab(loaded(MODEL)) as made:
        yield made


class Tap:
    """A port's interface with nothing between: frames in and out."""

    def __init__(self, lab: Lab, port: str) -> None:
        with netns.inside(lab.port(port).netns):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self.socket.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        self.socket.bind(("eth0", 3))

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def heard(self, wanted: Callable[[bytes], bool], within: float) -> list[bytes]:
        """The frames of a kind that come until one is there and for a moment more, or ``within`` s have passed."""
        found, end = [], time.monotonic() + within
        while (left := end - time.monotonic()) > 0:
            self.socket.settimeout(left)
            try:
                frame = self.socket.recv(65535)
            except TimeoutError:
                break
            if wanted(frame):
                found.append(frame)
                end = min(end, time.monotonic() + 0.3)
        return found

    def __enter__(self) -> Tap:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()


def is_reply(frame: bytes) -> bool:
    return frame[12:14] == b"\x08\0" and frame[23] == 17 and frame[34:38] == bytes.fromhex("00430044")


def asking(kind: str, *options: object, mac: str = MAC, src: str = "0.0.0.0", eth: str = MAC, **bootp: object) -> bytes:
    """A client's message, by scapy."""
    chaddr = bytes.fromhex(mac.replace(":", ""))
    fields = {"op": 1, "chaddr": chaddr, "xid": 0x1234ABCD, **bootp}
    said = [("message-type", kind), *options, ("param_req_list", ASKED), "end"]
    dst = "255.255.255.255"
    return bytes(
        Ether(src=eth, dst=EVERY_MAC)
        / IP(src=src, dst=dst)
        / UDP(sport=68, dport=67)
        / BOOTP(**fields)
        / DHCP(options=said)
    )


def tlv(code: int, text: str) -> bytes:
    value = bytes.fromhex(text)
    return bytes([code, len(value)]) + value


NAME = b"shop.example".hex()
TOLD = (
    tlv(1, "ffffff00") + tlv(3, "c0a80101") + tlv(6, "c0a80135 09090909") + tlv(15, NAME) + tlv(12, b"web1".hex())
    + tlv(26, f"{1350:04x}") + tlv(28, "c0a801ff") + tlv(119, "0473686f70 076578616d706c65 00")
    + tlv(121, "18c0a802 c0a80101 100a32 c0a80101 00 c0a80101")
)  # fmt: skip
WHY = b"the port's address is 192.168.1.11"
TIMES = tlv(51, f"{3600:08x}") + tlv(58, f"{1800:08x}") + tlv(59, f"{3150:08x}")


def answering(kind: int, options: bytes, *, yiaddr: str, ciaddr: str = "0.0.0.0", dst: str, mac: str = MAC) -> bytes:
    """The answer as the RFCs have it, its headers by scapy and its options by hand."""
    chaddr = bytes.fromhex(MAC.replace(":", ""))
    head = bytes(BOOTP(op=2, chaddr=chaddr, xid=0x1234ABCD, yiaddr=yiaddr, ciaddr=ciaddr, options=b"c\x82Sc"))
    message = (head + tlv(53, f"{kind:02x}") + tlv(54, "c0a80101") + options + b"\xff").ljust(300, b"\0")
    return bytes(
        Ether(src=GATEWAY_MAC, dst=mac)
        / IP(src="192.168.1.1", dst=dst, id=0, flags="DF")
        / UDP(sport=67, dport=68)
        / message
    )


def alike(one: bytes, other: bytes) -> None:
    """The same but for what a sender is free to choose: the IP header's id, flags, TTL, TOS and so its checksum."""
    assert one[:15] + one[16:18] + one[26:40] + one[42:] == other[:15] + other[16:18] + other[26:40] + other[42:]
    assert bytes(IP(one[14:])) == one[14:]
    again = Ether(one)
    del again[IP].chksum, again[UDP].chksum
    assert bytes(again) == one


def test_discover_request_inform_and_a_wrong_request_byte_by_byte(lab: Lab) -> None:
    own = {"yiaddr": "192.168.1.11", "dst": "192.168.1.11"}
    cases = {
        "offer": (asking("discover"), answering(2, TIMES + TOLD, **own)),
        "ack": (asking("request", ("requested_addr", "192.168.1.11"), ("server_id", "192.168.1.1")),
                answering(5, TIMES + TOLD, **own)),
        "nak": (asking("request", ("requested_addr", "192.168.1.99")),
                answering(6, tlv(56, WHY.hex()), yiaddr="0.0.0.0", dst="255.255.255.255", mac=EVERY_MAC)),
        "inform": (asking("inform", src="192.168.1.11", ciaddr="192.168.1.11"),
                   answering(5, TOLD, yiaddr="0.0.0.0", ciaddr="192.168.1.11", dst="192.168.1.11")),
    }  # fmt: skip
    with Tap(lab, "shop/web1") as tap, Tap(lab, "shop/web_2") as near, Tap(lab, "shop/db1") as far:
        for name, (question, expected) in cases.items():
            tap.send(question)
            replies = tap.heard(is_reply, 10)
            assert len(replies) == 1, name
            alike(replies[0], expected)
        assert not near.heard(is_reply, 0.3)
        assert not far.heard(is_reply, 0.3)


def test_nobody_is_answered_for_somebody_else(lab: Lab) -> None:
    with Tap(lab, "shop/web1") as tap, Tap(lab, "shop/web_2") as near, Tap(lab, "shop/mute1") as mute:
        for wrong in (
            asking("discover", mac=OTHER_MAC),
            asking("discover", mac=OTHER_MAC, eth=OTHER_MAC),
            asking("discover", src="192.168.1.12"),
            asking("discover", giaddr="192.168.1.5"),
            asking("release", ciaddr="192.168.1.11"),
            asking("decline", ("requested_addr", "192.168.1.11")),
        ):
            tap.send(wrong)
        assert not tap.heard(is_reply, 1)
        assert not near.heard(is_reply, 0.2)
        mute.send(asking("discover", mac="02:00:00:00:04:01", eth="02:00:00:00:04:01"))
        assert not mute.heard(is_reply, 1)
        tap.send(asking("discover"))
        assert tap.heard(is_reply, 10), "the control is answered"


class Client:
    """A DHCP client in a workload, with files of its own; its addresses are taken away first."""

    def __init__(self, lab: Lab, port: str) -> None:
        self.lab, self.port = lab, port
        self.directory = Path(tempfile.mkdtemp(prefix="dhcp-", dir="/tmp"))
        self.running: list[subprocess.Popen[bytes]] = []
        script = self.directory / "script"
        script.write_text(SCRIPT.format(events=self.directory / "events"))
        script.chmod(0o755)
        (self.directory / "config").write_text(CONFIG)
        (self.directory / "leases").touch()
        shutil.copy("/sbin/dhclient", self.directory / "dhclient")  # AppArmor confines the one in /sbin
        lab.run(port, "ip", "-4", "addr", "flush", "dev", "eth0")
        lab.run(port, "ip", "-6", "addr", "flush", "dev", "eth0", "scope", "global")

    def dhclient(self, *arguments: str) -> None:
        files = ("-cf", "config", "-lf", "leases", "-pf", "pid", "-sf", str(self.directory / "script"))
        self.run("./dhclient", "-d", "-1", *arguments, *files, "eth0")

    def run(self, *command: str) -> None:
        with netns.inside(self.lab.port(self.port).netns):
            started = subprocess.Popen(
                command,
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        self.running.append(started)

    def told(self) -> str:
        file = self.directory / "events"
        return file.read_text() if file.exists() else ""

    def wait(self, *lines: str) -> None:
        try:
            until(lambda: set(lines) <= set(self.told().splitlines()))
        except AssertionError:
            raise AssertionError(
                f"{self.port} lacks {set(lines) - set(self.told().splitlines())}:\n{self.told()}"
            ) from None

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self.running:
            one.kill()
            one.wait()
        shutil.rmtree(self.directory)


def test_dhclient_gets_its_lease_and_traffic_flows_through_the_router(lab: Lab) -> None:
    with Client(lab, "shop/web1") as client:
        client.dhclient("-4")
        client.wait(
            *("new_ip_address=192.168.1.11", "new_subnet_mask=255.255.255.0", "new_routers=192.168.1.1"),
            *("new_domain_name_servers=192.168.1.53 9.9.9.9", "new_domain_name=shop.example", "new_host_name=web1"),
            *("new_interface_mtu=1350", "new_dhcp_lease_time=3600", "new_dhcp_server_identifier=192.168.1.1"),
            "new_classless_routes=24 192 168 2 192 168 1 1 16 10 50 192 168 1 1 0 192 168 1 1",
        )
        until(lambda: lab.run("shop/web1", "ping", "-c1", "-W2", "192.168.2.11").returncode == 0)


def test_a_port_that_may_send_nothing_gets_its_address_by_udhcpc_and_dhcpv6(lab: Lab) -> None:
    with Client(lab, "shop/web_2") as client:
        script = str(client.directory / "script")
        client.run("udhcpc", "-f", "-n", "-T", "1", "-i", "eth0", "-s", script, "-O", "mtu", "-O", "staticroutes")
        client.wait("ip=192.168.1.12", "router=192.168.1.1", "mtu=1350", "hostname=web-2")
        client.dhclient("-6", "-D", "LL")
        client.wait("new_ip6_address=2001:db8:1::12", "new_dhcp6_name_servers=2001:db8:1::53")


def test_the_kernel_makes_its_own_address_and_learns_the_mtu(lab: Lab) -> None:
    port = "shop/own1"
    spec = lab.port(port)
    with Client(lab, port):
        netns.link(spec.netns, "eth0", up=False)
        netns.sysctl(spec.netns, {f"ipv6/conf/eth0/{key}": "1" for key in ("accept_ra", "autoconf")})
        netns.sysctl(spec.netns, {"ipv6/conf/eth0/router_solicitations": "3", "ipv6/conf/eth0/addr_gen_mode": "0"})
        netns.link(spec.netns, "eth0", up=True)
        until(lambda: "2001:db8:3::ff:fe00:301/64" in lab.run(port, "ip", "-6", "addr", "show", "dev", "eth0").stdout)
        with netns.inside(spec.netns):
            assert Path("/proc/sys/net/ipv6/conf/eth0/mtu").read_text().strip() == "1300"
        assert "default" not in lab.run(port, "ip", "-6", "route").stdout, "without a router there is no default route"


def test_a_flood_of_one_port_delays_nobody_else(lab: Lab) -> None:
    frame = asking("discover")
    with Tap(lab, "shop/web1") as flooder, Tap(lab, "shop/web_2") as tap:
        flooder.heard(lambda _: False, 2.5)  # its meter is full again
        flooder.socket.setblocking(True)
        end, sent = time.monotonic() + 4, 0
        waited = []
        while time.monotonic() < end:
            for _ in range(200):
                flooder.send(frame)
            sent += 200
            asked = time.monotonic()
            if len(waited) < 4:
                tap.send(asking("discover", mac=OTHER_MAC, eth=OTHER_MAC))
                if tap.heard(is_reply, 3):
                    waited.append(time.monotonic() - asked - 0.3)
        assert len(waited) == 4, "each time the other was answered"
        answered = len(flooder.heard(is_reply, 0.5))
        flooder.socket.settimeout(0.2)
        try:
            while True:
                answered += is_reply(flooder.socket.recv(65535))
        except TimeoutError:
            pass
    assert sent > 1000
    assert 1 <= answered <= 20 + 10 * 12, f"{answered} of {sent} were answered"


def test_a_port_that_comes_later_and_an_agent_that_was_started_again(lab: Lab) -> None:
    model = lab.model
    shop = model.vpcs["shop"]
    late = msgspec.structs.replace(shop.ports["web1"], mac="02:00:00:00:01:09", ips=("192.168.1.19",), id="")
    late = msgspec.structs.replace(late, id=port_id("shop", "late"))
    vpc = msgspec.structs.replace(shop, ports=shop.ports | {"late": late})
    grown = assign(msgspec.structs.replace(model, vpcs={"shop": vpc}), Lock())[0]
    lab = Lab.up(grown, lab.name)
    ask = asking("discover", mac="02:00:00:00:01:09", eth="02:00:00:00:01:09")

    def leased() -> bool:
        with Tap(lab, "shop/late") as tap:
            tap.send(ask)
            return any(Ether(one)[BOOTP].yiaddr == "192.168.1.19" for one in tap.heard(is_reply, 2))

    assert leased()
    lab.kill_agent("hv1")
    assert not leased(), "nobody is there to answer"
    lab.start_agent("hv1")
    until(leased)


def advertising(lifetime: int) -> Callable[[bytes], bool]:
    """A router's advertisement with a lifetime in seconds."""
    head = bytes([134, 0])
    return lambda one: one[12:14] == b"\x86\xdd" and one[54:56] == head and one[60:62] == lifetime.to_bytes(2, "big")


SMALL = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}}
vpcs:
  shop:
    networks: {web: {subnets: [{cidr: "2001:db8:1::/64"}]}}
    routers: {r1: {networks: [web]}}
    ports: {web1: {network: web, host: hv1, ips: ["2001:db8:1::11"]}}
"""


def test_nobody_has_to_ask_who_is_the_router() -> None:
    """A router that goes is told at once, and so is one that comes, which is told again a few seconds later."""
    model = loaded(SMALL)
    alone = msgspec.structs.replace(model.vpcs["shop"], routers={})
    with temporary_lab(model) as lab, Tap(lab, "shop/web1") as tap:
        Lab.up(msgspec.structs.replace(model, vpcs={"shop": alone}), lab.name)
        gone = tap.heard(advertising(0), 10)
        Lab.up(model, lab.name)
        back = tap.heard(advertising(1800), 10)
        again = tap.heard(advertising(1800), 10)
        assert [len(one) for one in (gone, back, again)] == [1, 1, 1]
    for (frame,), lifetime in ((gone, 0), (back, 1800), (again, 1800)):
        said = Ether(frame)[ICMPv6ND_RA]
        assert (said.routerlifetime, said.M, Ether(frame)[IPv6].hlim) == (lifetime, 1, 255)
        assert Ether(frame)[IPv6].src == "fe80::6f:76ff:fe00:1"
        again_summed = Ether(frame)
        del again_summed[ICMPv6ND_RA].cksum
        assert bytes(again_summed) == frame


BUS = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}}
vpcs:
  shop:
    networks:
      web:
        mtu: 1400
        domain: DOMAIN
        subnets: [{cidr: 192.168.1.0/24, dns: [192.168.1.53], lease: 120}]
    ports:
      web1: {network: web, host: hv1, mac: "02:00:00:00:01:01", ips: [192.168.1.11]}
"""


def test_by_controller_and_bus_ports_are_told_the_same_and_what_changes() -> None:
    def told(lab: Lab) -> dict[str, object]:
        with Tap(lab, "shop/web1") as tap:
            tap.send(asking("discover"))
            replies = tap.heard(is_reply, 10)
        return {one[0]: one[1] for one in Ether(replies[0])[DHCP].options if len(one) == 2} if replies else {}

    with temporary_lab(loaded(BUS.replace("DOMAIN", "one.example")), "nats") as lab:
        expected = {
            "server_id": "169.254.0.1",
            "name_server": "192.168.1.53",
            "interface-mtu": 1400,
            "lease_time": 120,
            "domain": b"one.example",
            "hostname": b"web1",
            "subnet_mask": "255.255.255.0",
        }
        found = told(lab)
        assert {key: found.get(key) for key in expected} == expected
        assert "router" not in found
        Lab.up(loaded(BUS.replace("DOMAIN", "two.example")), lab.name, transport="nats")
        assert told(lab)["domain"] == b"two.example"
