"""The manual pages: they name every option, and print as they were meant."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from ovsnet.agent.main import parser as agent_parser
from ovsnet.cli import app
from ovsnet.cli.described import text_of
from ovsnet.controller.main import parser as controller_parser
from scripts.manpages import _paragraphs, _text, manpages

PAGES = manpages()


def printed(page: str) -> str:
    """A page as a terminal shows it, without bold, and with its lines broken where they may."""
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-P-cbou"], input=page, capture_output=True, text=True, check=True
    )
    assert done.stderr == "", "groff has something to say against it"
    return done.stdout


def leaves(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command that does something, with the words that name it."""
    for name, below in getattr(command, "commands", {}).items():
        if getattr(below, "commands", None):
            yield from leaves(below, (*words, name))
        else:
            yield (*words, name), below


def test_every_command_and_option_is_there() -> None:
    page = PAGES["ovsnet.1"]
    sections = dict(re.findall(r'^\.SS "(.*?)"\n(.*?)(?=^\.S[SH])', page, re.MULTILINE | re.DOTALL))
    for words, command in leaves(typer.main.get_command(app), ("ovsnet",)):
        (body,) = (body for head, body in sections.items() if f"{head} ".startswith(_text(" ".join(words)) + " "))
        assert ".EX" in body, f"{words} has no example"
        for param in command.params:
            for name in param.opts if param.param_type_name == "option" else ():
                assert _text(name) in body, f"{words} lacks {name}"


@pytest.mark.parametrize(
    ("name", "parser"), [("ovsnet-agent.8", agent_parser), ("ovsnet-controller.8", controller_parser)]
)
def test_every_option_of_a_service_is_there(name: str, parser: type) -> None:
    for action in parser()._actions:
        assert all(rf"\fB{_text(option)}\fR" in PAGES[name] for option in action.option_strings)


def test_text_is_no_request() -> None:
    assert _text(".lock is a file") == r"\&.lock is a file"
    assert _text(r"a\b `lab up` --json") == r"a\eb \fBlab up\fR \-\-json"
    assert _paragraphs(text_of("One.\n\nExamples: a b · c")) == [
        "One.",
        ".PP",
        "Examples:",
        ".RS 4",
        ".EX",
        "a b",
        "c",
        ".EE",
        ".RE",
    ]


@pytest.mark.skipif(shutil.which("groff") is None, reason="needs groff, which sudo ./test installs")
@pytest.mark.parametrize("name", PAGES)
def test_they_print(name: str) -> None:
    text = printed(PAGES[name])
    assert re.match(rf"{Path(name).stem.upper()}\({name[-1]}\)", text)
    assert "--version" in text, "a hyphen is a hyphen"
    with pytest.raises(AssertionError, match="something to say"):
        printed(PAGES[name] + ".nonsense\n")
