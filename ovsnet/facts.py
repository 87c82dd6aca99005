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
    are kept down, since nobody has confirmed yet that they are still placed on this host. ``zones`` maps the id of a
    port here to the conntrack zone (1-65535) that is its own and that flows may use; a filtered port that has none yet
    is as one that is not plugged; addresses outside have theirs by ``outside.zone_key``. ``mtu`` is what fits into the
    underlay through a tunnel, in bytes. ``bridges`` are the OpenFlow ports that lead to other bridges, by their names;
    ``neighbours`` are who was heard on provider networks, by their names: (32 or 128, address) -> MAC. ``silent`` are
    the hosts that do not answer through the tunnel.
    """

    ofports: Mapping[str, int] = field(default_factory=dict)
    tunnel_ofport: int | None = None
    nd_responder: bool = True
    down: frozenset[str] = frozenset()
    zones: Mapping[str, int] = field(default_factory=dict)
    mtu: int = 1450
    bridges: Mapping[str, int] = field(default_factory=dict)
    neighbours: Mapping[str, Mapping[tuple[int, int], int]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()

    @staticmethod
    def assumed(iface_ids: Iterable[str], *, nd_responder: bool = True) -> Facts:
        """Facts for looking at flows without a switch, by the order given.

        The tunnel port is 1, the interfaces are 2, 3, ..., their conntrack zones 1, 2, ....
        """
        known = tuple(iface_ids)
        ofports = {iface: number for number, iface in enumerate(known, 2)}
        zones = {iface: number for number, iface in enumerate(known, 1)}
        return Facts(ofports, 1, nd_responder, zones=zones)
