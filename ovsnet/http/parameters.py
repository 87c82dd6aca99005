"""Parameters of requests: declared once, checked against that, and shown in the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ovsnet.http.problems import RequestError

MAX_WAIT = 600.0
"""Seconds that an answer is held back at most."""

_DURATION = r"\d{1,6}(\.\d{1,3})?(ms|s|m)?"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
NAME = r"[a-z0-9][a-z0-9_-]{0,62}"


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query or the path: ``pattern`` is all that its text may be, ``hint`` what to give instead.

    ``parse`` makes the value of the text; ``default`` is the value when it is left out.
    """

    name: str
    doc: str
    pattern: str
    hint: str
    parse: Callable[[str], Any] = str
    default: Any = None
    example: str = ""
    schema: Mapping[str, Any] = field(default_factory=dict)

    def value(self, text: str) -> Any:
        """The value. Raises RequestError."""
        if re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise RequestError(400, "bad-parameter", f"{self.name}={text[:80]}: give {self.hint}")
        return self.parse(text)


def flag(name: str, doc: str) -> Parameter:
    """A parameter that is true or false, and false when left out."""
    return Parameter(
        name, doc, "true|false", "true or false", lambda text: text == "true", False, schema={"enum": ["true", "false"]}
    )


def choice(name: str, doc: str, *choices: str) -> Parameter:
    """One of several words; the first when left out."""
    words = ", ".join(choices[:-1]) + f" or {choices[-1]}"
    return Parameter(name, doc, "|".join(choices), words, str, choices[0], schema={"enum": list(choices)})


def number(name: str, doc: str) -> Parameter:
    """A whole number from 0."""
    return Parameter(name, doc, r"\d{1,18}", "a whole number, 0 or more", int)


def name_of(name: str, doc: str) -> Parameter:
    """The name of an object of the model, or of an owner."""
    return Parameter(name, doc, NAME, "a name: lower case letters, digits, - and _")


def duration(name: str, doc: str, default: float = 0.0) -> Parameter:
    """A duration: ``5s``, ``500ms``, ``1m`` or a bare number of seconds; at most ``MAX_WAIT``."""
    return Parameter(name, doc, _DURATION, "a duration such as 5s or 500ms", _seconds, default, "5s")


def _seconds(text: str) -> float:
    found = re.fullmatch(r"([\d.]+)(ms|s|m)?", text, re.ASCII)
    return 0.0 if found is None else min(MAX_WAIT, float(found[1]) * _UNITS[found[2]])


WAIT = duration("wait", "Hold the answer back until the change is enforced; 202 with the reason after that time.")
DRY_RUN = flag("dry_run", "Only say what would change.")
ADOPT = flag("adopt", "Take over what belongs to another owner.")
OWNER = name_of("owner", "In whose name: what belongs to another owner is refused.")


def parse_query(items: Iterable[tuple[str, str]], declared: Iterable[Parameter]) -> dict[str, Any]:
    """The values of all declared parameters. Raises RequestError for an unknown, doubled or wrong one."""
    known = {parameter.name: parameter for parameter in declared}
    values = {name: parameter.default for name, parameter in known.items()}
    seen: set[str] = set()
    for name, text in items:
        if name not in known:
            accepted = f"this request takes {', '.join(known)}" if known else "this request takes none"
            raise RequestError(400, "unknown-parameter", f"{name[:80]} is no parameter; {accepted}")
        if name in seen:
            raise RequestError(400, "bad-parameter", f"{name} is given twice; give it once")
        seen.add(name)
        values[name] = known[name].value(text)
    return values


def if_match(text: str | None) -> int | None:
    """The revision of an ``If-Match: "REV"`` header, ``None`` without one or for ``*``. Raises RequestError."""
    if text is None or text.strip() == "*":
        return None
    found = re.fullmatch(r'"(\d{1,18})"', text.strip(), re.ASCII)
    if found is None:
        raise RequestError(400, "bad-parameter", f'If-Match: {text[:80]}: give one revision in quotes, such as "7"')
    return int(found[1])


def etag(revision: int) -> dict[str, str]:
    """The header that carries a revision."""
    return {"ETag": f'"{revision}"'}
