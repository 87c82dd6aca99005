"""Why a packet arrives or not: the reason codes, declared once; the documentation derives from this table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReasonKind:
    """A stable code, what it means, and what can be done where no change of a rule helps."""

    code: str
    meaning: str
    remedy: str = ""


_KINDS = (
    ReasonKind("allowed", "It is delivered: the groups at both ends allow it, or do not filter."),
    ReasonKind("egress-dropped", "A rule with `action: drop` of the sending port decides."),
    ReasonKind("egress-rejected", "A rule with `action: reject` of the sending port decides; the sender is told."),
    ReasonKind("egress-refused", "No rule of the sending port's groups matches it."),
    ReasonKind("egress-no-groups", "The sending port has an empty list of groups, which lets nothing out."),
    ReasonKind("ingress-dropped", "A rule with `action: drop` of the receiving port decides."),
    ReasonKind("ingress-rejected", "A rule with `action: reject` of the receiving port decides; the sender is told."),
    ReasonKind("ingress-refused", "No rule of the receiving port's groups matches it."),
    ReasonKind("ingress-no-groups", "The receiving port has an empty list of groups, which lets nothing in."),
    ReasonKind("source-unplaced", "The sending port has no host.", "Give it one with `host:`."),
    ReasonKind(
        "source-unplugged",
        "No interface on the sending port's host has its iface-id.",
        "Plug it: `ovsnet port xml` prints what libvirt needs.",
    ),
    ReasonKind("target-unplaced", "The receiving port has no host.", "Give it one with `host:`."),
    ReasonKind(
        "target-unplugged",
        "No interface on the receiving port's host has its iface-id.",
        "Plug it: `ovsnet port xml` prints what libvirt needs.",
    ),
    ReasonKind("other-vpc", "The two ports are in different VPCs, which never reach each other.", "Use one VPC."),
    ReasonKind(
        "other-network",
        "The two ports are in different networks, between which nothing routes.",
        "Use one network, or a router that joins both.",
    ),
    ReasonKind(
        "no-common-family",
        "The two ends have no addresses of one IP version, or not of the one asked for.",
        "Give both an address of it.",
    ),
    ReasonKind(
        "unknown-address",
        "No port of the sender's network has the address, so nobody answers for it.",
        "Declare it as a port's address.",
    ),
    ReasonKind(
        "no-route",
        "No route of the sender's router leads to the address.",
        "Join its network, or add a route; `0.0.0.0/0` and `::/0` lead to all else.",
    ),
    ReasonKind(
        "unreachable",
        "A subnet that the router joins has the address and no port does, or no next hop of the route is there.",
        "Declare it as a port's address, or place a next hop.",
    ),
    ReasonKind("black-hole", "A route with `blackhole: true` holds for the address.", "Change the route."),
    ReasonKind(
        "port-security",
        "The sending port may not send this from this address.",
        "Declare the address in `ips` or `allowed_addresses`.",
    ),
    ReasonKind("not-delivered", "It ends in another table: `ovsnet trace` shows which.", "Look at `ovsnet trace`."),
)

REASONS: dict[str, ReasonKind] = {kind.code: kind for kind in _KINDS}
"""The reasons by code."""

_HEAD = """\
# What `ovsnet explain` says

<!-- Generated from ovsnet/reasons/kinds.py; do not edit. -->

`ovsnet explain SRC DST` follows the first packet of a connection through the compiled tables of the hosts that it
passes, and says whether it arrives, which rule of the model decides at each end, and the smallest change to the model
that would turn the answer. The change is tried: it is named only if the tables of the changed model do turn it.

    ovsnet explain shop/web1 shop/db1 --tcp 3306 --model shop.yaml    # as a model has it
    ovsnet explain shop/web1 shop/db1 --icmp 128/0 --family 6         # as the agents of a lab, or of this host, have it
    ovsnet explain shop/web1 192.168.1.21 --protocol gre --live       # and as their switches do

The packet is one of `--tcp PORT`, `--udp PORT`, `--sctp PORT`, `--icmp TYPE` or `--icmp TYPE/CODE` (of ICMPv6 where the
packet is IPv6), `--protocol` (a name or a number). Left out, it is an echo request.

With `--live` every switch is asked for its own `ofproto/trace` of the packet, with a connection tracker that has not
seen it, and for its entries between the two addresses; if a model is given too, what the agents hold is compared with
it. Where two of them disagree, that is said. Every packet of a connection that exists already is judged anew, by the
rules of the direction that the connection was opened in, so the answer holds for it too.

Exit code 0: allowed; 1: not, or a switch disagrees or does not answer; 2: a mistake in the command or the model.
`--json` prints the answer with `allowed`, `reason`, `end`, `decided_by`, both `ends`, `change` (a list of edits: `add`,
`remove` or `replace`, a path in the model, a value) and `alternatives`. The codes in `reason` are stable:

| reason | meaning | what helps |
| --- | --- | --- |
"""


def reasons_page() -> str:
    """The list of reasons, in Markdown."""
    return _HEAD + "".join(
        f"| `{kind.code}` | {kind.meaning} | {kind.remedy or 'the change that is named'} |\n" for kind in _KINDS
    )
