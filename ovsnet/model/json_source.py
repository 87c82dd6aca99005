"""JSON text to nodes (RFC 8259). For what the quick path refuses: this one knows places and finds every problem."""

from __future__ import annotations

import json
import re
from bisect import bisect_right
from collections.abc import Callable
from json import decoder
from typing import Any

import msgspec

from ovsnet.errors import Path, shown
from ovsnet.model.nodes import MAX_DEPTH, Draft, Node, SourceError, mark

_scan_string: Callable[[str, int, bool], tuple[str, int]] = decoder.scanstring  # type: ignore[attr-defined]
_SPACE = re.compile(r"[ \t\r\n]*")
_LITERAL = re.compile(r"true|false|null|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")


def read_json(text: str, file: str, drafts: list[Draft]) -> Node | None:
    """The document's root (``None``: empty). Duplicate keys go to ``drafts``; a syntax error raises SourceError."""
    return _Scanner(text, file, drafts).document()


def decode_quickly(data: bytes) -> Any:
    """The plain value of JSON without duplicate keys; ``None`` for anything else, and where it is not easy to tell.

    A decoder keeps the last of two equal keys, so the value written again has fewer colons than the text, unless the
    text has escapes, which may hide colons.
    """
    if b"\\" in data:
        return None
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return value if msgspec.json.encode(value).count(b":") == data.count(b":") else None


class _Scanner:
    def __init__(self, text: str, file: str, drafts: list[Draft]) -> None:
        self.text = text
        self.file = file
        self.drafts = drafts
        self.at = 0
        self.lines = [0, *(found.end() for found in re.finditer("\n", text))]

    def document(self) -> Node | None:
        """The only value of the text."""
        if not self._next():
            return None
        root = self._value((), 0)
        if self._next():
            self._fail("something follows the end of the document")
        return root

    def _next(self) -> str:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def _place(self) -> Node:
        line = bisect_right(self.lines, self.at)
        return mark(self.file, line, self.at - self.lines[line - 1] + 1)

    def _fail(self, reason: str, code: str = "syntax-error") -> None:
        raise SourceError(Draft(code, (), reason, at=self._place()))

    def _value(self, path: Path, depth: int) -> Node:
        char = self._next()
        node = self._place()
        if depth > MAX_DEPTH:
            self._fail(f"this is more than {MAX_DEPTH} levels deep", "nesting-limit")
        if char == "{":
            self._mapping(node, path, depth)
        elif char == "[":
            self._list(node, path, depth)
        elif char == '"':
            node.kind, node.text = "quoted", self._string()
        else:
            found = _LITERAL.match(self.text, self.at)
            if not found:
                self._fail("expected a value, found " + (shown(char) if char else "the end of the file"))
                raise AssertionError
            node.kind, node.text = "literal", found.group()
            self.at = found.end()
        return node

    def _string(self) -> str:
        try:
            value, self.at = _scan_string(self.text, self.at + 1, True)
        except json.JSONDecodeError as error:
            self.at = min(error.pos, len(self.text))
            self._fail(error.msg.removesuffix(" at").removesuffix(" starting"))
        if any("\ud800" <= char <= "\udfff" for char in value):
            self._fail("half of a surrogate pair stands in the text before this", "not-utf8")
        return value

    def _list(self, node: Node, path: Path, depth: int) -> None:
        node.kind = "list"
        self.at += 1
        if self._next() != "]":
            while True:
                node.items.append(self._value((*path, len(node.items)), depth + 1))
                if self._next() != ",":
                    break
                self.at += 1
        self._close("]")

    def _mapping(self, node: Node, path: Path, depth: int) -> None:
        node.kind = "mapping"
        self.at += 1
        if self._next() != "}":
            while True:
                self._entry(node, path, depth)
                if self._next() != ",":
                    break
                self.at += 1
        self._close("}")

    def _entry(self, node: Node, path: Path, depth: int) -> None:
        if self._next() != '"':
            self._fail("expected a key in double quotes")
        key = self._place()
        key.kind, key.text = "quoted", self._string()
        if self._next() != ":":
            self._fail("expected ':' after the key")
        self.at += 1
        value = self._value((*path, key.text), depth + 1)
        if key.text in node.entries:
            first = node.entries[key.text][0]
            reason = f"{shown(key.text)} stands here already"
            self.drafts.append(Draft("duplicate-key", (*path, key.text), reason, at=key, other=first))
        else:
            node.entries[key.text] = (key, value)

    def _close(self, bracket: str) -> None:
        if self._next() != bracket:
            self._fail(f"expected ',' or '{bracket}'")
        self.at += 1
