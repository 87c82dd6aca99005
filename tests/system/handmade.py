"""Flows written by hand for small IPv4 clouds: a second opinion on the lab that owes nothing to the compiler."""

from __future__ import annotations

from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab

_REPLY = (
    "move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:{mac}->eth_src,set_field:2->arp_op,"
    "move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],set_field:{mac}->arp_sha,"
    "move:NXM_OF_ARP_SPA[]->NXM_OF_ARP_TPA[],set_field:{ip}->arp_spa,in_port"
)


def install(lab: Lab) -> None:
    """Give every host a tunnel port and the flows of its workloads."""
    for host in lab.topology.hosts.values():
        options = ("type=vxlan", "options:remote_ip=flow", "options:key=flow", f"options:local_ip={host.vtep}")
        lab.ovs(host.name).vsctl("add-port", INTEGRATION, "vxlan0", "--", "set", "Interface", "vxlan0", *options)
    for name in lab.topology.hosts:
        lab.ovs(name).ofctl("add-flows", INTEGRATION, "-", stdin="\n".join(flows(lab, name)).encode())
    lab.warm()


def ofport(lab: Lab, host: str, interface: str) -> int:
    return int(lab.ovs(host).vsctl("get", "Interface", interface, "ofport"))


def flows(lab: Lab, host: str) -> list[str]:
    tunnel = ofport(lab, host, "vxlan0")
    made = []
    for one in lab.topology.workloads.values():
        if one.host != host:
            continue
        port, vni = ofport(lab, host, one.tap), lab.model.vpcs[one.vpc].networks["web"].vni
        ip = one.addresses[0].split("/")[0]
        made.append(f"in_port={tunnel},tun_id={vni},ip,dl_dst={one.mac},nw_dst={ip},actions=output:{port}")
        for other in lab.topology.workloads.values():
            if other.vpc != one.vpc or other is one:
                continue
            mac, ip = other.mac, other.addresses[0].split("/")[0]
            made.append(f"in_port={port},arp,arp_op=1,arp_tpa={ip},actions={_REPLY.format(mac=mac, ip=ip)}")
            if other.host == host:
                to = f"output:{ofport(lab, host, other.tap)}"
            else:
                vtep = lab.topology.hosts[other.host].vtep
                to = f"set_field:{vni}->tun_id,set_field:{vtep}->tun_dst,output:{tunnel}"
            match = f"in_port={port},ip,dl_src={one.mac},dl_dst={mac}"
            made.append(f"{match},actions={to}" if other.host != host else f"{match},nw_dst={ip},actions={to}")
    return made
