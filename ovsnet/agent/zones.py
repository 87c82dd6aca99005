"""A conntrack zone for every filtered port of this host: taken, flushed, kept over restarts, flushed and released.

The order, so that a crash between any two steps leaves nothing confused:

- *Taking*: the number goes into OVSDB, marked as not flushed; the zone is flushed; flows use it; the mark goes. Who
  finds the mark after a crash flushes again, before its flows are there again.
- *Releasing*: flows are gone, and after a moment from the datapath's cache too; the zone is flushed; the number goes
  from OVSDB. Who finds the number of a port that is not here any more, after a crash, does all of it again.

A released number is given again only after all others; and should a zone have entries nevertheless, they are flushed
when somebody takes it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from ovsnet.errors import UserError
from ovsnet.model.types import Port
from ovsnet.openflow.api import SwitchPort
from ovsnet.openflow.errors import SwitchError
from ovsnet.ovsdb import Ovsdb, OvsdbError, Zone
from ovsnet.ovsdb.zones import HIGHEST

log = logging.getLogger(__name__)

PATIENCE = 2.0
"""Seconds that the database gets to take a change, while the host's other flows wait."""
FLUSH_PATIENCE = 10.0
"""Seconds that the switch gets for a flush."""
EXHAUSTED = f"all {HIGHEST} conntrack zones of this host are in use"


def filtered(by_vpc: Mapping[str, Mapping[str, Port]]) -> dict[str, str]:
    """Of the ports of a host, by VPC and name, those that need a zone: their VPCs by their ids."""
    return {port.id: vpc for vpc, ports in by_vpc.items() for port in ports.values() if port.port_security}


def allocate(ports: Iterable[str], used: Collection[int], last: int) -> tuple[dict[str, int], int]:
    """The next free number after ``last`` for each port, going round; and the number that was given last then.

    ``used`` are the numbers of others. Ports that are left without one are not in the result.
    """
    taken = set(used)
    given: dict[str, int] = {}
    free = HIGHEST - sum(1 <= number <= HIGHEST for number in taken)
    for port in ports:
        if len(given) == free:
            break
        last = last % HIGHEST + 1
        while last in taken:
            last = last % HIGHEST + 1
        given[port] = last
        taken.add(last)
    return given, last


class Held(NamedTuple):
    """A port's zone: whose port it is (empty: not known), whether OVSDB calls the zone clean, and whether it is."""

    number: int
    vpc: str
    written_clean: bool = False
    clean: bool = False


def assign(
    wanted: Mapping[str, str], held: Mapping[str, Held], before: Collection[str], used: Collection[int], last: int
) -> tuple[dict[str, Held], int]:
    """All zones once the ports in ``wanted`` (their VPC by id) have theirs, and the number that was given last then.

    ``before`` are the ports that were wanted so far: one that had gone meanwhile starts with a zone that is not clean,
    and so does one that has gone to another VPC, with another number. ``used`` are the numbers that others have.
    """
    after = dict(held)
    for port in wanted.keys() & held.keys():
        one, vpc = held[port], wanted[port]
        if one.vpc not in {"", vpc}:
            del after[port]
        else:
            after[port] = one._replace(vpc=vpc) if port in before else Held(one.number, vpc)
    taken = {one.number for one in held.values()}.union(used)
    given, last = allocate((port for port in wanted if port not in after), taken, last)
    after |= {port: Held(number, wanted[port]) for port, number in given.items()}
    return after, last


def _as_written(held: Mapping[str, Held]) -> dict[str, Zone]:
    return {port: Zone(one.number, one.written_clean) for port, one in held.items()}


