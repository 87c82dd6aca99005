"""What a host lacks, from what it says that it holds: the one way to start, to resume and to mend. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Head(NamedTuple):
    """The state of a VPC in two words: its revision, and the digest of its contents."""

    revision: int
    digest: str


@dataclass(frozen=True)
class Lacks:
    """``put``: VPCs to be told whole; ``withdraw``: those of no concern any more.

    ``raised``: VPCs of which the host holds a later revision, or the same one with other contents, than there should
    be (a store was restored, or somebody else told it): they must get a revision above the given one first.
    """

    put: tuple[str, ...] = ()
    withdraw: tuple[str, ...] = ()
    raised: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything is lacking."""
        return bool(self.put or self.withdraw)


def lacks(wanted: Mapping[str, Head], held: Mapping[str, Head]) -> Lacks:
    """The difference between what a host should hold and what it holds."""
    put, raised = [], {}
    for vpc, head in wanted.items():
        has = held.get(vpc)
        if has == head:
            continue
        put.append(vpc)
        if has is not None and has.revision >= head.revision:
            raised[vpc] = has.revision
    return Lacks(tuple(put), tuple(vpc for vpc in held if vpc not in wanted), raised)
