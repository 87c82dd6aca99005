"""The Ryu app (on os-ken): one switch's connection, as an app that stands beside any other in the AppManager."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from os_ken.base.app_manager import AppManager, OSKenApp
from os_ken.controller import ofp_event
from os_ken.controller.event import EventBase

from ovsnet.openflow import publisher, wire
from ovsnet.openflow.api import ALL_TABLES, BundleResult, PayloadMaker, Timing
from ovsnet.openflow.connection import Connection, Session
from ovsnet.openflow.datapath import SwitchDatapath
from ovsnet.openflow.errors import SwitchError, SwitchTimeout
from ovsnet.openflow.events import EventEnforced, EventSwitchConnected, EventSwitchDisconnected
from ovsnet.openflow.leases import Leases
from ovsnet.openflow.notices import Notice, is_ours
from ovsnet.openflow.osken import PARSER
from ovsnet.openflow.outside import Heard, Sent
from ovsnet.openflow.responder import Responder
from ovsnet.openflow.transactions import Transactions
from ovsnet.pipeline.verdicts import CONTROLLER_ID
from ovsnet.responders.lease import Lease

if TYPE_CHECKING:
    from typing_extensions import Buffer

_serial = itertools.count(1)


class OvsnetApp(OSKenApp):  # type: ignore[misc]
    """Keeps the OpenFlow connection to ``target``; implements ``api.SwitchPort`` (see there for each method).

    Made by ``start_app``. Other apps receive its events (``ovsnet.openflow.events``) and, through os-ken's
    ``ofp_event``, the switch's messages. Answers to our own requests are never events. Raises ValueError for a
    malformed target.
    """

    _EVENTS = [EventSwitchConnected, EventSwitchDisconnected, EventEnforced]

    def __init__(self, *args: Any, target: str, timing: Timing | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = f"{type(self).__name__}-{next(_serial)}"  # os-ken keys its apps by name; there may be several of us
        self._connection = Connection(target, self, timing)
        self._transactions = Transactions(self._connection)
        self._publisher = publisher.Publisher(target, self._connection.counters)
        self._app_xids = wire.Xids(wire.Xids.APPS)
        self._responder: Responder | None = None
        self._leases = Leases(target, self._connection.counters, self._answering)
        self._changed = threading.Condition()
        self._generation = 0
        self._datapath: SwitchDatapath | None = None
        self._connect_callbacks: list[Callable[[int], None]] = []
        self._disconnect_callbacks: list[Callable[[str], None]] = []
        self._stopped = False
        self._leave: Callable[[], None] = lambda: None
        self._on_trouble: Callable[[str], None] = lambda reason: None

    # ---- life ----------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Called by os-ken's conventions once all apps are there: begin to dial."""
        start_events(self)
        self._connection.start()

    def stop(self) -> None:
        """Close the connection, end all threads, and leave the AppManager with the apps that came with us.

        Not to be called from an os-ken event handler, whose thread it waits for.
        """
        with self._changed:
            if self._stopped:
                return
            self._stopped = True
        self._connection.stop()
        self._publisher.stop()
        self._leases.stop()
        if self._responder is not None:
            self._responder.stop()
        self._leave()
        super().stop()

    # ---- the connection's listener, on its thread ----------------------------------------------------------------

    def session_up(self, session: Session) -> None:
        """A handshake is done."""
        datapath = SwitchDatapath(self._connection, session, self._app_xids)
        with self._changed:
            self._generation += 1
            generation = self._generation
            self._datapath = datapath
            callbacks = list(self._connect_callbacks)
            if self._responder is not None:
                self._ask_for_copies(datapath)
            self._changed.notify_all()
        self._publisher.post(lambda: publisher.publish_up(datapath))
        self._post_event(EventSwitchConnected(self.target, datapath))
        for callback in callbacks:
            self._post_call(callback, generation)

    def session_down(self, session: Session, reason: str) -> None:
        """A connection was lost."""
        with self._changed:
            datapath, self._datapath = self._datapath, None
            callbacks = list(self._disconnect_callbacks)
        self._transactions.session_down(reason)
        if datapath is not None:
            self._publisher.post(lambda: publisher.publish_down(datapath))
        self._post_event(EventSwitchDisconnected(self.target, reason))
        for callback in callbacks:
            self._post_call(callback, reason)

    def received(self, session: Session, kind: int, xid: int, raw: bytes) -> None:
        """A message came: an answer to us, or something that apps may want."""
        datapath, responder = self._datapath, self._responder
        if kind == wire.PACKET_IN and responder is not None and datapath is not None and is_ours(raw):
            responder.received(datapath, raw)
        if kind == wire.ERROR:
            self._connection.counters["errors"] += 1
        if not self._transactions.received(kind, xid, raw) and datapath is not None:
            self._publisher.message(datapath, kind, raw)

    def trouble(self, reason: str) -> None:
        """There is no connection, for a reason that is new."""
        self._post_call(self._on_trouble, reason)

    def on_trouble(self, callback: Callable[[str], None]) -> None:
        """Call ``callback(reason)`` whenever ``last_error`` changes, and now."""
        self._on_trouble = callback
        self._post_call(callback, self.last_error)

    def _post_event(self, event: EventBase) -> None:
        self._publisher.post(lambda: self.send_event_to_observers(event))

    def _post_call(self, callback: Callable[[Any], None], argument: Any) -> None:
        self._publisher.post(lambda: callback(argument))

    # ---- SwitchPort ----------------------------------------------------------------------------------------------

    @property
    def target(self) -> str:
        """See SwitchPort."""
        return self._connection.target

    @property
    def connected(self) -> bool:
        """See SwitchPort."""
        return self._datapath is not None

    @property
    def generation(self) -> int:
        """See SwitchPort."""
        return self._generation

    @property
    def last_error(self) -> str:
        """See SwitchPort."""
        return self._connection.last_error

    @property
    def datapath(self) -> SwitchDatapath | None:
        """os-ken's view of the present connection, if there is one."""
        return self._datapath

    def wait_connected(self, timeout: float) -> None:
        """See SwitchPort."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while not self.connected:
                if not self._changed.wait(max(0.0, deadline - time.monotonic())):
                    raise SwitchTimeout(f"{self.target}: {self.last_error or 'not connected yet'}")

    def on_connect(self, callback: Callable[[int], None]) -> None:
        """See SwitchPort."""
        with self._changed:
            self._connect_callbacks.append(callback)
            if self._datapath is not None:
                self._post_call(callback, self._generation)

    def on_disconnect(self, callback: Callable[[str], None]) -> None:
        """See SwitchPort."""
        with self._changed:
            self._disconnect_callbacks.append(callback)

    def apply_bundle(self, make_payload: PayloadMaker, count: int, timeout: float = 60.0) -> BundleResult:
        """See SwitchPort."""
        return self._transactions.apply_bundle(make_payload, count, timeout)

    def send_bundle(
        self, bundle_id: int, first_xid: int, payload: Iterable[Buffer], count: int, timeout: float
    ) -> BundleResult:
        """``apply_bundle`` for a payload made elsewhere, which took its numbers from ``Xids.BUNDLES`` itself."""
        return self._transactions.send_bundle(bundle_id, first_xid, payload, count, timeout)

    def barrier(self, timeout: float = 10.0) -> None:
        """See SwitchPort."""
        self._transactions.barrier(timeout)

    def dump_flows(
        self, cookie: int = 0, cookie_mask: int = 0, table: int = ALL_TABLES, timeout: float = 60.0
    ) -> list[bytes]:
        """See SwitchPort."""
        return self._transactions.dump_flows(cookie, cookie_mask, table, timeout)

    def multipart(self, kind: int, body: bytes = b"", timeout: float = 10.0) -> list[bytes]:
        """See SwitchPort."""
        return self._transactions.multipart(kind, body, timeout)

    def order(self, kind: int, bodies: Sequence[bytes], timeout: float = 10.0) -> None:
        """See SwitchPort."""
        self._transactions.order(kind, bodies, timeout)

    def on_notice(self, callback: Callable[[Notice | Heard], None]) -> None:
        """See SwitchPort; there is one callback, the first.

        From then on this connection gets the packet-ins of our flows only, and apps beside ours none of their own.
        """
        with self._changed:
            if self._responder is None:
                self._responder = Responder(self.target, self._connection.counters, callback, self._leases)
                if self._datapath is not None:
                    self._ask_for_copies(self._datapath)

    def _answering(self) -> SwitchDatapath | None:
        """The present connection, once copies of packets are asked for on it."""
        return self._datapath if self._responder is not None else None

    def _ask_for_copies(self, datapath: SwitchDatapath) -> None:
        datapath.send(wire.set_controller_id(self._app_xids.take(), CONTROLLER_ID))

    def tell(self, leases: Mapping[int, Lease | None]) -> None:
        """See SwitchPort."""
        self._leases.tell(leases)

    def inject(self, frames: Iterable[Sent]) -> None:
        """See SwitchPort."""
        datapath = self._datapath
        for ofport, frame in frames:
            if datapath is None:
                return
            datapath.send_packet_out(actions=[PARSER.OFPActionOutput(ofport, 0)], data=frame)

    def flush_zones(self, zones: Sequence[int], timeout: float = 60.0) -> None:
        """See SwitchPort."""
        self._transactions.flush_zones(zones, timeout)

    def enforced(self, revisions: Mapping[str, int]) -> None:
        """See SwitchPort."""
        self._post_event(EventEnforced(self.target, revisions))

    def counters(self) -> dict[str, int]:
        """See SwitchPort."""
        return dict(self._connection.counters)


class OfpEvents(OSKenApp):  # type: ignore[misc]
    """In place of os-ken's ``ofp_handler``: the name under which apps observe OpenFlow events, and no TCP listener."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = ofp_event.NAME

    def start(self) -> None:
        """Nothing is sent to it; its event loop runs as any app's."""
        start_events(self)


