"""Security groups by tier: what `explain` says of each connection, beside what happens to it.

sudo python examples/tiers/run.py [LAB]
"""

import socket
import sys
from pathlib import Path

import ovsnet
from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign
from ovsnet.reasons import Probe, explain
from ovsnet.trace import places

MODEL = Path(__file__).with_name("tiers.yaml")
ASKED = [
    ("client", "web1", 443), ("web1", "app1", 8080), ("web2", "app1", 8080), ("app1", "db1", 5432),
    ("client", "app1", 8080), ("web1", "db1", 5432), ("db1", "app1", 8080), ("web1", "web2", 22),
]  # fmt: skip


def connects(lab: Lab, source: str, target: str, port: int) -> bool:
    """Whether a TCP connection comes about: real packets, between the two workloads' own IP stacks."""
    address = lab.port(target).addresses[0].split("/")[0]
    with netns.inside(lab.port(target).netns):
        server = socket.create_server(("", port))
    with netns.inside(lab.port(source).netns):
        client = socket.socket()
    client.settimeout(0.5)
    with server, client:
        try:
            client.connect((address, port))
        except TimeoutError:
            return False
        return server.accept()[1][0] == lab.port(source).addresses[0].split("/")[0]


def main(name: str = "tiers") -> None:
    model, _ = assign(ovsnet.load([MODEL]), Lock())
    lab = Lab.up(model, name)
    try:
        for source, target, port in ASKED:
            answer, _ = explain(model, places(model), f"shop/{source}", f"shop/{target}", Probe("tcp", port))
            seen = "connects" if connects(lab, f"shop/{source}", f"shop/{target}", port) else "no answer"
            print(f"{source} to {target}, tcp {port}: {answer.reason}, and {seen}")
            print(f"  decided by {answer.decided_by}")
            for edit in () if answer.allowed else answer.change:
                print(f"  to allow it: {edit}")
    finally:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
