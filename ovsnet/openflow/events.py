"""The events that our app raises; any os-ken app beside it may observe them with ``set_ev_cls``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from os_ken.controller.event import EventBase

if TYPE_CHECKING:
    from ovsnet.openflow.datapath import SwitchDatapath


class EventSwitchConnected(EventBase):  # type: ignore[misc]
    """A switch's handshake is done. ``datapath`` is os-ken's view of this connection."""

    def __init__(self, target: str, datapath: SwitchDatapath) -> None:
        super().__init__()
        self.target = target
        self.datapath = datapath


class EventSwitchDisconnected(EventBase):  # type: ignore[misc]
    """A switch's connection is gone, for ``reason``; a new one is already being tried."""

    def __init__(self, target: str, reason: str) -> None:
        super().__init__()
        self.target = target
        self.reason = reason


class EventEnforced(EventBase):  # type: ignore[misc]
    """The switch enforces these revisions, by VPC: the bundle is committed and its barrier answered."""

    def __init__(self, target: str, revisions: Mapping[str, int]) -> None:
        super().__init__()
        self.target = target
        self.revisions = dict(revisions)
