"""The model's arithmetic, on round figures that can be checked by hand."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import modes
from benchmarks.common import summary
from benchmarks.modes import ModeResult
from benchmarks.scale import page
from benchmarks.scale.costs import bgp_costs
from benchmarks.scale.inputs import CONSTANTS, Figures, Machine, Missing, Site
from benchmarks.scale.measured import read
from benchmarks.scale.model import first, load, loads, machines, most_hosts
from benchmarks.scale.rules import LAYERS, RULES, Rule

# 8,640 hosts of 10 ports, each changed once a day and ten times as often at the worst: 10 changes a second.
SITE = Site(hosts=8640, ports_per_host=10, hosts_per_vpc=4, changes_per_port_day=1, peak=10, heartbeat=10, recovery=100)
MACHINE = Machine(cores=10, memory=1e9, link=1e6, host_cores=1, host_memory=1e6, host_link=1e3)
VALUES: dict[str, float | None] = dict.fromkeys(CONSTANTS, 0.001)


def rule(layer: str, what: str) -> Rule:
    (found,) = (each for each in RULES if (each.layer, each.what) == (layer, what))
    return found


def need(layer: str, what: str, site: Site = SITE, **values: float | None) -> float:
    return load(rule(layer, what), site, MACHINE, Figures(VALUES | values)).need


def test_a_site_by_hand() -> None:
    assert (SITE.ports, SITE.told, SITE.interested) == (86_400, 40, 4)
    assert (SITE.changes, SITE.messages, SITE.heartbeats) == (10, 40, 864)


def test_the_controllers_cpu_is_of_changes_of_hosts_told_and_of_heartbeats() -> None:
    costs = {"change_cpu": 0.1, "publish_cpu": 0.01, "call_cpu": 0.02, "heartbeat_cpu": 0.001, "look_cpu": 0.003}
    assert need("controller, bus", "CPU", **costs) == pytest.approx(10 * 0.1 + 40 * 0.01 + 0.864)
    assert need("controller, direct", "CPU", **costs) == pytest.approx(10 * 0.1 + 40 * 0.02 + 3 * 0.864)


def test_recovery_is_every_host_told_of_all_its_ports_in_the_time_given() -> None:
    assert need("controller, bus", "recovery, bandwidth", snapshot_bytes=100) == 8640 * 40 * 100 / 100
    assert need("BGP route reflector", "recovery, bandwidth", bgp_route_bytes=100) == 8640 * 86_400 * 100 / 100


def test_with_rfc_4684_a_reflector_sends_to_interested_clients_and_asks_about_the_others() -> None:
    costs = {"bgp_in_cpu": 0.1, "bgp_out_cpu": 0.01, "bgp_filter_cpu": 0.0001}
    assert need("BGP route reflector", "CPU", **costs) == pytest.approx(10 * (0.1 + 8640 * 0.01))
    sent = 10 * (0.1 + 4 * 0.01)
    assert need("BGP route reflector, RTC", "CPU", **costs) == pytest.approx(sent + 10 * 8636 * 0.0001)
    assert need("BGP route reflector, RTC, indexed", "CPU", **costs) == pytest.approx(sent)


def test_a_host_with_filtering_does_not_feel_the_size_of_the_cloud_and_one_without_does() -> None:
    large = replace(SITE, hosts=100 * SITE.hosts)
    for what in ("CPU", "memory", "bandwidth"):
        assert need("agent", what, large) == pytest.approx(need("agent", what))
        assert need("BGP VTEP, RTC", what, large) == pytest.approx(need("BGP VTEP, RTC", what))
        assert need("BGP VTEP", what, large) == pytest.approx(100 * need("BGP VTEP", what))


def test_no_need_shrinks_when_hosts_are_added() -> None:
    figures = Figures(VALUES)
    sizes = [loads(replace(SITE, hosts=hosts), MACHINE, figures) for hosts in (1, 3, 4, 5, 100, 10_000, 1_000_000)]
    for one, other in itertools.pairwise(sizes):
        for before, after in zip(one, other, strict=True):
            assert before.need <= after.need * (1 + 1e-12), before.rule


def test_the_first_limit_and_the_machines_that_follow() -> None:
    figures = Figures(VALUES | {"bus_connections": 1000, "bus_memory": 50_000, "bus_cpu": 0.0001})
    found = loads(SITE, MACHINE, figures)
    worst = first(found, "bus")
    assert worst is not None
    assert (worst.rule.what, worst.share) == ("connections", 8.64)
    assert machines(found, "bus", headroom=0.5) == 18
    assert machines(found, "bus", headroom=1.0) == 9


def test_a_limit_is_found_to_the_host() -> None:
    figures = Figures(VALUES | {"bus_connections": 1000, "change_rate": 10})
    assert most_hosts(rule("bus", "connections"), SITE, MACHINE, figures, 0.5) == 500
    assert most_hosts(rule("store", "commits"), SITE, MACHINE, figures, 1.0) == 8640
    assert most_hosts(rule("agent", "memory"), SITE, MACHINE, figures, 1.0) is None


def test_what_was_not_measured_is_named_and_never_guessed() -> None:
    figures = Figures(VALUES | {"bus_memory": None})
    found = loads(SITE, MACHINE, figures)
    assert [one.rule.what for one in found if one.missing == "bus_memory"] == ["memory"]
    assert first(found, "bus") is None
    assert machines(found, "bus", headroom=0.5) is None
    assert machines(found, "store", headroom=0.5) is not None
    with pytest.raises(Missing, match="bus_memory"):
        most_hosts(rule("bus", "memory"), SITE, MACHINE, figures, 0.5)
    text = page.markdown(SITE, MACHINE, figures, {})
    assert "| bus | memory | not measured: `bus_memory` |" in text


def test_the_first_limit_stands_first_on_the_page() -> None:
    text = page.limits(SITE, MACHINE, Figures(VALUES | {"bus_connections": 6, "change_rate": 1e9}))
    assert text.splitlines()[2] == "| bus | connections | 3 |"
    assert {line.split(" | ")[0].removeprefix("| ") for line in text.splitlines()[2:]} == set(LAYERS)


def bgp(mode: str, hosts: int, endpoints: int, centre: float, memory: float = 20.0) -> ModeResult:
    measures = (
        summary(modes.CHANGE_BYTES, "B", [120.0]),
        summary(modes.CHANGE_CPU_CENTRE, "µs", [centre]),
        summary(modes.CHANGE_CPU_HOST, "µs", [300.0]),
        summary(modes.MEMORY_HOST, "MB", [memory]),
    )
    return ModeResult(mode, hosts, 5, endpoints, "gobgpd", measures)


def test_bgps_costs_are_differences_of_sizes() -> None:
    """100 µs for a route received, 20 µs for one sent, 2 µs for one not wanted, 1,000 bytes for one held."""
    results = [
        bgp("bgp", 50, 2000, 9e9),
        bgp("bgp-type5", 10, 400, 300.0),
        bgp("bgp-type5", 10, 10_400, 9e9, memory=30.0),
        bgp("bgp-type5", 50, 2000, 1100.0),
        bgp("bgp-rtc-type5", 50, 2000, 290.0),
    ]
    costs = {name: value for name, value in bgp_costs(results).items() if value is not None}
    assert costs == pytest.approx(
        {
            "bgp_route_bytes": 120,
            "bgp_host_cpu": 300e-6,
            "bgp_route_memory": 1000,
            "bgp_in_cpu": 100e-6,
            "bgp_out_cpu": 20e-6,
            "bgp_filter_cpu": 2e-6,
        }
    )


def test_without_results_bgps_costs_are_missing() -> None:
    assert set(bgp_costs([]).values()) == {None}


def test_a_measured_value_says_how_it_was_measured(tmp_path: Path) -> None:
    file = tmp_path / "measured.json"
    file.write_text(json.dumps({"change_cpu": {"value": 0.001, "source": None}}))
    with pytest.raises(ValueError, match="change_cpu has a value and no source"):
        read(file, tmp_path / "none")
    file.write_text(json.dumps({"chance_cpu": {"value": None, "source": None}}))
    with pytest.raises(ValueError, match="chance_cpu is no constant of this file"):
        read(file, tmp_path / "none")


def test_the_projects_own_file_names_every_constant_that_bgp_does_not_give() -> None:
    values, _sources = read()
    assert set(values) == set(CONSTANTS)
