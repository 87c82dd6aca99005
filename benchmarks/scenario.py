"""One made-up cloud for every way of telling hosts: VPCs, hosts, who is interested in what, and endpoints to add.

Every measured host has ports in ``vpcs_per_host`` VPCs, every VPC is on ``hosts_per_vpc`` of the measured hosts,
however large the cloud is: a tenant does not grow with its provider. The endpoints are on *far* hosts that are not
measured, so that each measured host has to be told of every endpoint of its VPCs and of none that it has itself.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from ovsnet.model import Network, Port, Subnet, VpcState, port_id
from ovsnet.model.numbers import ip_text, mac_text

FIRST_VNI = 5001
_OWN = 1 << 19  # the measured hosts' own ports are numbered from here, endpoints from 0


@dataclass(frozen=True)
class Shape:
    """How large the cloud is: ``hosts`` are measured, ``far_hosts`` hold ``endpoints_per_vpc`` of each VPC."""

    hosts: int
    vpcs_per_host: int = 5
    hosts_per_vpc: int = 5
    endpoints_per_vpc: int = 200
    far_hosts: int = 10
    seed: int = 1

    def __post_init__(self) -> None:
        if self.hosts < 1 or self.hosts % self.hosts_per_vpc:
            raise ValueError(f"{self.hosts} hosts cannot be dealt to VPCs of {self.hosts_per_vpc} hosts each")

    @property
    def vpcs(self) -> int:
        """The number of VPCs that follows."""
        return self.hosts * self.vpcs_per_host // self.hosts_per_vpc

    @property
    def endpoints(self) -> int:
        """All endpoints of the base state."""
        return self.vpcs * self.endpoints_per_vpc


class Scenario:
    """The cloud of a shape: the same shape gives the same cloud, in every process."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self._random = random.Random(shape.seed)
        self.hosts = tuple(f"h{i}" for i in range(shape.hosts))
        self.far_hosts = tuple(f"far{i}" for i in range(shape.far_hosts))
        self.vteps = {name: ip_text(0xAC100001 + i, 32) for i, name in enumerate(self.hosts + self.far_hosts)}
        self.interested = dict(self._deal())

    @property
    def vpcs(self) -> tuple[str, ...]:
        """The VPCs' names, in order."""
        return tuple(self.interested)

    @cached_property
    def vpcs_of(self) -> dict[str, tuple[str, ...]]:
        """Host -> the VPCs that it has ports in."""
        return {host: tuple(vpc for vpc in self.vpcs if host in self.interested[vpc]) for host in self.hosts}

    def vni(self, vpc: str) -> int:
        """The VNI of a VPC's only network."""
        return FIRST_VNI + self.vpcs.index(vpc)

    def state(self, vpc: str) -> VpcState:
        """A VPC's base state at revision 1: one own port on each interested host, and its endpoints on far hosts."""
        own = {
            f"own-{host}": _port(vpc, f"own-{host}", host, self._mac(vpc, _OWN + number), 0x0A000002 + _OWN + number)
            for number, host in enumerate(self.interested[vpc])
        }
        holders = (*self.interested[vpc], *self.far_hosts)
        return VpcState(
            name=vpc,
            revision=1,
            owner="bench",
            networks={"net": Network(vni=self.vni(vpc), subnets=(Subnet(cidr="10.0.0.0/8"),))},
            ports=own | self.endpoints(vpc, 0, self.shape.endpoints_per_vpc),
            hosts={host: self.vteps[host] for host in holders},
        )

    def endpoints(self, vpc: str, first: int, count: int) -> dict[str, Port]:
        """Endpoints ``first`` to ``first + count - 1`` of a VPC by name; the base state is the first of them.

        Two VPCs have the same addresses. A MAC is used once in the cloud: some BGP speakers look for moves of a MAC
        across VPCs.
        """
        far = self.far_hosts
        return {
            f"p{i}": _port(vpc, f"p{i}", far[i % len(far)], self._mac(vpc, i), 0x0A000002 + i)
            for i in range(first, first + count)
        }

    def changes(self, count: int) -> Iterator[tuple[str, str, Port]]:
        """``count`` single new endpoints as (VPC, name, port), of VPCs by chance; the same for the same shape."""
        chance = random.Random(self.shape.seed + 1)
        numbers = dict.fromkeys(self.vpcs, self.shape.endpoints_per_vpc)
        for _ in range(count):
            vpc = chance.choice(self.vpcs)
            ((name, port),) = self.endpoints(vpc, numbers[vpc], 1).items()
            numbers[vpc] += 1
            yield vpc, name, port

    def _mac(self, vpc: str, number: int) -> int:
        return 0x020000000000 | self.vpcs.index(vpc) << 20 | number

    def _deal(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """VPC -> its measured hosts: all hosts shuffled once for each VPC of a host, and cut into VPCs."""
        number, size = 0, self.shape.hosts_per_vpc
        for _ in range(self.shape.vpcs_per_host):
            order = list(self.hosts)
            self._random.shuffle(order)
            for start in range(0, len(order), size):
                yield f"vpc{number}", tuple(sorted(order[start : start + size], key=self.hosts.index))
                number += 1


def _port(vpc: str, name: str, host: str, mac: int, address: int) -> Port:
    return Port(
        network="net",
        host=host,
        mac=mac_text(mac),
        ips=(ip_text(address, 32),),
        id=port_id(vpc, name),
    )
