"""The connection's own messages, compared with os-ken's serialisation of the same."""

from __future__ import annotations

import struct
import threading

import pytest
from os_ken.ofproto import ofproto_parser, ofproto_protocol

from ovsnet.openflow import wire
from ovsnet.openflow.connection import parse_target

DESC = ofproto_protocol.ProtocolDesc(5)
OFP, PARSER = DESC.ofproto, DESC.ofproto_parser


def serialised(message: ofproto_parser.MsgBase) -> bytes:
    message.set_xid(77)
    message.serialize()
    return bytes(message.buf)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (wire.hello(77), PARSER.OFPHello(DESC, [PARSER.OFPHelloElemVersionBitmap([5])])),
        (wire.message(wire.FEATURES_REQUEST, 77), PARSER.OFPFeaturesRequest(DESC)),
        (wire.set_config(77), PARSER.OFPSetConfig(DESC, wire.OFPC_FRAG_NX_MATCH, 0xFFFF)),
        (wire.message(wire.ECHO_REQUEST, 77, b"abc"), PARSER.OFPEchoRequest(DESC, b"abc")),
        (wire.message(wire.BARRIER_REQUEST, 77), PARSER.OFPBarrierRequest(DESC)),
        (wire.port_desc_request(77), PARSER.OFPPortDescStatsRequest(DESC, 0)),
        (
            wire.multipart_request(77, wire.MP_FLOW, wire.flow_stats(5, 0x0102, 0xFF00)),
            PARSER.OFPFlowStatsRequest(DESC, 0, 5, OFP.OFPP_ANY, OFP.OFPG_ANY, 0x0102, 0xFF00, PARSER.OFPMatch()),
        ),
        *(
            (wire.bundle_control(77, 9, kind), PARSER.OFPBundleCtrlMsg(DESC, 9, kind, 3, []))
            for kind in (wire.BUNDLE_OPEN, wire.BUNDLE_CLOSE, wire.BUNDLE_COMMIT, wire.BUNDLE_DISCARD)
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_messages_are_os_kens(ours: bytes, theirs: ofproto_parser.MsgBase) -> None:
    if isinstance(theirs, PARSER.OFPHello):
        # os-ken reads a version bitmap but does not write one: compare what it reads.
        read = ofproto_parser.msg(DESC, *wire.HEADER.unpack_from(ours), ours)
        assert [element.versions for element in read.elements] == [[5]]
    else:
        assert ours == serialised(theirs)


def test_an_errors_fields() -> None:
    raw = serialised(PARSER.OFPErrorMsg(DESC, type_=2, code=4, data=b"the message"))
    assert wire.error_fields(raw) == (2, 4, b"the message")


@pytest.mark.parametrize(
    ("raw", "offers"),
    [
        (wire.hello(1), True),
        (wire.message(wire.HELLO, 1), True),
        (b"\x06" + wire.message(wire.HELLO, 1)[1:], True),
        (b"\x04" + wire.message(wire.HELLO, 1)[1:], False),
        (wire.message(wire.HELLO, 1, struct.pack("!HHI", 1, 8, 1 << 6 | 1 << 4)), False),
        (wire.message(wire.HELLO, 1, struct.pack("!HHI8xHHI", 9, 12, 0, 1, 8, 1 << 5)), True),
        (wire.message(wire.HELLO, 1, struct.pack("!HHI8xHHI", 9, 12, 0, 1, 8, 1 << 4)), False),
        (wire.message(wire.HELLO, 1, struct.pack("!HH", 1, 8)), True),
    ],
)
def test_hellos(raw: bytes, offers: bool) -> None:
    assert wire.hello_offers_us(raw) is offers


def test_xids_are_consecutive_and_never_wrap_inside_a_run() -> None:
    xids = wire.Xids((10, 19))
    assert [xids.take(4), xids.take(4), xids.take(4), xids.take(10), xids.take()] == [10, 14, 10, 10, 10]
    with pytest.raises(ValueError, match="more than one bundle can number"):
        xids.take(11)


def test_xids_are_unique_across_threads() -> None:
    xids = wire.Xids(wire.Xids.CONTROL)
    taken: list[int] = []
    threads = [threading.Thread(target=lambda: taken.extend(xids.take() for _ in range(5000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(taken)) == 20_000


@pytest.mark.parametrize(
    ("target", "parsed"),
    [
        ("unix:/run/x.mgmt", ("unix", "/run/x.mgmt", 0)),
        ("tcp:127.0.0.1:6653", ("tcp", "127.0.0.1", 6653)),
        ("tcp:[::1]:6653", ("tcp", "::1", 6653)),
    ],
)
def test_targets(target: str, parsed: tuple[str, str, int]) -> None:
    assert parse_target(target) == parsed


@pytest.mark.parametrize("target", ["", "br-int", "unix:", "tcp:host", "tcp::1", "tcp:h:0", "tcp:h:65536", "ssl:h:1"])
def test_malformed_targets(target: str) -> None:
    with pytest.raises(ValueError, match="write unix:PATH or tcp:HOST:PORT"):
        parse_target(target)


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(ValueError, match="107 bytes"):
        parse_target("unix:/" + "x" * 107)
