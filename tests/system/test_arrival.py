"""The first frame of a workload that has moved here is noticed within a moment, and nothing else is taken for it."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from ovsnet.lab import frames
from ovsnet.model import VpcState
from tests.agent_kit import AgentHost, port, state, until
from tests.system.conftest import Measured

pytestmark = [pytest.mark.root, pytest.mark.timeout(60)]


@pytest.fixture
def host() -> Iterator[AgentHost]:
    one = AgentHost()
    try:
        one.ovs.start()
        yield one.start()
    finally:
        one.close()


def moving(revision: int, at: str, to: str | None, epoch: int = 0) -> VpcState:
    """p1 here; p2 on ``at``, about to move to ``to``."""
    whole = state(revision=revision)
    p2 = msgspec.structs.replace(port("shop", 2, at), moving_to=to, epoch=epoch)
    return msgspec.structs.replace(whole, ports=whole.ports | {"p2": p2})


def send(host: AgentHost, number: int, frame: bytes) -> None:
    host.ovs.appctl("netdev-dummy/receive", f"shop-{number}", frame.hex())


def announcement(number: int) -> bytes:
    """What QEMU sends for a guest that has just started on another host: RARP, which port security drops."""
    mac = bytes.fromhex((port("shop", number).mac or "").replace(":", ""))
    body = bytes.fromhex("0001080006040003") + mac + bytes(4) + mac + bytes(4)
    return (b"\xff" * 6 + mac + b"\x80\x35" + body).ljust(60, b"\0")


def active(host: AgentHost) -> bool:
    return bool(host.client.port("shop", "p2")["active"])


@pytest.mark.alone
def test_the_first_frame_tells(host: AgentHost, measured: Measured) -> None:
    host.client.put(moving(1, "hv2", "hv1"), wait=5)
    host.plug("shop", 1)
    host.plug("shop", 2)
    until(lambda: host.client.port("shop", "p2")["enforced"])
    one, two = port("shop", 1), port("shop", 2)
    for _ in range(5):
        send(host, 1, frames.udp(one.mac or "", two.mac or "", (one.ips or ("",))[0], (two.ips or ("",))[0], b"hello"))
    until(lambda: host.client.port("shop", "p1")["dropped"] == 0 and counted(host, "shop-2"))
    assert not active(host), "what is sent to it is not sent by it"
    send(host, 2, announcement(2))
    took = until(lambda: active(host), 2.0)
    measured(f"noticed after {took * 1000:.0f} ms")
    assert took < 0.5
    host.end()
    host.start()
    until(lambda: active(host), 2.0)
    host.client.put(moving(2, "hv1", None, epoch=1), wait=5)
    assert (host.client.port("shop", "p2")["enforced"], active(host)) == (True, False)
    assert host.client.host()["misplaced"] == []


def counted(host: AgentHost, interface: str) -> bool:
    """Whether frames have come out of an interface."""
    return int(host.ovs.vsctl("get", "interface", interface, "statistics:tx_packets")) > 0


def test_a_move_that_is_called_off_and_begun_again(host: AgentHost) -> None:
    host.plug("shop", 2)
    host.client.put(moving(1, "hv2", "hv1"), wait=5)
    until(lambda: host.client.port("shop", "p2")["enforced"])
    send(host, 2, announcement(2))
    until(lambda: active(host), 2.0)
    host.client.put(moving(2, "hv2", None), wait=5)
    assert [one["port"] for one in host.client.host()["misplaced"]] == ["shop/p2"]
    assert not active(host)
    host.client.put(moving(3, "hv2", "hv1"), wait=5)
    assert not active(host), "what it sent before counts no more"
    send(host, 2, announcement(2))
    until(lambda: active(host), 2.0)
