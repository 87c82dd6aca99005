"""What a kernel, as the sender, makes of what the router says about its packets."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from responders_kit import ME, MTU, ROUTER, ROUTER6, ROUTER_MAC, Wire

from ovsnet.lab import netns
from ovsnet.responders import icmp
from ovsnet.responders.icmp import Error, Router
from tests.agent_kit import until

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]

ME6, GATEWAY6 = "2001:db8:1::11", "2001:db8:1::1"
ROUTER_HERE = Router(mac=ROUTER_MAC, ips=(ROUTER, GATEWAY6, ROUTER6))
FAR = {4: "203.0.113.7", 6: "2001:db8:ffff::7"}
FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
IP_MTU_DISCOVER, IP_RECVERR, IP_MTU, DO = 10, 11, 14, 2
IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR = 23, 24, 25
LEVEL = {4: socket.IPPROTO_IP, 6: socket.IPPROTO_IPV6}


@pytest.fixture
def wire() -> Iterator[Wire]:
    with Wire(lambda frame: icmp.echo(frame, ROUTER_HERE)) as made:
        made.configure(f"{ME}/24", f"{ME6}/64", routers=(ROUTER, GATEWAY6))
        yield made


def opened(wire: Wire, family: int, kind: int = socket.SOCK_DGRAM) -> socket.socket:
    with netns.inside(wire.port):
        made = socket.socket(FAMILIES[family], kind)
    made.settimeout(10)
    return made


def about(why: Error, mtu: int = 0) -> Callable[[bytes], bytes | None]:
    """A router that has something to say of whatever is sent through it."""
    return lambda frame: icmp.error(frame, why, ROUTER_HERE, mtu)


ERRNO = {
    Error.NO_ROUTE: (errno.ENETUNREACH, errno.ENETUNREACH),
    Error.HOST_UNREACHABLE: (errno.EHOSTUNREACH, errno.EHOSTUNREACH),
    Error.PORT_UNREACHABLE: (errno.ECONNREFUSED, errno.ECONNREFUSED),
    Error.PROHIBITED: (errno.EHOSTUNREACH, errno.EACCES),
    Error.TIME_EXCEEDED: (errno.EHOSTUNREACH, errno.EHOSTUNREACH),
}


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("why", ERRNO, ids=lambda why: why.name)
def test_a_sender_is_told_what_is_wrong_and_by_whom(wire: Wire, why: Error, family: int) -> None:
    wire.answer = about(why)
    with opened(wire, family) as sender:
        sender.setsockopt(LEVEL[family], IP_RECVERR if family == 4 else IPV6_RECVERR, 1)
        sender.connect((FAR[family], 4000))
        sender.send(b"x" * 1300)
        until(lambda: wire.said)
        code, kind, speaker = _heard(sender, family)
        assert code == ERRNO[why][family == 6]
        assert kind == why.value[family == 6]
        assert speaker == (ROUTER if family == 4 else GATEWAY6)


def _heard(sender: socket.socket, family: int) -> tuple[int, tuple[int, int], str]:
    """What the kernel has for a sender: errno, ICMP type and code, and who said so (recvmsg's MSG_ERRQUEUE)."""
    said: list[Any] = []

    def look() -> bool:
        try:
            said.append(sender.recvmsg(2000, 500, socket.MSG_ERRQUEUE))
        except BlockingIOError:
            return False
        return True

    sender.setblocking(False)
    until(look)
    (_, _, data), *_ = said[0][1]
    code, origin, kind, detail = struct.unpack_from("=IBBB", data)
    assert origin == (2 if family == 4 else 3)  # SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6
    speaker = data[20:24] if family == 4 else data[24:40]
    return code, (kind, detail), socket.inet_ntop(FAMILIES[family], speaker)


@pytest.mark.parametrize("family", [4, 6])
def test_a_sender_learns_the_mtu_of_its_path(wire: Wire, family: int) -> None:
    level, discover, mtu = (
        (LEVEL[4], IP_MTU_DISCOVER, IP_MTU) if family == 4 else (LEVEL[6], IPV6_MTU_DISCOVER, IPV6_MTU)
    )
    wire.answer = about(Error.TOO_BIG, 1400)
    with opened(wire, family) as sender:
        sender.setsockopt(level, discover, DO)
        sender.connect((FAR[family], 4000))
        assert sender.getsockopt(level, mtu) == MTU
        sender.send(b"x" * 1450)
        until(lambda: sender.getsockopt(level, mtu) == 1400)


@pytest.mark.parametrize("family", [4, 6])
def test_tcp_ends_at_once(wire: Wire, family: int) -> None:
    wire.answer = about(Error.PROHIBITED)
    with opened(wire, family, socket.SOCK_STREAM) as sender, pytest.raises(OSError) as raised:
        sender.connect((FAR[family], 80))
    assert raised.value.errno == ERRNO[Error.PROHIBITED][family == 6]


@pytest.mark.parametrize("ip", [ROUTER, GATEWAY6, f"{ROUTER6}%eth0"])
def test_ping(wire: Wire, ip: str) -> None:
    wire.configure(routers=(ROUTER6,))
    for size in ("0", "56", "1400"):
        assert wire.run("ping", "-n", "-c", "2", "-i", "0.2", "-W", "10", "-s", size, ip).wait(30) == 0, wire.output()
    assert wire.run("ping", "-n", "-c", "1", "-W", "1", "203.0.113.1").wait(30) == 1
