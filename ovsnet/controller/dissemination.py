"""From transactions to hosts and back: the controller's side of every transport."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor

from ovsnet.controller.commit import Committed
from ovsnet.controller.core import Core
from ovsnet.controller.errors import NotFoundError
from ovsnet.controller.status import Status
from ovsnet.controller.truth import Truth
from ovsnet.errors import UserError
from ovsnet.log import about, about_port
from ovsnet.model.types import VpcState
from ovsnet.transport.catchup import Head
from ovsnet.transport.changes import patch_for
from ovsnet.transport.fanout import VpcChange, fan_out
from ovsnet.transport.feed import Transport
from ovsnet.transport.messages import ReportMessage
from ovsnet.transport.reports import FULL_EVERY

log = logging.getLogger(__name__)

AGENT_PORT = 7443
"""Where an agent listens unless its host's ``agent`` says otherwise."""
FLUSH_EVERY = 0.2
"""Seconds between two flushes, after which what was published leaves the outbox."""
SILENT_AFTER = 1.5 * FULL_EVERY
"""Seconds without a report after which a host is said to be out of contact."""

Activate = Callable[[str, str, str], None]
"""``activate(vpc, port, host)``: a port that was moving to a host has arrived there."""


class Dissemination:
    """What transports ask of the controller (``Feed``), and the way of a transaction to them.

    ``activate`` is called, on a thread of its own, when a host sees the first frame of a port that is moving to it.
    """

    def __init__(self, core: Core, status: Status, activate: Activate = lambda vpc, port, host: None) -> None:
        self.core, self.status = core, status
        self.source = core.name
        self.transports: list[Transport] = []
        self._activate = activate
        self._moves = ThreadPoolExecutor(1, thread_name_prefix="moves")
        self._unflushed: list[tuple[str, int]] = []
        self._dropped = False
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self._flusher = threading.Thread(target=self._flush_loop, name="outbox", daemon=True)

    def start(self, transports: Iterable[Transport]) -> None:
        """Hand on every transaction from now on, and first what may not have been handed on before the last end."""
        self.transports = list(transports)
        self.core.on_commit.append(self.committed)
        self._leftover()
        self._flusher.start()

    def stop(self) -> None:
        """Stop handing on; what is with the transports is flushed once more."""
        self._ending.set()
        self._flusher.join()
        self._moves.shutdown(cancel_futures=True)

    def committed(self, committed: Committed) -> None:
        """Tell the hosts that a transaction concerns; called in the order of commits."""
        if committed.hosts:
            for transport in self.transports:
                transport.follow()
            self.status.forget(name for name, host in committed.hosts.items() if host is None)
        self._send(committed.tx, [commit.change() for commit in committed.vpcs.values()])

    def hosts(self) -> Iterable[str]:
        """All hosts of the site."""
        return self.core.hosts().keys()

    def address(self, host: str) -> str | None:
        """Where a host's agent is called; ``None`` for a host that is no more."""
        owned = self.core.read(lambda truth: truth.hosts.get(host))
        if owned is None:
            return None
        vtep = owned.host.vtep
        return owned.host.agent or f"https://{f'[{vtep}]' if ':' in vtep else vtep}:{AGENT_PORT}"

    def wanted(self, host: str) -> Mapping[str, Head]:
        """The VPCs that concern a host."""
        return self.core.wanted(host)

    def state(self, vpc: str) -> VpcState | None:
        """A VPC as it is now; ``None`` if there is none."""
        try:
            return self.core.state(vpc)
        except NotFoundError:
            return None

    def raise_revision(self, vpc: str, above: int) -> None:
        """Give a VPC a revision above ``above``, if it still is there."""
        try:
            self.core.raise_revision(vpc, above)
        except NotFoundError:
            log.info("VPC %s is gone before its revision was raised", vpc, extra=about(vpc, revision=above))

    def reported(self, report: ReportMessage) -> None:
        """A host has said where it stands."""
        gone = set(self.status.host(report.host).vpcs) - report.vpcs.keys() if report.full else set()
        self.status.reported(report)
        enforced = {vpc: None if said is None else said.enforced or 0 for vpc, said in report.vpcs.items()}
        self.core.confirmed(report.host, enforced | dict.fromkeys(gone))
        for port, said in report.ports.items():
            if said is not None and said.active:
                vpc, _, name = port.partition("/")
                self._moves.submit(self._arrived, vpc, name, report.host)

    def reachable(self, host: str, reason: str, *, refused: bool = False) -> None:
        """Whether a host is in contact."""
        before = self.status.host(host).reason
        if reason and reason != before:
            log.warning("host %s is out of contact: %s", host, reason, extra=about(host=host))
        self.status.reachable(host, reason, refused=refused)

    def refused(self, host: str, vpcs: Mapping[str, str]) -> None:
        """Which VPCs a host does not take from here."""
        self.status.refused(host, vpcs)

    def _arrived(self, vpc: str, port: str, host: str) -> None:
        try:
            self._activate(vpc, port, host)
        except UserError as exc:
            text = "port %s/%s has arrived on %s and could not be activated there: %s"
            log.warning(text, vpc, port, host, exc, extra=about_port(vpc, port, host=host))
        except Exception:
            log.exception("activating port %s/%s on %s failed", vpc, port, host, extra=about_port(vpc, port, host=host))

    def _send(self, tx: str, changes: list[VpcChange]) -> None:
        sent = True
        for message, hosts in fan_out(tx, changes):
            for transport in self.transports:
                sent &= transport.send(message, hosts)
        with self._lock:
            self._unflushed += [(change.vpc, change.revision) for change in changes]
            self._dropped |= not sent

    def _leftover(self) -> None:
        """Tell what is acknowledged and may not have been told; it is harmless if it was."""
        for tx, vpc, change in self.core.leftover():
            hosts = self._interested(vpc)
            self._send(tx, [VpcChange(vpc, change.revision, patch_for(vpc, change), None, hosts, hosts)])

    def _interested(self, vpc: str) -> frozenset[str]:
        def look(truth: Truth) -> frozenset[str]:
            held = truth.vpcs.get(vpc)
            return frozenset() if held is None else held.interested

        return self.core.read(look)

    def _flush_loop(self) -> None:
        while not self._ending.wait(FLUSH_EVERY):
            self._flush()
            self._look_for_silent_hosts()
        self._flush()

    def _flush(self) -> None:
        """What all transports have handed over for good leaves the outbox; what was dropped is sent again."""
        with self._lock:
            sent, dropped = list(self._unflushed), self._dropped
        if not sent or not all(transport.flush() for transport in self.transports):
            return
        if dropped:
            with self._lock:
                self._unflushed, self._dropped = [], False
            self._leftover()
            return
        self.core.published(sent)
        with self._lock:
            del self._unflushed[: len(sent)]

    def _look_for_silent_hosts(self) -> None:
        now = time.monotonic()
        for name, host in self.status.known().items():
            silent = 0.0 if host.heard is None else now - host.heard
            if not host.reason and silent > SILENT_AFTER:
                self.reachable(name, f"no report for {silent:.0f} s")
