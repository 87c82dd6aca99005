"""What a hypervisor is told: the states of VPCs, made from a model or checked when they come from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import msgspec

from ovsnet.errors import ModelError, Path, Problem, path_text
from ovsnet.model.assign import complete
from ovsnet.model.checks import Drafts, check_name, check_networks, check_vteps
from ovsnet.model.collector import collector_paused
from ovsnet.model.endpoint_checks import EndpointChecker
from ovsnet.model.group_checks import GroupChecker
from ovsnet.model.json_source import decode_quickly, read_json
from ovsnet.model.nodes import Draft, SourceError, mark
from ovsnet.model.outside import gateways_of, told_of
from ovsnet.model.outside_checks import OutsideChecker, told_views
from ovsnet.model.port_checks import PortChecker, check_families
from ovsnet.model.report import make_problem, model_error
from ovsnet.model.router_checks import RouterChecker
from ovsnet.model.structure import build, convert_plain
from ovsnet.model.types import Declared, Model, VpcState


def vpc_states(model: Model, revisions: Mapping[str, int] | int = 1) -> dict[str, VpcState]:
    """The state of every VPC of a complete model, by name.

    ``revisions``: one number for all, or by VPC (default 1). Ports without a host are part of the state. Raises
    ModelError (``assignment-missing``).
    """
    complete(model)
    return {name: _state(model, name, revisions) for name in model.vpcs}


def states_for_host(model: Model, host: str, revisions: Mapping[str, int] | int = 1) -> dict[str, VpcState]:
    """The states that ``host`` needs: of the VPCs that have a port on it, or about to come, or leave the cloud there.

    Raises as vpc_states.
    """
    complete(model)
    return {
        name: _state(model, name, revisions)
        for name, vpc in model.vpcs.items()
        if host in gateways_of(vpc.routers) or any(host in port.hosts for port in vpc.ports.values())
    }


def _state(model: Model, name: str, revisions: Mapping[str, int] | int) -> VpcState:
    vpc = model.vpcs[name]
    placed = gateways_of(vpc.routers).union(host for port in vpc.ports.values() for host in port.hosts)
    return VpcState(
        name=name,
        revision=revisions if isinstance(revisions, int) else revisions.get(name, 1),
        owner=model.name,
        networks=vpc.networks,
        routers=vpc.routers,
        ports=vpc.ports,
        hosts={host: model.hosts[host].vtep for host in sorted(placed)},
        floating_ips=vpc.floating_ips,
        provider_networks=told_of(model, vpc),
        security_groups=vpc.security_groups,
        address_groups=vpc.address_groups,
    )


D = TypeVar("D", bound=Declared)


def decode_state(body: bytes, source: str = "request") -> VpcState:
    """A VPC's state from JSON, as :func:`decode_declared`."""
    return decode_declared(body, VpcState, source)


def decode_declared(body: bytes, cls: type[D], source: str = "request") -> D:
    """A declared object from JSON, its types checked and no more; ``source`` is what messages call the text.

    Raises ModelError with every problem of structure, with its place in the text.
    """
    with collector_paused():
        raw = decode_quickly(body)
        quick = convert_plain(raw, cls) if isinstance(raw, dict) else None
    if quick is not None:
        return quick
    drafts: list[Draft] = []
    root = None
    found = None
    try:
        root = read_json(body.decode(), source, drafts)
        if root is None:
            drafts.append(Draft("empty-file", (), "there is nothing in the request", at=mark(source)))
        else:
            found = build(root, cls, drafts)
    except UnicodeDecodeError as error:
        reason = f"the byte 0x{body[error.start]:02x} is not UTF-8"
        drafts.append(Draft("not-utf8", (), reason, at=mark(source)))
    except SourceError as error:
        drafts.append(error.draft)
    if drafts or found is None:
        raise model_error(drafts, root)
    return found


def canonical_state(state: VpcState, host: str | None = None) -> VpcState:
    """The state with canonical addresses. Raises ModelError with all problems that :func:`check_state` finds."""
    checked, problems = _check(state, host)
    if problems:
        raise ModelError(problems)
    return checked


