"""The generated reference of all commands, from what the command line declares."""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import typing
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import typer

from ovsnet.agent.main import parser as agent_parser
from ovsnet.cli import app
from ovsnet.controller.main import parser as controller_parser

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

Exit codes: 0, it is so; 1, it is not (findings, a packet that does not arrive, something that is not enforced); 2, a
mistake in the command or the model, with a message that names it. `--json` prints one JSON document. Colours appear
on a terminal only.
"""
_EXAMPLES = re.compile(r"^Examples?: ")
_WORDS = {Path: "PATH", int: "N", float: "N", str: "TEXT"}
_SERVICES = {"agent": agent_parser, "controller": controller_parser}
"""Commands whose options are those of a service."""


def cli_page() -> str:
    """The page: a section for each command, in the order of the help."""
    sections: list[str] = []
    for path, command in _commands(typer.main.get_command(app), ()):
        sections += _service(path) if path[-1] in _SERVICES else _section(path, command)
    return "\n".join([_HEAD, *sections]).rstrip() + "\n"


def _commands(group: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in group.commands.items():
        yield (*path, name), command
        if hasattr(command, "commands"):
            yield from _commands(command, (*path, name))


def _section(path: tuple[str, ...], command: Any) -> list[str]:
    """One command: its usage, its text, its arguments and options, its examples."""
    head = ["#" * (len(path) + 1) + f" {' '.join(path)}", ""]
    paragraphs = [" ".join(part.split()) for part in command.help.split("\n\n")]
    examples = [part for part in paragraphs if _EXAMPLES.match(part)]
    text = [line for part in paragraphs if part not in examples for line in (part, "")]
    if hasattr(command, "commands"):
        return [*head, *text]
    hints = typing.get_type_hints(inspect.unwrap(command.callback))
    shown = [one for one in command.params if not one.hidden and one.name != "help"]
    arguments = [one for one in shown if not one.opts[0].startswith("-")]
    options = [one for one in shown if one.opts[0].startswith("-")]
    words = ["ovsnet", *path, *(["[OPTIONS]"] if options else []), *map(_argument, arguments)]
    rows = [(f"`{_argument(one)}`", _meaning(one.help, [])) for one in arguments]
    table = _table([*rows, *(_option(one, hints[one.name]) for one in options)])
    for line in examples:
        table += [*(f"    {one}" for one in _EXAMPLES.sub("", line).split(" · ")), ""]
    return [*head, f"    {' '.join(words)}", "", *text, *table]


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper())
    if parameter.nargs == -1 and not name.endswith("..."):
        name += "..."
    return name if parameter.required else f"[{name}]"


def _option(parameter: Any, hint: Any) -> tuple[str, str]:
    """An option's names with its value, and its meaning."""
    value = "" if parameter.is_flag else parameter.metavar or _value(hint)
    more = [f"default `{_plain(parameter.default)}`"] if parameter.default and not parameter.is_flag else []
    more += ["needed"] if parameter.required else []
    more += ["may be given several times"] if parameter.multiple else []
    more += [f"environment `{parameter.envvar}`"] if parameter.envvar else []
    return _names((*parameter.opts, *parameter.secondary_opts), value), _meaning(parameter.help, more)


def _names(names: Iterable[str], value: str) -> str:
    """An option's names and its value; choices without the bar, which would end a cell of the table."""
    shown = " or ".join(f"`{word}`" for word in value.split("|") if word)
    return f"{', '.join(f'`{name}`' for name in names)} {shown}".strip()


def _value(hint: Any) -> str:
    """What to give for an option: its choices, or a word for its type."""
    kinds = [one for one in typing.get_args(hint) if one is not type(None)] or [hint]
    kind = kinds[0]
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return "|".join(str(one.value) for one in kind)
    return _WORDS.get(kind, "TEXT")


def _plain(default: Any) -> str:
    return str(default.value) if isinstance(default, enum.Enum) else str(default)


def _meaning(text: str | None, more: list[str]) -> str:
    found = (text or "").strip()
    return f"{found} ({', '.join(more)})".strip() if more else found


def _table(rows: list[tuple[str, str]]) -> list[str]:
    lines = [f"| {name} | {meaning} |" for name, meaning in rows]
    return ["| | meaning |", "| --- | --- |", *lines, ""] if lines else []


def _service(path: tuple[str, ...]) -> list[str]:
    """The command that runs a service, with the options of the service."""
    parser = _SERVICES[path[-1]]()
    told, _, example = (parser.epilog or "").partition("\n\nExample: ")
    about = f"{parser.description} The same as `{parser.prog}`. {told}"
    actions = [one for one in parser._actions if one.dest not in {"help", "version"}]
    rows = [(_names(one.option_strings, _given(one)), _told(one, parser.prog)) for one in actions]
    return [f"## {path[-1]}", "", f"    ovsnet {path[-1]} OPTIONS", "", about, "", *_table(rows), f"    {example}", ""]


def _given(action: argparse.Action) -> str:
    """What to give for an option of a service."""
    if action.nargs == 0:
        return ""
    return "|".join(map(str, action.choices or ())) or str(action.metavar or action.dest.upper())


def _told(action: argparse.Action, prog: str) -> str:
    text = (action.help or "") % {"default": action.default, "prog": prog}
    return f"{text} (needed)" if action.required else text
