"""What each layer needs at one size, as data: a rule for each thing that a machine has only so much of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from benchmarks.scale.inputs import Figures, Machine, Site

STORE, CONTROLLER_BUS, CONTROLLER_DIRECT = "store", "controller, bus", "controller, direct"
BUS, AGENT = "bus", "agent"
REFLECTOR, REFLECTOR_RTC = "BGP route reflector", "BGP route reflector, RTC"
REFLECTOR_INDEXED = "BGP route reflector, RTC, indexed"  # finds the clients that want a route without asking each
VTEP, VTEP_RTC = "BGP VTEP", "BGP VTEP, RTC"

Need: TypeAlias = Callable[[Site, Figures], float]
Limit: TypeAlias = Callable[[Machine, Figures], float]

# What a machine has only so much of: name -> unit and how much; on a hypervisor, what its agent may use.
_CENTRE: Mapping[str, tuple[str, Limit]] = {
    "commits": ("changes/s", lambda _m, f: f.change_rate),
    "connections": ("hosts", lambda _m, f: f.bus_connections),
    "CPU": ("cores", lambda m, _f: m.cores),
    "memory": ("B", lambda m, _f: m.memory),
    "bandwidth": ("B/s", lambda m, _f: m.link),
    "recovery, CPU": ("cores", lambda m, _f: m.cores),
    "recovery, bandwidth": ("B/s", lambda m, _f: m.link),
}
_HOST: Mapping[str, tuple[str, Limit]] = {
    "CPU": ("cores", lambda m, _f: m.host_cores),
    "memory": ("B", lambda m, _f: m.host_memory),
    "bandwidth": ("B/s", lambda m, _f: m.host_link),
}


@dataclass(frozen=True)
class Rule:
    """One thing that a layer needs, and what one machine of it has."""

    layer: str
    what: str
    unit: str
    need: Need
    limit: Limit


def _layer(layer: str, kind: Mapping[str, tuple[str, Limit]], needs: Mapping[str, Need]) -> tuple[Rule, ...]:
    return tuple(Rule(layer, what, kind[what][0], need, kind[what][1]) for what, need in needs.items())


@dataclass(frozen=True)
class _Way:
    """What a change, a sign of life, a port of a snapshot and the connection of one host take; CPU seconds, bytes."""

    tell_cpu: Callable[[Figures], float]
    tell_bytes: Callable[[Figures], float]
    life_cpu: Callable[[Figures], float]
    life_bytes: Callable[[Figures], float]
    port_cpu: Callable[[Figures], float]
    link: Callable[[Figures], float]


_OVER_BUS = _Way(
    tell_cpu=lambda f: f.publish_cpu,
    tell_bytes=lambda f: f.change_bytes,
    life_cpu=lambda f: f.heartbeat_cpu,
    life_bytes=lambda f: f.heartbeat_bytes,
    port_cpu=lambda f: f.snapshot_cpu,
    link=lambda _: 0.0,
)
_BY_CALL = _Way(
    tell_cpu=lambda f: f.call_cpu,
    tell_bytes=lambda f: f.call_bytes,
    life_cpu=lambda f: f.look_cpu,
    life_bytes=lambda f: f.look_bytes,
    port_cpu=lambda f: f.call_snapshot_cpu,
    link=lambda f: f.link_memory,
)


def _controller(layer: str, way: _Way) -> tuple[Rule, ...]:
    return _layer(
        layer,
        _CENTRE,
        {
            "CPU": lambda s, f: (
                s.changes * (f.change_cpu + s.interested * way.tell_cpu(f)) + s.heartbeats * way.life_cpu(f)
            ),
            "memory": lambda s, f: s.ports * f.port_memory + s.hosts * way.link(f),
            "bandwidth": lambda s, f: s.messages * way.tell_bytes(f) + s.heartbeats * way.life_bytes(f),
            "recovery, CPU": lambda s, f: s.hosts * (s.told * way.port_cpu(f) + way.tell_cpu(f)) / s.recovery,
            "recovery, bandwidth": lambda s, f: s.hosts * s.told * f.snapshot_bytes / s.recovery,
        },
    )


def _constrained_reflector(layer: str, filtering: Callable[[Figures], float]) -> tuple[Rule, ...]:
    """A reflector with RFC 4684, with the CPU seconds that one client takes which does not want a route."""
    return _layer(
        layer,
        _CENTRE,
        {
            "CPU": lambda s, f: (
                s.changes * (f.bgp_in_cpu + (s.hosts - s.interested) * filtering(f)) + s.messages * f.bgp_out_cpu
            ),
            "memory": lambda s, f: s.ports * f.bgp_route_memory,
            "bandwidth": lambda s, f: s.messages * f.bgp_route_bytes,
            "recovery, CPU": lambda s, f: s.hosts * s.told * f.bgp_out_cpu / s.recovery,
            "recovery, bandwidth": lambda s, f: s.hosts * s.told * f.bgp_route_bytes / s.recovery,
        },
    )


RULES: tuple[Rule, ...] = (
    *_layer(STORE, _CENTRE, {"commits": lambda s, _f: s.changes}),
    *_controller(CONTROLLER_BUS, _OVER_BUS),
    *_layer(
        BUS,
        _CENTRE,
        {
            "CPU": lambda s, f: (s.messages + s.heartbeats) * f.bus_cpu,
            "memory": lambda s, f: s.hosts * f.bus_memory,
            "connections": lambda s, _f: s.hosts,
        },
    ),
    *_controller(CONTROLLER_DIRECT, _BY_CALL),
    *_layer(
        AGENT,
        _HOST,
        {
            "CPU": lambda s, f: s.messages / s.hosts * f.agent_change_cpu,
            "memory": lambda s, f: s.told * f.agent_port_memory,
            "bandwidth": lambda s, f: s.messages / s.hosts * f.change_bytes + f.heartbeat_bytes / s.heartbeat,
        },
    ),
    *_layer(
        REFLECTOR,
        _CENTRE,
        {
            "CPU": lambda s, f: s.changes * (f.bgp_in_cpu + s.hosts * f.bgp_out_cpu),
            "memory": lambda s, f: s.ports * f.bgp_route_memory,
            "bandwidth": lambda s, f: s.changes * s.hosts * f.bgp_route_bytes,
            "recovery, CPU": lambda s, f: s.hosts * s.ports * f.bgp_out_cpu / s.recovery,
            "recovery, bandwidth": lambda s, f: s.hosts * s.ports * f.bgp_route_bytes / s.recovery,
        },
    ),
    *_layer(
        VTEP,
        _HOST,
        {
            "CPU": lambda s, f: s.changes * f.bgp_host_cpu,
            "memory": lambda s, f: s.ports * f.bgp_route_memory,
            "bandwidth": lambda s, f: s.changes * f.bgp_route_bytes,
        },
    ),
    *_constrained_reflector(REFLECTOR_RTC, lambda f: f.bgp_filter_cpu),
    *_constrained_reflector(REFLECTOR_INDEXED, lambda _f: 0.0),
    *_layer(
        VTEP_RTC,
        _HOST,
        {
            "CPU": lambda s, f: s.messages / s.hosts * f.bgp_host_cpu,
            "memory": lambda s, f: s.told * f.bgp_route_memory,
            "bandwidth": lambda s, f: s.messages / s.hosts * f.bgp_route_bytes,
        },
    ),
)

LAYERS: tuple[str, ...] = tuple(dict.fromkeys(rule.layer for rule in RULES))
HOST_LAYERS = frozenset({AGENT, VTEP, VTEP_RTC})
