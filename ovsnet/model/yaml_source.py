"""YAML text to nodes, from the parser's events: scalars keep their source text, so the schema decides their type."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from ovsnet.errors import Path, shown
from ovsnet.model.nodes import MAX_DEPTH, MAX_VALUES, Draft, Node, SourceError, mark

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONTROL = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read_yaml(text: str, file: str, drafts: list[Draft]) -> Node | None:
    """The document's root (``None``: empty). Duplicate keys go to ``drafts``; a syntax error raises SourceError."""
    bad = _CONTROL.search(text)
    if bad:
        line, column = place_of(text, bad.start())
        reason = f"the character U+{ord(bad.group()):04X} may not stand in a model"
        raise SourceError(Draft("not-utf8", (), reason, at=mark(file, line, column)))
    try:
        return _Builder(file, drafts).build(text)
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        at = mark(file, where.line + 1, where.column + 1) if where else mark(file)
        reason = " ".join(part for part in (error.context, error.problem) if part)
        if where and text[where.index : where.index + 1] == "\t":
            reason = "a tab stands here, and YAML indents with spaces"
        raise SourceError(Draft("syntax-error", (), reason, at=at)) from None
    except yaml.YAMLError as error:
        raise SourceError(Draft("syntax-error", (), str(error).splitlines()[0], at=mark(file))) from None


def place_of(text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of an offset in characters."""
    start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - start + 1


class _Builder:
    def __init__(self, file: str, drafts: list[Draft]) -> None:
        self.file = file
        self.drafts = drafts
        self.anchors: dict[str, Node] = {}
        self.open: set[int] = set()
        self.sizes: dict[int, int] = {}

    def build(self, text: str) -> Node | None:
        """The root of the only document."""
        root = self._document(yaml.parse(text, Loader=_Parser))
        if root is not None and self.sizes.get(id(root), 1) > MAX_VALUES:
            reason = f"the aliases written out make {self.sizes[id(root)]:,} values"
            raise SourceError(Draft("nesting-limit", (), reason, at=root))
        return root

    def _document(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        for event in events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    self._refuse("a second document begins here", self._place(event))
            elif isinstance(event, yaml.NodeEvent):
                root = self._node(event, events, (), 0)
        return root

    def _place(self, event: Any) -> Node:
        return mark(self.file, event.start_mark.line + 1, event.start_mark.column + 1)

    def _refuse(self, reason: str, at: Node, path: Path = (), code: str = "unsupported-yaml") -> None:
        raise SourceError(Draft(code, path, reason, at=at))

    def _node(self, event: Any, events: Iterator[Any], path: Path, depth: int) -> Node:
        node = self._place(event)
        if depth > MAX_DEPTH:
            self._refuse(f"this is more than {MAX_DEPTH} levels deep", node, path[:4], "nesting-limit")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, node, path)
        if event.tag is not None:
            self._refuse(f"the tag {shown(event.tag)} has no meaning here", node, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self.sizes[id(node)] = 1
        if isinstance(event, yaml.ScalarEvent):
            node.text = event.value
            node.kind = "plain" if event.style in {None, ""} else "quoted"
            return node
        self.open.add(id(node))
        if isinstance(event, yaml.SequenceStartEvent):
            self._fill_list(node, events, path, depth)
        else:
            self._fill_mapping(node, events, path, depth)
        self.open.discard(id(node))
        return node

    def _alias(self, event: Any, place: Node, path: Path) -> Node:
        node = self.anchors.get(event.anchor)
        if node is None:
            self._refuse(f"the alias {shown(event.anchor)} has no anchor before it", place, path, "syntax-error")
            raise AssertionError
        if id(node) in self.open:
            self._refuse(f"the alias {shown(event.anchor)} contains itself", place, path, "nesting-limit")
        return node

    def _fill_list(self, node: Node, events: Iterator[Any], path: Path, depth: int) -> None:
        node.kind = "list"
        for event in events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            item = self._node(event, events, (*path, len(node.items)), depth + 1)
            node.items.append(item)
            self.sizes[id(node)] += self.sizes[id(item)]

    def _fill_mapping(self, node: Node, events: Iterator[Any], path: Path, depth: int) -> None:
        node.kind = "mapping"
        merged: list[Node] = []
        for event in events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._node(event, events, path, depth + 1)
            if key.kind not in {"plain", "quoted"}:
                self._refuse("a key here is a list or a mapping, not text", self._place(event), path)
            value_event = next(events)
            value = self._node(value_event, events, (*path, key.text), depth + 1)
            self.sizes[id(node)] += self.sizes[id(value)]
            if key.text == "<<" and key.kind == "plain":
                merged.extend(self._merge_sources(value, self._place(value_event), path))
            elif key.text in node.entries:
                first = node.entries[key.text][0]
                reason = f"{shown(key.text)} stands here already"
                self.drafts.append(Draft("duplicate-key", (*path, key.text), reason, at=key, other=first))
            else:
                node.entries[key.text] = (key, value)
        for source in merged:  # what stands here wins over what is merged, an earlier source over a later one
            for text, entry in source.entries.items():
                node.entries.setdefault(text, entry)

    def _merge_sources(self, value: Node, at: Node, path: Path) -> list[Node]:
        sources = value.items if value.kind == "list" else [value]
        if any(source.kind != "mapping" for source in sources):
            self._refuse("'<<' merges mappings, and this is something else", at, path)
        return sources
