"""The answers to rejected packets: what scapy reads out of them, when there is none, and that none is ever answered."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP, UDPerror
from scapy.layers.inet6 import (
    ICMPv6DestUnreach,
    ICMPv6EchoRequest,
    ICMPv6ND_Redirect,
    IPerror6,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.sctp import SCTP
from scapy.packet import Raw

from ovsnet.responders.packet import read
from ovsnet.responders.reject import SNAP, answer

A, B = "02:00:00:00:00:01", "02:00:00:00:00:02"
A4, B4, A6, B6 = "192.168.1.11", "192.168.1.12", "2001:db8::11", "2001:db8::12"
ETHER = Ether(src=A, dst=B)
FAMILIES = {4: IP(src=A4, dst=B4), 6: IPv6(src=A6, dst=B6)}


def answered(frame: Any, seen: int = SNAP) -> Any:
    """The answer to a frame of which the agent sees so many bytes, read by scapy; ``None`` for none."""
    packet = read(bytes(frame)[:seen])
    made = None if packet is None else answer(packet)
    return None if made is None else Ether(made)


def assert_sound(frame: Any) -> None:
    """Every checksum and length in a frame is the one that scapy computes."""
    bare = frame.copy()
    for layer, fields in {IP: ("len", "chksum"), IPv6: ("plen",), TCP: ("chksum",), ICMP: ("chksum",)}.items():
        if layer in bare:
            for field in fields:
                delattr(bare[layer], field)
    if ICMPv6DestUnreach in bare:
        del bare[ICMPv6DestUnreach].cksum
    assert bytes(bare) == bytes(frame)


def assert_returns(frame: Any, family: int) -> None:
    """It goes back, from the one that was sent to."""
    assert (frame.src, frame.dst) == (B, A)
    ip = frame[IP if family == 4 else IPv6]
    assert (ip.src, ip.dst) == ((B4, A4) if family == 4 else (B6, A6))
    assert (ip.ttl if family == 4 else ip.hlim) == 64


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    ("flags", "data", "seq", "ack", "back"),
    [
        ("S", 0, 0, 1001, "RA"),
        ("S", 5, 0, 1006, "RA"),
        ("F", 0, 0, 1001, "RA"),
        ("SF", 7, 0, 1009, "RA"),
        ("", 3, 0, 1003, "RA"),
        ("A", 0, 77, 0, "R"),
        ("PA", 900, 77, 0, "R"),
        ("SA", 0, 77, 0, "R"),
        ("FA", 0, 77, 0, "R"),
    ],
)
def test_tcp_is_reset(family: int, flags: str, data: int, seq: int, ack: int, back: str) -> None:
    segment = TCP(sport=4000, dport=80, seq=1000, ack=77, flags=flags, options=[("MSS", 1460)])
    reset = answered(ETHER / FAMILIES[family] / segment / (b"x" * data))
    assert_sound(reset)
    assert_returns(reset, family)
    tcp = reset[TCP]
    assert (tcp.sport, tcp.dport, tcp.seq, tcp.ack, tcp.flags) == (80, 4000, seq, ack, back)
    assert tcp.window == 0
    assert not tcp.options
    assert not bytes(tcp.payload)


def test_sequence_numbers_wrap() -> None:
    assert answered(ETHER / FAMILIES[4] / TCP(seq=0xFFFFFFFF, flags="S"))[TCP].ack == 0


def test_a_segments_length_is_the_packets_not_what_was_seen() -> None:
    frame = ETHER / FAMILIES[4] / TCP(seq=1, flags="") / (b"x" * 5000)
    assert answered(frame, seen=60)[TCP].ack == 5001


def test_padding_is_no_data() -> None:
    frame = bytes(ETHER / FAMILIES[4] / TCP(seq=9, flags="S"))
    assert answered(frame.ljust(60, b"\0"))[TCP].ack == 10


@pytest.mark.parametrize("size", [0, 8, 100, 519, 520, 521, 1400, 9000])
@pytest.mark.parametrize("family", [4, 6])
def test_udp_gets_an_icmp_error_with_the_packet_in_it(family: int, size: int) -> None:
    sent = FAMILIES[family] / UDP(sport=4000, dport=53) / bytes(range(256)).ljust(size, b"y")[:size]
    error = answered(ETHER / sent)
    assert_returns(error, family)
    if family == 4:
        assert (error[ICMP].type, error[ICMP].code) == (3, 13)
        room, quoted = 576 - 28, bytes(error[ICMP])[8:]
        assert error[UDPerror].dport == 53
        assert error[IP].tos == 0xC0
    else:
        assert (error[ICMPv6DestUnreach].type, error[ICMPv6DestUnreach].code) == (1, 1)
        room, quoted = 1280 - 48, bytes(error[ICMPv6DestUnreach])[8:]
        assert IPerror6 in error
    assert quoted == bytes(sent)[:room]
    assert len(error) <= 14 + (576 if family == 4 else 1280)
    assert_error_checksum(error, family)


def assert_error_checksum(error: Any, family: int) -> None:
    """Computed from the bytes, since scapy would rewrite the quoted packet."""
    layer, kind = (IP, ICMP) if family == 4 else (IPv6, ICMPv6DestUnreach)
    quoted = bytes(error[kind])[8:]
    ip = error[layer].copy()
    ip.remove_payload()
    made = ICMP(type=3, code=13) if family == 4 else ICMPv6DestUnreach(code=1)
    for field in ("len", "chksum", "plen"):
        if field in ip.fields:
            delattr(ip, field)
    rebuilt = bytes(ip / made / Raw(quoted))
    assert rebuilt == bytes(error)[14:]


@pytest.mark.parametrize(
    "sent",
    [
        FAMILIES[4] / ICMP(type=8),
        FAMILIES[4] / ICMP(type=0),
        FAMILIES[6] / ICMPv6EchoRequest(),
        FAMILIES[4] / SCTP(sport=1, dport=2),
        FAMILIES[6] / SCTP(sport=1, dport=2),
        IP(src=A4, dst=B4, proto=47) / b"gre",
        IP(src=A4, dst=B4, proto=47),
        IP(src=A4, dst=B4, flags="MF") / UDP() / b"a first fragment",
        IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(m=1, id=7) / UDP() / b"a first fragment",
        IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP(),
    ],
    ids=lambda sent: sent.summary(),
)
def test_everything_else_gets_an_icmp_error(sent: Any) -> None:
    error = answered(ETHER / sent)
    family = 4 if IP in error else 6
    assert_returns(error, family)
    assert_error_checksum(error, family)


def test_tcp_behind_extension_headers_is_reset() -> None:
    sent = IPv6(src=A6, dst=B6) / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(m=0) / TCP(seq=4, flags="S") / b"xy"
    reset = answered(ETHER / sent)
    assert_sound(reset)
    assert reset[TCP].ack == 7


ERROR4, ERROR6 = IP(src=A4, dst=B4) / UDP(), IPv6(src=A6, dst=B6) / UDP()


@pytest.mark.parametrize(
    "frame",
    [
        ETHER / FAMILIES[4] / TCP(flags="R"),
        ETHER / FAMILIES[6] / TCP(flags="RA"),
        ETHER / FAMILIES[4] / TCP(flags="SR"),
        *(ETHER / FAMILIES[4] / ICMP(type=kind) / ERROR4 for kind in (3, 4, 5, 11, 12)),
        *(ETHER / FAMILIES[6] / ICMPv6DestUnreach(type=kind) / ERROR6 for kind in (1, 2, 3, 4, 100, 127)),
        ETHER / FAMILIES[6] / ICMPv6ND_Redirect(),
        ETHER / IPv6(src=A6, dst=B6) / IPv6ExtHdrHopByHop() / ICMPv6DestUnreach() / ERROR6,
        Ether(src=A, dst="ff:ff:ff:ff:ff:ff") / FAMILIES[4] / UDP(),
        Ether(src=A, dst="01:00:5e:00:00:01") / FAMILIES[4] / TCP(flags="S"),
        Ether(src=A, dst="33:33:00:00:00:01") / FAMILIES[6] / UDP(),
        Ether(src="03:00:00:00:00:01", dst=B) / FAMILIES[4] / UDP(),
        *(ETHER / IP(src=A4, dst=dst) / UDP() for dst in ("224.0.0.1", "239.1.2.3", "240.0.0.1", "255.255.255.255")),
        *(ETHER / IP(src=src, dst=B4) / TCP() for src in ("0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255")),
        ETHER / IPv6(src=A6, dst="ff02::1") / UDP(),
        *(ETHER / IPv6(src=src, dst=B6) / UDP() for src in ("::", "::1", "ff02::1")),
        ETHER / IP(src=A4, dst=B4, frag=5) / UDP(),
        ETHER / IP(src=A4, dst=B4, frag=1, flags="MF", proto=6) / bytes(64),
        ETHER / IPv6(src=A6, dst=B6) / IPv6ExtHdrFragment(offset=3, nh=17) / bytes(64),
        ETHER / ARP(),
        ETHER / Dot1Q(vlan=5) / FAMILIES[4] / UDP(),
    ],
    ids=lambda frame: frame.summary(),
)  # fmt: skip
def test_these_are_not_answered(frame: Any) -> None:
    assert answered(frame) is None


@pytest.mark.parametrize("frame", [ETHER / FAMILIES[f] / upper for f in FAMILIES for upper in (TCP(flags="S"), UDP())])
def test_a_frame_that_is_cut_short_is_no_error_of_ours(frame: Any) -> None:
    whole = bytes(frame)
    assert answered(whole) is not None
    for size in range(len(whole)):
        answered(whole[:size])
    headers = len(whole) - len(frame[TCP if TCP in frame else UDP])
    assert all(answered(whole[:size]) is None for size in range(headers))


def test_ports_are_read() -> None:
    def ports(sent: Any) -> Any:
        packet = read(bytes(ETHER / sent))
        assert packet is not None
        return packet.protocol, packet.ports

    assert ports(FAMILIES[4] / UDP(sport=5, dport=6)) == (17, (5, 6))
    assert ports(FAMILIES[6] / IPv6ExtHdrDestOpt() / TCP(sport=7, dport=8)) == (6, (7, 8))
    assert ports(FAMILIES[4] / SCTP(sport=9, dport=10)) == (132, (9, 10))
    assert ports(FAMILIES[4] / ICMP(type=3, code=4)) == (1, (3, 4))
    assert ports(FAMILIES[6] / ICMPv6EchoRequest()) == (58, (128, 0))
    assert ports(IP(src=A4, dst=B4, proto=58) / b"\x80\0") == (58, None)
    assert ports(IP(src=A4, dst=B4, frag=9, proto=17) / b"12345678") == (17, None)


_UPPERS = st.one_of(
    st.builds(
        lambda flags, seq, ack, data: TCP(flags=flags, seq=seq, ack=ack) / data,
        st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.binary(max_size=40),
    ),
    st.builds(lambda data: UDP() / data, st.binary(max_size=1500)),
    st.builds(lambda kind, code, data: ICMP(type=kind, code=code) / data, st.integers(0, 255), st.integers(0, 255),
              st.binary(max_size=60)),
    st.builds(lambda kind, data: Raw(bytes([kind]) + data), st.integers(0, 255), st.binary(max_size=60)),
)  # fmt: skip
_FRAMES = st.builds(
    lambda family, protocol, upper: bytes(
        ETHER
        / (IP(src=A4, dst=B4, proto=protocol) if family == 4 else IPv6(src=A6, dst=B6, nh=protocol))
        / bytes(upper)
    ),
    st.sampled_from([4, 6]),
    st.sampled_from([1, 6, 17, 58, 132, 0, 43, 44, 51, 60, 59]),
    _UPPERS,
)


@settings(max_examples=300, deadline=None)
@given(frame=st.one_of(_FRAMES, st.binary(max_size=200)))
def test_no_answer_is_ever_answered(frame: bytes) -> None:
    """So two ends that reject each other's packets fall silent after one answer."""
    packet = read(frame)
    made = None if packet is None else answer(packet)
    if made is not None:
        back = read(made)
        assert back is not None
        assert answer(back) is None
        assert not back.later
        assert len(made) <= 14 + {4: 576, 6: 1280}[back.family]
