"""``docs/pipeline.md``, written from the declaration alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ovsnet.pipeline.fields import Field, RegisterField
from ovsnet.pipeline.render import template_text
from ovsnet.pipeline.tables import Table
from ovsnet.pipeline.template import FlowTemplate

_HEAD = """\
# The pipeline

<!-- Written by `make docs` from ovsnet/pipeline and ovsnet/features: edit those. -->

A frame enters at the first table and goes down. What no flow matches meets the table's *miss*. Every flow is a row of
one of the templates below: the shape is declared once, the values are the model's.

"""


def pipeline_markdown(
    tables: Sequence[Table],
    registers: Sequence[RegisterField],
    templates: Sequence[FlowTemplate],
    features: Mapping[str, str],
    samples: Mapping[str, str],
) -> str:
    """The whole page. ``features``: name -> what for; ``samples``: a template's name -> a readable flow."""
    parts = [_HEAD, "```text\n", *_picture(tables), "```\n\n## Register fields\n\n", *_registers(registers)]
    parts += ["\n## Features\n\n", *(f"- **{name}**: {doc}\n" for name, doc in features.items())]
    for table in tables:
        parts += _table(table, [t for t in templates if t.table is table], samples)
    return "".join(parts)


def _picture(tables: Sequence[Table]) -> Iterable[str]:
    width = max(len(table.name) for table in tables)
    for table in tables:
        ways = [*table.next, *(f"{name}()" for name in table.calls), *(["out"] if table.output else [])]
        yield f"  {table.id:>3}  {table.name:<{width}}  -> {', '.join(ways):<36} miss: {table.miss}\n"


def _registers(registers: Sequence[RegisterField]) -> Iterable[str]:
    yield "| field | where | lives | meaning |\n| --- | --- | --- | --- |\n"
    for field in registers:
        bits = f"reg{field.register}[{field.low}..{field.low + field.bits - 1}]"
        yield f"| `{field.name}` | `{bits}` | {field.first} to {field.last} | {field.meaning} |\n"


def _names(fields: Iterable[Field]) -> str:
    return ", ".join(f"`{field.name}`" for field in fields) or "nothing"


def _table(table: Table, templates: Sequence[FlowTemplate], samples: Mapping[str, str]) -> Iterable[str]:
    yield f"\n## {table.id}: {table.name}\n\n{table.doc}\n\n"
    yield f"- matches {_names(table.reads)}\n- sets {_names(table.writes)}\n\n"
    yield "| priority | template | what for |\n| --- | --- | --- |\n"
    listed = sorted(templates, key=_order)
    for template in listed:
        yield f"| {_priority(template)} | `{template.name}` | {template.doc} |\n"
    yield "\n```text\n"
    for template in listed:
        yield f"{template.name}\n    {template_text(template)}\n"
        if template.name in samples:
            yield f"    e.g. {samples[template.name]}\n"
    yield "```\n"


def _order(template: FlowTemplate) -> tuple[int, str]:
    return (-template.priority if isinstance(template.priority, int) else 1, template.name)


def _priority(template: FlowTemplate) -> str:
    return str(template.priority) if isinstance(template.priority, int) else "by rank"
