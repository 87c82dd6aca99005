"""What an agent tells about itself: the answers of its API, and its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ovsnet._version import VERSION
from ovsnet.agent import answers
from ovsnet.agent.answers import PortAnswer
from ovsnet.agent.boot import REASON
from ovsnet.agent.picture import look, port_answer
from ovsnet.agent.reconcile import Status
from ovsnet.desired import Owned
from ovsnet.model.names import inner_mtu
from ovsnet.model.types import Port, VpcState
from ovsnet.openflow.errors import SwitchError
from ovsnet.openflow.tables import read_actual
from ovsnet.pipeline.render import flow_data, flow_ofctl, flow_text
from ovsnet.plan import Plan
from ovsnet.transport.messages import PROTOCOL
from ovsnet.transport.reports import Difference, Picture

if TYPE_CHECKING:
    from ovsnet.agent.agent import Agent

Data = dict[str, Any]
CAPABILITIES = ("vpcs", "objects", "workloads", "endpoints", "security-groups", "migration", "plug", "events", "trace")
"""What this version's API and tables can; callers look here rather than at versions."""


def host(agent: Agent) -> answers.HostAnswer:
    """``GET /v1/host``."""
    config, status, switch = agent.config, agent.reconciler.status, agent.ovsdb.state
    seen = look(agent.lookout.scene())
    faults = tuple(unready(agent))
    return answers.HostAnswer(
        host=config.host,
        vtep=config.vtep,
        encapsulation=config.encapsulation,
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
        mtu=inner_mtu(config.underlay_mtu, config.vtep),
        flows=status.flows,
        repairs=status.repairs,
        vpcs={name: vpc(agent, state, status) for name, state in sorted(agent.view.states.items())},
        ports=tuple(one.answer for _, one in sorted(seen.ports.items()) if one is not None),
        misplaced=tuple(one for one in seen.misplaced.values() if one is not None),
        conflicts=tuple(one for one in seen.conflicts.values() if one is not None),
        warnings=tuple(warnings(agent)),
    )


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
    scene = agent.lookout.scene()
    return [
        port_answer(scene, vpc_name, name, declared)
        for vpc_name, local in sorted(scene.local.items())
        for name, declared in sorted(local.items())
    ]


def port(agent: Agent, vpc_name: str, name: str, declared: Port) -> PortAnswer:
    """One port: what is declared, what it is bound to, and why it is not enforced."""
    return port_answer(agent.lookout.scene(), vpc_name, name, declared)


def counted_port(agent: Agent, state: VpcState, name: str, declared: Port) -> answers.CountedPort:
    """One port, with the frames that port security has refused; ``None`` when nobody can tell."""
    seen = port(agent, state.name, name, declared)
    dropped, reason = None, seen.reason
    if seen.bound and seen.ofport is not None:
        try:
            dropped = agent.dropped(seen.ofport)
        except SwitchError as exc:
            reason = reason or str(exc)
    fields = {name: getattr(seen, name) for name in PortAnswer.__struct_fields__ if name != "reason"}
    return answers.CountedPort(**fields, reason=reason, dropped=dropped, declared=declared)


class Sights:
    """What events are about, as it changes: ports, how VPCs are enforced, conflicts (also ports that are misplaced)."""

    def __init__(self, agent: Agent) -> None:
        self._reader = agent.lookout.reader()

    def changes(self) -> dict[str, dict[str, Any]]:
        """What may have changed since the last call, by kind and key; ``None`` for what is gone."""
        found = self._reader.changes()
        return {
            "port": {path: one and one.answer for path, one in found.ports.items()},
            "enforced": {name: one and one.event for name, one in found.vpcs.items()},
            "conflict": {**found.conflicts, **found.misplaced},
        }


class Reports:
    """What goes into the reports to one receiver."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._reader = agent.lookout.reader()
        self._misplaced: set[str] = set()

    def picture(self, owner: str) -> Picture:
        """All of it, looked at from scratch, but for VPCs that are not ``owner``'s; "" for everybody's."""
        found = self._reader.everything()
        self._misplaced = set(found.misplaced)
        return Picture(
            vpcs={name: one.report for name, one in found.vpcs.items() if one and self._concerns(owner, name)},
            ports={path: one.report for path, one in found.ports.items() if one and self._concerns(owner, path)},
            faults=self._faults(),
            misplaced=tuple(sorted(self._misplaced)),
        )

    def changes(self, owner: str) -> Difference:
        """What may have changed since the last call of either; others' VPCs are as good as gone."""
        found = self._reader.changes()
        for path, one in found.misplaced.items():
            (self._misplaced.discard if one is None else self._misplaced.add)(path)
        return Difference(
            vpcs={n: one.report if one and self._concerns(owner, n) else None for n, one in found.vpcs.items()},
            ports={p: one.report if one and self._concerns(owner, p) else None for p, one in found.ports.items()},
            faults=self._faults(),
            misplaced=tuple(sorted(self._misplaced)),
        )

    def close(self) -> None:
        """There is nobody to report to any more."""
        self._reader.close()

    def _concerns(self, owner: str, path: str) -> bool:
        """Whether a VPC, or that of a port (``VPC/NAME``), is the owner's; what is gone is of everybody's concern."""
        state = self._agent.view.states.get(path.partition("/")[0])
        return not owner or state is None or state.owner == owner

    def _faults(self) -> tuple[str, ...]:
        return (*unready(self._agent), *warnings(self._agent))


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
