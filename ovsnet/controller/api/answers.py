"""What the controller's API takes and answers, as types; the OpenAPI document shows them."""

from __future__ import annotations

import msgspec

from ovsnet.controller.intents import ChangeBody
from ovsnet.controller.requests import VpcBody
from ovsnet.model.types import Host, Port, Underlay
from ovsnet.transport.messages import PortReport, VpcReport


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all answers."""


class Health(Answer, frozen=True, kw_only=True):
    """The process lives."""

    status: str = "ok"


class Readiness(Answer, frozen=True, kw_only=True):
    """Whether calls can be carried out, and why not."""

    ready: bool
    reasons: tuple[str, ...] = ()


class Step(Answer, frozen=True, kw_only=True):
    """A VPC before and after a call; ``revision`` is ``null`` for one that is gone, ``previous`` 0 for a new one."""

    previous: int
    revision: int | None


class Assigned(Answer, frozen=True, kw_only=True):
    """What of the changed objects was left out, by ``VPC/NAME``: VNIs of networks and routers, addresses of ports."""

    networks: dict[str, int] = {}
    routers: dict[str, int] = {}
    ports: dict[str, tuple[str, ...]] = {}


class ChangeAnswer(Answer, frozen=True, kw_only=True):
    """What a call has changed. ``late``: by host, why it does not enforce that yet; only if the call waited."""

    changed: bool
    tx: str = ""
    vpcs: dict[str, Step] = {}
    late: dict[str, str] = {}
    assigned: Assigned = Assigned()


class Difference(Answer, frozen=True, kw_only=True):
    """One object that a call would change: its ``path`` in the model, and ``create``, ``change`` or ``delete``."""

    path: str
    change: str


class PreviewAnswer(Answer, frozen=True, kw_only=True):
    """What a call would change."""

    changed: bool
    differences: tuple[Difference, ...]
    vpcs: dict[str, Step]
    assigned: Assigned


class VpcSummary(Answer, frozen=True, kw_only=True):
    """A VPC in a list. ``hosts``: how many have to know it."""

    revision: int
    digest: str
    owner: str
    tenant: str
    networks: int
    routers: int
    ports: int
    endpoints: int
    security_groups: int
    address_groups: int
    hosts: int


class VpcAnswer(VpcBody, frozen=True, kw_only=True):
    """A VPC as it is. ``owners``: whose an object is (``KIND/NAME``) where it is not the VPC's owner's."""

    name: str
    revision: int
    digest: str
    owner: str
    owners: dict[str, str] = {}
    hosts: dict[str, str] = {}


class PortAnswer(Answer, frozen=True, kw_only=True):
    """A port: as it is declared, whose it is, and what its host says of it (``null``: nothing)."""

    declared: Port
    owner: str
    status: PortReport | None = None


class HostAnswer(Answer, frozen=True, kw_only=True):
    """A host and whose it is."""

    declared: Host
    owner: str


class HostState(Answer, frozen=True, kw_only=True):
    """Where a host stands. ``reason``: why there is no contact, empty otherwise; ``late``: VPCs not in force yet."""

    reason: str
    vpcs: dict[str, VpcReport] = {}
    late: dict[str, str] = {}
    faults: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()


class SiteStatus(Answer, frozen=True, kw_only=True):
    """Where all hosts stand; ``converged`` if every one enforces what it should.

    ``faults``: what is wrong with the way to all of them, such as a bus that is away.
    """

    converged: bool
    hosts: dict[str, HostState]
    faults: tuple[str, ...] = ()


class Underlaid(Answer, frozen=True, kw_only=True):
    """The underlay and whose it is (``null``: nobody has declared it)."""

    declared: Underlay
    owner: str | None


class Target(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host that a port is to move to."""

    host: str


class Back(Answer, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The revision of a VPC to go back to."""

    revision: int


class PutItem(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, tag_field="op", tag="put"
):
    """In a batch: declare a VPC. ``revision``: the one that it must have, 0 if it must not exist."""

    vpc: str
    body: VpcBody
    revision: int | None = None


class PatchItem(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="patch",
):
    """In a batch: change objects of a VPC."""

    vpc: str
    body: ChangeBody
    revision: int | None = None


class DeleteItem(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
    tag_field="op",
    tag="delete",
):
    """In a batch: take a VPC away."""

    vpc: str
    revision: int | None = None


BatchItem = PutItem | PatchItem | DeleteItem
"""What a batch consists of, as the document shows it."""
