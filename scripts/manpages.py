"""Manual pages, drawn from what the commands declare of themselves: man(7)'s macros."""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator
from enum import Enum
from typing import Any

import typer.main

from ovsnet._version import VERSION
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
SERVICE_EXITS = {
    0: "It was ended by SIGTERM or SIGINT.",
    EXIT_MISTAKE: "The user's mistake, in one message with place, reason and remedy.",
}
CONTROLLER_EXITS = SERVICE_EXITS | {EXIT_UNAVAILABLE: "The store does not answer."}
AGENT_FILES = {
    "/run/ovsnet/agent.sock": "The API, open to its owner and group.",
    "/var/lib/ovsnet": "What the agent was told, kept over restarts.",
    "/etc/ovsnet/agent.env": "The options of ovsnet\\-agent.service.",
}
CONTROLLER_FILES = {
    "/run/ovsnet-controller/controller.sock": "The API, open to its owner and group.",
    "/var/lib/ovsnet-controller/controller.db": "The store, when it is SQLite.",
    "/etc/ovsnet/controller.env": "The options of ovsnet\\-controller.service.",
}


def manpages() -> dict[str, str]:
    """Every page: its file's name -> text."""
    return {
        "ovsnet.1": _commands(),
        "ovsnet-agent.8": _service(agent_parser(), AGENT_FILES, SERVICE_EXITS),
        "ovsnet-controller.8": _service(controller_parser(), CONTROLLER_FILES, CONTROLLER_EXITS),
    }


def _commands() -> str:
    """The page of ``ovsnet`` with all its commands."""
    root = typer.main.get_command(app)
    lines = _head("ovsnet", 1, "User Commands", root.help or "")
    lines += [".SH SYNOPSIS", r"\fBovsnet\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]", ".SH DESCRIPTION"]
    lines += _paragraphs(root.help or "") + _options(root.params)
    lines.append(".SH COMMANDS")
    for words, command in _leaves(root, ("ovsnet",)):
        arguments = [rf"\fI{_text(_metavar(one))}\fR" for one in command.params if one.param_type_name == "argument"]
        lines.append(f'.SS "{" ".join([_text(" ".join(words)), *arguments])}"')
        lines += _paragraphs(inspect.cleandoc(command.help or "")) + _options(command.params)
    return _page([*lines, *_exits(EXITS)], ("ovsnet-agent(8)", "ovsnet-controller(8)", "ovs-vswitchd(8)"))


def _leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that name it."""
    for name, below in getattr(command, "commands", {}).items():
        if getattr(below, "commands", None):
            yield from _leaves(below, (*words, name))
        else:
            yield (*words, name), below


def _service(parser: argparse.ArgumentParser, files: dict[str, str], exits: dict[int, str]) -> str:
    """The page of a service's process."""
    description = parser.description or ""
    lines = _head(parser.prog, 8, "System Manager's Manual", description)
    required = [rf"\fB{_text(one.option_strings[-1])}\fR \fI{_argument(one)}\fR" for one in _actions(parser, True)]
    lines += [".SH SYNOPSIS", " ".join([rf"\fB{_text(parser.prog)}\fR", *required, r"[\fIOPTIONS\fR]"])]
    lines += [".SH DESCRIPTION", *_paragraphs(f"{description}\n\n{inspect.cleandoc(parser.epilog or '')}")]
    for group in parser._action_groups:
        if group._group_actions:
            lines.append(f".SH {_text((group.title or '').upper())}")
            for action in group._group_actions:
                names = ", ".join(rf"\fB{_text(name)}\fR" for name in action.option_strings)
                value = "" if action.nargs == 0 else rf" \fI{_argument(action)}\fR"
                lines += [".TP", names + value, _text(_expanded(action, parser.prog))]
    lines.append(".SH FILES")
    for path, meaning in files.items():
        lines += [".TP", rf"\fI{_text(path)}\fR", meaning]
    return _page([*lines, *_exits(exits)], ("ovsnet(1)", "ovs-vswitchd(8)", "systemd.service(5)"))


def _actions(parser: argparse.ArgumentParser, required: bool) -> list[argparse.Action]:
    return [action for action in parser._actions if action.required is required]


def _argument(action: argparse.Action) -> str:
    if action.choices is not None:
        return _text("|".join(map(str, action.choices)))
    return _text(str(action.metavar or action.dest.upper().replace("_", "-")))


def _expanded(action: argparse.Action, program: str) -> str:
    said = (action.help or "") % {**vars(action), "prog": program}
    return f"{said[:1].upper()}{said[1:]}."


def _metavar(param: Any) -> str:
    """What stands for a parameter's value."""
    if isinstance(param.default, Enum):
        return "|".join(one.value for one in type(param.default))
    return str(param.metavar or param.opts[0].lstrip("-").upper())


def _options(params: Iterable[Any]) -> list[str]:
    lines = []
    for one in params:
        if one.param_type_name == "argument":
            names = rf"\fI{_text(_metavar(one))}\fR"
        else:
            names = ", ".join(rf"\fB{_text(name)}\fR" for name in one.opts)
            names += "" if one.is_flag else rf" \fI{_text(_metavar(one))}\fR"
        default = one.default.value if isinstance(one.default, Enum) else one.default
        shown = f" (default: {default})" if isinstance(default, str | float | int) and default else ""
        lines += [".TP", names, _text(f"{one.help or ''}{shown}")]
    return lines


def _head(name: str, section: int, manual: str, purpose: str) -> list[str]:
    title = f'.TH "{name.upper()}" "{section}" "" "ovsnet {VERSION}" "{manual}"'
    words = purpose.strip().rstrip(".")
    return [title, ".SH NAME", rf"{_text(name)} \- {_text(words[:1].lower() + words[1:])}"]


def _exits(exits: dict[int, str]) -> list[str]:
    lines = [".SH EXIT STATUS"]
    for code, meaning in exits.items():
        lines += [".TP", rf"\fB{code}\fR", _text(meaning)]
    return lines


def _page(lines: list[str], also: Iterable[str]) -> str:
    pages = (re.sub(r"(.+)\((\d)\)", lambda found: rf"\fB{_text(found[1])}\fR({found[2]})", one) for one in also)
    origin = r".\" Written by scripts/generate_docs.py from the program's own options."
    return "\n".join([origin, *lines, ".SH SEE ALSO", ",\n".join(pages)]) + "\n"


def _paragraphs(text: str) -> list[str]:
    """Paragraphs of a help text; what follows ``Example:`` stands as it is typed."""
    lines: list[str] = []
    for number, paragraph in enumerate(re.split(r"\n\s*\n", text.strip())):
        words = " ".join(paragraph.split())
        if found := re.match(r"(Examples?:) (.*)", words):
            lines += [".PP", found[1], ".RS 4", ".EX", *map(_text, found[2].split(" · ")), ".EE", ".RE"]
        else:
            lines += [*([".PP"] if number else []), _text(words)]
    return lines


def _text(text: str) -> str:
    """Text as roff prints it: hyphens that can be copied, words in backticks bold, no line taken for a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
