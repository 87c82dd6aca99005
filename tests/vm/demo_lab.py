"""In the emulated machine: the demo lab on the kernel's datapath, as declared, and with what hv2 delivers taken away.

Then one with routers, and what a workload there is told by its gateway.

One process does it all: an emulated processor takes ten seconds to start another.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from ovsnet.lab import netns
from ovsnet.lab.demo import MODEL
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign, load


def main() -> None:
    results = Path(os.environ["RESULTS"])
    lab = Lab.up(assign(load([MODEL]), Lock())[0], "vm", datapath="system")
    (results / "matrix.json").write_text(json.dumps(lab.test().as_dict()))
    ovs = lab.ovs("hv2")
    (results / "datapath").write_text(ovs.appctl("dpctl/show", "system@ovs-system"))
    lab.kill_agent("hv2")
    ovs.ofctl("del-flows", INTEGRATION, "table=50")
    (results / "broken.json").write_text(json.dumps(lab.test(patience=1.0).as_dict()))  # what is missing never comes
    lab.down()
    routed(results)
    (results / "left").write_text("\n".join(netns.names("")))


QUESTIONS = {
    "gateway": "192.168.1.1",
    "gateway-v6": "2001:db8:1::1",
    "far-gateway": "192.168.2.254",
    "nobody": "192.168.2.77",
    "nobody-v6": "2001:db8:2::77",
    "no-route": "198.51.100.1",
    "black-hole": "10.66.0.1",
    "expired": "-t 1 192.168.2.12",
    "expired-v6": "-t 1 2001:db8:2::12",
    "behind": "10.50.0.1",
}


def routed(results: Path) -> None:
    """A lab with routers: its matrix, and what a ping of each kind says."""
    lab = Lab.up(assign(load([MODEL.parent / "routers.yaml"]), Lock())[0], "vm", datapath="system")
    (results / "routed.json").write_text(json.dumps(lab.test().as_dict()))
    with netns.inside(lab.port("shop/fw1").netns):
        subprocess.run(["ip", "address", "add", "10.50.0.1/32", "dev", "eth0"], check=True)
    said = {}
    for name, target in QUESTIONS.items():
        with netns.inside(lab.port("shop/web1").netns):
            command = ["ping", "-n", "-c", "2", "-W", "5", *target.split()]
            said[name] = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    (results / "told.json").write_text(json.dumps(said))
    lab.down()


if __name__ == "__main__":
    main()
