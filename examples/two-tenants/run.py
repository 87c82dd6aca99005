"""Two tenants with the same MAC and IP addresses on the same hosts: each reaches its own, and never the other's.

sudo python examples/two-tenants/run.py [LAB]
"""

import sys
from pathlib import Path

import ovsnet
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign

MODEL = Path(__file__).with_name("two-tenants.yaml")


def requests_seen(lab: Lab, port: str) -> int:
    """How many echo requests the workload's own IP stack has taken in, of both IP versions."""
    lines = lab.run(port, "nstat", "-asz", "IcmpInEchos", "Icmp6InEchos").stdout.splitlines()
    return sum(int(line.split()[1]) for line in lines if "InEchos" in line)


def ping(lab: Lab, source: str, address: str) -> None:
    before = {port: requests_seen(lab, port) for port in lab.topology.workloads}
    out = lab.run(source, "ping", "-c", "5", "-i", "0.05", "-W", "1", address).stdout
    answered = out.split(" packets transmitted, ")[1].split()[0]
    print(f"{source} pings {address}: {answered} of 5 answered")
    for port in lab.topology.workloads:
        if seen := requests_seen(lab, port) - before[port]:
            print(f"  {port} saw {seen} requests")


def main(name: str = "two-tenants") -> None:
    model, _ = assign(ovsnet.load([MODEL]), Lock())
    red, blue = (vpc.ports["b"] for vpc in (model.vpcs["red"], model.vpcs["blue"]))
    print(f"red/b  has {red.mac} and {red.ips[0]}")
    print(f"blue/b has {blue.mac} and {blue.ips[0]}")
    lab = Lab.up(model, name)
    try:
        for tenant in ("red", "blue"):
            for address in red.ips:
                ping(lab, f"{tenant}/a", address)
        result = lab.test()
        print(f"every port to every other: {result.line()}")
    finally:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
