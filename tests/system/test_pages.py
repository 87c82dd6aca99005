"""Pages whose commands run: each does what it shows. (The tutorial has a file of its own.)"""

from __future__ import annotations

import pytest

from tests.controller_kit import postgres
from tests.pages_kit import follow
from tests.system.test_lab_lifecycle import left_of
from tests.tree import ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
DATABASE = "postgresql+psycopg://ovsnet@db/ovsnet"
"""A database, as pages write it."""
PAGES = {
    str(page.relative_to(ROOT)): DATABASE in page.read_text()
    for page in sorted((ROOT / "docs").rglob("*.md"))
    if page.name != "tutorial.md" and "```console\n" in page.read_text()
}
"""The pages, and whether they need a database."""


@pytest.mark.parametrize("page", [page for page, database in PAGES.items() if not database])
def test_a_page_does_what_it_shows(lab_name: str, page: str) -> None:
    follow(page, lab_name)
    assert left_of(lab_name) == []


@pytest.mark.parametrize("page", [page for page, database in PAGES.items() if database])
def test_a_page_with_a_database_does_what_it_shows(lab_name: str, page: str) -> None:
    with postgres() as url:
        follow(page, lab_name, also={DATABASE: f"'{url}'"})
