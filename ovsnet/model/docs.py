"""The generated pages of the documentation: the model's reference and the list of problems."""

from __future__ import annotations

from typing import Any

from ovsnet.model.fields import NAME_PATTERN, doc_of
from ovsnet.model.problems import PROBLEMS
from ovsnet.model.schema import TYPES, json_schema
from ovsnet.model.structure import RESERVED

_MODEL_HEAD = f"""\
# The model

<!-- Generated from ovsnet/model; do not edit. -->

A model is one or several YAML or JSON files (their union), or directories of them. `ovsnet check` reports everything
that is wrong with it; [errors.md](errors.md) lists what can be. `ovsnet schema` prints a JSON Schema for editors.

- Names match `{NAME_PATTERN}`. A port is named `VPC/NAME` elsewhere.
- Keys that begin with `x-` are ignored in every object: a home for YAML anchors. All other unknown keys are errors.
- Scalars are read by the type that the model needs, not by YAML 1.1's rules: an unquoted MAC address stays text, and so
  do `no` and `1e3` where text belongs; numbers are decimal.
- A MAC address that is left out follows from the port's id. A VNI or an address that is left out is assigned once and
  kept in `MODEL.lock.yaml` beside the model, which belongs into version control. Addresses are given from the second
  host address of a subnet on, VNIs from 10000 on, always the lowest that is free.
- What was assigned stays: declaring an address, a VNI or a MAC that another port or network was given is an error. An
  assignment goes away with its port, when the port declares its addresses, and when its subnet or its network changes.
- Several files: VPCs, and the collections in them, are joined; an object is declared in one file. `name` agrees
  wherever it stands. A site file (`--site`) replaces `hosts`, `underlay` and `provider_networks`, and nothing else.
"""

_GROUPS = """\

## How groups decide

- For each direction, all rules of all groups of a port are one list, the lowest `priority` first; at one priority drop
  comes before reject, and reject before allow. What no rule matches is refused. Both ends decide: egress where the
  packet is sent, then ingress where it is received.
- `security_groups` left out is the group `default`. A VPC that declares none has a built-in one: anything from its own
  members, and all egress. An empty list lets nothing in and nothing out. `port_security: false` lifts all filtering;
  such a port is a member of no group.
- A group without an egress rule allows all egress, behind all rules, unless it says `default_egress: deny`.
- Stateful (the default): the packet that opens a connection is judged, and so are all later ones, replies by the
  opposite direction; ICMP errors about a connection pass with it. This holds for TCP, UDP, SCTP, ICMP and ICMPv6. Other
  protocols, and groups with `stateful: false`, are judged packet by packet, each direction by its own rules. All groups
  of one port are of one sort.
- ARP, neighbour discovery and MLD are not subject to groups.
- A remote `group` stands for the addresses of its members: their `ips`, their IPv6 link-local address if they have
  IPv6, and single addresses of `allowed_addresses`. A range that a member may send from is not one of them: write a
  `cidr` rule for it.
- The rules of one port's groups name at most 64 remote groups and 64 address groups.
"""

_ERRORS_HEAD = """\
# Problems of a model

<!-- Generated from ovsnet/model/problems.py; do not edit. -->

Every message has the form `FILE:LINE:COLUMN: CODE: PATH: REASON. REMEDY`. Codes are stable. All problems are
reported at once; one that only follows from another is left out.

| code | what | applies to |
| --- | --- | --- |
"""


def model_page() -> str:
    """The reference of the model's keys, in Markdown."""
    definitions = json_schema()["$defs"]
    text = _MODEL_HEAD
    for cls in TYPES:
        definition = definitions[cls.__name__]
        text += f"\n## {cls.__name__}\n\n{(cls.__doc__ or '').splitlines()[0]}\n\n"
        text += "| key | type | default | meaning | example |\n| --- | --- | --- | --- | --- |\n"
        for key, member in definition["properties"].items():
            doc = doc_of(cls, key)
            if doc:
                row = (f"`{key}`", _type(member), _default(key, member, definition), doc.text, f"`{doc.example}`")
                text += f"| {' | '.join(row)} |\n"
        if cls in RESERVED:
            words = ", ".join(f"`{word}`" for word in sorted(RESERVED[cls]))
            text += f"\nReserved, and refused by this version (`reserved-not-enforced`): {words}.\n"
    return text + _GROUPS


def _type(member: dict[str, Any]) -> str:
    kinds = [branch for branch in member.get("anyOf", [member]) if branch.get("type") != "null"]
    if len(kinds) > 1:
        return " or ".join(_type(kind) for kind in kinds)
    kind = kinds[0]
    if "const" in kind or "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind.get("enum", [kind.get("const")]))
    if "$ref" in kind:
        return f"[{_name(kind)}](#{_name(kind).lower()})"
    if kind["type"] == "array":
        return f"list of {_type(kind['items'])}"
    if kind["type"] == "object":
        return f"mapping of name to {_type(kind['additionalProperties'])}"
    words: dict[str, str] = {"string": "text", "integer": "number", "boolean": "true or false"}
    return words[kind["type"]]


def _name(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _default(key: str, member: dict[str, Any], definition: dict[str, Any]) -> str:
    if key in definition.get("required", ()):
        return "needed"
    value = member.get("default")
    if value in (None, "") or isinstance(value, list | tuple | dict):
        return ""
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def errors_page() -> str:
    """The list of problems, in Markdown."""
    text = _ERRORS_HEAD
    for kind in PROBLEMS.values():
        text += f"| [{kind.code}](#{kind.code}) | {kind.title} | {', '.join(kind.applies_to)} |\n"
    for kind in PROBLEMS.values():
        text += f"\n## {kind.code}\n\n{kind.title}. {kind.meaning}\n"
        if "{" not in kind.remedy:
            text += f"\n{kind.remedy}\n"
    return text


PAGES = {"model.md": model_page, "errors.md": errors_page}
"""The generated pages by file name."""
