"""System tests: real switches in network namespaces; they need root."""

from __future__ import annotations

import contextlib
import itertools
import os
import tempfile
import uuid
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest

from ovsnet.errors import UserError
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.topology import Transport
from ovsnet.model import Lock, assign, load
from ovsnet.model.types import Host, Model, Network, Port, Subnet, Vpc
from tests.conftest import FIGURE
from tests.system.evidence import evidence, labs_of
from tests.system.faults import World
from tests.system.faults import cloud as cloud_of_three

_numbers = itertools.count(1)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, None]:
    """Attach flows, ports and logs to the report of a test that failed, while its switches still run."""
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        used = list(getattr(item, "funcargs", {}).values())
        used += [one.lab for one in used if isinstance(one, World)]
        labs = [one for one in used if isinstance(one, Lab)]
        report.sections += evidence([*used, *(labs_of([item.funcargs.get("lab_name")]) if not labs else [])])


def loaded(text: str) -> Model:
    """The model that a YAML text declares, with everything assigned."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "model.yaml"
        file.write_text(text)
        return assign(load([file]), Lock())[0]


Measured = Callable[[str], None]


@pytest.fixture
def measured(record_property: Callable[[str, object], None]) -> Measured:
    """Takes a line with figures, which the run's summary prints."""
    return lambda line: record_property(FIGURE, line)


@contextlib.contextmanager
def temporary_lab(model: Model, transport: Transport = "direct") -> Iterator[Lab]:
    """A lab with agents and a name that nobody else uses; it is removed at the end."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    try:
        yield Lab.up(model, name, transport=transport)
    finally:
        with contextlib.suppress(UserError):
            down(name)


@pytest.fixture(scope="module", params=["controller", "nats"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """A cloud of three hosts with a controller that calls them, or one that publishes on a bus."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    try:
        yield World(Lab.up(cloud_of_three(), name, transport=request.param))
    finally:
        with contextlib.suppress(UserError):
            down(name)


@pytest.fixture
def lab_name() -> Iterator[str]:
    """A lab's name that nobody else uses; whatever is made under it is removed afterwards."""
    name = f"t{os.getpid()}-{next(_numbers)}"
    yield name
    with contextlib.suppress(UserError):
        down(name)


@pytest.fixture
def bare_lab(lab_name: str, cloud: Model) -> Lab:
    """A lab of the small cloud with switches and without agents."""
    return Lab.up(cloud, lab_name, agents=False)


@pytest.fixture
def cloud() -> Model:
    """Two hosts, two tenants with the same addresses, three ports each, IPv4."""
    return two_tenants()


def two_tenants(vteps: tuple[str, ...] = ("10.0.0.11", "172.31.5.12"), ipv6: bool = False) -> Model:
    hosts = {f"hv{number}": Host(vtep=vtep) for number, vtep in enumerate(vteps, 1)}
    subnets = [Subnet(cidr="192.168.1.0/24", gateway="192.168.1.1")]
    if ipv6:
        subnets.append(Subnet(cidr="2001:db8:1::/64", gateway="2001:db8:1::1"))
    vpcs = {}
    for number, vpc in enumerate(("acme", "beta"), 1):
        ports = {}
        for index, host in enumerate(("hv1", "hv1", "hv2"), 1):
            ips = [f"192.168.1.{10 + index}"] + ([f"2001:db8:1::{10 + index}"] if ipv6 else [])
            ports[f"web{index}"] = Port(
                network="web",
                host=host,
                mac=f"02:00:00:00:01:{index:02x}",
                ips=tuple(ips),
                id=str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{vpc}/web{index}")),
            )
        network = Network(vni=5000 + number, subnets=tuple(subnets))
        vpcs[vpc] = Vpc(tenant=vpc, networks={"web": network}, ports=ports)
    return Model(name="cloud", hosts=hosts, vpcs=vpcs)
