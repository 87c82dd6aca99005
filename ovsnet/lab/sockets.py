"""Sockets in many namespaces at once: one process hears every frame of every workload and of the underlay."""

from __future__ import annotations

import contextlib
import resource
import selectors
import socket
from collections.abc import Iterator

from ovsnet.lab import frames, netns
from ovsnet.lab.topology import Topology
from ovsnet.lab.workload import INTERFACE

UNDERLAY = ""
"""The place that stands for the underlay beside the names of ports."""

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_IGNORE_OUTGOING = 23
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20


class Sockets(contextlib.ExitStack):
    """For every workload a packet socket on eth0 (hears all that arrives, sends frames), and sockets for echoes."""

    def __init__(self, topology: Topology) -> None:
        super().__init__()
        self.topology = topology
        self._packet: dict[str, socket.socket] = {}
        self._echo: dict[tuple[str, int], socket.socket] = {}
        self._selector = self.enter_context(selectors.DefaultSelector())
        _allow_files(6 * len(topology.workloads) + 256)
        try:
            for name, workload in topology.workloads.items():
                with netns.inside(workload.netns):
                    self._open_workload(name)
            with netns.inside(topology.underlay):
                for host in topology.hosts.values():
                    self._hear(UNDERLAY, self._packet_socket(host.uplink))
        except BaseException:
            self.close()
            raise

    def _packet_socket(self, interface: str) -> socket.socket:
        made = self.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        made.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        made.bind((interface, _ETH_P_ALL))
        made.setblocking(False)
        return made

    def _hear(self, place: str, made: socket.socket) -> None:
        self._selector.register(made, selectors.EVENT_READ, place)

    def _open_workload(self, name: str) -> None:
        self._packet[name] = self._packet_socket(INTERFACE)
        self._hear(name, self._packet[name])
        # Somebody listens on the test port, so the workload's kernel answers no probe with "port unreachable".
        listener = self.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_DGRAM))
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("::", frames.TEST_PORT))
        for version, family, protocol in (
            (4, socket.AF_INET, socket.IPPROTO_ICMP),
            (6, socket.AF_INET6, socket.IPPROTO_ICMPV6),
        ):
            self._echo[name, version] = self.enter_context(socket.socket(family, socket.SOCK_RAW, protocol))

    def send(self, place: str, frame: bytes) -> None:
        """Send a frame as it is from a workload's eth0. What a full queue swallows is missed at the receiver."""
        with contextlib.suppress(OSError):
            self._packet[place].send(frame)

    def echo(self, place: str, src: str, dst: str, payload: bytes) -> None:
        """Send an echo request through the workload's own IP stack, which resolves the address first."""
        version = 6 if ":" in dst else 4
        made = self._echo[place, version]
        with contextlib.suppress(OSError):
            made.sendto(frames.echo_message(src, dst, 1, payload), (dst, 0))

    def arrivals(self, timeout: float) -> Iterator[tuple[str, bytes]]:
        """What has arrived since the last call, or else the first that arrives within ``timeout`` seconds.

        Yields (place, frame); on the underlay every frame once, where it enters from a host.
        """
        for key, _ in self._selector.select(timeout):
            made, place = key.fileobj, key.data
            assert isinstance(made, socket.socket)
            while True:
                try:
                    frame = made.recv(65535)
                except BlockingIOError:
                    break
                except OSError:  # The interface went away under us.
                    break
                yield place, frame


def _allow_files(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count)
    if hard != resource.RLIM_INFINITY and wanted > hard:
        hard = wanted
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
