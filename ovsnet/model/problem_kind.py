"""What a kind of problem is, and the kinds of object that problems are about."""

from __future__ import annotations

from dataclasses import dataclass

OBJECTS = (
    "model",
    "underlay",
    "host",
    "provider_network",
    "vpc",
    "network",
    "subnet",
    "router",
    "route",
    "next_hop",
    "port",
    "allowed_address",
    "floating_ip",
    "security_group",
    "rule",
    "remote",
)
"""The kinds of object in a model file."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A stable code, what it means, what to do, and the kinds of object it applies to.

    ``applies_to`` names kinds of ``OBJECTS``, or ``address_group`` (a list), ``file`` (the text as a whole), ``lock``
    (the assignments beside a model) or ``state`` (what is handed to a hypervisor).
    """

    code: str
    title: str
    meaning: str
    remedy: str
    applies_to: tuple[str, ...]
