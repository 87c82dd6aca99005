"""An orchestration system on the hypervisors' API alone: it places machines, starts, moves and stops them."""

import http.client
import json
import socket

from examples.machines import boot, halt

NETWORK = {"vni": 5001, "subnets": [{"cidr": "10.1.0.0/24"}]}


class Cloud:
    def __init__(self, lab):  # the lab's directory, with a socket for each host
        self.lab, self.runs, self.ips = lab.name, {}, {}  # machine -> host, machine -> address: all that is remembered
        self.sockets = {path.parent.name: str(path) for path in sorted(lab.glob("h/*/agent.sock"))}

    def call(self, host, method, path, body=None):
        agent = http.client.HTTPConnection("agent")
        agent.sock = socket.socket(socket.AF_UNIX)
        agent.sock.connect(self.sockets[host])
        agent.request(method, f"/v1/{path}", None if body is None else json.dumps(body))
        answer = agent.getresponse()
        said = json.loads(answer.read() or "null")
        agent.close()
        if answer.status not in (200, 404):  # 202 is one: not enforced within `wait`
            raise SystemExit(f"{host}: {method} {path}: {said}")
        return said if answer.status == 200 else {}

    def tell(self):  # a host that runs a machine is told of all, any other of none; to say it again is harmless
        hosts = {host: self.call(host, "GET", "host")["vtep"] for host in set(self.runs.values())}
        for host in self.sockets:
            for gone in set(self.call(host, "GET", "vpcs/shop/ports")) - set(self.runs):
                self.call(host, "DELETE", f"workloads/{gone}?wait=5s")
            for machine, where in self.runs.items() if host in hosts else ():
                port = {"network": "lan", "host": where, "ips": [self.ips[machine]]}
                nic = {"vpc": "shop", "name": machine, "port": port, "network": NETWORK}
                self.call(host, "PUT", f"workloads/{machine}?wait=5s", {"nics": [nic], "hosts": hosts})
            if host not in hosts:
                self.call(host, "DELETE", "vpcs/shop?wait=5s")

    def start(self, machine, ip, host=None):  # where the fewest run, unless somebody says where
        host = host or min(self.sockets, key=lambda one: list(self.runs.values()).count(one))
        self.runs[machine], self.ips[machine] = host, ip
        self.tell()
        plugged = self.call(host, "POST", f"vpcs/shop/ports/{machine}/plug?wait=5s", {"mtu": 1450})
        boot(self.lab, host, machine, plugged["peer"], f"{ip}/24")

    def stop(self, machine):
        self.call(self.runs.pop(machine), "POST", f"vpcs/shop/ports/{machine}/unplug", {})
        halt(self.lab, machine)
        self.tell()

    def move(self, machine, host):
        self.stop(machine)
        self.start(machine, self.ips[machine], host)

    def held(self):
        return {host: sorted(self.call(host, "GET", "vpcs/shop/ports")) for host in self.sockets}
