"""Where every host stands, from what it reports: in memory alone, since hosts say it again whenever they reconnect."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeVar

from ovsnet.transport.messages import PortReport, ReportMessage, VpcReport

T = TypeVar("T")

UNHEARD = "has not reported since the controller started"
ON_ITS_WAY = "on its way to the switch"


@dataclass
class HostStatus:
    """What one host has said. ``reason``: why it is not in contact, empty while it is.

    ``heard`` is a time of the monotonic clock, ``lost`` counts reports that were missed. ``ports`` holds what is said
    of the ports on the host, by ``VPC/NAME``. ``refused``: the VPCs that it does not take from here, with reasons.
    """

    reason: str = UNHEARD
    heard: float | None = None
    run: str = ""
    serial: int = 0
    lost: int = 0
    vpcs: dict[str, VpcReport] = field(default_factory=dict)
    ports: dict[str, PortReport] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    misplaced: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


class Contact(NamedTuple):
    """Whether a host is in contact: ``back``, ``lost``, or ``refused`` when it answers and cannot be told."""

    host: str
    state: Literal["back", "lost", "refused"]
    reason: str = ""


Wanted = Mapping[str, Mapping[str, int]]
"""What hosts should enforce: by host, by VPC, the least revision; 0: the host should hold it no more."""


@dataclass
class _Waiter:
    """Somebody who waits: by host, the VPCs that it has not yet confirmed, with their revisions."""

    missing: dict[str, dict[str, int]]
    future: Future[None] = field(default_factory=Future)


@dataclass
class _PortWaiter:
    host: str
    port: str
    future: Future[None] = field(default_factory=Future)


class Status:
    """The hosts' status, and those that wait for it. Thread-safe; every method is quick.

    ``on_contact`` is called whenever that of a host changes, in the order of changes; it must only take note.
    """

    def __init__(self) -> None:
        self.on_contact: Callable[[Contact], object] = lambda _: None
        self._lock = threading.Lock()
        self._hosts: dict[str, HostStatus] = {}
        self._waiters: list[_Waiter] = []
        self._ports: list[_PortWaiter] = []

    def reported(self, report: ReportMessage) -> None:
        """Take a report; a full one replaces all that was known of the host."""
        with self._lock:
            host = self._hosts.setdefault(report.host, HostStatus())
            if report.run == host.run and report.serial <= host.serial:
                return  # told before, or overtaken
            if report.full:
                host.vpcs, host.ports = {}, {}
            elif (report.run, report.serial) != (host.run, host.serial + 1):
                host.lost += 1
            host.run, host.serial = report.run, report.serial
            host.heard = time.monotonic()
            self._contact(report.host, host, "")
            host.faults, host.misplaced = report.faults, report.misplaced
            _merge(host.vpcs, report.vpcs)
            _merge(host.ports, report.ports)
            self._settle(report.host, host)

    def reachable(self, host: str, reason: str, *, refused: bool = False) -> None:
        """Note whether a host is in contact: an empty ``reason``, or why it is not; ``refused``: it says so itself."""
        with self._lock:
            self._contact(host, self._hosts.setdefault(host, HostStatus()), reason, refused=refused)

    def refused(self, host: str, vpcs: Mapping[str, str]) -> None:
        """Note the VPCs that a host does not take from here, with reasons: all of them."""
        with self._lock:
            self._hosts.setdefault(host, HostStatus()).refused = vpcs

    def forget(self, hosts: Iterable[str]) -> None:
        """Drop hosts that are no more; nobody waits for them any longer."""
        with self._lock:
            for name in hosts:
                self._hosts.pop(name, None)
                for waiter in self._waiters:
                    waiter.missing.pop(name, None)
            self._release()

    def host(self, name: str) -> HostStatus:
        """What is known of a host."""
        with self._lock:
            return self._hosts.get(name, HostStatus())

    def known(self) -> dict[str, HostStatus]:
        """What is known of all hosts that have ever been in contact."""
        with self._lock:
            return dict(self._hosts)

    def port(self, host: str, port: str) -> PortReport | None:
        """What a host says of a port (``VPC/NAME``) on it; ``None`` if nothing."""
        with self._lock:
            found = self._hosts.get(host)
            return None if found is None else found.ports.get(port)

    def late(self, wanted: Wanted) -> dict[str, str]:
        """The hosts that do not enforce what they should, with reasons."""
        with self._lock:
            found: dict[str, str] = {}
            for name, vpcs in sorted(wanted.items()):
                reasons = dict.fromkeys(why for vpc, rev in vpcs.items() if (why := self._why(name, vpc, rev)))
                if reasons:
                    found[name] = "; ".join(reasons)
            return found

    async def await_enforced(self, wanted: Wanted, timeout: float) -> dict[str, str]:
        """Wait until every host enforces what it should; after ``timeout`` seconds those that do not, and why."""
        with self._lock:
            missing = {
                name: {vpc: revision for vpc, revision in vpcs.items() if self._why(name, vpc, revision)}
                for name, vpcs in wanted.items()
            }
            waiter = _Waiter({name: vpcs for name, vpcs in missing.items() if vpcs})
            if not waiter.missing:
                return {}
            self._waiters.append(waiter)
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter.future), timeout)
        except TimeoutError:
            return self.late(wanted)
        finally:
            with self._lock:
                self._waiters = [one for one in self._waiters if one is not waiter]
        return {}

    async def await_up(self, host: str, port: str, timeout: float) -> PortReport:
        """Wait until a host says that a port is up; what it says after ``timeout`` seconds otherwise."""
        with self._lock:
            waiter = _PortWaiter(host, port)
            if self._is_up(host, port):
                waiter.future.set_result(None)
            else:
                self._ports.append(waiter)
        try:
            await asyncio.wait_for(asyncio.wrap_future(waiter.future), timeout)
        except TimeoutError:
            pass
        finally:
            with self._lock:
                self._ports = [one for one in self._ports if one is not waiter]
        return self.port(host, port) or PortReport(False, f"{host} has not reported it")

    def _contact(self, name: str, host: HostStatus, reason: str, *, refused: bool = False) -> None:
        if reason != host.reason:
            host.reason = reason
            self.on_contact(Contact(name, "refused" if refused else "lost" if reason else "back", reason))

    def _is_up(self, host: str, port: str) -> bool:
        found = self._hosts.get(host)
        said = None if found is None else found.ports.get(port)
        return said is not None and said.up

    def _why(self, name: str, vpc: str, revision: int) -> str:
        """Why a host does not enforce a revision; empty if it does."""
        host = self._hosts.get(name, _UNKNOWN)
        said = host.vpcs.get(vpc)
        if revision == 0:
            return "" if said is None and host.heard is not None else host.reason or "still holds the VPC"
        if said is not None and said.enforced is not None and said.enforced >= revision:
            return ""
        if host.reason:
            return host.reason
        if vpc in host.refused:
            return f"VPC {vpc} is refused: {host.refused[vpc]}"
        if said is not None and said.held:
            return said.held
        return "; ".join(host.faults) or ON_ITS_WAY

    def _settle(self, name: str, host: HostStatus) -> None:
        for waiter in self._waiters:
            vpcs = waiter.missing.get(name)
            if vpcs is not None:
                left = {vpc: revision for vpc, revision in vpcs.items() if self._why(name, vpc, revision)}
                waiter.missing[name] = left
                if not left:
                    del waiter.missing[name]
        self._release()
        for waiting in self._ports:
            said = host.ports.get(waiting.port) if waiting.host == name else None
            if said is not None and said.up and not waiting.future.done():
                waiting.future.set_result(None)

    def _release(self) -> None:
        for waiter in self._waiters:
            if not waiter.missing and not waiter.future.done():
                waiter.future.set_result(None)


_UNKNOWN = HostStatus()


def _merge(into: dict[str, T], changes: Mapping[str, T | None]) -> None:
    for name, value in changes.items():
        if value is None:
            into.pop(name, None)
        else:
            into[name] = value
