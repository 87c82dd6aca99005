"""The kernel's Open vSwitch datapath, in an emulated machine: what the pipeline relies on, each with its control."""

from __future__ import annotations

import json

import pytest

from tests.vm.image import VmUnavailable
from tests.vm.runner import VmResult, run_in_vm

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.root, pytest.mark.timeout(900)]


def in_vm(script: str, timeout: float) -> VmResult:
    """run_in_vm; where a prerequisite is missing the test is skipped."""
    try:
        return run_in_vm(script, timeout)
    except VmUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def facts() -> dict[str, int | str | bool]:
    result = in_vm("timeout 400 python -m tests.vm.datapath_facts", timeout=500)
    assert result.exit_code == 0, result.output
    found: dict[str, int | str | bool] = json.loads(result.files["facts.json"])
    return found


def passes(facts: dict[str, int | str | bool], *names: str) -> None:
    assert {name: facts[name] for name in names} == dict.fromkeys(names, facts["attempts"])


def fails(facts: dict[str, int | str | bool], *names: str) -> None:
    assert {name: facts[name] for name in names} == dict.fromkeys(names, 0)


@pytest.mark.slow
def test_packets_cross_hosts_and_stop_without_their_flow(facts: dict[str, int | str | bool]) -> None:
    passes(facts, "vxlan")
    fails(facts, "vxlan, flow removed")


@pytest.mark.slow
def test_arp_is_answered_by_flows_though_not_inside_the_kernel(facts: dict[str, int | str | bool]) -> None:
    fails(facts, "arp, no flow")
    passes(facts, "arp responder", "arp forwarded")
    assert facts["arp responder, by vswitchd"]
    assert not facts["arp forwarded, by vswitchd"]


@pytest.mark.slow
def test_a_solicitation_rewritten_to_its_owner_is_answered(facts: dict[str, int | str | bool]) -> None:
    fails(facts, "ns, no flow")
    passes(facts, "ns rewritten")


@pytest.mark.slow
def test_nd_options_are_matched(facts: dict[str, int | str | bool]) -> None:
    passes(facts, "ns, nd_sll right", "na, nd_tll right")
    fails(facts, "ns, nd_sll wrong", "na, nd_tll wrong", "na, all dropped")


@pytest.mark.slow
def test_the_switch_says_that_it_cannot_build_advertisements(facts: dict[str, int | str | bool]) -> None:
    assert facts["capability nd_ext"] == "false"
    assert not facts["set nd_options_type"]
    assert not facts["set nd_reserved"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["IPv4", "IPv6"])
def test_one_tunnel_port_carries_both_families_only_without_a_local_address(
    facts: dict[str, int | str | bool], family: str
) -> None:
    other = "IPv6" if family == "IPv4" else "IPv4"
    passes(facts, f"local_ip unset, tunnel {family}", f"local_ip {family}, tunnel {family}")
    fails(facts, f"local_ip {family}, tunnel {other}")


@pytest.mark.slow
def test_logged_packets_pass_whatever_the_meter_says_and_rejected_ones_are_answered(
    facts: dict[str, int | str | bool],
) -> None:
    assert facts["logged and allowed"] == 60
    assert 5 <= int(facts["logged, told"]) <= int(facts["logged, at most"]) < 60
    assert int(facts["logged, told"]) + int(facts["logged, dropped by the meter"]) == 60
    assert facts["logged, in full"]
    assert facts["logged, by the kernel"]
    assert "Connection refused" in str(facts["rejected tcp"])
    assert "No route to host" in str(facts["rejected udp"])


@pytest.mark.slow
def test_a_killed_vswitchd_loses_no_packet_inside_its_host(facts: dict[str, int | str | bool]) -> None:
    assert facts["restart with flow-restore-wait, lost in the host"] == 0
    assert facts["restart without, lost in the host"] != 0, "the control lost nothing: the test proves nothing"


def test_the_demo_lab_is_as_declared_on_the_kernel_datapath() -> None:
    """The lab's own matrix; its second run, with one host's flows deleted and its agent dead, is the control."""
    # The machine is emulated: every wait of the lab is ten times as long.
    result = in_vm("OVSNET_LAB_PATIENCE=10 timeout 600 python -m tests.vm.demo_lab", timeout=800)
    assert result.exit_code == 0, result.output
    matrix, broken = (json.loads(result.files[name]) for name in ("matrix.json", "broken.json"))
    assert matrix["ok"], result.output
    assert matrix["allowed"] == 32
    assert matrix["forbidden"] == 148
    there = {f"{vpc}/{port}" for vpc in ("red", "blue") for port in ("web2", "db1")}
    assert {one["dst"] for one in broken["differs"]} >= there, (
        "nothing was delivered on hv2, and the lab did not see it"
    )
    assert all(there & {one["src"], one["dst"]} for one in broken["differs"]), broken["differs"]
    assert b"hit:0 " not in result.files["datapath"]
    assert json.loads(result.files["routed.json"])["ok"], result.output
    check_what_routers_say(json.loads(result.files["told.json"]))
    assert result.files["left"] == b""


def check_what_routers_say(told: dict[str, str]) -> None:
    """What ping printed of each of ``demo_lab.QUESTIONS``."""
    for name in ("gateway", "gateway-v6", "far-gateway", "behind"):
        assert "2 received" in told[name], told[name]
    words = {
        "nobody": "From 192.168.1.1 icmp_seq=1 Destination Host Unreachable",
        "nobody-v6": "From 2001:db8:1::1 icmp_seq=1 Destination unreachable: Address unreachable",
        "no-route": "From 192.168.1.1 icmp_seq=1 Destination Net Unreachable",
        "expired": "From 192.168.1.1 icmp_seq=1 Time to live exceeded",
        "expired-v6": "From 2001:db8:1::1 icmp_seq=1 Time exceeded: Hop limit",
    }
    for name, line in words.items():
        assert line in told[name], told[name]
    assert "0 received" in told["black-hole"], told
    assert "From" not in told["black-hole"], told


SCENARIOS = (
    *("fragments", "stateless-fragments", "errors-about-connections", "remote-group", "ethertypes", "sctp-ports"),
    *("reject-at-the-receiver", "revoke-and-regrant-server-sends", "port-ranges-and-connections"),
)


def test_truth_tables_hold_on_the_kernel_datapath() -> None:
    """Fragments and ICMP errors of connections too; a zone is the kernel's own, and empty once it is released."""
    command = f"OVSNET_LAB_PATIENCE=10 timeout 700 python -m tests.vm.truth_tables {' '.join(SCENARIOS)}"
    result = in_vm(command, timeout=800)
    assert result.exit_code == 0, result.output
    found = json.loads(result.files["tables.json"])
    assert {name: found[name] for name in SCENARIOS} == {name: [] for name in SCENARIOS}, result.output
    assert found["broken"], "nothing was let in on hv2, and the table did not see it"
    assert len(found["used"]) >= 2, found
    assert set(found["used"]) <= set(found["zones"]), found
    assert found["released"], found
    assert found["left"] == [], "a released zone kept its connections"
