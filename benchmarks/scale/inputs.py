"""What the model takes: a cloud, the machines of its layers, and measured constants, each with its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_DAY = 86_400  # seconds

# What has to be measured: name -> meaning with its unit. The BGP ones follow from that benchmark's results.
CONSTANTS = {
    "change_cpu": "CPU seconds of the controller for one change, before any host is told",
    "change_rate": "changes a second that one store commits",
    "publish_cpu": "CPU seconds of the controller for each host told through the bus",
    "call_cpu": "CPU seconds of the controller for each host told through its own API",
    "change_bytes": "bytes over the bus to one host for one change, with framing",
    "call_bytes": "bytes of a call to one host for one change, HTTP included",
    "bus_cpu": "CPU seconds of nats-server for one message delivered",
    "bus_memory": "bytes of nats-server for one connected host",
    "bus_connections": "connected hosts that one nats-server was tried with",
    "heartbeat_bytes": "bytes of the heads that one host gets over the bus",
    "heartbeat_cpu": "CPU seconds of the controller for heads to one host",
    "look_bytes": "bytes of a look at one host's API in place of heads",
    "look_cpu": "CPU seconds of the controller for a look at one host",
    "link_memory": "bytes of the controller for one host that it has a connection to",
    "port_memory": "bytes of the controller for one port",
    "snapshot_bytes": "bytes of a snapshot for one port in it",
    "snapshot_cpu": "CPU seconds of the controller for one port of a snapshot over the bus",
    "call_snapshot_cpu": "CPU seconds of the controller for one port of a snapshot by a call",
    "agent_change_cpu": "CPU seconds of an agent for one change that it is told",
    "agent_port_memory": "bytes of an agent for one port that it is told",
    "bgp_route_bytes": "bytes to one VTEP for one route",
    "bgp_in_cpu": "CPU seconds of a route reflector for one route received",
    "bgp_out_cpu": "CPU seconds of a route reflector for one route sent to one client",
    "bgp_filter_cpu": "CPU seconds of a route reflector to find that one client does not want one route",
    "bgp_route_memory": "bytes of a BGP speaker for one route",
    "bgp_host_cpu": "CPU seconds of a VTEP for one route received",
}


@dataclass(frozen=True)
class Site:
    """A cloud: how large, how tenants are spread, how often things change.

    ``changes_per_port_day`` is a mean over a day, ``peak`` how many times as much the worst minute has;
    ``heartbeat`` is in seconds, ``recovery`` the seconds in which all hosts have their state again after an outage.
    """

    hosts: int
    ports_per_host: int = 20
    hosts_per_vpc: int = 20
    changes_per_port_day: float = 2.0
    peak: float = 10.0
    heartbeat: float = 4.0
    recovery: float = 300.0

    @property
    def ports(self) -> int:
        """All ports."""
        return self.hosts * self.ports_per_host

    @property
    def changes(self) -> float:
        """Changes a second in the worst minute."""
        return self.ports * self.changes_per_port_day / _DAY * self.peak

    @property
    def told(self) -> int:
        """Ports that one host is told of: those of its VPCs, which are spread evenly."""
        return min(self.ports, self.hosts_per_vpc * self.ports_per_host)

    @property
    def interested(self) -> int:
        """Hosts that one change concerns."""
        return min(self.hosts, self.hosts_per_vpc)

    @property
    def messages(self) -> float:
        """Changes a second times the hosts that each concerns."""
        return self.changes * self.interested

    @property
    def heartbeats(self) -> float:
        """Heartbeats a second of all hosts."""
        return self.hosts / self.heartbeat


@dataclass(frozen=True)
class Machine:
    """What one machine of a layer has, and how much of a hypervisor its agent may use (``host_*``); bytes, bytes/s."""

    cores: float = 16.0
    memory: float = 64e9
    link: float = 1.25e9
    host_cores: float = 0.5
    host_memory: float = 1e9
    host_link: float = 1.25e6


class Missing(LookupError):
    """A constant has not been measured; its name is the only argument."""


class Figures:
    """Measured constants as attributes. Raises Missing for one that has no value."""

    def __init__(self, values: Mapping[str, float | None]) -> None:
        unknown = set(values) - set(CONSTANTS)
        if unknown:
            raise ValueError(f"no such constant: {', '.join(sorted(unknown))}; there are {', '.join(CONSTANTS)}")
        self._values = dict(values)

    def missing(self) -> list[str]:
        """The names of the constants that have no value."""
        return [name for name in CONSTANTS if self._values.get(name) is None]

    def __getattr__(self, name: str) -> float:
        value = self._values.get(name)
        if value is None:
            raise Missing(name)
        return value
