"""The compiler's laws, over random models and random changes: the way to a state never shows in the result."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ovsnet.compiler import HostCompiler, compile_states
from ovsnet.desired import Desired, Subject
from ovsnet.facts import Facts
from ovsnet.model import Model, Port, VpcState
from ovsnet.numbers import Numbers
from ovsnet.transport.changes import COLLECTIONS
from tests.property.strategies import HOST_NAMES, models
from tests.property.world import endpoints_of, places, states_of

HOST = HOST_NAMES[0]
ROUNDS = settings(max_examples=60, deadline=None)


@st.composite
def facts(draw: st.DrawFn, model: Model) -> Facts:
    """Some of the host's ports plugged, in any order; with or without a tunnel port, either kind of datapath."""
    mine = [port.id for _, at, _, port in places(model) if at == HOST]
    numbers = draw(st.permutations(range(2, len(mine) + 2)))
    plugged = {iface: n for iface, n in zip(mine, numbers, strict=True) if draw(st.integers(0, 3))}
    down = frozenset(vpc for vpc in model.vpcs if not draw(st.integers(0, 3)))
    zones = {iface: n + 100 for iface, n in plugged.items() if draw(st.integers(0, 9))}
    return Facts(plugged, draw(st.sampled_from((1, 1, 1, None, 99))), draw(st.booleans()), down, zones)


@st.composite
def situations(draw: st.DrawFn, routed: bool = False) -> tuple[Model, Facts]:
    model = draw(models(routers=routed or draw(st.booleans())))
    return model, draw(facts(model))


def feed(compiler: HostCompiler, model: Model, seen: Facts) -> None:
    states = states_of(model, HOST)
    for name in set(compiler.vpcs) - set(states):
        compiler.drop_vpc(name)
    compiler.set_facts(seen)
    for state in states.values():
        compiler.put_vpc(state)


def together(state: VpcState, network: str) -> tuple[str, ...]:
    """The networks of a routed domain."""
    return next((one.networks for one in state.routers.values() if network in one.networks), (network,))


def full(model: Model, seen: Facts, numbers: Numbers | None = None) -> Desired:
    """Everything compiled at once, with the numbers that an agent would have kept."""
    kept = Numbers.restore(numbers.snapshot()) if numbers is not None else None
    return compile_states(states_of(model, HOST).values(), HOST, seen, kept)


def shape(desired: Desired) -> Counter[tuple[str, Subject]]:
    """The flows but for their numbers."""
    return Counter((flow.row.template.name, flow.subject) for flow in desired)


@ROUNDS
@given(st.lists(situations(), min_size=2, max_size=4))
def test_incremental_equals_full(sequence: list[tuple[Model, Facts]]) -> None:
    compiler, mirror, told = HostCompiler(HOST), {}, {}
    for model, seen in sequence:
        feed(compiler, model, seen)
        delta = compiler.update()
        for flow in delta.remove:
            del mirror[flow.row.key]
        mirror.update((flow.row.key, flow.row) for flow in delta.add)
        told = {port: lease for port, lease in {**told, **delta.leases}.items() if lease is not None}
        assert compiler.desired == full(model, seen, compiler.numbers)
        assert told == compiler.desired.leases
        assert mirror == {flow.row.key: flow.row for flow in compiler.desired}


@ROUNDS
@given(situations(), st.randoms(use_true_random=False))
def test_single_changes_add_up(situation: tuple[Model, Facts], order: random.Random) -> None:
    """Networks, hosts and ports one by one, in any order, some of them withdrawn and put again: the same flows."""
    model, seen = situation
    compiler = HostCompiler(HOST)
    steps = []
    for name, state in states_of(model, HOST).items():
        for kind in (*COLLECTIONS, "routers"):
            steps += [(name, kind, key, value) for key, value in getattr(state, kind).items()]
    hosts_first = sorted(steps, key=lambda step: (step[1] != "hosts", order.random()))
    compiler.set_facts(seen)
    for name, kind, key, value in hosts_first:
        compiler.patch_vpc(name, **{kind: {key: value}})
        if order.random() < 0.5:
            compiler.update()
        if kind in {"ports", "endpoints", "routers", "security_groups", "address_groups"} and order.random() < 0.3:
            compiler.patch_vpc(name, **{kind: {key: None}})
            compiler.update()
            compiler.patch_vpc(name, **{kind: {key: value}})
    compiler.update()
    assert compiler.desired == full(model, seen, compiler.numbers)


