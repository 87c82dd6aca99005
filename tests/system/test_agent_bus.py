"""A real agent on a real switch, told over a real bus: what is published is in force, and is reported to be."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import msgspec
import pytest

from ovsnet.transport.bus import BusOptions
from ovsnet.transport.messages import PortReport, VpcReport
from ovsnet.transport.publisher import Publisher
from tests.agent_kit import AgentHost, until
from tests.bus_kit import SOURCE, Truth
from tests.contract.nats_kit import NatsServer

pytestmark = pytest.mark.root


class Site:
    """A bus, a publisher, and one hypervisor whose agent is on the bus."""

    def __init__(self, stack: ExitStack) -> None:
        self.server = NatsServer().start()
        stack.callback(self.server.close)
        self.truth = Truth()
        options = BusOptions((self.server.url,), SOURCE)
        self.publisher = Publisher(self.truth, options, SOURCE, heads_every=1.0).start()
        stack.callback(self.publisher.stop)
        self.truth.on_raise = self.publisher.publish
        self.host = AgentHost()
        stack.callback(self.host.close)
        self.host.ovs.start()
        self.host.start("--nats", self.server.url)

    def reported(self, vpc: str) -> VpcReport | None:
        """What the host says of a VPC."""
        return self.truth.told["hv1"].vpcs.get(vpc) if "hv1" in self.truth.told else None

    def in_force(self, vpc: str) -> bool:
        """Whether the host says that it enforces what it should."""
        revision = self.truth.states[vpc].revision
        return self.reported(vpc) == VpcReport(revision, revision)


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


@pytest.mark.alone
def test_what_is_published_is_enforced_and_reported(site: Site) -> None:
    site.host.plug("red", 1)
    site.publisher.publish(site.truth.create("red"))
    until(lambda: site.in_force("red"))
    assert any("02:00:00:00:00:02" in flow for flow in site.host.flows()), "port 2 is reached"
    until(lambda: site.truth.told["hv1"].ports.get("red/p1") == PortReport(up=True))
    site.publisher.publish(site.truth.edit("red", 9))
    took = until(lambda: site.in_force("red"))
    assert took < 2
    assert any("02:00:00:00:00:09" in flow for flow in site.host.flows())
    site.host.ovs.vsctl("del-port", "br-int", "red-1")
    until(lambda: not site.truth.told["hv1"].ports["red/p1"].up)
    assert "iface-id" in site.truth.told["hv1"].ports["red/p1"].reason
    site.publisher.publish(site.truth.concern("red", ()))
    until(lambda: site.reported("red") is None)
    assert not any("02:00:00:00:00:09" in flow for flow in site.host.flows())


def test_a_killed_agent_resumes_where_it_was(site: Site) -> None:
    site.publisher.publish(site.truth.create("red"))
    site.publisher.publish(site.truth.create("blue"))
    until(lambda: site.in_force("red") and site.in_force("blue"))
    site.host.end(signal.SIGKILL)
    site.publisher.publish(site.truth.edit("red", 9))
    site.publisher.publish(site.truth.delete("blue"))
    site.publisher.publish(site.truth.create("green"))
    before = site.publisher.statistics()["hellos"]
    site.host.start("--nats", site.server.url)
    until(lambda: site.in_force("red") and site.in_force("green") and site.reported("blue") is None)
    assert site.publisher.statistics()["hellos"] >= before + 1


def test_a_vpc_that_somebody_else_told_is_left_alone(site: Site) -> None:
    (message,) = site.truth.create("red")
    site.host.client.put(msgspec.structs.replace(site.truth.states["red"], owner="operator"), wait=5)
    site.publisher.publish([message])
    site.publisher.publish(site.truth.create("blue"))
    until(lambda: site.in_force("blue"))
    until(lambda: any("belongs to operator" in fault for fault in site.truth.told["hv1"].faults))
    assert site.host.client.host()["vpcs"]["red"]["owner"] == "operator"


def test_a_full_disk_is_reported_and_mended_without_another_change(site: Site) -> None:
    disk = site.host.dir / "state" / "vpcs"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(disk)], check=True)
    try:
        site.publisher.publish(site.truth.create("red", remote=500))
        until(lambda: "not on disk" in getattr(site.reported("red"), "held", ""))
        until(lambda: any("02:00:00:00:00:02" in flow for flow in site.host.flows()))
        assert not site.in_force("red"), "it is, but not for good"
        subprocess.run(["mount", "-o", "remount,size=10m", str(disk)], check=True)
        until(lambda: site.in_force("red"))
    finally:
        site.host.end(signal.SIGKILL)
        subprocess.run(["umount", "-l", str(disk)], check=True)
