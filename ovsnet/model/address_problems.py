"""The kinds of problem of what ports are told by DHCP and router advertisements."""

from __future__ import annotations

from ovsnet.model.problem_kind import ProblemKind

ADDRESS_KINDS = (
    ProblemKind(
        "invalid-dns",
        "Not a resolver that ports can be told",
        "A subnet's ports are told resolvers of its own IP version, by their unicast addresses: 8 at most.",
        "Give unicast addresses of {version}, 8 at most.",
        ("subnet",),
    ),
    ProblemKind(
        "invalid-lease",
        "Not how long a lease can hold",
        "From a minute to a year, in seconds; what is told is asked for anew after half of it.",
        "Give 60 to 31536000 seconds, or leave it out for a day.",
        ("subnet",),
    ),
    ProblemKind(
        "invalid-ra",
        "Router advertisements that contradict the subnet",
        "Router advertisements are IPv6's. With 'ra: stateful' addresses come by DHCPv6, so 'dhcp' is on.",
        "{suggestion}",
        ("subnet",),
    ),
    ProblemKind(
        "invalid-domain",
        "Not a DNS domain",
        "A domain is labels of a to z, 0 to 9 and '-' with dots between them, 253 characters at most (RFC 1123).",
        "Write it as shop.example, in lower case and without a dot at the end.",
        ("network",),
    ),
)
