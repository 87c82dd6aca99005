"""Publish a VPC to a host without ovsnet's controller: nats-py alone. The messages: docs/bus.md.

    python examples/publish.py nats://127.0.0.1:4222 hv1

The host's agent runs with ``--nats nats://127.0.0.1:4222``. A second port comes and goes until the program is ended.
"""

import asyncio
import json
import sys
import uuid

import nats

SOURCE = "publish.py"


def port(name, number):
    mac, ident = f"02:00:00:00:00:{number:02x}", str(uuid.uuid5(uuid.NAMESPACE_DNS, name))
    return {"network": "web", "host": "hv2", "mac": mac, "ips": [f"10.1.0.{number}"], "id": ident}


async def main(url, host):
    bus = await nats.connect(url, max_reconnect_attempts=-1)
    web = {"vni": 5001, "subnets": [{"cidr": "10.1.0.0/24"}]}
    shop = {"name": "shop", "revision": 1, "owner": SOURCE, "networks": {"web": web}, "ports": {"p1": port("p1", 11)}}
    shop["hosts"] = {host: "10.0.0.11", "hv2": "10.0.0.12"}

    async def send(kind, **fields):
        await bus.publish(f"ovsnet.host.{host}.in.{kind}", json.dumps({"v": 1, "source": SOURCE, **fields}).encode())

    async def heads():  # without digests, so hosts compare revisions
        await send("heads", vpcs={"shop": [shop["revision"], ""]}, spread=0.5)

    async def hello(message):  # what the host holds; it is told whatever differs
        said = json.loads(message.data)
        if said.get("source", SOURCE) != SOURCE:
            return
        held = {vpc: revision for vpc, (revision, _digest) in said.get("vpcs", {}).items()}
        items = []
        if held.get("shop") != shop["revision"]:
            shop["revision"] = max(shop["revision"], held.get("shop", 0) + 1)
            items.append({"op": "put", "vpc": "shop", "body": shop})
        if said.get("source"):
            items += [{"op": "delete", "vpc": vpc, "revision": held[vpc]} for vpc in held if vpc != "shop"]
        await send("change", tx=said["id"], answers=said["id"], items=items)
        await heads()

    await bus.subscribe(f"ovsnet.host.{host}.out.hello", cb=hello)
    while True:
        previous, name = shop["revision"], "p2"
        change = None if name in shop["ports"] else port(name, 12)
        shop["ports"].pop(name, None) if change is None else shop["ports"].update({name: change})
        shop["revision"] = previous + 1
        patch = {"previous": previous, "revision": previous + 1, "ports": {name: change}}
        await send("change", tx=f"tx{previous + 1}", items=[{"op": "patch", "vpc": "shop", "body": patch}])
        await heads()
        await asyncio.sleep(0.5)


asyncio.run(main(*sys.argv[1:]))
