"""The kinds of problem that provider networks, ways out and floating IPs have."""

from __future__ import annotations

from ovsnet.model.problem_kind import ProblemKind

OUTSIDE_KINDS = (
    ProblemKind(
        "invalid-bridge",
        "Not a bridge to a physical network",
        "A host's bridge has a name that a network interface can have, is not the integration bridge, and leads to one "
        "physical network.",
        "Give each physical network a bridge of its own, such as br-ex.",
        ("host",),
    ),
    ProblemKind(
        "invalid-vlan",
        "Not a VLAN",
        "A VLAN is 1 to 4094; without one, frames are untagged.",
        "Give a VLAN, or leave it out for a flat network.",
        ("provider_network",),
    ),
    ProblemKind(
        "unknown-physical",
        "A physical network that no host has",
        "Hosts reach a provider network by a bridge that is named after its physical network under 'bridges'.",
        "Add {example} to the hosts that have it.",
        ("provider_network",),
    ),
    ProblemKind(
        "duplicate-segment",
        "Two provider networks that are one",
        "A VLAN of a physical network, or its untagged frames, is one provider network.",
        "Make them one, or give another VLAN.",
        ("provider_network",),
    ),
    ProblemKind(
        "unknown-provider-network",
        "A provider network that is not declared",
        "Provider networks are the site's: 'provider_networks' beside 'hosts'.",
        "{suggestion}",
        ("network", "router", "floating_ip"),
    ),
    ProblemKind(
        "subnets-of-provider",
        "Subnets of a network that is on a provider network",
        "Its addresses are those of the provider network's subnets.",
        "Remove 'subnets', or 'provider_network'.",
        ("network",),
    ),
    ProblemKind(
        "joined-provider-network",
        "A router that joins a network on a provider network",
        "A router leaves its domain by 'external'; ports that are directly on a provider network have its gateway.",
        "Remove the network from the router's.",
        ("router",),
    ),
    ProblemKind(
        "invalid-gateway-host",
        "Not a host where a domain can leave",
        "A gateway is a host with 'gateway: true' and a bridge to the provider network's physical network.",
        "{suggestion}",
        ("router",),
    ),
    ProblemKind(
        "invalid-outside-address",
        "Not an address of the provider network",
        "An address outside is one of the provider network's subnets, not its gateway's; a router has one of each IP "
        "version at most.",
        "Give an address of {ranges}.",
        ("router", "floating_ip"),
    ),
    ProblemKind(
        "duplicate-outside-address",
        "An address of a provider network used twice",
        "An address outside stands for one router's ports, or for one address of a port, or is a port's own.",
        "Give another address.",
        ("router", "floating_ip", "port"),
    ),
    ProblemKind(
        "default-route-and-way-out",
        "A default route beside a way out",
        "'snat' sends all else to the provider network, and so there is no default route to a port beside it.",
        "Remove the route, or 'snat' of that IP version.",
        ("route",),
    ),
    ProblemKind(
        "overlapping-outside",
        "A router that joins addresses of its provider network",
        "An address is inside or outside.",
        "Give the network other subnets.",
        ("router",),
    ),
    ProblemKind(
        "no-way-out",
        "A floating IP whose port has no way out",
        "A floating IP's port is in a network whose router has 'external' on the same provider network.",
        "Give the router of its network 'external: {{provider_network: {network}, gateways: [...]}}'.",
        ("floating_ip",),
    ),
    ProblemKind(
        "invalid-floating-target",
        "A floating IP that stands for nothing",
        "It stands for one address of its port, of its own IP version; a port's address has one floating IP.",
        "Give 'ip': {choices}.",
        ("floating_ip",),
    ),
    ProblemKind(
        "port-without-bridge",
        "A port on a provider network that its host does not have",
        "A port that is directly on a provider network runs on a host with a bridge to it.",
        "Place it on {hosts}, or give its host the bridge.",
        ("port",),
    ),
)
