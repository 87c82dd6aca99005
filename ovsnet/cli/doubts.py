"""What the hosts' switches say of a packet that has been explained, and where they disagree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ovsnet.cli.live import Sight
    from ovsnet.reasons import Answer, Probe
    from ovsnet.trace import Trace


class Switch(msgspec.Struct, frozen=True):
    """One host's switch: ``agrees``, ``differs``, ``no answer``, or empty where there is none to ask, with what its own
    trace says; and its connection tracker's entries between the two addresses.
    """

    host: str
    word: str
    trace: str
    connections: tuple[str, ...]


class Doubts(msgspec.Struct, frozen=True):
    """What the switches say; ``held`` is the answer that the agents' states give where it is another."""

    switches: tuple[Switch, ...] = ()
    held: str = ""

    @property
    def any(self) -> bool:
        """Whether anybody disagrees, or does not answer."""
        return bool(self.held) or any(one.word in {"differs", "no answer"} for one in self.switches)

    def lines(self) -> Iterator[str]:
        """What to print."""
        if self.held:
            yield f"THE HOSTS HOLD ANOTHER MODEL: {self.held}"
        for one in self.switches:
            words = {"agrees": "the switch agrees", "differs": "THE SWITCH DIFFERS", "no answer": "NO ANSWER"}
            yield f"{one.host}: {words.get(one.word, 'no switch to ask here')}"
            yield from (f"  {line}" for line in one.trace.splitlines() if one.word in {"differs", "no answer"})
            yield from (f"  tracked: {line}" for line in one.connections)


def nothing() -> Doubts:
    """Nobody was asked."""
    return Doubts()


def look(seen: Sight, found: Trace | None, answer: Answer, source: str, target: str, probe: Probe) -> Doubts:
    """Ask the switches about a packet's way (``found``; left out, as what the agents hold has it)."""
    from ovsnet.errors import UserError
    from ovsnet.reasons import explain

    held = ""
    if found is None:
        try:
            theirs, found = explain(seen.model, seen.places, source, target, probe)
        except (UserError, KeyError) as error:
            return Doubts(held=f"they do not know the ports ({error})")
        if (theirs.reason, theirs.decided_by) != (answer.reason, answer.decided_by):
            held = f"{theirs.reason}, decided by {theirs.decided_by}"
    switches = []
    for hop in found.hops[1:] if found is not None else ():
        word, output = seen.compare(hop)
        switches.append(Switch(hop.host, word, output, seen.connections(hop)))
    return Doubts(tuple(switches), held)
