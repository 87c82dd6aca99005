"""Pages whose commands run: ``python -m scripts.pages docs/tutorial.md`` runs one and writes what differs into it.

A ``console`` block has commands, each behind ``$ ``, and what they print; ``# NAME`` at the head of a ``yaml`` block
makes it the file NAME, and a ``diff`` block that begins with ``--- NAME`` changes it. In what is shown, ``...`` stands
for a number, or alone in a line for any lines. ``$ echo $?`` shows an exit code that is not 0, and a command that ends
with ``&`` runs until the page is at its end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_BLOCK = re.compile(r"^```(console|yaml|diff)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LABS = "/run/ovsnet-lab"
"""Where labs are kept, as pages write it."""
_VARIES = (
    (r"time=[\d.]+ ms", "time=... ms"),
    (r"time \d+ms", "time ...ms"),
    (r"= [\d.]+/[\d.]+/[\d.]+/[\d.]+ ms", "= .../.../.../... ms"),
    (r"\([\d.]+ s\)", "(... s)"),
    (r"\b20\d\d-\d\d-\d\d\b", "...-...-..."),
    (r"((?<![\w-])(?:in_port=|output:|out=|id=))\d+", r"\1..."),
)
"""What differs from run to run, and how it is written."""
_WITHIN = 120
"""Seconds that a command may take."""


@dataclass(frozen=True)
class File:
    """A file that the page has its reader write."""

    name: str
    text: str


@dataclass(frozen=True)
class Edit:
    """A place of a file that the page has its reader change."""

    name: str
    old: str
    new: str


@dataclass(frozen=True)
class Command:
    """A command as it is written, what it prints, its exit code, and where in the page the output stands."""

    text: str
    shown: str
    code: int
    span: tuple[int, int]


Step = File | Edit | Command


class Differs(AssertionError):
    """A command does not do what its page shows; ``step`` is the command, ``printed`` what it printed."""

    def __init__(self, step: Command, printed: str, code: int) -> None:
        super().__init__(f"$ {step.text}\nshown (exit code {step.code}):\n{step.shown}\nseen ({code}):\n{printed}")
        self.step, self.printed, self.code = step, printed, code


def steps(text: str) -> Iterator[Step]:
    """What a page has its reader do, in its order."""
    for block in _BLOCK.finditer(text):
        kind, body = block[1], block[2]
        head, _, rest = body.partition("\n")
        if kind == "console":
            yield from _commands(body, block.start(2))
        elif kind == "yaml" and (named := re.fullmatch(r"# (\S+\.yaml)", head)):
            yield File(named[1], body)
        elif kind == "diff" and head.startswith("--- "):
            lines = rest.splitlines(keepends=True)
            sides = ["".join(line[1:] for line in lines if line[0] in f" {sign}") for sign in "-+"]
            yield Edit(head[4:], *sides)


def _commands(body: str, at: int) -> Iterator[Command]:
    parts = list(re.finditer(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", body, re.MULTILINE))
    for part, after in zip(parts, [*parts[1:], None], strict=True):
        if part[1] != "echo $?":
            code = int(after[2]) if after and after[1] == "echo $?" else 0
            yield Command(part[1], part[2], code, (at + part.start(2), at + part.end(2)))


def pattern(shown: str) -> re.Pattern[str]:
    """What a text that is shown stands for; a group for each number that is written as ``...``."""
    text = re.sub(r"[ \t]+$", "", shown, flags=re.MULTILINE)
    text = re.sub(r"^\\\.\\\.\\\.\n", r"(?:.*\\n)*?", re.escape(text).replace("\\\n", "\n"), flags=re.MULTILINE)
    return re.compile(text.replace(r"\.\.\.", r"(\d+(?:\.\d+)?)"))


@dataclass
class Reader:
    """Does what pages say, in a directory.

    ``environment`` is added to what commands have; ``aliases`` are words of pages, and what stands for them here.
    """

    place: Path
    environment: dict[str, str]
    aliases: dict[str, str]

    def read(self, todo: Iterable[Step], differs: Callable[[Differs], None] | None = None) -> None:
        """Do all steps. What differs from what is shown is raised, or handed on."""
        with contextlib.ExitStack() as running:
            for step in todo:
                try:
                    self._do(step, running)
                except Differs as found:
                    if differs is None:
                        raise
                    differs(found)

    def _do(self, step: Step, running: contextlib.ExitStack) -> None:
        if isinstance(step, File):
            (self.place / step.name).write_text(self._here(step.text))
        elif isinstance(step, Edit):
            path, old = self.place / step.name, self._here(step.old)
            before = path.read_text()
            assert before.count(old) == 1, f"{step.name} does not have once:\n{old}"
            path.write_text(before.replace(old, self._here(step.new)))
        elif step.text.endswith("&"):
            running.callback(_end, self._start(step.text[:-1], subprocess.DEVNULL))
        else:
            self._run(step)

    def _run(self, step: Command) -> None:
        process = self._start(step.text, subprocess.PIPE)
        try:
            printed = process.communicate(timeout=_WITHIN)[0]
        except subprocess.TimeoutExpired:
            _end(process)
            raise
        printed = re.sub(r"[ \t]+$", "", printed, flags=re.MULTILINE)
        for word, here in self.aliases.items():
            printed = printed.replace(here, word)
        if process.returncode != step.code or not pattern(step.shown).fullmatch(printed):
            raise Differs(step, printed, process.returncode)

    def _start(self, text: str, out: int) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", self._here(text)], cwd=self.place, env=os.environ | self.environment,
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    def _here(self, text: str) -> str:
        for word, here in self.aliases.items():
            text = text.replace(word, here)
        return text


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and all that it has started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    process.wait(timeout=30)


def rewritten(text: str, reader: Reader) -> str:
    """The page with what its commands print now, where that is not what it shows. Raises Differs for an exit code."""
    found: list[Differs] = []
    reader.read(steps(text), found.append)
    for differs in reversed(found):
        if differs.code != differs.step.code:
            raise differs
        start, end = differs.step.span
        printed = differs.printed
        for seen, written in _VARIES:
            printed = re.sub(seen, written, printed)
        text = text[:start] + printed + text[end:]
    return text


def surroundings(programs: Path, labs: Path) -> dict[str, str]:
    """Environment of commands: where the programs are, where labs are kept; so that other labs do not matter."""
    return {"PATH": f"{programs}:{os.environ['PATH']}", "OVSNET_LAB_DIR": str(labs), "COLUMNS": "100"}


def main() -> int:
    """Run the pages that are named, each in a directory of its own, and write what differs into them."""
    for name in sys.argv[1:]:
        page = Path(name)
        with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as labs:
            environment = surroundings(Path(sys.executable).parent, Path(labs)) | {"PYTHONPATH": str(ROOT)}
            page.write_text(rewritten(page.read_text(), Reader(Path(place), environment, {LABS: labs})))
    return 0


if __name__ == "__main__":
    sys.exit(main())