@ROUNDS
@given(situations(routed=True))
def test_routers_change_alone(situation: tuple[Model, Facts]) -> None:
    """A router without its routes, without its networks, and gone; a port here gone: each time the flows of that."""
    model, seen = situation
    states = states_of(model, HOST)
    compiler = HostCompiler(HOST)
    feed(compiler, model, seen)
    compiler.update()
    steps: list[tuple[str, str, str, Any, Any]] = []
    for state in states.values():
        for name, router in state.routers.items():
            for other in (replace(router, routes=()), replace(router, networks=(), routes=()), None):
                steps.append((state.name, "routers", name, other, router))
        steps += [(state.name, "ports", name, None, port) for name, port in state.ports.items() if HOST in port.hosts]
    for vpc, kind, name, other, declared in steps:
        compiler.patch_vpc(vpc, **{kind: {name: other}})
        compiler.update()
        kept = {key: one for key, one in getattr(states[vpc], kind).items() if key != name}
        changed = replace(states[vpc], **{kind: kept | ({} if other is None else {name: other})})
        numbers = Numbers.restore(compiler.numbers.snapshot())
        assert compiler.desired == compile_states({**states, vpc: changed}.values(), HOST, seen, numbers)
        compiler.patch_vpc(vpc, **{kind: {name: declared}})
        compiler.update()
    assert compiler.desired == full(model, seen, compiler.numbers)


@ROUNDS
@given(situations(), situations())
def test_there_and_back(one: tuple[Model, Facts], other: tuple[Model, Facts]) -> None:
    compiler = HostCompiler(HOST)
    feed(compiler, *one)
    forth = compiler.update()
    feed(compiler, *other)
    compiler.update()
    feed(compiler, *one)
    compiler.update()
    assert compiler.desired == full(*one, compiler.numbers)
    assert shape(Desired(forth.add)) == shape(compiler.desired)


@ROUNDS
@given(situations())
def test_a_change_costs_what_it_touches(situation: tuple[Model, Facts]) -> None:
    """A port elsewhere that changes its address changes only flows that stem from that port."""
    model, seen = situation
    states = states_of(model, HOST)
    compiler = HostCompiler(HOST)
    feed(compiler, model, seen)
    compiler.update()
    for state in states.values():
        for name, port in state.ports.items():
            changed = Port(**{key: getattr(port, key) for key in port.__struct_fields__} | {"ips": ("10.9.9.9",)})
            compiler.patch_vpc(state.name, ports={name: changed})
            delta = compiler.update()
            mine = {*(port.ips or ()), "10.9.9.9"}
            borrowers = {
                other for other, nic in state.ports.items() for allowed in nic.allowed_addresses
                if nic.network in together(state, port.network) and allowed.ip.split("/")[0] in mine
            }  # fmt: skip
            over = {
                router for router, one in state.routers.items() for route in one.routes
                if any(hop.port == name or hop.ip in mine for hop in route.hops)
            }  # fmt: skip
            assert {flow.subject.name for flow in (*delta.add, *delta.remove)} <= {name, *borrowers, *over}
            assert not compiler.update()
            compiler.patch_vpc(state.name, ports={name: port})
            compiler.update()


@ROUNDS
@given(situations())
def test_only_what_concerns_the_host(situation: tuple[Model, Facts]) -> None:
    model, seen = situation
    states = states_of(model, HOST)
    here = {
        (vpc, network) for vpc, at, _, port in places(model) if at == HOST
        for network in together(states[vpc], port.network)
    }  # fmt: skip
    for flow in full(model, seen):
        if flow.subject.kind == "port":
            port = model.vpcs[flow.subject.vpc].ports[flow.subject.name]
            assert (flow.subject.vpc, port.network) in here
            assert port.host is not None
        if flow.subject.kind == "endpoint":
            neighbour = endpoints_of(model)[flow.subject.vpc][flow.subject.name]
            assert (flow.subject.vpc, neighbour.network) in here


@ROUNDS
@given(models())
def test_what_is_kept_down_neither_sends_nor_gets(model: Model) -> None:
    """While a VPC waits to be confirmed, the flows are those of a host without its ports plugged in."""
    plugged = {port.id: n for n, (_, at, _, port) in enumerate(places(model), 2) if at == HOST}
    for vpc, has in model.vpcs.items():
        seen = Facts(plugged, 1, True, frozenset({vpc}))
        unplugged = {iface: n for iface, n in plugged.items() if all(p.id != iface for p in has.ports.values())}
        assert full(model, seen) == full(model, Facts(unplugged, 1))
