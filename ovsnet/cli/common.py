"""What the commands share: output and options."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

AGENT_SOCKET = Path("/run/ovsnet/agent.sock")
ModelFiles = Annotated[
    list[Path], typer.Argument(metavar="MODEL...", help="Model files or directories; several are one model.")
]
SiteFile = Annotated[
    Path | None, typer.Option("--site", help="A file whose hosts, underlay and provider networks replace the model's.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def console(*, stderr: bool = False) -> Console:
    """A console that colours only on a terminal."""
    from rich.console import Console

    return Console(stderr=stderr, soft_wrap=True, highlight=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, sort_keys=False) + "\n")


def write(text: str) -> None:
    """Text on standard output, as it is."""
    sys.stdout.write(text)
