"""The generated reference of all commands, from what the command line declares."""

from __future__ import annotations

from collections.abc import Iterable

from ovsnet.cli import described
from ovsnet.cli.described import Command, Parameter

_HEAD = """\
# The command line

<!-- Generated from ovsnet/cli; do not edit. -->

```text
   ovsnet ──┬── looks at a model ────── check   lint   schema   compile   port
            ├── at what is in force ─── plan   status   trace   explain
            ├── changes it ──────────── apply
            ├── runs a service ──────── agent   controller
            ├── plays a whole cloud ─── lab up, exec, test, kill, ...
            └── hands out rights ────── pki init, host, token, ...
```

    ovsnet check examples/models/demo.yaml
    ovsnet --install-completion         # for your shell

`--json` prints one JSON document. Colours appear on a terminal only.
"""


def cli_page() -> str:
    """The page: a section for each command, in the order of the help."""
    exits = [(f"exit code {code}", meaning) for code, meaning in described.EXITS.items()]
    lines = [_HEAD, *_table(exits)]
    for one in described.commands():
        lines += _service(one) if one.words[-1] in described.SERVICES else _section(one)
    return "\n".join(lines).rstrip() + "\n"


def _section(command: Command) -> list[str]:
    """One command: its usage, its text, its arguments and options, its examples."""
    name = " ".join(command.words)
    head = [f"{'#' * (len(command.words) + 1)} {name}", ""]
    text = [line for part in command.text.paragraphs for line in (part, "")]
    if command.group:
        return [*head, *text]
    arguments = [one for one in command.parameters if not one.names]
    options = [one for one in command.parameters if one.names]
    words = ["ovsnet", name, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
    rows = [(f"`{_argument(one)}`", one.meaning) for one in arguments]
    table = _table([*rows, *map(_option, options)])
    return [*head, f"    {' '.join(words)}", "", *text, *table, *_block(command.text.examples)]


def _argument(one: Parameter) -> str:
    return one.value if one.required else f"[{one.value}]"


def _option(one: Parameter) -> tuple[str, str]:
    """An option's names with its value, and its meaning."""
    more = [f"default `{one.default}`"] if one.default else []
    more += ["needed"] if one.required else []
    more += ["may be given several times"] if one.multiple else []
    more += [f"environment `{one.environment}`"] if one.environment else []
    # Choices stand without the bar, which would end a cell of the table.
    value = " or ".join(f"`{word}`" for word in one.value.split("|") if word)
    names = ", ".join(f"`{name}`" for name in one.names)
    return f"{names} {value}".strip(), f"{one.meaning} ({', '.join(more)})".strip() if more else one.meaning


def _table(rows: Iterable[tuple[str, str]]) -> list[str]:
    lines = [f"| {name} | {meaning} |" for name, meaning in rows]
    return ["| | meaning |", "| --- | --- |", *lines, ""] if lines else []


def _block(examples: Iterable[str]) -> list[str]:
    lines = [f"    {one}" for one in examples]
    return [*lines, ""] if lines else []


def _service(command: Command) -> list[str]:
    """The command that runs a service, with the options of the service."""
    name = command.words[-1]
    parser = described.SERVICES[name]()
    text = described.text_of(parser.epilog or "")
    about = f"{parser.description} The same as `{parser.prog}`. {' '.join(text.paragraphs)}"
    actions = [one for one in parser._actions if one.dest not in {"help", "version"}]
    table = _table(_option(described.option_of(one, parser.prog)) for one in actions)
    return [f"## {name}", "", f"    ovsnet {name} OPTIONS", "", about, "", *table, *_block(text.examples)]
