"""What a cloud of a size needs, and what breaks first.

python -m benchmarks.scale [--hosts 300000] [--ports-per-host 20] [--hosts-per-vpc 20] [--set change_cpu=0.0004] ...
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import fields

from benchmarks.scale import page
from benchmarks.scale.inputs import Figures, Machine, Site
from benchmarks.scale.measured import read


def main() -> int:
    """Print the tables for one size; exit code 1 while figures are missing, 2 for what cannot be understood."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind in (Site, Machine):
        for each in fields(kind):
            number = int if each.type == "int" else float
            default = 300_000 if each.name == "hosts" else each.default
            parser.add_argument(f"--{each.name.replace('_', '-')}", type=number, default=default)
    parser.add_argument("--set", action="append", default=[], metavar="CONSTANT=VALUE", help="use this value")
    asked = vars(parser.parse_args())
    values, sources = read()
    try:
        for pair in asked["set"]:
            name, _, text = pair.partition("=")
            values[name], sources[name] = float(text), "command line"
        figures = Figures(values)
    except ValueError as error:
        sys.stderr.write(f"--set: {error}\n")
        return 2
    site = Site(**{each.name: asked[each.name] for each in fields(Site)})
    machine = Machine(**{each.name: asked[each.name] for each in fields(Machine)})
    for part in (
        page.limits(site, machine, figures),
        page.counts(site, machine, figures, (site.hosts,)),
        page.needs(site, machine, figures, (site.hosts,)),
        page.constants(figures, sources),
    ):
        print(part, end="\n\n")
    missing = figures.missing()
    if missing:
        sys.stderr.write(f"Not measured yet: {', '.join(missing)}. Fill benchmarks/measured.json, or use --set.\n")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
