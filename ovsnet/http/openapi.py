"""The OpenAPI 3.1 document of endpoints; schemas come from the msgspec types that read and write the bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from ovsnet.http.parameters import Parameter
from ovsnet.http.problems import MEDIA_TYPE, ProblemDocument

if TYPE_CHECKING:
    from ovsnet.http.endpoints import Answer, Endpoint

_STATUS = {
    400: "The request cannot be understood",
    401: "The caller is not known",
    403: "The caller may not do that",
    404: "There is no such object",
    409: "It does not fit what is held",
    412: "The revision is another one than If-Match says",
    413: "The body is too large",
    422: "The contents are wrong",
    500: "The service failed",
    503: "The switch or the store is not available",
    507: "Not stored",
}
_PLACE = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Info:
    """What an API is called, its version, and a paragraph about it."""

    title: str
    version: str
    description: str


def document(info: Info, endpoints: Iterable[Endpoint[Any]], places: Mapping[str, Parameter]) -> dict[str, Any]:
    """The document as plain data."""
    shown = list(endpoints)
    schemas = _Schemas(shown)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in shown:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint, places, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": info.title, "version": info.version, "description": info.description},
        "paths": paths,
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """The JSON Schemas of all types that endpoints speak of."""

    def __init__(self, endpoints: list[Endpoint[Any]]) -> None:
        self._types: list[Any] = [ProblemDocument]
        for endpoint in endpoints:
            if endpoint.body is not None:
                self._add(endpoint.body)
            for answer in endpoint.answers:
                for kind in answer.types:
                    self._add(kind)
        schemas, self.components = msgspec.json.schema_components(
            self._types, ref_template="#/components/schemas/{name}"
        )
        self._schemas = list(schemas)

    def _add(self, kind: Any) -> None:
        if kind not in self._types:
            self._types.append(kind)

    def of(self, *kinds: Any) -> dict[str, Any]:
        """The schema of a value that is of one of these types."""
        found = [self._schemas[self._types.index(kind)] for kind in kinds]
        return found[0] if len(found) == 1 else {"anyOf": found}


def _operation(endpoint: Endpoint[Any], places: Mapping[str, Parameter], schemas: _Schemas) -> dict[str, Any]:
    parameters = [_parameter(places[name], "path") for name in _PLACE.findall(endpoint.path)]
    parameters += [_parameter(one, "query") for one in endpoint.query]
    if endpoint.conditional:
        text = 'Only if this is the revision of the VPC, in quotes: "7".'
        schema = {"type": "string", "pattern": r'^("[0-9]{1,18}"|\*)$'}
        parameters.append({"name": "If-Match", "in": "header", "description": text, "schema": schema})
    responses = {str(one.status): _response(one, schemas) for one in endpoint.answers}
    for status in sorted({400, *endpoint.problems}):
        content = {MEDIA_TYPE: {"schema": schemas.of(ProblemDocument)}}
        known = responses.setdefault(str(status), {"description": _STATUS[status], "content": {}})
        known["content"] |= content
    name = "_".join(_PLACE.sub(r"\1", endpoint.path).replace("-", "_").replace(".", "_").strip("/").split("/"))
    operation: dict[str, Any] = {
        "operationId": f"{endpoint.method.lower()}_{name}",
        "summary": endpoint.summary,
        "parameters": parameters,
        "responses": responses,
    }
    if endpoint.body is not None:
        content = {"application/json": {"schema": schemas.of(endpoint.body)}}
        operation["requestBody"] = {"required": not endpoint.optional_body, "content": content}
    return operation


def _parameter(parameter: Parameter, place: str) -> dict[str, Any]:
    shape = {"type": "string"} | (dict(parameter.schema) or {"pattern": f"^({parameter.pattern})$"})
    shown = {"name": parameter.name, "in": place, "description": parameter.doc, "schema": shape}
    return shown | ({"required": True} if place == "path" else {})


def _response(answer: Answer, schemas: _Schemas) -> dict[str, Any]:
    shape: dict[str, Any] = schemas.of(*answer.types) if answer.types else {}
    if answer.media != "application/json":
        shape = {"type": "string"}
    found: dict[str, Any] = {"description": answer.doc, "content": {answer.media: {"schema": shape}}}
    if answer.etag:
        schema = {"type": "string", "pattern": '^"[0-9]+"$'}
        found["headers"] = {"ETag": {"description": "The VPC's revision, in quotes.", "schema": schema}}
    return found
