"""The generated reference of an API, from its OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Operations = list[tuple[str, str, dict[str, Any]]]
"""Method, path, and the operation as the document has it."""
_SERVICE = dict.fromkeys(("healthz", "readyz", "metrics"), "The service")
_HEADINGS = _SERVICE | dict.fromkeys(("vpcs", "history", "rollback"), "VPCs")


def api_page(document: Mapping[str, Any], head: str) -> str:
    """The page of an API: what there is, by subject, then what parameters and statuses mean.

    ``head`` is the text that it begins with, title and picture included.
    """
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    subjects: dict[str, Operations] = {}
    for one in operations:
        subjects.setdefault(_subject(one[1]), []).append(one)
    lines = [head.rstrip(), ""]
    for subject, found in subjects.items():
        lines += [f"## {subject}", "", *_requests(found), ""]
    lines += ["## Parameters", "", *_parameters(operations), "", "## Statuses", "", *_statuses(operations)]
    return "\n".join(lines) + "\n"


def _subject(path: str) -> str:
    """The heading that a path stands under: the first word that says what it is about."""
    words = [word for word in path.split("/") if word and not word.startswith("{") and word != "v1"]
    word = words[1] if words[0] == "vpcs" and len(words) > 1 else words[0]
    return _HEADINGS.get(word, word.replace("-", " ").capitalize())


def _requests(operations: Operations) -> list[str]:
    lines = ["| request | meaning | parameters | body | refused with |", "| --- | --- | --- | --- | --- |"]
    for method, path, operation in operations:
        named = [one["name"] for one in operation["parameters"] if one["in"] != "path"]
        refused = sorted(status for status in operation["responses"] if status >= "400")
        cells = (
            f"`{method} {path}`",
            operation["summary"],
            ", ".join(f"`{name}`" for name in named),
            _body(operation.get("requestBody")),
            ", ".join(refused),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _body(body: Mapping[str, Any] | None) -> str:
    """The type of a request's body, by its name in the document's schemas."""
    if body is None:
        return ""
    schema = body["content"]["application/json"]["schema"]
    items = schema.get("items", {})
    if "$ref" in schema:
        return f"`{_type(schema)}`"
    if "anyOf" in items:
        return "list of " + ", ".join(f"`{_type(one)}`" for one in items["anyOf"])
    if "$ref" in items:
        return f"list of `{_type(items)}`"
    return "list of text" if items else "any"


def _type(schema: Mapping[str, Any]) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _parameters(operations: Operations) -> list[str]:
    lines = ["| parameter | where | meaning |", "| --- | --- | --- |"]
    found = (one for _, _, operation in operations for one in operation["parameters"])
    return lines + _once(f"| `{one['name']}` | {one['in']} | {_choices(one)} |" for one in found)


def _choices(parameter: Mapping[str, Any]) -> str:
    """What a parameter means, and what it may be."""
    choices = parameter["schema"].get("enum", ())
    words = " or ".join(f"`{word}`" for word in choices)
    return f"{parameter['description']} {words}".strip() + ("." if words else "")


def _statuses(operations: Operations) -> list[str]:
    """What refusals mean; what else there is, an answer's type says."""
    lines = ["| status | meaning |", "| --- | --- |"]
    found: dict[str, str] = {}
    for _, _, operation in operations:
        for status, answer in operation["responses"].items():
            if status >= "400" and "application/problem+json" in answer["content"]:
                found.setdefault(status, answer["description"])
    return lines + [f"| {status} | {found[status]}. |" for status in sorted(found)]


def _once(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))
