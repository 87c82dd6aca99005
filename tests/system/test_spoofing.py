"""What a workload must not send is dropped where it is sent, and counted against its port; its honest twin arrives.

Every frame is written to the workload's eth0 as it is, once, and counted at every workload and on the underlay.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_Redirect,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from ovsnet.lab import frames
from ovsnet.lab.lab import Lab
from ovsnet.lab.sockets import Sockets
from tests.agent_kit import until
from tests.system.conftest import loaded, temporary_lab

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

MODEL = """
version: 1
hosts: {hv1: {vtep: 10.0.0.11}, hv2: {vtep: 10.0.0.12}}
x-subnets: &subnets [{cidr: 10.0.0.0/16}, {cidr: "2001:db8::/64"}]
vpcs:
  shop:
    networks: {web: {vni: 5001, subnets: *subnets}}
    security_groups: {default: {rules: [{direction: ingress}]}}  # so that nothing but port security refuses
    ports:
      me: {network: web, host: hv1, mac: "02:00:00:00:00:01", ips: [10.0.0.1, "2001:db8::1"]}
      near: {network: web, host: hv1, mac: "02:00:00:00:00:02", ips: [10.0.0.2, "2001:db8::2"]}
      far: {network: web, host: hv2, mac: "02:00:00:00:00:03", ips: [10.0.0.3, "2001:db8::3"]}
      more:
        network: web
        host: hv1
        mac: "02:00:00:00:00:04"
        ips: [10.0.0.4, "2001:db8::4"]
        allowed_addresses:
          - {ip: 10.50.0.0/16}
          - {ip: "2001:db8:50::/48"}
          - {ip: 10.0.0.100, mac: "00:00:5e:00:01:05"}
      open: {network: web, host: hv1, mac: "02:00:00:00:00:05", ips: [10.0.0.5, "2001:db8::5"], port_security: false}
  other:
    networks: {web: {vni: 5002, subnets: *subnets}}
    ports:
      near: {network: web, host: hv1, mac: "02:00:00:00:00:02", ips: [10.0.0.2, "2001:db8::2"]}
      far: {network: web, host: hv2, mac: "02:00:00:00:00:03", ips: [10.0.0.3, "2001:db8::3"]}
"""
ME, NEAR, FAR, MORE, OPEN = (f"02:00:00:00:00:0{n}" for n in range(1, 6))
NOBODY, VRRP = "02:de:ad:00:00:01", "00:00:5e:00:01:05"
IP_OF = {ME: "10.0.0.1", NEAR: "10.0.0.2", FAR: "10.0.0.3", MORE: "10.0.0.4", OPEN: "10.0.0.5"}
IP6_OF = {mac: f"2001:db8::{mac[-1]}" for mac in IP_OF}
LINK_LOCAL = {mac: f"fe80::ff:fe00:{mac[-1]}" for mac in IP_OF}
RECEIVERS = {"shop/near": NEAR, "shop/far": FAR}
PATIENCE, SETTLE = 5.0, 0.15
"""Seconds until what must come counts as lost, and those that what must not come has after all else has arrived."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with temporary_lab(loaded(MODEL)) as made:
        yield made


class Wire:
    """Sends frames from workloads and counts them wherever they turn up, by the token that ends each."""

    def __init__(self, lab: Lab, sockets: Sockets) -> None:
        self.lab, self._sockets = lab, sockets
        self._tokens = frames.Tokens(b"spoofing")
        self._number = 0

    def send(self, sender: str, *sent: Packet, copies: int = 0) -> list[Counter[str]]:
        """Send each frame once; for each, where its copies were seen (``""``: the underlay), apart from the sender.

        ``copies`` (answers are such as well) are waited for first, then whatever must not come has its time.
        """
        first = self._number
        for frame in sent:
            self._sockets.send(sender, bytes(frame) + self._tokens.make(self._number))
            self._number += 1
            time.sleep(0.002)
        seen: list[Counter[str]] = [Counter() for _ in sent]
        self.answers: list[bytes] = []
        patience = time.monotonic() + PATIENCE
        while len(self.answers) + sum(map(Counter.total, seen)) < copies and time.monotonic() < patience:
            self._hear(sender, first, seen, SETTLE)
        deadline = time.monotonic() + SETTLE
        while (left := deadline - time.monotonic()) > 0:
            self._hear(sender, first, seen, left)
        return seen

    def _hear(self, sender: str, first: int, seen: list[Counter[str]], seconds: float) -> None:
        """Note what has arrived, or else what arrives next."""
        for place, frame in self._sockets.arrivals(seconds):
            number = self._tokens.find(frame)
            if number is not None and number >= first and place != sender:
                seen[number - first][place] += 1
            elif place == sender and frames.resolved(frame) is not None:
                self.answers.append(frame)

    def dropped(self, port: str) -> int:
        """What the host's agent says of the frames refused from a port, all statistics pushed up."""
        host = self.lab.port(port).host
        self.lab.ovs(host).appctl("revalidator/purge")
        return self.told(port)

    def told(self, port: str) -> int:
        """What the host's agent says of the frames refused from a port."""
        with self.lab.agent(self.lab.port(port).host) as client:
            return int(client.port(*port.split("/"))["dropped"])