class ZoneKeeper:
    """Gives the ports of this host their zones. For one thread; ``ready``, ``lacking`` and ``foreseen`` are for any.

    ``ready``: the zones that flows may use, by the ports' ids. ``lacking``: by VPC, why a port of it has none. Both are
    only ever replaced as a whole.
    """

    def __init__(self, ovsdb: Ovsdb, switch: SwitchPort) -> None:
        self.ready: Mapping[str, int] = {}
        self.lacking: Mapping[str, str] = {}
        self._ovsdb, self._switch = ovsdb, switch
        self._held: dict[str, Held] = {}
        self._before: set[str] = set()
        self._last = 0
        self._read = False
        self._dropped: set[int] = set()  # numbers of ports that went on with another one, not flushed yet
        self._told: Mapping[str, Zone] = {}  # what OVSDB should say
        self._settled: Mapping[str, str] | None = None
        self._said: dict[str, str] = {}

    def settle(self, wanted: Mapping[str, str]) -> None:
        """Before compiling: take and flush zones for the ports that have none; ``wanted`` is their VPC by id."""
        if self._settled == wanted and not self.astray:
            return
        reason = self._take(wanted) or self._flush_new(wanted)
        held = self._held
        ready = {port: held[port].number for port in wanted if port in held and held[port].clean}
        if ready != self.ready:
            self.ready = ready
        lacking = {vpc: reason or EXHAUSTED for port, vpc in wanted.items() if port not in ready}
        self.lacking = lacking
        self._settled = None if reason or lacking else wanted
        self._say("not taken", next(iter(lacking.values()), reason))

    def release(self, wanted: Mapping[str, str], stuck: Collection[str]) -> bool:
        """Some time after flows are in place: flush and give up the zones of ports that are not here any more.

        ``wanted`` are the ports that those flows are for. VPCs in ``stuck`` may still have flows that nobody wants, so
        their zones stay. False if it did not succeed.
        """
        gone = [
            port
            for port, held in self._held.items()
            if port not in wanted and port not in self._before and (held.vpc not in stuck if held.vpc else not stuck)
        ]
        used = {port: held for port, held in self._held.items() if port in wanted and port in self.ready}
        proven = {port: held._replace(written_clean=True) for port, held in used.items() if not held.written_clean}
        flush = {self._held[port].number for port in gone}.union(() if stuck else self._dropped)
        try:
            if flush:
                self._switch.flush_zones(sorted(flush), FLUSH_PATIENCE)
        except SwitchError as exc:
            self._say("not released", str(exc))
            return False
        self._dropped -= flush
        changes = {port: Zone(held.number, True) for port, held in proven.items()} | dict.fromkeys(gone)
        reason = self._write(changes, self._last) if changes else ""
        self._say("not released", reason)
        if reason:
            return False
        self._held = {port: held for port, held in (self._held | proven).items() if port not in gone}
        self._told = _as_written(self._held)
        return True

    @property
    def astray(self) -> bool:
        """Whether OVSDB says something else than it was left with."""
        record = self._ovsdb.state.zones
        return record.zones != self._told or bool(record.unusable)

    def foreseen(self, ports: Iterable[str]) -> Mapping[str, int]:
        """The zones that flows may use, and those that these ports would get; nothing changes. For any thread."""
        held, ready = self._held, self.ready
        used = {one.number for one in held.values()} | self._ovsdb.state.zones.elsewhere
        return {**allocate((port for port in ports if port not in ready), used, self._last)[0], **ready}

    def _take(self, wanted: Mapping[str, str]) -> str:
        """Give numbers, and make OVSDB say what is so; returns why that is not possible, in words."""
        state = self._ovsdb.state
        if not self._read:
            if not (self._ovsdb.connected and state.exists):
                return "the switch's database has not been read yet"
            self._held = {port: Held(z.number, "", z.clean, z.clean) for port, z in state.zones.zones.items()}
            self._before, self._last, self._read = set(self._held), state.zones.last, True
        record, old = state.zones, self._held
        used = record.elsewhere | {zone.number for zone in record.zones.values()}
        after, last = assign(wanted, old, self._before, used, self._last)
        self._before = set(wanted)
        there = _as_written(after)
        changes: dict[str, Zone | None] = dict.fromkeys((record.zones.keys() | record.unusable) - there.keys())
        changes |= {port: zone for port, zone in there.items() if record.zones.get(port) != zone}
        reason = self._write(changes, last) if changes else ""
        kept = {port: held for port, held in after.items() if port in old and old[port].number == held.number}
        self._dropped |= {one.number for port, one in old.items() if port not in kept}
        self._held, self._last = (kept, self._last) if reason else (after, last)
        self._told = _as_written(self._held)
        return reason

    def _write(self, changes: Mapping[str, Zone | None], last: int) -> str:
        """Write zones down; returns why that is not possible, in words."""
        if not self._ovsdb.connected:
            return f"{self._ovsdb.target}: the OVSDB server is not connected"
        try:
            self._ovsdb.write_zones(changes, last, PATIENCE)
        except (OvsdbError, UserError) as exc:
            return str(exc)
        return ""

    def _flush_new(self, wanted: Mapping[str, str]) -> str:
        """Flush the zones that are not clean; returns why that is not possible, in words."""
        dirty = {port: self._held[port] for port in wanted if port in self._held and not self._held[port].clean}
        if not dirty:
            return ""
        if not self._switch.connected:
            return f"no OpenFlow connection to flush it: {self._switch.last_error or 'connecting'}"
        try:
            self._switch.flush_zones(sorted(held.number for held in dirty.values()), FLUSH_PATIENCE)
        except SwitchError as exc:
            return str(exc)
        self._held = self._held | {port: held._replace(clean=True) for port, held in dirty.items()}
        return ""

    def _say(self, what: str, why: str) -> None:
        """Log a trouble once."""
        if why and why != self._said.get(what):
            log.warning("conntrack zones are %s: %s", what, why)
        self._said[what] = why
