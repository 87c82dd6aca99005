"""What a host's switch is like at the moment: the second input of the compiler beside the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """Facts of one host.

    ``ofports`` maps an interface's ``iface-id`` to its OpenFlow port (only those that work); ``tunnel_ofport`` is the
    tunnel port's, ``None`` while there is none; ``nd_responder`` says whether the datapath can rewrite a neighbour
    solicitation into its answer (user space can, the kernel's cannot). ``down`` are the VPCs whose ports here
    are kept down, since nobody has confirmed yet that they are still placed on this host.
    """

    ofports: Mapping[str, int] = field(default_factory=dict)
    tunnel_ofport: int | None = None
    nd_responder: bool = True
    down: frozenset[str] = frozenset()

    @staticmethod
    def assumed(iface_ids: Iterable[str], *, nd_responder: bool = True) -> Facts:
        """Facts for looking at flows without a switch: tunnel port 1, the interfaces 2, 3, ... in the order given."""
        return Facts({iface: number for number, iface in enumerate(iface_ids, 2)}, 1, nd_responder)
