"""``ovsnet controller``: the same as ``ovsnet-controller``."""

from __future__ import annotations

import typer


def controller_command(context: typer.Context) -> None:
    """Run the controller, in the foreground; `ovsnet controller --help` lists its options.

    Example: ovsnet controller --store sqlite:////var/lib/ovsnet-controller/controller.db
    """
    from ovsnet.controller.main import main

    main(context.args)
