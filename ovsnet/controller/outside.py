"""What a controller does not hand out in this version: provider networks, and what leads to them."""

from __future__ import annotations

from ovsnet.controller.requests import Object
from ovsnet.errors import UserError
from ovsnet.model.types import Model, Network, Router, Vpc

_REMEDY = "Tell the agents of it without a controller (`ovsnet apply --agents`), or leave it out"


def refuse_outside(path: str, one: Object | None) -> None:
    """Raises UserError for an object that leads to a provider network."""
    if isinstance(one, Router) and one.external is not None:
        raise UserError(f"{path}.external: a controller hands out no ways out in this version. {_REMEDY}")
    if isinstance(one, Network) and one.provider_network is not None:
        raise UserError(
            f"{path}.provider_network: a controller hands out no provider networks in this version. {_REMEDY}"
        )


def refuse_floating(path: str, vpc: Vpc) -> None:
    """Raises UserError for a VPC with floating IPs."""
    if vpc.floating_ips:
        raise UserError(f"{path}.floating_ips: a controller hands out no floating IPs in this version. {_REMEDY}")


def refuse_provider_networks(model: Model) -> None:
    """Raises UserError for a model with provider networks."""
    if model.provider_networks:
        raise UserError(f"provider_networks: a controller hands out no provider networks in this version. {_REMEDY}")
