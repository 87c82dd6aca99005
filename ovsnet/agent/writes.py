"""What the API's writes are to the agent: functions from what is held to operations. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from ovsnet.agent.agent import Edit
from ovsnet.model.types import VpcState
from ovsnet.transport import edits
from ovsnet.transport.changes import Operation, PatchBody, Put
from ovsnet.transport.edits import UnknownVpcError
from ovsnet.transport.view import check_owner
from ovsnet.transport.workloads import Workload, delete_workload, put_workload

ANONYMOUS = "api"
"""The owner of what nobody claims: no ``owner=``, and no certificate to name the caller."""


def whole(
    operations: Sequence[Operation], claim: str | None, caller: str, *, adopt: bool, revision: int | None = None
) -> Edit:
    """Operations as they were told.

    A state without an owner gets one; ``claim``, if given, is held to the owners of what is held. ``revision`` is what
    If-Match says of the one VPC concerned.
    """

    def make(states: Mapping[str, VpcState]) -> list[Operation]:
        made = []
        for operation in operations:
            held = states.get(operation.vpc)
            edits.check_revision(held, operation.vpc, revision)
            if held is not None and claim is not None:
                check_owner(held, claim, adopt=adopt)
            if isinstance(operation, Put) and not operation.state.owner:
                owner = claim or caller or ANONYMOUS
                operation = Put(msgspec.structs.replace(operation.state, owner=owner))  # noqa: PLW2901
            made.append(operation)
        return made

    return make


def one_vpc(
    vpc: str,
    change: Callable[[VpcState], PatchBody | None],
    owner: str,
    known: Mapping[str, str],
    *,
    adopt: bool = False,
    revision: int | None = None,
    create: bool = False,
) -> Edit:
    """A change of objects in one VPC; with ``create`` it may begin with that. ``known``: VTEPs by host."""

    def make(states: Mapping[str, VpcState]) -> list[Operation]:
        held = states.get(vpc)
        edits.check_revision(held, vpc, revision)
        if held is None and not create:
            raise UnknownVpcError(vpc)
        if held is not None:
            check_owner(held, owner, adopt=adopt)
        state = held or edits.new_vpc(vpc, owner)
        patch = edits.with_vteps(state, change(state), known)
        return [] if patch is None else [edits.operation(held, patch, vpc, owner)]

    return make


def workload(ident: str, wanted: Workload | None, owner: str, known: Mapping[str, str], *, adopt: bool) -> Edit:
    """All NICs of a machine, ``None`` to take them away."""

    def make(states: Mapping[str, VpcState]) -> list[Operation]:
        if wanted is None:
            patches = delete_workload(states, ident)
        else:
            patches = put_workload(states, ident, wanted, owner, known)
        made = []
        for vpc, patch in patches.items():
            held = states.get(vpc)
            if held is not None:
                check_owner(held, owner, adopt=adopt)
            made.append(edits.operation(held, patch, vpc, owner))
        return made

    return make
