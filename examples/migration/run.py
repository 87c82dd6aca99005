"""A machine moves from hv1 to hv2 while it is pinged a hundred times a second, and over an open TCP connection.

sudo python examples/migration/run.py [LAB]
"""

import socket
import subprocess
import sys
import time
from pathlib import Path

import ovsnet
from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign


def tell(lab: Lab, verb: str) -> None:
    """One word to every host that holds the VPC; then where hv3 sends to."""
    for host in lab.topology.hosts:
        with lab.agent(host) as agent:
            getattr(agent, verb)("shop", "db1", "hv2", owner=lab.model.name, wait=5)
    print(f"{verb}: web3's packet is {lab.agent('hv3').trace('shop/web3', 'shop/db1')['reason']}")


def move(lab: Lab) -> None:
    """What the orchestration system and two hypervisors do: db1's NIC is eth0 on hv1, and eth1 on hv2."""
    db1 = lab.port("shop/db1")
    tell(lab, "prepare")
    with lab.agent("hv2") as agent:
        peer = agent.plug("shop", "db1", mtu=db1.mtu, wait=5)["peer"]
        lab.ovs("hv2").run("ip", "link", "set", peer, "netns", db1.netns, "name", "eth1")
        lab.run("shop/db1", "ip", "address", "add", db1.addresses[0], "dev", "eth1")
        lab.run("shop/db1", "sh", "-c", "ip link set eth0 down; ip link set eth1 up")  # paused here, resumed there
        while not agent.port("shop", "db1")["active"]:  # hv2 has seen a frame of it
            time.sleep(0.01)
    tell(lab, "activate")
    lab.ovs("hv1").vsctl("del-port", db1.tap)


def main(name: str = "migration") -> None:
    lab = Lab.up(assign(ovsnet.load([Path(__file__).with_name("migration.yaml")]), Lock())[0], name)
    try:
        with netns.inside(lab.port("shop/db1").netns):
            server = socket.create_server(("192.168.1.11", 5432))
        with netns.inside(lab.port("shop/web3").netns):
            client = socket.create_connection(("192.168.1.11", 5432))
            ping = subprocess.Popen(["ping", "-qc250", "-i.01", "192.168.1.11"], stdout=subprocess.PIPE, text=True)
        with server.accept()[0] as accepted:
            accepted.settimeout(5)
            move(lab)
            client.sendall(b"still here")
            print(f"the connection of before: {accepted.recv(99).decode()}; the pings go on: {ping.poll() is None}")
        print(ping.communicate()[0].splitlines()[-2].partition(", time")[0])
    finally:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
