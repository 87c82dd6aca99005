"""A private switch on the dummy datapath, and bundles made with os-ken, for the OpenFlow contract tests."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from os_ken.ofproto import ofproto_parser, ofproto_protocol

from ovsnet.lab.ovs import OvsInstance
from ovsnet.openflow import PayloadMaker

DESC = ofproto_protocol.ProtocolDesc(5)
OFP, PARSER = DESC.ofproto, DESC.ofproto_parser
COOKIE = 0x0715_0000_0000_0000


def start_switch(run_dir: Path) -> OvsInstance:
    ovs = OvsInstance(run_dir, dummy=True).start()
    ovs.vsctl(
        *("add-br", "br-int", "--", "set", "bridge", "br-int", "fail-mode=secure", "datapath_type=dummy"),
        *("other_config:disable-in-band=true", "--", "add-port", "br-int", "p1"),
        *("--", "set", "interface", "p1", "type=dummy", "ofport_request=1"),
        *("--", "add-port", "br-int", "p2", "--", "set", "interface", "p2", "type=dummy", "ofport_request=2"),
    )
    return ovs


def flow(
    n: int = 0,
    *,
    table: int = 0,
    port: int = 2,
    command: int = OFP.OFPFC_ADD,
    cookie: int = COOKIE,
    priority: int = 100,
) -> ofproto_parser.MsgBase:
    """A flow for the n-th address."""
    match = PARSER.OFPMatch(eth_type=0x0800, ipv4_dst=0x0A000000 + n)
    actions = [PARSER.OFPInstructionActions(OFP.OFPIT_APPLY_ACTIONS, [PARSER.OFPActionOutput(port)])]
    return PARSER.OFPFlowMod(
        DESC, cookie=cookie, table_id=table, command=command, priority=priority, match=match, instructions=actions,
        out_port=OFP.OFPP_ANY, out_group=OFP.OFPG_ANY,
    )  # fmt: skip


def wire_of(message: ofproto_parser.MsgBase) -> bytes:
    message.xid = 0
    message.serialize()
    return bytes(message.buf)


def payload(messages: list[bytes]) -> PayloadMaker:
    """What ``apply_bundle`` asks for: each message wrapped as a bundle's, both headers with the same xid."""

    def make(bundle_id: int, first_xid: int) -> Iterator[bytes]:
        out = bytearray()
        for index, inner in enumerate(messages):
            xid = struct.pack("!I", first_xid + index)
            out += struct.pack("!BBH", 5, OFP.OFPT_BUNDLE_ADD_MESSAGE, 16 + len(inner)) + xid
            out += struct.pack("!I2xH", bundle_id, 3) + inner[:4] + xid + inner[8:]
            if len(out) > 100_000:
                yield bytes(out)
                out.clear()
        yield bytes(out)

    return make


def flows(count: int, **options: int) -> list[bytes]:
    """``count`` flows to different addresses, made from one that os-ken serialised."""
    sample = wire_of(flow(0x00ABCDEF, **options))
    at = sample.index(bytes((0x0A, 0xAB, 0xCD, 0xEF)))
    return [sample[:at] + struct.pack("!I", 0x0A000000 + n) + sample[at + 4 :] for n in range(count)]


def until(condition: Callable[[], object], timeout: float = 20.0) -> float:
    """Wait for a condition; returns the seconds it took, fails after ``timeout``."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, "the condition did not come true"
        time.sleep(0.005)
    return time.monotonic() - start


class Proxy:
    """A relay to a switch's socket that can be cut or made silent, and that may hand on a few bytes at a time."""

    def __init__(self, path: Path, target: str, piece: int = 1 << 16) -> None:
        self.target = f"unix:{path}"
        self._upstream = target.removeprefix("unix:")
        self._piece = piece
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(str(path))
        self._server.listen(16)
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._stopping = False
        self.frozen = False
        self.passed = 0  # bytes from the app to the switch
        self.freeze_at: int | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for sock in (sock for pair in pairs for sock in pair):
            sock.close()

    def stop(self) -> None:
        self._stopping = True
        self._thread.join()
        self.cut()
        self._server.close()

    def _run(self) -> None:
        while not self._stopping:
            with self._lock:
                peers = {a: b for pair in self._pairs for a, b in (pair, pair[::-1])}
                ready = [self._server, *peers] if not self.frozen else [self._server]
                with contextlib.suppress(OSError, ValueError):
                    ready = select.select(ready, [], [], 0)[0]
                    for sock in ready:
                        self._serve(sock, peers)
            if not ready:
                time.sleep(0.001)

    def _serve(self, sock: socket.socket, peers: dict[socket.socket, socket.socket]) -> None:
        if sock is self._server:
            ours = self._server.accept()[0]
            theirs = socket.socket(socket.AF_UNIX)
            theirs.connect(self._upstream)
            self._pairs.append((ours, theirs))
            return
        data = sock.recv(self._piece)
        if any(pair[0] is sock for pair in self._pairs):
            self.passed += len(data)
            self.frozen = self.freeze_at is not None and self.passed >= self.freeze_at
        if data:
            peers[sock].sendall(data)
        else:
            self._pairs = [pair for pair in self._pairs if sock not in pair]
            sock.close()
            peers[sock].close()
