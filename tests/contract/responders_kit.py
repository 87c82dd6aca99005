"""A port in a namespace whose only neighbour is a function of frames: what real clients and the kernel make of it."""

from __future__ import annotations

import contextlib
import itertools
import os
import selectors
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from pyroute2 import IPRoute

from ovsnet.lab import netns
from tests.agent_kit import until

MAC, ROUTER_MAC = "02:00:00:00:01:01", "02:00:00:00:00:fe"
ME, ROUTER, ROUTER6 = "192.168.1.11", "192.168.1.1", "fe80::1"
MTU = 1500

_PERMANENT = 0x80
_numbers = itertools.count()


class Wire(contextlib.ExitStack):
    """A namespace with an ``eth0``, whose frames ``answer`` is asked about; ``eth0`` gets what that says.

    ``heard`` and ``said`` are the frames that came from there, and those that went there.
    """

    def __init__(self, answer: Callable[[bytes], bytes | None]) -> None:
        super().__init__()
        self.answer = answer
        self.heard: list[bytes] = []
        self.said: list[bytes] = []
        stem = f"wire-{os.getpid()}-{next(_numbers)}"
        self.port, self._switch = f"{stem}-port", f"{stem}-switch"
        with contextlib.ExitStack() as undo:
            self.directory = Path(tempfile.mkdtemp(prefix=f"{stem}-", dir="/tmp"))
            undo.callback(shutil.rmtree, self.directory)
            for name in (self.port, self._switch):
                netns.create(name, stem)
                undo.callback(netns.delete, name)
            netns.sysctl(self.port, {"ipv6/conf/default/accept_dad": "0", "ipv6/conf/default/accept_ra": "0"})
            netns.leave_to_switch(self._switch)
            netns.veth(self._switch, "tap0", self.port, "eth0", mtu=MTU, far_mac=MAC)
            with netns.inside(self._switch):
                self._socket = undo.enter_context(socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
                self._socket.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
                self._socket.bind(("tap0", 3))
            until(self._has_link_local)
            self._stop = undo.enter_context(contextlib.closing(_Bell()))
            self._thread = threading.Thread(target=self._run, name=stem)
            self._thread.start()
            undo.callback(self._thread.join)
            undo.callback(self._stop.ring)
            self.push(undo.pop_all())

    def _has_link_local(self) -> bool:
        """Whether the interface has come up as far as IPv6 needs it."""
        with self.netlink() as ip:
            return any(one.get_attr("IFA_ADDRESS").startswith("fe80") for one in ip.get_addr(family=socket.AF_INET6))

    def say(self, frame: bytes) -> None:
        """Send a frame that nothing asked for."""
        self.said.append(frame)
        self._socket.send(frame)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._stop.fd, selectors.EVENT_READ)
            while all(key.fd != self._stop.fd for key, _ in selector.select()):
                frame = self._socket.recv(65535)
                self.heard.append(frame)
                back = self.answer(frame)
                if back is not None:
                    self.say(back)

    def configure(self, *addresses: str, routers: tuple[str, ...] = (ROUTER, ROUTER6)) -> None:
        """Give eth0 its addresses (``IP/LENGTH``), default routes and its routers' MAC, so that it asks nobody."""
        with netns.inside(self.port), IPRoute() as ip:
            index = ip.link_lookup(ifname="eth0")[0]
            for router in routers:
                family = socket.AF_INET6 if ":" in router else socket.AF_INET
                ip.neigh("replace", dst=router, lladdr=ROUTER_MAC, ifindex=index, state=_PERMANENT, family=family)
        gateways = [one for one in routers if any((":" in one) == (":" in address) for address in addresses)]
        netns.configure(self.port, "eth0", addresses=addresses, gateways=gateways)

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program in the namespace; it is ended, by its id, with the wire."""
        with netns.inside(self.port), (self.directory / "output").open("ab") as output:
            started = subprocess.Popen(
                command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.callback(_end, started)
        return started

    def output(self) -> str:
        """What the programs have printed."""
        return (self.directory / "output").read_text(errors="replace")

    @contextlib.contextmanager
    def netlink(self) -> Iterator[IPRoute]:
        """Netlink of the port's namespace."""
        with netns.inside(self.port), IPRoute() as ip:
            yield ip


class _Bell:
    """Wakes a thread that waits for a descriptor."""

    def __init__(self) -> None:
        self.fd = os.eventfd(0)

    def ring(self) -> None:
        os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        os.close(self.fd)


def _end(started: subprocess.Popen[bytes]) -> None:
    if started.poll() is None:
        started.kill()
    started.wait()
