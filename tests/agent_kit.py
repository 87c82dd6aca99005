"""A host for the agent's tests: a private Open vSwitch on the test datapath, and a real agent process."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ovsnet.agent.client import AgentClient, AgentUnreachable
from ovsnet.lab.ovs import OvsInstance
from ovsnet.model import Network, Port, Subnet, VpcState, port_id

HOST, VTEP = "hv1", "10.0.0.11"
HOSTS = {"hv1": VTEP, "hv2": "10.0.0.12", "hv3": "10.0.0.13"}


def until(condition: Callable[[], Any], timeout: float = 30.0) -> float:
    """Wait for a condition, for as long as a busy machine may need; the seconds it took."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, "the condition did not come true"
        time.sleep(0.005)
    return time.monotonic() - start


def port(vpc: str, number: int, host: str | None = "hv2", network: str = "n") -> Port:
    """Port number ``number`` (1..65000) of a VPC, with the address 10.1.x.y that follows from it."""
    high, low = divmod(number, 250)
    mac = f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"
    return Port(network=network, host=host, mac=mac, ips=(f"10.1.{high}.{low + 2}",), id=port_id(vpc, f"p{number}"))


def state(vpc: str = "shop", revision: int = 1, *, vni: int = 5001, local: int = 1, remote: int = 1) -> VpcState:
    """A VPC of one network with ports p1, p2, ...: first the ``local`` ones, on hv1, then the others, on hv2."""
    ports = {f"p{n}": port(vpc, n, "hv1" if n <= local else "hv2") for n in range(1, local + remote + 1)}
    networks = {"n": Network(vni=vni, subnets=(Subnet(cidr="10.1.0.0/16"),))}
    return VpcState(name=vpc, revision=revision, owner="tests", networks=networks, ports=ports, hosts=HOSTS)


class AgentHost:
    """One hypervisor below a short directory of its own; ``close`` ends everything that it started."""

    def __init__(self, netns: str | None = None) -> None:
        """With ``netns`` switch and agent live in that namespace, on a datapath that carries real frames."""
        self.dir = Path(tempfile.mkdtemp(prefix="ovsagt-"))
        self.netns = netns
        self.ovs = OvsInstance(self.dir / "ovs", dummy=netns is None, netns=netns)
        self.process: subprocess.Popen[bytes] | None = None
        self.client = AgentClient(self.dir / "run" / "agent.sock", timeout=20)
        self.log = self.dir / "agent.log"

    def argv(self, *extra: str) -> list[str]:
        """The agent's command line."""
        fixed = ["--host", HOST, "--vtep", VTEP, "--ovsdb", self.ovs.db_target, "--datapath", "netdev"]
        dirs = ["--run-dir", str(self.dir / "run"), "--state-dir", str(self.dir / "state")]
        inside = ["ip", "netns", "exec", self.netns] if self.netns else []
        return [*inside, sys.executable, "-m", "ovsnet.agent.main", *fixed, *dirs, *extra]

    def start(self, *extra: str, ready: bool = True) -> AgentHost:
        """Start the agent; returns when it enforces what it holds."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.argv(*extra), stderr=log, stdout=log)
        if ready:
            until(self.ready)
        return self

    def ready(self) -> bool:
        """Whether the agent enforces all that it was told."""
        assert self.process is not None and self.process.poll() is None, self.log.read_text()
        with contextlib.suppress(AgentUnreachable):
            return bool(self.client.ready()["ready"])
        return False

    def end(self, sig: int = signal.SIGTERM) -> int:
        """End the agent; its exit status."""
        assert self.process is not None
        self.process.send_signal(sig)
        self.client.close()
        return self.process.wait(10)

    def plug(self, vpc: str, number: int, name: str | None = None, *, ofport: int | None = None) -> str:
        """Plug a port in, as libvirt does; the interface's name."""
        name = name or f"{vpc}-{number}"
        extra = [f"ofport_request={ofport}"] if ofport else []
        ids = f"external_ids:iface-id={port_id(vpc, f'p{number}')}"
        self.ovs.vsctl("add-port", "br-int", name, "--", "set", "interface", name, ids, *extra)
        return name

    def flows(self) -> list[str]:
        """The switch's flows as ``ovs-ofctl --no-stats`` prints them."""
        lines = self.ovs.ofctl("dump-flows", "br-int", "--no-stats").splitlines()
        return sorted(line.strip() for line in lines if "actions=" in line)

    def close(self) -> None:
        """End everything and remove the directory."""
        self.client.close()
        pids = [self.ovs.ovsdb_pid, self.ovs.vswitchd_pid, self.process and self.process.pid]
        for pid in pids:
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
