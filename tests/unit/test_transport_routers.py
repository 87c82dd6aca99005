"""What a change has to do with routers: objects like others, and judged by what they touch."""

from __future__ import annotations

import random

import msgspec
import pytest

from ovsnet.errors import ModelError
from ovsnet.model import Network, NextHop, Route, Router, Subnet, VpcState
from ovsnet.transport import edits, view
from ovsnet.transport.changes import Patch, patched, vnis_of
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.edits import InUseError, UnknownObjectError
from ovsnet.transport.view import HostView
from tests.agent_kit import port, state
from tests.unit.test_transport_view import follow, random_patch

DB = Network(vni=5002, subnets=(Subnet(cidr="10.2.0.0/16"),))
ROUTES = (
    Route(to="10.50.0.0/16", via=NextHop(port="p1")),
    Route(to="2001:db8::/32", via=(NextHop(port="p2"), NextHop(port="p1"))),
    Route(to="10.60.0.0/16", via=NextHop(ip="10.2.0.9")),
    Route(to="10.66.0.0/16", blackhole=True),
)


def shop(**routers: Router) -> VpcState:
    """Networks n, with ports, and db, without."""
    held = state()
    return msgspec.structs.replace(held, networks=held.networks | {"db": DB}, routers=routers)


R1 = Router(vni=9001, networks=("n", "db"), routes=ROUTES)


def changed(held: VpcState, **changes: object) -> VpcState:
    """What a host that holds ``held`` holds after a change. Raises ModelError."""
    one = HostView("hv1", {"shop": held})
    change = one.check([Patch(vpc="shop", previous=1, revision=2, **changes)])  # type: ignore[arg-type]
    after = change.states["shop"]
    assert after is not None
    return after


def refusals(held: VpcState, **changes: object) -> dict[str, str]:
    """The codes of what is wrong with a change, by path."""
    with pytest.raises(ModelError) as caught:
        changed(held, **changes)
    return {problem.path: problem.code for problem in caught.value.problems}


def test_put_of_a_router_is_idempotent_and_keeps_its_vni() -> None:
    held = shop()
    told = (
        b'{"vni": 9001, "networks": ["n", "db"], "routes": ['
        b'{"to": "2001:DB8::/32", "via": {"port": "p1"}}, {"to": "10.6.0.0/16", "via": [{"ip": "10.2.0.9"}]},'
        b'{"to": "2001:db8:6::/48", "via": {"ip": "2001:DB8::0:9"}}]}'
    )
    patch = edits.put(held, "routers", "r1", told)
    assert patch is not None
    held = patched(held, patch)
    assert held.routers["r1"].routes == (
        Route(to="2001:db8::/32", via=NextHop(port="p1")),
        Route(to="10.6.0.0/16", via=(NextHop(ip="10.2.0.9"),)),
        Route(to="2001:db8:6::/48", via=NextHop(ip="2001:db8::9")),
    )
    assert edits.put(held, "routers", "r1", told) is None
    assert edits.put(held, "routers", "r1", told.replace(b'"vni": 9001, ', b"")) is None, "what is left out stays"
    fewer = edits.put(held, "routers", "r1", b'{"networks": ["n"]}')
    assert fewer is not None and fewer.routers == {"r1": Router(vni=9001, networks=("n",))}
    assert edits.collection(held, "routers") == held.routers
    gone = edits.delete(held, "routers", "r1")
    assert gone is not None and patched(held, gone).routers == {}
    assert edits.delete(held, "routers", "nobody") is None
    with pytest.raises(UnknownObjectError) as missing:
        edits.find(held, "routers", "nobody")
    assert missing.value.code == "unknown-router"
    with pytest.raises(msgspec.ValidationError):
        edits.put(held, "routers", "r1", b'{"networks": ["n"], "external": {}}')


def test_what_is_none_is_kept_for_the_checks_to_name() -> None:
    patch = edits.put(shop(), "routers", "r1", b'{"vni": 9, "routes": [{"to": "10.6.0.1/16", "via": {"ip": "fw"}}]}')
    assert patch is not None
    wrong = refusals(shop(), routers=patch.routers)
    assert wrong == {
        "routers.r1.routes[0].to": "host-bits-set",
        "routers.r1.routes[0].via.ip": "invalid-next-hop",
    }


