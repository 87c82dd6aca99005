"""The few OpenFlow 1.4 messages that the connection itself speaks, as bytes (specification 1.4.0, section 7)."""

from __future__ import annotations

import struct
import threading

VERSION = 5
HEADER = struct.Struct("!BBHI")

HELLO, ERROR, ECHO_REQUEST, ECHO_REPLY, EXPERIMENTER = 0, 1, 2, 3, 4
FEATURES_REQUEST, FEATURES_REPLY, SET_CONFIG = 5, 6, 9
OFPC_FRAG_NX_MATCH = 3
PACKET_IN, FLOW_REMOVED, PORT_STATUS = 10, 11, 12
FLOW_MOD, METER_MOD = 14, 29
MULTIPART_REQUEST, MULTIPART_REPLY, BARRIER_REQUEST, BARRIER_REPLY = 18, 19, 20, 21
BUNDLE_CONTROL, BUNDLE_ADD = 33, 34

MP_FLOW, MP_METER, MP_METER_CONFIG, MP_PORT_DESC, MP_MORE = 1, 9, 10, 13, 1
BUNDLE_OPEN, BUNDLE_CLOSE, BUNDLE_COMMIT, BUNDLE_DISCARD = 0, 2, 4, 6
ORDERED_ATOMIC = 0x3
ANY = NO_BUFFER = 0xFFFFFFFF
HELLO_FAILED = 0
NICIRA, NXT_SET_CONTROLLER_ID, NXT_CT_FLUSH_ZONE = 0x00002320, 20, 29

BUNDLED = struct.Struct("!BBHIIHH")  # the header of a message to add to a bundle: OpenFlow's, bundle id, padding, flags

_MULTIPART = struct.Struct("!HHxxxx")
_FLOW_REQUEST = struct.Struct("!BxxxIIxxxxQQHHxxxx")
_BUNDLE = struct.Struct("!IHH")
_ERROR = struct.Struct("!HH")
_NICIRA_NUMBER = struct.Struct("!II6xH")  # the form of the experimenter messages below


class Xids:
    """Hands out transaction ids of a range, in runs that do not wrap; thread-safe.

    The ranges keep three kinds of messages apart without any table: those of os-ken apps, our own requests, and the
    messages of our bundles.
    """

    APPS = (0x00000001, 0x7FFFFFFF)
    CONTROL = (0x80000000, 0xBFFFFFFF)
    BUNDLES = (0xC0000000, 0xFFFFFFFF)

    def __init__(self, bounds: tuple[int, int]) -> None:
        self._first, self._last = bounds
        self._next = self._first
        self._lock = threading.Lock()

    def take(self, count: int = 1) -> int:
        """The first of ``count`` consecutive ids. Raises ValueError when the range is smaller than that."""
        if count > self._last - self._first + 1:
            raise ValueError(f"{count} messages are more than one bundle can number")
        with self._lock:
            if self._next + count - 1 > self._last:
                self._next = self._first
            first = self._next
            self._next += count
        return first


def message(kind: int, xid: int, body: bytes = b"") -> bytes:
    """A message: the header and its body."""
    return HEADER.pack(VERSION, kind, HEADER.size + len(body), xid) + body


def hello(xid: int) -> bytes:
    """HELLO with a version bitmap that holds OpenFlow 1.4 alone."""
    return message(HELLO, xid, struct.pack("!HHI", 1, 8, 1 << VERSION))


def hello_offers_us(raw: bytes) -> bool:
    """Whether a peer's HELLO lets OpenFlow 1.4 be negotiated (7.5.1: the bitmap decides, without it the version)."""
    offset = HEADER.size
    while offset + 4 <= len(raw):
        kind, length = struct.unpack_from("!HH", raw, offset)
        if kind == 1 and length >= 8 and offset + 8 <= len(raw):
            return bool(struct.unpack_from("!I", raw, offset + 4)[0] >> VERSION & 1)
        offset += max(length + 7 & ~7, 8)
    return raw[0] >= VERSION


def set_config(xid: int) -> bytes:
    """SET_CONFIG with whole packets in packet-ins (without it, a management connection gets none), and ``nx-match``.

    That way of handling fragments shows the transport header of a first fragment to the flows (ovs-ofctl(8),
    ``set-frags``); otherwise neighbour discovery could hide in one.
    """
    return message(SET_CONFIG, xid, struct.pack("!HH", OFPC_FRAG_NX_MATCH, 0xFFFF))


def set_controller_id(xid: int, controller_id: int) -> bytes:
    """NXT_SET_CONTROLLER_ID: this connection gets the packet-ins that are for ``controller_id``, and no others."""
    return message(EXPERIMENTER, xid, _NICIRA_NUMBER.pack(NICIRA, NXT_SET_CONTROLLER_ID, controller_id))


def multipart_request(xid: int, kind: int, body: bytes = b"") -> bytes:
    """A multipart request in one message."""
    return message(MULTIPART_REQUEST, xid, _MULTIPART.pack(kind, 0) + body)


def port_desc_request(xid: int) -> bytes:
    """OFPMP_PORT_DESC for all ports."""
    return multipart_request(xid, MP_PORT_DESC)


def flow_stats(table: int, cookie: int, mask: int) -> bytes:
    """The body of OFPMP_FLOW for the flows of a table with this cookie under this mask."""
    return _FLOW_REQUEST.pack(table, ANY, ANY, cookie, mask, 1, 4)


def bundle_control(xid: int, bundle_id: int, kind: int) -> bytes:
    """OFPT_BUNDLE_CONTROL for an ordered, atomic bundle."""
    return message(BUNDLE_CONTROL, xid, _BUNDLE.pack(bundle_id, kind, ORDERED_ATOMIC))


def flush_zone(xid: int, zone: int) -> bytes:
    """NXT_CT_FLUSH_ZONE: forget the connections of a conntrack zone (Open vSwitch, nicira-ext.h, nx_zone_id)."""
    return message(EXPERIMENTER, xid, _NICIRA_NUMBER.pack(NICIRA, NXT_CT_FLUSH_ZONE, zone))


def multipart_flags(raw: bytes) -> int:
    """The flags of a multipart message."""
    return int(_MULTIPART.unpack_from(raw, HEADER.size)[1])


def error_fields(raw: bytes) -> tuple[int, int, bytes]:
    """Type, code and data of an error message."""
    kind, code = _ERROR.unpack_from(raw, HEADER.size)
    return kind, code, raw[HEADER.size + _ERROR.size :]
