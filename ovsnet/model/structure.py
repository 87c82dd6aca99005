"""Nodes to the declared types, driven by the types themselves; everything that does not fit is reported."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, cast

import msgspec
from msgspec import inspect

from ovsnet.errors import Path, shown
from ovsnet.model.fields import doc_of
from ovsnet.model.nodes import Draft, Node
from ovsnet.model.types import (
    AllowedAddress,
    Declared,
    External,
    FloatingIp,
    Model,
    Network,
    NextHop,
    Outside,
    ProviderNetwork,
    RemoteEndpoint,
    Router,
    SecurityGroup,
    Vpc,
    VpcState,
)

BAD = "\x00"
"""Stands, by identity, for text that was reported already, so that nothing else is said about it."""

RESERVED: dict[type, frozenset[str]] = {
    Model: frozenset({"shared_networks", "peerings"}),
    Vpc: frozenset({"virtual_ips", "peerings", "shared_networks"}),
    Network: frozenset({"multicast", "evpn"}),
    Router: frozenset({"evpn"}),
}
"""Keys that the model's language has and that this version refuses."""

_TOP = "for example 'version: 1'"
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_BOOLS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NOTHING = object()

_SPOKEN: dict[type, str] = {
    Vpc: "VPC",
    AllowedAddress: "allowed address",
    NextHop: "next hop",
    RemoteEndpoint: "endpoint",
    SecurityGroup: "security group",
    ProviderNetwork: "provider network",
    Outside: "provider network",
    FloatingIp: "floating IP",
    External: "way out",
    VpcState: "VPC's state",
}

T = TypeVar("T", bound=Declared)


def build(node: Node, cls: type[T], drafts: list[Draft]) -> T:
    """The object that ``node`` declares; parts that are wrong are in ``drafts`` and stand as BAD or left out."""
    value = _Converter(drafts).struct(node, cls, ())
    assert isinstance(value, cls)
    return value


@cache
def _fields(cls: type[Declared]) -> dict[str, inspect.Field]:
    info = inspect.type_info(cls)
    assert isinstance(info, inspect.StructType)
    return {field.encode_name: field for field in info.fields}


def _example(cls: type, key: str) -> str:
    """How the key is written, in quotes."""
    doc = doc_of(cls, key)
    return shown(f"{key}: {doc.example}" if doc else f"{key}: ...")