def start_events(app: OSKenApp) -> None:
    """Start an app's event loop on a daemon thread: one that nobody stopped does not keep the interpreter alive."""
    thread = threading.Thread(target=app._event_loop, name=f"events {app.name}", daemon=True)
    app.threads.append(thread)
    thread.start()


# os-ken's AppManager is one per process; so is this count of who uses the apps that we put there.
_users: dict[str, int] = {}
_users_lock = threading.RLock()


def start_app(target: str, *others: type[OSKenApp], timing: Timing | None = None) -> OvsnetApp:
    """Start our app for ``target`` with the ``others`` beside it, all in os-ken's AppManager; returns it running.

    It does not wait for the switch. One instance of each other app serves all targets; the last ``stop()`` ends it.
    Apps and contexts that observe OpenFlow events get those of our connections. Raises ValueError for a malformed
    target, SwitchError for an app that does not work with OpenFlow 1.4.
    """
    for cls in others:
        if cls.OFP_VERSIONS is not None and wire.VERSION not in cls.OFP_VERSIONS:
            raise SwitchError(
                f"{cls.__name__} declares OFP_VERSIONS without OpenFlow 1.4, which this connection speaks"
            )
    manager = AppManager.get_instance()
    with _users_lock:
        app: OvsnetApp = manager.instantiate(OvsnetApp, target=target, timing=timing)
        held: list[str] = []
        app._leave = lambda: _release(manager, app, held)
        try:
            if publisher.brick() is None or ofp_event.NAME in _users:
                _hold(manager, held, OfpEvents)
            for cls in others:
                _hold(manager, held, cls, **_contexts(manager, held, cls))
        except BaseException:
            app.stop()
            raise
    app.start()
    return app


