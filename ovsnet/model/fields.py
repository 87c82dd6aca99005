"""What each key means, with an example: for the schema, the reference page and the remedies of messages."""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.model.types import (
    AllowedAddress,
    External,
    FloatingIp,
    Host,
    Labelled,
    Model,
    Network,
    NextHop,
    Outside,
    Port,
    ProviderNetwork,
    Remote,
    RemoteEndpoint,
    Route,
    Router,
    Rule,
    SecurityGroup,
    Subnet,
    Underlay,
    Vpc,
    VpcState,
)

NAME_PATTERN = "^[a-z0-9][a-z0-9_-]{0,62}$"
MAC_PATTERN = "^[0-9A-Fa-f]{2}([:-][0-9A-Fa-f]{2}){5}$"
CIDR_PATTERN = "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"
IP_PATTERN = "^[0-9A-Fa-f.:]+$"
IP_OR_CIDR_PATTERN = "^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"
AGENT_PATTERN = "^(https://[^/ ]+|unix:/[^ ]+)$"
WORKLOAD_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"
RANGE_PATTERN = "^(0|[1-9][0-9]{0,4})-(0|[1-9][0-9]{0,4})$"
DOMAIN_PATTERN = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
PROTOCOL_PATTERN = "^[a-z][a-z0-9.-]*$"
UUID_PATTERN = "^[0-9A-Fa-f]{8}-?([0-9A-Fa-f]{4}-?){3}[0-9A-Fa-f]{12}$"


@dataclass(frozen=True, slots=True)
class Doc:
    """A key's meaning, an example of its value as written in YAML, and the bounds that the schema can express.

    ``pattern``: of the text, or of a list's items, or of a mapping's keys.
    """

    text: str
    example: str
    pattern: str = ""
    least: int | None = None
    most: int | None = None


