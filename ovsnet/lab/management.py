"""The management network of a lab: what the control plane travels on, apart from what it controls.

A second bridge in the underlay's namespace, with an IPv6 address for every host and for the control namespace, where
the controller and the message bus live. So a host can be cut off from those without losing a packet of its tenants.
"""

from __future__ import annotations

import contextlib

from ovsnet.lab import netns
from ovsnet.lab.topology import MANAGEMENT, Attachment
from ovsnet.model.identity import derive_mac

BRIDGE = "mg0"
INTERFACE = "mgmt"
_MTU = 1500


def build(underlay: str) -> None:
    """Make the bridge in the underlay's namespace, if it is not there."""
    if not netns.has_interface(underlay, BRIDGE):
        netns.bridge(underlay, BRIDGE, mtu=_MTU)


def attach(namespace: str, underlay: str, attachment: Attachment) -> None:
    """Give a namespace its interface on the management network, in place of an older one.

    Its MAC follows from its address, as that of a machine stays through a loss of power: others remember it.
    """
    mac = derive_mac(attachment.address)
    netns.veth(underlay, attachment.link, namespace, INTERFACE, mtu=_MTU, far_mac=mac)
    netns.enslave(underlay, attachment.link, BRIDGE)
    netns.sysctl(namespace, {f"ipv6/conf/{INTERFACE}/disable_ipv6": "0"})
    netns.configure(namespace, INTERFACE, addresses=[f"{attachment.address}/{MANAGEMENT.prefixlen}"], gateways=[])


def partition(underlay: str, attachment: Attachment) -> None:
    """Cut a namespace off, as a failed switch does: nobody is told, frames just end."""
    netns.release(underlay, attachment.link)


def heal(underlay: str, attachment: Attachment) -> None:
    """Connect a namespace again."""
    netns.enslave(underlay, attachment.link, BRIDGE)


def partitioned(underlay: str, attachment: Attachment) -> bool:
    """Whether a namespace is cut off; one whose interface is gone is not."""
    with contextlib.suppress(OSError):
        return netns.master(underlay, attachment.link) is None
    return False
