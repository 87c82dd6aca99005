"""Answers to DHCPv6 messages, built and read by scapy, and silence where none is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp6 import (
    DUID_LL,
    DUID_LLT,
    DHCP6_Advertise,
    DHCP6_Confirm,
    DHCP6_Decline,
    DHCP6_InfoRequest,
    DHCP6_Rebind,
    DHCP6_RelayForward,
    DHCP6_Release,
    DHCP6_Renew,
    DHCP6_Reply,
    DHCP6_Request,
    DHCP6_Solicit,
    DHCP6NTPSubOptSrvAddr,
    DHCP6OptClientId,
    DHCP6OptDNSDomains,
    DHCP6OptDNSServers,
    DHCP6OptElapsedTime,
    DHCP6OptIA_NA,
    DHCP6OptIA_PD,
    DHCP6OptIA_TA,
    DHCP6OptIAAddress,
    DHCP6OptInfoRefreshTime,
    DHCP6OptNTPServer,
    DHCP6OptOptReq,
    DHCP6OptPref,
    DHCP6OptRapidCommit,
    DHCP6OptServerId,
    DHCP6OptSNTPServers,
    DHCP6OptStatusCode,
)
from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment
from scapy.layers.l2 import Ether
from scapy.packet import Raw

from ovsnet.responders.dhcp6 import Lease6, answer

MAC, SERVER_MAC = "02:00:00:00:01:01", "02:00:00:00:00:fe"
LINK_LOCAL, SERVER, ME, OTHER, STRANGER = (
    "fe80::ff:fe00:101",
    "fe80::1",
    "2001:db8:1::11",
    "2001:db8:1::99",
    "2001:db8:2::9",
)
LEASE = Lease6(
    mac=MAC, ips=(ME,), prefixes=("2001:db8:1::/64", "2001:db8:3::/64"), server_mac=SERVER_MAC, server_ip=SERVER,
    dns=("2001:db8:1::53", "2001:db8::54"), search=("shop.example", "example"), ntp=("2001:db8::123",), seconds=3600,
)  # fmt: skip
TWO = replace(LEASE, ips=(ME, "2001:db8:3::11"))
CLIENT = DHCP6OptClientId(duid=DUID_LLT(timeval=5, lladdr=MAC))
OURS, THEIRS = (DHCP6OptServerId(duid=DUID_LL(lladdr=mac)) for mac in (SERVER_MAC, MAC))
OTHERS = DHCP6OptElapsedTime() / DHCP6OptOptReq(reqopts=[24, 23, 31, 56, 82, 32, 23])
RAPID = DHCP6OptRapidCommit()
SUCCESS, NO_ADDRESSES, NO_BINDING, NOT_ON_LINK, USE_MULTICAST, NO_PREFIX = 0, 2, 3, 4, 5, 6


def na(*ips: str, iaid: int = 7) -> Any:
    return DHCP6OptIA_NA(iaid=iaid, T1=1, T2=2, ianaopts=[DHCP6OptIAAddress(addr=ip) for ip in ips])


def frame(message: Any, dst: str = "ff02::1:2", src: str = LINK_LOCAL, mac: str = MAC) -> Any:
    """What a client sends."""
    message.trid = 0xABCDEF
    return Ether(src=mac, dst="33:33:00:01:00:02") / IPv6(src=src, dst=dst) / UDP(sport=546, dport=547) / message


def answered(sent: Any, lease: Lease6 = LEASE) -> Any:
    """The answer to a message, read by scapy, its envelope and who speaks in it checked; ``None`` for none."""
    made = answer(bytes(sent if Ether in sent else frame(sent)), lease)
    if made is None:
        return None
    back = Ether(made)
    assert (back.src, back.dst, back[IPv6].src, back[IPv6].dst) == (SERVER_MAC, MAC, SERVER, LINK_LOCAL)
    assert (back[UDP].sport, back[UDP].dport) == (547, 546)
    bare = back.copy()
    del bare[IPv6].plen, bare[UDP].len, bare[UDP].chksum
    assert bytes(bare) == made
    message = back[UDP].payload
    assert message.trid == 0xABCDEF
    assert bytes(message[DHCP6OptServerId].duid) == bytes(DUID_LL(lladdr=SERVER_MAC))
    return message


def layers(message: Any, *kinds: Any) -> list[Any]:
    """All options of some kinds, in their order; for scapy a server's identifier is also a client's."""
    found, layer = [], message
    while layer:
        if type(layer) in kinds:
            found.append(layer)
        layer = layer.payload
    return found


def content(ia: Any) -> list[tuple[Any, ...]]:
    """What is in an identity association: addresses with both lifetimes, or a status."""
    inner = (
        ia.iataopts if isinstance(ia, DHCP6OptIA_TA) else ia.iapdopt if isinstance(ia, DHCP6OptIA_PD) else ia.ianaopts
    )
    return [(o.addr, o.preflft, o.validlft) if isinstance(o, DHCP6OptIAAddress) else (o.statuscode,) for o in inner]


def held(message: Any) -> list[list[tuple[Any, ...]]]:
    """What is in each association of an answer, in their order."""
    return [content(ia) for ia in layers(message, DHCP6OptIA_NA, DHCP6OptIA_TA, DHCP6OptIA_PD)]


MINE = (ME, 3600, 3600)


def test_solicit_is_answered_at_once() -> None:
    said = answered(DHCP6_Solicit() / CLIENT / na() / OTHERS)
    assert isinstance(said, DHCP6_Advertise)
    assert held(said) == [[MINE]]
    ia = said[DHCP6OptIA_NA]
    assert (ia.iaid, ia.T1, ia.T2) == (7, 1800, 2880)
    assert said[DHCP6OptPref].prefval == 255
    assert bytes(layers(said, DHCP6OptClientId)[0].duid) == bytes(CLIENT.duid)
    assert not layers(said, DHCP6OptRapidCommit, DHCP6OptStatusCode)


def test_rapid_commit() -> None:
    said = answered(DHCP6_Solicit() / CLIENT / RAPID / na())
    assert isinstance(said, DHCP6_Reply)
    assert len(layers(said, DHCP6OptRapidCommit)) == 1
    assert held(said) == [[MINE]]


def test_options_are_those_asked_for_once_and_in_that_order() -> None:
    said = answered(DHCP6_Solicit() / CLIENT / na() / OTHERS)
    kinds = DHCP6OptDNSServers, DHCP6OptDNSDomains, DHCP6OptSNTPServers, DHCP6OptNTPServer, DHCP6OptInfoRefreshTime
    domains, dns, sntp, ntp = layers(said, *kinds)
    assert dns.dnsservers == ["2001:db8:1::53", "2001:db8::54"]
    assert domains.dnsdomains == ["shop.example.", "example."]
    assert sntp.sntpservers == ["2001:db8::123"]
    assert [(type(o), o.addr) for o in ntp.ntpserver] == [(DHCP6NTPSubOptSrvAddr, "2001:db8::123")]
    assert not layers(answered(DHCP6_Solicit() / CLIENT / na()), *kinds)


@pytest.mark.parametrize("kind", [DHCP6_Request, DHCP6_Renew, DHCP6_Rebind])
def test_all_addresses_are_assigned_to_the_first_association(kind: Any) -> None:
    server = () if kind is DHCP6_Rebind else OURS
    message = kind() / CLIENT / server if server else kind() / CLIENT
    said = answered(message / na(ME) / na(iaid=8), TWO)
    assert isinstance(said, DHCP6_Reply)
    refusal = NO_ADDRESSES if kind is DHCP6_Request else NO_BINDING
    assert held(said) == [[MINE, ("2001:db8:3::11", 3600, 3600)], [(refusal,)]]
    assert [ia.iaid for ia in layers(said, DHCP6OptIA_NA)] == [7, 8]


def test_what_a_port_does_not_have() -> None:
    rest = DHCP6OptIA_TA(iaid=1) / DHCP6OptIA_PD(iaid=2)
    assert held(answered(DHCP6_Solicit() / CLIENT / na() / rest)) == [[MINE], [(NO_ADDRESSES,)], [(NO_PREFIX,)]]
    assert held(answered(DHCP6_Rebind() / CLIENT / na() / rest)) == [[MINE], [(NO_BINDING,)], [(NO_BINDING,)]]
    without = replace(LEASE, ips=())
    assert held(answered(DHCP6_Solicit() / CLIENT / na(ME), without)) == [[(NO_ADDRESSES,)]]
    assert held(answered(DHCP6_Renew() / CLIENT / OURS / na(ME), without)) == [[(NO_BINDING,)]]


def test_another_address_is_replaced() -> None:
    assert held(answered(DHCP6_Request() / CLIENT / OURS / na(OTHER))) == [[MINE]]
    assert held(answered(DHCP6_Request() / CLIENT / OURS / na(STRANGER))) == [[(NOT_ON_LINK,)]]
    assert held(answered(DHCP6_Renew() / CLIENT / OURS / na(OTHER, ME))) == [[MINE, (OTHER, 0, 0)]]
    assert held(answered(DHCP6_Rebind() / CLIENT / na(STRANGER))) == [[MINE, (STRANGER, 0, 0)]]


@pytest.mark.parametrize(
    ("ips", "status"),
    [((ME,), SUCCESS), ((OTHER, "2001:db8:3::5"), SUCCESS), ((ME, STRANGER), NOT_ON_LINK), ((STRANGER,), NOT_ON_LINK)],
)
def test_confirm_is_about_the_network(ips: tuple[str, ...], status: int) -> None:
    said = answered(DHCP6_Confirm() / CLIENT / na(*ips))
    assert isinstance(said, DHCP6_Reply)
    assert said[DHCP6OptStatusCode].statuscode == status
    assert held(said) == []


@pytest.mark.parametrize("kind", [DHCP6_Release, DHCP6_Decline])
def test_what_is_given_back_stays_the_ports(kind: Any) -> None:
    said = answered(kind() / CLIENT / OURS / na(ME) / na(OTHER, iaid=8))
    assert isinstance(said, DHCP6_Reply)
    assert layers(said, DHCP6OptStatusCode)[0].statuscode == SUCCESS
    assert [(ia.iaid, content(ia)) for ia in layers(said, DHCP6OptIA_NA)] == [(8, [(NO_BINDING,)])]


@pytest.mark.parametrize("message", [DHCP6_InfoRequest(), DHCP6_InfoRequest() / CLIENT, DHCP6_InfoRequest() / OURS])
def test_information_without_an_address(message: Any) -> None:
    said = answered(message / OTHERS)
    assert isinstance(said, DHCP6_Reply)
    assert said[DHCP6OptDNSServers].dnsservers == list(LEASE.dns)
    assert said[DHCP6OptInfoRefreshTime].reftime == 3600
    assert bool(layers(said, DHCP6OptClientId)) == bool(layers(message, DHCP6OptClientId))


@pytest.mark.parametrize("kind", [DHCP6_Request, DHCP6_Renew, DHCP6_Release, DHCP6_Decline])
def test_what_is_not_sent_to_all_servers_is_sent_back(kind: Any) -> None:
    said = answered(frame(kind() / CLIENT / OURS / na(ME), dst=SERVER))
    assert said[DHCP6OptStatusCode].statuscode == USE_MULTICAST
    assert held(said) == []


def test_a_servers_address_follows_from_its_mac() -> None:
    made = answer(bytes(frame(DHCP6_Solicit() / CLIENT / na())), replace(LEASE, server_ip=None))
    assert made is not None
    assert Ether(made)[IPv6].src == "fe80::ff:fe00:fe"


@pytest.mark.parametrize(
    "sent",
    [
        DHCP6_Solicit() / na(),
        DHCP6_Solicit() / CLIENT / OURS / na(),
        DHCP6_Request() / CLIENT / na(),
        DHCP6_Request() / CLIENT / THEIRS / na(),
        DHCP6_Request() / OURS / na(),
        DHCP6_Renew() / CLIENT / THEIRS / na(ME),
        DHCP6_Rebind() / CLIENT / OURS / na(ME),
        DHCP6_Confirm() / CLIENT / OURS / na(ME),
        DHCP6_Confirm() / CLIENT / na(),
        DHCP6_Confirm() / CLIENT,
        DHCP6_Release() / CLIENT / na(ME),
        DHCP6_InfoRequest() / THEIRS,
        DHCP6_InfoRequest() / CLIENT / na(),
        DHCP6_Reply() / CLIENT / OURS,
        DHCP6_Advertise() / CLIENT / OURS,
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::1:2") / UDP(sport=546, dport=547) / DHCP6_RelayForward(),
        frame(DHCP6_Solicit() / CLIENT / na(), dst=SERVER),
        frame(DHCP6_Solicit() / CLIENT / na(), dst="ff05::1:3"),
        frame(DHCP6_Request() / CLIENT / OURS / na(), dst="ff05::1:3"),
        frame(DHCP6_Solicit() / CLIENT / na(), src=ME),
        frame(DHCP6_Solicit() / CLIENT / na(), src="::"),
        frame(DHCP6_Solicit() / CLIENT / na(), mac="02:00:00:00:01:02"),
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::1:2") / UDP(dport=546) / DHCP6_Solicit() / CLIENT,
        Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::1:2") / IPv6ExtHdrFragment(m=1)
        / UDP(dport=547) / DHCP6_Solicit() / CLIENT,
        DHCP6_Solicit() / CLIENT / Raw(b"\0\3\0\4\0\0\0\1"),
        DHCP6_Solicit() / CLIENT / Raw(b"\0\3\0\1"),
        DHCP6_Solicit() / CLIENT / Raw(b"\0"),
    ],
    ids=lambda sent: repr(sent.summary())[-60:],
)  # fmt: skip
def test_these_are_not_answered(sent: Any) -> None:
    assert answered(sent) is None


def test_a_message_that_is_cut_is_not_answered() -> None:
    whole = bytes(frame(DHCP6_Solicit() / CLIENT / na() / OTHERS))
    assert answer(whole, LEASE) is not None
    assert all(answer(whole[:size], LEASE) is None for size in range(len(whole)))


def test_no_answer_is_longer_than_a_frame() -> None:
    """However many associations a message has: 64 KiB of them make no error, and no flood."""
    for count, answer_is_due in ((10, True), (60, False), (3000, False)):
        many = Raw(bytes(na()) * count)
        assert (answered(DHCP6_Solicit() / CLIENT / many) is not None) == answer_is_due


OPTIONS = st.lists(
    st.one_of(
        st.sampled_from([na(), na(OTHER, ME), na(STRANGER), OURS, RAPID, DHCP6OptIA_TA(), DHCP6OptIA_PD()]).map(bytes),
        st.builds(
            lambda code, value: code.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value,
            st.sampled_from([1, 2, 3, 4, 5, 6, 7, 13, 14, 25, 39]),
            st.binary(max_size=40),
        ),
        st.binary(max_size=10),
    ),
    max_size=6,
).map(b"".join)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    kind=st.integers(0, 14),
    options=OPTIONS,
    flips=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 255)), max_size=2),
)
def test_whatever_comes_an_answer_is_sound(kind: int, options: bytes, flips: list[tuple[int, int]]) -> None:
    message = bytes([kind, 0xAB, 0xCD, 0xEF]) + bytes(CLIENT) + options
    made = Ether(src=MAC) / IPv6(src=LINK_LOCAL, dst="ff02::1:2") / UDP(sport=546, dport=547) / Raw(message)
    sent = bytearray(bytes(made))
    for at, mask in flips:
        sent[at % len(sent)] ^= mask
    back = answer(bytes(sent), LEASE)
    if back is None:
        return
    read = Ether(back)
    assert isinstance(read[UDP].payload, DHCP6_Advertise | DHCP6_Reply)
    assert len(back) <= 14 + 1500
    del read[IPv6].plen, read[UDP].len, read[UDP].chksum
    read[UDP].remove_payload()
    assert bytes(read / Raw(back[62:])) == back


@settings(max_examples=300, deadline=None)
@given(sent=st.binary(max_size=300))
def test_noise_is_not_answered(sent: bytes) -> None:
    assert answer(sent, LEASE) is None
