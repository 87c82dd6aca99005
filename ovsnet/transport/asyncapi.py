"""The bus as an AsyncAPI 3.0 document, drawn from the types of the messages, with an example of each."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import msgspec

from ovsnet.model.types import VpcState
from ovsnet.transport.changes import PatchBody
from ovsnet.transport.chunks import CHUNK as CHUNK_HEADER
from ovsnet.transport.chunks import HASH, LENGTH
from ovsnet.transport.messages import (
    PROTOCOL,
    ChangeMessage,
    HeadsMessage,
    HelloMessage,
    Item,
    Message,
    PortReport,
    ReportMessage,
    VpcReport,
)
from ovsnet.transport.subjects import CHANGE, CHUNK, HEADS, HELLO, REPORT, Subjects

_PATCH = b'{"previous":6,"revision":7,"ports":{"web2":null}}'
_DIGEST = "5d4140bc9b1f0a6e3c8d7b2a19f04e66"

EXAMPLES: dict[str, Message] = {
    CHANGE: ChangeMessage(
        v=PROTOCOL,
        tx="t-42",
        source="controller",
        items=(
            Item(op="patch", vpc="shop", body=msgspec.Raw(_PATCH)),
            Item(op="delete", vpc="club", revision=12),
        ),
    ),
    HEADS: HeadsMessage(
        v=PROTOCOL, source="controller", vpcs={"shop": (7, _DIGEST)}, spread=0.5, instance="b1946ac92492d234"
    ),
    HELLO: HelloMessage(
        v=PROTOCOL,
        id="5f2a9c01d7e84b36-1",
        host="hv1",
        vtep="10.0.0.11",
        boot="0f6c1f9e-5a39-4d4e-9d5b-6f0f7f1b2c3d",
        reason="connect",
        source="controller",
        speaks=(PROTOCOL,),
        vpcs={"shop": (6, _DIGEST)},
    ),
    REPORT: ReportMessage(
        v=PROTOCOL,
        run="d41d8cd98f00b204",
        serial=3,
        host="hv1",
        vpcs={"shop": VpcReport(7, 7), "club": None},
        ports={"shop/web1": PortReport(up=True), "shop/web3": PortReport(up=False, reason="not plugged")},
    ),
}
"""A message of each kind."""


class _Channel(NamedTuple):
    """A channel: its subject, what travels there, whether towards hosts, and a word about it."""

    address: str
    message: str
    to_host: bool
    text: str


_SUBJECTS = Subjects()
_CHANNELS: dict[str, _Channel] = {
    CHANGE: _Channel(
        _SUBJECTS.to_host("{host}", CHANGE), "ChangeMessage", True, "Operations that become true together."
    ),
    CHUNK: _Channel(_SUBJECTS.to_host("{host}", CHUNK), "Part", True, "A part of a ChangeMessage that is too large."),
    HEADS: _Channel(_SUBJECTS.to_host("{host}", HEADS), "HeadsMessage", True, "What the host should hold."),
    HELLO: _Channel(_SUBJECTS.from_host("{host}", HELLO), "HelloMessage", False, "What the host holds."),
    REPORT: _Channel(_SUBJECTS.from_host("{host}", REPORT), "ReportMessage", False, "What the host enforces."),
}


def asyncapi() -> dict[str, Any]:
    """The document, as data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "ovsnet on NATS",
            "version": str(PROTOCOL),
            "description": "Messages between a publisher and hypervisors. What they mean: docs/bus.md.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "channels": {name: _channel(channel) for name, channel in _CHANNELS.items()} | {"ingest": _ingest()},
        "operations": {name: _operation(name, channel) for name, channel in _CHANNELS.items()}
        | {"ingest": {"action": "receive", "channel": {"$ref": "#/channels/ingest"}, "reply": {}}},
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _schemas() -> dict[str, Any]:
    """The messages' types; an item's body, which is passed on unread, is a whole state or a change."""
    item = _shape(Item, body=Any)
    kinds = (_shape(ChangeMessage, items=tuple[item, ...]), HeadsMessage, HelloMessage, ReportMessage)  # type: ignore[valid-type]
    _, schemas = msgspec.json.schema_components((*kinds, VpcState, PatchBody), ref_template=_REF)
    bodies = [{"$ref": _REF.format(name=kind.__name__)} for kind in (VpcState, PatchBody)]
    schemas["Item"]["properties"]["body"] = {"anyOf": bodies}
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return schemas


def _shape(kind: type[msgspec.Struct], **other: Any) -> type[msgspec.Struct]:
    """A type with the same name and fields, some of another type."""
    fields: list[Any] = []
    for one in msgspec.structs.fields(kind):
        if one.name in other:
            fields.append((one.name, other[one.name], None if one.name == "body" else ()))
        else:
            fields.append((one.name, one.type) if one.required else (one.name, one.type, one.default))
    return msgspec.defstruct(kind.__name__, fields, kw_only=True, namespace={"__doc__": kind.__doc__})


_REF = "#/components/schemas/{name}"


def _channel(channel: _Channel) -> dict[str, Any]:
    return {
        "address": channel.address,
        "description": channel.text,
        "parameters": {"host": {"description": "The host's name in the model."}},
        "messages": {channel.message: {"$ref": f"#/components/messages/{channel.message}"}},
    }


def _ingest() -> dict[str, Any]:
    return {
        "address": _SUBJECTS.ingest("{client}"),
        "description": "A client asks a controller for changes; the body is that of its POST /v1/batch.",
        "parameters": {"client": {"description": "The client's name."}},
        "messages": {"Items": {"$ref": "#/components/messages/Items"}},
    }


def _operation(name: str, channel: _Channel) -> dict[str, Any]:
    """As the publisher sees it: it sends to hosts, and receives from them."""
    return {
        "action": "send" if channel.to_host else "receive",
        "channel": {"$ref": f"#/channels/{name}"},
        "summary": channel.text,
    }


def _messages() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for kind, example in EXAMPLES.items():
        name = type(example).__name__
        found[name] = {
            "name": kind,
            "payload": {"$ref": f"#/components/schemas/{name}"},
            "examples": [{"payload": msgspec.json.decode(msgspec.json.encode(example))}],
        }
    text = {"type": "string"}
    found["Part"] = {
        "name": CHUNK,
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "required": [CHUNK_HEADER, HASH, LENGTH],
            "properties": {
                CHUNK_HEADER: text | {"description": "ID/INDEX/COUNT; INDEX counts from 0."},
                HASH: text | {"description": "SHA-256 of the whole message, in hexadecimal digits."},
                LENGTH: text | {"description": "Bytes of the whole message."},
            },
        },
        "payload": {"description": "A slice of the JSON text of a ChangeMessage."},
    }
    found["Items"] = {
        "name": "items",
        "payload": {"type": "array", "items": {"$ref": "#/components/schemas/Item"}},
    }
    return found
