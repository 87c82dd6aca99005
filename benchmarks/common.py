"""What the benchmarks share: a switch of their own, a made-up cloud, and measures with their spread."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ovsnet.lab.ovs import OvsInstance
from ovsnet.model import Network, Port, Subnet, VpcState, port_id
from ovsnet.model.numbers import ip_text, mac_text
from tests.agent_kit import HOST, VTEP

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Measure:
    """One figure: the median of ``samples`` values with its smallest and largest; ``budget`` is an upper limit."""

    name: str
    unit: str
    median: float
    least: float
    most: float
    samples: int
    budget: float | None

    @property
    def met(self) -> bool | None:
        """Whether the median is within the budget; ``None`` without one."""
        return None if self.budget is None else self.median <= self.budget


def summary(name: str, unit: str, values: Sequence[float], budget: float | None = None) -> Measure:
    """A measure from its samples."""
    return Measure(name, unit, statistics.median(values), min(values), max(values), len(values), budget)


@contextmanager
def bench_switch() -> Iterator[OvsInstance]:
    """A real vswitchd on the dummy datapath, with br-int in secure fail mode; ended afterwards."""
    run_dir = Path(tempfile.mkdtemp(prefix="ovsnet-bench-"))
    ovs = OvsInstance(run_dir, dummy=True)
    try:
        ovs.start()
        ovs.vsctl("add-br", "br-int", "--", "set", "bridge", "br-int", "datapath_type=dummy", "fail-mode=secure")
        yield ovs
    finally:
        ovs.stop()
        shutil.rmtree(run_dir)


def cloud_port(number: int, host: str) -> Port:
    """Port ``number`` of the made-up cloud: one IPv4 address and a MAC from its number."""
    return Port(
        network="net",
        host=host,
        mac=mac_text(0x020000000000 + number),
        ips=(ip_text(0x0A000002 + number, 32),),
        id=port_id("vpc", f"p{number}"),
    )


def cloud_state(ports: int, *, local: int, hosts: int = 100) -> VpcState:
    """One VPC with one network of ``ports`` ports: ``local`` of them on host hv1, the others spread over ``hosts``."""
    return VpcState(
        name="vpc",
        revision=1,
        owner="bench",
        networks={"net": Network(vni=5001, subnets=(Subnet(cidr="10.0.0.0/8"),))},
        ports={f"p{i}": cloud_port(i, HOST if i < local else f"h{1 + i % hosts}") for i in range(ports)},
        hosts={HOST: VTEP} | {f"h{i}": ip_text(0xAC100001 + i, 32) for i in range(1, hosts + 1)},
    )


def cpu_of(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory_of(pid: int) -> float:
    """Resident kilobytes of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("VmRSS:"))
