"""A cloud without IPv4: pings within the networks and over the tunnels, and every frame on the wire looked at.

sudo python examples/ipv6-only/run.py [LAB]
"""

import socket
import sys
from collections import Counter
from pathlib import Path

import ovsnet
from ovsnet.lab import netns
from ovsnet.lab.lab import Lab
from ovsnet.model import Lock, assign

MODEL = Path(__file__).with_name("ipv6-only.yaml")
ETH_P_ALL, ETH_P_IP, ETH_P_ARP, ETH_P_IPV6 = 0x0003, 0x0800, 0x0806, 0x86DD
NAMES = {ETH_P_IP: "IPv4", ETH_P_ARP: "ARP", ETH_P_IPV6: "IPv6"}


def wire_of(lab: Lab) -> socket.socket:
    """A socket that gets every frame between the hosts."""
    with netns.inside(lab.topology.underlay):
        wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    wire.setblocking(False)
    return wire


def heard(wire: socket.socket) -> Counter[str]:
    """The frames so far, by their type."""
    counts: Counter[str] = Counter()
    while True:
        try:
            frame, (_, _, direction, *_) = wire.recvfrom(65535)
        except BlockingIOError:
            return counts
        if direction != socket.PACKET_OUTGOING:  # each frame passes the underlay's bridge: count it where it comes in
            kind = int.from_bytes(frame[12:14])
            counts[NAMES.get(kind, f"0x{kind:04x}")] += 1


def main(name: str = "ipv6-only") -> None:
    model, _ = assign(ovsnet.load([MODEL]), Lock())
    lab = Lab.up(model, name)
    try:
        with wire_of(lab) as wire:
            for source, target in (("f1", "f2"), ("f1", "f3"), ("b2", "b1"), ("f1", "b1")):
                address = (model.vpcs["lab"].ports[target].ips or ())[0]
                out = lab.run(f"lab/{source}", "ping", "-c", "5", "-i", "0.05", "-W", "1", address).stdout
                answered = out.partition(" transmitted, ")[2].split()
                print(f"{source} to {target}, {address}: {f'{answered[0]} of 5 answered' if answered else 'no route'}")
            kinds = heard(wire)
            print(f"frames on the wire: {kinds['IPv6']} IPv6, {kinds['IPv4']} IPv4, {kinds['ARP']} ARP")
        print(f"every port to every other: {lab.test().line()}")
    finally:
        lab.down()


if __name__ == "__main__":
    main(*sys.argv[1:])
