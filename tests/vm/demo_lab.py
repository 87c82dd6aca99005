"""In the emulated machine: the demo lab on the kernel's datapath, as declared, and with what hv2 delivers taken away.

One process does it all: an emulated processor takes ten seconds to start another.
"""

from __future__ import annotations

import json
import os
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
    (results / "left").write_text("\n".join(netns.names("")))


if __name__ == "__main__":
    main()
