"""A controller looks at what a change of routers, networks or ports touches; it takes what is right as a whole."""

from __future__ import annotations

import random
from typing import Any

import pytest

from ovsnet.controller.planning import plan_request
from ovsnet.controller.requests import Edit, EnsureVpc, PutHost, PutObject, Request
from ovsnet.controller.truth import Truth
from ovsnet.errors import ModelError
from ovsnet.model import Host, Network, NextHop, Port, RemoteEndpoint, Route, Router, Subnet, derive_mac, port_id
from ovsnet.model.assign import FIRST_VNI
from ovsnet.transport.edits import InUseError
from ovsnet.transport.view import ConflictError
from tests.property.test_controller_groups import committed, judged, unplaced

RANGES = {"n": "10.1.0.0/24", "m": "10.2.0.0/24", "o": "10.1.0.128/25"}
START: tuple[Edit, ...] = (
    PutHost("h1", Host(vtep="10.0.0.1")),
    EnsureVpc("shop"),
    *(
        PutObject("shop", "networks", name, Network(vni=5000 + index, subnets=(Subnet(cidr=cidr),)))
        for index, (name, cidr) in enumerate(RANGES.items())
    ),
)
R1 = Router(networks=("n",), routes=(Route(to="10.50.0.0/16", via=NextHop(port="p1")),))


def port(rng: random.Random, name: str) -> Port:
    ident, number = port_id("shop", name), int(name[1:])
    network = rng.choice(["n", "n", "n", "m"])
    ip = rng.choice([f"10.{'nm'.index(network) + 1}.0.{number + 10}"] * 5 + [f"10.{'nm'.index(network) + 1}.0.1"])
    return Port(network=network, host=rng.choice(["h1", None]), id=ident, mac=derive_mac(ident), ips=(ip,))


def router(rng: random.Random) -> Router:
    hops = [*(NextHop(port=f"p{number}") for number in range(1, 7)), NextHop(ip="10.1.0.9"), NextHop(ip="10.2.0.9")]
    routes = [
        Route(to=rng.choice(["10.50.0.0/16", "10.60.0.0/16", "10.1.0.64/26"]), via=tuple(rng.sample(hops, 2)))
        for _ in range(rng.choice([0, 0, 1, 2]))
    ]
    networks = rng.choice([("n",), ("n", "m"), ("m",), ("n", "o"), ("o",), ("x",)])
    return Router(vni=rng.choice([9001, 9002, 9003, 5001]), networks=networks, routes=tuple(routes))


def changes(rng: random.Random) -> dict[tuple[str, str], Any]:
    """One to three objects that come, change or go."""
    found: dict[tuple[str, str], Any] = {}
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["ports", "ports", "ports", "routers", "routers", "networks", "endpoints"])
        if kind == "ports":
            name = f"p{rng.randint(1, 6)}"
            found[kind, name] = rng.choice([port(rng, name), port(rng, name), None])
        elif kind == "routers":
            found[kind, rng.choice(["r1", "r2"])] = rng.choice([router(rng), router(rng), None])
        elif kind == "networks":
            name = rng.choice(["m", "o"])
            cidr = rng.choice([RANGES[name], RANGES[name], "10.3.0.0/24", "10.1.0.0/16"])
            gateway = rng.choice([None, None, cidr.replace("0/", "9/").partition("/")[0]])
            fresh = Network(vni={"m": 5001, "o": 5002}[name], subnets=(Subnet(cidr=cidr, gateway=gateway),))
            found[kind, name] = rng.choice([fresh, fresh, None])
        else:
            ip = rng.choice(["10.1.0.1", "10.1.0.99"])
            far = RemoteEndpoint(network="n", mac="02:00:00:00:09:09", ips=(ip,), vtep="10.0.0.99")
            found[kind, "far"] = rng.choice([far, None])
    return found