@pytest.mark.parametrize(
    ("kind", "name", "referrers"),
    [
        ("networks", "db", ("routers.r1",)),
        ("networks", "n", ("ports.p1", "ports.p2", "routers.r1")),
        ("ports", "p1", ("routers.r1.routes[0]", "routers.r1.routes[1]")),
        ("ports", "p2", ("routers.r1.routes[1]",)),
        ("subnets", "db:10.2.0.0-16", ("routers.r1.routes[2]",)),
        ("subnets", "n:10.1.0.0-16", ("ports.p1", "ports.p2")),
    ],
)
def test_what_a_router_joins_or_leads_to_is_in_use(kind: edits.Kind, name: str, referrers: tuple[str, ...]) -> None:
    with pytest.raises(InUseError) as caught:
        edits.delete(shop(r1=R1), kind, name)
    assert caught.value.referrers == referrers
    alone = msgspec.structs.replace(shop(r2=Router(vni=9002, networks=("n",))), ports={})
    assert edits.delete(alone, "subnets", "db:10.2.0.0-16"), "a router that does not join the network"


def test_a_gateway_s_address_is_no_port_s_once_a_router_joins() -> None:
    taken = msgspec.structs.replace(port("shop", 9), ips=("10.1.0.1",))
    assert changed(shop(), ports={"p9": taken}).ports["p9"] == taken
    assert refusals(shop(r1=R1), ports={"p9": taken}) == {"ports.p9.ips[0]": "reserved-address"}
    held = shop()
    held = msgspec.structs.replace(held, ports=held.ports | {"p9": taken})
    assert refusals(held, routers={"r1": R1}) == {"ports.p9.ips[0]": "reserved-address"}
    endpoint = edits.RemoteEndpoint(network="n", mac="02:00:00:00:09:09", ips=("10.1.0.1",), vtep="10.0.0.99")
    assert refusals(shop(r1=R1), endpoints={"e": endpoint}) == {"endpoints.e.ips[0]": "reserved-address"}


def test_a_next_hop_stays_where_the_router_can_reach_it() -> None:
    held = shop(r1=Router(vni=9001, networks=("n",), routes=ROUTES[:1]))
    assert refusals(held, ports={"p1": None}) == {"routers.r1.routes[0].via.port": "unknown-port"}
    away = msgspec.structs.replace(held.ports["p1"], network="db", ips=("10.2.0.5",))
    assert refusals(held, ports={"p1": away}) == {"routers.r1.routes[0].via.port": "next-hop-outside"}
    assert changed(shop(r1=R1), ports={"p1": away}).ports["p1"] == away, "still joined"
    fewer = Router(vni=9001, networks=("n",))
    assert "p1" not in changed(held, ports={"p1": None}, routers={"r1": fewer}).ports


def test_networks_and_routers_are_judged_together() -> None:
    near = Network(vni=5003, subnets=(Subnet(cidr="10.1.128.0/17"),))
    assert refusals(shop(r1=R1), networks={"db": None}) == {
        "routers.r1.networks[1]": "unknown-network",
        "routers.r1.routes[2].via.ip": "next-hop-outside",
    }
    assert refusals(shop(r1=R1), networks={"db": near}) == {
        "routers.r1.networks[1]": "overlapping-subnets",
        "routers.r1.routes[2].via.ip": "next-hop-outside",
    }
    twice = refusals(shop(r1=R1), routers={"r2": Router(vni=9002, networks=("db",))})
    assert twice == {"routers.r2.networks[0]": "network-joined-twice"}
    assert refusals(shop(), routers={"r1": msgspec.structs.replace(R1, vni=5002)}) == {
        "routers.r1.vni": "duplicate-vni"
    }
    assert refusals(shop(), routers={"r1": msgspec.structs.replace(R1, vni=None)}) == {
        "routers.r1.vni": "assignment-missing"
    }


