"""The pure parts of the BGP benchmark: files for gobgpd, messages on the wire, and what programs print."""

from __future__ import annotations

import tomllib

from os_ken.lib.packet import bgp

from benchmarks.evpn import config
from benchmarks.evpn.fabric import received_bytes
from benchmarks.evpn.speaker import RouteType, announcements, withdrawals
from benchmarks.evpn.watch import routes_in
from benchmarks.scenario import Scenario, Shape

CENTRE = config.Centre("127.20.0.1", 1790)


def families(session: dict[str, list[dict[str, dict[str, str]]]]) -> list[str]:
    return [each["config"]["afi-safi-name"] for each in session["afi-safis"]]


def test_only_the_vteps_and_only_with_rfc_4684_tell_the_reflector_what_they_want() -> None:
    for constrain, expected in ((False, ["l2vpn-evpn"]), (True, ["l2vpn-evpn", "rtc"])):
        text = config.reflector(CENTRE, ["127.20.2.1", "127.20.2.2"], "127.20.1.1", constrain=constrain)
        *clients, speaker = tomllib.loads(text)["neighbors"]
        assert [families(client) for client in clients] == [expected, expected]
        assert families(speaker) == ["l2vpn-evpn"]
        assert all(each["route-reflector"]["config"]["route-reflector-client"] for each in (*clients, speaker))


def test_a_vtep_imports_the_route_targets_of_its_vpcs() -> None:
    read = tomllib.loads(config.vtep("127.20.2.1", CENTRE, [5001, 5007], constrain=True))
    assert [vrf["config"]["both-rt-list"] for vrf in read["vrfs"]] == [["65000:5001"], ["65000:5007"]]
    assert families(read["neighbors"][0]) == ["l2vpn-evpn", "rtc"]


def messages(data: bytes) -> list[bgp.BGPMessage]:
    found = []
    while data:
        message, _kind, data = bgp.BGPMessage.parser(data)
        found.append(message)
    return found


def test_every_endpoint_is_announced_once_with_its_vtep_its_route_target_and_below_4096_bytes() -> None:
    scenario = Scenario(Shape(hosts=5, far_hosts=2))
    ports = scenario.endpoints("vpc0", 0, 300)
    for kind in RouteType:
        told = {}
        for message in messages(announcements(5001, ports.values(), scenario.vteps, kind)):
            assert message.len <= 4096
            attributes = {type(each): each for each in message.path_attributes}
            reach = attributes[bgp.BGPPathAttributeMpReachNLRI]
            target = attributes[bgp.BGPPathAttributeExtendedCommunities].communities[0]
            assert (target.as_number, target.local_administrator) == (65000, 5001)
            for route in reach.nlri:
                address = route.ip_addr if kind is RouteType.MAC_IP else route.ip_prefix.removesuffix("/32")
                told[address] = reach.next_hop
        assert told == {port.ips[0]: scenario.vteps[str(port.host)] for port in ports.values() if port.ips}


def test_withdrawals_name_the_very_routes_that_were_announced() -> None:
    scenario = Scenario(Shape(hosts=5))
    ports = scenario.endpoints("vpc0", 0, 30).values()
    for kind in RouteType:
        said, taken = (
            {
                route.serialize()
                for message in messages(made(5001, ports, scenario.vteps, kind))
                for attribute in message.path_attributes
                if isinstance(attribute, bgp.BGPPathAttributeMpReachNLRI | bgp.BGPPathAttributeMpUnreachNLRI)
                for route in (getattr(attribute, "nlri", None) or attribute.withdrawn_routes)
            }
            for made in (announcements, withdrawals)
        )
        assert said == taken
        assert len(said) == 30


def test_bytes_are_read_from_what_ss_prints() -> None:
    output = (
        "0      0      127.77.1.1:44235 127.77.0.1:17900\n"
        "\t cubic wscale:10,10 bytes_sent:152 bytes_acked:153 bytes_received:2926 segs_out:31\n"
        "0      0      127.77.1.2:36379 127.77.0.1:17900\n"
        "\t cubic wscale:10,10 bytes_sent:1\n"
    )
    assert received_bytes(output) == {"127.77.1.1": 2926}


def test_the_monitor_says_what_was_added_and_nothing_else_counts() -> None:
    macadv = b"[type:macadv][rd:172.16.0.11:5001][etag:0][mac:02:02:00:00:00:0a][ip:10.0.0.12] via 172.16.0.11"
    prefix = b"[type:Prefix][rd:172.16.0.11:5002][etag:0][prefix:10.0.0.13/32] via 172.16.0.11"
    assert routes_in(b"2026-11-24T20:11:54Z [ROUTE] " + macadv) == (5001, "10.0.0.12")
    assert routes_in(b"2026-11-24T20:11:54Z [ROUTE] " + prefix) == (5002, "10.0.0.13")
    assert routes_in(b"2026-11-24T20:11:59Z [DELROUTE] " + macadv) is None
    assert routes_in(b"") is None
