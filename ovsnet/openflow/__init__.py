"""OpenFlow to one bridge: the app on os-ken, its connection, and the same in a child process.

``app.start_app`` (this process) and ``process.SwitchProcess`` (a child) give a ``SwitchPort``; os-ken is imported
only by the former's module.
"""

from ovsnet.openflow.api import ALL_TABLES, BundleResult, PayloadMaker, Refusal, SwitchPort, Timing
from ovsnet.openflow.errors import SwitchDisconnected, SwitchError, SwitchTimeout

__all__ = [
    "ALL_TABLES",
    "BundleResult",
    "PayloadMaker",
    "Refusal",
    "SwitchDisconnected",
    "SwitchError",
    "SwitchPort",
    "SwitchTimeout",
    "Timing",
]
