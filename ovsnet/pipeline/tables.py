"""The tables of the pipeline, declared once, in the order in which a frame meets them.

Ids are spaced, so that a capability finds room between its neighbours. The drawing and the reference page
(``docs/pipeline.md``) and every check derive from this declaration.
"""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.pipeline import fields as f


@dataclass(frozen=True, eq=False)
class Table:
    """One OpenFlow table.

    ``features`` may put flows here; ``reads`` may be matched and ``writes`` set; ``next`` are the tables that a flow
    may go to; ``output`` says whether frames leave the switch here; ``miss`` is what befalls a frame that no flow
    matches: ``drop``, or the name of a table; ``missed`` says in a sentence what such a frame was.
    """

    id: int
    name: str
    doc: str
    features: tuple[str, ...]
    reads: tuple[f.Field, ...]
    writes: tuple[f.Field, ...] = ()
    next: tuple[str, ...] = ()
    output: bool = False
    miss: str = "drop"
    missed: str = ""


CLASSIFY = Table(
    0,
    "classify",
    "Where does the frame come from, and in which network is it? A workload's frame goes on to the checks of its "
    "port; a frame out of the tunnel was checked by its sender's host and can only be delivered here, never sent "
    "back into a tunnel.",
    features=("l2",),
    reads=(f.IN_PORT, f.TUN_ID),
    writes=(f.NET,),
    next=("port_security", "deliver"),
    missed="It came in on a port, or in a network, that is not declared on this host.",
)
PORT_SECURITY = Table(
    10,
    "port_security",
    "A workload sends with its own addresses only: source MAC with source IP, ARP sender addresses, untagged. What "
    "is not listed is dropped, and counted against the port.",
    features=("port_security",),
    reads=(
        f.IN_PORT, f.VLAN_VID, f.ETH_SRC, f.ETH_TYPE, f.ARP_OP, f.ARP_SHA, f.ARP_SPA, f.IPV4_SRC, f.IPV6_SRC,
        f.IP_FRAG, f.IP_PROTO, f.ICMPV6_TYPE, f.ICMPV6_CODE, f.ND_TARGET, f.ND_SLL,
    ),
    next=("nd_security", "arp", "nd", "l2"),
    missed="It came in on a port that is not bound.",
)  # fmt: skip
ND_SECURITY = Table(
    15,
    "nd_security",
    "What a neighbour discovery message says inside must be the port's own too: the link-layer option, and the "
    "target of an advertisement.",
    features=("port_security",),
    reads=(f.IN_PORT, f.ETH_SRC, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET, f.ND_SLL, f.ND_TLL),
    next=("nd", "l2"),
    missed="It came in on a port that is not bound.",
)
ARP = Table(
    20,
    "arp",
    "ARP requests are answered here, from what is declared; no ARP message ever reaches another port or the wire.",
    features=("arp_nd",),
    reads=(f.NET, f.IN_PORT, f.ETH_TYPE, f.ARP_OP, f.ARP_TPA),
    writes=(f.ETH_SRC, f.ETH_DST, f.ARP_OP, f.ARP_SHA, f.ARP_SPA, f.ARP_THA, f.ARP_TPA),
    output=True,
    missed="No port of this network has the address asked for, or it is no request.",
)
ND = Table(
    30,
    "nd",
    "Neighbour solicitations for declared addresses: turned into the answer on a user-space datapath; on the kernel "
    "datapath, which cannot rewrite the option, sent as unicast to the one port that has the address.",
    features=("arp_nd",),
    reads=(f.NET, f.IN_PORT, f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET, f.ND_SLL, f.IPV6_SRC),
    writes=(f.ETH_SRC, f.ETH_DST, f.IPV6_SRC, f.IPV6_DST, f.ICMPV6_TYPE, f.ND_OPTIONS_TYPE, f.ND_RESERVED),
    next=("nd_reply", "l2"),
    missed="No port of this network has the address asked for.",
)
ND_REPLY = Table(
    31,
    "nd_reply",
    "The second half of the answer to a solicitation: the option that exists only now that the message is an "
    "advertisement.",
    features=("arp_nd",),
    reads=(f.ETH_TYPE, f.IP_PROTO, f.ICMPV6_TYPE),
    writes=(f.ND_TLL,),
    output=True,
    missed="It is no advertisement.",
)
L2 = Table(
    40,
    "l2",
    "Destination MACs on other hosts: into the tunnel, to the VTEP of the port's host; to both hosts of a port that "
    "moves.",
    features=("l2",),
    reads=(f.NET, f.ETH_DST),
    writes=(f.TUN_ID, f.TUN_DST, f.TUN_IPV6_DST),
    next=("deliver",),
    output=True,
    miss="deliver",
    missed="The MAC is not that of a port on another host.",
)
DELIVER = Table(
    50,
    "deliver",
    "Destination MACs on this host: to the port, if the destination IP is the port's own. A destination that is "
    "not declared ends here.",
    features=("l2",),
    reads=(f.NET, f.ETH_DST, f.ETH_TYPE, f.IPV4_DST, f.IPV6_DST, f.IP_PROTO, f.ICMPV6_TYPE, f.ND_TARGET),
    output=True,
    missed="This network has no such destination: not declared, or broadcast or multicast, which go nowhere.",
)

TABLES: tuple[Table, ...] = (CLASSIFY, PORT_SECURITY, ND_SECURITY, ARP, ND, ND_REPLY, L2, DELIVER)
BY_NAME: dict[str, Table] = {table.name: table for table in TABLES}
