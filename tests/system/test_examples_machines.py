"""The examples that start machines: as an orchestration system does on either transport, and as libvirt does."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from xml.etree import ElementTree

import pytest

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from tests.agent_kit import until
from tests.examples_kit import as_written, imports_of, model_of, run

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


def test_what_libvirt_plugs_comes_up(lab_name: str) -> None:
    printed = run("examples/libvirt/run.py", "shop/web1")
    as_written("libvirt", printed)
    nic = ElementTree.fromstring(printed).find("devices/interface")
    assert nic is not None
    mac, bridge = nic.find("mac").get("address"), nic.find("source").get("bridge")  # type: ignore[union-attr]
    ident = nic.find("virtualport/parameters").get("interfaceid")  # type: ignore[union-attr]
    lab = Lab.up(model_of("libvirt/libvirt.yaml"), lab_name)
    tap, ovs = lab.port("shop/web1").tap, lab.ovs("hv1")
    with lab.agent("hv1") as agent:
        ovs.vsctl("del-port", "br-int", tap)
        until(lambda: not agent.port("shop", "web1")["bound"])
        assert pings(lab, "shop/web2", "192.168.1.11") == 0
        # libvirt 9.0, src/util/virnetdevopenvswitch.c, virNetDevOpenvswitchAddPort()
        ids = {
            "attached-mac": mac,
            "iface-id": ident,
            "vm-id": "7e5a3c1e-9d0b-4c2a-8f4e-1b2c3d4e5f60",
            "iface-status": "active",
        }
        wanted = [
            word
            for key, value in ids.items()
            for word in ("--", "set", "Interface", tap, f'external_ids:{key}="{value}"')
        ]
        ovs.vsctl("--", "--if-exists", "del-port", tap, "--", "add-port", str(bridge), tap, *wanted)
        until(lambda: agent.port("shop", "web1")["enforced"])
        assert agent.port("shop", "web1")["up"]
    assert pings(lab, "shop/web2", "192.168.1.11") == 3


def pings(lab: Lab, source: str, address: str) -> int:
    """How many of three echo requests are answered."""
    out = lab.run(source, "ping", "-c", "3", "-i", "0.1", "-W", "1", address).stdout
    return int(out.split(" packets transmitted, ")[1].split()[0])


@pytest.fixture
def machines(lab_name: str) -> Iterator[str]:
    """The lab's name; machines that an example left behind are removed afterwards."""
    yield lab_name
    for name in netns.names(f"{lab_name}-"):
        netns.end(netns.pids_in([name]))
        netns.delete(name)


def test_an_orchestration_system_needs_the_hypervisors_api_alone(machines: str) -> None:
    assert imports_of("orchestrator/cloud.py") <= sys.stdlib_module_names | {"examples"}
    lab = Lab.up(model_of("orchestrator/hosts.yaml"), machines)
    as_written("orchestrator", run("-m", "examples.orchestrator.run", lab.status()["directory"]))
    assert netns.names(f"{machines}-") == [], "no machine is left"


def test_an_orchestration_system_on_the_bus_needs_nats_alone(machines: str) -> None:
    assert imports_of("bus/cloud.py") <= sys.stdlib_module_names | {"nats"}
    lab = Lab.up(model_of("bus/hosts.yaml"), machines, transport="nats")
    lab.kill_controller()
    inside = ("ip", "netns", "exec", lab.control.netns)
    as_written("bus", run("-m", "examples.bus.run", lab.status()["directory"], inside=inside))
    assert netns.names(f"{machines}-") == [], "no machine is left"
