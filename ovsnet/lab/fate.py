"""What becomes of a frame, in words: the answers of the independent reading."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, NamedTuple

from ovsnet.lab.filtering import Verdict


class Reason(StrEnum):
    """Why a frame goes where it goes; all but the first four are drops.

    ``ASKED`` is what a port asks of its own addresses: it goes to the agent, which answers the port alone.
    """

    DELIVERED = "delivered"
    ELSEWHERE = "elsewhere"
    ANSWERED = "answered"
    ONE_OF_SEVERAL = "one-of-several"
    MALFORMED = "malformed"
    MULTICAST_SOURCE = "multicast-source"
    VLAN_TAG = "vlan-tag"
    SPOOFED_MAC = "spoofed-mac"
    SPOOFED_IP = "spoofed-ip"
    SPOOFED_ARP = "spoofed-arp"
    SPOOFED_ND = "spoofed-nd"
    ROUTER_MESSAGE = "router-message"
    FRAGMENTED_ND = "fragmented-nd"
    ETHERTYPE = "ethertype"
    ARP_STAYS = "arp-stays"
    OWN_TARGET = "own-target"
    UNKNOWN_TARGET = "unknown-target"
    DUPLICATE_DETECTION = "duplicate-detection"
    MULTICAST = "multicast"
    OWN_MAC = "own-mac"
    UNKNOWN_MAC = "unknown-mac"
    FOREIGN_ADDRESS = "foreign-address"
    EGRESS_REFUSED = "egress-refused"
    INGRESS_REFUSED = "ingress-refused"
    AT_GATEWAY = "at-gateway"
    NOT_ROUTABLE = "not-routable"
    TTL_SPENT = "ttl-spent"
    NO_HOST = "no-host"
    BLACKHOLE = "blackhole"
    NO_ROUTE = "no-route"
    COMES_BACK = "comes-back"
    ASKED = "asked"


class Frame(NamedTuple):
    """An Ethernet frame (without FCS) as the port ``sender`` hands it to its switch.

    ``sender`` is ``VPC/NAME``, and ``VPC/NAME@HOST`` where a port that moves has arrived already.
    """

    sender: str
    data: bytes


@dataclass(frozen=True)
class Wire:
    """A copy that crosses the underlay: outer source and destination address, and the VNI."""

    source: str
    destination: str
    vni: int


@dataclass(frozen=True)
class Answer:
    """An ARP reply, a solicited NA (with override) or an echo reply that comes back to the sender of a request.

    ``mac`` and ``ip`` are the resolved pair, or who was pinged; the answer is addressed to ``to_mac`` and ``to_ip``. An
    NA carries the target link-layer address. ``by`` is ``agent`` where no flow can answer: without one nothing comes.
    """

    protocol: Literal["arp", "nd", "echo"]
    mac: str
    ip: str
    to_mac: str
    to_ip: str
    by: Literal["switch", "agent"] = "switch"


class Kind(StrEnum):
    """What a router tells a sender; a reset is TCP's, all else ICMP errors."""

    PORT_UNREACHABLE = "port-unreachable"
    RESET = "reset"
    TIME_EXCEEDED = "time-exceeded"
    HOST_UNREACHABLE = "host-unreachable"
    NO_ROUTE = "no-route"


ICMP_OF = {
    Kind.PORT_UNREACHABLE: {4: (3, 3), 6: (1, 4)},
    Kind.TIME_EXCEEDED: {4: (11, 0), 6: (3, 0)},
    Kind.HOST_UNREACHABLE: {4: (3, 1), 6: (1, 3)},
    Kind.NO_ROUTE: {4: (3, 0), 6: (1, 0)},
}
"""Type and code of each error by IP version (RFC 792, RFC 4443)."""


@dataclass(frozen=True)
class Error:
    """What the sender's agent tells it, at most so often a second: nothing comes from a switch without an agent.

    It comes from the gateway address ``source``. ``forbidden`` says why none may be sent about this packet, or is
    ``None``.
    """

    kind: Kind
    source: str
    to_mac: str
    to_ip: str
    forbidden: str | None = None


@dataclass(frozen=True)
class Delivery:
    """The fate of one frame: ``receiver`` gets exactly one copy, or ``answer`` comes back, or neither.

    A port that moves gets a second one as ``arriving`` (``VPC/NAME@HOST``), if it is plugged there. ``wires`` are the
    copies that cross the underlay. Each is unchanged, but for a destination MAC replaced by ``redirected`` on its way;
    what was routed is ``routed``, octet by octet, from the sender's host on.

    ``choices`` are the fates of which exactly one comes true (see ``Expectation.chosen``), for the same two addresses
    on one ``route`` always the same, in both directions. ``error`` is what the sender is told of a drop.

    ``egress`` and ``ingress`` are what the groups say at the sender's end and at the receiver's, ``None`` where they
    are not asked; without ``certain`` the copies are at most those named.
    """

    reason: Reason
    receiver: str | None = None
    arriving: str | None = None
    wires: tuple[Wire, ...] = ()
    answer: Answer | None = None
    redirected: str | None = None
    egress: Verdict | None = None
    ingress: Verdict | None = None
    routed: bytes | None = None
    choices: tuple[Delivery, ...] = ()
    route: tuple[str, ...] = ()
    error: Error | None = None

    @property
    def certain(self) -> bool:
        """Whether exactly the named copies arrive."""
        return all(verdict is None or verdict.certain for verdict in (self.egress, self.ingress))

    @property
    def copies(self) -> list[str]:
        """Who gets a copy."""
        return [one for one in (self.receiver, self.arriving) if one is not None]
