"""What an agent tells about itself: the answers of its API, and its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ovsnet._version import VERSION
from ovsnet.agent import answers
from ovsnet.agent.answers import PortAnswer
from ovsnet.agent.boot import REASON
from ovsnet.agent.reconcile import Status
from ovsnet.desired import Owned
from ovsnet.model.types import Port, VpcState
from ovsnet.openflow.errors import SwitchError
from ovsnet.openflow.tables import read_actual
from ovsnet.ovsdb import Interface
from ovsnet.pipeline.render import flow_data, flow_ofctl, flow_text
from ovsnet.plan import Plan
from ovsnet.transport.messages import PROTOCOL, PortReport, VpcReport
from ovsnet.transport.reports import Picture

if TYPE_CHECKING:
    from ovsnet.agent.agent import Agent

Data = dict[str, Any]
CAPABILITIES = ("vpcs", "objects", "workloads", "endpoints", "security-groups", "migration", "plug", "events", "trace")
"""What this version's API and tables can; callers look here rather than at versions."""


def host(agent: Agent) -> answers.HostAnswer:
    """``GET /v1/host``."""
    config, status, switch = agent.config, agent.reconciler.status, agent.ovsdb.state
    faults = tuple(unready(agent))
    return answers.HostAnswer(
        host=config.host,
        vtep=config.vtep,
        version=VERSION,
        protocols=(PROTOCOL,),
        capabilities=(*CAPABILITIES, *(("nd-responder",) if switch.nd_responder else ())),
        ready=not faults,
        faults=faults,
        bridge=config.bridge,
        ovsdb=config.ovsdb,
        datapath=switch.datapath_type or config.datapath,
        datapath_id=switch.datapath_id,
        ovs_version=switch.ovs_version,
        connected=answers.Connections(ovsdb=agent.ovsdb.connected, openflow=agent.switch.connected),
        tunnel_ofport=agent.ovsdb.tunnel_ofport(),
        flows=status.flows,
        repairs=status.repairs,
        vpcs={name: vpc(agent, state, status) for name, state in sorted(agent.view.states.items())},
        ports=tuple(ports(agent)),
        misplaced=tuple(answers.Misplaced(**one) for one in agent.misplaced()),
        conflicts=tuple(conflicts(agent)),
        warnings=tuple(warnings(agent)),
    )


def conflicts(agent: Agent) -> list[answers.ConflictAnswer]:
    """The ids that several interfaces claim."""
    return [
        answers.ConflictAnswer(iface_id=c.iface_id, bound=c.chosen, ignored=c.others)
        for c in agent.ovsdb.state.conflicts
    ]


def unready(agent: Agent) -> list[str]:
    """Why the agent does not enforce all that it was told; empty when it does."""
    found = []
    if not agent.ovsdb.connected:
        found.append(f"no OVSDB connection to {agent.config.ovsdb}")
    if agent.fault:
        found.append(agent.fault)
    status = agent.reconciler.status
    if status.fault:
        found.append(status.fault)
    found += [f"VPC {name} is held: {hold.reason}" for name, hold in sorted(status.held.items())]
    return found


def warnings(agent: Agent) -> list[str]:
    """What is odd, and hinders nothing by itself."""
    found = list(agent.damage)
    if agent.unsaved:
        found.append(f"not on disk: {', '.join(sorted(agent.unsaved))}")
    for name, state in sorted(agent.view.states.items()):
        vtep = state.hosts.get(agent.config.host)
        if vtep is not None and vtep != agent.config.vtep:
            found.append(f"VPC {name} says that this host's VTEP is {vtep}, and it is {agent.config.vtep}")
    found += [f"VPC {name} is kept down: {REASON}" for name in sorted(agent.boot.waiting)]
    if agent.bus is not None:
        found += agent.bus.faults()
    tunnel = agent.ovsdb.state.tunnel
    if tunnel is not None and tunnel.error:
        found.append(f"tunnel port {tunnel.name}: {tunnel.error}")
    return found


def vpc(agent: Agent, state: VpcState, status: Status) -> answers.VpcAnswer:
    """One VPC in ``GET /v1/host``."""
    hold = status.held.get(state.name)
    return answers.VpcAnswer(
        revision=state.revision,
        enforced=status.enforced.get(state.name),
        owner=state.owner,
        digest=agent.view.digest(state),
        ports=len(state.ports),
        held=None if hold is None else answers.HeldAnswer(reason=hold.reason, flow=hold.flow, path=hold.path),
    )


def ports(agent: Agent) -> list[PortAnswer]:
    """The ports that are on this host, or about to be."""
    states = agent.view.states
    return [
        port(agent, states[vpc_name], name, declared)
        for vpc_name, local in sorted(agent.local.by_vpc.items())
        if vpc_name in states
        for name, declared in sorted(local.items())
    ]


def port(agent: Agent, state: VpcState, name: str, declared: Port) -> PortAnswer:
    """One port: what is declared, what it is bound to, and why it is not enforced."""
    interface = agent.ovsdb.interfaces().get(declared.id)
    reason = _reason(agent, state, declared, interface)
    return PortAnswer(
        port=f"{state.name}/{name}",
        id=declared.id,
        network=declared.network,
        host=declared.host,
        moving_to=declared.moving_to,
        epoch=declared.epoch,
        workload=declared.workload,
        mac=declared.mac,
        ips=declared.ips or (),
        bound=interface is not None and agent.config.host in declared.hosts,
        interface=None if interface is None else interface.name,
        ofport=None if interface is None else interface.ofport,
        up=interface is not None and interface.up,
        active=f"{state.name}/{name}" in agent.active_ports(),
        enforced=not reason,
        reason=reason or None,
    )


