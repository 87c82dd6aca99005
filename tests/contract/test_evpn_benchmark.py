"""The BGP benchmark on a real route reflector and real VTEPs, small: what it says of who is told what is true."""

from __future__ import annotations

import pytest

from benchmarks import modes
from benchmarks.evpn.run import Amounts, run
from benchmarks.scenario import Shape

SMALL = Amounts(changes=10, ones=2, many=50, many_rounds=1, idle=0.2)


@pytest.mark.parametrize(
    ("way", "told", "foreign"),
    [("bgp-rtc", 40, 0), pytest.param("bgp", 80, 40, marks=pytest.mark.slow)],
)
def test_two_vteps_of_two_vpcs_each(way: str, told: int, foreign: int) -> None:
    """Four VPCs of twenty endpoints: a VTEP is told of its own two, or of all; ``run`` counts routes in its table."""
    shape = Shape(hosts=2, vpcs_per_host=2, hosts_per_vpc=1, endpoints_per_vpc=20)
    (result,) = run([shape], lambda _text: None, SMALL, ways=[way])
    figures = {one.name: one for one in result.measures}
    assert set(figures) == set(modes.ROWS)
    assert figures[modes.BASE_ENDPOINTS].median == told
    assert figures[modes.BASE_FOREIGN].median == foreign
    # a route is about 120 bytes as gobgpd sends it; the session itself and the memberships are some hundred
    assert 100 * told < figures[modes.BASE_BYTES].median < 150 * told + 1000
    # one host of two is interested in a change
    assert figures[modes.CHANGE_BYTES].median == pytest.approx(121 * told / 80, rel=0.3)
    assert 0 < figures[modes.ONE_SECONDS].median < figures[modes.MANY_SECONDS].median
