"""Who hears of a transaction, and what: held to what each host would hold if it did as it is told."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ovsnet.model.types import Network, Port, VpcState
from ovsnet.transport.catchup import Head, Lacks, lacks
from ovsnet.transport.changes import Patch, PatchBody, Put, Withdraw, patched
from ovsnet.transport.digest import COLLECTIONS, digest_text, patched_sum, state_sum
from ovsnet.transport.fanout import VpcChange, fan_out
from ovsnet.transport.operations import operations_of

NET = {"web": Network(vni=5001)}


def port(host: str | None) -> Port:
    return Port(network="web", host=host, mac="02:00:00:00:00:01", ips=(), id="6c1f2b9e-0d5a-4f6e-9a57-0c8f8f0e7f11")


def state(name: str, revision: int, hosts: dict[str, str]) -> VpcState:
    """A state with a port for each entry: port name -> host."""
    ports = {one: port(host) for one, host in hosts.items()}
    return VpcState(name=name, revision=revision, owner="controller", networks=NET, ports=ports)


def held_after(held: dict[str, VpcState], items: object) -> dict[str, VpcState]:
    """What a host holds after it did as it was told."""
    held = dict(held)
    for operation in operations_of(items):  # type: ignore[arg-type]
        if isinstance(operation, Put):
            held[operation.vpc] = operation.state
        elif isinstance(operation, Withdraw):
            assert operation.revision is not None
            del held[operation.vpc]
        else:
            assert held[operation.vpc].revision == operation.previous
            held[operation.vpc] = patched(held[operation.vpc], operation)
    return held


def hosts_of(one: VpcState | None) -> set[str]:
    return set() if one is None else {port.host for port in one.ports.values() if port.host is not None}


placements = st.one_of(
    st.none(), st.dictionaries(st.sampled_from("abc"), st.sampled_from(["hv1", "hv2", "hv3"]), max_size=3)
)


@given(st.dictionaries(st.sampled_from(["red", "blue", "green"]), st.tuples(placements, placements), min_size=1))
def test_every_host_holds_what_concerns_it_and_nothing_else(vpcs: dict[str, tuple[dict, dict]]) -> None:
    before = {name: state(name, 4, pair[0]) for name, pair in vpcs.items() if pair[0] is not None}
    after = {name: state(name, 5, pair[1]) for name, pair in vpcs.items() if pair[1] is not None}
    changes = []
    for name in before.keys() | after.keys():
        old, new = before.get(name), after.get(name)
        patch = None
        if old is not None and new is not None:
            gone = {one: None for one in old.ports if one not in new.ports}
            patch = Patch(vpc=name, previous=4, revision=5, ports=gone | new.ports)
        changes.append(VpcChange(name, 5, patch, new, hosts_of(old), hosts_of(new)))
    told = fan_out("t1", changes)
    assert len({host for _, hosts in told for host in hosts}) == sum(len(hosts) for _, hosts in told)
    messages = {host: message for message, hosts in told for host in hosts}
    for host in ("hv1", "hv2", "hv3"):
        held = {name: one for name, one in before.items() if host in hosts_of(one)}
        wanted = {name: one for name, one in after.items() if host in hosts_of(one)}
        items = messages[host].items if host in messages else ()
        assert held_after(held, items) == wanted
        assert (host in messages) == bool(held.keys() & before.keys() or wanted)
        if host in messages:
            assert messages[host].revisions.keys() == held.keys() | wanted.keys()


def test_the_hosts_that_are_told_the_same_share_one_message() -> None:
    hosts = {f"hv{number}" for number in range(100)}
    patch = Patch(vpc="red", previous=4, revision=5)
    change = VpcChange("red", 5, patch, state("red", 5, {}), hosts, hosts | {"new"})
    messages = fan_out("t1", [change])
    assert sorted(len(group) for _, group in messages) == [1, 100]
    big = next(message for message, group in messages if len(group) == 100)
    assert big.body == big.body and b'"op":"patch"' in big.body and big.body is big.body


def test_a_digest_follows_changes_and_tells_contents_apart() -> None:
    before = state("red", 4, {"a": "hv1", "b": "hv2"})
    patch = PatchBody(previous=4, revision=5, ports={"a": None, "c": port("hv3")}, hosts={"hv3": "10.0.0.3"})
    after = patched(before, patch)
    assert patched_sum(state_sum(before), before, patch) == state_sum(after)
    sums = {state_sum(one) for one in (before, after, state("red", 4, {"b": "hv1", "a": "hv2"}), state("red", 4, {}))}
    assert len(sums) == 4
    assert digest_text(0) == "0" * 32
    assert set(COLLECTIONS) <= set(VpcState.__struct_fields__)
    assert set(COLLECTIONS) <= set(PatchBody.__struct_fields__)


def test_what_a_host_lacks() -> None:
    wanted = {
        "same": Head(3, "a"),
        "old": Head(3, "b"),
        "new": Head(1, "c"),
        "later": Head(3, "d"),
        "other": Head(3, "e"),
    }
    held = {
        "same": Head(3, "a"),
        "old": Head(2, "x"),
        "later": Head(7, "d"),
        "other": Head(3, "z"),
        "gone": Head(9, "q"),
    }
    assert lacks(wanted, held) == Lacks(("old", "new", "later", "other"), ("gone",), {"later": 7, "other": 3})
    assert not lacks(wanted, wanted)
