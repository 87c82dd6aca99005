"""What a user declares, as types. The names are those of the YAML and JSON keys.

Addresses are canonical text: a MAC is ``02:00:00:00:01:01``, an IPv6 address is compressed lower case (RFC 5952).
Everything is frozen, so that an unchanged object can be recognised by identity.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Declared(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Base of every declared object."""


class Labelled(Declared, frozen=True, kw_only=True):
    """Base of the objects that may carry labels and a description."""

    labels: dict[str, str] = {}
    description: str = ""


Encapsulation = Literal["vxlan", "geneve"]
"""How frames travel between hosts: RFC 7348, RFC 8926."""


class Underlay(Declared, frozen=True, kw_only=True):
    """The physical network that carries the tunnels."""

    mtu: int = 1500
    encapsulation: Encapsulation = "vxlan"


class Host(Labelled, frozen=True, kw_only=True):
    """A hypervisor; ``vtep`` is the IPv4 or IPv6 address of its tunnel end, ``agent`` the URL of its API.

    ``agent`` is ``https://ADDRESS:PORT`` or ``unix:PATH``; ``None`` means the VTEP's address and the usual port.
    ``bridges``: by the name of a physical network, the Open vSwitch bridge that leads to it. ``gateway``: routed
    domains may leave the cloud there.
    """

    vtep: str
    agent: str | None = None
    gateway: bool = False
    bridges: dict[str, str] = {}


RouterAdvertisements = Literal["stateful", "slaac", "none"]
"""How ports of an IPv6 subnet learn of it (RFC 4861): told to ask by DHCPv6, told to make their own, not at all."""


class Subnet(Declared, frozen=True, kw_only=True):
    """An address range of a network, and what its ports are told by DHCP and router advertisements.

    ``dhcp``: each port is handed out its own addresses. ``ra`` is IPv6's; ``None`` is ``stateful`` with ``dhcp``, else
    ``none``. ``dns`` are resolvers, of the range's IP version; ``lease`` is how long what is told holds, in seconds.
    """

    cidr: str
    gateway: str | None = None
    dhcp: bool = True
    ra: RouterAdvertisements | None = None
    dns: tuple[str, ...] = ()
    lease: int = 86400


class NextHop(Declared, frozen=True, kw_only=True):
    """Where a route leads: exactly one of a port's name and an address of a port."""

    port: str | None = None
    ip: str | None = None


class Route(Declared, frozen=True, kw_only=True):
    """A static route: what is sent to the range ``to`` goes to ``via``, or nowhere (``blackhole``).

    Of several next hops each connection takes one (RFC 2992).
    """

    to: str
    via: NextHop | tuple[NextHop, ...] = ()
    blackhole: bool = False

    @property
    def hops(self) -> tuple[NextHop, ...]:
        """The next hops, one or several."""
        return (self.via,) if isinstance(self.via, NextHop) else self.via


class External(Declared, frozen=True, kw_only=True):
    """A router's way out: ``gateways`` are the hosts where its domain leaves for a provider network, best first.

    ``snat``: the address there that stands for all its ports, one of each IP version; without one only ports with a
    floating IP leave.
    """

    provider_network: str
    snat: str | tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses that stand for all ports, none to two."""
        return (self.snat,) if isinstance(self.snat, str) else self.snat


class Router(Labelled, frozen=True, kw_only=True):
    """A routed domain: ``networks`` of its VPC that reach each other, and ``routes`` to elsewhere.

    ``vni`` names the domain, out of the VNIs of networks; ``None`` until it is assigned. A subnet's ``gateway`` left
    out is its first address, once a router joins.
    """

    vni: int | None = None
    networks: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    external: External | None = None


class Network(Labelled, frozen=True, kw_only=True):
    """One L2 segment; ``vni`` is 1..16777215, ``None`` until it is assigned.

    ``mtu`` is what its ports are told, in bytes; ``None`` is what fits into the underlay. ``domain`` is the DNS domain
    that they are told; empty: none.
    ``provider_network``: its ports are directly on that one, and have addresses of its subnets.
    """

    vni: int | None = None
    subnets: tuple[Subnet, ...] = ()
    mtu: int | None = None
    domain: str = ""
    provider_network: str | None = None


class AllowedAddress(Declared, frozen=True, kw_only=True):
    """A further address (or CIDR) that a port may send from; ``mac`` defaults to the port's own."""

    ip: str
    mac: str | None = None


class Remote(Declared, frozen=True, kw_only=True):
    """The other side of a rule: exactly one of an address range, the members of a group, or an address group."""

    cidr: str | None = None
    group: str | None = None
    address_group: str | None = None


class Rule(Declared, frozen=True, kw_only=True):
    """One line of a security group.

    ``direction`` is the port's: ``ingress`` is towards it. ``protocol``: a name, or a number 0..255; ``port``: the
    destination's, as a number, a range ``FIRST-LAST`` or a list of those; ``type`` and ``code`` are ICMP's. What is
    left out (``None``) matches anything. Of all rules of a port the lowest ``priority`` (1..1000) comes first; at a tie
    drop wins over reject over allow.
    """

    direction: Literal["ingress", "egress"]
    ethertype: Literal["ipv4", "ipv6"] | None = None
    protocol: str | int | None = None
    port: int | str | tuple[int | str, ...] | None = None
    type: int | None = None
    code: int | None = None
    remote: Remote | None = None
    priority: int = 1000
    action: Literal["allow", "drop", "reject"] = "allow"
    log: bool = False
    description: str = ""


