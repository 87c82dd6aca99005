"""Who is around this host on provider networks: asked for again and again, and told what this host serves there."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from ovsnet.agent.store import replace_file
from ovsnet.features.base import Translation, Uplink
from ovsnet.openflow.outside import Heard, Sent, out
from ovsnet.responders import neighbour

log = logging.getLogger(__name__)

REFRESH = 15.0
"""Seconds between two questions for a neighbour that is known, or that is a provider's gateway."""
FORGET = 50.0
"""Seconds without an answer after which a neighbour is not known any more."""
ANNOUNCE = 0.0, 1.0, 2.0, 4.0
"""Seconds after an address has come to this host at which that is announced (RFC 5227, 2.3, does so twice)."""
MOST = 4096
"""How many neighbours are remembered for one provider network."""
TICK = 0.5

Known = Mapping[str, Mapping[tuple[int, int], int]]
"""Neighbours by provider network: (32 or 128, address) -> MAC."""


class Sender(Protocol):
    """What frames are sent by."""

    def inject(self, frames: Iterable[Sent]) -> None:
        """Send frames out of OpenFlow ports."""


class Served(msgspec.Struct, frozen=True):
    """An address outside that this host serves: at ``mac``, on ``segment``."""

    segment: int
    bits: int
    address: int
    mac: int

    @staticmethod
    def of(one: Translation) -> Served:
        """An address as the compiler has it."""
        return Served(one.uplink.segment, one.bits, one.address, one.mac)


class _Kept(msgspec.Struct):
    """The file: by provider network the (bits, address, MAC) of neighbours, numbers in hexadecimal."""

    neighbours: dict[str, list[tuple[int, str, str]]] = {}


