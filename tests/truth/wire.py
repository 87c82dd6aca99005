"""Messages that no socket makes by itself: ICMP of any type, SCTP, and errors about packets; and who hears what."""

from __future__ import annotations

import struct
from collections import Counter
from ipaddress import ip_address

from ovsnet.lab import frames, segments
from ovsnet.lab.segments import TCP, UDP

MARK = b"truth:"
BIG = {4: 4, 6: 0}
"""The code of the errors that the harness sends itself: packet too big."""
Tuple = tuple[int, str, int, str, int]
"""Protocol, source address and port, destination address and port."""


def token(number: int) -> bytes:
    """What marks a message wherever it turns up."""
    return MARK + struct.pack("!I", number)


def icmp(src: str, dst: str, kind: int, ident: int, payload: bytes, code: int = 0) -> bytes:
    """An ICMP or ICMPv6 message; a timestamp request has its timestamps before the payload."""
    body = struct.pack("!BBHHH", kind, code, 0, ident, 1) + (bytes(12) if kind in (13, 14) else b"") + payload
    return _summed(src, dst, body)


def too_big(src: str, dst: str, sent: Tuple, payload: bytes, mtu: int = 1300) -> bytes:
    """A router's (or anybody's) word to ``dst`` that the packet it sent was too big; ``sent`` is that packet."""
    protocol, *_ = sent
    inner_src, sport, inner_dst, dport = ip_address(sent[1]).packed, sent[2], ip_address(sent[3]).packed, sent[4]
    upper = struct.pack("!HHI", sport, dport, 1) if protocol == TCP else struct.pack("!HHHH", sport, dport, 1400, 0)
    upper += payload + bytes(64)
    if ":" in src:
        inner = struct.pack("!IHBB", 6 << 28, 1400, protocol, 64) + inner_src + inner_dst + upper
        return _summed(src, dst, struct.pack("!BBHI", 2, 0, 0, mtu) + inner)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 1420, 0, 0x4000, 64, protocol, 0) + inner_src + inner_dst
    head = head[:10] + struct.pack("!H", frames.checksum(head)) + head[12:]
    return _summed(src, dst, struct.pack("!BBHHH", 3, 4, 0, 0, mtu) + head + upper)


def _summed(src: str, dst: str, body: bytes) -> bytes:
    pseudo = b""
    if ":" in src:
        pseudo = ip_address(src).packed + ip_address(dst).packed + struct.pack("!II", len(body), segments.ICMPV6)
    return body[:2] + struct.pack("!H", frames.checksum(pseudo + body)) + body[4:]


def sctp(sport: int, dport: int, payload: bytes, *, answer: bool = False) -> bytes:
    """An SCTP packet with an INIT chunk, or the INIT ACK to it (RFC 9260, section 3.3), its CRC32c right.

    The payload is a parameter that its receiver may skip; trackers that know SCTP see an association begin.
    """
    chunk = struct.pack("!BBHIIHHI", 2 if answer else 1, 0, 24 + len(payload), 1, 65536, 1, 1, 1)
    chunk += struct.pack("!HH", 0x8000, 4 + len(payload)) + payload + bytes(-len(payload) % 4)
    packet = struct.pack("!HHII", sport, dport, 1 if answer else 0, 0) + chunk
    return packet[:8] + struct.pack("<I", _crc32c(packet)) + packet[12:]


def _crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for octet in data:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


class Heard:
    """Every packet that arrived at a workload's eth0, counted in the ways that the harness asks for."""

    def __init__(self) -> None:
        self.tuples: Counter[tuple[str, Tuple]] = Counter()
        self.tokens: Counter[tuple[str, int]] = Counter()
        self.answers: Counter[tuple[str, int, int]] = Counter()
        self.errors: Counter[tuple[str, int]] = Counter()

    def note(self, place: str, frame: bytes) -> None:
        """Take in a frame that arrived at ``place``."""
        packet = segments.read(frame)
        at = frame.find(MARK)
        if at >= 0 and len(frame) >= at + len(MARK) + 4:
            refused = packet is not None and packet.is_error and packet.code != BIG[packet.version]
            counted = self.errors if refused else self.tokens
            counted[place, int.from_bytes(frame[at + len(MARK) :][:4], "big")] += 1
        if packet is None:
            return
        if packet.protocol in (TCP, UDP) and packet.sport is not None and packet.dport is not None:
            key = (packet.protocol, str(packet.src), packet.sport, str(packet.dst), packet.dport)
            self.tuples[place, key] += 1
        elif packet.is_icmp and packet.kind is not None and packet.ident is not None:
            self.answers[place, packet.kind, packet.ident] += 1
