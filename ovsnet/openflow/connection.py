"""A lasting OpenFlow 1.4 connection to one switch: dialled, probed and dialled again by one thread.

The thread never parses more than headers and never blocks on anything but its selector, so that echo requests are
answered and sent whatever else the process does. os-ken's own connection layer is not used (it misses a dead peer,
leaks threads on reconnects and gives up sends by total time).
"""

from __future__ import annotations

import contextlib
import logging
import selectors
import socket
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from ovsnet.openflow import wire
from ovsnet.openflow.api import Timing
from ovsnet.openflow.errors import SwitchDisconnected

if TYPE_CHECKING:
    from typing_extensions import Buffer

LOG = logging.getLogger(__name__)

RECEIVE_SIZE = 1 << 18


class Lost(Exception):
    """The present connection cannot go on; the text says why."""


class Session:
    """One connection's life: its socket, what is yet to be sent, and what the handshake told."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.open = True
        self.up = False
        self.features = b""
        self.port_desc: list[bytes] = []
        self.incoming = bytearray()
        self.outgoing: deque[memoryview] = deque()
        self.outgoing_bytes = 0
        self.born = self.last_progress = time.monotonic()
        self.probe_sent: float | None = None
        self.ports_xid = 0

    @property
    def datapath_id(self) -> int:
        """The 64-bit datapath id from FEATURES_REPLY."""
        return int.from_bytes(self.features[8:16], "big")


class Listener(Protocol):
    """Who owns a connection. All calls come on its thread and must return at once."""

    def session_up(self, session: Session) -> None:
        """The handshake is done."""

    def session_down(self, session: Session, reason: str) -> None:
        """A session that was up has ended."""

    def trouble(self, reason: str) -> None:
        """There is no connection, for a reason other than before."""

    def received(self, session: Session, kind: int, xid: int, raw: bytes) -> None:
        """A message, other than an echo, of a session that is up."""


def parse_target(target: str) -> tuple[str, str, int]:
    """``unix:PATH`` or ``tcp:HOST:PORT`` as (family, path or host, port). Raises ValueError for anything else."""
    family, _, rest = target.partition(":")
    if family == "unix" and rest:
        if len(rest.encode()) > 107:
            raise ValueError(f"{rest}: a unix socket's path has at most 107 bytes; use a shorter run directory")
        return family, rest, 0
    host, _, port = rest.rpartition(":")
    if family == "tcp" and host and port.isdecimal() and 0 < int(port) < 65536:
        return family, host.strip("[]"), int(port)
    raise ValueError(f"{target!r} is no OpenFlow target: write unix:PATH or tcp:HOST:PORT")


def dial(target: str, timeout: float) -> socket.socket:
    """A connected, non-blocking socket. Raises OSError; waits at most ``timeout`` seconds."""
    family, where, port = parse_target(target)
    if family == "tcp":
        sock = socket.create_connection((where, port), timeout)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        return sock
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(where)
    except BaseException:
        sock.close()
        raise
    return sock


class Connection:
    """Keeps a session with ``target`` while it runs; anybody may ``send``, the listener hears what comes.

    Raises ValueError for a malformed target.
    """

    def __init__(self, target: str, listener: Listener, timing: Timing | None = None) -> None:
        parse_target(target)
        self.target = target
        self.timing = timing or Timing()
        self.counters: Counter[str] = Counter()
        self.last_error = ""
        self.xids = wire.Xids(wire.Xids.CONTROL)
        self._listener = listener
        self._lock = threading.Lock()  # guards _session, its socket's life and what it is yet to send
        self._session: Session | None = None
        self._patience: list[float] = []
        self._stopping = False
        self._selector = selectors.DefaultSelector()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name=f"openflow {target}", daemon=True)

    # ---- for any thread ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to dial."""
        self._thread.start()

    def stop(self) -> None:
        """End the session and the thread; the listener hears of the session's end."""
        self._stopping = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        for sock in (self._wake_in, self._wake_out):
            sock.close()
        self._selector.close()

    @property
    def session(self) -> Session | None:
        """The session that is up, if any."""
        session = self._session
        return session if session is not None and session.up else None

    def send(self, session: Session, data: Buffer) -> None:
        """Send complete messages on a session; what the socket does not take at once, the thread sends.

        The buffer must not change until it is sent. Raises SwitchDisconnected when the session has ended.
        """
        view = memoryview(data).cast("B")
        with self._lock:
            if not session.open:
                raise SwitchDisconnected(f"{self.target}: {self.last_error or 'not connected'}")
            if not session.outgoing:
                view = view[_send_some(session, view) :]
            if not view:
                return
            session.outgoing.append(view)
            session.outgoing_bytes += len(view)
        self._wake()

    def drop(self, session: Session) -> None:
        """Cut a session; its thread notices at once and dials again."""
        with self._lock, contextlib.suppress(OSError):
            if session.open:
                session.sock.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def busy(self, messages: int) -> Iterator[None]:
        """While inside, the switch may be silent for longer: it works for us, on so many messages of a bundle.

        A dump needs no such patience: its first flows come at once, and each part that comes is a sign of life.
        """
        extra = messages * self.timing.busy_per_message
        patience = min(self.timing.busy_timeout, self.timing.probe_timeout + extra)
        with self._lock:
            self._patience.append(patience)
        try:
            yield
        finally:
            with self._lock:
                self._patience.remove(patience)
            self._wake()  # its patience is shorter again

    def _wake(self) -> None:
        with contextlib.suppress(OSError):  # full: it will wake anyway; closed: nobody is left to wake
            self._wake_out.send(b"w")

    # ---- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        pause = self.timing.backoff_min
        while not self._stopping:
            try:
                session = Session(dial(self.target, self.timing.backoff_max))
            except OSError as error:
                self._note(f"cannot connect: {error.strerror or error}")
            else:
                if self._live(session):
                    pause = self.timing.backoff_min
            if not self._stopping:
                self._pause(pause)
                pause = min(pause * 2, self.timing.backoff_max)

    def _note(self, reason: str) -> None:
        if reason == self.last_error:
            return
        LOG.info("%s: %s", self.target, reason)
        self.last_error = reason
        self._listener.trouble(reason)

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopping and (left := end - time.monotonic()) > 0:
            if self._selector.select(left):
                self._drain_wakes()

    def _live(self, session: Session) -> bool:
        """One session from HELLO to its end; returns whether it came up."""
        with self._lock:
            self._session = session
        self._selector.register(session.sock, selectors.EVENT_READ)
        reason = "connection closed"
        try:
            self.send(session, wire.hello(self.xids.take()))
            self._serve(session)
        except (Lost, SwitchDisconnected) as error:
            reason = str(error)
        except OSError as error:
            reason = f"connection broken: {error.strerror or error}"
        except Exception as error:  # whatever a peer sends, the thread goes on to the next connection
            LOG.exception("%s: connection given up", self.target)
            reason = f"cannot handle what the switch sent: {error}"
        finally:
            self._selector.unregister(session.sock)
            self._note(reason)
            with self._lock:  # no sender may hold a descriptor that the system gives to another socket
                session.open = False
                self._session = None
                session.outgoing.clear()
                session.sock.close()
        if session.up:
            self.counters["disconnects"] += 1
            self._listener.session_down(session, reason)
        return session.up

    def _serve(self, session: Session) -> None:
        while True:
            wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if session.outgoing else 0)
            if self._selector.get_key(session.sock).events != wanted:
                self._selector.modify(session.sock, wanted)
            ready = self._selector.select(max(0.0, self._deadline(session) - time.monotonic()))
            for key, events in ready:
                if key.fileobj is self._wake_in:
                    self._drain_wakes()
                    continue
                if events & selectors.EVENT_READ:
                    self._read(session)
                if events & selectors.EVENT_WRITE:
                    self._flush(session)
            if self._stopping:
                raise Lost("closed by us")
            self._check_life(session)

    def _drain_wakes(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake_in.recv(4096):
                pass

    def _read(self, session: Session) -> None:
        try:
            data = session.sock.recv(RECEIVE_SIZE)
        except BlockingIOError:
            return
        if not data:
            raise Lost("the switch closed the connection")
        session.last_progress = time.monotonic()
        session.probe_sent = None
        incoming = session.incoming
        incoming += data
        offset, end = 0, len(incoming)
        while end - offset >= wire.HEADER.size:
            _, kind, length, xid = wire.HEADER.unpack_from(incoming, offset)
            if length < wire.HEADER.size:
                raise Lost("the switch sent a message shorter than its header")
            if end - offset < length:
                break
            self._dispatch(session, kind, xid, bytes(incoming[offset : offset + length]))
            offset += length
        del incoming[:offset]

    def _flush(self, session: Session) -> None:
        with self._lock:
            while session.outgoing:
                view = session.outgoing[0]
                sent = _send_some(session, view)
                session.outgoing_bytes -= sent
                if sent:
                    session.last_progress = time.monotonic()
                if sent < len(view):
                    session.outgoing[0] = view[sent:]
                    return
                session.outgoing.popleft()

    # ---- liveness ------------------------------------------------------------------------------------------------

    def _deadline(self, session: Session) -> float:
        """When there is something to do although nothing happens."""
        if not session.up:
            return session.born + self.timing.handshake_timeout
        if session.probe_sent is None:
            return session.last_progress + self.timing.probe_idle
        return self._death(session, session.probe_sent)

    def _death(self, session: Session, probe_sent: float) -> float:
        with self._lock:
            patience = max(self._patience, default=self.timing.probe_timeout)
        # Measured from the probe too: a process that did not run for a while owes the peer the time to answer.
        return max(session.last_progress, probe_sent - self.timing.probe_idle) + patience

    def _check_life(self, session: Session) -> None:
        now = time.monotonic()
        if now < self._deadline(session) or self._readable(session):
            return
        if not session.up:
            raise Lost("no answer to the handshake")
        if session.probe_sent is None:
            session.probe_sent = now
            self.counters["probes"] += 1
            self.send(session, wire.message(wire.ECHO_REQUEST, self.xids.take()))
        else:
            raise Lost(f"no answer for {now - session.last_progress:.1f} s")

    def _readable(self, session: Session) -> bool:
        return any(
            key.fileobj is session.sock and events & selectors.EVENT_READ for key, events in self._selector.select(0)
        )

    # ---- messages ------------------------------------------------------------------------------------------------

    def _dispatch(self, session: Session, kind: int, xid: int, raw: bytes) -> None:
        if kind == wire.ECHO_REQUEST:
            self.send(session, wire.message(wire.ECHO_REPLY, xid, raw[8:]))
        elif kind == wire.ECHO_REPLY and xid >= wire.Xids.CONTROL[0]:
            self.counters["probe_replies"] += 1
        elif session.up:
            self._listener.received(session, kind, xid, raw)
        else:
            self._shake_hands(session, kind, xid, raw)

    def _shake_hands(self, session: Session, kind: int, xid: int, raw: bytes) -> None:
        if kind == wire.HELLO:
            if not wire.hello_offers_us(raw):
                raise Lost("the switch does not speak OpenFlow 1.4: add OpenFlow14 to the bridge's protocols")
            session.ports_xid = self.xids.take()
            self.send(session, wire.message(wire.FEATURES_REQUEST, self.xids.take()))
            self.send(session, wire.set_config(self.xids.take()))
            self.send(session, wire.port_desc_request(session.ports_xid))
        elif kind == wire.FEATURES_REPLY:
            session.features = raw
        elif kind == wire.MULTIPART_REPLY and xid == session.ports_xid:
            session.port_desc.append(raw)
            if session.features and not wire.multipart_flags(raw) & wire.MP_MORE:
                self._come_up(session)
        elif kind == wire.ERROR:
            error, code, data = wire.error_fields(raw)
            text = data.decode(errors="replace") if error == wire.HELLO_FAILED else f"type {error}, code {code}"
            raise Lost(f"the switch refused the handshake: {text}")

    def _come_up(self, session: Session) -> None:
        session.up = True
        self.counters["connects"] += 1
        self.last_error = ""
        LOG.info("%s: connected, datapath %016x", self.target, session.datapath_id)
        self._listener.session_up(session)


def _send_some(session: Session, view: memoryview) -> int:
    try:
        return session.sock.send(view)
    except BlockingIOError:
        return 0
    except OSError:
        # The reading side meets the same fault and says so; whatever the switch still sent is read first.
        return len(view)
