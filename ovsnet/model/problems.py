"""Every problem that a model can have, declared once: the documentation and the goldens derive from this table."""

from __future__ import annotations

from dataclasses import dataclass

OBJECTS = (
    "model",
    "underlay",
    "host",
    "vpc",
    "network",
    "subnet",
    "router",
    "route",
    "next_hop",
    "port",
    "allowed_address",
    "security_group",
    "rule",
    "remote",
)
"""The kinds of object in a model file."""


@dataclass(frozen=True, slots=True)
class ProblemKind:
    """A stable code, what it means, what to do, and the kinds of object it applies to.

    ``applies_to`` names kinds of ``OBJECTS``, or ``address_group`` (a list), ``file`` (the text as a whole), ``lock``
    (the assignments beside a model) or ``state`` (what is handed to a hypervisor).
    """

    code: str
    title: str
    meaning: str
    remedy: str
    applies_to: tuple[str, ...]


_KINDS = (
    ProblemKind(
        "unreadable-file",
        "A file cannot be read",
        "The path does not exist, may not be read, or is a directory without a model in it.",
        "Name a .yaml, .yml or .json file, or a directory that has some.",
        ("file",),
    ),
    ProblemKind(
        "not-utf8",
        "A file is not UTF-8 text",
        "Models are UTF-8 text without control characters.",
        "Save the file as UTF-8 text.",
        ("file",),
    ),
    ProblemKind(
        "syntax-error",
        "Not YAML, or not JSON",
        "The text cannot be parsed; nothing else of this file is checked.",
        "Correct the text at this place; indent with spaces, and quote text that has ': ' or '#' in it.",
        ("file",),
    ),
    ProblemKind(
        "empty-file",
        "Nothing in the file",
        "The file has no document in it.",
        "Begin with 'version: 1'.",
        ("file",),
    ),
    ProblemKind(
        "unsupported-yaml",
        "YAML that a model does not use",
        "Tags, several documents in a file, keys that are not plain text, and '<<' with something other than mappings.",
        "Write plain mappings, lists and scalars; several documents become several files.",
        ("file",),
    ),
    ProblemKind(
        "nesting-limit",
        "Nested too deeply, or aliases that grow without bound",
        "A model is at most 64 levels deep, an alias may not contain itself, and all aliases written out are at most "
        "5,000,000 values.",
        "Write the values out, or use fewer aliases.",
        ("file",),
    ),
    ProblemKind(
        "duplicate-key",
        "A key stands twice in one mapping",
        "Only one of the values could be meant.",
        "Remove one of the two, or rename it.",
        (*OBJECTS, "address_group"),
    ),
    ProblemKind(
        "wrong-type",
        "A value of another type is needed",
        "For example text where a list belongs, or a quoted number.",
        "Give {wanted}, {example}.",
        (*OBJECTS, "address_group"),
    ),
    ProblemKind(
        "unknown-key",
        "A key that the model does not have",
        "Keys are never ignored, apart from those that begin with 'x-'.",
        "{suggestion}",
        OBJECTS,
    ),
    ProblemKind(
        "missing-key",
        "A key that is needed is not there",
        "The object cannot be understood without it.",
        "Add {example}.",
        ("model", "host", "subnet", "route", "port", "allowed_address", "rule"),
    ),
    ProblemKind(
        "unknown-version",
        "A version of the model's language that this program does not know",
        "Every file says which version of the language it is written in.",
        "Write 'version: 1', or use a newer ovsnet.",
        ("model",),
    ),
    ProblemKind(
        "reserved-not-enforced",
        "Part of the model's language, but not enforced by this version",
        "The word is reserved. A model that has it is refused as a whole: what is declared is enforced or refused, "
        "never ignored.",
        "Remove {key}; a copy can stay under a key that begins with 'x-'.",
        ("model", "host", "vpc", "network", "subnet", "router"),
    ),
    ProblemKind(
        "invalid-name",
        "A name that is not allowed",
        "Names have 1 to 63 characters, lower-case letters, digits, '_' and '-', and begin with a letter or a digit.",
        "{suggestion}",
        ("model", "host", "vpc", "network", "router", "port", "security_group", "address_group", "state"),
    ),
    ProblemKind(
        "duplicate-declaration",
        "Two files declare the same thing",
        "A model may be several files: their union. VPCs, and the collections in them, are joined; an object itself is "
        "declared in one place, and 'name' and 'tenant' agree wherever they stand.",
        "Remove one of the two, or rename it.",
        ("model", "underlay", "host", "vpc", "network", "router", "port", "security_group", "address_group"),
    ),
    ProblemKind(
        "not-in-site-file",
        "A site file holds hosts, underlay and provider networks only",
        "A site file replaces these three in a model, and nothing else.",
        "Move {key} to the model's files.",
        ("model",),
    ),
    ProblemKind(
        "invalid-mtu",
        "An MTU out of range",
        "From 1350 to 65535 bytes: 1280, which IPv6 needs inside the tunnel (RFC 8200, section 5), plus 70 for VXLAN "
        "over IPv6.",
        "Give the MTU of the underlay, 1350 to 65535 bytes.",
        ("underlay",),
    ),
    ProblemKind(
        "invalid-vtep",
        "Not a usable VTEP address",
        "A VTEP is a global or private unicast IPv4 or IPv6 address, without a prefix length.",
        "Give the unicast IP address of the host's tunnel end.",
        ("host", "state"),
    ),
    ProblemKind(
        "duplicate-vtep",
        "Two hosts with one VTEP address",
        "Every host has a VTEP address of its own.",
        "Give each host its own VTEP address.",
        ("host", "state"),
    ),
    ProblemKind(
        "invalid-agent",
        "Not an address where an agent can be called",
        "A controller calls a host's agent by https, or on a unix socket of its own machine.",
        "Write https://ADDRESS:PORT (an IPv6 address in brackets) or unix:/PATH, or leave it out for the VTEP's own.",
        ("host",),
    ),
    ProblemKind(
        "mixed-vtep-families",
        "Hosts of one VPC with an IPv4 and an IPv6 VTEP",
        "A tunnel has one address family, so hosts that hold ports of one VPC need VTEPs of one family.",
        "Place it behind an {family} VTEP, or give all hosts of this VPC VTEPs of one family.",
        ("port", "state"),
    ),
    ProblemKind(
        "endpoint-at-host",
        "An endpoint behind a host of the VPC",
        "Endpoints are neighbours behind VTEPs that are no host's of the VPC. What runs on one of its hosts is a port: "
        "that host delivers to declared ports alone.",
        "Declare it as a port with 'host: {host}', or give the VTEP that it is really behind.",
        ("state",),
    ),
    ProblemKind(
        "invalid-epoch",
        "An epoch out of range",
        "An epoch counts the placements of a port or an endpoint: a whole number from 0 to 2**53.",
        "Give 0 or more, one more with every placement, or leave it out.",
        ("port", "state"),
    ),
    ProblemKind(
        "invalid-move",
        "A move that leads nowhere",
        "'moving_to' names the host that a placed port is about to move to, while 'host' is still the one it runs on.",
        "Give 'host' the host that it runs on and 'moving_to' another one, or leave 'moving_to' out.",
        ("port",),
    ),
    ProblemKind(
        "invalid-workload",
        "Not a name of a workload",
        "A workload is the machine whose NICs the ports are: up to 63 letters, digits, '.', '_' and '-', the first one "
        "a letter or a digit.",
        "Give the name of the virtual machine or container, such as vm-17, or leave it out.",
        ("port",),
    ),
    ProblemKind(
        "invalid-vni",
        "A VNI out of range",
        "A VXLAN network identifier is 1 to 16777215 (RFC 7348: 24 bits; 0 is not used).",
        "Give a VNI from 1 to 16777215, or leave it out to have one assigned.",
        ("network", "router"),
    ),
    ProblemKind(
        "duplicate-vni",
        "Two networks or routers with one VNI",
        "A VNI is used once in the whole site, whatever the VPC, and whether a network or a router has it.",
        "Give each its own VNI, or leave it out to have one assigned.",
        ("network", "router"),
    ),
    ProblemKind(
        "invalid-cidr",
        "Not an address range",
        "A range is ADDRESS/LENGTH, IPv4 or IPv6.",
        "Write it as 192.168.1.0/24 or 2001:db8:1::/64.",
        ("subnet", "route", "allowed_address", "remote", "address_group"),
    ),
    ProblemKind(
        "host-bits-set",
        "An address range with host bits",
        "The address of a range has only zeros after the prefix.",
        "Write {range}.",
        ("subnet", "route", "allowed_address", "remote", "address_group"),
    ),
    ProblemKind(
        "unusable-subnet",
        "A range that ports cannot have addresses from",
        "Multicast, loopback, link-local, unspecified and IPv4-mapped ranges are not for ports. A port "
        "with IPv6 has its link-local address by itself, from the MAC.",
        "Give a private or global unicast range.",
        ("subnet",),
    ),
    ProblemKind(
        "overlapping-subnets",
        "Two subnets of one network, or of one router, overlap",
        "An address belongs to one subnet of its network, and of all networks that a router joins.",
        "Give the subnets ranges of their own.",
        ("subnet", "router"),
    ),
    ProblemKind(
        "invalid-gateway",
        "Not a usable gateway address",
        "A gateway is a host address of its own subnet.",
        "Give a host address of {range}, or leave it out.",
        ("subnet",),
    ),
    ProblemKind(
        "unknown-network",
        "A network that the VPC does not have",
        "A port is in a network of its own VPC, and so is an endpoint; a router joins networks of its own VPC.",
        "{suggestion}",
        ("port", "router", "state"),
    ),
    ProblemKind(
        "unknown-host",
        "A host that is not declared",
        "A port is placed on a host under 'hosts', or left without 'host': then it is delivered to nobody. A host that "
        "it is about to move to stands there too.",
        "{suggestion}",
        ("port", "state"),
    ),
    ProblemKind(
        "invalid-mac",
        "Not a usable MAC address",
        "A MAC is six bytes, unicast, not all zero, and not 02:6f:76:00:00:01, which is every gateway's.",
        "Write it as 02:00:00:00:01:01 (the second digit even).",
        ("port", "allowed_address", "state"),
    ),
    ProblemKind(
        "duplicate-mac",
        "Two ports of one network with one MAC address",
        "Within a network a MAC belongs to one port. Other networks and other VPCs may have it too.",
        "Give one of them another MAC; that of a port may be left out to have one derived.",
        ("port", "state"),
    ),
    ProblemKind(
        "invalid-address",
        "Not a usable IP address",
        "Ports have unicast addresses. Multicast, loopback, link-local, unspecified, broadcast and IPv4-mapped "
        "addresses are refused; a port with IPv6 has its link-local address by itself, from the MAC.",
        "Give a unicast IPv4 or IPv6 address{detail}.",
        ("port", "allowed_address", "state"),
    ),
    ProblemKind(
        "address-outside-subnet",
        "An address that is in no subnet of the port's network",
        "Every address of a port comes from a subnet of its network.",
        "Give an address of {ranges}.",
        ("port", "state"),
    ),
    ProblemKind(
        "reserved-address",
        "An address that no port may have",
        "The network address and the broadcast address of an IPv4 subnet, and its gateway's address.",
        "Give another address of {range}.",
        ("port", "state"),
    ),
    ProblemKind(
        "duplicate-address",
        "An address that is used twice",
        "Within a network an address belongs to one port; in 'allowed_addresses' an address stands once for each MAC, "
        "and not the port's own, and in an address group a range stands once.",
        "{suggestion}",
        ("port", "allowed_address", "address_group", "state"),
    ),
    ProblemKind(
        "unknown-security-group",
        "A security group that the VPC does not have",
        "Groups are those of the port's own VPC. `default` is always there, declared or built in.",
        "{suggestion}",
        ("port", "remote", "state"),
    ),
    ProblemKind(
        "unknown-address-group",
        "An address group that the VPC does not have",
        "A rule refers to address groups of its own VPC.",
        "{suggestion}",
        ("remote",),
    ),
    ProblemKind(
        "duplicate-group",
        "A group that stands twice in one list",
        "A port, or an endpoint, is in a group once.",
        "Remove one of the two.",
        ("port", "state"),
    ),
    ProblemKind(
        "groups-not-enforced",
        "Security groups of a port that is not filtered",
        "'port_security: false' lifts all filtering, so groups of such a port would be declared and not enforced.",
        "Remove 'security_groups', or leave 'port_security' on.",
        ("port",),
    ),
    ProblemKind(
        "mixed-stateful",
        "A port in stateful and in stateless groups",
        "All groups of one port are stateful, or all are stateless: a reply either passes by itself or needs a rule.",
        "Put the port into groups of one sort, or make 'stateful' of its groups agree.",
        ("port",),
    ),
    ProblemKind(
        "too-many-remotes",
        "Rules that name too many groups",
        "The rules of all groups of one port name at most 64 different remote groups, and at most 96 different ranges "
        "and address groups.",
        "Join some of them into one group, or into one address group.",
        ("port", "security_group"),
    ),
    ProblemKind(
        "unknown-protocol",
        "Not an IP protocol",
        "A protocol is a number from 0 to 255, or a name in lower case as /etc/protocols has it.",
        "{suggestion}",
        ("rule",),
    ),
    ProblemKind(
        "invalid-port",
        "Not a port or a range of ports",
        "Ports are numbers from 0 to 65535; the first one of a range is not above its last one.",
        "Give a number such as 80, a range such as 8000-8010, or a list of these; leave 'port' out for any.",
        ("rule",),
    ),
    ProblemKind(
        "port-without-protocol",
        "A port of a protocol that has none",
        "TCP, UDP and SCTP have ports. A rule that names a port says which of them it means.",
        "Add 'protocol: tcp', 'udp' or 'sctp', or remove 'port'.",
        ("rule",),
    ),
    ProblemKind(
        "invalid-icmp",
        "Not a type or a code of ICMP",
        "Types and codes are numbers from 0 to 255.",
        "Give a number from 0 to 255, or leave it out for any.",
        ("rule",),
    ),
    ProblemKind(
        "type-without-icmp",
        "A type or a code of a protocol that has none",
        "ICMP messages have types and codes. A rule that names one says which ICMP it means.",
        "Add 'protocol: icmp' (IPv4) or 'icmpv6' (IPv6), or remove {key}.",
        ("rule",),
    ),
    ProblemKind(
        "code-without-type",
        "A code without its type",
        "A code of ICMP means something in its type only.",
        "Add 'type', or remove 'code'.",
        ("rule",),
    ),
    ProblemKind(
        "contradicting-families",
        "A rule of two IP versions at once",
        "'icmp' is IPv4, 'icmpv6' is IPv6, a range is of its own version, and 'ethertype' says one: a rule in which "
        "these differ matches nothing.",
        "Make them agree, or write one rule for each version.",
        ("rule",),
    ),
    ProblemKind(
        "invalid-remote",
        "A remote side that is not exactly one",
        "A rule's other side is a range, a group or an address group; anybody, when 'remote' is left out.",
        "Give one of 'cidr', 'group' and 'address_group', and write a rule for each.",
        ("remote",),
    ),
    ProblemKind(
        "invalid-priority",
        "A priority out of range",
        "Priorities are numbers from 1 to 1000; the lowest comes first.",
        "Give a number from 1 to 1000, or leave it out for 1000.",
        ("rule",),
    ),
    ProblemKind(
        "network-joined-twice",
        "A network that a router joins already",
        "A network is in one routed domain: one router joins it, once. Its gateway addresses are that router's.",
        "Remove it from one of the two, or join both routers' networks in one router.",
        ("router",),
    ),
    ProblemKind(
        "invalid-route",
        "Not a route",
        "A route leads a unicast range to its next hops, 64 at most, or into a black hole: one of the two.",
        "Give 'via: {{port: NAME}}', a list of those, or 'blackhole: true'.",
        ("route",),
    ),
    ProblemKind(
        "duplicate-route",
        "Two routes to one range",
        "A router has one route to a range; several next hops stand in one 'via'.",
        "Make one of the two: 'via' takes a list.",
        ("route",),
    ),
    ProblemKind(
        "route-into-subnet",
        "A route to addresses of a joined subnet",
        "The router knows every address of the subnets that it joins: it delivers to the port that has it, and to "
        "nobody if none has.",
        "Remove the route, or give the range to a network that the router does not join.",
        ("route",),
    ),
    ProblemKind(
        "invalid-next-hop",
        "Not a next hop",
        "A next hop is a port, by its name or by its address.",
        "Give one of 'port' and 'ip', of the route's IP version.",
        ("next_hop",),
    ),
    ProblemKind(
        "next-hop-outside",
        "A next hop that the router does not reach",
        "A next hop is in a network that the router joins.",
        "Join its network, or give a port or an address of a joined one.",
        ("next_hop",),
    ),
    ProblemKind(
        "route-loop",
        "A route that leads back to the router",
        "A gateway's address is the router itself: what it sends there comes back.",
        "Give the address of the port that the range lies behind.",
        ("next_hop",),
    ),
    ProblemKind(
        "unknown-port",
        "A port that the VPC does not have",
        "A next hop is a port of the router's own VPC.",
        "{suggestion}",
        ("next_hop",),
    ),
    ProblemKind(
        "invalid-id",
        "Not a UUID",
        "The id is what libvirt or Incus sets as iface-id on the interface; libvirt takes only UUIDs.",
        "Write it as 6c1f2b9e-0d5a-4f6e-9a57-0c8f8f0e7f11, or leave it out to have one derived.",
        ("port",),
    ),
    ProblemKind(
        "duplicate-id",
        "Two ports with one id",
        "An id names one interface, whatever its VPC.",
        "Give each port its own id, or leave it out to have one derived.",
        ("port",),
    ),
    ProblemKind(
        "subnet-full",
        "No free address in a subnet",
        "A port without 'ips' gets one address of each subnet of its network.",
        "Give the network a larger subnet, or give the port 'ips'.",
        ("port",),
    ),
    ProblemKind(
        "assignment-missing",
        "Something left out has not been assigned yet",
        "A VNI or an address that is left out is assigned once and kept in the lock file beside the model.",
        "{command}",
        ("network", "router", "port", "state"),
    ),
    ProblemKind(
        "invalid-lock",
        "The lock file cannot be used",
        "The lock file holds the addresses and VNIs that were assigned; it is written by ovsnet.",
        "Restore it from version control. Removing it assigns everything anew, which changes addresses in use.",
        ("lock",),
    ),
    ProblemKind(
        "invalid-revision",
        "Not a revision number",
        "Revisions count up from 0.",
        "Give a whole number, 0 or more.",
        ("state",),
    ),
)

PROBLEMS: dict[str, ProblemKind] = {kind.code: kind for kind in _KINDS}
"""The kinds of problem by code."""
