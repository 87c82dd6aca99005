"""What the independent reading of the model says of a truth table's cells: who wrote both are held to each other."""

from __future__ import annotations

from collections.abc import Mapping

from ovsnet.lab import segments
from ovsnet.lab.expectation import Delivery, Expectation, Frame
from ovsnet.lab.filtering import Verdict as Judged
from ovsnet.model.types import Model
from tests.property import packets as p
from tests.truth import wire
from tests.truth.scenario import Cell, Said, Verdict, address, mac

PROTOCOLS = {"tcp": segments.TCP, "udp": segments.UDP, "closed": segments.UDP, "fragments": segments.UDP,
             "sctp": segments.SCTP}  # fmt: skip
SYN, SYN_ACK, PORT = 2, 18, 33333


def problems(model: Model, cells: Mapping[Cell, Said]) -> list[str]:
    """Where the reading differs from what the scenario says, a line each: the outcome, or the rules that decide."""
    found, meaning = [], Expectation(model)
    for cell, said in cells.items():
        meaning.forget()
        outcome, request = judge(meaning, cell)
        if outcome != said.verdict:
            found.append(f"{cell}: the reading says {outcome}, the scenario {said}")
        found += [f"{cell}: {line}" for line in _rule_problems(request, said)]
    return found


def judge(meaning: Expectation, cell: Cell) -> tuple[Verdict, Delivery]:
    """What comes of a cell, and the fate of its first packet."""
    forth, back = _packets(cell)
    request = meaning.delivered(Frame(f"t/{cell.src}", forth))
    refused = next((v for v in (request.egress, request.ingress) if v is not None and not v.passes), None)
    if request.receiver is None:
        return ("reject" if refused is not None and refused.action == "reject" else "drop"), request
    if back is None:
        return "allow", request
    reply = meaning.delivered(Frame(f"t/{cell.dst}", back))
    if reply.receiver is None:
        return "oneway", request
    return ("reject" if cell.service.kind == "closed" else "allow"), request


def _rule_problems(fate: Delivery, said: Said) -> list[str]:
    ends = (("egress", fate.egress, said.egress), ("ingress", fate.ingress, said.ingress))
    return [
        f"{direction} is decided by {_names(judged)}, not by {wanted}"
        for direction, judged, wanted in ends
        if wanted is not None and wanted not in _names(judged)
    ]


def _names(judged: Judged | None) -> tuple[str, ...]:
    return ("-",) if judged is None else judged.rules or ("none",)


def _packets(cell: Cell) -> tuple[bytes, bytes | None]:
    """The first packet of a cell, and the answer to it; ``None`` if there is none to wait for."""
    src, dst = address(cell.src, cell.family), address(cell.dst, cell.family)
    service, macs = cell.service, (mac(cell.dst), mac(cell.src))
    kind = service.kind
    if kind == "icmp":
        protocol = 58 if ":" in src else 1
        forth = wire.icmp(src, dst, service.number, 7, b"")
        answer = {8: 0, 13: 14, 128: 129}.get(service.number)
        back = None if answer is None else wire.icmp(dst, src, answer, 7, b"")
        return _frame(macs, src, dst, forth, protocol), back and _frame(macs[::-1], dst, src, back, protocol)
    if kind == "proto":
        return tuple(
            _frame(m, *ends, b"12345678", service.number) for m, ends in ((macs, (src, dst)), (macs[::-1], (dst, src)))
        )  # type: ignore[return-value]
    there, here = _upper(kind, PORT, service.number, SYN), _upper(kind, service.number, PORT, SYN_ACK)
    protocol = PROTOCOLS[kind]
    forth = _frame(macs, src, dst, there, protocol)
    if kind == "closed":
        quoted = forth[14:]
        error = b"\x01\x04" if ":" in src else b"\x03\x03"
        return forth, _frame(macs[::-1], dst, src, error + bytes(6) + quoted, 58 if ":" in src else 1)
    return forth, _frame(macs[::-1], dst, src, here, protocol)


def _upper(kind: str, sport: int, dport: int, flags: int) -> bytes:
    if kind == "tcp":
        return p.tcp(sport, dport)[:13] + bytes([flags]) + p.tcp()[14:]
    return wire.sctp(sport, dport, b"") if kind == "sctp" else p.udp(b"", sport, dport)


def _frame(macs: tuple[str, ...], src: str, dst: str, body: bytes, protocol: int) -> bytes:
    ethertype, packet = p.ip(src, dst, body, protocol)
    return p.ethernet(macs[0], macs[1], ethertype, packet)
