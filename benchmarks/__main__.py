"""``make bench``: every measure in one run on one machine, as a table and as JSON.

python -m benchmarks [--sizes 10000,100000] [--rounds 5] [--out results.json] [--only install,change,filters,controller]
python -m benchmarks --only filters,datapath --out benchmarks/results/security-groups.json   # its docs
python -m benchmarks --only lab --out benchmarks/results/lab.json   # its docs: docs/dissemination.md; needs root
python -m benchmarks --only evpn [--hosts 10,50] --out benchmarks/results/bgp.json   # what docs/evpn-measured.md shows
python -m benchmarks --only nats [--hosts 10,50] --out benchmarks/results/nats.json   # over the bus; direct: by calls
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import change, controller, filters, install, lab, routers
from benchmarks.common import Measure
from benchmarks.datapath import run as datapath
from benchmarks.dissemination import beside_bgp
from benchmarks.dissemination import run as dissemination
from benchmarks.dissemination.cloud import WAYS
from benchmarks.evpn import run as evpn
from benchmarks.evpn.daemon import MissingTool
from benchmarks.modes import ModeResult
from benchmarks.scenario import Shape


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    version = subprocess.run(["ovs-vswitchd", "--version"], capture_output=True, text=True, check=True).stdout
    model = next((line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if "model name" in line), "unknown")
    return {
        "cpu": model,
        "cores": str(os.cpu_count()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load": f"{os.getloadavg()[0]:.1f}",
        "ovs": version.splitlines()[0],
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def show(measures: list[Measure], about: dict[str, str]) -> None:
    """The table, with what it was measured on."""
    table = Table(title=", ".join(f"{key} {value}" for key, value in about.items()))
    for column in ("measure", "median", "least", "most", "samples", "budget", ""):
        table.add_column(column, justify="left" if column in ("measure", "") else "right")
    for one in measures:
        figures = [f"{value:.4g} {one.unit}" for value in (one.median, one.least, one.most)]
        budget = "" if one.budget is None else f"<= {one.budget:g} {one.unit}"
        verdict = {None: "", True: "met", False: "MISSED"}[one.met]
        table.add_row(one.name, *figures, str(one.samples), budget, verdict)
    Console().print(table)


def _measures(asked: argparse.Namespace, only: Collection[str], say: Callable[[str], None]) -> list[Measure]:
    """Those that are asked for, the ways of telling hosts of the same cloud apart."""
    measures: list[Measure] = []
    if "install" in only:
        measures += install.run([int(size) for size in asked.sizes.split(",")], asked.rounds, say)
    if "change" in only:
        measures += change.run([int(size) for size in asked.endpoints.split(",")], asked.changes, say)
    if "routers" in only:
        measures += routers.run([int(size) for size in asked.members.split(",")], asked.changes, say)
    if "filters" in only:
        measures += filters.run([int(size) for size in asked.members.split(",")], asked.changes, say)
    if "datapath" in only:
        measures += datapath.run(asked.rounds, asked.seconds, say)
    if "controller" in only:
        measures += controller.run([int(size) for size in asked.ports.split(",")], asked.changes, say)
    if "dissemination" in only:
        measures += dissemination.run([int(size) for size in asked.agents.split(",")], say, asked.way)
    if "lab" in only:
        measures += lab.run(10_000, asked.changes, say)
    return measures


def main() -> int:
    """Run the measures asked for; exit code 1 when a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,100000", help="numbers of flows to install")
    parser.add_argument("--endpoints", default="1000,10000", help="sizes of the VPC in which one port changes")
    parser.add_argument(
        "--members", default="10000", help="sizes of the security group (filters), ports behind the router (routers)"
    )
    parser.add_argument("--ports", default="1000,10000,100000", help="sizes of the VPC that a controller holds")
    parser.add_argument(
        "--rounds", type=int, default=5, help="installs of each size and way, turns of each way (datapath)"
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measure (datapath)")
    parser.add_argument("--changes", type=int, default=50, help="one-port changes of each size")
    parser.add_argument("--out", type=Path, help="also write JSON here")
    parser.add_argument("--agents", default="500,2000", help="numbers of simulated hosts (dissemination)")
    parser.add_argument("--way", choices=WAYS, default="nats", help="how they are told (dissemination)")
    parser.add_argument("--hosts", default="10,50", help="numbers of hosts that BGP tells (evpn)")
    parser.add_argument("--vpc-endpoints", type=int, default=40, help="endpoints of each VPC (evpn)")
    parser.add_argument("--ways", default="", help=f"which ways (evpn): {','.join(way[0] for way in evpn.WAYS)}")
    parser.add_argument(
        "--only",
        default="install,change,filters,controller",
        help="which measures: install, change, filters, routers, datapath, controller, dissemination, lab, evpn, nats, "
        "direct",
    )
    asked = parser.parse_args()
    about = machine()
    only = asked.only.split(",")

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    measures = _measures(asked, only, say)
    results: list[ModeResult] = []
    shapes = [Shape(int(hosts), endpoints_per_vpc=asked.vpc_endpoints) for hosts in asked.hosts.split(",")]
    for way in WAYS:
        if way in only:
            results += beside_bgp.run(shapes, say, way)
    if "evpn" in only:
        results += evpn.run(shapes, say, ways=list(filter(None, asked.ways.split(","))))
    measures += [measure for result in results for measure in result.flat()]
    show(measures, about)
    if asked.out:
        figures = [asdict(one) | {"met": one.met} for one in measures]
        document = {"machine": about, "measures": figures, "modes": [asdict(one) for one in results]}
        asked.out.write_text(json.dumps(document, indent=2) + "\n")
    return 1 if any(one.met is False for one in measures) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    try:
        sys.exit(main())
    except MissingTool as error:
        sys.exit(str(error))
