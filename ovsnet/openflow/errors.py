"""What can go wrong between us and a switch."""

from __future__ import annotations


class SwitchError(Exception):
    """A switch could not do, or did not answer, what was asked; the base of everything raised here."""


class SwitchDisconnected(SwitchError):
    """There is no OpenFlow connection, or it went away before the answer came."""


class SwitchTimeout(SwitchError):
    """The connection stands, but the answer did not come in time."""
