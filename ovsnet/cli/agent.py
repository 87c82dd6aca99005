"""``ovsnet agent``: the same as ``ovsnet-agent``."""

from __future__ import annotations

import typer

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Everything behind the command is the agent's own affair, ``--help`` too."""


def agent_command(context: typer.Context) -> None:
    """Run this hypervisor's agent, in the foreground; `ovsnet agent --help` lists its options.

    Example: ovsnet agent --host hv1 --vtep 10.0.0.11
    """
    from ovsnet.agent.main import main

    main(context.args)
