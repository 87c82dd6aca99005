"""What a call asks of the truth, as values: edits of objects, and the request that bundles them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from ovsnet.model.types import AddressGroup, Host, Network, Port, RemoteEndpoint, Router, SecurityGroup, Underlay, Vpc

Kind = Literal["networks", "routers", "security_groups", "address_groups", "ports", "endpoints"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The collections of a VPC that hold objects of their own."""
Object = Network | Router | Port | RemoteEndpoint | SecurityGroup | AddressGroup
OBJECT_TYPES: dict[Kind, Any] = {
    "networks": Network,
    "routers": Router,
    "security_groups": SecurityGroup,
    "address_groups": AddressGroup,
    "ports": Port,
    "endpoints": RemoteEndpoint,
}


class VpcBody(Vpc, frozen=True, kw_only=True):
    """A VPC as a caller declares it: what is left out is assigned, and revision and hosts are the controller's."""

    endpoints: dict[str, RemoteEndpoint] = {}


@dataclass(frozen=True, slots=True)
class PutVpc:
    """A VPC exists, with these words about it; ``tenant`` is empty for the default (its name, or what it has)."""

    vpc: str
    tenant: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    description: str = ""


@dataclass(frozen=True, slots=True)
class EnsureVpc:
    """A VPC exists, whatever is said about it."""

    vpc: str


@dataclass(frozen=True, slots=True)
class DropVpc:
    """A VPC is gone, with all that is in it."""

    vpc: str


@dataclass(frozen=True, slots=True)
class PutObject:
    """An object of a VPC is this, or gone (``body`` is None).

    ``placement``: only where it runs changes, which is permitted for another owner's object too. ``owner``: whose it
    becomes if it is new; ``None``: the request's.
    """

    vpc: str
    kind: Kind
    name: str
    body: Object | None
    placement: bool = False
    owner: str | None = None


@dataclass(frozen=True, slots=True)
class RaiseRevision:
    """A VPC gets a revision above ``above``, its contents as they are."""

    vpc: str
    above: int


@dataclass(frozen=True, slots=True)
class PutHost:
    """A host is this, or gone (``body`` is None)."""

    name: str
    body: Host | None


@dataclass(frozen=True, slots=True)
class PutUnderlay:
    """The underlay is this."""

    body: Underlay


Edit = PutVpc | EnsureVpc | DropVpc | PutObject | RaiseRevision | PutHost | PutUnderlay


@dataclass(frozen=True, slots=True)
class Request:
    """One call: edits that become true together, or not at all.

    ``owner``: in whose name. ``who``: the caller, for the audit log; ``what``: what was called. ``if_match``: the
    revision that a VPC must have (0: it must not exist). ``adopt``: take over what belongs to others.
    """

    edits: tuple[Edit, ...]
    owner: str
    who: str = ""
    what: str = ""
    adopt: bool = False
    if_match: Mapping[str, int] = field(default_factory=dict)
