"""Write the reference pages that derive from declarations; with ``--check``, only say whether they are fresh."""

from __future__ import annotations

import sys
from pathlib import Path

from ovsnet.agent.metrics import METRICS
from ovsnet.controller.api.metrics import METRICS as CONTROLLER_METRICS
from ovsnet.features import FEATURES, TEMPLATES
from ovsnet.http.metrics import markdown
from ovsnet.model.docs import PAGES
from ovsnet.pipeline.docs import pipeline_markdown
from ovsnet.pipeline.fields import REGISTER_FIELDS
from ovsnet.pipeline.tables import TABLES

ROOT = Path(__file__).parents[1]
METRICS_INTRO = "`GET /metrics` of a service gives them in the text format of Prometheus. Times are in seconds."


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
    metrics = markdown("Metrics", METRICS_INTRO, {"The agent": METRICS, "The controller": CONTROLLER_METRICS})
    generated = {ROOT / "docs/pipeline.md": pipeline, ROOT / "docs/metrics.md": metrics}
    return generated | {ROOT / "docs" / name: page() for name, page in PAGES.items()}


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
