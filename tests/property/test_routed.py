"""Random routers and frames for them: the routers are valid, every fate occurs, and a wrong frame is noticed."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ovsnet.lab.expectation import Answer, Delivery, Expectation, Frame, Reason
from ovsnet.model import check_state, check_states
from ovsnet.model.types import Host, Model, Network, NextHop, Port, Route, Router, SecurityGroup, Subnet, Vpc
from tests.property import packets as p
from tests.property.exchanges import exchanges
from tests.property.frames import arrivals, cases
from tests.property.harness import Seen, tokened
from tests.property.reference import Case, Known, compare, settle
from tests.property.strategies import OPEN, models
from tests.property.world import endpoints_of, states_of

GATEWAY, A, B, C = "02:6f:76:00:00:01", "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"
FATES = {
    *(Reason.DELIVERED, Reason.ELSEWHERE, Reason.ANSWERED, Reason.ONE_OF_SEVERAL, Reason.AT_GATEWAY),
    *(Reason.NOT_ROUTABLE, Reason.TTL_SPENT, Reason.NO_HOST, Reason.BLACKHOLE, Reason.NO_ROUTE, Reason.COMES_BACK),
}
QUICK = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate,),
    suppress_health_check=[HealthCheck.too_slow],
)


def test_routers_are_valid_and_every_fate_occurs() -> None:
    found: Counter[Reason] = Counter()

    @QUICK
    @given(model=models(routers=True), seed=st.integers(0, 2**32))
    def look(model: Model, seed: int) -> None:
        states = states_of(model, "hv1")
        problems = [problem for state in states.values() for problem in check_state(state, "hv1")]
        wrong = [one for one in problems + check_states(states) if one.path.startswith(("routers", "networks"))]
        assert not wrong
        meaning = Expectation(model, endpoints=endpoints_of(model))
        for case in [*cases(model, seed, 100), *exchanges(model, seed, 50)]:
            fate = meaning.delivered(case.frame)
            routed = fate.routed is not None or fate.choices or fate.reason in FATES - {Reason.DELIVERED}
            found[fate.reason] += bool(routed)
        for arrival in arrivals(model, seed):
            assert not meaning.arrived(arrival.host, arrival.vni, arrival.data).wires

    look()
    assert {reason for reason, count in found.items() if count} >= FATES, found


def cloud_of_two_hops() -> Model:
    networks = {n: Network(vni=7 + i, subnets=(Subnet(cidr=f"10.0.{i}.0/24"),)) for i, n in enumerate(("web", "db"))}
    ports = {
        name: Port(network=network, host="hv1", mac=mac, ips=(ip,), security_groups=("open",))
        for name, network, mac, ip in (
            ("a", "web", A, "10.0.0.10"),
            ("b", "db", B, "10.0.1.11"),
            ("c", "db", C, "10.0.1.12"),
        )
    }
    route = Route(to="10.50.0.0/16", via=(NextHop(port="b"), NextHop(port="c")))
    vpc = Vpc(
        networks=networks,
        ports=ports,
        routers={"r": Router(vni=99, networks=("web", "db"), routes=(route,))},
        security_groups={"open": OPEN, "default": SecurityGroup()},
    )
    return Model(name="hops", hosts={"hv1": Host(vtep="192.0.2.1")}, vpcs={"v": vpc})


def sent(packet: bytes) -> Case:
    return Case("test", Frame("v/a", tokened(p.ethernet(GATEWAY, A, p.IPV4, packet), 0)))


def arrived(port: str, src: str, dst: str, packet: bytes) -> Seen:
    return Seen(delivered=[(port, tokened(p.ethernet(dst, src, p.IPV4, packet), 0))])


def udp(dst: str, ttl: int, flags: int = 0) -> bytes:
    return p.ipv4("10.0.0.10", dst, p.udp(bytes(56)), ttl=ttl, flags=flags)


@pytest.mark.parametrize(
    ("got", "right"),
    [
        (arrived("v/b", GATEWAY, B, udp("10.0.1.11", 63)), True),
        (arrived("v/b", GATEWAY, B, udp("10.0.1.11", 64)), False),
        (arrived("v/b", A, B, udp("10.0.1.11", 63)), False),
        (arrived("v/b", GATEWAY, GATEWAY, udp("10.0.1.11", 63)), False),
        (arrived("v/c", GATEWAY, B, udp("10.0.1.11", 63)), False),
        (Seen(), False),
    ],
)
def test_a_routed_frame_is_compared_octet_by_octet(got: Seen, right: bool) -> None:
    case = sent(udp("10.0.1.11", 64))
    assert (compare(case, Expectation(cloud_of_two_hops()).delivered(case.frame), got) is None) == right


def test_of_several_next_hops_one_is_kept() -> None:
    meaning, known = Expectation(cloud_of_two_hops()), Known()

    def differs(dst: str, hop: str, mac: str, flags: int = 0) -> bool:
        case, got = sent(udp(dst, 64, flags)), arrived(f"v/{hop}", GATEWAY, mac, udp(dst, 63, flags))
        return compare(case, settle(meaning, case, meaning.delivered(case.frame), got, known), got) is not None

    assert not differs("10.50.0.1", "b", B)
    assert not differs("10.50.0.2", "c", C), "another pair may take the other"
    assert differs("10.50.0.1", "c", C), "the same pair may not"
    assert not differs("10.50.0.1", "b", B, flags=0x2000), "its fragments neither"
    assert differs("10.50.0.1", "c", C, flags=8)
    assert differs("10.50.0.3", "a", A), "nobody else may have it"


@pytest.mark.parametrize(
    ("change", "right"), [({}, True), ({"ttl": 63}, False), ({"kind": 8}, False), ({"data": b"pong"}, False)]
)
def test_an_echo_reply_is_compared_octet_by_octet(change: dict[str, int | bytes], right: bool) -> None:
    body = p.icmp(int(change.get("kind", 0)), 0, b"\0\1\0\1", bytes(change.get("data", b"ping")))
    case = sent(p.ipv4("10.0.0.10", "10.0.0.1", p.icmp(8, 0, b"\0\1\0\1", b"ping"), p.ICMP))
    got = arrived("v/a", GATEWAY, A, p.ipv4("10.0.0.1", "10.0.0.10", body, p.ICMP, int(change.get("ttl", 64))))
    assert (compare(case, Expectation(cloud_of_two_hops()).delivered(case.frame), got) is None) == right


def test_what_only_an_agent_answers_does_not_come_from_a_switch() -> None:
    case = sent(udp("10.0.0.1", 64))
    answer = Answer("nd", GATEWAY, "2001:db8::1", A, "2001:db8::10", "agent")
    assert compare(case, Delivery(Reason.ANSWERED, answer=answer), Seen()) is None
