"""The packets whose rules say ``log``: each an event and a line in the log, with the rule's and the port's names."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ovsnet.desired import Subject
from ovsnet.features.security_groups import INGRESS
from ovsnet.http.events import EventLog
from ovsnet.log import about
from ovsnet.model.rules import ICMP, ICMPV6, PROTOCOLS
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.errors import SwitchError
from ovsnet.openflow.jobs import Jobs
from ovsnet.openflow.meters import dropped
from ovsnet.openflow.notices import Notice
from ovsnet.pipeline.verdicts import ALLOW, DROP, REJECT

if TYPE_CHECKING:
    from ovsnet.agent.agent import Agent

log = logging.getLogger("ovsnet.agent.packets")

COUNTED = ("logged", "rejected", "answered", "suppressed", "leased", "refused", "advertised")
"""What is counted: log entries, answers to rejected packets, answers of routers, and what a limit left out; leases,
requests for other addresses that were refused, and router advertisements.
"""
_VERDICTS = {ALLOW: "allow", DROP: "drop", REJECT: "reject"}
_PROTOCOL_NAMES = {number: name for name, number in sorted(PROTOCOLS.items(), reverse=True)}


class PacketLog:
    """Tells of logged packets in ``events``.

    ``rule_of(number)`` gives a rule's path in the model, ``port_at(ofport)`` the port, as VPC/NAME; ``None`` for what
    is gone meanwhile. Both may take their time: they are called on a thread for that.
    """

    def __init__(
        self,
        switch: SwitchPort,
        events: EventLog,
        rule_of: Callable[[int], str | None],
        port_at: Callable[[int], str | None],
    ) -> None:
        self._switch, self._events = switch, events
        self._rule_of, self._port_at = rule_of, port_at
        self._jobs = Jobs("packet log")
        self._tallies = {what: _Tally() for what in (*COUNTED, "dropped", "excess")}

    def take(self, notice: Notice) -> None:
        """Tell of a packet, soon; returns at once."""
        self._jobs.post(lambda: self._write(notice))

    def stop(self) -> None:
        """Write what waits, and end."""
        self._jobs.stop()

    def counts(self) -> dict[str, int]:
        """By each of COUNTED, how many packets since the agent's start, as far as can be known now.

        ``excess`` is what ports asked of their addresses beyond their meters.
        """
        try:
            counted = self._switch.counters()
            for what in COUNTED:
                self._tallies[what].see(counted.get(what, 0))
            for what, count in zip(("dropped", "excess"), dropped(self._switch), strict=True):
                self._tallies[what].see(count)
        except SwitchError:
            pass  # what was known before still holds
        counts = {what: self._tallies[what].total for what in (*COUNTED, "excess")}
        counts["suppressed"] += self._tallies["dropped"].total
        return counts

    def _write(self, notice: Notice) -> None:
        entry = entry_of(notice, self._rule_of(notice.rule), self._port_at(notice.ofport))
        self._events.add("log", entry)
        vpc = (entry["port"] or "").partition("/")[0]
        log.info("packet %s", json.dumps(entry), extra=about(vpc, entry["rule"] or ""))


def entry_of(notice: Notice, rule: str | None, port: str | None) -> dict[str, Any]:
    """The event's data: what was decided by which rule at which port about whom.

    ``sent`` says that the port sent the packet; that is not the rule's ``direction``, by which replies are judged too.
    ``ports`` are the packet's, source and destination.
    """
    own, peer = (notice.source, notice.destination) if notice.sent else (notice.destination, notice.source)
    entry: dict[str, Any] = {
        "rule": rule,
        "port": port,
        "direction": "ingress" if notice.way & INGRESS else "egress",
        "verdict": _VERDICTS.get(notice.verdict, str(notice.verdict)),
        "sent": notice.sent,
        "address": own,
        "peer": peer,
        "protocol": _PROTOCOL_NAMES.get(notice.protocol, str(notice.protocol)),
    }
    if notice.ports is None:
        return entry
    if notice.protocol in (ICMP, ICMPV6):
        return entry | dict(zip(("type", "code"), notice.ports, strict=True))
    return entry | {"ports": list(notice.ports)}


Place = tuple[str, str, int]
"""Where a rule stands: VPC, group, and which of the group's rules it is."""


class RulePaths:
    """Paths of rules by their numbers. ``ask`` gives all places, ``version`` rises when they may have changed."""

    def __init__(self, ask: Callable[[], Mapping[int, Place]], version: Callable[[], int]) -> None:
        self._ask, self._version = ask, version
        self._seen: int | None = None
        self._places: Mapping[int, Place] = {}
        self._before: Mapping[int, Place] = {}

    def __call__(self, number: int) -> str | None:
        """The rule's path, such as ``vpcs.shop.security_groups.web.rules[0]``; also of one that has just gone."""
        version = self._version()
        if version != self._seen:
            self._before, self._places, self._seen = self._places, self._ask(), version
        place = self._places.get(number) or self._before.get(number)
        if place is None:
            return None
        vpc, group, index = place
        return Subject("security_group", vpc, f"{group}.rules[{index}]").path


PATIENCE = 30.0
"""Seconds that the reconciler may be busy before a packet is told of without its rule."""


def packet_log_of(agent: Agent) -> PacketLog:
    """The packet log of an agent."""
    numbers = agent.numbers.numbers

    def places() -> Mapping[int, Place]:
        try:
            return agent.reconciler.call(numbers.rule_places).result(PATIENCE)
        except TimeoutError:
            return {}

    def port_at(ofport: int) -> str | None:
        for iface_id, interface in agent.ovsdb.interfaces().items():
            port = agent.view.port_of(iface_id) if interface.ofport == ofport else None
            if port is not None:
                return "/".join(port)
        return None

    return PacketLog(agent.switch, agent.events, RulePaths(places, lambda: numbers.changes), port_at)


class _Tally:
    """The sum of a count that begins anew now and then."""

    def __init__(self) -> None:
        self.total = self._last = 0

    def see(self, count: int) -> None:
        """Take the count as it is now."""
        self.total += count - self._last if count >= self._last else count
        self._last = count
