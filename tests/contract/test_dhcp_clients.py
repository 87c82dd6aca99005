"""What real clients make of the answers: dhclient, udhcpc, and the kernel's own address configuration."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from responders_kit import MAC, ME, MTU, ROUTER, ROUTER6, ROUTER_MAC, Wire
from scapy.layers.dhcp import DHCP
from scapy.layers.dhcp6 import DHCP6_InfoRequest, DHCP6_Release, DHCP6_Renew, DHCP6_Reply
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from ovsnet.lab import netns
from ovsnet.responders import dhcp4, dhcp6, ra
from ovsnet.responders.dhcp4 import Lease4, Route
from ovsnet.responders.dhcp6 import Lease6
from ovsnet.responders.ra import Advertisement, Prefix
from tests.agent_kit import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

LEASE = Lease4(
    mac=MAC, ip=ME, prefix=24, server_mac=ROUTER_MAC, server_ip=ROUTER, router=ROUTER, dns=("192.168.1.53", "9.9.9.9"),
    domain="shop.example", search=("shop.example", "example"), hostname="web1", ntp=("192.168.1.2",), mtu=1450,
    routes=(Route("10.50.0.0/16", "192.168.1.250"),),
)  # fmt: skip
OTHER = "192.168.1.99"
ME6, OTHER6 = ("2001:db8:1::11", "2001:db8:3::11"), "2001:db8:1::99"
LEASE6 = Lease6(
    mac=MAC, ips=ME6, prefixes=("2001:db8:1::/64", "2001:db8:3::/64"), server_mac=ROUTER_MAC, server_ip=ROUTER6,
    dns=("2001:db8:1::53",), search=("shop.example", "example"),
)  # fmt: skip
CONFIG = """
option classless-routes code 121 = array of unsigned integer 8;
send dhcp-client-identifier = hardware;
also request classless-routes, interface-mtu, ntp-servers, domain-search, dhcp6.domain-search;
initial-interval 1; initial-delay 0; backoff-cutoff 2; retry 2; timeout 30;
"""
SCRIPT = """#!/bin/sh
# What the client says of its lease: a file for each event, complete once it has its name.
env > event
case $reason$1 in
  BOUND|RENEW|REBOOT|bound|renew) ip addr replace "${new_ip_address:-$ip}/24" dev eth0 ;;
