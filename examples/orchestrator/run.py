"""Machines come, move and go on the hosts of a lab; after each step, what every host holds, and who is reached.

sudo python -m examples.orchestrator.run LAB_DIRECTORY
"""

import sys
from pathlib import Path

from examples.machines import answers
from examples.orchestrator.cloud import Cloud


def show(cloud, step):
    print(f"{step}: {', '.join(f'{machine} on {host}' for machine, host in cloud.runs.items()) or 'nothing runs'}")
    for host, ports in cloud.held().items():
        print(f"  {host} holds {' '.join(ports) or 'nothing'}")
    for target in ("db1", "web2") if cloud.runs else ():
        print(f"  web1 to {target}: {answers(cloud.lab, 'web1', cloud.ips[target])} of 3 answered")


def main(lab):
    cloud = Cloud(Path(lab))
    for number, machine in enumerate(("web1", "web2", "db1"), 11):
        cloud.start(machine, f"10.1.0.{number}")
    show(cloud, "started")
    cloud.move("db1", "hv1")
    show(cloud, "db1 moved")
    cloud.stop("web2")
    show(cloud, "web2 stopped")
    for machine in list(cloud.runs):
        cloud.stop(machine)
    show(cloud, "all stopped")


if __name__ == "__main__":
    main(*sys.argv[1:])
