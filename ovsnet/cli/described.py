"""What the command line declares of itself, for the pages that are written from it: commands, options, exit codes."""

from __future__ import annotations

import argparse
import enum
import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import typer

from ovsnet.agent.main import parser as agent_parser
from ovsnet.cli import app
from ovsnet.controller.main import parser as controller_parser
from ovsnet.errors import EXIT_MISTAKE, EXIT_NO, EXIT_UNAVAILABLE

EXITS = {
    0: "It is done, or the answer is yes.",
    EXIT_NO: "The answer is no: not delivered, not as declared, not enforced in time.",
    EXIT_MISTAKE: "The user's mistake, in one message with place, reason and remedy. Nothing was changed.",
    EXIT_UNAVAILABLE: "An agent, a controller, a switch or a lab does not answer.",
}
"""The exit codes of ``ovsnet`` and what they say."""
SERVICES: Mapping[str, Callable[[], argparse.ArgumentParser]] = {"agent": agent_parser, "controller": controller_parser}
"""Commands whose options are those of a service."""
_EXAMPLES = re.compile(r"Examples?: ")
_WORDS = {Path: "PATH", int: "N", float: "N", str: "TEXT"}


class Parameter(NamedTuple):
    """An argument (no names) or an option; ``value`` is what to give: choices with bars, for a flag nothing."""

    names: tuple[str, ...]
    value: str
    meaning: str
    default: str = ""
    required: bool = False
    multiple: bool = False
    environment: str = ""


class Text(NamedTuple):
    """A help text: its paragraphs, each in one line, and the commands that are its examples."""

    paragraphs: tuple[str, ...]
    examples: tuple[str, ...]


class Command(NamedTuple):
    """A command or, with ``group``, the head of several; ``words`` are those behind ``ovsnet``."""

    words: tuple[str, ...]
    text: Text
    parameters: tuple[Parameter, ...]
    group: bool


def text_of(told: str) -> Text:
    """A help text in its parts; a paragraph that begins with ``Example:`` has examples, parted by dots."""
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", told.strip())]
    examples = [one for part in found if _EXAMPLES.match(part) for one in _EXAMPLES.sub("", part, count=1).split(" · ")]
    return Text(tuple(part for part in found if not _EXAMPLES.match(part)), tuple(examples))


def root() -> Command:
    """``ovsnet`` itself."""
    found = typer.main.get_command(app)
    return Command((), text_of(found.help or ""), tuple(_parameter(one, {}) for one in found.params), True)


def commands() -> Iterator[Command]:
    """All commands, each group before what is in it, in the order of the help."""
    yield from _below(typer.main.get_command(app), ())


def _below(group: Any, words: tuple[str, ...]) -> Iterator[Command]:
    for name, command in group.commands.items():
        inside = hasattr(command, "commands")
        hints = {} if inside else typing.get_type_hints(inspect.unwrap(command.callback))
        shown = () if inside else tuple(_parameter(one, hints) for one in command.params if not one.hidden)
        yield Command((*words, name), text_of(command.help or ""), shown, inside)
        if inside:
            yield from _below(command, (*words, name))


def _parameter(declared: Any, hints: Mapping[str, Any]) -> Parameter:
    """A parameter as typer has it."""
    meaning = (declared.help or "").strip()
    if declared.param_type_name == "argument":
        name = str(declared.metavar or declared.name.upper())
        more = "..." if declared.nargs == -1 and not name.endswith("...") else ""
        return Parameter((), name + more, meaning, required=declared.required)
    default = "" if declared.is_flag or not declared.default else _plain(declared.default)
    return Parameter(
        (*declared.opts, *declared.secondary_opts),
        "" if declared.is_flag else str(declared.metavar or _value(hints[declared.name])),
        meaning,
        default,
        declared.required,
        declared.multiple,
        declared.envvar or "",
    )


def _value(hint: Any) -> str:
    """What to give for an option: its choices, or a word for its type."""
    kind = hint
    while inside := [one for one in typing.get_args(kind) if one is not type(None)]:
        kind = inside[0]
    if inspect.isclass(kind) and issubclass(kind, enum.Enum):
        return "|".join(str(one.value) for one in kind)
    return _WORDS.get(kind, "TEXT")


def _plain(default: Any) -> str:
    return str(default.value) if isinstance(default, enum.Enum) else str(default)


def option_of(action: argparse.Action, prog: str) -> Parameter:
    """An option of a service; its help names the default itself."""
    given = "|".join(map(str, action.choices or ())) or str(action.metavar or action.dest.upper())
    meaning = (action.help or "") % {**vars(action), "prog": prog}
    return Parameter(
        tuple(action.option_strings), "" if action.nargs == 0 else given, meaning, required=action.required
    )
