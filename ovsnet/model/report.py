"""Drafts to problems: with their places in the text, and in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ovsnet.errors import ModelError, Problem, path_text, place_text, printable
from ovsnet.model.nodes import Draft, Node, find
from ovsnet.model.problems import PROBLEMS


def make_problem(draft: Draft, root: Node | None) -> Problem:
    """The problem that a draft describes, with its place in ``root``'s text where there is one."""
    at = draft.at
    if at is None and root is not None:
        at = find(root, draft.path, on_key=draft.on_key)
    other = draft.other
    if isinstance(other, tuple):
        other = None if root is None else find(root, other, on_key=draft.other_on_key)
    reason = draft.reason
    if other is not None:
        reason += f" ({place_text(other.file, other.line, other.column)})"
    return Problem(
        code=draft.code,
        file=at.file if at else "",
        line=at.line if at else 0,
        column=at.column if at else 0,
        path=path_text(draft.path),
        reason=printable(reason),
        remedy=printable(PROBLEMS[draft.code].remedy.format_map(draft.values)),
    )


def model_error(drafts: Sequence[Draft], root: Node | None, order: Mapping[str, int] | None = None) -> ModelError:
    """All problems, sorted by file and place; ``order``: the files in the order in which they were named."""
    ranks = order or {}
    problems = {make_problem(draft, root): None for draft in drafts}
    return ModelError(
        sorted(problems, key=lambda one: (ranks.get(one.file, -1), one.file, one.line, one.column, one.path, one.code))
    )
