"""Whether what a transaction makes of a VPC is right. Only what changes is looked at, unless ranges change."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from ovsnet.controller.index import AddressIndex, addresses_of, holder_key, key_path, key_text
from ovsnet.controller.requests import Object
from ovsnet.controller.truth import hosts_of
from ovsnet.errors import ModelError, Problem, shown
from ovsnet.model import canonical_state
from ovsnet.model.checks import Drafts, suggest
from ovsnet.model.group_checks import GroupChecker
from ovsnet.model.nodes import Draft
from ovsnet.model.report import make_problem
from ovsnet.model.routes import joined
from ovsnet.model.rules import DEFAULT_GROUP
from ovsnet.model.types import AddressGroup, Network, Port, RemoteEndpoint, Router, SecurityGroup, VpcState
from ovsnet.transport.edits import InUseError
from ovsnet.transport.groups import GroupLists, Nic, after, needed, nics_naming, rules_naming
from ovsnet.transport.routers import hop_ports, joining, leaves_next_hop, routes_to_port, without_routes


@dataclass(slots=True)
class Changed:
    """The objects of a VPC that a transaction touches, as they will be; ``None``: gone."""

    networks: dict[str, Network | None]
    routers: dict[str, Router | None]
    ports: dict[str, Port | None]
    endpoints: dict[str, RemoteEndpoint | None]
    security_groups: dict[str, SecurityGroup | None]
    address_groups: dict[str, AddressGroup | None]


def problems_in(vpc: str, problems: Iterable[Problem]) -> ModelError:
    """Problems of a VPC's state, as problems of the whole model."""
    return ModelError(
        msgspec.structs.replace(one, path=f"vpcs.{vpc}" + (f".{one.path}" if one.path else "")) for one in problems
    )


def canonical_networks(vpc: str, networks: dict[str, Network | None]) -> dict[str, Network | None]:
    """The networks with canonical ranges. Raises ModelError."""
    given = {name: network for name, network in networks.items() if network is not None}
    if not given:
        return networks
    part = canonical_state(VpcState(name=vpc, revision=1, networks=given))
    return networks | part.networks


def canonical(
    before: VpcState, index: AddressIndex, lists: GroupLists, changed: Changed, vteps: Mapping[str, str]
) -> Changed:
    """What is touched, canonical. ``vteps``: of all hosts of the site, with what the transaction changes.

    ``index`` and ``lists`` are those of ``before``.

    Raises ModelError with all that is wrong, ConflictError (``in-use``).
    """
    _check_networks_unused(before, index, changed)
    _check_next_hops(before, changed)
    _check_groups(before, lists, changed)
    part = _part(before, changed, vteps)
    try:
        checked = canonical_state(part)
    except ModelError as exc:
        unknown = {problem.code for problem in exc.problems} & {"unknown-host", "unknown-network", "unknown-port"}
        if unknown:
            canonical_state(_with_all(part, before, changed, vteps, ports="unknown-port" in unknown))
        raise
    result = Changed(
        {name: checked.networks.get(name) for name in changed.networks},
        {name: checked.routers.get(name) for name in changed.routers},
        {name: checked.ports.get(name) for name in changed.ports},
        {name: checked.endpoints.get(name) for name in changed.endpoints},
        {name: checked.security_groups.get(name) for name in changed.security_groups},
        {name: checked.address_groups.get(name) for name in changed.address_groups},
    )
    drafts = [*_unknown_targets(result.ports, vteps), *_mixed(before, result, vteps), *_clashes(index, result)]
    if drafts:
        raise ModelError(sorted((make_problem(draft, None) for draft in drafts), key=lambda one: one.path))
    return result


def _with_all(part: VpcState, before: VpcState, changed: Changed, vteps: Mapping[str, str], *, ports: bool) -> VpcState:
    """A part with all hosts and networks, and ports if asked for, so that messages say what there is instead."""
    kinds = ("networks", "ports", "security_groups", "address_groups") if ports else ("networks",)
    objects: dict[str, Any] = {kind: after(getattr(before, kind), getattr(changed, kind)) for kind in kinds}
    return msgspec.structs.replace(part, hosts=dict(vteps), **objects)


