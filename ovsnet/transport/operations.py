"""From items, as they travel, to operations, and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from ovsnet.errors import UserError
from ovsnet.model import VpcState, decode_state
from ovsnet.transport.catchup import Head
from ovsnet.transport.changes import Operation, Patch, PatchBody, Put, Withdraw, patch_for
from ovsnet.transport.messages import Item


class NameMismatchError(UserError):
    """A state is told under another name than its own."""

    code = "name-mismatch"


def operations_of(items: Iterable[Item]) -> list[Operation]:
    """The operations that items carry.

    Raises ModelError for a state of the wrong structure, NameMismatchError, msgspec.MsgspecError.
    """
    result: list[Operation] = []
    for item in items:
        if item.op == "put":
            result.append(put_of(item.body, item.vpc))
        elif item.op == "patch":
            result.append(patch_of(item.body, item.vpc))
        else:
            result.append(Withdraw(item.vpc, item.revision))
    return result


def put_of(body: bytes | msgspec.Raw, vpc: str) -> Put:
    """The whole state of a VPC.

    Raises ModelError with all that is wrong with its structure, NameMismatchError, msgspec.DecodeError for no JSON.
    """
    try:
        state = msgspec.json.decode(body, type=VpcState)
    except msgspec.ValidationError:
        state = decode_state(bytes(body))  # says all that is wrong, with places
    if state.name != vpc:
        raise NameMismatchError(f"the state is named {state.name}, and it is told as that of VPC {vpc}")
    return Put(state)


def patch_of(body: bytes | msgspec.Raw, vpc: str) -> Patch:
    """The change of a VPC. Raises msgspec.MsgspecError."""
    fields = msgspec.json.decode(body, type=PatchBody)
    return patch_for(vpc, fields)


_encode = msgspec.json.encode


def put_item(state: VpcState) -> Item:
    """A whole state as it travels."""
    return Item(op="put", vpc=state.name, body=msgspec.Raw(_encode(state)))


def patch_item(patch: Patch) -> Item:
    """A change as it travels."""
    body = PatchBody(**{name: getattr(patch, name) for name in PatchBody.__struct_fields__})
    return Item(op="patch", vpc=patch.vpc, body=msgspec.Raw(_encode(body)))


def withdraw_item(vpc: str, revision: int | None = None) -> Item:
    """That a host has nothing to do with a VPC any more, as it travels."""
    return Item(op="delete", vpc=vpc, revision=revision)


def begin_anew(state: VpcState, held: Head | None, item_of: Callable[[VpcState], Item] = put_item) -> Iterator[Item]:
    """The items that bring a host to a state from whatever it says that it holds of the VPC.

    What it holds goes in the same change: it may know of later placements (epochs) than there are, after a store was
    restored, and would refuse to go back.
    """
    if held is not None:
        yield withdraw_item(state.name, held.revision)
    yield item_of(state)
