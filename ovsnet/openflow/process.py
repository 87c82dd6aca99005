"""The OpenFlow app in a process of its own: barriers and echoes go on while the caller's interpreter is busy.

The parent and its child speak over a socket pair, in frames of a msgpack list and raw bytes. The child lives as long as
the parent holds the other end, however that dies; the parent starts a new child when one dies.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ovsnet.openflow import wire
from ovsnet.openflow.api import ALL_TABLES, BundleResult, PayloadMaker, Refusal, Timing
from ovsnet.openflow.channel import Channel
from ovsnet.openflow.connection import parse_target
from ovsnet.openflow.errors import SwitchDisconnected, SwitchError, SwitchTimeout
from ovsnet.openflow.jobs import Jobs
from ovsnet.openflow.notices import Notice
from ovsnet.openflow.outside import Heard, Sent

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ovsnet.responders.lease import Lease

LOG = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds that the parent waits beyond a call's timeout, which the child keeps."""
RESTART_MIN, RESTART_MAX = 0.05, 2.0

_KINDS = {kind.__name__: kind for kind in (SwitchError, SwitchDisconnected, SwitchTimeout)}


class _Call:
    """A request to the child that waits for its answer."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self.value: Any = None
        self.payload: bytes | bytearray = b""
        self.failure: SwitchError | None = None


class SwitchProcess:
    """``api.SwitchPort`` by a child process, which is started at once and whenever it died.

    Raises ValueError for a malformed target. Calls also raise SwitchError when the child dies.
    """

    def __init__(self, target: str, timing: Timing | None = None) -> None:
        parse_target(target)
        self._target = target
        self._timing = timing or Timing()
        self._changed = threading.Condition()  # guards all that follows
        self._calls: dict[int, _Call] = {}
        self._channel: Channel | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._connected = False
        self._generation = 0
        self._last_error = ""
        self._stopping = False
        self._connect_callbacks: list[Callable[[int], None]] = []
        self._disconnect_callbacks: list[Callable[[str], None]] = []
        self._notice_callback: Callable[[Notice | Heard], None] | None = None
        self._leases: dict[int, Lease] = {}
        self._ids = itertools.count(1)
        self._bundle_xids = wire.Xids(wire.Xids.BUNDLES)
        self._bundle_ids = wire.Xids((1, wire.ANY))
        self._jobs = Jobs(f"callbacks {target}")
        self._thread = threading.Thread(target=self._supervise, name=f"switch process {target}", daemon=True)
        self._thread.start()

    @property
    def target(self) -> str:
        """See SwitchPort."""
        return self._target

    @property
    def connected(self) -> bool:
        """See SwitchPort."""
        return self._connected

    @property
    def generation(self) -> int:
        """See SwitchPort; it goes on rising when the child is replaced."""
        return self._generation

    @property
    def last_error(self) -> str:
        """See SwitchPort."""
        return self._last_error

    @property
    def pid(self) -> int | None:
        """The child's process id, if it runs."""
        child = self._child
        return child.pid if child is not None and child.poll() is None else None

    def wait_connected(self, timeout: float) -> None:
        """See SwitchPort."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self._connected:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise SwitchTimeout(f"{self.target}: {self._last_error or 'not connected yet'}")

    def on_connect(self, callback: Callable[[int], None]) -> None:
        """See SwitchPort."""
        with self._changed:
            self._connect_callbacks.append(callback)
            if self._connected:
                self._post(callback, self._generation)

    def on_disconnect(self, callback: Callable[[str], None]) -> None:
        """See SwitchPort."""
        with self._changed:
            self._disconnect_callbacks.append(callback)

    def apply_bundle(self, make_payload: PayloadMaker, count: int, timeout: float = 60.0) -> BundleResult:
        """See SwitchPort."""
        bundle_id, first_xid = self._bundle_ids.take(), self._bundle_xids.take(max(count, 1))
        parts = make_payload(bundle_id, first_xid)
        call = self._ask(timeout, "bundle", bundle_id, first_xid, count, timeout, parts=parts)
        committed, refusals = call.value
        return BundleResult(committed, [Refusal(*fields) for fields in refusals])

    def barrier(self, timeout: float = 10.0) -> None:
        """See SwitchPort."""
        self._ask(timeout, "barrier", timeout)

    def dump_flows(
        self, cookie: int = 0, cookie_mask: int = 0, table: int = ALL_TABLES, timeout: float = 60.0
    ) -> list[bytes]:
        """See SwitchPort."""
        return [bytes(self._ask(timeout, "dump", cookie, cookie_mask, table, timeout).payload)]

    def multipart(self, kind: int, body: bytes = b"", timeout: float = 10.0) -> list[bytes]:
        """See SwitchPort."""
        bodies: list[bytes] = self._ask(timeout, "multipart", kind, body, timeout).value
        return bodies

    def order(self, kind: int, bodies: Sequence[bytes], timeout: float = 10.0) -> None:
        """See SwitchPort."""
        self._ask(timeout, "order", kind, list(bodies), timeout)

    def on_notice(self, callback: Callable[[Notice | Heard], None]) -> None:
        """See SwitchPort; the child answers by itself. There is one callback, the first."""
        with self._changed:
            if self._notice_callback is None:
                self._notice_callback = callback
            channel = self._channel
        if channel is not None:
            _want_notices(channel)

    def tell(self, leases: Mapping[int, Lease | None]) -> None:
        """See SwitchPort; a new child is told all of them."""
        with self._changed:
            for ofport, lease in leases.items():
                if lease is None:
                    self._leases.pop(ofport, None)
                else:
                    self._leases[ofport] = lease
            channel = self._channel
            if channel is not None:
                _tell_leases(channel, leases)

    def inject(self, frames: Iterable[Sent]) -> None:
        """See SwitchPort."""
        channel = self._channel
        if channel is not None:
            with contextlib.suppress(OSError):  # the child is gone, and so are the frames
                channel.write(["inject", 0, list(frames)])

    def flush_zones(self, zones: Sequence[int], timeout: float = 60.0) -> None:
        """See SwitchPort."""
        self._ask(timeout, "flush", list(zones), timeout)

    def enforced(self, revisions: Mapping[str, int]) -> None:
        """See SwitchPort. The child may be starting: then nobody is there to hear it."""
        with contextlib.suppress(SwitchError):
            self._ask(GRACE, "enforced", dict(revisions))

    def counters(self) -> dict[str, int]:
        """See SwitchPort; they begin anew with each child."""
        counts: dict[str, int] = self._ask(GRACE, "counters").value
        return counts

    def stop(self) -> None:
        """See SwitchPort."""
        with self._changed:
            self._stopping = True
            channel = self._channel
            self._changed.notify_all()
        if channel is not None:
            channel.hang_up()
        self._thread.join()
        self._jobs.stop()

    def _ask(self, timeout: float, what: str, *arguments: Any, parts: Iterable[Buffer] | None = None) -> _Call:
        call, number = _Call(), next(self._ids)
        with self._changed:
            channel, child = self._channel, self._child
            if channel is None or child is None:
                raise SwitchDisconnected(f"{self.target}: {self._last_error or 'its process is starting'}")
            self._calls[number] = call
        try:
            try:
                channel.write([what, number, *arguments])
                if parts is not None:
                    _write_parts(channel, number, parts)
            except OSError as error:
                child.kill()  # a frame may be half sent: only a new child can go on
                raise SwitchError(f"{self.target}: its process takes no requests: {error.strerror or error}") from None
            if not call.event.wait(timeout + GRACE):
                raise SwitchTimeout(f"{self.target}: its process did not answer in time")
        finally:
            with self._changed:
                self._calls.pop(number, None)
        if call.failure is not None:
            raise call.failure
        return call

    def _post(self, callback: Callable[[Any], None], argument: Any) -> None:
        self._jobs.post(lambda: callback(argument))

    def _supervise(self) -> None:
        pause = RESTART_MIN
        while not self._stopping:
            born = time.monotonic()
            reason = self._one_child()
            with self._changed:
                if not self._stopping:
                    LOG.warning("%s: %s", self.target, reason)
                    pause = RESTART_MIN if time.monotonic() - born > RESTART_MAX * 2 else min(pause * 2, RESTART_MAX)
                    self._changed.wait_for(lambda: self._stopping, pause)

    def _one_child(self) -> str:
        """One child from start to end; returns how it ended."""
        ours, theirs = socket.socketpair()
        channel = Channel(ours)
        try:
            with theirs:
                child = _spawn(theirs, self.target, self._timing)
        except OSError as error:
            channel.close()
            self._last_error = f"its process cannot be started: {error.strerror or error}"
            return self._last_error
        with self._changed:
            self._child = child
            self._channel = None if self._stopping else channel
            wanted = self._notice_callback is not None
            _tell_leases(channel, self._leases)
        if wanted:
            _want_notices(channel)
        while not self._stopping and (frame := channel.read()) is not None:
            self._hear(*frame)
        channel.hang_up()
        channel.close()
        try:
            child.wait(1.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reason = f"its process ended with status {child.returncode}"
        with self._changed:
            self._child = self._channel = None
            calls = list(self._calls.values())
        for call in calls:
            call.failure = SwitchError(f"{self.target}: {reason}")
            call.event.set()
        self._down("closed by us" if self._stopping else reason)
        return reason

    def _hear(self, head: list[Any], payload: bytearray) -> None:
        kind, *rest = head
        if kind == "up":
            with self._changed:
                self._connected = True
                self._generation += 1
                self._last_error = ""
                self._changed.notify_all()
                for callback in self._connect_callbacks:
                    self._post(callback, self._generation)
        elif kind == "down":
            self._down(rest[0])
        elif kind == "trouble":
            self._last_error = rest[0]
        elif kind == "notice":
            if self._notice_callback is not None:
                self._post(self._notice_callback, msgspec.convert(rest[0], Notice | Heard))
        else:
            with self._changed:
                call = self._calls.get(rest[0])
            if call is None:
                return
            if kind == "failed":
                call.failure = _KINDS[rest[1]](rest[2])
            else:
                call.value, call.payload = rest[1], payload
            call.event.set()

    def _down(self, reason: str) -> None:
        with self._changed:
            self._last_error = reason
            if self._connected:
                self._connected = False
                for callback in self._disconnect_callbacks:
                    self._post(callback, reason)


def _write_parts(channel: Channel, number: int, parts: Iterable[Buffer]) -> None:
    """Send the parts of a request's payload, each while the next one is made, and say how it ends."""
    whole = False
    try:
        for part in parts:
            channel.write(["part", number, None], part)
        whole = True
    finally:
        channel.write(["part", number, whole])


def _tell_leases(channel: Channel, leases: Mapping[int, Lease | None]) -> None:
    with contextlib.suppress(OSError):  # the child is gone; the next one is told when it starts
        channel.write(["leases", 0, list(leases.items())])


def _want_notices(channel: Channel) -> None:
    with contextlib.suppress(OSError):  # the child is gone; the next one is asked when it starts
        channel.write(["notices", 0])


def _spawn(theirs: socket.socket, target: str, timing: Timing) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).parents[2])
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    fd = theirs.fileno()
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-m", "ovsnet.openflow.child"),
            *("--fd", str(fd), "--target", target, "--timing", msgspec.json.encode(timing).decode()),
        ],
        pass_fds=[fd],
        stdin=subprocess.DEVNULL,
        env=env,
    )
