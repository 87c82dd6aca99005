"""What leases and routers may say: it travels as JSON, and what no packet can carry is refused with its field."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from ovsnet.responders.dhcp4 import Lease4, Route
from ovsnet.responders.dhcp6 import Lease6
from ovsnet.responders.icmp import Router
from ovsnet.responders.ra import Advertisement, Prefix, is_eui64

MAC, SERVER = "02:00:00:00:01:01", "02:00:00:00:00:fe"
LEASE4 = Lease4(
    mac=MAC, ip="192.168.1.11", prefix=24, server_mac=SERVER, server_ip="192.168.1.1", router="192.168.1.1",
    routes=(Route("10.50.0.0/16", "192.168.1.250"),), dns=("192.168.1.53", "9.9.9.9"), domain="shop.example",
    search=("shop.example",), hostname="web1", ntp=("192.168.1.2",), mtu=1450, seconds=3600,
)  # fmt: skip
LEASE6 = Lease6(
    mac=MAC, ips=("2001:db8:1::11",), prefixes=("2001:db8:1::/64",), server_mac=SERVER, server_ip="fe80::1",
    dns=("2001:db8:1::53",), search=("shop.example",), ntp=("2001:db8::2",), seconds=3600,
)  # fmt: skip
SAID = Advertisement(
    mac=SERVER, ip="fe80::1", prefixes=(Prefix("2001:db8:1::/64", autonomous=True),), managed=True, other=True,
    dns=("2001:db8:1::53",), search=("shop.example",), mtu=1450, lifetime=900, seconds=3600,
)  # fmt: skip
ROUTER = Router(mac=SERVER, ips=("192.168.1.1", "2001:db8:1::1"))


@pytest.mark.parametrize("said", [LEASE4, LEASE6, SAID, ROUTER], ids=lambda said: type(said).__name__)
def test_it_travels(said: Any) -> None:
    for codec in (msgspec.json, msgspec.msgpack):
        assert codec.decode(codec.encode(said), type=type(said)) == said
    assert set(msgspec.json.decode(msgspec.json.encode(said))) == set(said.__dataclass_fields__)


@pytest.mark.parametrize(
    ("said", "field", "value", "says"),
    [
        (LEASE4, "mac", "02:00:00:00:01", "'02:00:00:00:01' is not the MAC address of a station"),
        (LEASE4, "mac", "ff:ff:ff:ff:ff:ff", "is not the MAC address of a station"),
        (LEASE4, "ip", "192.168.1", "'192.168.1' is not an IPv4 address; write it like 192.168.1.11."),
        (LEASE4, "ip", "2001:db8::1", "is not an IPv4 address"),
        (LEASE4, "prefix", 33, "33 is out of range; give 0 to 32."),
        (LEASE4, "server_ip", "", "is not an IPv4 address"),
        (LEASE4, "router", "192.168.1.1\0", "is not an IPv4 address"),
        (LEASE4, "dns", ("9.9.9.9", "dns.example"), "'dns.example' is not an IPv4 address"),
        (LEASE4, "hostname", "web 1", "'web 1' is not a domain name; write it like cloud.example, in ASCII."),
        (LEASE4, "domain", "shop..example", "is not a domain name"),
        (LEASE4, "search", ("$(reboot)",), "is not a domain name"),
        (LEASE4, "search", (".".join(["a" * 63] * 4),), "is not a domain name"),
        (LEASE4, "mtu", 67, "67 is out of range; give 68 to 65535."),
        (LEASE4, "seconds", 0, "0 is out of range"),
        (LEASE4, "routes", (Route("10.50.0.1/16", "192.168.1.1"),), "has bits behind its prefix"),
        (LEASE4, "routes", (Route("10.50.0.0", "192.168.1.1"),), "has no prefix length up to 32"),
        (LEASE4, "routes", (Route("10.50.0.0/33", "192.168.1.1"),), "has no prefix length up to 32"),
        (LEASE4, "routes", (Route("10.50.0.0/16", "fw1"),), "is not an IPv4 address"),
        (LEASE6, "ips", ("192.168.1.11",), "is not an IPv6 address; write it like 2001:db8::11."),
        (LEASE6, "prefixes", ("2001:db8:1::1/64",), "has bits behind its prefix"),
        (LEASE6, "server_ip", "fe80::1%eth0", "is not an IPv6 address"),
        (LEASE6, "search", ("exämple.org",), "is not a domain name"),
        (LEASE6, "ips", tuple(f"2001:db8::{n:x}" for n in range(40)), "more than 1024; give fewer addresses."),
        (SAID, "mtu", 1279, "1279 is out of range; give 1280 to 65535."),
        (SAID, "lifetime", 9001, "9001 is out of range; give 0 to 9000."),
        (SAID, "dns", tuple(f"2001:db8::{n:x}" for n in range(128)), "is out of range; give 1 to 255."),
        (SAID, "prefixes", (Prefix("2001:db8::/129"),), "has no prefix length up to 128"),
        (ROUTER, "ips", ("192.168.1.1/24",), "is not an IPv4 address"),
    ],
)
def test_what_no_packet_can_carry_is_refused(said: Any, field: str, value: object, says: str) -> None:
    with pytest.raises(ValueError) as raised:
        replace(said, **{field: value})
    assert says in str(raised.value)
    assert type(said).__name__ in str(raised.value) or said is SAID


def test_a_ports_own_address_may_be_the_one_that_slaac_makes() -> None:
    assert is_eui64("2001:db8:1::ff:fe00:101", "2001:db8:1::/64", MAC)
    assert not is_eui64("2001:db8:2::ff:fe00:101", "2001:db8:1::/64", MAC)
    assert not is_eui64("2001:db8:1::11", "2001:db8:1::/64", MAC)
    assert not is_eui64("2001:db8:1::ff:fe00:101", "2001:db8:1::/48", MAC)
