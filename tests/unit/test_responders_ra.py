"""Router advertisements: byte for byte what scapy builds, for sound solicitations only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet6 import (
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6ND_RS,
    ICMPv6NDOptDNSSL,
    ICMPv6NDOptMTU,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptRDNSS,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from ovsnet.responders.ra import Advertisement, Prefix, answer

MAC, ROUTER_MAC = "02:00:00:00:01:01", "02:00:00:00:00:fe"
LINK_LOCAL, ROUTER = "fe80::ff:fe00:101", "fe80::1"
SAID = Advertisement(
    mac=ROUTER_MAC, ip=ROUTER, prefixes=(Prefix("2001:db8:1::/64"), Prefix("2001:db8:2::/64", autonomous=True)),
    managed=True, other=True, dns=("2001:db8:1::53", "2001:db8::54"), search=("shop.example", "example"), mtu=1450,
    lifetime=900, seconds=3600,
)  # fmt: skip
ENVELOPE = Ether(src=ROUTER_MAC, dst=MAC) / IPv6(src=ROUTER, dst=LINK_LOCAL, hlim=255)
TO_ALL = Ether(src=ROUTER_MAC, dst="33:33:00:00:00:01") / IPv6(src=ROUTER, dst="ff02::1", hlim=255)
TIMES = {"validlifetime": 3600, "preferredlifetime": 3600}
MESSAGE = (
    ICMPv6ND_RA(M=1, O=1, chlim=64, routerlifetime=900, prf=0)
    / ICMPv6NDOptSrcLLAddr(lladdr=ROUTER_MAC)
    / ICMPv6NDOptMTU(mtu=1450)
    / ICMPv6NDOptPrefixInfo(prefix="2001:db8:1::", prefixlen=64, L=1, A=0, R=0, **TIMES)
    / ICMPv6NDOptPrefixInfo(prefix="2001:db8:2::", prefixlen=64, L=1, A=1, R=0, **TIMES)
    / ICMPv6NDOptRDNSS(dns=["2001:db8:1::53", "2001:db8::54"], lifetime=900)
    / ICMPv6NDOptDNSSL(searchlist=["shop.example.", "example."], lifetime=900)
)


def solicitation(*, src: str = LINK_LOCAL, known: bool = True, dst: str = "ff02::2", **fields: Any) -> Any:
    asked = ICMPv6ND_RS(**fields)
    ends = Ether(src=MAC, dst="33:33:00:00:00:02") / IPv6(src=src, dst=dst, hlim=255)
    return ends / asked / ICMPv6NDOptSrcLLAddr(lladdr=MAC) if known else ends / asked


@pytest.mark.parametrize("known", [True, False])
def test_who_asks_is_told(known: bool) -> None:
    assert answer(bytes(solicitation(known=known)), SAID) == bytes(ENVELOPE / MESSAGE)


def test_who_has_no_address_yet_is_told_as_all_are() -> None:
    assert answer(bytes(solicitation(src="::", known=False)), SAID) == bytes(TO_ALL / MESSAGE) == SAID.unasked


def test_a_router_may_say_little() -> None:
    bare = Advertisement(mac=ROUTER_MAC, lifetime=0)
    message = ICMPv6ND_RA(chlim=64, routerlifetime=0, prf=0) / ICMPv6NDOptSrcLLAddr(lladdr=ROUTER_MAC)
    to_all = TO_ALL.copy()
    to_all[IPv6].src = "fe80::ff:fe00:fe"
    assert bare.unasked == bytes(to_all / message)


def test_resolvers_outlive_a_router_that_is_no_default() -> None:
    assert Ether(replace(SAID, lifetime=0).unasked)[ICMPv6NDOptRDNSS].lifetime == 1800


def test_flags() -> None:
    read = Ether(Advertisement(mac=ROUTER_MAC, other=True, prefixes=(Prefix("2001:db8::/60", on_link=False),)).unasked)
    assert (read[ICMPv6ND_RA].M, read[ICMPv6ND_RA].O) == (0, 1)
    prefix = read[ICMPv6NDOptPrefixInfo]
    assert (prefix.L, prefix.A, prefix.prefixlen) == (0, 0, 60)


def spoilt(field: str) -> Any:
    frame = solicitation()
    if field == "hlim":
        frame[IPv6].hlim = 254
    else:
        frame[ICMPv6ND_RS].cksum = 0x1234
    return frame


@pytest.mark.parametrize(
    "frame",
    [
        spoilt("hlim"),
        spoilt("cksum"),
        solicitation(code=1),
        solicitation(src="::", known=True),
        solicitation(src="ff02::1"),
        solicitation(known=False) / Raw(b"\1\0" + bytes(6)),
        solicitation(known=False) / Raw(b"\1\2" + bytes(6)),
        solicitation(known=False) / Raw(b"\1"),
        Ether(src="03:00:00:00:00:01") / solicitation()[IPv6],
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255) / ICMPv6ND_NS(tgt=ROUTER),
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255) / ICMPv6ND_RA(),
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255, nh=58) / Raw(b"\x85\0\x7b\xb8"),
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255) / IPv6ExtHdrFragment(m=1) / ICMPv6ND_RS(),
    ],
    ids=lambda frame: frame.summary()[-60:],
)
def test_these_are_not_answered(frame: Any) -> None:
    assert answer(bytes(frame), SAID) is None


def test_extension_headers_are_passed_over() -> None:
    ends = Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::2", hlim=255)
    assert answer(bytes(ends / IPv6ExtHdrHopByHop() / ICMPv6ND_RS()), SAID) is not None


def test_a_solicitation_that_is_cut_is_not_answered() -> None:
    whole = bytes(solicitation())
    assert all(answer(whole[:size], SAID) is None for size in range(len(whole)))


@settings(max_examples=300, deadline=None)
@given(options=st.binary(max_size=40), src=st.sampled_from([LINK_LOCAL, "::"]), reserved=st.integers(0, 2**32 - 1))
def test_whatever_comes_it_is_told_the_same(options: bytes, src: str, reserved: int) -> None:
    frame = solicitation(src=src, known=False, res=reserved) / Raw(options)
    assert answer(bytes(frame), SAID) in (None, bytes(ENVELOPE / MESSAGE) if src == LINK_LOCAL else SAID.unasked)


@settings(max_examples=300, deadline=None)
@given(frame=st.binary(max_size=200))
def test_noise_is_not_answered(frame: bytes) -> None:
    assert answer(frame, SAID) is None
