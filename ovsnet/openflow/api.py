"""The one interface to a switch's flow tables, whether its app runs in this process or in a child."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from ovsnet.openflow.notices import Notice
    from ovsnet.openflow.outside import Heard, Sent
    from ovsnet.responders.lease import Lease

ALL_TABLES = 0xFF
"""OFPTT_ALL: every table."""


@dataclass(frozen=True, slots=True)
class Timing:
    """When a connection is probed, given up and tried again; all in seconds."""

    probe_idle: float = 0.3
    """Silence after which an echo request is sent."""
    probe_timeout: float = 0.9
    """Silence after which the peer is dead, an echo request being unanswered."""
    busy_timeout: float = 30.0
    """The most while a bundle of ours is outstanding: a vswitchd that works on it answers nothing else."""
    busy_per_message: float = 0.0005
    """What each message of a bundle adds to ``probe_timeout``; some 50 times what an idle machine needs."""
    handshake_timeout: float = 5.0
    """From the connect to the end of the handshake."""
    backoff_min: float = 0.05
    """The first pause before a new attempt; it doubles with each failed one."""
    backoff_max: float = 1.0
    """The longest pause between attempts."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """One OpenFlow error that answers a bundle.

    ``index`` is the position of the refused message in the payload; ``None`` when no message is to blame, but the
    bundle as a whole was refused (as when it stood idle for longer than the switch allows): it may be tried again.
    ``type`` and ``code`` are OpenFlow's (OpenFlow 1.4, 7.5.4); ``data`` begins with the refused message.
    """

    index: int | None
    type: int
    code: int
    data: bytes


@dataclass(frozen=True, slots=True)
class BundleResult:
    """The outcome of a bundle: either all of it holds (``committed``), or none of it, and ``refusals`` says why."""

    committed: bool
    refusals: list[Refusal]


PayloadMaker: TypeAlias = "Callable[[int, int], Iterable[Buffer]]"
"""``(bundle_id, first_xid) -> parts``: runs of complete OFPT_BUNDLE_ADD_MESSAGE messages, flags ORDERED | ATOMIC.

Some message carries ``first_xid + i`` for each ``i`` below the count, in its own header and in that of the message
inside. Each part is sent while the next one is made; none must change until ``apply_bundle`` has returned.
"""


class SwitchPort(Protocol):
    """A bridge's OpenFlow connection: kept up in the background, asked from any thread.

    ``OvsnetApp`` (this process) and ``SwitchProcess`` (a child process) both offer it. Every call that asks the switch
    raises SwitchDisconnected without a connection or when it breaks, SwitchTimeout after ``timeout`` seconds, and
    SwitchError when the switch answers with an error.
    """

    @property
    def target(self) -> str:
        """What it is connected to: ``unix:PATH`` or ``tcp:HOST:PORT``."""

    @property
    def connected(self) -> bool:
        """Whether the handshake of the present connection is done."""

    @property
    def generation(self) -> int:
        """How many connections there have been; rises by one with each (re)connect, 0 before the first."""

    @property
    def last_error(self) -> str:
        """Why there is no connection, in words; empty when there is nothing to say."""

    def wait_connected(self, timeout: float) -> None:
        """Wait for a connection. Raises SwitchTimeout with the last reason for not having one."""

    def on_connect(self, callback: Callable[[int], None]) -> None:
        """Call ``callback(generation)`` after each connect, on a thread for that; at once if there is a connection."""

    def on_disconnect(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` after each loss of a connection, on the same thread as ``on_connect``'s."""

    def apply_bundle(self, make_payload: PayloadMaker, count: int, timeout: float = 60.0) -> BundleResult:
        """Apply ``count`` messages as one ordered, atomic bundle (OpenFlow 1.4, 6.8), and wait for a barrier.

        What making the payload raises is raised, and nothing has changed. A refusal is a result, not an exception. The
        switch names every message that it cannot read or execute; of those that only fail when they are executed (a
        full table) it names the first. After SwitchDisconnected or SwitchTimeout the bundle holds as a whole or not at
        all, and nobody knows which: read the tables back.
        """

    def barrier(self, timeout: float = 10.0) -> None:
        """Wait until the switch has processed everything that was sent before."""

    def dump_flows(
        self, cookie: int = 0, cookie_mask: int = 0, table: int = ALL_TABLES, timeout: float = 60.0
    ) -> list[bytes]:
        """The flows whose cookie is ``cookie`` under the mask: OFPMP_FLOW bodies, for ``dump.parse_flow_stats``."""

    def multipart(self, kind: int, body: bytes = b"", timeout: float = 10.0) -> list[bytes]:
        """The bodies of the answer to a multipart request (OpenFlow 1.4, 7.3.5)."""

    def order(self, kind: int, bodies: Sequence[bytes], timeout: float = 10.0) -> None:
        """Send messages of one kind that are answered only when they are refused, and wait for a barrier."""

    def on_notice(self, callback: Callable[[Notice | Heard], None]) -> None:
        """Answer what rules reject, and call ``callback`` for each packet whose rule says ``log``, and who was heard.

        Until then, copies of packets come to nobody through this connection. The callback is called on a thread for it.
        """

    def tell(self, leases: Mapping[int, Lease | None]) -> None:
        """Have ports told of their addresses from now on, by OpenFlow port; ``None``: that one is told nothing more.

        What was given before for other ports still holds, also after connections are lost. Ports are answered, and
        told of their routers, only once ``on_notice`` was called.
        """

    def inject(self, frames: Iterable[Sent]) -> None:
        """Send frames out of OpenFlow ports, past all tables; without a connection they are lost."""

    def flush_zones(self, zones: Sequence[int], timeout: float = 60.0) -> None:
        """Have the connection tracker forget all connections of these zones (0-65535), and wait until it has."""

    def enforced(self, revisions: Mapping[str, int]) -> None:
        """Tell apps beside ours that the switch now enforces these revisions, by VPC (EventEnforced)."""

    def counters(self) -> dict[str, int]:
        """Counts since the start: connects, probes, replies to them, errors and messages dropped, by name.

        Of copies of packets: ``rejected`` and ``answered`` (for a router), ``logged``, ``suppressed`` (none of them);
        of what ports are told of their addresses: ``leased``, ``refused``, ``advertised`` (asked or not).
        """

    def stop(self) -> None:
        """Close the connection and end every thread (or process) of it. Harmless when called twice."""
