"""Half of twenty hosts lose their power, their ports are placed elsewhere, and the dead come back with their old disks.

A workload that a revived host starts again has the MAC and addresses of one that runs elsewhere by now. At no moment
may a frame reach it, or one of its own reach anybody.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter

import msgspec
import pytest

from ovsnet.errors import UserError
from ovsnet.lab import frames
from ovsnet.lab import host as hosts
from ovsnet.lab import workload as workloads
from ovsnet.lab.converge import in_parallel
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.sockets import UNDERLAY, Sockets
from ovsnet.lab.topology import Topology, WorkloadSpec, marker
from ovsnet.model import Host, Model, Network, Subnet, Vpc
from tests.system.conftest import Measured
from tests.system.faults import World, port

pytestmark = [pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(500)]
COUNT = 20
DEAD = [f"hv{n}" for n in range(1, COUNT // 2 + 1)]
ASKER = f"red/p{COUNT}"
GHOST = "ghost of "


def twenty() -> Model:
    ports = {f"p{n}": port("red", f"p{n}", n, f"hv{n}") for n in range(1, COUNT + 1)}
    red = Vpc(networks={"web": Network(vni=5001, subnets=(Subnet(cidr="10.1.0.0/16"),))}, ports=ports)
    return Model(
        name="faults", hosts={f"hv{n}": Host(vtep=f"10.0.0.{n}") for n in range(1, COUNT + 1)}, vpcs={"red": red}
    )


class Watch:
    """Sends from one living port to every moved one, and from every ghost to that port; hears where it arrives."""

    def __init__(self, topology: Topology, moved: list[str], ghosts: list[str]) -> None:
        self.topology, self.moved, self.ghosts = topology, moved, ghosts
        self.heard: Counter[tuple[str, str, str]] = Counter()
        self._purpose: dict[int, tuple[str, str]] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Watch:
        self._sockets = Sockets(self.topology)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._sockets.close()

    def arrived(self, src: str, dst: str) -> int:
        """Frames from one to another that it got."""
        return self.heard[src, dst, dst]

    def at_ghosts(self) -> int:
        """Frames that reached a ghost."""
        return sum(count for (_, _, place), count in self.heard.items() if place.startswith(GHOST))

    def from_ghosts(self) -> int:
        """Frames of ghosts that reached anybody, or the wire between hosts."""
        return sum(count for (src, _, _), count in self.heard.items() if src.startswith(GHOST))

    def _run(self) -> None:
        tokens, number = frames.Tokens(os.urandom(8)), 0
        pairs = [(ASKER, name) for name in self.moved] + [(ghost, ASKER) for ghost in self.ghosts]
        while not self._stop.is_set():
            for src, dst in pairs:
                one, other = (self.topology.workloads[name] for name in (src, dst))
                ips = (one.addresses[0].split("/")[0], other.addresses[0].split("/")[0])
                self._purpose[number] = (src, dst)
                self._sockets.send(src, frames.udp(one.mac, other.mac, *ips, tokens.make(number)))
                number += 1
            until = time.monotonic() + 0.1
            while (left := until - time.monotonic()) > 0:
                for place, frame in self._sockets.arrivals(left):
                    found = tokens.find(frame)
                    if found is not None and (place != UNDERLAY or self._purpose[found][0].startswith(GHOST)):
                        self.heard[(*self._purpose[found], place)] += 1


@pytest.mark.parametrize("transport", ["controller", "nats"])
def test_half_of_the_hosts_die_and_come_back(transport: str, measured: Measured) -> None:
    name = f"t{os.getpid()}-power-{transport[:4]}"
    try:
        lab = Lab.up(twenty(), name, transport=transport)  # type: ignore[arg-type]
        die_and_come_back(lab, measured)
    finally:
        with contextlib.suppress(UserError):
            down(name)


def die_and_come_back(lab: Lab, measured: Measured) -> None:
    world, mark = World(lab), marker(lab.name)
    world.settle()
    alive = [host for host in lab.topology.hosts if host not in DEAD]
    old = {f"red/p{n}": lab.port(f"red/p{n}") for n in range(1, len(DEAD) + 1)}
    new = {name: msgspec.structs.replace(one, host=alive[n]) for n, (name, one) in enumerate(old.items())}
    ghosts = {f"{GHOST}{name}": msgspec.structs.replace(one, netns=f"{one.netns}-ghost") for name, one in old.items()}
    for host in DEAD:
        lab.power_off(host)

    start = time.monotonic()
    placed = [{"port": name, "host": one.host} for name, one in new.items()]
    assert world.call("POST", "/v1/placements", placed).status == 200
    world.settle(hosts=alive)
    measured(f"{len(placed)} ports placed and in force on the living in {time.monotonic() - start:.2f} s")
    answer = world.call("POST", "/v1/placements", placed, wait="1s")
    assert set(answer.body["late"]) <= set(DEAD), answer.body
    for one in new.values():
        start_workload(lab, one, mark)
    world.settle(hosts=alive)

    living = {name: one for name, one in lab.topology.workloads.items() if name not in old}
    in_parallel("power", lambda host: hosts.power_on(lab.host(host), lab.topology.underlay, mark), DEAD, _silent)
    for one in ghosts.values():
        start_workload(lab, one, mark)
    topology = msgspec.structs.replace(lab.topology, workloads={**living, **new, **ghosts})
    with Watch(topology, list(new), list(ghosts)) as watch:
        start = time.monotonic()
        world.settle(within=60)
        measured(f"the dead hold what they should {time.monotonic() - start:.1f} s after their boot")
        lab.warm()
        time.sleep(3)
        before = {name: watch.arrived(ASKER, name) for name in new}
        time.sleep(1)
        flowing = [name for name in new if watch.arrived(ASKER, name) > before[name]]
    assert sorted(flowing) == sorted(new), "every moved port is reached where it is now"
    assert watch.at_ghosts() == 0
    assert watch.from_ghosts() == 0
    for host in DEAD:
        assert lab.agent(host).vpcs() == {}


def start_workload(lab: Lab, one: WorkloadSpec, mark: str) -> None:
    """Start a workload and plug it in, as a hypervisor does."""
    workloads.build(one, lab.host(one.host).netns, mark)
    hosts.plug(lab.host(one.host), [one])


def _silent(step: str, done: int, total: int) -> None:
    """No progress bar."""
