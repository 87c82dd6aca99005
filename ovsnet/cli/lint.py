"""``ovsnet lint``: what of a model's security groups has no effect, and what rules cost."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from ovsnet.cli.common import AsJson, ModelFiles, SiteFile, console, print_json
from ovsnet.errors import EXIT_NO

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ovsnet.lint import Finding, Report


class Lowest(StrEnum):
    """From which level on findings are shown and count."""

    WARNING = "warning"
    NOTE = "note"


def lint_command(
    model: ModelFiles,
    level: Annotated[Lowest, typer.Option("--level", help="The lowest level that is shown and counts.")] = (
        Lowest.WARNING
    ),
    cost: Annotated[bool, typer.Option("--cost", help="Also what each rule costs in flows.")] = False,
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Look for security groups and rules that have no effect: shadowed, covered, without members, unused.

    Nothing is changed, and nothing is assigned. Exit code 0: nothing found; 1: findings; 2: the model has problems.

    Examples: ovsnet lint examples/models/demo.yaml · ovsnet lint cloud/ --level note --cost
    """
    from ovsnet.lint import lint
    from ovsnet.model.loader import load_placed

    read = load_placed(model, site)
    report = lint(read.model, read.root, read.order)
    shown = report.at_least(level.value)
    if as_json:
        import msgspec

        data = msgspec.to_builtins(report)
        print_json({"ok": not shown, **data, "findings": [msgspec.to_builtins(one) for one in shown]})
    else:
        _print(report, shown)
        if cost:
            _print_costs(report)
    if shown:
        raise typer.Exit(EXIT_NO)


def _print(report: Report, shown: Sequence[Finding]) -> None:
    from rich.text import Text

    from ovsnet.errors import place_text

    out = console()
    for one in shown:
        colour = "bold yellow" if one.level == "warning" else "bold blue"
        place = place_text(one.file, one.line, one.column)
        parts = [(place, "bold"), (one.level, colour), (one.code, colour), (one.path, "cyan"), (one.reason, "")]
        text = Text(": ").join(Text(part, style) for part, style in parts if part)
        out.print(text.append(f". {one.remedy}", "green"))
    hidden = len(report.findings) - len(shown)
    counts = [f"{len(shown)} finding{'' if len(shown) == 1 else 's'}"]
    if hidden:
        counts.append(f"{hidden} note{'' if hidden == 1 else 's'} not shown (--level note)")
    busiest = next(iter(report.hosts.items()), None)
    if busiest is not None:
        counts.append(f"{len(report.rules)} rules cost at most {busiest[1]} flows on a host ({busiest[0]})")
    out.print(f"{', '.join(counts)}.", markup=False)


def _print_costs(report: Report) -> None:
    from rich.table import Table

    table = Table("rule", box=None, pad_edge=False, header_style="bold")
    for heading in ("flows", "policies", "hosts", "most on a host"):
        table.add_column(heading, justify="right")
    table.add_column("that host")
    for one in sorted(report.rules, key=lambda one: (-one.most, -one.flows, one.path)):
        table.add_row(one.path, str(one.flows), str(one.policies), str(one.hosts), str(one.most), one.busiest)
    out = console()
    if not out.is_terminal:
        out.width = 1000  # a pipe has no width: rows stay whole there
    out.print(table)
