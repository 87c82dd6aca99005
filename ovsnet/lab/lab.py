"""A declared cloud on one machine: each host a namespace with its own Open vSwitch, each port a workload namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ovsnet.agent.client import AgentClient, AgentError, AgentUnreachable
from ovsnet.errors import UserError
from ovsnet.lab import converge as converging
from ovsnet.lab import host as hosts
from ovsnet.lab import netns, record
from ovsnet.lab.converge import Progress, converge, refuse_foreign
from ovsnet.lab.deliver import PATIENCE, LabError, await_agents, await_enforced, client_of, deliver, unenforced
from ovsnet.lab.matrix import Matrix, Result
from ovsnet.lab.ovs import OvsInstance
from ovsnet.lab.topology import HostSpec, Topology, WorkloadSpec, lab_dir, marker, prefix, topology
from ovsnet.model.names import resolve_port
from ovsnet.model.types import Model

_ANSWER_WITHIN = 60.0 * PATIENCE
_ENFORCE_WITHIN = 30.0 * PATIENCE
_REMOVALS = 5


def _silent(step: str, done: int, total: int) -> None:
    """No progress bar."""


class Lab:
    """A running lab; ``Lab.up`` makes one, ``Lab.open`` finds one."""

    def __init__(self, found: record.Record) -> None:
        self._record = found

    @property
    def name(self) -> str:
        """The lab's name."""
        return self._record.name

    @property
    def model(self) -> Model:
        """The model that the lab was last brought to, with everything assigned."""
        return self._record.model

    @property
    def topology(self) -> Topology:
        """Names and addresses of everything the lab consists of."""
        return self._record.topology

    @classmethod
    def up(
        cls,
        model: Model,
        name: str | None = None,
        *,
        datapath: str = "netdev",
        agents: bool = True,
        progress: Progress = _silent,
    ) -> Lab:
        """Bring a lab up, or an existing one to a changed model; what is unchanged is not restarted.

        ``model`` is complete (ids, MACs, IPs and VNIs assigned); ``name`` defaults to the model's. ``datapath`` is
        ``netdev`` (user space) or ``system`` (the kernel's). ``agents=False`` gives bare switches without flows.
        ``progress(step, done, total)`` is called from this thread. On failure and Ctrl-C a new lab is removed and an
        existing one brought back. Raises UserError: not root, a bad or busy name, a namespace in the way; LabError when
        an agent does not start, or (the lab is left as it is, to be looked at) does not enforce the model in time.
        """
        name = name or model.name
        _require_root()
        wanted = topology(model, name, datapath)
        with record.locked(name), _interruptible():
            before = record.read(name)
            if before is not None and before.datapath != datapath:
                raise UserError(f"lab {name} runs on datapath {before.datapath}: take it down before you change that.")
            refuse_foreign(name, wanted)
            now = before or record.Record(
                name=name, datapath=datapath, agents=agents, model=model, topology=_nothing(wanted)
            )
            old_model, old_topology = now.model, now.topology
            now.model = model
            try:
                _bring(now, wanted, progress)
            except BaseException as error:
                with _uninterruptible():
                    if before is None:
                        _remove(name)
                    else:
                        now.model = old_model
                        _bring(now, old_topology, _silent)
                if isinstance(error, netns.KernelError | OSError):
                    raise LabError(f"the kernel refused something that the lab needs: {error}") from error
                raise
            made = cls(now)
            missing = made.wait_enforced(_ENFORCE_WITHIN) if now.agents else []
            made.warm()
        if missing:
            raise LabError(f"lab {name} is up, but not all is in force: {'; '.join(missing[:5])}")
        return made

    @classmethod
    def open(cls, name: str) -> Lab:
        """The lab of that name. Raises UserError when there is none; it names those that run."""
        found = record.read(name)
        if found is None:
            running = ", ".join(record.labs()) or "none"
            raise UserError(
                f"no lab is named {name} (running: {running}). `ovsnet lab up MODEL --name {name}` makes it."
            )
        return cls(found)

    def down(self) -> None:
        """Remove the lab: processes, namespaces, files. See ``down``."""
        down(self.name)

    def port(self, name: str) -> WorkloadSpec:
        """The workload of a port, named ``VPC/PORT`` or, where that is unambiguous, ``PORT``. Raises UserError."""
        full = resolve_port(self.model, name)
        if full not in self.topology.workloads:
            raise UserError(f"{full} has no host, so it has no workload. Give it one with `host:`, and `lab up` again.")
        return self.topology.workloads[full]

    def host(self, name: str) -> HostSpec:
        """The specification of a host. Raises UserError when there is none of that name."""
        try:
            return self.topology.hosts[name]
        except KeyError:
            raise UserError(f"lab {self.name} has no host {name}. It has: {', '.join(self.topology.hosts)}.") from None

    def exec(self, port: str, argv: Sequence[str]) -> int:
        """Run a command in a port's workload, on this terminal; returns its exit code (127: no such command)."""
        workload = self.port(port)
        try:
            with netns.inside(workload.netns):
                process = subprocess.Popen(argv)
        except OSError as error:
            print(f"{argv[0]}: {error.strerror}", file=sys.stderr)  # noqa: T201
            return 127 if isinstance(error, FileNotFoundError) else 126
        with _ignoring_interrupts():
            code = process.wait()
        return code if code >= 0 else 128 - code

    def run(self, port: str, *argv: str, timeout: float = 30.0) -> subprocess.CompletedProcess[str]:
        """Run a command in a port's workload and capture what it prints. Raises subprocess.TimeoutExpired."""
        with netns.inside(self.port(port).netns):
            return subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)

    def test(self, *, progress: Progress = _silent, patience: float = 3.0, settle: float = 0.3) -> Result:
        """Send packets between all workloads and compare with the model; see ``matrix.Matrix.run`` for the times."""
        matrix = Matrix(self.model, self.topology, datapath=self._record.datapath, progress=progress)
        return matrix.run(patience=patience * PATIENCE, settle=settle * PATIENCE)

    def wait_enforced(self, timeout: float = 10.0) -> list[str]:
        """Wait until every agent enforces the model on every port; returns what is missing after ``timeout`` s."""
        return await_enforced(lambda: unenforced(self.topology, self._record.revisions), timeout)

    def agent(self, host: str) -> AgentClient:
        """A client of a host's agent."""
        return client_of(self.host(host))

    def warm(self) -> None:
        """Let every host resolve every other VTEP, so that no first packet is lost; needs the tunnel ports."""
        converging.warm(self.topology, _silent)

    def ovs(self, host: str) -> OvsInstance:
        """The Open vSwitch of a host."""
        return hosts.ovs_of(self.host(host))

    def start_agent(self, host: str) -> int:
        """Start the agent of a host if it does not run; returns its process id."""
        spec = self.host(host)
        return hosts.agent_pid(spec) or hosts.start_agent(spec)

    def kill_agent(self, host: str, sig: int = signal.SIGKILL) -> None:
        """End the agent of a host with a signal; its flows stay."""
        hosts.kill_agent(self.host(host), sig)

    def restart_vswitchd(self, host: str, sig: int = signal.SIGKILL) -> None:
        """Kill ovs-vswitchd of a host and start it again."""
        hosts.restart_vswitchd(self.host(host), sig)

    def status(self) -> dict[str, Any]:
        """What runs: ``hosts`` by name (processes, paths) and ``ports`` by ``VPC/PORT``; ``healthy``: nothing died."""
        found_hosts = {name: self._host_status(spec) for name, spec in self.topology.hosts.items()}
        present = set(netns.names(prefix(self.name)))
        ports = {
            name: {
                "host": spec.host,
                "netns": spec.netns,
                "interface": spec.tap,
                "id": spec.id,
                "mac": spec.mac,
                "addresses": list(spec.addresses),
                "present": spec.netns in present,
            }
            for name, spec in self.topology.workloads.items()
        }
        problems = [f"{name}: {what} does not run" for name, one in found_hosts.items() for what in one["dead"]]
        problems += [
            f"{name}: {fault}" for name, one in found_hosts.items() if not one["dead"] for fault in one["faults"]
        ]
        problems += [f"{name}: its workload is gone" for name, one in ports.items() if not one["present"]]
        problems += [f"{name}: was not finished" for name in self._record.pending]
        return {
            "name": self.name,
            "datapath": self._record.datapath,
            "directory": str(lab_dir(self.name)),
            "underlay": self.topology.underlay,
            "healthy": not problems,
            "problems": problems,
            "hosts": found_hosts,
            "ports": ports,
        }

    def _agent_status(self, spec: HostSpec) -> dict[str, Any]:
        """``revision``: the highest that the host enforces (0: none); ``vpcs``: what it was told, and enforces."""
        if not self._record.agents:
            return {"revision": 0, "vpcs": {}, "faults": []}
        try:
            with client_of(spec) as client:
                seen = client.host()
        except (AgentUnreachable, AgentError) as error:
            return {"revision": None, "vpcs": {}, "faults": [str(error)]}
        vpcs = {name: {"revision": vpc["revision"], "enforced": vpc["enforced"]} for name, vpc in seen["vpcs"].items()}
        enforced = [vpc["enforced"] or 0 for vpc in vpcs.values()]
        return {"revision": max(enforced, default=0), "vpcs": vpcs, "faults": seen["faults"]}

    def _host_status(self, spec: HostSpec) -> dict[str, Any]:
        ovs = hosts.ovs_of(spec)
        pids = {"ovsdb-server": ovs.ovsdb_pid, "ovs-vswitchd": ovs.vswitchd_pid}
        if self._record.agents:
            pids["agent"] = hosts.agent_pid(spec)
        return {
            "netns": spec.netns,
            "vtep": spec.vtep,
            "run_dir": spec.run_dir,
            "agent_socket": str(Path(spec.run_dir) / "agent.sock"),
            "agent_pid": pids.get("agent"),
            "vswitchd_pid": pids["ovs-vswitchd"],
            "ovsdb_pid": pids["ovsdb-server"],
            **self._agent_status(spec),
            "dead": [what for what, pid in pids.items() if pid is None],
        }


