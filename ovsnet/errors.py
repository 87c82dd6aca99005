"""What is said to a user: problems of a model, and mistakes in a command."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence

import msgspec

Path = tuple[str | int, ...]
"""A place in the model: names and list indexes, from the top."""

_PLAIN_STEP = re.compile(r"[A-Za-z0-9_-]+")


EXIT_NO = 1
"""The answer is no: not delivered, not as declared, not enforced in time."""
EXIT_MISTAKE = 2
"""The user's mistake: nothing was changed."""
EXIT_UNAVAILABLE = 3
"""An agent, a switch or a lab does not answer."""


class UserError(Exception):
    """A user's mistake: one clear message with place, reason and remedy; the command line ends with ``exit_code``."""

    exit_code = EXIT_MISTAKE


@contextlib.contextmanager
def needing(extra: str) -> Iterator[None]:
    """Import within this what only the package's ``extra`` brings. Raises UserError when it is not installed."""
    try:
        yield
    except ModuleNotFoundError as exc:
        raise UserError(f"{exc.name} is not installed. Install it with: pip install 'ovsnet[{extra}]'") from None


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is wrong with a model.

    ``code`` is stable and listed in ``docs/errors.md``. ``line`` and ``column`` count from 1 (0: no place
    known, as in a request to an API). ``path`` is the place in the model, as ``vpcs.shop.ports.web1.ips[0]``.
    """

    code: str
    file: str = ""
    line: int = 0
    column: int = 0
    path: str = ""
    reason: str
    remedy: str

    def __str__(self) -> str:
        place = place_text(self.file, self.line, self.column)
        head = [part for part in (place, self.code, self.path) if part]
        return ": ".join([*head, f"{self.reason}. {self.remedy}"])


class ModelError(UserError):
    """A model is refused; ``problems`` has all that is wrong with it, sorted by place."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: Sequence[Problem] = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def place_text(file: str, line: int, column: int) -> str:
    """``file:line:column``, or the file alone, or nothing where no place is known."""
    return f"{file}:{line}:{column}" if line else file


def path_text(path: Path) -> str:
    """A path as it is printed: ``vpcs.shop.ports.web1.ips[0]``; a strange key stands in quotes."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _PLAIN_STEP.fullmatch(step):
            text += f".{step}" if text else step
        else:
            text += f"[{shown(step)}]"
    return text


def shown(value: object, limit: int = 60) -> str:
    """A user's text in quotes, safe to print on a terminal and cut to ``limit`` characters."""
    text = str(value)
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    return f"'{printable(text)}'"


def printable(text: str) -> str:
    """The text with control characters escaped, so that a name in a message cannot write to a terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
