"""The incremental checks of changes: a patch is judged as the whole state would be."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec
import pytest

from ovsnet.errors import ModelError
from ovsnet.model import (
    Network,
    Port,
    Remote,
    RemoteEndpoint,
    Rule,
    SecurityGroup,
    Subnet,
    VpcState,
    canonical_state,
    check_states,
)
from ovsnet.transport.changes import Patch, Put, Withdraw, patched
from ovsnet.transport.view import ConflictError, HostView
from tests.agent_kit import HOSTS, port, state

PORTS = range(1, 9)


def random_patch(rng: random.Random, before: VpcState) -> Patch:
    """A change that is right or wrong: addresses collide, ports move, networks and hosts come and go."""
    ports: dict[str, Port | None] = {}
    for _ in range(rng.randint(0, 3)):
        number = rng.choice(PORTS)
        made = port("shop", rng.choice(PORTS), rng.choice(["hv1", "hv2", "hv4", None]), rng.choice(["n", "m", "x"]))
        own = port("shop", number)
        made = rng.choice(
            [made, own, msgspec.structs.replace(own, ips=made.ips), msgspec.structs.replace(own, id=made.id)]
        )
        moving = msgspec.structs.replace(made, moving_to=rng.choice(["hv1", "hv2", "hv3", "hv4"]))
        ports[f"p{number}"] = rng.choice([made, made, made, moving, None])
    endpoints: dict[str, RemoteEndpoint | None] = {}
    if rng.random() < 0.4:
        endpoints[rng.choice(["e1", "e2", "p1"])] = rng.choice([endpoint(rng), endpoint(rng), None])
    networks: dict[str, Network | None] = {}
    if rng.random() < 0.15:
        name = rng.choice(["n", "m"])
        fresh = Network(vni=rng.choice([5001, 5002, 6001]), subnets=(Subnet(cidr="10.1.0.0/16"),))
        networks[name] = rng.choice([fresh, fresh, None])
    hosts: dict[str, str | None] = {}
    if rng.random() < 0.15:
        hosts[rng.choice(["hv3", "hv4"])] = rng.choice(["10.0.0.13", "10.0.0.14", "10.0.0.12", "2001:db8::1", None])
    return Patch(
        vpc="shop",
        previous=before.revision,
        revision=before.revision + 1,
        ports=ports,
        networks=networks,
        endpoints=endpoints,
        hosts=hosts,
    )


def endpoint(rng: random.Random) -> RemoteEndpoint:
    """A neighbour with the MAC and the address of some port, behind a VTEP that is mostly nobody's."""
    like = port("shop", rng.choice(PORTS), None, rng.choice(["n", "n", "m", "x"]))
    vtep = rng.choice(["10.0.0.19", "10.0.0.20", "10.0.0.14", "10.0.0.12", "2001:DB8::1", "2001:db8::9"])
    return RemoteEndpoint(network=like.network, mac=like.mac or "", ips=like.ips or (), vtep=vtep)


GROUPS = ["a", "b", "c", "default"]


def random_groups(rng: random.Random, patch: Patch) -> Patch:
    """The change with groups: of its ports, and groups that come, go, lose state or name each other."""
    ports = {
        name: made
        and msgspec.structs.replace(made, security_groups=some_groups(rng), port_security=rng.random() < 0.95)
        for name, made in patch.ports.items()
    }
    endpoints = {
        name: one and msgspec.structs.replace(one, groups=some_groups(rng) or ())
        for name, one in patch.endpoints.items()
    }
    groups: dict[str, SecurityGroup | None] = {}
    for _ in range(rng.choice([0, 0, 1, 2])):
        groups[rng.choice(GROUPS)] = rng.choice([group(rng), group(rng), group(rng), None])
    ranges: dict[str, tuple[str, ...] | None] = {}
    if rng.random() < 0.3:
        ranges[rng.choice(["x", "y"])] = rng.choice(
            [("10.0.0.0/8",), ("2001:DB8::1", "10.0.0.1"), ("10.0.0.1/8",), None]
        )
    return msgspec.structs.replace(
        patch, ports=ports, endpoints=endpoints, security_groups=groups, address_groups=ranges
    )


def some_groups(rng: random.Random) -> tuple[str, ...] | None:
    return rng.choice([None, (), *[tuple(rng.choices(GROUPS, k=rng.choice([1, 1, 2])))] * 4])


def group(rng: random.Random) -> SecurityGroup:
    """A group; now and then it names what is not there, or, with another, more groups than a port may name."""
    remotes = [Remote(group=rng.choice(GROUPS)), Remote(address_group=rng.choice(["x", "y"])), Remote(cidr="10.0.0.1")]
    rules = [Rule(direction="ingress", remote=rng.choice(remotes)) for _ in range(rng.randint(0, 2))]
    if rng.random() < 0.3:
        first = rng.choice([0, 30])
        rules += [Rule(direction="egress", remote=Remote(group=f"g{number}")) for number in range(first, first + 40)]
    return SecurityGroup(rules=tuple(rules), stateful=rng.random() < 0.8)


def judged(states: dict[str, VpcState], patch: Patch) -> VpcState | None:
    """The state afterwards by the checks of whole states, ``None`` if it is refused."""
    try:
        after = canonical_state(patched(states["shop"], patch), "hv1")
    except ModelError:
        return None
    return None if check_states(states | {"shop": after}) else after


@pytest.mark.parametrize("seed", range(60))
def test_patch_is_judged_as_the_whole_state(seed: int) -> None:
    rng = random.Random(seed)
    states = {"shop": state(local=2, remote=2), "club": state("club", vni=6001)}
    follow(rng, states, lambda: random_patch(rng, states["shop"]))


