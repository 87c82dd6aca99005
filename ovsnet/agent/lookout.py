"""The agent's picture shared by those who show it: each is given what has changed since it looked last."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping

from ovsnet.agent.picture import Named, Pending, Picture, Scene, Things, Touched, pending_of
from ovsnet.model.types import Port
from ovsnet.transport.view import Change

log = logging.getLogger(__name__)

Source = Callable[[Mapping[Named, Pending]], Scene]
"""Makes the scene of the moment, with the given ports as pending."""


class Lookout:
    """Keeps the picture of what ``source`` shows; ``through()`` is the number of the last change in the switch.

    Whoever makes a change holds ``changing`` from its beginning until it is noted, so that no scene has half of it.
    """

    def __init__(self, source: Source, through: Callable[[], int]) -> None:
        self.changing = threading.Lock()
        self._source, self._through = source, through
        self._looking = threading.Lock()  # is taken before ``changing``
        self._touched = Touched()
        self._pending: dict[Named, Pending] = {}
        self._picture = Picture()
        self._readers: list[Reader] = []

    def note(self, change: Change, serial: int, local: Mapping[str, Mapping[str, Port]]) -> None:
        """A change is being made, the ``serial``-th for the switch; ``local`` are the ports here after it."""
        self._touched.note(change)
        self._pending |= pending_of(change, serial, local)

    def scene(self) -> Scene:
        """What ports and VPCs are judged by at the moment."""
        with self.changing:
            return self._scene()

    def reader(self) -> Reader:
        """Somebody else who looks, from the beginning."""
        reader = Reader(self)
        with self._looking:
            self._advance()
            reader.missed.take_all(self._picture.things)
            self._readers.append(reader)
        return reader

    def dismiss(self, reader: Reader) -> None:
        """This one looks no more."""
        with self._looking:
            self._readers.remove(reader)

    def read(self, reader: Reader, *, everything: bool) -> Things:
        """What a reader has missed, or all there is, which is looked at anew then."""
        with self._looking:
            self._advance()
            if everything:
                wrong = self._picture.check()
                if wrong:
                    log.error("the picture of %s was out of date, and is mended", ", ".join(wrong.names()))
                    self._tell(wrong)
            missed, reader.missed = reader.missed, Things()
            return self._picture.things.copy() if everything else missed

    def _advance(self) -> None:
        with self.changing:
            touched, self._touched = self._touched, Touched()
            scene = self._scene()
        self._tell(self._picture.advance(scene, touched))

    def _scene(self) -> Scene:
        through = self._through()
        if self._pending:
            self._pending = {named: one for named, one in self._pending.items() if one.serial > through}
        return self._source(dict(self._pending))

    def _tell(self, difference: Things) -> None:
        for reader in self._readers:
            reader.missed.take_all(difference)


class Reader:
    """One who looks at the picture again and again; ``missed`` is what has changed since."""

    def __init__(self, lookout: Lookout) -> None:
        self._lookout = lookout
        self.missed = Things()

    def changes(self) -> Things:
        """What may be another than when one looked last; at first, all there is."""
        return self._lookout.read(self, everything=False)

    def everything(self) -> Things:
        """All there is, looked at from scratch: what it costs grows with what the host holds."""
        return self._lookout.read(self, everything=True)

    def close(self) -> None:
        """Look no more."""
        self._lookout.dismiss(self)
