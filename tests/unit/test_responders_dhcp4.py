"""Answers to DHCP requests: byte for byte what scapy builds for them, and silence where none is due."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

from ovsnet.responders.dhcp4 import Lease4, Route, answer

MAC, SERVER_MAC, EVERYBODY = "02:00:00:00:01:01", "02:00:00:00:00:fe", "ff:ff:ff:ff:ff:ff"
ME, SERVER, OTHER = "192.168.1.11", "192.168.1.1", "192.168.1.99"
CHADDR = bytes.fromhex(MAC.replace(":", ""))
LEASE = Lease4(
    mac=MAC, ip=ME, prefix=24, server_mac=SERVER_MAC, server_ip=SERVER, router=SERVER, dns=("192.168.1.53", "9.9.9.9"),
    domain="shop.example", search=("shop.example", "example"), hostname="web1", ntp=("192.168.1.2",), mtu=1450,
    routes=(Route("10.50.0.0/16", "192.168.1.250"), Route("203.0.113.64/27", OTHER)),
)  # fmt: skip
TIMES = [("lease_time", 86400), ("renewal_time", 43200), ("rebinding_time", 75600)]
SERVER_ID, CLIENT_ID = ("server_id", SERVER), ("client_id", b"\x01" + CHADDR)
PRL = [1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42, 249]
ROUTES = bytes.fromhex("100a32c0a801fa1bcb007140c0a8016300c0a80101")
SEARCH = b"\4shop\7example\0\7example\0"
ASKED = [
    ("subnet_mask", "255.255.255.0"), ("broadcast_address", "192.168.1.255"), ("router", SERVER),
    ("domain", b"shop.example"), ("name_server", "192.168.1.53", "9.9.9.9"), (119, SEARCH), ("hostname", b"web1"),
    ("interface-mtu", 1450), (121, ROUTES), ("NTP_server", "192.168.1.2"), (249, ROUTES),
]  # fmt: skip
"""What the lease says of ``PRL``, in its order."""


def request(kind: str | None, *options: Any, src: str = "0.0.0.0", dst: str = "255.255.255.255", **fields: Any) -> Any:
    """What a client sends; ``fields`` are those of BOOTP."""
    bootp = BOOTP(**{"op": 1, "xid": 0x12345678, "secs": 7, "chaddr": CHADDR} | fields)
    kinds = [] if kind is None else [("message-type", kind)]
    message = bootp / DHCP(options=[*kinds, *options, "end"])
    return Ether(src=MAC, dst=EVERYBODY) / IP(src=src, dst=dst) / UDP(sport=68, dport=67) / message


def reply(*options: Any, mac: str = MAC, ip: str = ME, **fields: Any) -> bytes:
    """What a server sends, padded to 300 bytes."""
    bootp = BOOTP(**{"op": 2, "xid": 0x12345678, "chaddr": CHADDR} | fields)
    message = bytes(bootp / DHCP(options=[*options, "end"])).ljust(300, b"\0")
    ends = IP(src=SERVER, dst=ip, flags="DF", id=0, ttl=64)
    return bytes(Ether(src=SERVER_MAC, dst=mac) / ends / UDP(sport=67, dport=68) / Raw(message))


def answered(frame: Any, lease: Lease4 = LEASE) -> Any:
    """The answer, read by scapy."""
    made = answer(bytes(frame), lease)
    return None if made is None else Ether(made)


def said(frame: Any, lease: Lease4 = LEASE) -> dict[Any, Any]:
    """The options of the answer, by name or number."""
    return {one[0]: one[1] for one in answered(frame, lease)[DHCP].options if isinstance(one, tuple)}


def test_offer() -> None:
    discover = request("discover", CLIENT_ID, ("requested_addr", OTHER), ("param_req_list", PRL))
    expected = reply(("message-type", "offer"), SERVER_ID, *TIMES, CLIENT_ID, *ASKED, yiaddr=ME)
    assert answer(bytes(discover), LEASE) == expected


def test_ack_of_what_was_offered() -> None:
    ask = request("request", SERVER_ID, ("requested_addr", ME), ("param_req_list", PRL))
    assert answer(bytes(ask), LEASE) == reply(("message-type", "ack"), SERVER_ID, *TIMES, *ASKED, yiaddr=ME)


def test_ack_of_what_a_client_remembers() -> None:
    ask = request("request", ("requested_addr", ME), ("param_req_list", [6]))
    dns = ("name_server", "192.168.1.53", "9.9.9.9")
    assert answer(bytes(ask), LEASE) == reply(("message-type", "ack"), SERVER_ID, *TIMES, dns, yiaddr=ME)


@pytest.mark.parametrize("dst", [SERVER, "255.255.255.255"])
def test_ack_of_a_renewal_goes_to_its_address(dst: str) -> None:
    ask = request("request", ("param_req_list", [1]), src=ME, dst=dst, ciaddr=ME, flags="B")
    mask = ("subnet_mask", "255.255.255.0")
    expected = reply(("message-type", "ack"), SERVER_ID, *TIMES, mask, yiaddr=ME, ciaddr=ME, flags="B")
    assert answer(bytes(ask), LEASE) == expected


@pytest.mark.parametrize(
    "ask",
    [
        request("request", CLIENT_ID, SERVER_ID, ("requested_addr", OTHER), ("param_req_list", PRL)),
        request("request", CLIENT_ID, ("requested_addr", OTHER)),
        request("request", CLIENT_ID, ciaddr=OTHER, src=OTHER),
        request("request", CLIENT_ID, ("requested_addr", ME), ciaddr=OTHER),
    ],
    ids=["offered", "remembered", "renewed", "both"],
)
def test_nak_of_another_address_goes_to_everybody(ask: Any) -> None:
    words = ("error_message", b"the port's address is 192.168.1.11")
    expected = reply(("message-type", "nak"), SERVER_ID, words, CLIENT_ID, mac=EVERYBODY, ip="255.255.255.255")
    assert answer(bytes(ask), LEASE) == expected


def test_inform_has_no_lease() -> None:
    inform = request("inform", ("param_req_list", [1, 51, 6]), src=ME, ciaddr=ME)
    options = ("subnet_mask", "255.255.255.0"), ("name_server", "192.168.1.53", "9.9.9.9")
    assert answer(bytes(inform), LEASE) == reply(("message-type", "ack"), SERVER_ID, *options, ciaddr=ME)


def test_bootp_is_for_ever_and_knows_no_dhcp() -> None:
    asked = {code[0]: code for code in ASKED}
    options = [asked[name] for name in ("subnet_mask", "router", "name_server", "hostname", "domain")]
    assert answer(bytes(request(None)), LEASE) == reply(*options, yiaddr=ME)


def test_broadcast_flag_decides_where_to() -> None:
    back = answered(request("discover", flags="B"))
    assert (back.dst, back[IP].dst, back[BOOTP].flags) == (EVERYBODY, "255.255.255.255", "B")
    back = answered(request("discover"))
    assert (back.dst, back[IP].dst, back[BOOTP].flags) == (MAC, ME, 0)


def test_who_asks_for_nothing_is_told_all() -> None:
    assert list(said(request("discover")))[5:] == [
        *("subnet_mask", "router", "name_server", "hostname", "domain", "interface-mtu", "broadcast_address"),
        *("NTP_server", 119, "classless_static_routes"),
    ]


def test_mask_comes_before_router_whatever_was_asked() -> None:
    for asked in ([3, 6, 1, 1, 3], [3, 1], [6, 3, 12, 1]):
        options = answered(request("discover", ("param_req_list", asked)))[DHCP].options
        keys = [one[0] for one in options if isinstance(one, tuple)]
        assert len(keys) == len(set(keys))
        assert keys.index("subnet_mask") == keys.index("router") - 1


def test_a_default_route_is_said_once() -> None:
    def routes(**changes: Any) -> Any:
        return said(request("discover"), replace(LEASE, **changes)).get("classless_static_routes")

    wide, default = Route("10.0.0.0/8", OTHER), Route("0.0.0.0/0", OTHER)
    assert routes(routes=(wide,)) == ["10.0.0.0/8:192.168.1.99", "0.0.0.0/0:192.168.1.1"]
    assert routes(routes=(default, wide)) == ["0.0.0.0/0:192.168.1.99", "10.0.0.0/8:192.168.1.99"]
    assert routes(routes=(wide,), router=None) == ["10.0.0.0/8:192.168.1.99"]
    assert routes(routes=()) is None


def test_a_lease_may_say_little() -> None:
    bare = Lease4(mac=MAC, ip=ME, prefix=32, server_mac=SERVER_MAC, server_ip=SERVER, seconds=100)
    assert said(request("discover"), bare) == {
        "message-type": 2,
        "server_id": SERVER,
        "lease_time": 100,
        "renewal_time": 50,
        "rebinding_time": 87,
        "subnet_mask": "255.255.255.255",
    }


WORDY = replace(LEASE, search=tuple(f"{'n' * 50}{n}.example" for n in range(30)))


@pytest.mark.parametrize(("room", "longest"), [(None, 576), (100, 576), (1400, 1400), (9000, 1500), (2400, 1500)])
def test_what_has_no_room_is_left_out_whole(room: int | None, longest: int) -> None:
    limit = [] if room is None else [("max_dhcp_size", room)]
    frame = request("discover", *limit, ("param_req_list", [119, 1, 3]))
    assert "subnet_mask" in said(frame, WORDY)
    assert 119 not in said(frame, WORDY)
    assert len(answered(frame, WORDY)[IP]) <= longest


def test_what_just_fits_is_said() -> None:
    lease = replace(LEASE, search=WORDY.search[:8])

    def ask(room: int) -> Any:
        return answered(request("discover", ("max_dhcp_size", room), ("param_req_list", [119])), lease)

    size = len(ask(1500)[IP])
    assert size > 576
    assert len(ask(size)[IP]) == size
    assert len(ask(size - 1)[IP]) == 28 + 300


def test_a_long_option_is_sent_in_parts_when_there_is_room() -> None:
    search = WORDY.search[:10]
    frame = request("discover", ("max_dhcp_size", 1400), ("param_req_list", [119, 1]))
    back = answered(frame, replace(LEASE, search=search))
    parts = [one[1] for one in back[DHCP].options if one[0] == 119]
    assert [len(part) for part in parts] == [255, 255, 100]
    labels = [name.split(".") for name in search]
    packed = b"".join(b"".join(bytes([len(one)]) + one.encode() for one in name) + b"\0" for name in labels)
    assert b"".join(parts) == packed
    assert 119 not in said(request("discover", ("param_req_list", [119, 1])), replace(LEASE, search=search))


def test_options_may_go_on_in_the_fields_for_names() -> None:
    whole = request("request", (52, b"\3"), file=b"\x32\x04\xc0\xa8\x01\x0b\xff", sname=b"\x36\x04\xc0\xa8\x01\x63\xff")
    assert answer(bytes(whole), LEASE) is None  # it chose another server, in the second field
    assert said(request("request", (52, b"\1"), file=b"\x32\x04\xc0\xa8\x01\x0b\xff"))["message-type"] == 5
    assert said(request("request", (52, b"\2"), sname=b"\x32\x04\xc0\xa8\x01\x63\xff"))["message-type"] == 6


@pytest.mark.parametrize(
    "frame",
    [
        request("request", ("server_id", OTHER), ("requested_addr", ME)),
        request("request", ("server_id", OTHER), ("requested_addr", OTHER)),
        request("request"),
        request("request", SERVER_ID),
        request("inform"),
        request("inform", ciaddr="224.0.0.1"),
        request("decline", SERVER_ID, ("requested_addr", ME)),
        request("release", SERVER_ID, ciaddr=ME),
        *(request(kind) for kind in ("offer", "ack", "nak", "lease_query")),
        request("discover", giaddr=OTHER),
        request("discover", chaddr=CHADDR[:5] + b"\2"),
        request("discover", op=2),
        request("discover", htype=6),
        request("discover", hlen=16),
        request("discover", ("client_id", b"x" * 255), ("client_id", b"x")),
        request("discover", ("requested_addr", ME), ("requested_addr", ME)),
        request("discover", (54, b"\1\2\3")),
        request("discover", (57, b"")),
        request(None, (53, b"")),
        request(None, (53, b"\0")),
        request("discover", (52, b"")),
        request("discover", (52, b"\1"), file=b"\x32\xff"),
        Ether(src=MAC) / IP() / UDP(sport=68, dport=68) / BOOTP(chaddr=CHADDR) / DHCP(options=["end"]),
        Ether(src=MAC) / IP() / UDP(dport=67) / BOOTP(chaddr=CHADDR, options=b"") / (b"\x63\x82\x53\x64" + bytes(64)),
        Ether(src=MAC) / IP(flags="MF") / request("discover")[UDP],
        Ether(src=MAC) / IP(frag=3) / request("discover")[UDP],
        Ether(src=MAC) / IP(proto=6) / request("discover")[UDP],
        Ether(src=MAC) / Dot1Q(vlan=1) / request("discover")[IP],
    ],
    ids=lambda frame: frame.summary()[-60:],
)
def test_these_are_not_answered(frame: Any) -> None:
    assert answer(bytes(frame), LEASE) is None


def test_a_request_that_is_cut_is_not_answered() -> None:
    whole = bytes(request("discover", CLIENT_ID, ("param_req_list", PRL)))
    assert answer(whole, LEASE) is not None
    assert answer(whole + b"padding", LEASE) == answer(whole, LEASE)
    assert all(answer(whole[:size], LEASE) is None for size in range(len(whole)))


def test_a_checksum_that_hardware_was_to_fill_in_does_not_matter() -> None:
    frame = request("discover")
    frame[UDP].chksum = 0x1234
    assert answer(bytes(frame), LEASE) == answer(bytes(request("discover")), LEASE)


def test_a_checksum_of_zero_is_sent_as_its_other_form() -> None:
    first = answered(request("discover"))
    assert answered(request("discover", xid=first[BOOTP].xid + first[UDP].chksum))[UDP].chksum == 0xFFFF


OPTIONS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([50, 51, 52, 53, 54, 55, 57, 61, 82]), st.binary(max_size=8)),
        st.tuples(st.integers(1, 254), st.binary(max_size=40)),
    ),
    max_size=12,
)
AREAS = st.one_of(OPTIONS.map(lambda o: b"".join(bytes([c, len(v)]) + v for c, v in o) + b"\xff"), st.binary())
HEADS = st.fixed_dictionaries({}, optional={"flags": st.integers(0, 65535), "ciaddr": st.sampled_from([ME, OTHER])})


@settings(max_examples=400, deadline=None)
@given(
    kind=st.integers(0, 9),
    area=AREAS,
    head=HEADS,
    names=st.tuples(AREAS, AREAS),
    flips=st.lists(st.tuples(st.integers(0, 299), st.integers(1, 255)), max_size=3),
)
def test_whatever_comes_an_answer_is_sound(
    kind: int, area: bytes, head: dict[str, Any], names: tuple[bytes, bytes], flips: list[tuple[int, int]]
) -> None:
    bootp = BOOTP(chaddr=CHADDR, xid=9, file=names[0][:128], sname=names[1][:64], options=b"c\x82Sc", **head)
    made = Ether(src=MAC) / IP(src=ME) / UDP(sport=68, dport=67) / bootp / Raw(bytes([53, 1, kind]) + area)
    frame = bytearray(bytes(made))
    for at, mask in flips:
        frame[at % len(frame)] ^= mask
    back = answer(bytes(frame), LEASE)
    if back is None:
        return
    read = Ether(back)
    assert read[BOOTP].op == 2
    assert read[BOOTP].chaddr[:6] == CHADDR
    assert read[BOOTP].yiaddr in (ME, "0.0.0.0")
    assert 300 <= len(read[BOOTP]) <= 1500 - 28
    assert read.dst in (MAC, EVERYBODY)
    del read[IP].chksum, read[IP].len, read[UDP].chksum, read[UDP].len
    read[UDP].remove_payload()
    assert bytes(read / Raw(back[42:])) == back


@settings(max_examples=300, deadline=None)
@given(frame=st.binary(max_size=600))
def test_noise_is_not_answered(frame: bytes) -> None:
    assert answer(frame, LEASE) is None
