"""What the agent and its switch process speak: frames of a msgpack list and raw bytes over a socket pair."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from typing_extensions import Buffer

STUCK = 30
"""Seconds without progress after which one takes the other side for dead."""

_FRAME = struct.Struct("!IQ")


class Channel:
    """Frames over one end of the socket pair; any thread writes, one reads."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        sock.setblocking(True)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STUCK, 0))

    def write(self, head: list[Any], payload: Buffer = b"") -> None:
        """Send a frame. Raises OSError when the other side is gone or takes nothing for STUCK seconds."""
        view = memoryview(payload).cast("B")
        packed = msgspec.msgpack.encode(head)
        with self._lock:
            self._sock.sendall(_FRAME.pack(len(packed), len(view)) + packed)
            if view:
                self._sock.sendall(view)

    def read(self) -> tuple[list[Any], bytearray] | None:
        """The next frame; ``None`` when the other side is gone."""
        prefix = self._exactly(_FRAME.size)
        if prefix is None:
            return None
        head_size, payload_size = _FRAME.unpack(prefix)
        head, payload = self._exactly(head_size), self._exactly(payload_size)
        if head is None or payload is None:
            return None
        return msgspec.msgpack.decode(head, type=list), payload

    def _exactly(self, size: int) -> bytearray | None:
        data = bytearray(size)
        view, filled = memoryview(data), 0
        with contextlib.suppress(OSError):
            while filled < size:
                received = self._sock.recv_into(view[filled:])
                if not received:
                    return None
                filled += received
            return data
        return None

    def hang_up(self) -> None:
        """End the conversation; both readers wake up."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close our end; for the reader, so that nobody reads from a descriptor that is another's by now."""
        with self._lock:
            self._sock.close()
