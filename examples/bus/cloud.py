"""An orchestration system on the bus: nats-py alone. It says what should be, and hears from reports what is."""

import asyncio
import json
import time

import nats

SOURCE, LAN = "controller", {"vni": 5001, "subnets": [{"cidr": "10.1.0.0/24"}]}  # hosts follow one source, by its name


class Cloud:
    def __init__(self, vteps):  # host -> VTEP; the revision only rises, also when this program starts anew
        self.vteps, self.ports, self.revision, self.life = vteps, {}, int(time.time()), str(time.time())
        self.enforced, self.up, self.hellos, self.deaf = dict.fromkeys(vteps), {}, set(), set()

    async def join(self, url, tls):
        self.bus = await nats.connect(url, tls=tls, max_reconnect_attempts=-1)
        await self.bus.subscribe("ovsnet.host.*.out.hello", cb=self.hello)
        await self.bus.subscribe("ovsnet.host.*.out.report", cb=self.report)
        self.heart = asyncio.create_task(self.beat())

    async def send(self, host, kind, **fields):
        body = {"v": 1, "source": SOURCE, **fields}
        await self.bus.publish(f"ovsnet.host.{host}.in.{kind}", json.dumps(body).encode())

    def wanted(self, host):  # the revision that a host should have; one that runs no machine, none
        return self.revision if host in {port["host"] for port in self.ports.values()} else None

    async def beat(self):  # whatever was lost shows here; without a digest ("") hosts compare revisions
        while True:
            for host in self.vteps:
                vpcs = {"shop": [self.wanted(host), ""]} if self.wanted(host) else {}
                await self.send(host, "heads", vpcs=vpcs, spread=0.5, instance=self.life)
            await asyncio.sleep(1)

    async def tell(self, host, held, tx, **answers):  # all of it, or to forget the revision that is held
        shop = {"name": "shop", "revision": self.revision, "owner": SOURCE, "networks": {"lan": LAN}}
        shop |= {"ports": self.ports, "hosts": {port["host"]: self.vteps[port["host"]] for port in self.ports.values()}}
        put, delete = {"op": "put", "body": shop}, {"op": "delete", "revision": held}
        items = [{"vpc": "shop"} | (put if self.wanted(host) else delete)] if held != self.wanted(host) else []
        await self.send(host, "change", tx=tx, items=items, **answers)

    async def hello(self, message):  # "this is what I hold": it gets what it lacks
        said = json.loads(message.data)
        self.hellos.add(said["host"])
        await self.tell(said["host"], said.get("vpcs", {}).get("shop", [None])[0], said["id"], answers=said["id"])

    async def report(self, message):
        said = {"vpcs": {}, "ports": {}, **json.loads(message.data)}  # what is empty is left out
        self.up |= {port: bool(now and now["up"]) for port, now in said["ports"].items()}
        self.enforced.update((said["host"], now and now.get("enforced")) for now in said["vpcs"].values())

    async def place(self, machine, port):  # None: it is gone. Done once the reports say that all of it is in force
        self.ports = {name: one for name, one in {**self.ports, machine: port}.items() if one}
        self.revision += 1
        for host in self.vteps.keys() - self.deaf:  # a message to the deaf is lost
            await self.tell(host, self.enforced[host], f"t{self.revision}")
        while any(self.enforced[host] != self.wanted(host) for host in self.vteps):
            await asyncio.sleep(0.01)
