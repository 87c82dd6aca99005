"""The documentation: links lead somewhere, the site has every page, and commands that are shown exist."""

from __future__ import annotations

import importlib.util
import itertools
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from ovsnet.agent.main import parser as agent_parser
from ovsnet.cli import app
from ovsnet.controller.main import parser as controller_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def prose(page: Path) -> str:
    """A page without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page.read_text()))


def anchors(page: Path) -> set[str]:
    """What headings of a page are called in links."""
    heads = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).strip().replace(" ", "-") for head in heads}


def broken(page: Path) -> list[str]:
    """The links of a page that lead nowhere in this tree."""
    found = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", [*NAMES, *(str(one.relative_to(ROOT)) for one in ROOT.glob("examples/**/README.md"))])
def test_links_lead_somewhere(page: str) -> None:
    assert broken(ROOT / page) == []


def test_a_broken_link_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One two\n[a](#one-two) [b](page.md#one-two) [c](#three) [d](gone.md) [e](https://x.org/) `[f](g)`"
    )
    assert broken(page) == ["#three", "gone.md"]


def commands(page: Path) -> list[list[str]]:
    """The words of each command of ours that a page shows in a block of code."""
    text = page.read_text()
    fenced = (re.match(r"```(?:sh|console)?\n(.*)```", block, re.DOTALL) for block in FENCE.findall(text))
    blocks = "\n".join(block[1] for block in fenced if block)
    blocks += "\n".join(re.findall(r"^    .*", FENCE.sub("", text), re.MULTILINE))
    found = []
    for line in re.sub(r"\\\n\s*", "", blocks).splitlines():
        for part in re.split(r"&&|\||;|\$\(", line):
            ours = re.match(r"\s*(?:\$ )?(?:sudo )?(?:\.venv/bin/)?(ovsnet(?:-agent|-controller)?(?: .*)?)$", part)
            if ours:
                found.append(shlex.split(ours[1].replace("[OPTIONS]", ""), comments=True))
    return found


def unknown(words: list[str]) -> list[str]:
    """What of a command's words does not exist: the command itself, or options."""
    name, rest = words[0], words[1:]
    if rest and rest[0] in {"agent", "controller"} and name == "ovsnet":
        name, rest = f"ovsnet-{rest[0]}", rest[1:]
    services = {"ovsnet-agent": agent_parser, "ovsnet-controller": controller_parser}
    if name in services:
        known = {option for action in services[name]()._actions for option in action.option_strings}
    else:
        command: Any = typer.main.get_command(app)
        while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
            if rest[0] not in command.commands:
                return [rest[0]]
            command, rest = command.commands[rest[0]], rest[1:]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)} | {"--help"}
    mine = rest[: rest.index("--")] if "--" in rest else rest
    return [one for one in mine if one.startswith("-") and one.partition("=")[0] not in known]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_commands_that_are_shown_exist(page: Path) -> None:
    assert [(words, unknown(words)) for words in commands(page) if unknown(words)] == []


def test_a_command_that_does_not_exist_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "Do:\n\n    sudo ovsnet lab destroy\n    ovsnet trace a b --ip4 && ovsnet lint m.yaml --cost # -x\n"
    )
    assert [unknown(words) for words in commands(page)] == [["destroy"], ["--ip4"], []]
    assert len(commands(DOCS / "cli.md")) > 60


def listed(entries: list[Any]) -> Iterator[str]:
    """The pages of a part of the site's navigation."""
    for entry in entries:
        for value in entry.values() if isinstance(entry, dict) else (entry,):
            yield from [value] if isinstance(value, str) else listed(value)


def test_the_navigation_has_every_page_once() -> None:
    assert sorted(listed(SITE["nav"])) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_list_begins_behind_an_empty_line(page: Path) -> None:
    """Without it the site shows the list as part of the paragraph."""
    lines = FENCE.sub("", page.read_text()).splitlines()
    glued = [
        line
        for before, line in itertools.pairwise(lines)
        if re.match(r"(-|\d+\.) ", line) and before.strip() and not re.match(r"(-|\d+\.|  +\S)", before)
    ]
    assert glued == []


@pytest.mark.skipif(importlib.util.find_spec("mkdocs") is None, reason="needs mkdocs, which sudo ./test installs")
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    loaded = re.compile(r"(?:src=|<link[^>]+href=|@import |url\()\s*[\"']?((?:https?:)?//[^\"' )>]+)")
    shown = [one for kind in ("html", "css") for one in (tmp_path / "site").rglob(f"*.{kind}")]
    assert len(shown) > len(list(DOCS.rglob("*.md")))
    assert {match for one in shown for match in loaded.findall(one.read_text())} == set()


def test_metrics_that_are_named_exist() -> None:
    known = set(re.findall(r"^\| `(\w+)`", (DOCS / "metrics.md").read_text(), re.MULTILINE))
    named = {(page.name, name) for page in PAGES for name in re.findall(r"`(ovsnet_\w+)", page.read_text())}
    assert {(page, name) for page, name in named if name not in known} == set()
    alarms = {name for page, name in named if page == "operations.md"}
    assert len(alarms) >= 10 and alarms <= known