def test_a_vni_belongs_to_one_vpc_whether_a_network_or_a_router_has_it() -> None:
    club = msgspec.structs.replace(state("club", vni=6001), routers={"r1": Router(vni=9001, networks=("n",))})
    held = HostView("hv1", {"shop": shop(), "club": club})
    taken = [{"routers": {"r1": R1}}, {"networks": {"x": Network(vni=9001)}}, {"routers": {"r1": Router(vni=6001)}}]
    for bodies in taken:
        with pytest.raises(ModelError) as caught:
            held.check([Patch(vpc="shop", previous=1, revision=2, **bodies)])  # type: ignore[arg-type]
        assert {one.code for one in caught.value.problems} == {"duplicate-vni"}
    held.commit(held.check([Patch(vpc="club", previous=1, revision=2, routers={"r1": None})]))
    held.commit(held.check([Patch(vpc="shop", previous=1, revision=2, routers={"r1": R1})]))
    assert sorted(vnis_of(held.states["shop"])) == [5001, 5002, 9001]
    with pytest.raises(ModelError):
        held.check([Patch(vpc="club", previous=2, revision=3, routers={"r9": Router(vni=9001)})])


def test_the_digest_follows_a_change_of_routers() -> None:
    held = shop(r1=R1, r2=Router(vni=9002))
    patch = Patch(vpc="shop", previous=1, revision=2, routers={"r1": Router(vni=9001), "r2": None, "r3": Router(vni=7)})
    after = patched(held, patch)
    assert after.routers == {"r1": Router(vni=9001), "r3": Router(vni=7)}
    total = state_sum(held)
    assert digest_text(patched_sum(total, held, patch)) == digest_text(state_sum(after)) != digest_text(total)


def test_a_change_of_ports_alone_is_checked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many routes there are: a port that comes, changes, is a next hop elsewhere, or goes and is none."""
    held = shop(r1=R1)
    extra = {f"p{number}": port("shop", number) for number in range(10, 60)}
    held = msgspec.structs.replace(held, ports=held.ports | extra)
    one = HostView("hv1", {"shop": held})
    sizes = []
    real = view.canonical_state
    monkeypatch.setattr(view, "canonical_state", lambda part, host: sizes.append(len(part.ports)) or real(part, host))
    moved = msgspec.structs.replace(held.ports["p1"], host="hv2", epoch=1)
    for ports in ({"p99": port("shop", 99)}, {"p1": moved}, {"p10": None}):
        assert one.check([Patch(vpc="shop", previous=1, revision=2, ports=ports)]).operations
    assert sizes == [1, 1, 0]
    assert one.check([Patch(vpc="shop", previous=1, revision=2, routers={"r1": None})]).operations
    assert sizes[3:] == [len(held.ports)]


def random_router(rng: random.Random) -> Router:
    """A router that is right or wrong: networks that are not there or joined already, next hops that may go."""
    hops = [NextHop(port=f"p{number}") for number in (1, 2, 3, 4)] + [NextHop(ip="10.1.0.4"), NextHop(ip="10.1.0.1")]
    ranges = ["10.50.0.0/16", "2001:DB8::/32", "10.1.3.0/24", "0.0.0.0/0"]
    routes = tuple(
        Route(to=rng.choice(ranges), via=tuple(rng.choices(hops, k=rng.randint(1, 2))))
        for _ in range(rng.randint(0, 2))
    )
    return Router(
        vni=rng.choice([9001, 9002, 9001, 9002, 6001, 5001]),
        networks=rng.choice([("n",), ("n",), ("n", "m"), ("m",), ("x",)]),
        routes=routes,
    )


@pytest.mark.parametrize("seed", range(60))
def test_patch_of_routers_is_judged_as_the_whole_state(seed: int) -> None:
    rng = random.Random(seed)
    joins = Router(vni=9001, networks=("n",), routes=(Route(to="10.50.0.0/16", via=NextHop(port="p2")),))
    states = {"shop": msgspec.structs.replace(state(local=2, remote=2), routers={"r1": joins})}
    states["club"] = state("club", vni=6001)

    def make() -> Patch:
        patch = random_patch(rng, states["shop"])
        gateway = msgspec.structs.replace(port("shop", 7), ips=("10.1.0.1",))
        if rng.random() < 0.1:
            patch = msgspec.structs.replace(patch, ports={**patch.ports, "p7": gateway})
        if rng.random() < 0.7:
            return patch
        routers = {rng.choice(["r1", "r2"]): rng.choice([random_router(rng), random_router(rng), None])}
        return msgspec.structs.replace(patch, routers=routers)

    follow(rng, states, make)
