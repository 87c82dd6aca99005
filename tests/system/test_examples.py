"""The examples, run as their READMEs say: what they print is what is written there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, Model, assign, load
from tests.agent_kit import until
from tests.system.test_lab_lifecycle import left_of

pytestmark = [pytest.mark.root, pytest.mark.timeout(120)]
ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def written(example: str) -> str:
    """The output that an example's README shows; ``...`` in it stands for what differs from run to run."""
    found = re.search(r"^Output:\n\n```text\n(.*?)^```$", (EXAMPLES / example / "README.md").read_text(), re.M | re.S)
    assert found, f"examples/{example}/README.md shows no output"
    return found[1]


def as_written(example: str, printed: str) -> None:
    """Fail where what was printed differs from the README."""
    checker, wanted = doctest.OutputChecker(), doctest.Example("", written(example))
    same = checker.check_output(wanted.want, printed, doctest.ELLIPSIS)
    assert same, checker.output_difference(wanted, printed, doctest.ELLIPSIS | doctest.REPORT_NDIFF)


def run(*argv: str, inside: Sequence[str] = ()) -> str:
    """What a script prints; it is started from the project's directory, as the READMEs say."""
    done = subprocess.run(
        [*inside, sys.executable, *argv], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=100,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def model_of(file: str) -> Model:
    """An example's model, with everything assigned."""
    return assign(load([EXAMPLES / file]), Lock())[0]


@pytest.mark.parametrize("example", ["two-tenants", "tiers", "ipv6-only", "twenty-hosts"])
def test_a_lab_does_what_its_readme_shows(lab_name: str, example: str) -> None:
    as_written(example, run(f"examples/{example}/run.py", lab_name))
    assert left_of(lab_name) == []


@pytest.mark.alone
def test_a_machine_moves_while_it_is_pinged(lab_name: str) -> None:
    printed = run("examples/migration/run.py", lab_name)
    as_written("migration", printed)
    received = re.search(r"^250 packets transmitted, (\d+) received, [\d.]+% packet loss$", printed, re.M)
    assert received, "no ping is answered twice"
    assert int(received[1]) >= 245
    assert left_of(lab_name) == []


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


def imports_of(script: str) -> set[str]:
    """The packages that a script of the examples imports."""
    return set(re.findall(r"^\s*(?:from|import) (\w+)", (EXAMPLES / script).read_text(), re.M))


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