@pytest.mark.parametrize("seed", range(40))
def test_a_change_is_judged_as_the_whole_vpc(seed: int) -> None:
    rng = random.Random(seed)
    truth = Truth("controller")
    committed(truth, *START)
    taken = refused = 0
    for _ in range(80):
        before = truth.vpcs["shop"].snapshot()
        wanted = changes(rng)
        expected = judged(before, wanted)
        edits = [PutObject("shop", kind, name, body) for (kind, name), body in wanted.items()]  # type: ignore[arg-type]
        try:
            committed(truth, *edits)
        except (ModelError, ConflictError) as exc:
            assert expected is None, (exc, wanted)
            refused += 1
        else:
            assert expected is not None, wanted
            assert unplaced(truth.vpcs["shop"].snapshot()) == unplaced(expected)
            taken += 1
    assert taken > 5 and refused > 5


def test_routers_are_numbered_as_networks_are_and_their_vnis_rest() -> None:
    truth = Truth("controller")
    committed(truth, *START, PutObject("shop", "ports", "p1", Port(network="n", host="h1")))
    committed(truth, PutObject("shop", "routers", "r1", R1), PutObject("shop", "networks", "more", Network()))
    live = truth.vpcs["shop"].live
    assert {live.networks["more"].vni, live.routers["r1"].vni} == {FIRST_VNI, FIRST_VNI + 1}
    mine = live.routers["r1"].vni
    committed(truth, PutObject("shop", "routers", "r1", Router(networks=("n", "m"))))
    assert truth.vpcs["shop"].live.routers["r1"].vni == mine, "what is left out stays"
    committed(truth, PutObject("shop", "routers", "r1", None), PutObject("shop", "routers", "r2", Router(vni=9001)))
    assert ("vni", mine) in truth.quarantine and mine not in truth.vnis
    committed(truth, EnsureVpc("club"), PutObject("club", "routers", "r1", Router()))
    assert truth.vpcs["club"].live.routers["r1"].vni == FIRST_VNI + 2, "the released one rests"
    for body in (Router(vni=9001), Router(vni=5001)):
        with pytest.raises(ModelError) as caught:
            committed(truth, PutObject("club", "routers", "r9", body))
        assert "vpcs.shop." in str(caught.value) and caught.value.problems[0].code == "duplicate-vni"
    with pytest.raises(ModelError, match=r"vpcs\.shop\.routers\.r2"):
        committed(truth, PutObject("shop", "networks", "x", Network(vni=9001)))
    committed(truth, PutObject("shop", "routers", "r2", None), PutObject("shop", "networks", "x", Network(vni=9001)))
    assert truth.vnis[9001] == "shop"
    truth.quarantine.confirmed("h1", "shop", truth.vpcs["shop"].live.revision)
    committed(truth, PutObject("club", "routers", "r2", Router()))
    assert truth.vpcs["club"].live.routers["r2"].vni == mine, "confirmed, it is given again"
    plan_request(truth, Request((PutObject("club", "routers", "r3", Router()),), "me"), "t").abandon()
    committed(truth, PutObject("club", "routers", "r4", Router()))
    assert truth.vpcs["club"].live.routers["r4"].vni == FIRST_VNI + 3, "what came to nothing is given back"


def test_what_a_router_joins_or_leads_to_is_in_use() -> None:
    truth = Truth("controller")
    committed(truth, *START, PutObject("shop", "ports", "p1", Port(network="n", host="h1")))
    committed(
        truth, PutObject("shop", "routers", "r1", R1), PutObject("shop", "routers", "r2", Router(networks=("m",)))
    )
    for kind, name, referrers in (
        ("ports", "p1", ("routers.r1.routes[0]",)),
        ("networks", "n", ("ports.p1", "routers.r1")),
        ("networks", "m", ("routers.r2",)),
    ):
        with pytest.raises(InUseError) as caught:
            committed(truth, PutObject("shop", kind, name, None))  # type: ignore[arg-type]
        assert caught.value.referrers == referrers
    unknown = Router(networks=("n",), routes=(Route(to="10.50.0.0/16", via=NextHop(port="p2")),))
    with pytest.raises(ModelError, match="use one of: p1"):
        committed(truth, PutObject("shop", "routers", "r1", unknown))
    both = (PutObject("shop", "routers", "r2", None), PutObject("shop", "networks", "m", None))
    committed(truth, *both)
    assert truth.vpcs["shop"].live.networks.keys() == {"n", "o"}
