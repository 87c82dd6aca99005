"""Which files make a model, and their union."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from ovsnet.errors import Path, shown
from ovsnet.model.json_source import decode_quickly, read_json
from ovsnet.model.nodes import Draft, Node, SourceError, mark
from ovsnet.model.yaml_source import place_of, read_yaml

SUFFIXES = (".yaml", ".yml", ".json")
LOCK_SUFFIX = ".lock.yaml"
SITE_KEYS = ("hosts", "underlay", "provider_networks")

_COLLECTIONS = ("networks", "routers", "ports", "floating_ips", "security_groups", "address_groups")
_JOINED = (
    ("hosts",),
    ("provider_networks",),
    ("vpcs",),
    ("vpcs", "*"),
    *(("vpcs", "*", kind) for kind in _COLLECTIONS),
)
_MAPPING = {"wanted": "a mapping", "example": "for example 'hosts: {hv1: {vtep: 10.0.0.11}}'"}
_MUST_AGREE = {"name", "tenant", "version"}


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text; ``name`` is the file as messages name it."""

    name: str
    data: bytes

    @property
    def is_json(self) -> bool:
        """True if the file's name says JSON."""
        return self.name.endswith(".json")


def read_sources(paths: Sequence[FilePath], drafts: list[Draft]) -> list[Source]:
    """The texts of files, and of the model files in directories, in order; what cannot be read is in ``drafts``."""
    sources: dict[FilePath, Source] = {}
    for path in paths:
        for file in _expand(path, drafts):
            if file in sources:
                continue
            try:
                sources[file] = Source(str(file), file.read_bytes())
            except (OSError, ValueError) as error:
                drafts.append(_unreadable(file, error))
    return list(sources.values())


def _expand(path: FilePath, drafts: list[Draft]) -> Iterator[FilePath]:
    try:
        if not path.is_dir():
            yield path
            return
        inside = sorted(one for one in path.iterdir() if one.name.endswith(SUFFIXES) and one.is_file())
    except (OSError, ValueError) as error:
        drafts.append(_unreadable(path, error))
        return
    files = [one for one in inside if not one.name.endswith(LOCK_SUFFIX) and not one.name.startswith(".")]
    if not files:
        reason = "there is no .yaml, .yml or .json file in this directory"
        drafts.append(Draft("unreadable-file", (), reason, at=mark(str(path), 0, 0)))
    yield from files


def _unreadable(path: FilePath, error: Exception) -> Draft:
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else str(error)
    return Draft("unreadable-file", (), f"the file cannot be read: {reason}", at=mark(str(path), 0, 0))


def default_name(path: FilePath) -> str:
    """The model's name where no file gives one: the first file's stem, or the directory's name."""
    stem = path.resolve().name if path.is_dir() else path.name
    for suffix in SUFFIXES:
        stem = stem.removesuffix(suffix)
    return re.sub(r"[^a-z0-9_-]+", "-", stem.lower()).strip("-_")[:63] or "model"


def parse(source: Source, drafts: list[Draft]) -> Node | None:
    """The root of a file's document, ``None`` after a problem that hides all of it."""
    try:
        text = source.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = source.data[: error.start].decode("utf-8", "replace")
        line, column = place_of(before, len(before))
        reason = f"the byte 0x{source.data[error.start]:02x} is not UTF-8"
        drafts.append(Draft("not-utf8", (), reason, at=mark(source.name, line, column)))
        return None
    try:
        root = (read_json if source.is_json else read_yaml)(text, source.name, drafts)
    except SourceError as error:
        drafts.append(error.draft)
        return None
    if root is None or root.is_null:
        drafts.append(Draft("empty-file", (), "there is nothing in the file", at=mark(source.name)))
        return None
    return root


def check_version(root: Node, drafts: list[Draft]) -> None:
    """Every file says which version of the language it is in: ``missing-key`` or ``unknown-version``."""
    if root.kind != "mapping":
        return
    entry = root.entries.get("version")
    if entry is None:
        drafts.append(Draft("missing-key", (), "'version' is missing", {"example": "'version: 1'"}, at=root))
        return
    value = entry[1]
    if value.text != "1" or value.kind not in {"plain", "literal"}:
        said = f"a {value.kind}" if value.kind in {"mapping", "list"} else shown(value.text)
        said += " in quotes" if value.kind == "quoted" else ""
        drafts.append(Draft("unknown-version", ("version",), f"the version is {said}, not 1", at=value))


def union(roots: Sequence[Node], drafts: list[Draft]) -> Node:
    """One document of several; what two of them declare is a ``duplicate-declaration``."""
    result = roots[0]
    for root in roots[1:]:
        if root.kind == result.kind == "mapping":
            result = _join(result, root, (), drafts)
        else:
            wrong = root if root.kind != "mapping" else result
            values = _MAPPING
            drafts.append(Draft("wrong-type", (), "this is no mapping of a model's keys", values, at=wrong))
    return result


def _join(first: Node, second: Node, path: Path, drafts: list[Draft]) -> Node:
    joined = Node("mapping", first.file, first.line, first.column, entries=dict(first.entries))
    for key, (key_node, value) in second.entries.items():
        place = (*path, key)
        there = joined.entries.get(key)
        if there is None or there[1].is_null:
            joined.entries[key] = (key_node, value)
        elif _is_joined(place) and there[1].kind == value.kind == "mapping":
            joined.entries[key] = (there[0], _join(there[1], value, place, drafts))
        elif not (value.is_null or _ignored(key, path) or _agree(key, place, there[1], value)):
            what = f"{shown(key)} is {shown(there[1].text)}" if key in _MUST_AGREE else f"{shown(key)} is declared"
            reason = f"{what} in another place already"
            drafts.append(Draft("duplicate-declaration", place, reason, at=key_node, other=there[0]))
    return joined


def _is_joined(path: Path) -> bool:
    return any(
        len(path) == len(shape) and all(want in {"*", step} for want, step in zip(shape, path, strict=True))
        for shape in _JOINED
    )


def _ignored(key: str, path: Path) -> bool:
    """True for ``x-`` keys of an object; in a collection they are names like others."""
    return key.startswith("x-") and len(path) in {0, 2}


def _agree(key: str, path: Path, first: Node, second: Node) -> bool:
    return key in _MUST_AGREE and len(path) in {1, 3} and first.text == second.text


def apply_site(root: Node, site: Node, drafts: list[Draft]) -> Node:
    """The model with the site's hosts, underlay and provider networks in the place of its own."""
    if root.kind != "mapping" or site.kind != "mapping":
        wrong = site if site.kind != "mapping" else root
        drafts.append(Draft("wrong-type", (), "this is no mapping of keys", _MAPPING, at=wrong))
        return root
    for key, (key_node, _) in site.entries.items():
        if key not in {*SITE_KEYS, "version", "name"} and not key.startswith("x-"):
            reason = f"{shown(key)} is not part of a site"
            drafts.append(Draft("not-in-site-file", (key,), reason, {"key": shown(key)}, at=key_node))
    entries = {key: entry for key, entry in root.entries.items() if key not in SITE_KEYS}
    entries |= {key: entry for key, entry in site.entries.items() if key in SITE_KEYS}
    return Node("mapping", root.file, root.line, root.column, entries=entries)


def plain_json(source: Source) -> dict[str, Any] | None:
    """A JSON file's plain value if it is an object of version 1 without a duplicate key, else ``None``."""
    raw = decode_quickly(source.data) if source.is_json else None
    if not isinstance(raw, dict) or type(raw.get("version")) is not int or raw["version"] != 1:
        return None
    return raw
