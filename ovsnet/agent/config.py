"""An agent's own configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ovsnet.model.types import Encapsulation

AUDIT_EVERY = 30.0
"""Seconds between two comparisons of the switch with what it was left with; a tenth more or less at random."""
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
"""Where Linux says which boot this is (random(4))."""


@dataclass(frozen=True)
class Config:
    """An agent's own configuration; ``vtep`` is the host's tunnel address, ``datapath`` ``netdev`` or ``system``,
    ``encapsulation`` that of its tunnels, ``underlay_mtu`` the underlay's MTU in bytes.

    ``boot_policy`` says what becomes of ports that nobody has confirmed since the machine was booted: ``hold`` keeps
    them down, ``open`` lets them up ``boot_grace`` seconds after the agent's start.
    """

    host: str
    vtep: str
    ovsdb: str
    openflow: str
    state_dir: Path
    bridge: str = "br-int"
    datapath: str = "system"
    encapsulation: Encapsulation = "vxlan"
    underlay_mtu: int = 1500
    audit_every: float = AUDIT_EVERY
    boot_id_file: Path = BOOT_ID_FILE
    boot_policy: Literal["hold", "open"] = "hold"
    boot_grace: float = 60.0
