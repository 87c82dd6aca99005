"""Write the reference pages that derive from declarations; with ``--check``, only say whether they are fresh."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from ovsnet.features import FEATURES, TEMPLATES
from ovsnet.model.docs import PAGES
from ovsnet.pipeline.docs import pipeline_markdown
from ovsnet.pipeline.fields import REGISTER_FIELDS
from ovsnet.pipeline.tables import TABLES
from ovsnet.transport.asyncapi import asyncapi

ROOT = Path(__file__).parents[1]


def samples() -> dict[str, str]:
    """A flow of each template, by its name, taken from the golden files."""
    found: dict[str, str] = {}
    for golden in sorted((ROOT / "tests/golden/flows").glob("*.txt")):
        for line in golden.read_text().splitlines():
            _subject, template, flow = line.split(" | ")
            found.setdefault(template, flow.split(" ", 2)[2])
    return found


def pages() -> dict[Path, str]:
    """Every generated page: path -> text."""
    features = {feature.name: feature.doc for feature in FEATURES}
    pipeline = pipeline_markdown(TABLES, REGISTER_FIELDS, TEMPLATES, features, samples())
    bus = yaml.safe_dump(asyncapi(), sort_keys=False, width=120)
    own = {ROOT / "docs/pipeline.md": pipeline, ROOT / "docs/asyncapi.yaml": bus}
    return own | {ROOT / "docs" / name: page() for name, page in PAGES.items()}


def main() -> int:
    """Write the pages, or compare; returns the exit code."""
    stale = [path for path, text in pages().items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make docs`.\n")
        return 1 if stale else 0
    for path in stale:
        path.parent.mkdir(exist_ok=True)
        path.write_text(pages()[path])
    return 0


if __name__ == "__main__":
    sys.exit(main())
