"""What the fault scripts share: a lab with a controller, changes that go on meanwhile, and the oracle.

All is well when every host holds exactly the VPCs that have a port on it, at the controller's revision and contents,
and enforces them; when the switches have no flow that the agents do not account for; and when what the controller
acknowledged is what it has.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

import msgspec

from ovsnet.agent.client import AgentError, AgentUnreachable
from ovsnet.lab import control
from ovsnet.lab.deliver import reachable
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab
from ovsnet.lab.patience import PATIENCE
from ovsnet.model import Host, Model, Network, Port, Subnet, Vpc, VpcState, port_id
from ovsnet.transport.digest import digest_text, state_sum
from tests.agent_kit import until
from tests.api_kit import Answer, Unanswered, call

SETTLE = 5.0 * PATIENCE
"""Seconds after a fault's end within which all must be well."""
BULK = "bulk"
"""The network of the ports that have no workload: they are there to be many."""
HOSTS = ("hv1", "hv2", "hv3")


def port(vpc: str, name: str, number: int, host: str | None, network: str = "web") -> Port:
    """Port ``number`` (1..65000) of a VPC: MAC and address follow from it, the same in every VPC."""
    high, low = divmod(number, 250)
    mac = f"02:00:00:{network == BULK:02x}:{high:02x}:{low:02x}"
    ip = f"10.{9 if network == BULK else 1}.{high}.{low + 2}"
    return Port(network=network, host=host, mac=mac, ips=(ip,), id=port_id(vpc, name))


def cloud(bulk: int = 0, turn: int = 0, hosts: Iterable[str] = HOSTS) -> Model:
    """Three hosts and three VPCs: red on all of them, blue on the first two, green on the last alone.

    Red has ``bulk`` more ports without workloads; with every ``turn`` each of them is on the next host.
    """
    names = tuple(hosts)
    placed = {"red": names[:3], "blue": names[:2], "green": (names[2], names[2])}
    vpcs = {}
    for number, (vpc, where) in enumerate(placed.items(), 1):
        ports = {f"p{n}": port(vpc, f"p{n}", n, host) for n, host in enumerate(where, 1)}
        networks = {
            "web": Network(vni=5000 + number, subnets=(Subnet(cidr="10.1.0.0/16"),)),
            BULK: Network(vni=6000 + number, subnets=(Subnet(cidr="10.9.0.0/16"),)),
        }
        vpcs[vpc] = Vpc(tenant=vpc, networks=networks, ports=ports)
    many = {
        f"bulk-{n}": msgspec.structs.replace(
            port("red", f"bulk-{n}", n, names[(n + turn) % len(names)], BULK), description=f"turn {turn}"
        )
        for n in range(1, bulk + 1)
    }
    vpcs["red"] = msgspec.structs.replace(vpcs["red"], ports=vpcs["red"].ports | many)
    vteps = {name: Host(vtep=f"10.0.0.{10 + number}") for number, name in enumerate(names, 1)}
    return Model(name="faults", hosts=vteps, vpcs=vpcs)