def _part(before: VpcState, changed: Changed, vteps: Mapping[str, str]) -> VpcState:
    """The state that has to be looked at: what changes and what it refers to.

    Of a network whose ranges change, or whose gateways begin to count, it is all; of routers too, unless only ports
    and endpoints change.
    """
    networks = after(before.networks, changed.networks)
    whole = _touches_routers(before, changed)
    routers = after(before.routers, changed.routers) if whole else before.routers
    ports, endpoints = _nics(before, changed, routers if whole else {})
    used = {port.network for port in ports.values()} | {one.network for one in endpoints.values()}
    used |= changed.networks.keys()
    if whole:
        used |= joined(routers).keys()
    hosts = {host for port in ports.values() for host in hosts_of(port)}
    groups, address_groups = needed(
        after(before.security_groups, changed.security_groups) if changed.security_groups else before.security_groups,
        after(before.address_groups, changed.address_groups) if changed.address_groups else before.address_groups,
        changed.security_groups,
        (*ports.values(), *endpoints.values()),
    )
    return VpcState(
        name=before.name,
        revision=1,
        networks={name: network for name, network in networks.items() if name in used},
        routers=routers if whole else without_routes(routers, used),
        ports=ports,
        endpoints=endpoints,
        hosts={host: vteps[host] for host in sorted(hosts) if host in vteps},
        security_groups=groups,
        address_groups=after(address_groups, changed.address_groups),
    )


def _nics(
    before: VpcState, changed: Changed, routers: Mapping[str, Router]
) -> tuple[dict[str, Port], dict[str, RemoteEndpoint]]:
    """The ports and endpoints that have to be looked at, with ``routers``, those of the VPC afterwards."""
    ports: dict[str, Port] = after({}, changed.ports)
    endpoints: dict[str, RemoteEndpoint] = after({}, changed.endpoints)
    ranges = {
        name
        for name, network in changed.networks.items()
        if network is not None and name in before.networks and before.networks[name].subnets != network.subnets
    }
    if routers:
        ranges |= (joined(routers).keys() - joined(before.routers).keys()) & before.networks.keys()
        hops = hop_ports(routers) & before.ports.keys() - changed.ports.keys()
        ports |= {name: before.ports[name] for name in hops}
    if ranges:
        for name, port in before.ports.items():
            if port.network in ranges and name not in changed.ports:
                ports[name] = port
        for name, endpoint in before.endpoints.items():
            if endpoint.network in ranges and name not in changed.endpoints:
                endpoints[name] = endpoint
    return ports, endpoints


def _touches_routers(before: VpcState, changed: Changed) -> bool:
    """Whether a router, or what it joins or leads to, may become wrong."""
    touched = bool(changed.networks) and bool(before.routers)
    return touched or bool(changed.routers) or leaves_next_hop(before.routers, before.ports, changed.ports)


def _check_next_hops(before: VpcState, changed: Changed) -> None:
    """Raises ConflictError (``in-use``) for a port that goes and is still a route's next hop."""
    going = [name for name, port in changed.ports.items() if port is None and name in before.ports]
    routers = after(before.routers, changed.routers) if going else {}
    for name in sorted(hop_ports(routers).intersection(going)):
        raise InUseError(f"port {before.name}/{name}", tuple(routes_to_port(routers, name)), before.revision)


def _check_networks_unused(before: VpcState, index: AddressIndex, changed: Changed) -> None:
    """Raises ConflictError (``in-use``) for a network that goes and still has ports or endpoints, or is joined."""
    going: dict[str, Object | None] = {**{holder_key("ports", name): one for name, one in changed.ports.items()}}
    going |= {holder_key("endpoints", name): one for name, one in changed.endpoints.items()}
    for name, network in changed.networks.items():
        if network is not None or name not in before.networks:
            continue
        staying = {key_path(key) for key in index.users(name).values() if key not in going}
        for key, one in going.items():
            if isinstance(one, Port | RemoteEndpoint) and one.network == name:
                staying.add(key_path(key))
        staying |= set(joining(after(before.routers, changed.routers), name))
        if staying:
            raise InUseError(f"network {before.name}/{name}", tuple(sorted(staying)), before.revision)


