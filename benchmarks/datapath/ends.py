"""The two ends of the measured connections, run as a program in a workload: nothing but the standard library.

ends.py serve PORT WORKERS
ends.py connections ADDRESS PORT WORKERS SECONDS   # prints the cycles of connect, request, response, close
ends.py peers ADDRESS PORT SOURCE...               # one cycle from each of these addresses
ends.py bytes ADDRESS PORT SECONDS                 # prints bytes a second that the other end had of one connection
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time

_CYCLE, _BULK = b"c", b"b"
_PIECE = 1 << 18
_LAST = socket.MSG_WAITALL


def serve(port: int, workers: int) -> None:
    """Answer connections in ``workers`` processes that end with this one."""
    listener = socket.create_server(("", port), backlog=1024)
    for _ in range(workers):
        if os.fork() == 0:
            _answer(listener)
    print("ready", flush=True)
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def _answer(listener: socket.socket) -> None:
    buffer = bytearray(_PIECE)
    while True:
        connection = listener.accept()[0]
        with connection:
            if connection.recv(1) == _CYCLE:
                connection.send(_CYCLE)
                continue
            total = 0
            while count := connection.recv_into(buffer):
                total += count
            connection.send(total.to_bytes(8, "big"))


def connections(address: str, port: int, workers: int, seconds: float) -> int:
    """Cycles of ``workers`` processes, each one connection after the other, in that time."""
    reader, writer = os.pipe()
    end = time.monotonic() + seconds
    for _ in range(workers):
        if os.fork() == 0:
            os.write(writer, _cycles(address, port, end).to_bytes(8, "big"))
            os._exit(0)
    return sum(int.from_bytes(os.read(reader, 8), "big") for _ in range(workers))


def _cycles(address: str, port: int, end: float) -> int:
    count = 0
    while time.monotonic() < end:
        _cycle(address, port)
        count += 1
    return count


def _cycle(address: str, port: int, source: str = "") -> None:
    with socket.create_connection((address, port), source_address=(source, 0) if source else None) as connection:
        connection.send(_CYCLE)
        connection.recv(1)
        connection.recv(1)  # the other end closes first, and has the state that waits


def bulk(address: str, port: int, seconds: float) -> float:
    """Bytes a second of one connection, by what the other end says that it has had."""
    piece = memoryview(bytes(_PIECE))
    with socket.create_connection((address, port)) as connection:
        connection.send(_BULK)
        start = time.monotonic()
        while time.monotonic() < start + seconds:
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        total = int.from_bytes(connection.recv(8, _LAST), "big")
        return total / (time.monotonic() - start)


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(int(rest[0]), int(rest[1]))
    elif what == "connections":
        print(connections(rest[0], int(rest[1]), int(rest[2]), float(rest[3])))
    elif what == "peers":
        for source in rest[2:]:
            _cycle(rest[0], int(rest[1]), source)
    else:
        print(bulk(rest[0], int(rest[1]), float(rest[2])))


if __name__ == "__main__":
    main()
