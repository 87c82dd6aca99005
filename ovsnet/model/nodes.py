"""A document as a tree of nodes that know where they stand; YAML and JSON both become this."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ovsnet.errors import Path

MAX_DEPTH = 64
MAX_VALUES = 5_000_000

Kind = Literal["mapping", "list", "plain", "quoted", "literal"]
"""``plain``: an unquoted YAML scalar, whose type the schema decides; ``quoted``: text; ``literal``: a JSON number, bool
or null, as its source text."""


@dataclass(slots=True)
class Node:
    """One value; ``line`` and ``column`` count from 1. ``entries`` holds a mapping's (key, value) by key text."""

    kind: Kind
    file: str
    line: int
    column: int
    text: str = ""
    items: list[Node] = field(default_factory=list)
    entries: dict[str, tuple[Node, Node]] = field(default_factory=dict)

    @property
    def is_null(self) -> bool:
        """True for null, ``~`` and nothing at all, unquoted."""
        return self.kind in {"plain", "literal"} and self.text in {"", "~", "null", "Null", "NULL"}


@dataclass(slots=True)
class Draft:
    """A problem before its place is known: the path in the model, the reason, and values for the remedy's template.

    ``at``: the node, where it is known already. ``on_key``: the place is the key's, not the value's. ``other`` (path or
    node): a second place, added to the reason.
    """

    code: str
    path: Path
    reason: str
    values: dict[str, str] = field(default_factory=dict)
    at: Node | None = None
    on_key: bool = False
    other: Path | Node | None = None
    other_on_key: bool = False


class SourceError(Exception):
    """A text that cannot be read on; carries the draft of its problem."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        super().__init__(draft.reason)


def mark(file: str, line: int = 1, column: int = 1) -> Node:
    """A bare place in a file."""
    return Node("plain", file, line, column)


def find(root: Node, path: Path, *, on_key: bool = False) -> Node:
    """The node at ``path``, or the deepest one on the way there; with ``on_key`` the key that leads to it."""
    node = key = root
    for step in path:
        if isinstance(step, int):
            if node.kind != "list" or step >= len(node.items):
                return node
            node = key = node.items[step]
        else:
            entry = node.entries.get(step)
            if entry is None:
                return key if on_key else node
            key, node = entry
    return key if on_key else node
