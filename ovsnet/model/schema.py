"""The JSON Schema of a model file, for editors and other programs; it derives from the declared types."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from ovsnet.model.fields import Doc, doc_of
from ovsnet.model.structure import RESERVED
from ovsnet.model.types import (
    AllowedAddress,
    Declared,
    External,
    FloatingIp,
    Host,
    Model,
    Network,
    NextHop,
    Outside,
    Port,
    ProviderNetwork,
    Remote,
    RemoteEndpoint,
    Route,
    Router,
    Rule,
    SecurityGroup,
    Subnet,
    Underlay,
    Vpc,
    VpcState,
)

_GROUPS: tuple[type[Declared], ...] = (SecurityGroup, Rule, Remote)
_ROUTERS: tuple[type[Declared], ...] = (Router, Route, NextHop, External)
TYPES: tuple[type[Declared], ...] = (
    Model, Underlay, Host, ProviderNetwork, Vpc, Network, Subnet, *_ROUTERS, Port, AllowedAddress, FloatingIp, *_GROUPS,
)  # fmt: skip
"""The types of a model file, from the top."""

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """The schema of a model file (JSON Schema, draft 2020-12) as plain JSON values.

    It knows types, names, formats and ranges; what holds between objects only :func:`ovsnet.model.load` can tell.
    """
    schema = _schema_of(Model, TYPES, "An ovsnet model")
    model = schema["$defs"]["Model"]
    model["required"] = ["version"]
    model["properties"]["version"] = {"const": 1} | model["properties"]["version"]
    for definition in schema["$defs"].values():
        definition["patternProperties"] = {"^x-": {}}
    return schema


def state_schema() -> dict[str, Any]:
    """The schema of one VPC's state, as a hypervisor is told it."""
    types: tuple[type[Declared], ...] = (
        VpcState, Network, Subnet, Port, RemoteEndpoint, AllowedAddress, FloatingIp, Outside,
    )  # fmt: skip
    return _schema_of(VpcState, (*types, *_ROUTERS, *_GROUPS), "A VPC's state")


def _schema_of(top: type[Declared], types: tuple[type[Declared], ...], title: str) -> dict[str, Any]:
    schema = msgspec.json.schema(top)
    for cls in types:
        definition = schema["$defs"][cls.__name__]
        for key, member in definition["properties"].items():
            doc = doc_of(cls, key)
            if doc:
                _describe(member, doc)
        reserved = ", ".join(sorted(RESERVED.get(cls, ())))
        if reserved:
            definition["description"] += f"\n\nReserved, and refused by this version: {reserved}."
    return {"$schema": DIALECT, "title": title} | schema


def _describe(member: dict[str, Any], doc: Doc) -> None:
    member["description"] = doc.text
    as_text = doc.pattern and doc.least is None and not doc.example.startswith("{")
    member["examples"] = [yaml.load(doc.example, Loader=yaml.BaseLoader if as_text else yaml.SafeLoader)]
    _bound(member, doc)


def _bound(member: dict[str, Any], doc: Doc) -> None:
    """Say the pattern and the bounds of a key's value, or of the items of its list."""
    for branch in [member, *member.get("anyOf", ())]:
        kind = branch.get("type")
        if kind == "string" and doc.pattern:
            branch["pattern"] = doc.pattern
        elif kind == "array" and "$ref" not in branch["items"]:
            _bound(branch["items"], doc)
        elif kind == "object" and doc.pattern:
            branch["propertyNames"] = {"pattern": doc.pattern}
        elif kind == "integer" and doc.least is not None:
            branch["minimum"] = doc.least
            if doc.most is not None:
                branch["maximum"] = doc.most
