"""A declared cloud on one machine: each host a namespace with its own Open vSwitch, each port a workload namespace."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ovsnet.agent.client import AgentClient, AgentError, AgentUnreachable
from ovsnet.errors import UserError
from ovsnet.lab import control as controlling
from ovsnet.lab import converge as converging
from ovsnet.lab import host as hosts
from ovsnet.lab import management, netns, record, removal
from ovsnet.lab import workload as workloads
from ovsnet.lab.converge import Progress, converge, refuse_foreign
from ovsnet.lab.deliver import (
    LabError,
    await_agents,
    await_controller,
    await_enforced,
    client_of,
    controller_client,
    deliver,
    unenforced,
)
from ovsnet.lab.matrix import Matrix, Result
from ovsnet.lab.ovs import OvsInstance
from ovsnet.lab.patience import PATIENCE
from ovsnet.lab.removal import down, require_root
from ovsnet.lab.signals import ignoring_interrupts, interruptible, uninterruptible
from ovsnet.lab.topology import (
    BUS_PORT,
    Attachment,
    ControlSpec,
    HostSpec,
    Topology,
    Transport,
    WorkloadSpec,
    lab_dir,
    marker,
    prefix,
    topology,
)
from ovsnet.model.names import resolve_port
from ovsnet.model.types import Model

__all__ = ["Lab", "down"]

if TYPE_CHECKING:
    from ovsnet.controller.client import ControllerClient

_ANSWER_WITHIN = 60.0 * PATIENCE
_ENFORCE_WITHIN = 30.0 * PATIENCE
_WITH_ONE = "Bring one up with --transport controller or nats."


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
        transport: Transport = "direct",
        tls: bool = True,
        agents: bool = True,
        progress: Progress = _silent,
    ) -> Lab:
        """Bring a lab up, or an existing one to a changed model; what is unchanged is not restarted.

        ``model`` is complete (ids, MACs, IPs and VNIs assigned); ``name`` defaults to the model's. ``datapath`` is
        ``netdev`` (user space) or ``system`` (the kernel's). ``transport`` says who tells the agents: ``direct`` (the
        lab itself), ``controller`` (one that calls them) or ``nats`` (one that publishes on a bus; with
        ``tls=False`` the bus takes anybody). ``agents=False`` gives bare switches without flows.
        ``progress(step, done, total)`` is called from this thread. On failure and Ctrl-C a new lab is removed and an
        existing one brought back. Raises UserError: not root, a bad or busy name, a namespace in the way, no
        nats-server; LabError when an agent or the controller does not start, or (the lab is left as it is, to be looked
        at) does not enforce the model in time.
        """
        name = name or model.name
        require_root()
        wanted = topology(model, name, datapath, transport, tls=tls)
        controlling.require(transport)
        with record.locked(name), interruptible():
            before = record.read(name)
            _refuse_another(name, before, datapath, transport)
            refuse_foreign(name, wanted)
            now = before or record.Record(
                name=name,
                datapath=datapath,
                transport=transport,
                agents=agents,
                model=model,
                topology=_nothing(wanted),
            )
            _bring_or_undo(now, model, wanted, progress, new=before is None)
            made = cls(now)
            missing: list[str] = []
            if now.agents:  # a bare switch has no tunnel port, and without one it learns of no neighbour
                missing = made.wait_enforced(_ENFORCE_WITHIN)
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
        with ignoring_interrupts():
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

    def start_agent(self, host: str, environment: Mapping[str, str] | None = None) -> int:
        """Start the agent of a host if it does not run, with more environment if given; returns its process id."""
        spec = self.host(host)
        return hosts.agent_pid(spec) or hosts.start_agent(spec, environment)

    def kill_agent(self, host: str, sig: int = signal.SIGKILL) -> None:
        """End the agent of a host with a signal; its flows stay."""
        hosts.kill_agent(self.host(host), sig)

    def restart_vswitchd(self, host: str, sig: int = signal.SIGKILL) -> None:
        """Kill ovs-vswitchd of a host and start it again."""
        hosts.restart_vswitchd(self.host(host), sig)

    def power_off(self, host: str) -> None:
        """Take a host's power: its processes and workloads end at once, flows are gone, the disk stays."""
        spec = self.host(host)
        hosts.power_off(spec, self.topology.underlay)
        netns.end(netns.pids_in([workload.netns for workload in self._workloads_on(host)]), signal.SIGKILL)
        for workload in self._workloads_on(host):
            netns.unplug(workload.netns, workloads.INTERFACE)

    def power_on(self, host: str) -> None:
        """Start a host that is off, from its disk, with its agent; then its workloads are plugged in as they were."""
        spec, mark = self.host(host), marker(self.name)
        if hosts.powered(spec):
            raise UserError(f"{host} has power. Take it first: ovsnet lab power-off {host}")
        hosts.power_on(spec, self.topology.underlay, mark)
        for workload in self._workloads_on(host):
            workloads.build(workload, spec.netns, mark)
        hosts.plug(spec, self._workloads_on(host))

    def _workloads_on(self, host: str) -> list[WorkloadSpec]:
        return [workload for workload in self.topology.workloads.values() if workload.host == host]

    def partition(self, host: str) -> None:
        """Cut a host off from the control plane; its tenants' packets go on. Raises UserError without a controller."""
        management.partition(self.topology.underlay, self._attachment(host))

    def heal(self, host: str) -> None:
        """Connect a host to the control plane again. Raises UserError in a lab without a controller."""
        management.heal(self.topology.underlay, self._attachment(host))

    def _attachment(self, host: str) -> Attachment:
        found = self.host(host).management
        if found is None:
            raise UserError(f"lab {self.name} has no controller and so no management network. {_WITH_ONE}")
        return found

    @property
    def control(self) -> ControlSpec:
        """Where controller and message bus live. Raises UserError in a lab without a controller."""
        if self.topology.control is None:
            raise UserError(f"lab {self.name} has no controller. {_WITH_ONE}")
        return self.topology.control

    def controller(self) -> ControllerClient:
        """A client of the controller, with all rights. Raises UserError in a lab without one."""
        return controller_client(self.control)

    def start_controller(self, environment: Mapping[str, str] | None = None) -> int:
        """Start the controller if it does not run, and wait until it answers; returns its process id."""
        pid = controlling.controller_of(self.control).pid or controlling.start_controller(self.control, environment)
        await_controller(self.control, _ANSWER_WITHIN)
        return pid

    def kill_controller(self, sig: int = signal.SIGKILL) -> None:
        """End the controller with a signal; hosts go on with what they were told."""
        controlling.controller_of(self.control).kill(sig)

    def start_nats(self, port: int = BUS_PORT) -> int:
        """Start the nats-server if it does not run; returns its process id.

        With another ``port``, hosts and controller, who call the usual one, reach it through whatever listens there.
        """
        return controlling.bus_of(self._with_bus()).pid or controlling.start_bus(self.control, port)

    def kill_nats(self, sig: int = signal.SIGKILL) -> None:
        """End the nats-server with a signal."""
        controlling.bus_of(self._with_bus()).kill(sig)

    def _with_bus(self) -> ControlSpec:
        if self.control.transport != "nats":
            raise UserError(f"lab {self.name} has no message bus. Bring one up with --transport nats.")
        return self.control

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
        problems += [
            f"{name}: cut off from the control plane" for name, one in found_hosts.items() if one["partitioned"]
        ]
        problems += [f"{name}: its workload is gone" for name, one in ports.items() if not one["present"]]
        problems += [f"{name}: was not finished" for name in self._record.pending]
        plane = self._control_status()
        problems += [f"{what} does not run" for what, pid in plane.items() if pid is None]
        return {
            "name": self.name,
            "datapath": self._record.datapath,
            "transport": self._record.transport,
            "control": plane,
            "directory": str(lab_dir(self.name)),
            "underlay": self.topology.underlay,
            "healthy": not problems,
            "problems": problems,
            "hosts": found_hosts,
            "ports": ports,
        }

    def _control_status(self) -> dict[str, int | None]:
        """The process ids of the control plane, by program; ``None`` for one that does not run."""
        if self.topology.control is None:
            return {}
        found = {"controller": controlling.controller_of(self.control).pid}
        if self.control.transport == "nats":
            found["nats-server"] = controlling.bus_of(self.control).pid
        return found

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
        powered = hosts.powered(spec)
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
            "powered": powered,
            "management": spec.management.address if spec.management else None,
            "partitioned": bool(
                spec.management and powered and management.partitioned(self.topology.underlay, spec.management)
            ),
            "dead": [what for what, pid in pids.items() if pid is None] if powered else ["the host"],
        }


