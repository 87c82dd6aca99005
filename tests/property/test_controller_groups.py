"""A controller looks at what a change touches; it takes what is right as a whole, and nothing else."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest

from ovsnet.controller.planning import plan_request
from ovsnet.controller.requests import Edit, EnsureVpc, PutHost, PutObject, Request
from ovsnet.controller.truth import Truth
from ovsnet.errors import ModelError
from ovsnet.model import (
    Host,
    Network,
    Port,
    Remote,
    RemoteEndpoint,
    Rule,
    SecurityGroup,
    Subnet,
    VpcState,
    canonical_state,
    derive_mac,
    port_id,
)
from ovsnet.transport.changes import Patch, patched
from ovsnet.transport.view import ConflictError

NAMES = ["a", "b", "c", "default"]
MANY = {f"g{number}": SecurityGroup() for number in range(70)}


def port(rng: random.Random, name: str) -> Port:
    ident = port_id("shop", name)
    number = int(name[1:])
    groups = rng.choice([None, (), *[tuple(rng.choices(NAMES, k=rng.choice([1, 1, 2])))] * 4])
    return Port(
        network="n",
        host=rng.choice(["h1", None]),
        id=ident,
        mac=derive_mac(ident),
        ips=(f"10.1.0.{number + 10}",),
        security_groups=groups,
        port_security=rng.random() < 0.95,
    )


def group(rng: random.Random) -> SecurityGroup:
    remotes = [Remote(group=rng.choice(NAMES)), Remote(address_group=rng.choice(["x", "y"])), Remote(cidr="10.0.0.1")]
    rules = [Rule(direction="ingress", remote=rng.choice(remotes)) for _ in range(rng.randint(0, 2))]
    if rng.random() < 0.4:
        first = rng.choice([0, 30])
        rules += [Rule(direction="egress", remote=Remote(group=f"g{number}")) for number in range(first, first + 40)]
    return SecurityGroup(rules=tuple(rules), stateful=rng.random() < 0.7)


def endpoint(rng: random.Random) -> RemoteEndpoint:
    return RemoteEndpoint(network="n", mac="02:00:00:00:09:09", vtep="10.0.0.99", groups=rng.choice([(), ("a",)]))


def changes(rng: random.Random) -> dict[tuple[str, str], Any]:
    """One to three objects that come, change or go."""
    found: dict[tuple[str, str], Any] = {}
    for _ in range(rng.randint(1, 3)):
        kind = rng.choice(["ports", "ports", "security_groups", "security_groups", "address_groups", "endpoints"])
        if kind == "ports":
            name = f"p{rng.randint(1, 6)}"
            found[kind, name] = rng.choice([port(rng, name), port(rng, name), None])
        elif kind == "security_groups":
            found[kind, rng.choice(NAMES)] = rng.choice([group(rng), group(rng), None])
        elif kind == "address_groups":
            found[kind, rng.choice(["x", "y"])] = rng.choice([("10.0.0.1",), ("10.0.0.1/8",), None])
        else:
            found[kind, "far"] = rng.choice([endpoint(rng), None])
    return found


def judged(before: VpcState, wanted: dict[tuple[str, str], Any]) -> VpcState | None:
    """The state afterwards by the checks of whole states, ``None`` if it is wrong."""
    objects: dict[str, dict[str, Any]] = {}
    for (kind, name), body in wanted.items():
        objects.setdefault(kind, {})[name] = body
    hosts: dict[str, str | None] = {"h1": "10.0.0.1"}
    patch = Patch(vpc="shop", previous=before.revision, revision=before.revision + 1, hosts=hosts, **objects)
    try:
        return canonical_state(patched(before, patch))
    except ModelError:
        return None


def unplaced(state: VpcState) -> VpcState:
    """The state without what a controller does itself: revisions, hosts, and the count of placements."""
    ports = {name: msgspec.structs.replace(one, epoch=0) for name, one in state.ports.items()}
    endpoints = {name: msgspec.structs.replace(one, epoch=0) for name, one in state.endpoints.items()}
    return msgspec.structs.replace(state, revision=0, hosts={}, ports=ports, endpoints=endpoints)


def committed(truth: Truth, *edits: Edit) -> None:
    plan = plan_request(truth, Request(edits, "me"), "t")
    truth.apply(plan, 0.0)


@pytest.mark.parametrize("seed", range(40))
def test_a_change_is_judged_as_the_whole_vpc(seed: int) -> None:
    rng = random.Random(seed)
    truth = Truth("controller")
    network = Network(vni=5001, subnets=(Subnet(cidr="10.1.0.0/24"),))
    many = [PutObject("shop", "security_groups", name, one) for name, one in MANY.items()]
    committed(truth, PutHost("h1", Host(vtep="10.0.0.1")), EnsureVpc("shop"), *many)
    committed(truth, PutObject("shop", "networks", "n", network))
    taken = refused = 0
    for _ in range(60):
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
            after = truth.vpcs["shop"].snapshot()
            assert expected is not None, wanted
            assert unplaced(after) == unplaced(expected)
            taken += 1
    assert taken > 5 and refused > 5