def down(name: str) -> list[str]:
    """Remove everything of a lab, also one whose record is lost or torn; returns names that were left alone.

    Those are namespaces that have a name of this lab and not its marker. Raises UserError: not root, a busy lab, no
    such lab.
    """
    _require_root()
    with record.locked(name):
        if not lab_dir(name).exists() and not netns.names(prefix(name)):
            running = ", ".join(record.labs()) or "none"
            raise UserError(f"no lab is named {name} (running: {running}).")
        with _uninterruptible():
            return _remove(name)


def _remove(name: str) -> list[str]:
    """Remove what is the lab's, again while something is left: an interrupted step may still be making it."""
    for _ in range(_REMOVALS):
        foreign = _remove_once(name)
        if not netns.names(prefix(name)) and not lab_dir(name).exists():
            return []
        time.sleep(0.2)
    return foreign


def _remove_once(name: str) -> list[str]:
    every = netns.names(prefix(name))
    placeholders = [one for one in every if netns.is_placeholder(one)]
    mine = [one for one in every if one not in placeholders and netns.marker_of(one) == marker(name)]
    base = lab_dir(name)
    doomed = set(netns.pids_in(mine)) | _processes_below(base)
    netns.end(doomed)
    for one in [*mine, *placeholders]:
        netns.delete(one)
    shutil.rmtree(base, ignore_errors=True)
    return sorted(set(every) - set(mine) - set(placeholders))