def _check_groups(before: VpcState, lists: GroupLists, changed: Changed) -> None:
    """Whether what is not touched goes with the groups that are.

    Raises ConflictError (``in-use``) for a group that goes and is still named, ModelError for what does not fit.
    """
    if not (changed.security_groups or changed.address_groups):
        return
    groups = after(before.security_groups, changed.security_groups)
    for name, ranges in changed.address_groups.items():
        users = [] if ranges is not None else list(rules_naming(groups, ranges=name))
        if users and name in before.address_groups:
            raise InUseError(f"address group {before.name}/{name}", tuple(sorted(users)), before.revision)
    touched: list[tuple[Mapping[str, Nic], Mapping[str, Nic | None]]]
    touched = [(before.ports, changed.ports), (before.endpoints, changed.endpoints)]
    rest = lists.without(held[name] for held, changes in touched for name in changes if name in held)
    for name, group in changed.security_groups.items():
        if group is not None or name not in before.security_groups or name == DEFAULT_GROUP:
            continue  # whoever names the default group gets the built-in one
        users = list(rules_naming(groups, group=name))
        for kind, (held, changes) in zip(("ports", "endpoints"), touched, strict=True):
            staying = {key: one for key, one in held.items() if key not in changes} if rest.names(name) else {}
            users += nics_naming(kind, after(staying, changes), name)
        if users:
            raise InUseError(f"security group {before.name}/{name}", tuple(sorted(users)), before.revision)
    if not rest.stay_right(groups, changed.security_groups):
        drafts = Drafts([])
        checker = GroupChecker(drafts, (), groups, after(before.address_groups, changed.address_groups))
        checker.check_members(after(before.ports, changed.ports), after(before.endpoints, changed.endpoints))
        raise ModelError(sorted((make_problem(draft, None) for draft in drafts.found), key=lambda one: one.path))


def _unknown_targets(ports: Mapping[str, Port | None], vteps: Mapping[str, str]) -> Iterable[Draft]:
    for name, port in ports.items():
        if port is None or port.moving_to is None:
            continue
        path = ("ports", name, "moving_to")
        if port.moving_to not in vteps:
            reason = f"there is no host {shown(port.moving_to)}"
            yield Draft("unknown-host", path, reason, suggest(port.moving_to, vteps, "hosts"))


def _mixed(before: VpcState, changed: Changed, vteps: Mapping[str, str]) -> Iterable[Draft]:
    """Hosts of one VPC have VTEPs of one family: those it has are, so one of them stands for all."""
    known = next(iter(before.hosts), None)
    if known is None:
        return
    family = ":" in before.hosts[known]
    for name, port in changed.ports.items():
        for host in () if port is None else hosts_of(port):
            if host not in before.hosts and host in vteps and (":" in vteps[host]) != family:
                has, other = ("IPv4", "IPv6") if family else ("IPv6", "IPv4")
                reason = f"host {host} has an {has} VTEP, and host {known}, which has ports of this VPC, an {other} one"
                yield Draft("mixed-vtep-families", ("ports", name, "host"), reason, {"family": other})


def _clashes(index: AddressIndex, changed: Changed) -> Iterable[Draft]:
    """Addresses that one who is not touched has already (the touched ones were compared with each other)."""
    touched = {holder_key("ports", name) for name in changed.ports}
    touched |= {holder_key("endpoints", name) for name in changed.endpoints}
    seen: dict[tuple[str, str], str] = {}
    for kind, objects in (("ports", changed.ports), ("endpoints", changed.endpoints)):
        for name, one in objects.items():
            if one is None:
                continue
            key = holder_key("ports" if kind == "ports" else "endpoints", name)
            for address in addresses_of(one):
                owner = index.holder(one.network, address)
                if owner is None or owner in touched:
                    owner = seen.setdefault((one.network, address), key)
                if owner != key:
                    yield _duplicate(kind, name, one, address, owner)


def _duplicate(kind: str, name: str, one: Port | RemoteEndpoint, address: str, owner: str) -> Draft:
    if address == one.mac:
        reason = f"{address} is already the MAC of {key_text(owner)} in the same network"
        return Draft("duplicate-mac", (kind, name, "mac"), reason)
    at = (one.ips or ()).index(address)
    reason = f"{address} is already an address of {key_text(owner)} in the same network"
    values = {"suggestion": "Give another address, or leave 'ips' out to have one assigned."}
    return Draft("duplicate-address", (kind, name, "ips", at), reason, values)
