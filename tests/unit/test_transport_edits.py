"""Edits of single objects: patches of what is held, idempotent, refused where others refer to what should go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsnet.errors import UserError
from ovsnet.model import Network, Subnet, VpcState, derive_mac, port_id
from ovsnet.model.types import Port, RemoteEndpoint
from ovsnet.transport import edits, moves
from ovsnet.transport.changes import Patch, PatchBody, Put, patched
from ovsnet.transport.edits import InUseError, PreconditionError, UnknownObjectError
from ovsnet.transport.view import ConflictError, check_owner
from ovsnet.transport.workloads import Nic, Workload, delete_workload, put_workload, workload_of
from tests.agent_kit import port, state


def body(value: Any) -> bytes:
    return msgspec.json.encode(value)


def after(one: VpcState, patch: PatchBody | None) -> VpcState:
    return one if patch is None else patched(one, patch)


def test_put_of_a_network_creates_changes_and_then_does_nothing() -> None:
    empty = edits.new_vpc("shop", "me")
    patch = edits.put(empty, "networks", "n", b'{"vni": 7, "subnets": [{"cidr": "10.1.0.0/16"}]}')
    assert patch is not None and (patch.previous, patch.revision) == (0, 1)
    held = after(empty, patch)
    assert held.networks["n"] == Network(vni=7, subnets=(Subnet(cidr="10.1.0.0/16"),))
    assert edits.put(held, "networks", "n", b'{"vni": 7}') is None, "what is left out stays"
    changed = after(held, edits.put(held, "networks", "n", b'{"description": "web"}'))
    assert changed.networks["n"].vni == 7
    assert changed.networks["n"].description == "web"


def test_put_of_a_port_fills_in_what_follows_from_its_name() -> None:
    held = state()
    patch = edits.put(held, "ports", "p9", b'{"network": "n", "host": "hv2", "ips": ["10.1.0.99"]}')
    assert patch is not None
    new = patch.ports["p9"]
    assert new is not None
    assert new.id == port_id("shop", "p9")
    assert new.mac == derive_mac(new.id)
    assert (
        edits.put(after(held, patch), "ports", "p9", b'{"network": "n", "host": "hv2", "ips": ["10.1.0.99"]}') is None
    )


@pytest.mark.parametrize(
    ("given_body", "epoch"),
    [({"host": "hv2"}, 4), ({"host": "hv3"}, 5), ({"host": "hv3", "epoch": 9}, 9), ({"host": "hv2", "epoch": 2}, 2)],
)
def test_a_port_keeps_its_epoch_and_gets_the_next_one_with_another_host(given_body: dict[str, Any], epoch: int) -> None:
    held = state()
    ports = held.ports | {"p2": msgspec.structs.replace(held.ports["p2"], epoch=4)}
    held = msgspec.structs.replace(held, ports=ports)
    wanted = {"network": "n", "ips": ["10.1.0.4"], **given_body}
    assert after(held, edits.put(held, "ports", "p2", body(wanted))).ports["p2"].epoch == epoch


def test_subnets_are_objects_by_network_and_range() -> None:
    held = state()
    assert edits.collection(held, "subnets") == {"n:10.1.0.0-16": Subnet(cidr="10.1.0.0/16")}
    grown = after(held, edits.put(held, "subnets", "n:2001:db8::-64", b'{"gateway": "2001:db8::1"}'))
    assert edits.find(grown, "subnets", "n:2001:DB8:0::-64") == Subnet(cidr="2001:db8::/64", gateway="2001:db8::1")
    assert (
        edits.put(grown, "subnets", "n:2001:db8::-64", b'{"cidr": "2001:db8::/64", "gateway": "2001:db8::1"}') is None
    )
    assert after(grown, edits.delete(grown, "subnets", "n:2001:db8::-64")).networks == held.networks
    assert edits.delete(held, "subnets", "n:10.9.0.0-16") is None
    with pytest.raises(InUseError) as caught:
        edits.delete(grown, "subnets", "n:10.1.0.0-16")
    assert caught.value.referrers == ("ports.p1", "ports.p2")
    with pytest.raises(UnknownObjectError, match="no network m"):
        edits.put(held, "subnets", "m:10.1.0.0-16", b"{}")
    with pytest.raises(UserError, match=r"10\.1\.0\.0/16"):
        edits.put(held, "subnets", "n:10.1.0.0-16", b'{"cidr": "10.2.0.0/16"}')


def test_a_network_in_use_names_who_uses_it() -> None:
    endpoint = RemoteEndpoint(network="n", mac="02:00:00:00:09:09", vtep="10.0.0.99")
    held = msgspec.structs.replace(state(), endpoints={"e": endpoint})
    with pytest.raises(InUseError) as caught:
        edits.delete(held, "networks", "n")
    assert caught.value.referrers == ("endpoints.e", "ports.p1", "ports.p2")
    assert caught.value.code == "in-use"
    for kind, name in (("ports", "p1"), ("ports", "p2"), ("endpoints", "e")):
        held = after(held, edits.delete(held, kind, name))  # type: ignore[arg-type]
    assert after(held, edits.delete(held, "networks", "n")).networks == {}
    assert edits.delete(held, "networks", "nowhere") is None


def test_endpoints_count_their_placements() -> None:
    held = state()
    told = {"network": "n", "mac": "02:00:00:00:09:09", "vtep": "10.0.0.99"}
    held = after(held, edits.put(held, "endpoints", "e", body(told)))
    assert edits.put(held, "endpoints", "e", body(told)) is None
    held = after(held, edits.put(held, "endpoints", "e", body(told | {"vtep": "10.0.0.98"})))
    assert held.endpoints["e"].epoch == 1


def test_what_is_not_there_and_what_is_refused() -> None:
    with pytest.raises(UnknownObjectError) as missing:
        edits.find(state(), "ports", "p9")
    assert missing.value.code == "unknown-port"
    with pytest.raises(PreconditionError, match="revision 1 is held"):
        edits.check_revision(state(), "shop", 2)
    edits.check_revision(state(), "shop", 1)
    with pytest.raises(ConflictError, match="belongs to tests, not to me"):
        check_owner(state(), "me", adopt=False)
    check_owner(state(), "me", adopt=True)


def test_an_edit_is_a_patch_or_a_whole_state_where_the_owner_changes() -> None:
    held = state()
    patch = edits.delete(held, "ports", "p1")
    assert patch is not None
    assert isinstance(edits.operation(held, patch, "shop", "tests"), Patch)
    adopted = edits.operation(held, patch, "shop", "me")
    assert isinstance(adopted, Put)
    assert (adopted.state.owner, adopted.state.revision, list(adopted.state.ports)) == ("me", 2, ["p2"])


def test_known_vteps_are_added_for_new_hosts_only() -> None:
    held = msgspec.structs.replace(state(), hosts={"hv1": "10.0.0.11", "hv2": "10.0.0.12"})
    patch = edits.change(held, ports={"p8": port("shop", 8, "hv2"), "p9": port("shop", 9, "hv7")})
    done = edits.with_vteps(held, patch, {"hv2": "10.0.0.99", "hv7": "10.0.0.17", "hv8": "10.0.0.18"})
    assert done is not None
    assert done.hosts == {"hv7": "10.0.0.17"}


def test_a_migration_step_by_step() -> None:
    held = state()
    moving = after(held, moves.prepare(held, "p1", "hv2"))
    assert (moving.ports["p1"].host, moving.ports["p1"].moving_to, moving.ports["p1"].epoch) == ("hv1", "hv2", 0)
    assert moves.prepare(moving, "p1", "hv2") is None
    with pytest.raises(ConflictError) as elsewhere:
        moves.prepare(moving, "p1", "hv3")
    assert elsewhere.value.code == "moving-elsewhere"
    assert after(moving, moves.release(moving, "p1")).ports == held.ports
    done = after(moving, moves.activate(moving, "p1", "hv2"))
    assert (done.ports["p1"].host, done.ports["p1"].moving_to, done.ports["p1"].epoch) == ("hv2", None, 1)
    assert moves.activate(done, "p1", "hv2") is None
    assert moves.release(done, "p1") is None
    for call, code in (
        (lambda: moves.activate(done, "p1"), "not-prepared"),
        (lambda: moves.activate(moving, "p1", "hv3"), "not-prepared"),
        (lambda: moves.prepare(done, "p1", "hv2"), "already-there"),
    ):
        with pytest.raises(ConflictError) as refused:
            call()
        assert refused.value.code == code


def test_a_workload_is_all_its_nics_and_no_others() -> None:
    shop, network = state(), Network(vni=9, subnets=(Subnet(cidr="10.1.0.0/16"),))
    held = {"shop": shop}
    wanted = Workload(
        (Nic("shop", "vm1", port("shop", 50, "hv7")), Nic("club", "vm1", port("club", 1, "hv1"), network)),
        {"hv7": "10.0.0.17"},
    )
    patches = put_workload(held, "vm1", wanted, "me", {"hv1": "10.0.0.11"})
    assert patches["shop"].hosts == {"hv7": "10.0.0.17"}
    assert patches["club"].hosts == {"hv1": "10.0.0.11"}
    now = {"shop": after(shop, patches["shop"]), "club": after(edits.new_vpc("club", "me"), patches["club"])}
    assert put_workload(now, "vm1", wanted, "me", {}) == {}
    assert {(nic.vpc, nic.name) for nic in workload_of(now, "vm1").nics} == {("shop", "vm1"), ("club", "vm1")}
    fewer = put_workload(now, "vm1", Workload(wanted.nics[:1]), "me", {})
    assert fewer.keys() == {"club"}
    assert fewer["club"].ports == {"vm1": None}
    gone = {name: after(now[name], patch) for name, patch in delete_workload(now, "vm1").items()}
    assert gone["shop"].ports == shop.ports
    with pytest.raises(UnknownObjectError):
        workload_of(gone, "vm1")
    with pytest.raises(UserError, match="twice"):
        put_workload(held, "vm1", Workload(wanted.nics[:1] * 2), "me", {})


NAMES = st.sampled_from(["a", "b", "c"])
PORTS = st.builds(
    Port, network=st.just("n"), host=st.sampled_from([None, "hv1", "hv2"]), ips=st.just(()), description=NAMES
)


@given(st.lists(st.tuples(NAMES, st.none() | PORTS), max_size=12))
def test_edits_lead_to_what_was_asked_and_are_idempotent(calls: list[tuple[str, Port | None]]) -> None:
    held = state()
    expected = {name: one.description for name, one in held.ports.items()}
    for name, wanted in calls:
        revision = held.revision
        if wanted is None:
            patch = edits.delete(held, "ports", name)
            expected.pop(name, None)
        else:
            patch = edits.put(held, "ports", name, body(wanted))
            expected[name] = wanted.description
        held = after(held, patch)
        assert held.revision == revision + (patch is not None)
        again = edits.delete(held, "ports", name) if wanted is None else edits.put(held, "ports", name, body(wanted))
        assert again is None
    assert {name: one.description for name, one in held.ports.items()} == expected
