"""Write what derives from declarations, pages and wire forms; with ``--check``, only say whether it is fresh."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import yaml

from benchmarks import groups_page, modes
from benchmarks.scale import page as scale
from benchmarks.scale.inputs import Figures, Machine, Site
from benchmarks.scale.measured import RESULTS, read
from ovsnet.agent.api import agent_api
from ovsnet.agent.metrics import METRICS
from ovsnet.cli.docs import cli_page
from ovsnet.controller.api.app import controller_api
from ovsnet.controller.api.metrics import METRICS as CONTROLLER_METRICS
from ovsnet.features import FEATURES, TEMPLATES
from ovsnet.http.docs import api_page
from ovsnet.http.metrics import markdown
from ovsnet.lint import lint_page
from ovsnet.model.docs import PAGES
from ovsnet.openflow.forms import FILE
from ovsnet.openflow.learning import kept
from ovsnet.pipeline.docs import pipeline_markdown
from ovsnet.pipeline.fields import REGISTER_FIELDS
from ovsnet.pipeline.tables import TABLES
from ovsnet.reasons import reasons_page
from ovsnet.transport.asyncapi import asyncapi
from scripts.manpages import manpages

ROOT = Path(__file__).parents[1]
API_HEAD = """\
# The {name}'s API, request by request

<!-- Generated from the OpenAPI document; do not edit. -->

```text
   GET /openapi.json ───► this page                          {name}
   PUT /v1/vpcs/shop/ports/web1?wait=5s ───────────────► ┌──────────────┐
   ◄── 200, the new revision · or a problem document ─── │ check, write │
                                                         └──────────────┘
```

    curl --unix-socket {socket} http://{name}/openapi.json

[{page}]({page}) says how to use it. Words under *body* are names of types in `/openapi.json`. A refusal is a problem
document with a `code`, and changes nothing.
"""
METRICS_INTRO = "`GET /metrics` of a service gives them in the text format of Prometheus. Times are in seconds."


def samples() -> dict[str, str]:
    """A flow of each template, by its name, taken from the golden files."""
    found: dict[str, str] = {}
    for golden in sorted((ROOT / "tests/golden/flows").glob("*.txt")):
        for line in golden.read_text().splitlines():
            _subject, template, flow = line.split(" | ")
            found.setdefault(template, flow.split(" ", 2)[2])
    return found


def forms() -> str:
    """The wire forms of all templates, a line each."""
    lines = (f'"{name}":{msgspec.json.encode(one).decode()}' for name, one in kept(TEMPLATES).items())
    return "{\n" + ",\n".join(lines) + "\n}\n"


def pages() -> dict[Path, str]:
    """Every generated page: path -> text."""
    features = {feature.name: feature.doc for feature in FEATURES}
    pipeline = pipeline_markdown(TABLES, REGISTER_FIELDS, TEMPLATES, features, samples())
    metrics = markdown("Metrics", METRICS_INTRO, {"The agent": METRICS, "The controller": CONTROLLER_METRICS})
    bus = yaml.safe_dump(asyncapi(), sort_keys=False, width=120)
    generated = {
        ROOT / "docs/pipeline.md": pipeline,
        ROOT / "docs/metrics.md": metrics,
        ROOT / "docs/asyncapi.yaml": bus,
        ROOT / "docs/explain.md": reasons_page(),
        ROOT / "docs/lint.md": lint_page(),
        ROOT / "docs/cli.md": cli_page(),
        ROOT / "docs/api-agent.md": api_page(agent_api().document(), api_head("agent", "/run/ovsnet/agent.sock")),
        ROOT / "docs/api-controller.md": api_page(
            controller_api().document(), api_head("controller", "/run/ovsnet-controller/controller.sock")
        ),
        ROOT / "ovsnet/openflow" / FILE: forms(),
    }
    generated |= {ROOT / "docs" / name: page() for name, page in PAGES.items()}
    generated |= {ROOT / "packaging/man" / name: text for name, text in manpages().items()}
    return generated | {
        path: modes.inserted(path.read_text(), table())
        for path, table in (
            (ROOT / "docs/evpn-measured.md", ways_table),
            (ROOT / "docs/scale.md", scale_table),
            (ROOT / "docs/security-groups.md", groups_page.markdown),
        )
    }


def api_head(name: str, socket: str) -> str:
    """What the page of an API begins with."""
    return API_HEAD.format(name=name, socket=socket, page=f"{name}.md")


def ways_table() -> str:
    """What each way of telling hosts cost, from the benchmarks' results."""
    return modes.markdown(modes.from_folder(RESULTS))


def scale_table() -> str:
    """What the model makes of the measured constants, for a site and machines that are nothing special."""
    values, sources = read()
    return scale.markdown(Site(hosts=scale.SIZES[-1]), Machine(), Figures(values), sources)


def main() -> int:
    """Write the pages, or compare; returns the exit code."""
    stale = {path: text for path, text in pages().items() if not path.exists() or path.read_text() != text}
    if "--check" in sys.argv:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make docs`.\n")
        return 1 if stale else 0
    for path, text in stale.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