@pytest.mark.parametrize("seed", range(60))
def test_patch_of_groups_is_judged_as_the_whole_state(seed: int) -> None:
    rng = random.Random(seed)
    many = {f"g{number}": SecurityGroup() for number in range(70)}
    shop = msgspec.structs.replace(state(local=2, remote=2), security_groups=many)
    states = {"shop": shop, "club": state("club", vni=6001)}
    follow(rng, states, lambda: random_groups(rng, random_patch(rng, states["shop"])))


def follow(rng: random.Random, states: dict[str, VpcState], make: Callable[[], Patch]) -> None:
    """Sixty changes, each judged by a view and as the whole state."""
    view = HostView("hv1", states)
    taken = refused = 0
    for _ in range(60):
        patch = make()
        expected = judged(states, patch)
        try:
            change = view.check([patch])
        except ModelError:
            assert expected is None, patch
            refused += 1
        else:
            assert expected is not None, patch
            assert change.states["shop"] == expected
            view.commit(change)
            states["shop"] = expected
            taken += 1
        assert view.states == states
        moving = {(v, n) for v, one in states.items() for n, p in one.ports.items() if p.moving_to == "hv1"}
        assert view.arriving == moving
        for vpc, one in states.items():
            for name, declared in one.ports.items():
                assert view.port_of(declared.id) == (vpc, name)
    assert taken > 5 and refused > 5


def test_check_changes_nothing() -> None:
    view = HostView("hv1", {"shop": state()})
    view.check([Withdraw("shop"), Put(state("club")), Put(state("shop", 9, vni=7))])
    assert view.states == {"shop": state()}
    assert view.port_of(port("club", 1).id) is None


def test_operations_of_one_request_follow_each_other() -> None:
    view = HostView("hv1", {})
    first = Patch(vpc="shop", previous=1, revision=2, ports={"p2": None})
    second = Patch(vpc="shop", previous=2, revision=3, ports={"p8": port("shop", 2, "hv3")})
    change = view.check([Put(state()), first, second])
    view.commit(change)
    assert view.states["shop"].revision == 3
    assert view.port_of(port("shop", 2).id) == ("shop", "p8")
    with pytest.raises(ConflictError) as caught:
        view.check([Withdraw("shop"), first])
    assert caught.value.code == "unknown-vpc"
    again = view.check([Withdraw("shop"), Put(state(revision=1))])
    view.commit(again)
    assert view.states["shop"] == state(revision=1), "after its withdrawal a VPC may begin anew"


def test_state_is_kept_in_canonical_form() -> None:
    view = HostView("hv1", {})
    loud = msgspec.structs.replace(
        state(), ports={"p1": msgspec.structs.replace(port("shop", 1), mac="02-00-00-00-00-01")}
    )
    view.commit(view.check([Put(loud)]))
    assert view.states["shop"].ports["p1"].mac == "02:00:00:00:00:01"
    shout = msgspec.structs.replace(port("shop", 1), mac="02:00:00:00:00:AA")
    change = view.check([Patch(vpc="shop", previous=1, revision=2, ports={"p1": shout}, hosts={"hv9": "10.0.0.99"})])
    view.commit(change)
    assert view.states["shop"].ports["p1"].mac == "02:00:00:00:00:aa"
    assert view.states["shop"].hosts == HOSTS | {"hv9": "10.0.0.99"}


def placed(host: str, epoch: int, revision: int) -> VpcState:
    """A state in which p1 and an endpoint have been placed ``epoch`` times."""
    whole = state(revision=revision)
    ports = whole.ports | {"p1": msgspec.structs.replace(whole.ports["p1"], host=host, epoch=epoch)}
    far = RemoteEndpoint(network="n", mac="02:00:00:00:09:09", vtep="10.0.0.99", epoch=epoch)
    return msgspec.structs.replace(whole, ports=ports, endpoints={"far": far})


def test_a_placement_older_than_the_one_held_is_refused() -> None:
    view = HostView("hv1", {"shop": placed("hv1", 4, 7)})
    late = placed("hv2", 3, 8)
    for operation in (
        Put(late),
        Patch(vpc="shop", previous=7, revision=8, ports={"p1": late.ports["p1"]}),
        Patch(vpc="shop", previous=7, revision=8, endpoints=dict(late.endpoints)),
    ):
        with pytest.raises(ConflictError) as caught:
            view.check([operation])
        assert (caught.value.code, caught.value.current) == ("stale-epoch", 7)
        assert "epoch 3" in str(caught.value) and "older than 4" in str(caught.value)
    other = msgspec.structs.replace(late.ports["p1"], id="6c1f2b9e-0d5a-4f6e-9a57-0c8f8f0e7f11")
    assert view.check([Patch(vpc="shop", previous=7, revision=8, ports={"p1": other})]).operations, "another port"
    assert view.check([Put(placed("hv2", 4, 8))]).operations, "a correction within one placement"
    assert view.check([Withdraw("shop"), Put(late)]).operations, "a source that begins anew says so"


def test_an_old_revision_with_an_old_epoch_is_an_old_revision() -> None:
    view = HostView("hv1", {"shop": placed("hv1", 4, 7)})
    with pytest.raises(ConflictError) as caught:
        view.check([Put(placed("hv2", 3, 6))])
    assert caught.value.code == "stale-revision"


def test_a_withdrawal_that_is_late_undoes_nothing_newer() -> None:
    view = HostView("hv1", {"shop": state(revision=5)})
    assert not view.check([Withdraw("shop", 4)]).operations
    for operation in (Withdraw("shop", 5), Withdraw("shop", 9), Withdraw("shop")):
        assert view.check([operation]).states == {"shop": None}
