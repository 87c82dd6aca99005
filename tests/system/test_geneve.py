"""Geneve as the underlay's encapsulation: the same matrix, Geneve and nothing else on the wire, and no mixture."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ovsnet.agent.client import AgentClient
from ovsnet.cli import app
from ovsnet.errors import UserError
from ovsnet.lab.deliver import socket_of
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.matrix import Matrix
from ovsnet.model.types import Underlay
from tests.system.conftest import temporary_lab, two_tenants

pytestmark = [pytest.mark.root, pytest.mark.timeout(90)]
GENEVE = Underlay(encapsulation="geneve")


def tunnels(lab: Lab) -> dict[str, str]:
    """The type of every host's tunnel port."""
    return {
        host: lab.ovs(host).vsctl("--bare", "--columns=type", "find", "interface", "options:remote_ip=flow").strip()
        for host in lab.topology.hosts
    }


@pytest.mark.parametrize("vteps", [("10.0.0.11", "172.31.5.12"), ("2001:db8:f::1", "2001:db8:f::2")])
def test_a_lab_speaks_geneve_and_nothing_else(vteps: tuple[str, str]) -> None:
    model = msgspec.structs.replace(two_tenants(vteps, ipv6=True), underlay=GENEVE)
    with temporary_lab(model) as lab:
        assert tunnels(lab) == {"hv1": "geneve", "hv2": "geneve"}
        result = lab.test()
        assert result.ok, result.as_dict()
        assert result.allowed
        other = msgspec.structs.replace(lab.model, underlay=Underlay())
        seen = Matrix(other, lab.topology, datapath="netdev").run(patience=0.5, settle=0.1)
        assert seen.unknown, "the control: who expects VXLAN sees packets that it does not know"


def test_a_lab_changes_its_encapsulation(lab_name: str) -> None:
    model = two_tenants()
    lab = Lab.up(model, lab_name)
    assert tunnels(lab) == {"hv1": "vxlan", "hv2": "vxlan"}
    lab = Lab.up(msgspec.structs.replace(model, underlay=GENEVE), lab_name)
    assert tunnels(lab) == {"hv1": "geneve", "hv2": "geneve"}
    assert lab.test().ok


def test_a_model_for_other_tunnels_is_refused(lab_name: str, tmp_path: Path) -> None:
    lab = Lab.up(two_tenants(), lab_name)
    file = tmp_path / "model.yaml"
    file.write_text("version: 1\nunderlay: {encapsulation: geneve}\nhosts: {hv1: {vtep: 10.0.0.11}}\n")
    with pytest.raises(UserError, match="speaks vxlan, and the model's underlay is geneve: start its agent with"):
        app(["apply", str(file), "--lab", lab_name], standalone_mode=False)
    with AgentClient(socket_of(lab.topology.hosts["hv1"])) as client:
        assert set(client.vpcs()) == set(lab.model.vpcs), "nothing was changed"
    assert lab.ovs("hv1").vsctl("list-ports", INTEGRATION).count("vxlan0") == 1
