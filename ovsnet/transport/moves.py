"""A port's way from one host to another: prepare, activate, release. Pure, and idempotent as all edits.

Prepared, a port still runs on its host, and what is sent to it is delivered to both; activated, it runs on the other
one. Released before that, it stays where it is.
"""

from __future__ import annotations

import msgspec

from ovsnet.model.types import Port, VpcState
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.edits import change, port_of
from ovsnet.transport.view import ConflictError


def prepare(state: VpcState, name: str, target: str) -> PatchBody | None:
    """Have ``target`` get a copy of what is sent to the port. Raises UnknownObjectError, ConflictError."""
    port = port_of(state, name)
    what = f"port {state.name}/{name}"
    if port.host is None:
        raise ConflictError("not-placed", f"{what} runs on no host. Place it there at once, with host", state.revision)
    if port.host == target:
        raise ConflictError("already-there", f"{what} runs on {target} already. Name another host", state.revision)
    if port.moving_to not in {None, target}:
        message = f"{what} is about to move to {port.moving_to}. Release or activate that first"
        raise ConflictError("moving-elsewhere", message, state.revision)
    return _moved(state, name, msgspec.structs.replace(port, moving_to=target))


def activate(state: VpcState, name: str, target: str | None = None) -> PatchBody | None:
    """The port runs where it was prepared, from now on.

    With ``target`` the call may be repeated, and is held to that host. Raises UnknownObjectError, ConflictError.
    """
    port = port_of(state, name)
    if port.moving_to is None and target is not None and port.host == target:
        return None
    if port.moving_to is None or target not in {None, port.moving_to}:
        whereto = f"prepared for {port.moving_to}" if port.moving_to else "not prepared for any host"
        message = f"port {state.name}/{name} is {whereto}{f', not {target}' if target else ''}. Prepare it first"
        raise ConflictError("not-prepared", message, state.revision)
    moved = msgspec.structs.replace(port, host=port.moving_to, moving_to=None, epoch=port.epoch + 1)
    return _moved(state, name, moved)


def release(state: VpcState, name: str) -> PatchBody | None:
    """The port stays where it is, after all; ``None`` if it was not about to move. Raises UnknownObjectError."""
    return _moved(state, name, msgspec.structs.replace(port_of(state, name), moving_to=None))


def _moved(state: VpcState, name: str, port: Port) -> PatchBody | None:
    return change(state, ports={name: port})
