"""os-ken's view of one of our connections: what its apps call a datapath."""

from __future__ import annotations

from typing import Any

from os_ken.controller.handler import CONFIG_DISPATCHER
from os_ken.ofproto import ofproto_parser, ofproto_protocol

from ovsnet.openflow import wire
from ovsnet.openflow.connection import Connection, Session
from ovsnet.openflow.errors import SwitchDisconnected

SEND_LIMIT = 64 << 20


class SwitchDatapath(ofproto_protocol.ProtocolDesc):  # type: ignore[misc]
    """The datapath of one session, with the attributes and methods that os-ken's apps use.

    A new one is made with each connection, as os-ken does. Nothing here blocks.
    """

    def __init__(self, connection: Connection, session: Session, xids: wire.Xids) -> None:
        super().__init__(wire.VERSION)
        self._connection = connection
        self._session = session
        self._xids = xids
        self.id = session.datapath_id
        self.address = connection.target
        self.ports: dict[int, Any] = {}
        self.state = CONFIG_DISPATCHER
        self.xid = 0

    @property
    def is_active(self) -> bool:
        """Whether messages can still be sent."""
        return self._session.open

    def set_xid(self, msg: Any) -> int:
        """Give a message the next transaction id; it never meets one of our own requests."""
        self.xid = self._xids.take()
        msg.set_xid(self.xid)
        return self.xid

    def send_msg(self, msg: Any, close_socket: bool = False) -> bool:
        """Serialise and queue a message; whether it was queued, as in os-ken.

        It is not once the connection has ended, or when the switch has left 64 MiB unread.
        """
        if msg.xid is None:
            self.set_xid(msg)
        msg.serialize()
        return self.send(msg.buf, close_socket)

    def send(self, buf: bytes | bytearray, close_socket: bool = False) -> bool:
        """The same for serialised messages."""
        if self._session.outgoing_bytes > SEND_LIMIT:
            self._connection.counters["unsent"] += 1
            return False
        try:
            self._connection.send(self._session, buf)
        except SwitchDisconnected:
            return False
        if close_socket:
            self.close()
        return True

    def send_barrier(self) -> bool:
        """Queue a barrier request; the reply comes as EventOFPBarrierReply."""
        return self.send_msg(self.ofproto_parser.OFPBarrierRequest(self))

    def send_packet_out(
        self, buffer_id: int = 0xFFFFFFFF, in_port: int | None = None, actions: Any = None, data: Any = None
    ) -> bool:
        """Queue a packet-out, as in os-ken."""
        port = self.ofproto.OFPP_CONTROLLER if in_port is None else in_port
        return self.send_msg(self.ofproto_parser.OFPPacketOut(self, buffer_id, port, actions, data))

    def close(self) -> None:
        """Cut the connection; a new one is dialled."""
        self._connection.drop(self._session)

    def parse(self, raw: bytes) -> Any:
        """A message as os-ken's object; ``None`` when os-ken cannot read it (it logs why)."""
        version, kind, length, xid = wire.HEADER.unpack_from(raw)
        return ofproto_parser.msg(self, version, kind, length, xid, raw)

    def read_ports(self) -> None:
        """Fill ``ports`` from what the handshake brought."""
        for raw in self._session.port_desc:
            message = self.parse(raw)
            self.ports.update((port.port_no, port) for port in (message.body if message else ()))

    def port_changed(self, message: Any) -> None:
        """Follow a port status message in ``ports``."""
        if message.reason == self.ofproto.OFPPR_DELETE:
            self.ports.pop(message.desc.port_no, None)
        else:
            self.ports[message.desc.port_no] = message.desc

    @property
    def features(self) -> bytes:
        """The FEATURES_REPLY message of the handshake."""
        return self._session.features
