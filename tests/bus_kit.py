"""For the tests of the bus: a publisher's truth in memory, and a host that holds what it is told, without a switch."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future

import msgspec

from ovsnet.agent.follow import Held
from ovsnet.agent.followed import HeldStates
from ovsnet.model import Port, VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.changes import Operation, Patch
from ovsnet.transport.digest import digest_text, state_sum
from ovsnet.transport.messages import Item, ReportMessage, VpcReport
from ovsnet.transport.operations import patch_item, put_item, withdraw_item
from ovsnet.transport.publisher import Told
from ovsnet.transport.reports import Difference, Picture, apply_report, difference
from ovsnet.transport.view import HostView
from tests.agent_kit import HOSTS, port, state

SOURCE = "controller"


class Truth:
    """A ``Feed``: VPCs, and the hosts that each concerns. What changes returns the messages that hosts should get."""

    def __init__(self, hosts: Iterable[str] = ("hv1",)) -> None:
        self.names = list(hosts)
        self.states: dict[str, VpcState] = {}
        self.interest: dict[str, set[str]] = {}
        self.history: set[tuple[str, Head]] = set()
        self.told: dict[str, Picture] = {}
        self.reports: list[ReportMessage] = []
        self.reasons: dict[str, str] = {}
        self.on_raise: Callable[[list[Told]], object] = lambda messages: None
        self._tx = 0
        self._lock = threading.RLock()

    def hosts(self) -> list[str]:
        return self.names

    def wanted(self, host: str) -> dict[str, Head]:
        with self._lock:
            return {vpc: head_of(one) for vpc, one in self.states.items() if host in self.interest[vpc]}

    def state(self, vpc: str) -> VpcState | None:
        return self.states.get(vpc)

    def raise_revision(self, vpc: str, above: int) -> None:
        with self._lock:
            before = self.states[vpc]
            messages = self._take(msgspec.structs.replace(before, revision=max(before.revision, above) + 1))
        self.on_raise(messages)

    def reachable(self, host: str, reason: str, *, refused: bool = False) -> None:
        self.reasons[host] = reason

    def refused(self, host: str, vpcs: Mapping[str, str]) -> None:
        """Of no concern here."""

    def reported(self, report: ReportMessage) -> None:
        self.reports.append(report)
        self.told[report.host] = apply_report(self.told.get(report.host, Picture()), report)

    def create(self, vpc: str, hosts: Iterable[str] = ("hv1",), revision: int = 1, remote: int = 1) -> list[Told]:
        """A new VPC that concerns ``hosts``."""
        vni = 5001 + sum(vpc.encode())
        fresh = msgspec.structs.replace(state(vpc, revision, vni=vni, remote=remote), owner=SOURCE, hosts=dict(HOSTS))
        with self._lock:
            self.interest[vpc] = set()
            self.states[vpc] = fresh
            return self.concern(vpc, hosts)

    def concern(self, vpc: str, hosts: Iterable[str]) -> list[Told]:
        """A VPC concerns these hosts from now on; a change of placement, and so a revision."""
        with self._lock:
            before, self.interest[vpc] = self.interest[vpc], set(hosts)
            return self._take(
                msgspec.structs.replace(self.states[vpc], revision=self.states[vpc].revision + 1), before=before
            )

    def edit(self, vpc: str, number: int, *, gone: bool = False) -> list[Told]:
        """Port ``number`` is created, changed or removed."""
        with self._lock:
            before = self.states[vpc]
            edits: dict[str, Port | None] = {f"p{number}": None if gone else self._port(vpc, number, before.revision)}
            ports = {name: one for name, one in (before.ports | edits).items() if one is not None}
            after = msgspec.structs.replace(before, revision=before.revision + 1, ports=ports)
            return self._take(after, edits)

    def delete(self, vpc: str) -> list[Told]:
        with self._lock:
            revision = self.states.pop(vpc).revision
            return self._messages({host: (withdraw_item(vpc, revision + 1),) for host in self.interest.pop(vpc)})

    @staticmethod
    def _port(vpc: str, number: int, revision: int) -> Port:
        return msgspec.structs.replace(port(vpc, number), labels={"revision": str(revision)})

    def _take(
        self, after: VpcState, edits: dict[str, Port | None] | None = None, before: set[str] | None = None
    ) -> list[Told]:
        vpc, old = after.name, self.states[after.name]
        self.states[vpc] = after
        self.history.add((vpc, head_of(after)))
        interested = self.interest[vpc]
        known = interested if before is None else before
        patch = Patch(vpc=vpc, previous=old.revision, revision=after.revision, ports=edits or {})
        change, whole = (patch_item(patch),), (put_item(after),)
        items = {host: change if host in known else whole for host in interested}
        return self._messages(items | {host: (withdraw_item(vpc, after.revision),) for host in known - interested})

    def _messages(self, items: Mapping[str, tuple[Item, ...]]) -> list[Told]:
        self._tx += 1
        return [Told(host, one, f"tx{self._tx}") for host, one in sorted(items.items())]


def head_of(one: VpcState) -> Head:
    return Head(one.revision, digest_text(state_sum(one)))


class FakeHost:
    """A ``Followed`` that keeps a real view and has no switch; ``fresh`` counts changes that brought something new."""

    def __init__(self, host: str = "hv1") -> None:
        self.host, self.vtep, self.boot = host, HOSTS.get(host, "10.0.0.99"), "boot"
        self.view = HostView(host, {})
        self.fresh = self.stale = 0
        self.confirmed: set[str] = set()
        self.disk_full = False
        self.told = Picture()
        self.unsaved: set[str] = set()
        self.listeners: list[Callable[[], None]] = []

    def held(self) -> Mapping[str, Held]:
        return HeldStates(self.view)

    def change(self, operations: Iterable[Operation]) -> Future[None]:
        change = self.view.check(operations)
        if self.disk_full:  # before anybody can report that it has it
            self.unsaved |= change.states.keys()
        self.view.commit(change)
        self.fresh += bool(change.operations)
        self.stale += not change.operations
        stored: Future[None] = Future()
        if self.disk_full:
            stored.set_exception(OSError(28, "No space left on device"))
        else:
            stored.set_result(None)
        return stored

    def confirm(self, vpcs: Iterable[str]) -> None:
        self.confirmed |= set(vpcs)

    def changes(self, owner: str) -> Difference:
        return difference(self.told, self.picture(owner))

    def picture(self, owner: str) -> Picture:
        self.told = Picture(
            vpcs={
                vpc: VpcReport(one.revision, None if vpc in self.unsaved else one.revision)
                for vpc, one in self.view.states.items()
            }
        )
        return self.told

    def watch(self, listener: Callable[[], None]) -> None:
        self.listeners.append(listener)

    def heads(self) -> dict[str, Head]:
        return {vpc: Head(one.revision, self.view.digest(one)) for vpc, one in self.view.states.items()}
