"""The least that does the same for two hosts, written by hand: two zones, commit to one port, forward by MAC.

It lies beside ovsnet's own flows in tables of its own; one flow in table 0 turns IP frames into it, and nothing else is
different: the same switches, ports and tunnel, and ARP answered as ever.
"""

from __future__ import annotations

from dataclasses import dataclass

from ovsnet.lab.ovs import OvsInstance

BRIDGE = "br-int"
_COOKIE = "0xbe"
_TURN = f"cookie={_COOKIE},table=0,priority=65535"
_ZONE, _OUT = "NXM_NX_REG10[0..15]", "NXM_NX_REG8[]"


@dataclass(frozen=True)
class Workload:
    """A workload as its host's switch sees it."""

    host: str
    mac: str
    ofport: int


def flows(host: str, workloads: list[Workload], vteps: dict[str, str], tunnel: int, vni: int, port: int) -> list[str]:
    """The pipeline of a host: for ``workloads`` of all hosts, ``port`` being the TCP port that may be connected to."""
    new = f"ct_state=+trk+new,tcp,tp_dst={port}"
    written = [
        f"table=200,ip,in_port={tunnel},tun_id={vni},actions=goto_table:202",
        f"table=201,{new},actions=ct(commit,zone={_ZONE}),goto_table:202",
        "table=201,ct_state=+trk+est,ip,actions=goto_table:202",
        f"table=203,{new},actions=ct(commit,zone={_ZONE}),output:{_OUT}",
        f"table=203,ct_state=+trk+est,ip,actions=output:{_OUT}",
    ]
    for zone, one in enumerate(workloads, 60_001):
        mine = f"set_field:{zone}->reg10"
        if one.host == host:
            written += [
                f"table=200,ip,in_port={one.ofport},actions={mine},ct(zone={_ZONE},table=201)",
                f"table=202,ip,dl_dst={one.mac},actions={mine},set_field:{one.ofport}->reg8,ct(zone={_ZONE},table=203)",
            ]
        else:
            there = f"set_field:{vni}->tun_id,set_field:{vteps[one.host]}->tun_dst,output:{tunnel}"
            written.append(f"table=202,ip,dl_dst={one.mac},actions={there}")
    return [f"cookie={_COOKIE},priority=100,{flow}" for flow in written]


def install(ovs: OvsInstance, written: list[str]) -> None:
    """Put the pipeline into a switch; nothing comes to it yet."""
    ovs.ofctl("add-flows", BRIDGE, "-", stdin="\n".join(written).encode())


def turn(ovs: OvsInstance, *, on: bool) -> None:
    """Let IP frames go through it, or through ovsnet's tables again."""
    if on:
        ovs.ofctl("add-flow", BRIDGE, f"{_TURN},ip,actions=goto_table:200")
    else:
        ovs.ofctl("del-flows", BRIDGE, f"cookie={_COOKIE}/-1,table=0")
