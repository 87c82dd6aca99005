"""The command line, ``ovsnet ...``: assembles the commands, and turns mistakes into messages and exit codes."""

from __future__ import annotations

import sys

import typer

from ovsnet._version import VERSION
from ovsnet.cli import lab, pki, port
from ovsnet.cli.agent import SETTINGS, agent_command
from ovsnet.cli.apply import apply_command, plan_command
from ovsnet.cli.check import check_command
from ovsnet.cli.common import console, write
from ovsnet.cli.compile import compile_command
from ovsnet.cli.controller import controller_command
from ovsnet.cli.explain import explain_command
from ovsnet.cli.lint import lint_command
from ovsnet.cli.schema import schema_command
from ovsnet.cli.status import status_command
from ovsnet.cli.trace import trace_command
from ovsnet.errors import ModelError, UserError, place_text

app = typer.Typer(
    name="ovsnet",
    help="Declared virtual networks as OpenFlow tables on Open vSwitch.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        write(f"ovsnet {VERSION}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Declared virtual networks as OpenFlow tables on Open vSwitch."""


app.command("check")(check_command)
app.command("lint")(lint_command)
app.command("schema")(schema_command)
app.command("compile")(compile_command)
app.command("plan")(plan_command)
app.command("apply")(apply_command)
app.command("status")(status_command)
app.command("trace")(trace_command)
app.command("explain")(explain_command)
app.command("agent", context_settings=SETTINGS)(agent_command)
app.command("controller", context_settings=SETTINGS)(controller_command)
app.add_typer(port.app, name="port")
app.add_typer(lab.app, name="lab")
app.add_typer(pki.app, name="pki")


def main() -> None:
    """Run the command that the arguments name. Exit code 2, and a message without a traceback, for a user's mistake."""
    try:
        app()
    except UserError as error:
        _report(error)
        sys.exit(error.exit_code)


def _report(error: UserError) -> None:
    """The message on standard error; a model's problems one a line, with colours on a terminal."""
    if not isinstance(error, ModelError) or not sys.stderr.isatty():
        sys.stderr.write(f"{error}\n")
        return
    from rich.text import Text

    out = console(stderr=True)
    for problem in error.problems:
        place = place_text(problem.file, problem.line, problem.column)
        parts = [(place, "bold"), (problem.code, "bold red"), (problem.path, "cyan"), (problem.reason, "")]
        text = Text(": ").join(Text(part, style) for part, style in parts if part)
        out.print(text.append(f". {problem.remedy}", "green"))