@pytest.fixture
def wire(lab: Lab) -> Iterator[Wire]:
    with Sockets(lab.topology) as sockets:
        yield Wire(lab, sockets)


def once(receiver: str) -> Counter[str]:
    """One copy at the receiver; on another host, one on the underlay too."""
    return Counter([receiver] + ([""] if receiver == "shop/far" else []))


def copies_of(wanted: list[Counter[str]]) -> int:
    return sum(map(Counter.total, wanted))


def udp(src_mac: str, dst_mac: str, src: str = "", dst: str = "") -> Packet:
    src = src or IP_OF[src_mac]
    if ":" in src:
        return Ether(src=src_mac, dst=dst_mac) / IPv6(src=src, dst=dst or IP6_OF[dst_mac]) / UDP(sport=9, dport=9)
    return Ether(src=src_mac, dst=dst_mac) / IP(src=src, dst=dst or IP_OF[dst_mac]) / UDP(sport=9, dport=9)


def nd(message: Packet, dst_mac: str, *, src_mac: str = ME, src: str = "", dst: str = "") -> Packet:
    """A neighbour discovery message of the port ``me`` towards a port."""
    head = IPv6(src=src or IP6_OF[src_mac], dst=dst or IP6_OF[dst_mac], hlim=255)
    return Ether(src=src_mac, dst=dst_mac) / head / message


def na(target: str, link: str | None) -> Packet:
    option = ICMPv6NDOptDstLLAddr(lladdr=link) if link else Raw()
    return ICMPv6ND_NA(R=0, S=0, O=1, tgt=target) / option


def ns(target: str, link: str | None) -> Packet:
    option = ICMPv6NDOptSrcLLAddr(lladdr=link) if link else Raw()
    return ICMPv6ND_NS(tgt=target) / option


def arp(op: int, sha: str, spa: str, dst: str, *, src: str = ME) -> Packet:
    return Ether(src=src, dst=dst) / ARP(op=op, hwsrc=sha, psrc=spa, hwdst=dst, pdst=IP_OF[dst])


def tagged(frame: Packet, vid: int) -> Packet:
    return Ether(src=frame.src, dst=frame.dst) / Dot1Q(vlan=vid, type=frame.type) / frame.payload


Make = Callable[[str], Packet]


@dataclass(frozen=True)
class Spoof:
    """A dishonest frame towards a MAC and its honest twin, which arrives."""

    name: str
    bad: Make
    good: Make


def _udp6(dst: str) -> Packet:
    return udp(ME, dst, IP6_OF[ME])


def _own_na(dst: str) -> Packet:
    return nd(na(IP6_OF[ME], ME), dst)


def _echo(dst: str) -> Packet:
    return nd(ICMPv6EchoRequest(), dst)


def _ra(src: str) -> Make:
    return lambda dst: nd(ICMPv6ND_RA() / ICMPv6NDOptSrcLLAddr(lladdr=ME), dst, src=src)


