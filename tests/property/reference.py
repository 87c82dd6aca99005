"""What was seen held to what was expected, frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from ovsnet.gateway import GATEWAY_MAC
from ovsnet.lab.expectation import Answer, Delivery, Expectation, Frame, Wire
from ovsnet.lab.headers import parse
from ovsnet.lab.segments import TCP, UDP, Segment, read
from ovsnet.model.types import Model
from tests.property.harness import TRAILER, Arrival, Cloud, Seen, tokened
from tests.property.packets import checksum, mac_bytes
from tests.property.world import endpoints_of

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """A frame to send, and in words what it is."""

    what: str
    frame: Frame


def compare(case: Case, expected: Delivery, seen: Seen) -> str | None:
    """``None`` if the frame went exactly where it must, else what differs, in one line."""
    copy = expected.routed or case.frame.data
    if expected.redirected is not None:
        copy = mac_bytes(expected.redirected) + copy[6:]
    lossy = not expected.certain
    problems = _wire_problems(copy, expected.wires, seen, lossy)
    if expected.answer is not None and expected.answer.by == "switch":
        problems += _answer_problems(case, expected.answer, seen)
    else:
        problems += _delivery_problems(copy, expected.copies, seen, lossy)
    if not problems:
        return None
    sent = f"{case.what} from {case.frame.sender} ({case.frame.data[:-TRAILER].hex()})"
    judged = ", ".join(f"{v.action} by {v.rules}" for v in (expected.egress, expected.ingress) if v is not None)
    return f"{sent}: expected {expected.reason} ({judged}): {'; '.join(problems)}"


def _wire_problems(copy: bytes, expected: Sequence[Wire], seen: Seen, may_be_lost: bool = False) -> list[str]:
    wanted = sorted((wire.source, wire.destination, wire.vni) for wire in expected)
    got = sorted((source, destination, vni) for source, destination, vni, _ in seen.wire)
    if got != wanted and not (may_be_lost and not got):
        return [f"on the wire {got} instead of {wanted}"]
    return [f"changed on the wire: {data.hex()}" for *_, data in seen.wire if data != copy]


def _delivery_problems(copy: bytes, receivers: Sequence[str], seen: Seen, may_be_lost: bool = False) -> list[str]:
    wanted = sorted(receivers)
    got = sorted(port for port, _ in seen.delivered)
    if got != wanted and not (may_be_lost and not got):
        return [f"delivered to {got} instead of {wanted}"]
    return [f"changed on the way: {data.hex()}" for _, data in seen.delivered if data != copy]


def _answer_problems(case: Case, answer: Answer, seen: Seen) -> list[str]:
    got = [port for port, _ in seen.delivered]
    if got != [case.frame.sender]:
        return [f"delivered to {got} instead of one answer to the sender"]
    data = seen.delivered[0][1]
    judges = {"arp": _arp_problem, "nd": _nd_problem, "echo": _echo_problem}
    problem = judges[answer.protocol](answer, case.frame, data)
    if data[-TRAILER:] != case.frame.data[-TRAILER:]:
        problem = "written behind the end of the packet"
    return [f"{problem}: {data.hex()}"] if problem else []


def _arp_problem(answer: Answer, request: Frame, data: bytes) -> str | None:
    """Hold an ARP reply to RFC 826: who answers for which address, and to whom."""
    reply, asked = parse(data), parse(request.data)
    if reply.arp_op != 2:
        return "no ARP reply"
    if (reply.src, reply.sender_mac, str(reply.ip_src)) != (answer.mac, answer.mac, answer.ip):
        return f"the reply is not from {answer.mac} for {answer.ip}"
    if (reply.target_mac, str(reply.target)) != (answer.to_mac, answer.to_ip) or reply.dst not in (
        asked.src,
        asked.sender_mac,
    ):
        return f"the reply is not to {answer.to_mac} {answer.to_ip}"
    return None


def _nd_problem(answer: Answer, request: Frame, data: bytes) -> str | None:
    """Hold an advertisement to RFC 4861, 7.2.4, hop limit, flags, option and checksum included."""
    reply = parse(data)
    if reply.icmp_type != 136 or reply.target is None:
        return "no neighbour advertisement"
    if (reply.src, str(reply.ip_src), str(reply.target)) != (answer.mac, answer.ip, answer.ip):
        return f"the advertisement is not from {answer.mac} for {answer.ip}"
    if (reply.dst, str(reply.ip_dst)) != (answer.to_mac, answer.to_ip):
        return f"the advertisement is not to {answer.to_mac} {answer.to_ip}"
    if reply.target_mac != answer.mac:
        return f"its link-layer option is not {answer.mac}"
    length = int.from_bytes(data[18:20], "big")
    message = data[54 : 54 + length]
    flags = 0xE0 if answer.mac == GATEWAY_MAC else 0x60
    if data[21] != 255 or message[4:8] != bytes((flags, 0, 0, 0)):
        return "its hop limit is not 255, or its flags are not solicited and override, with router for a gateway's"
    pseudo = data[22:54] + len(message).to_bytes(4, "big") + b"\0\0\0\x3a"
    return "its checksum is wrong" if checksum(pseudo + message) else None


def _echo_problem(answer: Answer, request: Frame, data: bytes) -> str | None:
    """Hold an echo reply to RFC 792 or RFC 4443, and to a TTL of 64; all of it, for nothing else may change."""
    if (data[:6].hex(":"), data[6:12].hex(":")) != (answer.to_mac, answer.mac):
        return f"the reply is not from {answer.mac} to {answer.to_mac}"
    asked, size = request.data, len(request.data) - TRAILER
    version, ttl_at, ends = (4, 22, 26) if asked[12:14] == b"\x08\x00" else (6, 21, 22)
    length = 4 if version == 4 else 16
    wanted = bytearray(asked[:size])
    wanted[:12] = data[:12]
    wanted[ends : ends + 2 * length] = asked[ends + length : ends + 2 * length] + asked[ends : ends + length]
    wanted[ttl_at] = 64
    at = asked.rindex(b"\0\1\0\1ping", 0, size) - 4
    wanted[at] = 0 if version == 4 else 129
    wanted[at + 2 : at + 4] = bytes(2)
    pseudo = b"" if version == 4 else bytes(wanted[22:54]) + (size - at).to_bytes(4, "big") + b"\0\0\0\x3a"
    wanted[at + 2 : at + 4] = checksum(pseudo + bytes(wanted[at:])).to_bytes(2, "big")
    if version == 4:
        wanted[24:26] = bytes(2)
        wanted[24:26] = checksum(bytes(wanted[14 : 14 + (wanted[14] & 15) * 4])).to_bytes(2, "big")
    return None if data[:size] == wanted else f"no echo reply, which is {wanted.hex()}"


Known = dict[object, list[int]]
"""Which of its choices a route may have taken for a pair of addresses, as far as has been seen."""


def settle(expectation: Expectation, case: Case, fate: Delivery, seen: Seen, known: Known) -> Delivery:
    """The one of several next hops that was taken, which has to be the one that it was before, if it was seen then."""
    packet = read(case.frame.data)
    if not fate.choices or packet is None:
        return fate
    key = case.frame.sender.split("/")[0], fate.route, frozenset((packet.src, packet.dst))
    open_to = known.get(key, list(range(len(fate.choices))))
    ifs = [expectation.chosen(case.frame, fate, choice, remember=False) for choice in fate.choices]
    fitting = [at for at in open_to if compare(case, ifs[at], seen) is None]
    if not fitting:
        return ifs[open_to[0]]
    known[key] = fitting
    return expectation.chosen(case.frame, fate, fate.choices[fitting[0]])


def run(cloud: Cloud, model: Model, cases: Sequence[Case]) -> list[str]:
    """Send every case through the cloud that ``model`` is installed in; returns what differs, a line each.

    Before, all connections are forgotten.
    """
    expectation = Expectation(model, nd_responder=cloud.nd_responder, endpoints=endpoints_of(model))
    cloud.forget_connections()
    found: list[str | None] = []
    known: Known = {}
    for part in rounds(cases, lambda case: case.frame.data):
        marked = [Case(c.what, Frame(c.frame.sender, tokened(c.frame.data, i))) for i, c in enumerate(part)]
        seen = cloud.send([case.frame for case in marked])
        for case, got in zip(marked, seen, strict=True):
            fate = settle(expectation, case, expectation.delivered(case.frame), got, known)
            found.append(compare(case, fate, got))
    return [problem for problem in found if problem is not None]


def rounds(sent: Sequence[T], data_of: Callable[[T], bytes]) -> Iterator[list[T]]:
    """What may be under way at once: an answer only after what it answers, since order decides who opened."""
    part: list[T] = []
    ways: dict[object, str] = {}
    for one in sent:
        packet = read(data_of(one))
        connection, way = _connection(packet) if packet is not None else (None, "")
        if connection is not None and ways.setdefault(connection, way) != way:
            yield part
            part, ways = [], {connection: way}
        part.append(one)
    if part:
        yield part


def _connection(packet: Segment) -> tuple[object, str]:
    """A name of the connection that a packet is of, the same for both directions, and which one it goes."""
    about = packet.about or packet
    ends = (about.src, about.sport), (about.dst, about.dport)
    if about.protocol not in (TCP, UDP) or about.part != "whole":
        ends = (about.src, None), (about.dst, None)
    way = "error" if packet.about else f"{ends[0]}"
    return (about.protocol, frozenset(ends)), way


def run_arrivals(cloud: Cloud, model: Model, arrivals: Sequence[Arrival]) -> list[str]:
    """Put frames on the wire, forged or not, and hold the hosts that they come to to the model."""
    expectation = Expectation(model, endpoints=endpoints_of(model))
    cloud.forget_connections()
    problems = []
    for part in rounds(arrivals, lambda arrival: arrival.data):
        marked = [replace(arrival, data=tokened(arrival.data, i)) for i, arrival in enumerate(part)]
        for arrival, seen in zip(marked, cloud.arrive(marked), strict=True):
            expected = expectation.arrived(arrival.host, arrival.vni, arrival.data)
            found = _delivery_problems(arrival.data, expected.copies, seen, not expected.certain)
            found += _wire_problems(arrival.data, (), seen)
            if found:
                sent = f"through the tunnel to {arrival.host}, VNI {arrival.vni} ({arrival.data[:-TRAILER].hex()})"
                problems.append(f"{sent}: expected {expected.reason}: {'; '.join(found)}")
    return problems


def run_strays(cloud: Cloud, frames: Sequence[Frame]) -> list[str]:
    """Send frames of ports from interfaces that are no port's: nobody may get them."""
    problems = []
    for frame in frames:
        data = tokened(frame.data, 0)
        for seen in cloud.stray(data):
            problems += _delivery_problems(data, (), seen) + _wire_problems(data, (), seen)
    return [f"from an interface of no port: {problem}" for problem in problems]
