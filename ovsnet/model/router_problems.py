"""The kinds of problem that only routers have."""

from __future__ import annotations

from ovsnet.model.problem_kind import ProblemKind

ROUTER_KINDS = (
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
        "A next hop, and what a floating IP stands for, is a port of the same VPC.",
        "{suggestion}",
        ("next_hop", "floating_ip"),
    ),
)
