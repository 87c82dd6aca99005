"""Pages whose commands run: each does what it shows. (The tutorial has a file of its own.)"""

from __future__ import annotations

import pytest

from tests.pages_kit import follow
from tests.system.test_lab_lifecycle import left_of
from tests.tree import ROOT

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]
PAGES = sorted(
    str(page.relative_to(ROOT))
    for page in (ROOT / "docs").rglob("*.md")
    if page.name != "tutorial.md" and "```console\n" in page.read_text()
)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_does_what_it_shows(lab_name: str, page: str) -> None:
    follow(page, lab_name)
    assert left_of(lab_name) == []