FIELDS: dict[tuple[type, str], Doc] = {
    (Labelled, "labels"): Doc("Free text by key, for people and programs.", "{rack: r1}"),
    (Labelled, "description"): Doc("Free text for people.", "the shop's front end"),
    (Model, "version"): Doc("The version of this language; every file says it.", "1"),
    (Model, "name"): Doc("Who owns what is declared; left out, the first file's stem.", "shop-demo", NAME_PATTERN),
    (Model, "underlay"): Doc("The physical network that carries the tunnels.", "{mtu: 1500}"),
    (Model, "hosts"): Doc("The hypervisors by name.", "{hv1: {vtep: 10.0.0.11}}", NAME_PATTERN),
    (Model, "vpcs"): Doc("The tenants' isolated domains by name.", "{shop: {networks: {}, ports: {}}}", NAME_PATTERN),
    (Underlay, "mtu"): Doc(
        "The underlay's MTU in bytes; each agent is started with the same `--underlay-mtu`. What ports send may be 50 "
        "bytes smaller over IPv4, 70 over IPv6, and that is what they are told.",
        "1500",
        least=1350,
        most=65535,
    ),
    (Underlay, "encapsulation"): Doc(
        "How packets travel between hosts; each agent is started with the same `--encapsulation`.", "vxlan"
    ),
    (Host, "vtep"): Doc("The IPv4 or IPv6 address of the host's tunnel end.", "10.0.0.11", IP_PATTERN),
    (Host, "agent"): Doc(
        "Where a controller calls its agent: an https URL, or `unix:` and a socket's path; left out, the VTEP's "
        "address and port 7443.",
        "https://10.0.0.11:7443",
        AGENT_PATTERN,
    ),
    (Host, "gateway"): Doc("Routed domains may leave the cloud there.", "true"),
    (Host, "bridges"): Doc(
        "The Open vSwitch bridges that lead to physical networks, by the names of those. They are the site's: an agent "
        "adds its end of a patch port, and no more.",
        "{ext: br-ex}",
        NAME_PATTERN,
    ),
    (Model, "provider_networks"): Doc(
        "The networks of the site that hosts reach by their bridges, by name.",
        "{internet: {physical: ext, vlan: 100}}",
        NAME_PATTERN,
    ),
    (ProviderNetwork, "physical"): Doc("The physical network, as in the hosts' `bridges`.", "ext", NAME_PATTERN),
    (ProviderNetwork, "vlan"): Doc("Its VLAN; left out, its frames are untagged.", "100", least=1, most=4094),
    (ProviderNetwork, "subnets"): Doc(
        "Its address ranges; a `gateway` is the provider's, and without one nothing further away is reached.",
        "[{cidr: 203.0.113.0/24, gateway: 203.0.113.1}]",
    ),
    (Outside, "vlan"): Doc("Its VLAN; left out, its frames are untagged.", "100", least=1, most=4094),
    (Outside, "subnets"): Doc("Its address ranges.", "[{cidr: 203.0.113.0/24, gateway: 203.0.113.1}]"),
    (Outside, "bridges"): Doc("The bridges that lead to it, by host.", "{gw1: br-ex}", NAME_PATTERN),
    (External, "provider_network"): Doc("The provider network.", "internet", NAME_PATTERN),
    (External, "snat"): Doc(
        "The address there that stands for all ports of the domain, one of each IP version; left out, only ports with "
        "a floating IP leave.",
        "203.0.113.10",
        IP_PATTERN,
    ),
    (External, "gateways"): Doc(
        "The hosts where the domain leaves; the first one that answers is used.", "[gw1, gw2]", NAME_PATTERN
    ),
    (Router, "external"): Doc(
        "The way out, to a provider network. [More](outside.md)",
        "{provider_network: internet, snat: 203.0.113.10, gateways: [gw1]}",
    ),
    (Network, "provider_network"): Doc(
        "The provider network that its ports are directly on, with addresses of its subnets.", "internet", NAME_PATTERN
    ),
    (Vpc, "floating_ips"): Doc(
        "Addresses of provider networks that stand for ports, by name.",
        "{web: {provider_network: internet, address: 203.0.113.20, port: web1}}",
        NAME_PATTERN,
    ),
    (FloatingIp, "provider_network"): Doc("The provider network.", "internet", NAME_PATTERN),
    (FloatingIp, "address"): Doc("The address there.", "203.0.113.20", IP_PATTERN),
    (FloatingIp, "port"): Doc("The port that it stands for.", "web1", NAME_PATTERN),
    (FloatingIp, "ip"): Doc(
        "Which of the port's addresses; left out, its only one of that IP version.", "192.168.1.11", IP_PATTERN
    ),
    (Vpc, "tenant"): Doc("Whose it is; left out, the VPC's name.", "acme", NAME_PATTERN),
    (Vpc, "networks"): Doc("The VPC's L2 segments by name.", "{web: {vni: 5001}}", NAME_PATTERN),
    (Vpc, "routers"): Doc(
        "The VPC's routers by name: which of its networks reach each other, and what lies beyond.",
        "{r1: {networks: [web, db]}}",
        NAME_PATTERN,
    ),
    (Vpc, "ports"): Doc("The VPC's virtual NICs by name.", "{web1: {network: web, host: hv1}}", NAME_PATTERN),
    (Vpc, "security_groups"): Doc(
        "The VPC's security groups by name. Without one named `default` it has one that lets its own members in and "
        "everything out.",
        "{web: {rules: [{direction: ingress, protocol: tcp, port: 80}]}}",
        NAME_PATTERN,
    ),
    (Vpc, "address_groups"): Doc(
        "Lists of address ranges by name, IPv4 and IPv6, for rules to refer to.",
        "{office: [198.51.100.0/24]}",
        NAME_PATTERN,
    ),
    (SecurityGroup, "rules"): Doc(
        "What its ports may receive and send. All rules of all groups of a port form one list; what no rule allows is "
        "refused.",
        "[{direction: ingress, protocol: tcp, port: 80}]",
    ),
    (SecurityGroup, "default_egress"): Doc(
        "Whether its ports may send anything while it has no egress rule.",
        "deny",
    ),
    (SecurityGroup, "stateful"): Doc(
        "Replies pass, and errors about a connection; false judges every packet by itself. All groups of a port agree.",
        "true",
    ),
    (Rule, "direction"): Doc("The port's: `ingress` is what it receives, `egress` what it sends.", "ingress"),
    (Rule, "ethertype"): Doc("The IP version; left out, both, or the one that protocol and remote imply.", "ipv4"),
    (Rule, "protocol"): Doc(
        "The IP protocol, by name or number (`icmp` is IPv4, `icmpv6` IPv6); left out, any.",
        "tcp",
        PROTOCOL_PATTERN,
        least=0,
        most=255,
    ),
    (Rule, "port"): Doc(
        "The destination port of tcp, udp or sctp: a number, a range or a list of them; left out, any.",
        "[80, 8000-8010]",
        RANGE_PATTERN,
        least=0,
        most=65535,
    ),
    (Rule, "type"): Doc("The type of icmp or icmpv6; left out, any.", "8", least=0, most=255),
    (Rule, "code"): Doc("The code of that type; left out, any.", "0", least=0, most=255),
    (Rule, "remote"): Doc("The other side; left out, anybody.", "{group: web}"),
    (Rule, "priority"): Doc("The lowest comes first, whatever the group.", "100", least=1, most=1000),
    (Rule, "action"): Doc(
        "What happens to what matches: `drop` tells nobody, `reject` answers. At one priority drop comes before "
        "reject, and reject before allow.",
        "drop",
    ),
    (Rule, "log"): Doc("Report what matches: new connections, or each refused packet, limited in rate.", "true"),
    (Rule, "description"): Doc("Free text for people.", "the load balancer's checks"),
    (Remote, "cidr"): Doc(
        "An address range; an address alone is a range of one.", "192.168.0.0/16", IP_OR_CIDR_PATTERN
    ),
    (Remote, "group"): Doc(
        "The ports in a security group of the same VPC, by their own addresses.", "web", NAME_PATTERN
    ),
    (Remote, "address_group"): Doc("The ranges of an address group of the same VPC.", "office", NAME_PATTERN),
    (Network, "vni"): Doc(
        "The VXLAN network identifier, one in the whole site; left out, it is assigned and kept in the lock file.",
        "5001",
        least=1,
        most=0xFFFFFF,
    ),
    (Network, "subnets"): Doc("The address ranges of the network, IPv4 and IPv6.", "[{cidr: 192.168.1.0/24}]"),
    (Network, "mtu"): Doc(
        "The MTU in bytes that its ports are told; left out, the largest that fits into the underlay.",
        "1400",
        least=1280,
        most=65535,
    ),
    (Network, "domain"): Doc(
        "The DNS domain that its ports are told; their host names are the names of the ports.",
        "shop.example",
        DOMAIN_PATTERN,
    ),
    (Subnet, "cidr"): Doc("The range, without host bits.", "192.168.1.0/24", CIDR_PATTERN),
    (Subnet, "gateway"): Doc(
        "The router's address in it, which no port may have; left out, the subnet's first one, once a router joins.",
        "192.168.1.1",
        IP_PATTERN,
    ),
    (Subnet, "dhcp"): Doc(
        "Whether ports are handed out their own addresses by DHCP, and what belongs to them. [More](addresses.md)",
        "false",
    ),
    (Subnet, "ra"): Doc(
        "Router advertisements of an IPv6 range: `stateful` (the default with `dhcp`) says that addresses come by "
        "DHCPv6, `slaac` lets ports make theirs where it is the one that they have, `none` says nothing.",
        "slaac",
    ),
    (Subnet, "dns"): Doc("The resolvers that its ports are told, 8 at most.", "[192.168.1.53]", IP_PATTERN),
    (Subnet, "lease"): Doc("How many seconds what ports are told holds.", "3600", least=60, most=31536000),
    (Router, "vni"): Doc(
        "The number of the routed domain, out of the networks' VNIs; left out, it is assigned and kept in the lock "
        "file.",
        "9001",
        least=1,
        most=0xFFFFFF,
    ),
    (Router, "networks"): Doc("The networks of the same VPC that it joins.", "[web, db]", NAME_PATTERN),
    (Router, "routes"): Doc(
        "Ranges that lie behind ports, or nowhere. The longest prefix holds.", "[{to: 10.50.0.0/16, via: {port: fw1}}]"
    ),
    (Route, "to"): Doc(
        "The range, without host bits; `0.0.0.0/0` and `::/0` are all else.", "10.50.0.0/16", CIDR_PATTERN
    ),
    (Route, "via"): Doc("The port that it lies behind; of several each connection takes one.", "{port: fw1}"),
    (Route, "blackhole"): Doc("What is sent there is dropped, and nobody is told.", "true"),
    (NextHop, "port"): Doc("A port in one of the router's networks, by name.", "fw1", NAME_PATTERN),
    (NextHop, "ip"): Doc("The address of a port in one of the router's networks.", "192.168.1.250", IP_PATTERN),
    (Port, "network"): Doc("The network of the same VPC that the port is in.", "web", NAME_PATTERN),
    (Port, "host"): Doc("The host that it runs on; left out, it is delivered to nobody.", "hv1", NAME_PATTERN),
    (Port, "mac"): Doc("Its MAC address; left out, one that follows from its id.", "02:00:00:00:01:01", MAC_PATTERN),
    (Port, "ips"): Doc(
        "Its addresses; left out, one of each subnet is assigned and kept in the lock file; an empty list means none.",
        "[192.168.1.11]",
        IP_PATTERN,
    ),
    (Port, "allowed_addresses"): Doc(
        "Further addresses that it may send from; nothing is delivered to it for them.", "[{ip: 10.50.0.0/16}]"
    ),
    (Port, "port_security"): Doc("False lets it send from any address, and lifts all filtering.", "true"),
    (Port, "id"): Doc(
        "The UUID that is the interface's iface-id; left out, UUIDv5 of VPC/NAME.",
        "6c1f2b9e-0d5a-4f6e-9a57-0c8f8f0e7f11",
        UUID_PATTERN,
    ),
    (Port, "epoch"): Doc(
        "Counts its placements; of two placements that disagree the higher one holds.", "3", least=0, most=2**53
    ),
    (Port, "moving_to"): Doc(
        "The host that it is about to move to: what is sent to the port is delivered to both.", "hv2", NAME_PATTERN
    ),
    (Port, "workload"): Doc("The virtual machine or container whose NIC it is.", "vm-17", WORKLOAD_PATTERN),
    (Port, "security_groups"): Doc(
        "The groups that it is in; left out, `default`; an empty list lets nothing in and nothing out.",
        "[web]",
        NAME_PATTERN,
    ),
    (RemoteEndpoint, "network"): Doc("The network of the same VPC that it is in.", "web", NAME_PATTERN),
    (RemoteEndpoint, "mac"): Doc("Its MAC address.", "02:00:00:00:01:09", MAC_PATTERN),
    (RemoteEndpoint, "ips"): Doc("Its addresses.", "[192.168.1.19]", IP_PATTERN),
    (RemoteEndpoint, "vtep"): Doc(
        "The IPv4 or IPv6 address of the tunnel end that it is behind.", "10.0.0.19", IP_PATTERN
    ),
    (RemoteEndpoint, "epoch"): Doc(
        "Counts its placements; of two placements that disagree the higher one holds.", "3", least=0, most=2**53
    ),
    (RemoteEndpoint, "groups"): Doc("The security groups that it is a member of.", "[web]", NAME_PATTERN),
    (AllowedAddress, "ip"): Doc("An address or a range.", "10.50.0.0/16", IP_OR_CIDR_PATTERN),
    (AllowedAddress, "mac"): Doc("The MAC it sends with; left out, the port's own.", "02:00:00:00:01:01", MAC_PATTERN),
    (VpcState, "name"): Doc("The VPC's name.", "shop", NAME_PATTERN),
    (VpcState, "revision"): Doc("Counts up with every change.", "7", least=0),
    (VpcState, "owner"): Doc("The model's name, or the API client.", "shop-demo"),
    (VpcState, "networks"): Doc("All networks of the VPC, with their VNIs.", "{web: {vni: 5001}}", NAME_PATTERN),
    (VpcState, "routers"): Doc("All routers of the VPC, with their VNIs.", "{r1: {networks: [web]}}", NAME_PATTERN),
    (VpcState, "ports"): Doc("All ports of the VPC, with ids, MACs and addresses.", "{}", NAME_PATTERN),
    (VpcState, "endpoints"): Doc("Neighbours that are known by their VTEP alone.", "{}", NAME_PATTERN),
    (VpcState, "hosts"): Doc(
        "The VTEP address of every host that has a port of it or is a gateway of its routers.",
        "{hv1: 10.0.0.11}",
        NAME_PATTERN,
    ),
    (VpcState, "floating_ips"): Doc("All floating IPs of the VPC.", "{}", NAME_PATTERN),
    (VpcState, "provider_networks"): Doc(
        "The provider networks that it has to do with.", "{internet: {vlan: 100, bridges: {gw1: br-ex}}}", NAME_PATTERN
    ),
    (VpcState, "security_groups"): Doc("All security groups of the VPC.", "{web: {rules: []}}", NAME_PATTERN),
    (VpcState, "address_groups"): Doc("All address groups of the VPC.", "{office: [198.51.100.0/24]}", NAME_PATTERN),
}
"""The documentation of every key of every type; that of Labelled holds for the types below it."""


def doc_of(cls: type, key: str) -> Doc | None:
    """The documentation of a key, its own or inherited."""
    return next((FIELDS[base, key] for base in cls.__mro__ if (base, key) in FIELDS), None)
