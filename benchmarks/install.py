"""Installing N compiled flows: through the Ryu app, beside `ovs-ofctl --bundle add-flows` on the very same flows."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.common import Measure, bench_switch, cloud_state, summary
from ovsnet import Desired, Facts, Switch, flow_ofctl
from ovsnet.compiler import HostCompiler
from ovsnet.lab.ovs import OvsInstance
from tests.agent_kit import HOST

LOCAL_PORTS = 100
SETTLE = 1.0  # seconds


def desired_flows(count: int) -> Desired:
    """A compiled host with exactly ``count`` flows: one big VPC, 100 local ports, as many endpoints as it takes."""
    state = cloud_state(count // 3 + 1, local=LOCAL_PORTS)
    compiler = HostCompiler(HOST)
    compiler.set_facts(Facts.assumed(port.id for port in state.ports.values() if port.host == HOST))
    compiler.put_vpc(state)
    compiler.update()
    flows = sorted(compiler.desired, key=lambda flow: flow.subject.name)
    return Desired(flows[:count])


def run(sizes: list[int], rounds: int, say: Callable[[str], None]) -> list[Measure]:
    """Median seconds for each size and way, and their ratio; ways alternate within a round."""
    measures = []
    with bench_switch() as ovs:
        for size in sizes:
            desired = desired_flows(size)
            text = "\n".join(flow_ofctl(flow.row) for flow in desired).encode()
            ours, theirs = [], []
            with Switch(ovs.mgmt_target("br-int"), timeout=10) as switch:
                switch.apply(desired)  # learns the templates once, as a running agent has
                for turn in range(rounds):
                    say(f"install {size}: round {turn + 1} of {rounds}")
                    _empty(ovs)
                    start = time.perf_counter()
                    switch.apply(desired)
                    ours.append(time.perf_counter() - start)
                    _empty(ovs)
                    start = time.perf_counter()
                    ovs.ofctl("add-flows", "br-int", "-", "--bundle", stdin=text)
                    theirs.append(time.perf_counter() - start)
            measures += [
                summary(f"install {size} flows, ovsnet", "s", ours),
                summary(f"install {size} flows, ovs-ofctl --bundle", "s", theirs),
                summary(f"install {size} flows, ratio", "x", [a / b for a, b in zip(ours, theirs, strict=True)], 0.6),
            ]
    return measures


def _empty(ovs: OvsInstance) -> None:
    """Delete all flows, and let vswitchd free them, which it does behind the answer."""
    ovs.ofctl("del-flows", "br-int")
    time.sleep(SETTLE)
