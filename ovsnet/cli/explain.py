"""``ovsnet explain``: whether a packet arrives, which rule decides, and what would turn the answer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ovsnet.cli.common import AsJson, SiteFile, console, print_json
from ovsnet.cli.live import LabName, Receiver, Sender, Socket
from ovsnet.errors import EXIT_NO, UserError

if TYPE_CHECKING:
    from ovsnet.cli.doubts import Doubts
    from ovsnet.cli.live import Sight
    from ovsnet.model.loader import Placed
    from ovsnet.reasons import Answer, Edit, End, Probe


def explain_command(
    source: Sender,
    target: Receiver,
    *,
    model: Annotated[
        list[Path] | None, typer.Option("--model", "-m", help="Model files; left out: what the lab or the agent has.")
    ] = None,
    tcp: Annotated[int | None, typer.Option("--tcp", min=0, max=65535, help="TCP, to this port.")] = None,
    udp: Annotated[int | None, typer.Option("--udp", min=0, max=65535, help="UDP, to this port.")] = None,
    sctp: Annotated[int | None, typer.Option("--sctp", min=0, max=65535, help="SCTP, to this port.")] = None,
    icmp: Annotated[
        str | None, typer.Option("--icmp", metavar="TYPE[/CODE]", help="ICMP or ICMPv6; left out: an echo request.")
    ] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", metavar="NAME|NUMBER", help="Another IP protocol.")
    ] = None,
    family: Annotated[int, typer.Option("--family", min=0, max=6, help="4 or 6, where both ports have both.")] = 0,
    live: Annotated[bool, typer.Option("--live", help="Also ask the hosts' switches, and say where they differ.")] = (
        False
    ),
    lab: LabName = None,
    socket: Socket = None,
    site: SiteFile = None,
    as_json: AsJson = False,
) -> None:
    """Say whether a packet arrives, which rule of the model decides at which end, and the smallest change to turn that.

    Exit code 0: allowed; 1: not, or (with --live) a switch differs or does not answer.

    Examples: ovsnet explain shop/web1 shop/db1 --tcp 3306 -m shop.yaml · ovsnet explain web1 192.168.1.9 --live
    """
    from ovsnet.cli.live import sight
    from ovsnet.model.loader import load_placed

    probe = probe_of(tcp, udp, sctp, icmp, protocol, family)
    if model and (lab is not None or socket is not None) and not live:
        raise UserError("a model and a running lab or agent are given. Add --live to compare them, or leave one out.")
    read = load_placed(model, site) if model else None
    seen = sight(None, lab, socket, None) if read is None or live else None
    answer, doubts = _judge(read, seen, live, source, target, probe)
    if as_json:
        print_json(_data(answer, doubts, live))
    else:
        _print(answer, doubts)
    if not answer.allowed or doubts.any:
        raise typer.Exit(EXIT_NO)


def _judge(
    read: Placed | None, seen: Sight | None, live: bool, source: str, target: str, probe: Probe
) -> tuple[Answer, Doubts]:
    """The answer for the model that was read, or else for what is running; and where the switches differ from it."""
    from ovsnet.cli.doubts import look, nothing
    from ovsnet.model.names import resolve_port
    from ovsnet.reasons import explain, placed
    from ovsnet.trace import places

    declared = read.model if read is not None else seen.model  # type: ignore[union-attr]
    source = resolve_port(declared, source)
    if not _is_address(target):
        target = resolve_port(declared, target)
    at = seen.places if read is None and seen is not None else places(declared)
    answer, found = explain(declared, at, source, target, probe)
    answer = answer if read is None else placed(answer, read.root)
    if not (live and seen):
        return answer, nothing()
    return answer, look(seen, found if read is None else None, answer, source, target, probe)


def probe_of(
    tcp: int | None, udp: int | None, sctp: int | None, icmp: str | None, protocol: str | None, family: int
) -> Probe:
    """The packet that the options describe. Raises UserError for two of them, and for what is no packet."""
    from ovsnet.model.rules import PROTOCOLS
    from ovsnet.reasons import Probe

    given = {"tcp": tcp, "udp": udp, "sctp": sctp, "icmp": icmp, "protocol": protocol}
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        raise UserError(f"--{named[0]} and --{named[1]} exclude each other. Give one.")
    if family not in {0, 4, 6}:
        raise UserError(f"--family {family} is no IP version. Give 4 or 6.")
    for name, port in (("tcp", tcp), ("udp", udp), ("sctp", sctp)):
        if port is not None:
            return Probe(name, port, None, family)
    if icmp is not None:
        kind, slash, code = icmp.partition("/")
        numbers = (kind, code) if slash else (kind, "0")
        if not all(one.isdigit() and int(one) < 256 for one in numbers):
            raise UserError(f"--icmp {icmp} is no type and code. Give two numbers of 0 to 255, such as 8/0.")
        return Probe("icmp", 0, (int(numbers[0]), int(numbers[1])), family)
    if protocol is None:
        return Probe(family=family)
    number = int(protocol) if protocol.isdigit() else PROTOCOLS.get(protocol.lower(), 256)
    if number > 255:
        raise UserError(f"--protocol {protocol} is not known. Give a name of /etc/protocols, or a number of 0 to 255.")
    return Probe(number, 0, None, family)


def _is_address(text: str) -> bool:
    return ":" in text or text.replace(".", "").isdigit()


def _data(answer: Answer, doubts: Doubts, live: bool) -> dict[str, Any]:
    import msgspec

    data: dict[str, Any] = msgspec.to_builtins(answer)
    return data | ({"live": msgspec.to_builtins(doubts)} if live else {})


_COLOURS = {"allow": "green", "unfiltered": "green", "exempt": "green"}
_WORDS = {
    "allow": "allows it", "drop": "drops it", "reject": "rejects it", "refuse": "no rule allows it",
    "unfiltered": "does not filter (port_security: false)", "exempt": "is not asked about it",
}  # fmt: skip


def _print(answer: Answer, doubts: Doubts) -> None:
    from rich.text import Text

    from ovsnet.reasons import REASONS

    out = console()
    word = Text("allowed", "bold green") if answer.allowed else Text("not allowed", "bold red")
    out.print(word, Text(f"{answer.source} -> {answer.target}  {answer.packet}"))
    if not answer.allowed:
        out.print(Text(f"  {answer.reason}: {answer.text.rstrip('.')}. {REASONS[answer.reason].remedy}".rstrip()))
    for end in answer.ends:
        out.print(_end_text(end))
        if end is answer.ends[0] and answer.route:
            out.print(Text(f"  routed   by {answer.route}"))
    for port in answer.stateless:
        out.print(Text(f"  {port} is stateless: what answers it needs a rule of its own", "yellow"))
    verb = "stop" if answer.allowed else "allow"
    for index, edits in enumerate([answer.change, *answer.alternatives] if answer.change else []):
        out.print(Text(f"  {'or' if index else f'to {verb} it'}: ").append(_edits_text(edits), "cyan"))
    for line in doubts.lines():
        out.print(Text(f"  {line}", "red" if doubts.any else "dim"))


def _end_text(end: End) -> Any:
    from rich.text import Text

    from ovsnet.errors import place_text
    from ovsnet.reasons import flow_style

    text = Text(f"  {end.direction:<7}  {end.port} on {end.host}: ")
    text.append(f"{end.object} " if end.object else "").append(_WORDS[end.verdict], _COLOURS.get(end.verdict, "red"))
    place = place_text(end.file, end.line, end.column)
    text.append(f"  {flow_style(end.rule)}" if end.rule else "")
    return text.append(f"  ({place})" if place else "", "dim")


def _edits_text(edits: tuple[Edit, ...]) -> str:
    return "; ".join(str(edit) for edit in edits)