class SecurityGroup(Labelled, frozen=True, kw_only=True):
    """What its ports may receive and send, as a list of rules; what no rule allows is refused.

    ``default_egress``: without any egress rule, whether its ports may send anything. ``stateful``: replies pass.
    """

    rules: tuple[Rule, ...] = ()
    default_egress: Literal["allow", "deny"] = "allow"
    stateful: bool = True


AddressGroup = tuple[str, ...]
"""Address ranges of one name, for rules to refer to."""


class Port(Labelled, frozen=True, kw_only=True):
    """A virtual NIC.

    ``ips``: left out (``None``) means that one address of each subnet is assigned; an empty list means none. A port
    with an IPv6 address has the link-local one of its MAC too (modified EUI-64).
    ``host``: ``None`` is unplaced, delivered to nobody. ``id``: the UUID that is the interface's ``iface-id``.
    ``epoch`` counts the port's placements: of two that disagree the higher one holds. ``moving_to``: the host that it
    is about to move to, which gets a copy of what is sent to it. ``workload``: the machine whose NIC it is.
    ``security_groups``: left out (``None``) means the group ``default``; an empty list lets nothing in and nothing out.
    """

    network: str
    host: str | None = None
    mac: str | None = None
    ips: tuple[str, ...] | None = None
    allowed_addresses: tuple[AllowedAddress, ...] = ()
    port_security: bool = True
    id: str = ""
    epoch: int = 0
    moving_to: str | None = None
    workload: str = ""
    security_groups: tuple[str, ...] | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that deliver to it: none if it is unplaced, two while it moves."""
        if self.moving_to is None:
            return () if self.host is None else (self.host,)
        return (self.moving_to,) if self.host is None else (self.host, self.moving_to)


class RemoteEndpoint(Declared, frozen=True, kw_only=True):
    """Somebody elsewhere by bare VTEP: a MAC and its addresses, for callers that know no hosts.

    ``epoch`` counts its placements: of two that disagree the higher one holds. ``groups``: those it is a member of.
    """

    network: str
    mac: str
    ips: tuple[str, ...] = ()
    vtep: str
    epoch: int = 0
    groups: tuple[str, ...] = ()


class FloatingIp(Labelled, frozen=True, kw_only=True):
    """An address of a provider network that stands for one address of a port, both ways.

    ``ip``: left out (``None``) it is the port's only one of that IP version.
    """

    provider_network: str
    address: str
    port: str
    ip: str | None = None


class ProviderNetwork(Labelled, frozen=True, kw_only=True):
    """A network of the site that hosts reach by a bridge of theirs: ``physical`` is its name in ``Host.bridges``.

    ``vlan`` is 1..4094; ``None``: its frames are untagged.
    """

    physical: str
    vlan: int | None = None
    subnets: tuple[Subnet, ...] = ()


class Outside(Declared, frozen=True, kw_only=True):
    """What hosts are told of a provider network; ``bridges`` are those that lead to it, by host."""

    vlan: int | None = None
    subnets: tuple[Subnet, ...] = ()
    bridges: dict[str, str] = {}


class Vpc(Labelled, frozen=True, kw_only=True):
    """One tenant's isolated domain: the unit of isolation, of dissemination and of revision numbers."""

    tenant: str = ""
    networks: dict[str, Network] = {}
    routers: dict[str, Router] = {}
    ports: dict[str, Port] = {}
    floating_ips: dict[str, FloatingIp] = {}
    security_groups: dict[str, SecurityGroup] = {}
    address_groups: dict[str, AddressGroup] = {}


class Model(Declared, frozen=True, kw_only=True):
    """A whole declared cloud; ``name`` is the owner of what it declares."""

    version: Literal[1] = 1
    name: str
    underlay: Underlay = Underlay()
    hosts: dict[str, Host] = {}
    provider_networks: dict[str, ProviderNetwork] = {}
    vpcs: dict[str, Vpc] = {}


class VpcState(Declared, frozen=True, kw_only=True):
    """All that a host is told of one VPC: the unit of the hypervisor API, complete and assigned.

    ``hosts`` maps the name of every host that holds a port of this VPC, or is about to, or is a gateway of its routers,
    to its VTEP address; ``provider_networks`` are those that it has to do with;
    ``endpoints`` are neighbours that are known by their VTEP alone; ``owner`` is the name of the model, the API client
    or the controller that tells it.
    """

    name: str
    revision: int
    owner: str = ""
    networks: dict[str, Network] = {}
    routers: dict[str, Router] = {}
    ports: dict[str, Port] = {}
    endpoints: dict[str, RemoteEndpoint] = {}
    hosts: dict[str, str] = {}
    floating_ips: dict[str, FloatingIp] = {}
    provider_networks: dict[str, Outside] = {}
    security_groups: dict[str, SecurityGroup] = {}
    address_groups: dict[str, AddressGroup] = {}