def _refuse_another(name: str, before: record.Record | None, datapath: str, transport: Transport) -> None:
    """Raise UserError when the lab runs in another way, which cannot be changed while it runs."""
    if before is not None and before.datapath != datapath:
        raise UserError(f"lab {name} runs on datapath {before.datapath}: take it down before you change that.")
    if before is not None and before.transport != transport:
        raise UserError(f"lab {name} has transport {before.transport}: take it down before you change that.")


def _bring_or_undo(now: record.Record, model: Model, wanted: Topology, progress: Progress, *, new: bool) -> None:
    """Bring the lab to a model; on failure a ``new`` one is removed, and another is as it was. Raises LabError."""
    old_model, old_topology = now.model, now.topology
    now.model = model
    try:
        _bring(now, wanted, progress)
    except BaseException as error:
        with uninterruptible():
            if new:
                removal.remove(now.name)
            else:
                now.model = old_model
                _bring(now, old_topology, _silent)
        if isinstance(error, netns.KernelError | OSError):
            raise LabError(f"the kernel refused something that the lab needs: {error}") from error
        raise


def _bring(now: record.Record, wanted: Topology, progress: Progress) -> None:
    """Bring the lab to ``wanted`` and its agents to the record's model."""
    converge(now, wanted, progress)
    if now.agents:
        await_agents(wanted, _ANSWER_WITHIN, progress)
        if wanted.control is not None:
            await_controller(wanted.control, _ANSWER_WITHIN)
        now.revisions = deliver(now.model, wanted, progress)
        now.write()


def _nothing(wanted: Topology) -> Topology:
    return Topology(wanted.lab, wanted.underlay, wanted.mtu, {}, {})