def _processes_below(base: Path) -> set[int]:
    """Switches and agents of the lab whose namespace has lost its name: their arguments name the lab's directory."""
    found = set()
    inside = f"{base}/h/".encode()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError, ValueError):
            argv = path.read_bytes().split(b"\0")
            ours = os.path.basename(argv[0]) in {b"ovs-vswitchd", b"ovsdb-server"} or b"ovsnet.agent.main" in argv
            if ours and any(inside in word for word in argv):
                found.add(int(path.parent.name))
    return found - {os.getpid()}


def _bring(now: record.Record, wanted: Topology, progress: Progress) -> None:
    """Bring the lab to ``wanted`` and its agents to the record's model."""
    converge(now, wanted, progress)
    if now.agents:
        await_agents(wanted, _ANSWER_WITHIN, progress)
        now.revisions = deliver(now.model, wanted, progress)
        now.write()


def _nothing(wanted: Topology) -> Topology:
    return Topology(wanted.lab, wanted.underlay, wanted.mtu, {}, {})


def _require_root() -> None:
    if os.geteuid():
        raise UserError("a lab makes network namespaces, which needs root. Run it with sudo.")


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let SIGTERM roll back as Ctrl-C does."""
    if not _in_main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    old = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, old)


@contextlib.contextmanager
def _ignoring(*signals: int) -> Iterator[None]:
    if not _in_main_thread():
        yield
        return
    old = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    try:
        yield
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def _uninterruptible() -> contextlib.AbstractContextManager[None]:
    return _ignoring(signal.SIGINT, signal.SIGTERM)


def _ignoring_interrupts() -> contextlib.AbstractContextManager[None]:
    return _ignoring(signal.SIGINT)
