"""Shapes for documents and schemas of what is read in another way, so that its body is decoded but once."""

from __future__ import annotations

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import PatchBody


class PutItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put"):
    """The whole state of a VPC, as an ``Item``."""

    vpc: str
    body: VpcState


class PatchItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="patch"):
    """The change of a VPC, as an ``Item``."""

    vpc: str
    body: PatchBody


class DeleteItem(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete"):
    """The end of interest in a VPC, as an ``Item``; ``revision``: the VPC's when that was decided."""

    vpc: str
    revision: int | None = None


AnyItem = PutItem | PatchItem | DeleteItem
"""What an ``Item`` may be."""