def _reason(agent: Agent, state: VpcState, declared: Port, interface: Interface | None) -> str:
    status = agent.reconciler.status
    if agent.config.host not in declared.hosts:
        where = f"declared on {declared.host}" if declared.host else "placed on no host"
        return f"{where}, and plugged here" if interface is not None else where
    if interface is None:
        return f"no interface on {agent.config.bridge} has external_ids:iface-id={declared.id}"
    if interface.ofport is None:
        return interface.error or "ovs-vswitchd has given the interface no OpenFlow port yet"
    if state.name in agent.boot.waiting:
        return REASON
    if state.name in status.held:
        return status.held[state.name].reason
    if status.fault:
        return status.fault
    enforced = status.enforced.get(state.name)
    return "" if enforced == state.revision else f"revision {enforced} is in force, {state.revision} is on its way"


def counted_port(agent: Agent, state: VpcState, name: str, declared: Port) -> answers.CountedPort:
    """One port, with the frames that port security has refused; ``None`` when nobody can tell."""
    seen = port(agent, state, name, declared)
    dropped, reason = None, seen.reason
    if seen.bound and seen.ofport is not None:
        try:
            dropped = agent.dropped(seen.ofport)
        except SwitchError as exc:
            reason = reason or str(exc)
    fields = {name: getattr(seen, name) for name in PortAnswer.__struct_fields__ if name != "reason"}
    return answers.CountedPort(**fields, reason=reason, dropped=dropped, declared=declared)


def sights(agent: Agent) -> dict[str, dict[str, Any]]:
    """What events are about, by kind: ports, how VPCs are enforced, and conflicts (also ports that are misplaced)."""
    status = agent.reconciler.status
    vpcs: dict[str, Any] = {}
    for name, state in agent.view.states.items():
        hold = status.held.get(name)
        enforced = status.enforced.get(name)
        held = None if hold is None else hold.reason
        vpcs[name] = answers.VpcEvent(revision=state.revision, enforced=enforced, held=held)
    odd: dict[str, Any] = {one.iface_id: one for one in conflicts(agent)}
    odd |= {one["port"]: answers.Misplaced(**one) for one in agent.misplaced()}
    return {"port": {one.port: one for one in ports(agent)}, "enforced": vpcs, "conflict": odd}


def flows(agent: Agent, source: str, vpc_name: str | None, table: str | None) -> list[Data]:
    """``GET /v1/flows``: ``source`` is ``account`` (what the agent has put there) or ``switch`` (read back now).

    Raises SwitchError.
    """
    account = agent.flows()
    if source == "switch":
        owners = {owned.row.key: owned for owned in account}
        actual = read_actual(agent.switch)
        chosen = [(row, owners.get(key)) for key, row in actual.rows.items()]
    else:
        chosen = [(owned.row, owned) for owned in account]
    return [
        flow_data(row)
        | {
            "text": flow_text(row),
            "ofctl": flow_ofctl(row),
            "vpc": owned.subject.vpc if owned else "",
            "object": owned.subject.path if owned else "",
        }
        for row, owned in sorted(
            chosen, key=lambda pair: (pair[0].template.table.id, -pair[0].priority, pair[0].values)
        )
        if (vpc_name is None or (owned is not None and owned.subject.vpc == vpc_name))
        and (table is None or row.template.table.name == table)
    ]


def picture(agent: Agent) -> Picture:
    """What goes into reports. A VPC that is not on disk does not count as enforced: it is lost when the agent ends."""
    status, unstored, states = agent.reconciler.status, agent.unstored(), agent.view.states
    vpcs = {}
    for name, state in states.items():
        hold = status.held.get(name)
        reason = "" if hold is None else hold.reason
        if name in agent.unsaved:
            reason = f"not on disk: {agent.config.state_dir} takes nothing"
        enforced = None if name in unstored else status.enforced.get(name)
        vpcs[name] = VpcReport(state.revision, enforced, reason)
    return Picture(
        vpcs=vpcs,
        ports={
            f"{vpc_name}/{name}": _port_report(agent, states[vpc_name], name, declared)
            for vpc_name, local in agent.local.by_vpc.items()
            if vpc_name in states
            for name, declared in local.items()
        },
        faults=(*unready(agent), *warnings(agent)),
        misplaced=tuple(found["port"] for found in agent.misplaced()),
    )


def _port_report(agent: Agent, state: VpcState, name: str, declared: Port) -> PortReport:
    interface = agent.ovsdb.interfaces().get(declared.id)
    reason = _reason(agent, state, declared, interface)
    if not reason and interface is not None and not interface.up:
        reason = f"the link of {interface.name} is down"
    return PortReport(up=not reason, reason=reason, active=f"{state.name}/{name}" in agent.active_ports())


def preview(steps: Plan) -> answers.PreviewAnswer:
    """The answer to a dry run: counts, and a readable line for each flow."""

    def line(owned: Owned) -> str:
        return f"{flow_text(owned.row)}  # {owned.subject.path}"

    return answers.PreviewAnswer(
        counts=dict(steps.counts),
        added=tuple(sorted(line(owned) for owned in steps.add)),
        changed=tuple(sorted(line(owned) for owned in steps.change)),
        removed=tuple(sorted(flow_text(row) for row in steps.remove)),
    )
