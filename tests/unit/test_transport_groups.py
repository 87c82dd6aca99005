"""What a change has to do with groups: judged by what it touches, whatever else there is in its VPC."""

from __future__ import annotations

import msgspec
import pytest

from ovsnet.errors import ModelError
from ovsnet.model import Port, Remote, RemoteEndpoint, Rule, SecurityGroup, VpcState
from ovsnet.transport import edits
from ovsnet.transport.changes import Patch, patched
from ovsnet.transport.digest import digest_text, patched_sum, state_sum
from ovsnet.transport.edits import InUseError, UnknownObjectError
from ovsnet.transport.groups import GroupLists, needed
from ovsnet.transport.view import HostView
from tests.agent_kit import port, state


def naming(*groups: str, stateful: bool = True, ranges: str | None = None) -> SecurityGroup:
    remotes = [Remote(group=group) for group in groups] + ([Remote(address_group=ranges)] if ranges else [])
    rules = tuple(Rule(direction="ingress", remote=remote) for remote in remotes)
    return SecurityGroup(rules=rules, stateful=stateful)


def in_groups(number: int, *groups: str) -> Port:
    return msgspec.structs.replace(port("shop", number), security_groups=groups)


def shop(**groups: SecurityGroup) -> VpcState:
    return msgspec.structs.replace(state(), security_groups=groups, address_groups={"office": ("192.0.2.0/24",)})


def refusals(held: VpcState, **changes: object) -> set[str]:
    """The codes of what is wrong with a change, for a host that holds ``held``."""
    with pytest.raises(ModelError) as caught:
        HostView("hv1", {"shop": held}).check([Patch(vpc="shop", previous=1, revision=2, **changes)])  # type: ignore[arg-type]
    return {problem.code for problem in caught.value.problems}


def test_a_port_may_not_join_groups_that_name_too_many_together() -> None:
    many = {f"g{number}": SecurityGroup() for number in range(65)}
    held = shop(first=naming(*list(many)[:40]), second=naming(*list(many)[40:]), **many)
    view = HostView("hv1", {"shop": held})
    assert view.check([Patch(vpc="shop", previous=1, revision=2, ports={"p9": in_groups(9, "first")})]).operations
    assert refusals(held, ports={"p9": in_groups(9, "first", "second")}) == {"too-many-remotes"}


def test_a_group_may_not_change_its_sort_under_a_port_that_is_in_another_too() -> None:
    held = shop(a=SecurityGroup(), b=SecurityGroup())
    held = msgspec.structs.replace(held, ports=held.ports | {"p9": in_groups(9, "a", "b")})
    assert refusals(held, security_groups={"a": SecurityGroup(stateful=False)}) == {"mixed-stateful"}
    both = {name: SecurityGroup(stateful=False) for name in ("a", "b")}
    assert HostView("hv1", {"shop": held}).check([Patch(vpc="shop", previous=1, revision=2, security_groups=both)])


def test_what_is_checked_with_a_port_are_its_groups_and_what_they_name() -> None:
    groups = {"a": naming("b", "default", ranges="office"), "b": naming("c"), "c": SecurityGroup()}
    part, ranges = needed(groups, {"office": ("192.0.2.0/24",), "lab": ()}, (), [in_groups(9, "a")])
    assert part == {"a": groups["a"], "b": SecurityGroup()}
    assert ranges == {"office": ()}
    assert needed(groups, {"office": ()}, (), [in_groups(9, "nobody")])[0] == groups, "so that a message names them"


def test_lists_of_groups_are_counted_and_forgotten() -> None:
    nics: list[Port | RemoteEndpoint] = [in_groups(1, "a"), in_groups(2, "a"), port("shop", 3)]
    nics.append(RemoteEndpoint(network="n", mac="02:00:00:00:00:09", vtep="10.0.0.9", groups=("b",)))
    lists = GroupLists(nics)
    assert lists.names("a") and lists.names("b") and not lists.names("default")
    assert lists.without(nics[:1]).names("a") and not lists.without(nics[:2]).names("a")
    for nic in nics:
        lists.discard(nic)
    assert not lists.names("a") and not lists.names("b")


def test_a_group_in_use_names_who_uses_it() -> None:
    held = shop(a=naming("a"), b=naming("a", ranges="office"))
    far = RemoteEndpoint(network="n", mac="02:00:00:00:09:09", vtep="10.0.0.99", groups=("a",))
    held = msgspec.structs.replace(held, ports={"p1": in_groups(1, "a")}, endpoints={"far": far})
    with pytest.raises(InUseError) as caught:
        edits.delete(held, "security_groups", "a")
    assert caught.value.referrers == ("endpoints.far", "ports.p1", "security_groups.b.rules[0]")
    assert "security group shop/a" in str(caught.value)
    with pytest.raises(InUseError) as caught:
        edits.delete(held, "address_groups", "office")
    assert caught.value.referrers == ("security_groups.b.rules[1]",)
    gone = edits.delete(held, "security_groups", "b")
    assert gone is not None and gone.security_groups == {"b": None}
    assert edits.delete(held, "security_groups", "nobody") is None
    with pytest.raises(UnknownObjectError) as missing:
        edits.find(held, "security_groups", "nobody")
    assert missing.value.code == "unknown-security-group"


def test_a_declared_default_group_gives_way_to_the_built_in_one() -> None:
    held = shop(default=SecurityGroup(), a=naming("default"))
    held = msgspec.structs.replace(held, ports=held.ports | {"p9": in_groups(9, "default")})
    gone = edits.delete(held, "security_groups", "default")
    assert gone is not None
    operation = edits.operation(held, gone, "shop", "tests")
    assert HostView("hv1", {"shop": held}).check([operation]).states["shop"] == patched(held, gone)


def test_put_of_groups_is_idempotent_whatever_way_ranges_are_written() -> None:
    held = edits.new_vpc("shop", "me")
    body = b'{"rules": [{"direction": "ingress", "remote": {"cidr": "2001:DB8:0::/32"}}, {"direction": "egress"}]}'
    patch = edits.put(held, "security_groups", "web", body)
    assert patch is not None
    held = patched(held, patch)
    assert held.security_groups["web"].rules[0].remote == Remote(cidr="2001:db8::/32")
    assert edits.put(held, "security_groups", "web", body) is None
    ranges = b'["198.51.100.7", "2001:DB8::/32"]'
    patch = edits.put(held, "address_groups", "office", ranges)
    assert patch is not None
    held = patched(held, patch)
    assert held.address_groups == {"office": ("198.51.100.7/32", "2001:db8::/32")}
    assert edits.put(held, "address_groups", "office", ranges) is None
    assert edits.collection(held, "address_groups") == held.address_groups
    with pytest.raises(msgspec.ValidationError):
        edits.put(held, "address_groups", "office", b'{"ranges": []}')


def test_the_digest_follows_a_change_of_groups() -> None:
    held = shop(a=naming("a"), b=SecurityGroup())
    changes = {"a": SecurityGroup(stateful=False), "b": None, "c": SecurityGroup()}
    patch = Patch(vpc="shop", previous=1, revision=2, security_groups=changes, address_groups={"office": None})
    after = patched(held, patch)
    assert after.security_groups == {"a": SecurityGroup(stateful=False), "c": SecurityGroup()}
    assert after.address_groups == {}
    total = state_sum(held)
    assert digest_text(patched_sum(total, held, patch)) == digest_text(state_sum(after)) != digest_text(total)
