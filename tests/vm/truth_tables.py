"""In the emulated machine: truth tables on the kernel's datapath, and again with flows taken away, which must show.

    python -m tests.vm.truth_tables SCENARIO...

``$RESULTS/tables.json``: what differs by scenario, and what the kernel's connection tracker had of a connection.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.ovs import OvsInstance
from ovsnet.lab.patience import PATIENCE as SLOWNESS
from ovsnet.ovsdb.zones import PREFIX
from ovsnet.pipeline.tables import INGRESS_VERDICT
from tests.truth.check import check, differences
from tests.truth.rig import Rig
from tests.truth.scenario import Scenario, model_of, named

DATAPATH = "system@ovs-system"
ENTRY = re.compile(r"zone=(\d+)")
ZONE = re.compile(PREFIX + r"[^=]+?\"?=\"?(\d+)")


def main() -> None:
    """Every named scenario; the first one again with what its receiver's host lets in taken away."""
    scenarios = [named(name) for name in sys.argv[1:]]
    directory = Path(tempfile.mkdtemp())
    rig = Rig(Lab.up(model_of(scenarios[0].steps[0], directory), "truth", datapath="system"))
    found: dict[str, object] = {}
    for scenario in scenarios:
        started = time.monotonic()
        found[scenario.name] = differences(rig, scenario, directory)
        sys.stdout.write(f"{scenario.name} ({time.monotonic() - started:.1f} s): {found[scenario.name]}\n")
    found |= zones(rig, scenarios[0], directory) | {"broken": broken(rig, scenarios[0], directory)}
    Path(os.environ["RESULTS"], "tables.json").write_text(json.dumps(found))
    rig.bench.close()
    rig.lab.down()


def zones(rig: Rig, scenario: Scenario, directory: Path) -> dict[str, object]:
    """hv1's zones, those that connections used, the one that is released when its port goes, and what is left there."""
    ovs = rig.lab.ovs("hv1")
    differences(rig, scenario, directory)
    given, used = _given(ovs), {zone for zone, _ in _entries(ovs)}
    model = model_of(scenario.steps[0], directory)
    others = {name: port for name, port in model.vpcs["t"].ports.items() if name != "a"}
    rig.bring(replace(model, vpcs={"t": replace(model.vpcs["t"], ports=others)}))
    deadline = time.monotonic() + 5.0 * SLOWNESS
    while _given(ovs) == given and time.monotonic() < deadline:
        time.sleep(0.1)
    released = (given - _given(ovs)) & used
    left = [entry for entry in _entries(ovs) if entry[0] in released]
    return {"zones": sorted(given), "used": sorted(used), "released": sorted(released), "left": left}


def _given(ovs: OvsInstance) -> set[int]:
    """The zones that ports have, as the bridge says."""
    return {int(number) for number in ZONE.findall(ovs.vsctl("get", "bridge", INTEGRATION, "external_ids"))}


def _entries(ovs: OvsInstance) -> list[tuple[int, str]]:
    """The kernel's connections that have a zone, with it."""
    found = ((ENTRY.search(line), line) for line in ovs.appctl("dpctl/dump-conntrack", DATAPATH).splitlines())
    return [(int(zone[1]), line) for zone, line in found if zone]


def broken(rig: Rig, scenario: Scenario, directory: Path) -> list[str]:
    """The control: what differs once nothing is let in on hv2, whose agent is dead."""
    step = scenario.steps[0]
    rig.bring(model_of(step, directory))
    rig.lab.kill_agent("hv2")
    rig.lab.ovs("hv2").ofctl("del-flows", INTEGRATION, f"table={INGRESS_VERDICT.id}")
    return check(rig, scenario, step)


if __name__ == "__main__":
    main()