SPOOFS = [
    Spoof("MAC of a neighbour", lambda d: udp(MORE, d, IP_OF[ME]), lambda d: udp(ME, d)),
    Spoof("MAC of nobody", lambda d: udp(NOBODY, d, IP_OF[ME]), lambda d: udp(ME, d)),
    Spoof("multicast source", lambda d: udp("01:00:5e:00:00:01", d, IP_OF[ME]), lambda d: udp(ME, d)),
    Spoof("broadcast source", lambda d: udp("ff:ff:ff:ff:ff:ff", d, IP_OF[ME]), lambda d: udp(ME, d)),
    Spoof("IPv4 of a neighbour", lambda d: udp(ME, d, IP_OF[MORE]), lambda d: udp(ME, d)),
    Spoof("IPv4 of nobody", lambda d: udp(ME, d, "10.0.0.77"), lambda d: udp(ME, d)),
    Spoof("IPv4 of the receiver", lambda d: udp(ME, d, IP_OF[d]), lambda d: udp(ME, d)),
    Spoof("IPv4 127.0.0.1", lambda d: udp(ME, d, "127.0.0.1"), lambda d: udp(ME, d)),
    Spoof("IPv4 0.0.0.0", lambda d: udp(ME, d, "0.0.0.0"), lambda d: udp(ME, d)),
    Spoof("IPv6 of a neighbour", lambda d: udp(ME, d, IP6_OF[MORE]), _udp6),
    Spoof("IPv6 of nobody", lambda d: udp(ME, d, "2001:db8::77"), _udp6),
    Spoof("link-local of a neighbour", lambda d: udp(ME, d, LINK_LOCAL[MORE]), lambda d: udp(ME, d, LINK_LOCAL[ME])),
    Spoof("IPv6 ::1", lambda d: udp(ME, d, "::1"), _udp6),
    Spoof("IPv6 :: without DAD", lambda d: udp(ME, d, "::"), _udp6),
    Spoof("IPv4 with a VLAN tag", lambda d: tagged(udp(ME, d), 7), lambda d: udp(ME, d)),
    Spoof("IPv4 with a priority tag", lambda d: tagged(udp(ME, d), 0), lambda d: udp(ME, d)),
    Spoof("IPv6 with a VLAN tag", lambda d: tagged(_udp6(d), 7), _udp6),
    Spoof("NA with a neighbour's target", lambda d: nd(na(IP6_OF[MORE], ME), d), _own_na),
    Spoof("NA with a neighbour's link address", lambda d: nd(na(IP6_OF[ME], MORE), d), _own_na),
    Spoof("NA with a neighbour's target, no link address", lambda d: nd(na(IP6_OF[MORE], None), d),
          lambda d: nd(na(IP6_OF[ME], None), d)),
    Spoof("NA from a neighbour's IPv6", lambda d: nd(na(IP6_OF[ME], ME), d, src=IP6_OF[MORE]), _own_na),
    Spoof("router advertisement", _ra(LINK_LOCAL[ME]), _echo),
    Spoof("router advertisement from its global address", _ra(IP6_OF[ME]), _echo),
    Spoof("redirect", lambda d: nd(ICMPv6ND_Redirect(tgt=IP6_OF[ME], dst=IP6_OF[MORE]), d), _echo),
]  # fmt: skip


@pytest.mark.parametrize("spoof", SPOOFS, ids=lambda one: one.name)
def test_spoofed_frames_are_dropped_and_counted(wire: Wire, spoof: Spoof) -> None:
    before = wire.dropped("shop/me")
    twins = [(name, spoof.bad(mac), spoof.good(mac)) for name, mac in RECEIVERS.items()]
    wanted = [once(name) for name, _, _ in twins]
    pairs = (frame for _, bad, good in twins for frame in (bad, good))
    seen = wire.send("shop/me", *pairs, copies=copies_of(wanted))
    assert seen[1::2] == wanted, "the honest twins arrive exactly once"
    assert seen[0::2] == [Counter() for _ in twins], "the spoofed ones arrive nowhere"
    until(lambda: wire.told("shop/me") >= before + 2, timeout=5.0)
    assert wire.dropped("shop/me") == before + 2


ARP_SPOOFS = [
    ("reply with a neighbour's SPA", lambda d: arp(2, ME, IP_OF[MORE], d)),
    ("reply with a neighbour's SHA", lambda d: arp(2, MORE, IP_OF[ME], d)),
    ("request with a neighbour's SPA", lambda d: arp(1, ME, IP_OF[MORE], d)),
    ("request with a neighbour's SHA", lambda d: arp(1, MORE, IP_OF[ME], d)),
    ("request from a neighbour's MAC", lambda d: arp(1, ME, IP_OF[ME], d, src=MORE)),
    ("probe with a neighbour's SHA", lambda d: arp(1, MORE, "0.0.0.0", d)),
    ("request with a VLAN tag", lambda d: tagged(arp(1, ME, IP_OF[ME], d), 7)),
    ("solicitation with a neighbour's link address", lambda d: nd(ns(IP6_OF[d], MORE), d)),
    ("solicitation from a neighbour's IPv6", lambda d: nd(ns(IP6_OF[d], ME), d, src=IP6_OF[MORE])),
    ("solicitation from :: for the receiver's address (DAD)", lambda d: nd(ns(IP6_OF[d], None), d, src="::")),
    ("solicitation with a VLAN tag", lambda d: tagged(nd(ns(IP6_OF[d], ME), d), 7)),
]  # fmt: skip