class World:
    """A lab with a controller, and what is known of it; ``settle`` is the oracle."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.socket = control.socket_of(lab.control)

    @property
    def transport(self) -> str:
        """``controller`` or ``nats``."""
        return self.lab.control.transport

    def call(self, method: str, resource: str, body: Any = None, timeout: float = 30.0, **query: str) -> Answer:
        """One request to the controller. Raises Unanswered."""
        return call(self.socket, method, resource, body, query=query, timeout=timeout)

    def done(self, method: str, resource: str, body: Any = None, **query: str) -> Any:
        """One request that has to be granted; its answer."""
        answer = self.call(method, resource, body, **query)
        assert answer.status < 300, answer
        return answer.body

    def apply(self, model: Model, **query: str) -> Answer:
        """Hand a model over, all or nothing; hosts get the addresses that they have in the lab. Raises Unanswered."""
        return self.call("POST", "/v1/apply", reachable(model, self.lab.topology), **query)

    def state(self, vpc: str) -> VpcState:
        """A VPC as the controller has it."""
        told = self.done("GET", f"/v1/vpcs/{vpc}")
        return msgspec.convert({name: told[name] for name in VpcState.__struct_fields__ if name in told}, VpcState)

    def states(self) -> dict[str, VpcState]:
        """All VPCs of the controller."""
        return {vpc: self.state(vpc) for vpc in self.done("GET", "/v1/vpcs")}

    def differences(self, hosts: Iterable[str] | None = None) -> list[str]:
        """What is not as it should be at this moment, in sentences; ``hosts``: only on these."""
        try:
            wanted = heads(self.states().values())
        except Unanswered as error:
            return [f"the controller does not answer: {error}"]
        found = []
        for host in hosts or self.lab.topology.hosts:
            try:
                with self.lab.agent(host) as client:
                    seen = client.host()
                    held = {vpc: (one["revision"], one["digest"]) for vpc, one in client.vpcs().items()}
                    late = {vpc: one for vpc, one in client.vpcs().items() if one["enforced"] != one["revision"]}
            except (AgentError, AgentUnreachable) as error:
                found.append(f"{host}: {error}")
                continue
            should = wanted.get(host, {})
            found += [f"{host}: holds {vpc} at {held.get(vpc)}, not {head}" for vpc, head in should.items()
                      if held.get(vpc) != head]  # fmt: skip
            found += [f"{host}: holds {vpc}, which is none of its business" for vpc in held.keys() - should.keys()]
            found += [f"{host}: does not enforce {vpc}: {one}" for vpc, one in late.items()]
            found += [f"{host}: {fault}" for fault in seen["faults"]]
        return found

    def settle(self, within: float = SETTLE, hosts: Iterable[str] | None = None) -> float:
        """Wait until nothing differs, and look for stale flows then; the seconds that it took."""
        start = time.monotonic()
        while found := self.differences(hosts):
            assert time.monotonic() - start < within, "\n".join(found)
            time.sleep(0.05)
        took = time.monotonic() - start
        assert self.stale(hosts) == []
        return took

    def stale(self, hosts: Iterable[str] | None = None) -> list[str]:
        """Hosts whose switch has other flows than the agent accounts for."""
        found = []
        for host in hosts or self.lab.topology.hosts:
            with self.lab.agent(host) as client:
                count = client.host()["flows"]
            lines = self.lab.ovs(host).ofctl("dump-flows", INTEGRATION, "--no-stats").splitlines()
            flows = sum("actions=" in line for line in lines)
            if flows != count:
                found.append(f"{host}: {flows} flows in the switch, {count} accounted for")
        return found

    def matrix(self) -> None:
        """Assert that every packet of the lab goes as declared."""
        self.lab.warm()
        result = self.lab.test()
        assert result.ok, result.as_dict()


def heads(states: Iterable[VpcState]) -> dict[str, dict[str, tuple[int, str]]]:
    """What every host should hold, by host and VPC: revision and digest; worked out from the states alone."""
    wanted: dict[str, dict[str, tuple[int, str]]] = {}
    for state in states:
        head = (state.revision, digest_text(state_sum(state)))
        ports = state.ports.values()
        for host in {one.host for one in ports} | {one.moving_to for one in ports}:
            if host is not None:
                wanted.setdefault(host, {})[state.name] = head
    return wanted


class Churn:
    """Applies one model after the other, each again until it is acknowledged: what goes on while things break.

    ``acknowledged`` is the last turn that was, ``begun`` the last that was asked for.
    """

    def __init__(self, world: World, make: Callable[[int], Model], pause: float = 0.0) -> None:
        self.world, self.make, self.pause = world, make, pause
        self.acknowledged = self.begun = 0
        self.refusals: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)

    def __enter__(self) -> Churn:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, turns: int, timeout: float = 30.0) -> None:
        """Wait until so many more turns are acknowledged."""
        target = self.acknowledged + turns
        until(lambda: self.acknowledged >= target, timeout=timeout * PATIENCE)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.begun = self.acknowledged + 1
            model = self.make(self.begun)
            while True:
                with suppress(Unanswered):
                    answer = self.world.apply(model)
                    if answer.status < 300:
                        self.acknowledged = self.begun
                        break
                    self.refusals.append(f"{answer.status} {answer.body}")
                if self._stop.is_set():
                    return
                time.sleep(0.05)
            self._stop.wait(self.pause)


def turn_of(state: VpcState) -> int:
    """The turn that the many ports of a state are of. All of them are of one, since a call is done as a whole."""
    turns = {one.description for name, one in state.ports.items() if name.startswith("bulk-")}
    assert len(turns) == 1, f"half a change is there: {turns}"
    return int(turns.pop().removeprefix("turn "))
