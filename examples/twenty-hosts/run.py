"""Twenty hypervisors on one machine: who holds which VPC, how many flows that is, and a ring of pings over all of them.

sudo python examples/twenty-hosts/run.py [LAB]
"""

import sys
from pathlib import Path

import ovsnet
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign

MODEL = Path(__file__).with_name("twenty-hosts.yaml")


def reaches(lab: Lab, source: str, target: str) -> int:
    """How many of three pings are answered."""
    address = lab.port(target).addresses[0].split("/")[0]
    out = lab.run(source, "ping", "-c", "3", "-i", "0.02", "-W", "1", address).stdout
    return int(out.split(" transmitted, ")[1].split()[0])


def main(name: str = "twenty-hosts") -> None:
    model, _ = assign(ovsnet.load([MODEL]), Lock())
    lab = Lab.up(model, name)
    try:
        status = lab.status()
        print(f"{len(status['hosts'])} switches, {len(status['ports'])} ports, healthy: {status['healthy']}")
        for host in ("hv01", "hv03", "hv12", "hv20"):
            held, desired = sorted(status["hosts"][host]["vpcs"]), ovsnet.compile(model, host)
            flows = lab.ovs(host).ofctl("dump-flows", "br-int", "--no-stats").count("actions=")
            print(f"{host} holds {', '.join(held)}: {len(desired)} flows declared, {flows} in its switch")
        fronts = sorted(name for name in lab.topology.workloads if name.startswith("apps/front"))
        ring = list(zip(fronts, fronts[1:] + fronts[:1], strict=True))
        answered = sum(reaches(lab, source, target) for source, target in ring)
        print(f"every front end pings the next: {answered} of {3 * len(ring)} answered")
        lab.power_off("hv20")
        print(f"hv20 without power: {fronts[0]} to {fronts[18]} {reaches(lab, fronts[0], fronts[18])} of 3,", end=" ")
        print(f"to {fronts[19]} {reaches(lab, fronts[0], fronts[19])} of 3")
    finally:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