@pytest.mark.parametrize("bad", [make for _, make in ARP_SPOOFS], ids=[name for name, _ in ARP_SPOOFS])
def test_spoofed_questions_are_not_answered_and_counted(wire: Wire, bad: Make) -> None:
    """The honest twin of a question is answered by its own host; neither reaches anybody."""
    before = wire.dropped("shop/me")
    assert wire.send("shop/me", *map(bad, RECEIVERS.values())) == [Counter(), Counter()]
    assert wire.answers == []
    until(lambda: wire.told("shop/me") >= before + 2, timeout=5.0)
    for honest in (lambda d: arp(1, ME, IP_OF[ME], d), lambda d: nd(ns(IP6_OF[d], ME), d)):
        assert wire.send("shop/me", *map(honest, RECEIVERS.values()), copies=2) == [Counter(), Counter()]
        assert [answer[6:12].hex(":") for answer in wire.answers] == list(RECEIVERS.values())
    assert wire.dropped("shop/me") == before + 2


def test_what_is_proper_and_goes_nowhere_is_not_counted(wire: Wire) -> None:
    before = wire.dropped("shop/me")
    everybody = "33:33:ff:00:00:01"
    own = nd(ns(IP6_OF[ME], None), everybody, src="::", dst="ff02::1:ff00:1")
    seen = wire.send(
        "shop/me",
        own,
        arp(1, ME, "0.0.0.0", NEAR),
        Ether(src=ME, dst="ff:ff:ff:ff:ff:ff") / ARP(op=1, hwsrc=ME, psrc=IP_OF[ME], pdst=IP_OF[ME]),
        udp(ME, NOBODY, IP_OF[ME], "10.0.0.77"),
    )
    assert seen == [Counter()] * 4
    time.sleep(0.6)
    assert wire.dropped("shop/me") == before


@pytest.mark.parametrize(
    ("mac", "ip", "allowed"),
    [
        (MORE, "10.50.3.4", True),
        (MORE, "2001:db8:50:9::1", True),
        (VRRP, "10.0.0.100", True),
        (MORE, "10.51.0.1", False),
        (MORE, "2001:db8:51::1", False),
        (MORE, "10.0.0.100", False),
        (VRRP, "10.50.3.4", False),
        (VRRP, "10.0.0.4", False),
    ],
)
def test_allowed_addresses(wire: Wire, mac: str, ip: str, allowed: bool) -> None:
    before = wire.dropped("shop/more")
    wanted = [once("shop/near"), once("shop/far")] if allowed else [Counter(), Counter()]
    assert wire.send("shop/more", udp(mac, NEAR, ip), udp(mac, FAR, ip), copies=copies_of(wanted)) == wanted
    refused = 0 if allowed else 2
    until(lambda: wire.told("shop/more") >= before + refused, timeout=5.0)
    assert wire.dropped("shop/more") == before + refused
    # They permit sending only: nobody can send to them.
    if allowed:
        assert wire.send("shop/me", udp(ME, MORE, IP_OF[ME] if ":" not in ip else IP6_OF[ME], ip)) == [Counter()]


def test_port_without_security_sends_what_it_likes_but_tags_and_group_sources(wire: Wire) -> None:
    before = wire.dropped("shop/open")
    lawless = [udp(OPEN, NEAR, "10.99.0.1"), udp(NOBODY, NEAR, "10.0.0.3"), udp(OPEN, FAR, "2001:db8:99::1")]
    wanted = [once("shop/near"), once("shop/near"), once("shop/far")]
    assert wire.send("shop/open", *lawless, copies=copies_of(wanted)) == wanted
    assert wire.dropped("shop/open") == before
    refused = [tagged(udp(OPEN, NEAR), 7), udp("01:00:5e:00:00:01", FAR, IP_OF[OPEN])]
    assert wire.send("shop/open", *refused) == [Counter(), Counter()]
    until(lambda: wire.told("shop/open") >= before + 2, timeout=5.0)
    assert wire.dropped("shop/open") == before + 2
    # Whatever is sent to its MAC is delivered, also to an address that it does not have.
    assert wire.send("shop/me", udp(ME, OPEN, IP_OF[ME], "10.0.0.55"), copies=1) == [once("shop/open")]


def test_counted_against_the_sender_alone(wire: Wire) -> None:
    others = ["shop/near", "shop/more", "shop/open", "shop/far", "other/near"]
    before = {name: wire.dropped(name) for name in others}
    wire.send("shop/me", udp(MORE, NEAR, IP_OF[MORE]), udp(NEAR, FAR, IP_OF[NEAR]))
    time.sleep(0.6)
    assert {name: wire.dropped(name) for name in others} == before