def _contexts(manager: AppManager, held: list[str], cls: type[OSKenApp]) -> dict[str, Any]:
    """The shared objects that an app asks for in ``_CONTEXTS``; those that are apps themselves run too."""
    for key, context in cls.context_iteritems():
        if issubclass(context, OSKenApp):
            manager.contexts[key] = _hold(manager, held, context)
        elif key not in manager.contexts:
            manager.contexts[key] = context()
    return {key: manager.contexts[key] for key, _ in cls.context_iteritems()}


def _hold(manager: AppManager, held: list[str], cls: type[OSKenApp], **contexts: Any) -> OSKenApp:
    """Instantiate and start an app, or count one more user of the running one."""
    app = next((app for app in manager.applications.values() if type(app) is cls), None)
    if app is None:
        app = manager.instantiate(cls, **contexts)
        thread = app.start()
        if thread is not None:
            app.set_main_thread(thread)
    _users[app.name] = _users.get(app.name, 0) + 1
    held.append(app.name)
    return app


def _release(manager: AppManager, app: OvsnetApp, held: list[str]) -> None:
    with _users_lock:
        for name in reversed(held):
            _users[name] -= 1
            if not _users[name]:
                del _users[name]
                _end(manager, name)
        _end(manager, app.name)


def _end(manager: AppManager, name: str) -> None:
    for key in [key for key, context in manager.contexts.items() if getattr(context, "name", None) == name]:
        del manager.contexts[key]
    if name in manager.applications:
        manager.uninstantiate(name)
