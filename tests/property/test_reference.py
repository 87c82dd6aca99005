"""What the compiled flows do to packets on a real switch is what the model means, by an independent reading."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ovsnet.model.types import Host, Model, Network, Port, Subnet, Vpc
from tests.property.compiled import Installer
from tests.property.exchanges import exchanges
from tests.property.frames import KINDS, arrivals, cases
from tests.property.harness import VTEPS, Cloud
from tests.property.reference import run, run_arrivals, run_strays
from tests.property.strategies import OPEN, models, port_id

FRAMES = 200


PINNED = settings(
    max_examples=25,
    derandomize=True,
    database=None,
    deadline=None,
    phases=(Phase.generate, Phase.shrink),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(PINNED, max_examples=1000, derandomize=False)


def check(cloud: Cloud, install: Installer, model: Model, seed: int, nd_responder: bool) -> None:
    cloud.load(model, install, nd_responder=nd_responder)
    sent = list(cases(model, seed, FRAMES))
    problems = run(cloud, model, sent)
    problems += run_arrivals(cloud, model, list(arrivals(model, seed)))
    problems += run_strays(cloud, [case.frame for case in sent[: len(KINDS)]])
    assert not problems, "\n".join(problems)


@PINNED
@given(model=models(filtered=False), seed=st.integers(0, 2**32), nd_responder=st.booleans())
def test_the_switch_does_what_the_model_means(
    cloud: Cloud, install: Installer, model: Model, seed: int, nd_responder: bool
) -> None:
    check(cloud, install, model, seed, nd_responder)


@PINNED
@given(model=models(filtered=False, routers=True), seed=st.integers(0, 2**32), nd_responder=st.booleans())
def test_the_switch_routes_as_the_model_means(
    cloud: Cloud, install: Installer, model: Model, seed: int, nd_responder: bool
) -> None:
    check(cloud, install, model, seed, nd_responder)


@pytest.mark.parametrize("nd_responder", [True, False], ids=["nd-answered", "nd-forwarded"])
def test_a_port_without_addresses_has_its_mac(cloud: Cloud, install: Installer, nd_responder: bool) -> None:
    network = Network(vni=0x1388, subnets=(Subnet(cidr="10.0.0.0/24"), Subnet(cidr="2001:db8:1::/64")))
    addresses = {"none": (), "peer": ("10.0.0.10", "2001:db8:1::10"), "far": ("10.0.0.11", "2001:db8:1::11")}
    ports = {
        name: Port(
            network="web",
            host="hv2" if name == "far" else "hv1",
            mac=f"02:00:00:00:01:0{number}",
            ips=ips,
            id=port_id("blue", name),
            security_groups=("open",),
        )
        for number, (name, ips) in enumerate(addresses.items())
    }
    hosts = {host: Host(vtep=VTEPS[host][0]) for host in ("hv1", "hv2")}
    vpc = Vpc(networks={"web": network}, ports=ports, security_groups={"open": OPEN})
    for seed in range(4):
        check(cloud, install, Model(name="bare", hosts=hosts, vpcs={"blue": vpc}), seed, nd_responder)


def check_filtering(cloud: Cloud, install: Installer, model: Model, seed: int) -> None:
    cloud.load(model, install)
    problems = run(cloud, model, list(exchanges(model, seed, FRAMES)))
    problems += run(cloud, model, list(cases(model, seed, len(KINDS))))
    problems += run_arrivals(cloud, model, list(arrivals(model, seed)))
    assert not problems, "\n".join(problems)


@PINNED
@given(model=models(), seed=st.integers(0, 2**32))
def test_the_switch_filters_as_the_model_means(cloud: Cloud, install: Installer, model: Model, seed: int) -> None:
    check_filtering(cloud, install, model, seed)


@PINNED
@given(model=models(routers=True), seed=st.integers(0, 2**32))
def test_the_switch_filters_what_is_routed(cloud: Cloud, install: Installer, model: Model, seed: int) -> None:
    check_filtering(cloud, install, model, seed)


@pytest.mark.slow
@MANY
@given(model=models(routers=True), seed=st.integers(0, 2**32))
def test_the_switch_filters_what_is_routed_in_many_models(
    cloud: Cloud, install: Installer, model: Model, seed: int
) -> None:
    check_filtering(cloud, install, model, seed)


@pytest.mark.slow
@MANY
@given(model=models(), seed=st.integers(0, 2**32))
def test_the_switch_filters_as_many_models_mean(cloud: Cloud, install: Installer, model: Model, seed: int) -> None:
    check_filtering(cloud, install, model, seed)


@pytest.mark.slow
@MANY
@given(model=models(filtered=False), seed=st.integers(0, 2**32), nd_responder=st.booleans())
def test_the_switch_does_what_many_models_mean(
    cloud: Cloud, install: Installer, model: Model, seed: int, nd_responder: bool
) -> None:
    check(cloud, install, model, seed, nd_responder)


@pytest.mark.slow
@MANY
@given(model=models(filtered=False, routers=True), seed=st.integers(0, 2**32), nd_responder=st.booleans())
def test_the_switch_routes_as_many_models_mean(
    cloud: Cloud, install: Installer, model: Model, seed: int, nd_responder: bool
) -> None:
    check(cloud, install, model, seed, nd_responder)
