"""Manual pages, drawn from what the commands declare of themselves: man(7)'s macros."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable

from ovsnet._version import VERSION
from ovsnet.cli import described
from ovsnet.cli.described import Parameter, Text
from ovsnet.errors import EXIT_MISTAKE, EXIT_UNAVAILABLE

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
        "ovsnet-agent.8": _service(described.SERVICES["agent"](), AGENT_FILES, SERVICE_EXITS),
        "ovsnet-controller.8": _service(described.SERVICES["controller"](), CONTROLLER_FILES, CONTROLLER_EXITS),
    }


def _commands() -> str:
    """The page of ``ovsnet`` with all its commands."""
    root = described.root()
    purpose = " ".join(root.text.paragraphs)
    lines = _head("ovsnet", 1, "User Commands", purpose)
    lines += [".SH SYNOPSIS", r"\fBovsnet\fR \fICOMMAND\fR [\fIOPTIONS\fR] [\fIARGUMENTS\fR]", ".SH DESCRIPTION"]
    lines += [_text(purpose), *_parameters(root.parameters), ".SH COMMANDS"]
    for one in described.commands():
        if not one.group:
            arguments = [rf"\fI{_text(argument.value)}\fR" for argument in one.parameters if not argument.names]
            lines.append(f'.SS "{" ".join(["ovsnet", _text(" ".join(one.words)), *arguments])}"')
            lines += _paragraphs(one.text) + _parameters(one.parameters)
    return _page([*lines, *_exits(described.EXITS)], ("ovsnet-agent(8)", "ovsnet-controller(8)", "ovs-vswitchd(8)"))


def _service(parser: argparse.ArgumentParser, files: dict[str, str], exits: dict[int, str]) -> str:
    """The page of a service's process."""
    description = parser.description or ""
    lines = _head(parser.prog, 8, "System Manager's Manual", description)
    groups = [
        (group.title or "", [described.option_of(one, parser.prog) for one in group._group_actions])
        for group in parser._action_groups
        if group._group_actions
    ]
    required = [
        rf"\fB{_text(one.names[-1])}\fR \fI{_text(one.value)}\fR"
        for _, found in groups
        for one in found
        if one.required
    ]
    lines += [".SH SYNOPSIS", " ".join([rf"\fB{_text(parser.prog)}\fR", *required, r"[\fIOPTIONS\fR]"])]
    lines += [".SH DESCRIPTION", *_paragraphs(described.text_of(f"{description}\n\n{parser.epilog or ''}"))]
    for title, found in groups:
        sentences = (one._replace(meaning=f"{one.meaning[:1].upper()}{one.meaning[1:]}.") for one in found)
        lines += [f".SH {_text(title.upper())}", *_parameters(sentences)]
    lines.append(".SH FILES")
    for path, meaning in files.items():
        lines += [".TP", rf"\fI{_text(path)}\fR", meaning]
    return _page([*lines, *_exits(exits)], ("ovsnet(1)", "ovs-vswitchd(8)", "systemd.service(5)"))


def _parameters(parameters: Iterable[Parameter]) -> list[str]:
    lines = []
    for one in parameters:
        value = [rf"\fI{_text(one.value)}\fR"] if one.value else []
        names = ", ".join(rf"\fB{_text(name)}\fR" for name in one.names)
        shown = f" (default: {one.default})" if one.default else ""
        lines += [".TP", " ".join([*([names] if names else []), *value]), _text(one.meaning + shown)]
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


def _paragraphs(text: Text) -> list[str]:
    """Paragraphs of a help text; its examples stand as they are typed."""
    lines = [line for part in text.paragraphs for line in (".PP", _text(part))][1:]
    if text.examples:
        title = "Example:" if len(text.examples) == 1 else "Examples:"
        lines += [".PP", title, ".RS 4", ".EX", *map(_text, text.examples), ".EE", ".RE"]
    return lines


def _text(text: str) -> str:
    """Text as roff prints it: hyphens that can be copied, words in backticks bold, no line taken for a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    escaped = re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escaped)
    return rf"\&{escaped}" if escaped.startswith((".", "'")) else escaped