esac
n=0
while [ -e "$n" ]; do n=$((n + 1)); done
mv event "$n"
"""


class Client:
    """A DHCP client on a wire, with files of its own; nothing of the machine's is read or written."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.directory = wire, wire.directory
        self.script = self.directory / "script"
        self.script.write_text(SCRIPT)
        self.script.chmod(0o755)
        (self.directory / "config").write_text(CONFIG)
        (self.directory / "leases").touch()

    def dhclient(self, *arguments: str) -> Any:
        """Start ISC's client; from a path of ours, since AppArmor confines the one in /sbin to the machine's files."""
        program = self.directory / "dhclient"
        if not program.exists():
            shutil.copy("/sbin/dhclient", program)
        files = ("-cf", "config", "-lf", "leases", "-pf", "pid", "-sf", str(self.script))
        return self.wire.run(str(program), "-d", "-v", *arguments, *files, "eth0")

    def udhcpc(self, *arguments: str) -> Any:
        """Start BusyBox's client, in the foreground."""
        asked = [one for name in ("staticroutes", "search", "mtu", "ntpsrv") for one in ("-O", name)]
        return self.wire.run("udhcpc", "-f", "-n", "-T", "1", "-i", "eth0", "-s", str(self.script), *asked, *arguments)

    def events(self) -> list[dict[str, str]]:
        """The environments of the script's runs, in their order."""
        files = sorted((path for path in self.directory.iterdir() if path.name.isdigit()), key=lambda p: int(p.name))
        return [_environment(path) for path in files]

    def wait(self, event: str) -> dict[str, str]:
        """Wait for an event of dhclient; what it said."""
        return self.wait_for(lambda one: one.get("reason") == event)

    def wait_for(self, condition: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """Wait for an event about which something holds; what the last such one said."""
        try:
            until(lambda: any(map(condition, self.events())))
        except AssertionError:
            raise AssertionError(f"{self.events()}\n{self.wire.output()}") from None
        return next(filter(condition, reversed(self.events())))


def _environment(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines() if "=" in line)


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(lambda frame: dhcp4.answer(frame, LEASE)) as made:
        yield made


@pytest.fixture
def wire6() -> Iterator[Wire]:
    with Wire(lambda frame: dhcp6.answer(frame, LEASE6)) as made:
        yield made


def kinds(frames: list[bytes]) -> list[int]:
    """The DHCP messages in frames, by their types."""
    read = [Ether(frame) for frame in frames if frame[12:14] == b"\x08\0"]
    return [dict(o for o in one[DHCP].options if len(o) == 2)["message-type"] for one in read if DHCP in one]


def test_dhclient_is_told_all_that_it_asks(wire: Wire) -> None:
    client = Client(wire)
    client.dhclient("-4", "-1")
    told = client.wait("BOUND")
    expected = {
        "new_ip_address": ME,
        "new_subnet_mask": "255.255.255.0",
        "new_broadcast_address": "192.168.1.255",
        "new_routers": ROUTER,
        "new_domain_name_servers": "192.168.1.53 9.9.9.9",
        "new_domain_name": "shop.example",
        "new_domain_search": "shop.example. example.",
        "new_host_name": "web1",
        "new_ntp_servers": "192.168.1.2",
        "new_interface_mtu": "1450",
        "new_classless_routes": "16 10 50 192 168 1 250 0 192 168 1 1",
        "new_dhcp_lease_time": "86400",
        "new_dhcp_renewal_time": "43200",
        "new_dhcp_rebinding_time": "75600",
        "new_dhcp_server_identifier": ROUTER,
        "new_dhcp_client_identifier": "1:2:0:0:0:1:1",
    }
    assert {key: told.get(key) for key in expected} == expected
    assert kinds(wire.heard) == [1, 3]
    assert kinds(wire.said) == [2, 5]


def test_dhclient_renews_and_releases(wire: Wire) -> None:
    wire.answer = lambda frame: dhcp4.answer(frame, replace(LEASE, seconds=8))
    wire.configure()
    client = Client(wire)
    client.dhclient("-4", "-1")
    client.wait("BOUND")
    renewed = client.wait("RENEW")
    assert (renewed["new_ip_address"], renewed["old_ip_address"]) == (ME, ME)
    renewal = next(Ether(frame) for frame in reversed(wire.heard) if kinds([frame]) == [3])
    assert (renewal[IP].src, renewal[IP].dst, renewal.dst) == (ME, ROUTER, ROUTER_MAC)
    client.dhclient("-4", "-r")
    client.wait("RELEASE")
    until(lambda: 7 in kinds(wire.heard))
    assert set(kinds(wire.said)) == {2, 5}


def test_dhclient_gives_up_what_it_remembers_wrongly(wire: Wire) -> None:
    client = Client(wire)
    (client.directory / "leases").write_text(
        f'lease {{ interface "eth0"; fixed-address {OTHER}; option subnet-mask 255.255.255.0;'
        f" option dhcp-server-identifier {ROUTER};\n"
        " renew never; rebind never; expire never; }\n"
    )
    client.dhclient("-4", "-1")
    assert client.wait("BOUND")["new_ip_address"] == ME
    assert kinds(wire.heard) == [3, 1, 3]
    assert kinds(wire.said) == [6, 2, 5]
    assert Ether(wire.heard[0]).sprintf("%Ether.src%") == MAC


def test_dhclient_comes_back_with_what_it_remembers(wire: Wire) -> None:
    client = Client(wire)
    client.dhclient("-4", "-1")
    client.wait("BOUND")
    wire.heard.clear()
    client.dhclient("-4", "-1")
    assert client.wait("REBOOT")["new_ip_address"] == ME
    assert kinds(wire.heard) == [3]


def test_udhcpc_is_told_all_that_it_asks_and_renews(wire: Wire) -> None:
    wire.configure()
    client = Client(wire)
    started = client.udhcpc("-r", OTHER, "-R")
    told = client.wait_for(lambda one: "lease" in one)
    expected = {
        "ip": ME,
        "subnet": "255.255.255.0",
        "router": ROUTER,
        "dns": "192.168.1.53 9.9.9.9",
        "mtu": "1450",
        "domain": "shop.example",
        "search": "shop.example example",
        "hostname": "web1",
        "lease": "86400",
        "staticroutes": "10.50.0.0/16 192.168.1.250 0.0.0.0/0 192.168.1.1",
        "ntpsrv": "192.168.1.2",
        "serverid": ROUTER,
    }
    assert {key: told.get(key) for key in expected} == expected
    assert kinds(wire.said) == [2, 5]
    started.send_signal(10)  # SIGUSR1: renew
    until(lambda: kinds(wire.said) == [2, 5, 5])
    started.terminate()
    until(lambda: kinds(wire.heard) == [1, 3, 3, 7])


def test_udhcpc_may_ask_for_broadcasts(wire: Wire) -> None:
    client = Client(wire)
    assert client.udhcpc("-q", "-B").wait(60) == 0
    assert {Ether(frame).dst for frame in wire.said} == {"ff:ff:ff:ff:ff:ff"}
    assert any(one.get("ip") == ME for one in client.events())


def has_ip6(ip: str) -> Callable[[dict[str, str]], bool]:
    return lambda event: event.get("new_ip6_address") == ip


def messages(frames: list[bytes]) -> list[type]:
    """The DHCPv6 messages in frames."""
    read = [Ether(frame) for frame in frames]
    return [type(one[UDP].payload) for one in read if UDP in one and one[UDP].dport in (546, 547)]


def test_dhclient_gets_all_ipv6_addresses(wire6: Wire) -> None:
    client = Client(wire6)
    client.dhclient("-6", "-1", "-D", "LL")
    bound = [client.wait_for(has_ip6(ip)) for ip in ME6]
    assert {one["reason"] for one in bound} == {"BOUND6"}
    assert {one["new_dhcp6_name_servers"] for one in bound} == {"2001:db8:1::53"}
    assert {one["new_dhcp6_domain_search"] for one in bound} == {"shop.example. example."}
    assert {(one["new_max_life"], one["new_preferred_life"]) for one in bound} == {("86400", "86400")}


def test_dhclient_renews_and_releases_ipv6(wire6: Wire) -> None:
    short = replace(LEASE6, ips=ME6[:1], seconds=8)
    wire6.answer = lambda frame: dhcp6.answer(frame, short)
    client = Client(wire6)
    client.dhclient("-6", "-1", "-D", "LL")
    client.wait("BOUND6")
    assert client.wait("RENEW6")["new_ip6_address"] == ME6[0]
    assert DHCP6_Renew in messages(wire6.heard)
    client.dhclient("-6", "-r")
    until(lambda: DHCP6_Release in messages(wire6.heard))
    client.wait("RELEASE6")
    until(lambda: messages(wire6.said)[-1] is DHCP6_Reply and messages(wire6.heard)[-1] is DHCP6_Release)


def test_dhclient_takes_another_address_when_its_own_was_changed(wire6: Wire) -> None:
    wire6.answer = lambda frame: dhcp6.answer(frame, replace(LEASE6, ips=(OTHER6,), seconds=8))
    client = Client(wire6)
    client.dhclient("-6", "-1", "-D", "LL")
    client.wait("BOUND6")
    wire6.answer = lambda frame: dhcp6.answer(frame, replace(LEASE6, ips=ME6[:1], seconds=8))
    client.wait_for(has_ip6(ME6[0]))


def test_dhclient_is_told_the_rest_without_an_address(wire6: Wire) -> None:
    client = Client(wire6)
    client.dhclient("-6", "-S", "-1", "-D", "LL")
    told = client.wait_for(lambda one: "new_dhcp6_name_servers" in one)
    assert told["new_dhcp6_domain_search"] == "shop.example. example."
    assert "new_ip6_address" not in told
    assert messages(wire6.heard) == [DHCP6_InfoRequest]


SAID = Advertisement(
    mac=ROUTER_MAC, ip=ROUTER6, mtu=1450, managed=True, dns=("2001:db8:1::53",),
    prefixes=(Prefix("2001:db8:1::/64"), Prefix("2001:db8:2::/64", autonomous=True)),
)  # fmt: skip
OWN = "2001:db8:2::ff:fe00:101"


def addresses(wire: Wire) -> set[str]:
    with wire.netlink() as ip:
        found = {one.get_attr("IFA_ADDRESS") for one in ip.get_addr(family=socket.AF_INET6)}
    return {address for address in found if not address.startswith("fe80") and address != "::1"}


def routes(wire: Wire) -> dict[str, str | None]:
    """The routes that the kernel learned: destination to gateway."""
    with wire.netlink() as ip:
        found = [one for one in ip.get_routes(family=socket.AF_INET6) if one["proto"] in (2, 9)]  # kernel, RA
        learned = [one for one in found if one.get_attr("RTA_EXPIRES") or one.get_attr("RTA_CACHEINFO")]
    return {
        f"{one.get_attr('RTA_DST') or '::'}/{one['dst_len']}": one.get_attr("RTA_GATEWAY")
        for one in learned
        if one["dst_len"] < 128 and not (one.get_attr("RTA_DST") or "").startswith(("fe80", "ff"))
    }


def test_the_kernel_asks_and_takes_what_a_router_says() -> None:
    with Wire(lambda frame: ra.answer(frame, SAID)) as wire:
        conf = "/proc/sys/net/ipv6/conf/eth0"
        netns.link(wire.port, "eth0", up=False)
        netns.sysctl(wire.port, {"ipv6/conf/eth0/accept_ra": "1"})
        netns.link(wire.port, "eth0", up=True)
        until(lambda: addresses(wire) == {OWN})
        assert ra.is_eui64(OWN, "2001:db8:2::/64", MAC)
        until(lambda: set(routes(wire)) >= {"::/0", "2001:db8:1::/64", "2001:db8:2::/64"})
        assert routes(wire)["::/0"] == ROUTER6
        assert routes(wire)["2001:db8:1::/64"] is None
        with netns.inside(wire.port):
            assert Path(conf, "mtu").read_text().strip() == "1450" != str(MTU)
        assert wire.said


def test_the_kernel_hears_what_it_did_not_ask_for() -> None:
    with Wire(lambda frame: None) as wire:
        netns.sysctl(wire.port, {"ipv6/conf/eth0/accept_ra": "1"})
        wire.say(SAID.unasked)
        until(lambda: routes(wire).get("::/0") == ROUTER6 and addresses(wire) == {OWN})
        wire.say(replace(SAID, lifetime=0).unasked)
        until(lambda: "::/0" not in routes(wire))
        assert addresses(wire) == {OWN}