def check_state(state: VpcState, host: str | None = None) -> list[Problem]:
    """Everything that is wrong with one VPC's state, sorted by path; ``host``: the hypervisor that it is for.

    The checks are those of a model, and: nothing is left to assign, every host that holds a port or is about to has its
    VTEP in ``hosts``, of the same address family as ``host``'s own, and endpoints are behind other VTEPs than these.
    """
    return _check(state, host)[1]


def check_states(states: Mapping[str, VpcState]) -> list[Problem]:
    """What is wrong between states that are each right: a VNI or a port's id in two VPCs, a name under another key."""
    drafts: list[Draft] = []
    vnis: dict[int, Path] = {}
    ids: dict[str, Path] = {}
    for key, state in states.items():
        if key != state.name:
            values = {"suggestion": f"Call it {key!r}, or hand it over under its own name."}
            drafts.append(Draft("invalid-name", (key, "name"), f"the state under {key!r} is named otherwise", values))
        numbered: list[tuple[Path, int | None]] = [
            ((key, "networks", name), n.vni) for name, n in state.networks.items()
        ]
        numbered += [((key, "routers", name), router.vni) for name, router in state.routers.items()]
        for path, vni in numbered:
            if vni is not None and (owner := vnis.setdefault(vni, path)) is not path:
                reason = f"{vni} is already the VNI of {path_text(owner)}"
                drafts.append(Draft("duplicate-vni", (*path, "vni"), reason))
        for name, port in state.ports.items():
            path = (key, "ports", name)
            if (owner := ids.setdefault(port.id, path)) is not path:
                drafts.append(Draft("duplicate-id", path, f"{port.id} is already the id of {path_text(owner)}"))
    return [make_problem(draft, None) for draft in drafts]


def _check(state: VpcState, host: str | None) -> tuple[VpcState, list[Problem]]:
    drafts = Drafts([])
    check_name(drafts, state.name, ("name",), on_key=False)
    if state.revision < 0:
        drafts.add("invalid-revision", ("revision",), f"{state.revision} is less than 0")
    for name in state.hosts:
        check_name(drafts, name, ("hosts", name))
    vteps = check_vteps(drafts, {name: (text, ("hosts", name)) for name, text in state.hosts.items()})
    vnis: dict[int, Path] = {}
    outside = OutsideChecker(drafts, (), told_views(drafts, state.provider_networks), None)
    networks, views = check_networks(drafts, (), outside.networks(state.networks), state.routers, vnis)
    for collection, objects in (("networks", state.networks), ("routers", state.routers)):
        for name in (name for name, one in objects.items() if one.vni is None):
            _unassigned(drafts, (collection, name, "vni"))
    ports = PortChecker(drafts, state.name, (), views, state.hosts, {}).check(state.ports)
    for name, port in state.ports.items():
        missing = (key for key, value in (("id", port.id), ("mac", port.mac), ("ips", port.ips)) if value in {None, ""})
        for key in missing:
            _unassigned(drafts, ("ports", name, key))
    routers = RouterChecker(drafts, (), views, ports, vnis).check(state.routers)
    floating_ips = outside.check(networks, views, routers, ports, state.floating_ips)
    leading = check_families(drafts, (), ports, vteps, host)
    endpoints = EndpointChecker(drafts, views, vteps, leading).check(state.endpoints) if state.endpoints else {}
    checker = GroupChecker(drafts, (), state.security_groups, state.address_groups)
    checker.check_members(ports, endpoints)
    groups, ranges = checker.check_groups(), checker.check_address_groups()
    if drafts.found:
        return state, sorted((make_problem(draft, None) for draft in drafts.found), key=lambda one: one.path)
    if (
        networks != state.networks
        or routers != state.routers
        or vteps != state.hosts
        or endpoints != state.endpoints
        or floating_ips != state.floating_ips
        or groups != state.security_groups
        or ranges != state.address_groups
        or any(ports[name] is not state.ports[name] for name in ports)
    ):
        state = msgspec.structs.replace(
            state,
            networks=networks,
            routers=routers,
            ports=ports,
            endpoints=endpoints,
            hosts=vteps,
            floating_ips=floating_ips,
            security_groups=groups,
            address_groups=ranges,
        )
    return state, []


def _unassigned(drafts: Drafts, path: Path) -> None:
    reason = "a hypervisor is told complete states, and this is left out"
    drafts.add("assignment-missing", path, reason, values={"command": "Give it."})
