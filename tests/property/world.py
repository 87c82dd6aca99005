"""A model together with what only a host is told: neighbours that are known by their VTEP alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from ovsnet.model import states_for_host
from ovsnet.model.types import Model, Port, RemoteEndpoint, VpcState


class World(Model, frozen=True, kw_only=True):
    """A model, and the endpoints by VPC and name."""

    endpoints: dict[str, dict[str, RemoteEndpoint]] = {}


def endpoints_of(model: Model) -> Mapping[str, Mapping[str, RemoteEndpoint]]:
    """The endpoints by VPC and name; none of a plain model."""
    return model.endpoints if isinstance(model, World) else {}


def states_of(model: Model, host: str) -> dict[str, VpcState]:
    """The states that a host is told, endpoints included."""
    told = endpoints_of(model)
    return {
        name: msgspec.structs.replace(state, endpoints=dict(told.get(name, {})))
        for name, state in states_for_host(model, host).items()
    }


def places(model: Model) -> Iterator[tuple[str, str, str, Port]]:
    """Every place of every port: VPC, host, what the port is called there (``VPC/NAME`` or ``VPC/NAME@HOST``), port."""
    for vpc, has in model.vpcs.items():
        for name, port in has.ports.items():
            if port.host is not None:
                yield vpc, port.host, f"{vpc}/{name}", port
            if port.moving_to is not None:
                yield vpc, port.moving_to, f"{vpc}/{name}@{port.moving_to}", port
