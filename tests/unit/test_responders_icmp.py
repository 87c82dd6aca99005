"""What a router says about packets and to pings, held to scapy; who is rejected is told by the same functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoReply,
    ICMPv6EchoRequest,
    ICMPv6PacketTooBig,
    ICMPv6TimeExceeded,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from ovsnet.responders.icmp import SNAP, Error, Router, echo, error

A, GATEWAY = "02:00:00:00:00:01", "02:00:00:00:00:fe"
A4, B4, A6, B6 = "192.168.1.11", "10.0.0.12", "2001:db8::11", "2001:db8:5::12"
ROUTER = Router(mac=GATEWAY, ips=("192.168.1.1", "192.168.2.1", "2001:db8::1", "fe80::1"))
ETHER, BACK = Ether(src=A, dst=GATEWAY), Ether(src=GATEWAY, dst=A)
BACK4, BACK6 = (
    IP(src="192.168.1.1", dst=A4, id=0, flags="DF", tos=0xC0, ttl=64),
    IPv6(src="2001:db8::1", dst=A6, hlim=64),
)
V4, V6 = IP(src=A4, dst=B4, flags="DF"), IPv6(src=A6, dst=B6)

SAID = {
    Error.NO_ROUTE: (ICMP(type=3, code=0), ICMPv6DestUnreach(code=0)),
    Error.HOST_UNREACHABLE: (ICMP(type=3, code=1), ICMPv6DestUnreach(code=3)),
    Error.PORT_UNREACHABLE: (ICMP(type=3, code=3), ICMPv6DestUnreach(code=4)),
    Error.PROHIBITED: (ICMP(type=3, code=13), ICMPv6DestUnreach(code=1)),
    Error.TIME_EXCEEDED: (ICMP(type=11, code=0), ICMPv6TimeExceeded(code=0)),
    Error.TOO_BIG: (ICMP(type=3, code=4, nexthopmtu=1400), ICMPv6PacketTooBig(mtu=1400)),
}


@pytest.mark.parametrize("size", [0, 3, 500, 521, 1204, 1400, 9000])
@pytest.mark.parametrize("upper", [UDP(sport=1, dport=2), TCP(flags="S"), ICMP(), ICMPv6EchoRequest()])
@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("why", Error)
def test_an_error_quotes_what_it_may(why: Error, family: int, upper: Any, size: int) -> None:
    sent = bytes((V4 if family == 4 else V6) / upper / Raw((bytes(range(256)) * 40)[:size]))
    quoted = Raw(sent[: 576 - 28] if family == 4 else sent[: 1280 - 48])
    message = SAID[why][family == 6]
    expected = BACK / (BACK4 if family == 4 else BACK6) / message / quoted
    mtu = 1400 if why is Error.TOO_BIG else 0
    assert error(bytes(ETHER)[:12] + ETHERTYPES[family] + sent, why, ROUTER, mtu) == bytes(expected)


ETHERTYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}


def test_so_many_bytes_are_enough() -> None:
    for packet in (V4 / UDP() / Raw(bytes(1400)), V6 / UDP() / Raw(bytes(1400))):
        whole = bytes(ETHER / packet)
        assert error(whole[:SNAP], Error.NO_ROUTE, ROUTER) == error(whole, Error.NO_ROUTE, ROUTER)


def test_only_what_must_not_be_fragmented_is_too_big_in_ipv4() -> None:
    may = ETHER / IP(src=A4, dst=B4) / UDP() / Raw(bytes(1450))
    assert error(bytes(may), Error.TOO_BIG, ROUTER, 1400) is None
    assert error(bytes(may), Error.TIME_EXCEEDED, ROUTER) is not None


def test_a_router_without_an_address_of_the_family_is_silent() -> None:
    four, six = Router(GATEWAY, ("192.168.1.1",)), Router(GATEWAY, ("2001:db8::1",))
    assert error(bytes(ETHER / V4 / UDP()), Error.NO_ROUTE, six) is None
    assert error(bytes(ETHER / V6 / UDP()), Error.NO_ROUTE, four) is None
    assert error(bytes(ETHER / V4 / UDP()), Error.NO_ROUTE, four) is not None


@pytest.mark.parametrize(
    "frame",
    [
        *(ETHER / V4 / ICMP(type=kind) / V4 / UDP() for kind in (3, 4, 5, 11, 12)),
        *(ETHER / V6 / ICMPv6DestUnreach(type=kind) / V6 / UDP() for kind in (1, 2, 3, 4, 127, 137)),
        ETHER / IP(src=A4, dst=B4, frag=5) / UDP(),
        ETHER / V6 / IPv6ExtHdrFragment(offset=3, nh=17) / Raw(bytes(64)),
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / V4 / UDP(),
        Ether(src=A, dst="33:33:00:00:00:01") / V6 / UDP(),
        *(ETHER / IP(src=A4, dst=dst) / UDP() for dst in ("224.0.0.1", "255.255.255.255")),
        *(ETHER / IP(src=src, dst=B4) / UDP() for src in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")),
        ETHER / IPv6(src=A6, dst="ff0e::1") / UDP(),
        *(ETHER / IPv6(src=src, dst=B6) / UDP() for src in ("::", "::1", "ff02::1")),
        ETHER / ARP(),
    ],
    ids=lambda frame: frame.summary()[-70:],
)  # fmt: skip
@pytest.mark.parametrize("why", [Error.TIME_EXCEEDED, Error.TOO_BIG])
def test_about_these_a_router_is_silent(frame: Any, why: Error) -> None:
    assert error(bytes(frame), why, ROUTER, 1400) is None


@pytest.mark.parametrize("frame", [ETHER / V4 / ICMP() / b"data", ETHER / IP(src=A4, dst=B4, flags="MF+DF") / UDP()])
def test_pings_and_first_fragments_are_no_errors(frame: Any) -> None:
    assert error(bytes(frame), Error.TIME_EXCEEDED, ROUTER) is not None


DATA = b"a ping of odd length."


@pytest.mark.parametrize("ip", ["192.168.1.1", "192.168.2.1"])
@pytest.mark.parametrize("options", [[], [IPOption(b"\x94\x04\x00\x00")]])
def test_a_ping_is_answered(ip: str, options: list[Any]) -> None:
    sent = ETHER / IP(src=A4, dst=ip, options=options, ttl=1) / ICMP(id=7, seq=9) / DATA
    expected = BACK / IP(src=ip, dst=A4, id=0, flags="DF", ttl=64) / ICMP(type=0, id=7, seq=9) / DATA
    assert echo(bytes(sent), ROUTER) == bytes(expected)
    assert echo(bytes(sent) + b"padding", ROUTER) == bytes(expected)


@pytest.mark.parametrize("ip", ["2001:db8::1", "fe80::1"])
def test_a_ping_is_answered_in_ipv6(ip: str) -> None:
    for between in (None, IPv6ExtHdrHopByHop(), IPv6ExtHdrFragment(id=5)):
        ends = ETHER / IPv6(src=A6, dst=ip)
        sent = (ends if between is None else ends / between) / ICMPv6EchoRequest(id=7, seq=9, data=DATA)
        expected = BACK / IPv6(src=ip, dst=A6) / ICMPv6EchoReply(id=7, seq=9, data=DATA)
        assert echo(bytes(sent), ROUTER) == bytes(expected)


PING4, PING6 = IP(src=A4, dst="192.168.1.1") / ICMP(id=1), IPv6(src=A6, dst="fe80::1") / ICMPv6EchoRequest(id=1)


def broken(frame: Any) -> bytes:
    """With another last byte than its checksum is for."""
    return bytes(frame)[:-1] + b"\x55"


@pytest.mark.parametrize(
    "frame",
    [
        broken(ETHER / PING4 / DATA),
        broken(ETHER / PING6 / DATA),
        bytes(ETHER / PING4 / DATA)[:-1],
        bytes(ETHER / PING6 / DATA)[:-1],
        ETHER / IP(src=A4, dst=B4) / ICMP(),
        ETHER / IPv6(src=A6, dst=B6) / ICMPv6EchoRequest(),
        *(ETHER / IP(src=A4, dst="192.168.1.1") / ICMP(type=kind) for kind in (0, 3, 13)),
        ETHER / IP(src=A4, dst="192.168.1.1") / ICMP(type=8, code=1),
        ETHER / IP(src=A4, dst="192.168.1.1", flags="MF") / ICMP(),
        ETHER / IP(src=A4, dst="192.168.1.1", frag=1) / ICMP(),
        ETHER / IPv6(src=A6, dst="fe80::1") / IPv6ExtHdrFragment(m=1) / ICMPv6EchoRequest(),
        ETHER / IP(src=A4, dst="192.168.1.1", proto=58) / Raw(bytes(PING6)[40:]),
        ETHER / IP(src="0.0.0.0", dst="192.168.1.1") / ICMP(),
        ETHER / IPv6(src="::", dst="fe80::1") / ICMPv6EchoRequest(),
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / PING4,
        ETHER / IP(src=A4, dst="192.168.1.1", proto=1) / Raw(b"\x08\0\xf7\xff"),
        ETHER / IP(src=A4, dst="192.168.1.1") / UDP(),
    ],
    ids=lambda frame: frame.summary()[-70:] if isinstance(frame, Ether) else "bytes",
)
def test_these_are_no_pings_of_the_router(frame: Any) -> None:
    assert echo(bytes(frame), ROUTER) is None


def test_a_ping_as_long_as_a_packet_can_be() -> None:
    for sent in (PING4 / Raw(bytes(65535 - 28)), PING6 / Raw(bytes(65535 - 8))):
        back = echo(bytes(ETHER / sent), ROUTER)
        assert back is not None
        assert len(back) == 14 + len(sent)


UPPERS = st.one_of(
    st.builds(lambda kind, data: bytes([kind, 0, 0, 0]) + data, st.integers(0, 255), st.binary()),
    st.builds(lambda data: bytes(ICMP() / data), st.binary()),
    st.binary(max_size=100),
)  # fmt: skip
FRAMES = st.builds(
    lambda ends, protocol, upper: bytes(ETHER / ends(protocol) / upper),
    st.sampled_from([lambda p: IP(src=A4, dst="192.168.1.1", proto=p), lambda p: IPv6(src=A6, dst="fe80::1", nh=p)]),
    st.sampled_from([1, 6, 17, 58, 0, 43, 44, 51, 60, 59]),
    UPPERS,
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(frame=st.one_of(FRAMES, st.binary(max_size=200)), why=st.sampled_from(Error), cut=st.integers(0, 30))
def test_nothing_that_a_router_says_makes_another_one_speak(frame: bytes, why: Error, cut: int) -> None:
    said = error(frame[: len(frame) - cut], why, ROUTER, 1400)
    if said is not None:
        assert len(said) <= 14 + (576 if said[12:14] == ETHERTYPES[4] else 1280)
        assert error(said, why, ROUTER, 1400) is None
        assert echo(said, ROUTER) is None
    pong = echo(frame[: len(frame) - cut], ROUTER)
    assert pong is None or echo(pong, ROUTER) is None
