"""Machines come, move and go on the hosts of a lab, told over the bus; and what becomes of a message that is lost."""

import asyncio
import ssl
import sys
from pathlib import Path

from examples.bus.cloud import Cloud
from examples.machines import answers, boot, halt, plug, unplug

URL, VTEPS = "tls://[fd6f:7673:6e65::1]:4222", {"hv1": "10.0.0.11", "hv2": "10.0.0.12", "hv3": "10.0.0.13"}


async def start(cloud, lab, machine, host, number):
    ip, mac = f"10.1.0.{number}", f"02:00:00:00:00:{number}"
    ident = f"5a0e6b1c-0000-4000-8000-0000000000{number}"
    await cloud.place(machine, {"network": "lan", "host": host, "mac": mac, "ips": [ip], "id": ident})
    boot(lab.name, host, machine, plug(lab, host, machine, ident), f"{ip}/24", mac)
    while not cloud.up.get(f"shop/{machine}"):
        await asyncio.sleep(0.01)


async def stop(cloud, lab, machine):
    unplug(lab, cloud.ports[machine]["host"], machine)
    halt(lab.name, machine)
    await cloud.place(machine, None)


def show(cloud, lab, step):
    runs = [f"{machine} on {port['host']}" for machine, port in cloud.ports.items()]
    print(f"{step}: {', '.join(runs) or 'nothing runs'}")
    print(f"  in force on {' '.join(host for host in cloud.vteps if cloud.enforced[host]) or 'no host'}")
    for target in list(cloud.ports)[1:]:
        print(f"  web1 to {target}: {answers(lab.name, 'web1', cloud.ports[target]['ips'][0])} of 3 answered")


async def main(directory):
    cloud, lab = Cloud(VTEPS), Path(directory)
    pki = lab / "pki/callers/controller"
    tls = ssl.create_default_context(cafile=pki / "callers-ca.pem")
    tls.load_cert_chain(pki / "cert.pem", pki / "key.pem")
    await cloud.join(URL, tls)
    for number, machine in enumerate(("web1", "web2", "db1"), 1):
        await start(cloud, lab, machine, f"hv{number}", 10 + number)
    show(cloud, lab, "started")
    await stop(cloud, lab, "db1")
    await start(cloud, lab, "db1", "hv1", 13)
    show(cloud, lab, "db1 moved")
    cloud.deaf, cloud.hellos = {"hv1"}, set()
    await start(cloud, lab, "db2", "hv2", 14)
    show(cloud, lab, f"a message to hv1 was lost, {' '.join(sorted(cloud.hellos))} said hello")
    for machine in list(cloud.ports):
        await stop(cloud, lab, machine)
    show(cloud, lab, "all stopped")


if __name__ == "__main__":
    asyncio.run(asyncio.wait_for(main(*sys.argv[1:]), 30))
