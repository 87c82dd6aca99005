"""Frames that the lab sends, built octet by octet, and the token by which each is known wherever it turns up."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address, ip_address

TEST_PORT = 20310
_MAGIC = b"ovsnet:"
_UDP, _ICMPV6 = 17, 58
_TUNNELS = {struct.pack("!H", 4789): "vxlan", struct.pack("!H", 6081): "geneve"}
_BROADCAST = "ff:ff:ff:ff:ff:ff"


class Tokens:
    """Tokens of one run: ``nonce`` (8 octets) tells them from those of another run."""

    def __init__(self, nonce: bytes) -> None:
        self._mark = _MAGIC + nonce

    def make(self, number: int) -> bytes:
        """The payload that carries probe ``number``."""
        return self._mark + struct.pack("!I", number)

    def find(self, data: bytes) -> int | None:
        """The number of the probe that a frame carries, whatever is around it; ``None`` for a frame of no probe."""
        at = data.find(self._mark)
        end = at + len(self._mark)
        if at < 0 or len(data) < end + 4:
            return None
        return int.from_bytes(data[end : end + 4], "big")


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def mac_octets(mac: str) -> bytes:
    """The six octets of a MAC."""
    return bytes.fromhex(mac.replace(":", ""))


def _ethernet(dst: str, src: str, ethertype: int, payload: bytes) -> bytes:
    return mac_octets(dst) + mac_octets(src) + struct.pack("!H", ethertype) + payload


def _ip(src: str, dst: str, protocol: int, payload: bytes, hops: int) -> tuple[int, bytes]:
    """The ethertype and the IPv4 (RFC 791) or IPv6 (RFC 8200) packet."""
    source, destination = ip_address(src).packed, ip_address(dst).packed
    if len(source) == 16:
        return 0x86DD, struct.pack("!IHBB", 6 << 28, len(payload), protocol, hops) + source + destination + payload
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0, hops, protocol, 0) + source + destination
    return 0x0800, header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def _pseudo(src: str, dst: str, protocol: int, length: int) -> bytes:
    return ip_address(src).packed + ip_address(dst).packed + struct.pack("!II", length, protocol)


def udp(src_mac: str, dst_mac: str, src: str, dst: str, payload: bytes, sport: int = TEST_PORT) -> bytes:
    """A UDP datagram (RFC 768) to the lab's test port, over IPv4 or IPv6."""
    length = 8 + len(payload)
    body = struct.pack("!HHHH", sport, TEST_PORT, length, 0) + payload
    total = checksum(_pseudo(src, dst, _UDP, length) + body) or 0xFFFF
    ethertype, packet = _ip(src, dst, _UDP, body[:6] + struct.pack("!H", total) + payload, 64)
    return _ethernet(dst_mac, src_mac, ethertype, packet)


def echo_message(src: str, dst: str, identifier: int, payload: bytes) -> bytes:
    """An ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request, without the IP header."""
    kind = 128 if ":" in src else 8
    body = struct.pack("!BBHHH", kind, 0, 0, identifier, 1) + payload
    pseudo = _pseudo(src, dst, _ICMPV6, len(body)) if kind == 128 else b""
    return body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]


def resolution(src_mac: str, src: str, target: str) -> bytes:
    """A request for the MAC of ``target``: ARP (RFC 826) or a neighbour solicitation (RFC 4861)."""
    if ":" not in target:
        body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1) + mac_octets(src_mac) + IPv4Address(src).packed
        return _ethernet(_BROADCAST, src_mac, 0x0806, body + bytes(6) + IPv4Address(target).packed)
    wanted = IPv6Address(target).packed
    group = str(IPv6Address(b"\xff\x02" + bytes(9) + b"\x01\xff" + wanted[13:]))
    body = struct.pack("!BBHI", 135, 0, 0, 0) + wanted + b"\x01\x01" + mac_octets(src_mac)
    total = checksum(_pseudo(src, group, _ICMPV6, len(body)) + body)
    ethertype, packet = _ip(src, group, _ICMPV6, body[:2] + struct.pack("!H", total) + body[4:], 255)
    return _ethernet("33:33:ff:" + wanted[13:].hex(":"), src_mac, ethertype, packet)


def resolved(frame: bytes) -> tuple[str, str] | None:
    """The (IP, MAC) pair of an ARP reply or a neighbour advertisement; ``None`` for any other frame."""
    ethertype = frame[12:14]
    if ethertype == b"\x08\x06" and frame[20:22] == b"\0\2" and len(frame) >= 42:
        return str(IPv4Address(frame[28:32])), frame[22:28].hex(":")
    if ethertype == b"\x86\xdd" and frame[20:21] == b"\x3a" and frame[54:55] == b"\x88" and len(frame) >= 78:
        option = frame[78:86]
        mac = option[2:8] if option[:2] == b"\x02\x01" and len(option) == 8 else frame[6:12]
        return str(IPv6Address(frame[62:78])), mac.hex(":")
    return None


def advertised(frame: bytes) -> frozenset[str] | None:
    """The ranges that a router advertisement to all nodes is about (RFC 4861, 4.2); ``None`` for any other frame."""
    if frame[:6] != bytes.fromhex("333300000001") or frame[12:14] != b"\x86\xdd" or frame[20] != _ICMPV6:
        return None
    message, found = frame[54:], set()
    if message[:1] != b"\x86":
        return None
    options = message[16:]
    while len(options) >= 8 and options[1]:
        if options[0] == 3:
            found.add(f"{IPv6Address(options[16:32])}/{options[2]}")
        options = options[8 * options[1] :]
    return frozenset(found)


class Outer:
    """What the underlay sees of a frame: ``vxlan``, ``geneve``, ``neighbour`` (ARP, ND and MLD of VTEPs) or ``other``.

    For VXLAN (RFC 7348) and Geneve (RFC 8926): outer addresses, VNI and the inner frame.
    """

    __slots__ = ("destination", "inner", "kind", "source", "vni")

    def __init__(self, frame: bytes) -> None:
        self.kind, self.source, self.destination, self.vni, self.inner = "other", "", "", 0, b""
        ethertype = frame[12:14]
        if ethertype == b"\x08\x06":
            self.kind = "neighbour"
        elif ethertype == b"\x08\x00" and len(frame) >= 34:
            self.source, self.destination = str(IPv4Address(frame[26:30])), str(IPv4Address(frame[30:34]))
            self._upper(frame[23], frame[14 + (frame[14] & 15) * 4 :])
        elif ethertype == b"\x86\xdd" and len(frame) >= 54:
            self.source, self.destination = str(IPv6Address(frame[22:38])), str(IPv6Address(frame[38:54]))
            # MLD reports stand behind a hop-by-hop header (RFC 3810).
            hop_by_hop = frame[20] == 0
            self._upper(frame[54] if hop_by_hop else frame[20], frame[62 if hop_by_hop else 54 :])

    def _upper(self, protocol: int, body: bytes) -> None:
        kind = _TUNNELS.get(body[2:4]) if protocol == _UDP and len(body) >= 16 + 14 else None
        if kind:
            options = 4 * (body[8] & 0x3F) if kind == "geneve" else 0
            self.kind, self.vni, self.inner = kind, int.from_bytes(body[12:15], "big"), body[16 + options :]
        elif protocol == _ICMPV6 and body[:1] and (body[0] in {130, 131, 132, 143} or 133 <= body[0] <= 136):
            self.kind = "neighbour"
