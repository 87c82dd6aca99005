"""Plugging through the API: devices are made, carry real frames, and are gone afterwards; only ours are undone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ovsnet.agent.client import AgentError
from tests.agent_kit import AgentHost, port, state, until

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]

NAMES = [f"ovp{os.getpid()}{suffix}" for suffix in ("h", "a", "b")]


def ip(*argv: str, check: bool = True) -> str:
    done = subprocess.run(["ip", *argv], capture_output=True, text=True, check=False)
    assert not check or not done.returncode, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def host() -> Iterator[AgentHost]:
    for name in NAMES:
        ip("netns", "add", name)
    one = AgentHost(NAMES[0])
    try:
        ip("-n", NAMES[0], "link", "set", "lo", "up")
        one.ovs.start()
        one.start()
        one.client.put(state(local=4), wait=30)
        yield one
    finally:
        one.close()
        for name in NAMES:
            ip("netns", "delete", name, check=False)


def links(host: AgentHost) -> set[str]:
    found = msgspec.json.decode(ip("-n", str(host.netns), "-json", "link", "show"))
    return {link["ifname"] for link in found} - {"lo"}


def bridge_ports(host: AgentHost) -> set[str]:
    return set(host.ovs.vsctl("list-ports", "br-int").split())


def refused(call: Any) -> AgentError:
    with pytest.raises(AgentError) as caught:
        call()
    return caught.value


def into(host: AgentHost, peer: str, namespace: str, address: str) -> None:
    """Hand a workload's end of a pair to a namespace of its own, as eth0."""
    ip("-n", str(host.netns), "link", "set", peer, "netns", namespace, "name", "eth0")
    ip("-n", namespace, "address", "add", f"{address}/16", "dev", "eth0")
    ip("-n", namespace, "link", "set", "eth0", "up")


def pings(namespace: str, address: str) -> int:
    argv = ["ip", "netns", "exec", namespace, "ping", "-c", "3", "-i", "0.2", "-W", "2", address]
    out = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    return int(out.split(" packets transmitted, ")[1].split(" ")[0])


def test_veth_pairs_carry_frames_and_leave_nothing(host: AgentHost) -> None:
    before, ports = links(host), bridge_ports(host)
    ends = []
    for number, namespace in ((1, NAMES[1]), (2, NAMES[2])):
        done = host.client.plug("shop", f"p{number}", wait=30, mtu=1400)
        assert done["changed"]
        assert done["port"]["enforced"], done
        assert done["port"]["ofport"] > 0
        again = host.client.plug("shop", f"p{number}")
        assert (again["interface"], again["peer"], again["changed"]) == (done["interface"], done["peer"], False)
        into(host, done["peer"], namespace, f"10.1.0.{number + 2}")
        ends.append(done["interface"])
    marks = host.ovs.vsctl("get", "interface", ends[0], "external_ids")
    assert "ovsnet=plug-veth" in marks
    assert f'attached-mac="{port("shop", 1).mac}"' in marks
    inside = msgspec.json.decode(ip("-n", NAMES[1], "-json", "link", "show", "eth0"))[0]
    assert (inside["address"], inside["mtu"]) == (port("shop", 1).mac, 1400)
    assert pings(NAMES[1], "10.1.0.4") == 3
    assert pings(NAMES[1], "10.1.0.5") == 0, "nobody has that address"
    for number, interface in enumerate(ends, 1):
        assert host.client.unplug("shop", f"p{number}") == {"changed": True, "interfaces": [interface]}
        assert not host.client.unplug("shop", f"p{number}")["changed"], "again is harmless"
    assert (links(host), bridge_ports(host)) == (before, ports)
    assert "eth0" not in ip("-n", NAMES[1], "link", "show"), "the peer goes with its end"
    until(lambda: not host.client.port("shop", "p1")["bound"], 20)


def test_tap_is_made_and_removed(host: AgentHost) -> None:
    before = links(host)
    done = host.client.plug("shop", "p3", kind="tap", interface="vm3", wait=30)
    assert (done["interface"], done["peer"]) == ("vm3", None)
    assert done["port"]["ofport"] > 0
    assert "tun type tap" in ip("-n", str(host.netns), "-details", "link", "show", "vm3")
    host.client.unplug("shop", "p3")
    assert links(host) == before


def test_an_existing_device_is_taken_and_given_back(host: AgentHost) -> None:
    assert refused(lambda: host.client.plug("shop", "p3", kind="existing", interface="mine")).status == 422
    ip("-n", str(host.netns), "link", "add", "mine", "up", "type", "veth", "peer", "name", "mine2")
    done = host.client.plug("shop", "p3", kind="existing", interface="mine", wait=30)
    assert done["port"]["ofport"] > 0
    error = refused(lambda: host.client.plug("shop", "p4", kind="existing", interface="mine"))
    assert "belongs to shop/p3" in str(error)
    error = refused(lambda: host.client.plug("shop", "p4", kind="veth", interface="mine"))
    assert "not marked as ours" in str(error)
    host.client.unplug("shop", "p3")
    assert "mine" in links(host)
    assert "mine" not in bridge_ports(host)
    ip("-n", str(host.netns), "link", "delete", "mine")


def test_an_interface_that_is_on_the_bridge_is_only_bound(host: AgentHost) -> None:
    host.ovs.vsctl("add-port", "br-int", "theirs", "--", "set", "interface", "theirs", "type=internal")
    assert host.client.plug("shop", "p3", kind="existing", interface="theirs", wait=30)["port"]["enforced"]
    assert host.client.unplug("shop", "p3")["interfaces"] == ["theirs"]
    assert "theirs" in bridge_ports(host)
    assert "iface-id" not in host.ovs.vsctl("get", "interface", "theirs", "external_ids")
    host.ovs.vsctl("del-port", "theirs")


def test_what_somebody_else_plugged_stays(host: AgentHost) -> None:
    host.ovs.vsctl("add-port", "br-int", "libvirt0", "--", "set", "interface", "libvirt0", "type=internal",
                   f"external_ids:iface-id={port('shop', 4).id}")  # fmt: skip
    done = host.client.plug("shop", "p4", wait=30)
    assert (done["interface"], done["peer"], done["changed"]) == ("libvirt0", None, False)
    assert host.client.unplug("shop", "p4") == {"changed": False, "interfaces": []}
    assert "libvirt0" in bridge_ports(host)
    host.ovs.vsctl("del-port", "libvirt0")


def test_only_ports_of_this_host_are_plugged(host: AgentHost) -> None:
    error = refused(lambda: host.client.plug("shop", "p5"))
    assert (error.status, error.code) == (409, "not-here")
    assert refused(lambda: host.client.plug("shop", "p9")).code == "unknown-port"
    assert refused(lambda: host.client.plug("shop", "p3", interface="a/b")).code == "wrong-structure"


def test_release_unplugs_what_has_moved_away(host: AgentHost) -> None:
    mine = {"owner": "tests"}
    done = host.client.plug("shop", "p1", wait=30)
    host.client.prepare("shop", "p1", "hv2", **mine)
    host.client.activate("shop", "p1", "hv2", **mine)
    assert done["interface"] in bridge_ports(host)
    host.client.release("shop", "p1", **mine)
    assert done["interface"] not in bridge_ports(host) | links(host)


def test_unplug_works_after_the_port_is_gone(host: AgentHost) -> None:
    done = host.client.plug("shop", "p2", wait=30)
    host.client.delete_object("shop", "ports", "p2", owner="tests", wait=30)
    assert host.client.unplug("shop", "p2")["interfaces"] == [done["interface"]]
    assert done["interface"] not in links(host)