class Surroundings:
    """Keeps the neighbours of ``path``, asks and announces by ``sender``, calls ``changed()`` for other neighbours.

    What was known before a restart counts as just heard, so that nothing changes by it.
    """

    def __init__(self, sender: Sender, path: Path, changed: Callable[[], None]) -> None:
        self._sender, self._path, self._changed = sender, path, changed
        self._lock = threading.Condition()  # guards all that follows
        self._known: dict[str, dict[tuple[int, int], int]] = _load(path)
        now = time.monotonic()
        self._heard = {(name, key): now for name, known in self._known.items() for key in known}
        self._uplinks: Mapping[str, Uplink] = {}
        self._served: frozenset[Served] = frozenset()
        self._announce: dict[Served, tuple[float, int]] = {}
        self._asked = float("-inf")
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="surroundings", daemon=True)

    def start(self) -> None:
        """Begin to ask and announce."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        with self._lock:
            self._stopping = True
            self._lock.notify_all()
        self._thread.join()

    @property
    def known(self) -> Known:
        """The neighbours as they are now."""
        with self._lock:
            return {name: dict(known) for name, known in self._known.items()}

    def serve(self, uplinks: Mapping[str, Uplink], addresses: Iterable[Translation]) -> None:
        """This host has these provider networks, and serves these addresses there; what is new is announced."""
        served = frozenset(map(Served.of, addresses))
        with self._lock:
            now = time.monotonic()
            for one in served - self._served:
                self._announce[one] = (now, 0)
            self._announce = {one: due for one, due in self._announce.items() if one in served}
            if {n: u.segment for n, u in uplinks.items()} != {n: u.segment for n, u in self._uplinks.items()}:
                self._asked = float("-inf")
            if served - self._served:
                self._asked = float("-inf")
            self._uplinks, self._served = dict(uplinks), served
            self._lock.notify_all()

    def take(self, heard: Heard) -> None:
        """Somebody has said who it is; what could not be a neighbour is left out."""
        bits = 8 * len(heard.ip)
        address, mac = int.from_bytes(heard.ip, "big"), int.from_bytes(heard.mac, "big")
        with self._lock:
            name = next((n for n, up in self._uplinks.items() if up.segment == heard.segment), None)
            if name is None or not _within(self._uplinks[name], bits, address) or self._ours(bits, address):
                return
            known = self._known.setdefault(name, {})
            if (bits, address) not in known and len(known) >= MOST:
                return
            self._heard[name, (bits, address)] = time.monotonic()
            if known.get((bits, address)) == mac:
                return
            known[bits, address] = mac
        self._save()
        self._changed()

    def _ours(self, bits: int, address: int) -> bool:
        return any((one.bits, one.address) == (bits, address) for one in self._served)

    def _run(self) -> None:
        while True:
            with self._lock:
                self._lock.wait(TICK if self._served else None)
                if self._stopping:
                    return
                now = time.monotonic()
                frames = [*self._announcements(now), *self._questions(now)]
                lost = self._forget(now)
            if frames:
                self._sender.inject(frames)
            if lost:
                self._save()
                self._changed()

    def _announcements(self, now: float) -> list[Sent]:
        frames = []
        for one, (since, count) in list(self._announce.items()):
            if now < since + ANNOUNCE[count]:
                continue
            frames.append(out(one.segment, neighbour.announcement(_mac(one.mac), _ip(one.bits, one.address))))
            if count + 1 < len(ANNOUNCE):
                self._announce[one] = (since, count + 1)
            else:
                del self._announce[one]
        return frames

    def _questions(self, now: float) -> list[Sent]:
        """For each neighbour, and each provider's gateway, a question from an address that this host serves there."""
        if now < self._asked + REFRESH:
            return []
        self._asked = now
        frames = []
        for name, up in self._uplinks.items():
            asked = {(one.bits, one.gateway) for one in up.ranges if one.gateway} | self._known.get(name, {}).keys()
            for bits in (32, 128):
                here = (one for one in self._served if (one.segment, one.bits) == (up.segment, bits))
                own = min(here, key=lambda one: one.address, default=None)
                if own is not None:
                    for address in sorted(address for width, address in asked if width == bits):
                        frames.append(out(up.segment, _question(own, address)))
        return frames

    def _forget(self, now: float) -> bool:
        """Drop who has been silent for long, where this host could have heard it; whether there was anybody."""
        segments = {one.segment for one in self._served}
        old = [
            (name, key)
            for (name, key), when in self._heard.items()
            if now > when + FORGET and name in self._uplinks and self._uplinks[name].segment in segments
        ]
        for name, key in old:
            del self._heard[name, key], self._known[name][key]
        return bool(old)

    def _save(self) -> None:
        rows = {
            name: [(bits, f"{ip:x}", f"{mac:x}") for (bits, ip), mac in known.items()]
            for name, known in self.known.items()
        }
        kept = _Kept(rows)
        try:
            replace_file(self._path, msgspec.json.encode(kept))
        except OSError as exc:
            log.error("cannot write %s: %s", self._path, exc.strerror or exc)


def _load(path: Path) -> dict[str, dict[tuple[int, int], int]]:
    """What the file has; nothing of a file that cannot be read, since who is around is heard again."""
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=_Kept)
        return {
            name: {(bits, int(ip, 16)): int(mac, 16) for bits, ip, mac in known}
            for name, known in kept.neighbours.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, msgspec.MsgspecError) as exc:
        log.warning("%s is not used: %s", path, exc)
        return {}


def _within(up: Uplink, bits: int, address: int) -> bool:
    return any(
        one.bits == bits and address >> (bits - one.length) == one.ip >> (bits - one.length) for one in up.ranges
    )


def _question(own: Served, address: int) -> bytes:
    return neighbour.question(_mac(own.mac), _ip(own.bits, own.address), _ip(own.bits, address))


def _mac(mac: int) -> bytes:
    return mac.to_bytes(6, "big")


def _ip(bits: int, address: int) -> bytes:
    return address.to_bytes(bits // 8, "big")