class _Converter:
    def __init__(self, drafts: list[Draft]) -> None:
        self.drafts = drafts

    def struct(self, node: Node, cls: type[Declared], path: Path) -> Declared:
        """An object of ``cls``; what is needed and missing stands as BAD."""
        fields = _fields(cls)
        values: dict[str, Any] = {}
        if node.kind != "mapping":
            if not (node.is_null and not any(field.required for field in fields.values())):
                self._wrong(node, path, "a mapping", "" if path else _TOP)
        else:
            for key, (key_node, value) in node.entries.items():
                if key.startswith("x-") or (cls is Model and key == "version"):  # the version is checked file by file
                    continue
                if key not in fields:
                    self._strange_key(cls, key, key_node, path)
                    continue
                converted = self._member(cls, key, value, (*path, key))
                if converted is not _NOTHING:
                    values[key] = converted
            for key, field in fields.items():
                if field.required and key not in node.entries:
                    reason = f"{shown(key)} is missing"
                    example = {"example": _example(cls, key)}
                    self.drafts.append(Draft("missing-key", path, reason, example, at=node))
        for key, field in fields.items():
            if field.required and key not in values:
                values[key] = BAD if isinstance(field.type, inspect.StrType) else 0
        return cls(**values)

    def _member(self, cls: type[Declared], key: str, value: Node, path: Path) -> Any:
        known = len(self.drafts)
        converted = self._value(value, _fields(cls)[key].type, path)
        for draft in self.drafts[known:]:
            if draft.code == "wrong-type" and "example" not in draft.values:
                draft.values["example"] = f"for example {_example(cls, key)}"
        return converted

    def _strange_key(self, cls: type[Declared], key: str, node: Node, path: Path) -> None:
        reserved = next((RESERVED[base] for base in cls.__mro__ if base in RESERVED), frozenset())
        if key in reserved:
            reason = f"{shown(key)} is reserved, and not enforced by this version"
            self.drafts.append(Draft("reserved-not-enforced", (*path, key), reason, {"key": shown(key)}, at=node))
            return
        known = sorted(_fields(cls))
        close = get_close_matches(key, [*known, *reserved], n=1)
        if close:
            suggestion = f"Did you mean {shown(close[0])}?"
        else:
            suggestion = "Remove it, or use one of: " + ", ".join(known) + "."
        kind = next((_SPOKEN[base] for base in cls.__mro__ if base in _SPOKEN), cls.__name__.lower())
        reason = f"{shown(key)} is no key of {'an' if kind[0] in 'aeiou' else 'a'} {kind}"
        self.drafts.append(Draft("unknown-key", (*path, key), reason, {"suggestion": suggestion}, at=node))

    def _wrong(self, node: Node, path: Path, wanted: str, example: str = "") -> Any:
        if node.is_null:
            found = "nothing"
        elif node.kind in {"mapping", "list"}:
            found = f"a {node.kind}"
        else:
            found = shown(node.text) + (", which is text," if node.kind == "quoted" else "")
        reason = f"{found} stands here, where {wanted} is needed"
        values = {"wanted": wanted} | ({"example": example} if example else {})
        self.drafts.append(Draft("wrong-type", path, reason, values, at=node))
        return _NOTHING

    def _value(self, node: Node, kind: inspect.Type, path: Path) -> Any:
        if isinstance(kind, inspect.UnionType):
            if node.is_null and kind.includes_none:
                return None
            kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
            if len(kinds) > 1:
                return self._one_of(node, kinds, path)
            kind = kinds[0]
        if isinstance(kind, inspect.StructType):
            return self.struct(node, cast(type[Declared], kind.cls), path)
        if isinstance(kind, inspect.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, inspect.VarTupleType):
            return self._tuple(node, kind, path)
        return self._scalar(node, kind, path)

    def _one_of(self, node: Node, kinds: list[inspect.Type], path: Path) -> Any:
        """A value that may be of several kinds, such as a number or a list: what is written decides which."""
        whole = node.kind in {"plain", "literal"} and _DECIMAL.fullmatch(node.text)
        for kind in kinds:
            if isinstance(kind, inspect.VarTupleType) and node.kind == "list":
                return self._tuple(node, kind, path)
            if isinstance(kind, inspect.StructType) and node.kind == "mapping":
                return self.struct(node, cast(type[Declared], kind.cls), path)
            if isinstance(kind, inspect.IntType) and whole:
                return int(node.text)
            if isinstance(kind, inspect.StrType) and node.kind in {"plain", "quoted"} and not (whole or node.is_null):
                return node.text
        words = {
            inspect.IntType: "a number",
            inspect.StrType: "text",
            inspect.VarTupleType: "a list",
            inspect.StructType: "a mapping",
        }
        return self._wrong(node, path, " or ".join(words[type(kind)] for kind in kinds))

    def _dict(self, node: Node, kind: inspect.DictType, path: Path) -> Any:
        if node.is_null:
            return {}
        if node.kind != "mapping":
            return self._wrong(node, path, "a mapping")
        result: dict[str, Any] = {}
        for key, (_, value) in node.entries.items():
            converted = self._value(value, kind.value_type, (*path, key))
            if converted is not _NOTHING:
                result[key] = converted
        return result

    def _tuple(self, node: Node, kind: inspect.VarTupleType, path: Path) -> Any:
        if node.kind != "list":
            return self._wrong(node, path, "a list")
        values = (self._value(item, kind.item_type, (*path, index)) for index, item in enumerate(node.items))
        return tuple(BAD if value is _NOTHING else value for value in values)

    def _scalar(self, node: Node, kind: inspect.Type, path: Path) -> Any:
        unquoted = node.kind in {"plain", "literal"}
        if isinstance(kind, inspect.IntType):
            return int(node.text) if unquoted and _DECIMAL.fullmatch(node.text) else self._wrong(node, path, "a number")
        if isinstance(kind, inspect.BoolType):
            return _BOOLS[node.text] if unquoted and node.text in _BOOLS else self._wrong(node, path, "true or false")
        text = node.kind in {"plain", "quoted"} and not node.is_null
        if isinstance(kind, inspect.LiteralType):
            wanted = " or ".join(shown(value) for value in kind.values)
            return node.text if text and node.text in kind.values else self._wrong(node, path, wanted)
        return node.text if text else self._wrong(node, path, "text")


def convert_plain(raw: Any, cls: type[T]) -> T | None:
    """The quick path: plain JSON values to ``cls``, or ``None`` if anything does not fit."""
    try:
        return msgspec.convert(raw, cls)
    except (msgspec.ValidationError, RecursionError):
        return None


def convert_known(raw: Any, cls: type[T]) -> T:
    """Plain JSON values to ``cls``, without fields that only a later version knows. Raises msgspec.ValidationError."""
    quick = convert_plain(raw, cls)
    return msgspec.convert(_known(raw, inspect.type_info(cls)), cls) if quick is None else quick


def _known(raw: Any, kind: inspect.Type) -> Any:
    if isinstance(kind, inspect.UnionType) and raw is not None:
        kinds = [one for one in kind.types if not isinstance(one, inspect.NoneType)]
        wanted = inspect.VarTupleType if isinstance(raw, list) else inspect.StructType
        kind = next((one for one in kinds if isinstance(one, wanted)), kinds[0])
    if isinstance(kind, inspect.StructType) and isinstance(raw, dict):
        known = {one.encode_name: one.type for one in kind.fields}
        return {key: _known(value, known[key]) for key, value in raw.items() if key in known}
    if isinstance(kind, inspect.DictType) and isinstance(raw, dict):
        return {key: _known(value, kind.value_type) for key, value in raw.items()}
    if isinstance(kind, inspect.VarTupleType) and isinstance(raw, list):
        return [_known(value, kind.item_type) for value in raw]
    return raw
