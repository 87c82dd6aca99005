"""Hands what a switch says to os-ken apps, on a thread of its own: a slow app delays itself, never the connection."""

from __future__ import annotations

from collections import Counter
from typing import Any

from os_ken.base import app_manager
from os_ken.controller import ofp_event
from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER

from ovsnet.openflow import wire
from ovsnet.openflow.datapath import SwitchDatapath
from ovsnet.openflow.jobs import Jobs

LIMIT = 1024
"""Messages that may wait to be published; more are dropped and counted."""

_EVENT_OF = {
    wire.ERROR: ofp_event.EventOFPErrorMsg,
    wire.PACKET_IN: ofp_event.EventOFPPacketIn,
    wire.FLOW_REMOVED: ofp_event.EventOFPFlowRemoved,
    wire.BARRIER_REPLY: ofp_event.EventOFPBarrierReply,
}


def brick() -> Any:
    """os-ken's register of those who observe OpenFlow events, or ``None``."""
    return app_manager.lookup_service_brick(ofp_event.NAME)


def wanted(kind: int) -> bool:
    """Whether any app observes messages of this kind; kinds with many event classes are wanted with any observer."""
    observers = getattr(brick(), "observers", {})
    if kind in _EVENT_OF:
        return bool(observers.get(_EVENT_OF[kind]))
    return any(observers.values())


class Publisher(Jobs):
    """Publishes messages to their observers, besides other jobs; os-ken parses them only here."""

    def __init__(self, name: str, counters: Counter[str]) -> None:
        self._counters = counters
        self._messages = 0
        super().__init__(name)

    def message(self, datapath: SwitchDatapath, kind: int, raw: bytes) -> None:
        """Publish a message, if somebody wants its kind and fewer than LIMIT messages wait."""
        if not wanted(kind):
            return
        with self._ready:
            if self._messages >= LIMIT:
                self._counters["dropped_messages"] += 1
                return
            self._messages += 1
        self.post(lambda: self._publish_message(datapath, raw))

    def _publish_message(self, datapath: SwitchDatapath, raw: bytes) -> None:
        with self._ready:
            self._messages -= 1
        message = datapath.parse(raw)
        if message is None:
            return
        if raw[1] == wire.PORT_STATUS:
            datapath.port_changed(message)
        self._counters["published_messages"] += 1
        _observed(ofp_event.ofp_msg_to_ev(message), datapath.state)
        if raw[1] == wire.PORT_STATUS:
            _observed(ofp_event.EventOFPPortStateChange(datapath, message.reason, message.desc.port_no), datapath.state)


def publish_up(datapath: SwitchDatapath) -> None:
    """What os-ken's apps see of a handshake: configuration, the features, then the main state."""
    if wanted(wire.FEATURES_REPLY):
        _state_change(datapath, CONFIG_DISPATCHER)
        features = datapath.parse(datapath.features)
        if features is not None:
            _observed(ofp_event.ofp_msg_to_ev(features), CONFIG_DISPATCHER)
        datapath.read_ports()
    _state_change(datapath, MAIN_DISPATCHER)


def publish_down(datapath: SwitchDatapath) -> None:
    """What os-ken's apps see of a lost connection."""
    _state_change(datapath, DEAD_DISPATCHER)


def _state_change(datapath: SwitchDatapath, state: str) -> None:
    datapath.state = state
    event = ofp_event.EventOFPStateChange(datapath)
    event.state = state
    _observed(event, state)


def _observed(event: Any, state: str) -> None:
    register = brick()
    if register is not None:
        register.send_event_to_observers(event, state)
