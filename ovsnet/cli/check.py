"""``ovsnet check``: everything that is wrong with a model, or what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from ovsnet.cli.common import AsJson, ModelFiles, SiteFile, print_json, write
from ovsnet.errors import EXIT_MISTAKE

if TYPE_CHECKING:
    from ovsnet.model import Model


def check_command(model: ModelFiles, site: SiteFile = None, as_json: AsJson = False) -> None:
    """Check a model: print every problem with its place and what to do, or what the model has.

    Nothing is changed, and nothing is assigned. Exit code 0: the model is right; 2: it has problems.

    Examples: ovsnet check examples/models/demo.yaml · ovsnet check cloud/ --site lab.yaml --json
    """
    from ovsnet.model import ModelError, load

    try:
        declared = load(model, site)
    except ModelError as error:
        if not as_json:
            raise
        import msgspec

        print_json({"ok": False, "problems": [msgspec.to_builtins(problem) for problem in error.problems]})
        raise typer.Exit(EXIT_MISTAKE) from None
    summary = _summary(declared)
    if as_json:
        print_json({"ok": True, **summary})
        return
    rarer = {"routers", "security_groups", "address_groups"}
    keys = ("hosts", "vpcs", "networks", "routers", "ports", "unplaced", "security_groups", "address_groups")
    counted = [(summary[key], key.replace("_", " ")) for key in keys if summary[key] or key not in rarer]
    counts = [f"{number} {key.removesuffix('s') if number == 1 else key}" for number, key in counted]
    write(f"{declared.name}: {', '.join(counts)}.\n")
    if summary["unassigned"]:
        count = len(summary["unassigned"])
        write(
            f"{count} left out, to be assigned by 'ovsnet apply' or 'ovsnet lab up': {_some(summary['unassigned'])}\n"
        )


def _summary(model: Model) -> dict[str, Any]:
    from ovsnet.model import assignments_missing

    ports = [port for vpc in model.vpcs.values() for port in vpc.ports.values()]
    return {
        "name": model.name,
        "hosts": len(model.hosts),
        "vpcs": len(model.vpcs),
        "networks": sum(len(vpc.networks) for vpc in model.vpcs.values()),
        "routers": sum(len(vpc.routers) for vpc in model.vpcs.values()),
        "ports": len(ports),
        "security_groups": sum(len(vpc.security_groups) for vpc in model.vpcs.values()),
        "address_groups": sum(len(vpc.address_groups) for vpc in model.vpcs.values()),
        "unplaced": sum(port.host is None for port in ports),
        "unassigned": assignments_missing(model),
    }


def _some(paths: list[str], limit: int = 5) -> str:
    return ", ".join(paths[:limit]) + (f" and {len(paths) - limit} more" if len(paths) > limit else "")
