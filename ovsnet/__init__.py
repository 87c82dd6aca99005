"""ovsnet: declared virtual networks as OpenFlow tables on Open vSwitch.

::

    model = ovsnet.load("model.yaml")
    desired = ovsnet.compile(model, host="hv1")
    with ovsnet.Switch("unix:/run/openvswitch/br-int.mgmt") as switch:
        switch.apply(desired)

Names are imported when they are first used, so that ``import ovsnet`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ovsnet._version import VERSION as __version__

if TYPE_CHECKING:
    from ovsnet.compiler import HostCompiler
    from ovsnet.desired import Delta, Desired, Owned, Subject
    from ovsnet.errors import ModelError, Problem, UserError
    from ovsnet.explain import Tables, Walk
    from ovsnet.facts import Facts
    from ovsnet.library import compile, frame
    from ovsnet.model import Model, VpcState, load
    from ovsnet.openflow.errors import SwitchError
    from ovsnet.openflow.tables import Outcome
    from ovsnet.pipeline.render import flow_data, flow_ofctl, flow_text
    from ovsnet.plan import Actual, Plan, plan
    from ovsnet.switch import Switch

_HOME = {
    "ovsnet.compiler": ("HostCompiler",),
    "ovsnet.desired": ("Delta", "Desired", "Owned", "Subject"),
    "ovsnet.errors": ("ModelError", "Problem", "UserError"),
    "ovsnet.explain": ("Tables", "Walk"),
    "ovsnet.facts": ("Facts",),
    "ovsnet.library": ("compile", "frame"),
    "ovsnet.model": ("Model", "VpcState", "load"),
    "ovsnet.openflow.errors": ("SwitchError",),
    "ovsnet.openflow.tables": ("Outcome",),
    "ovsnet.pipeline.render": ("flow_data", "flow_ofctl", "flow_text"),
    "ovsnet.plan": ("Actual", "Plan", "plan"),
    "ovsnet.switch": ("Switch",),
}
_WHERE = {name: home for home, names in _HOME.items() for name in names}

__all__ = [
    "Actual", "Delta", "Desired", "Facts", "HostCompiler", "Model", "ModelError", "Outcome", "Owned", "Plan",
    "Problem", "Subject", "Switch", "SwitchError", "Tables", "UserError", "VpcState", "Walk", "__version__", "compile",
    "flow_data", "flow_ofctl", "flow_text", "frame", "load", "plan",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use."""
    if name not in _WHERE:
        raise AttributeError(f"module 'ovsnet' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
