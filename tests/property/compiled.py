"""The compiler's flows on a harness switch, over the bridge's management socket."""

from __future__ import annotations

import socket
import struct

from ovsnet import facts as facts_module
from ovsnet.compiler import compile_states
from ovsnet.model.types import Model, VpcState
from ovsnet.openflow.codec import serialize
from tests.property.harness import DummySwitch, Facts

HELLO, ERROR, BARRIER_REQUEST, BARRIER_REPLY = 0, 1, 20, 21
HEADER = struct.Struct("!BBHI")
VERSION = 5


def states_of(model: Model, host: str) -> list[VpcState]:
    """What ``host`` is told: the VPCs that have a port on it, complete."""
    states = []
    for name, vpc in model.vpcs.items():
        homes = {port.host: model.hosts[port.host].vtep for port in vpc.ports.values() if port.host is not None}
        if host in homes:
            states.append(VpcState(name=name, revision=1, networks=vpc.networks, ports=vpc.ports, hosts=homes))
    return states


def install(switch: DummySwitch, model: Model, facts: Facts) -> None:
    """Compile ``model`` for the switch's host and add the flows. Raises AssertionError for a refused one."""
    ids = {f"{v}/{n}": port.id for v, vpc in model.vpcs.items() for n, port in vpc.ports.items()}
    ofports = {ids[port]: number for port, number in facts.ofports.items()}
    desired = compile_states(
        states_of(model, facts.host), facts.host, facts_module.Facts(ofports, facts.tunnel_ofport, facts.nd_responder)
    )
    send(switch, [serialize(owned.row) for owned in desired.flows.values()])


def send(switch: DummySwitch, messages: list[bytes]) -> None:
    """Send OpenFlow 1.4 messages and a barrier, and wait for its reply."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(switch.mgmt_target("br-int").removeprefix("unix:"))
        hello, barrier = HEADER.pack(VERSION, HELLO, 8, 1), HEADER.pack(VERSION, BARRIER_REQUEST, 8, 2)
        connection.sendall(hello + b"".join(messages) + barrier)
        stream = connection.makefile("rb")
        while True:
            _, kind, length, _ = HEADER.unpack(stream.read(8))
            body = stream.read(length - 8)
            if kind == ERROR:
                raise AssertionError(f"the switch refused a flow: error {body.hex()}")
            if kind == BARRIER_REPLY:
                return
