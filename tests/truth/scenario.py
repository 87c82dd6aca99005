"""Scenarios: a model's groups and, written by hand, what every cell of the truth table must be. Pure.

A file ``scenarios/NAME.yaml`` has ``about`` (a sentence), ``groups`` and ``address_groups`` as in a model, ``ports``
(those of the table; a list is short for ``security_groups``), ``probes`` (what is tried in every direction between all
of them), ``families`` (4, 6, ll: the link-local addresses; default 4 and 6) and ``expect``:

    a,b -> c tcp 80, udp 53: allow by web.default_egress / db[0]
    any -> any icmp v4: drop

Verdicts are ``allow`` (there and back), ``oneway`` (it arrives, the answer does not), ``reject`` (an error comes back)
and ``drop``. ``by`` names a rule that decides at the sender's end and, behind ``/``, at the receiver's:
``GROUP[INDEX]``, ``GROUP.default_egress``, ``none`` (no rule matches) or ``-`` (nothing is filtered). Later lines win;
what no line says is ``otherwise`` (drop). ``streams`` are connections that stay open, ``s: a -> c tcp 80 client`` (or
``server``: who sends), opened by a step's ``open``; ``live`` says whether they flow or stall, ``errors`` which ICMP
errors arrive. ``others`` are ports without a workload. ``then`` lists further steps, each of
which says what it changes (``null`` removes).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from ovsnet.lab.headers import link_local
from ovsnet.model import Lock, assign, load

Family = Literal["4", "6", "ll"]
Verdict = Literal["allow", "oneway", "reject", "drop"]
SCENARIOS = Path(__file__).parent / "scenarios"
PORTS = {"a": "hv1", "b": "hv1", "c": "hv2", "d": "hv2", "e": "hv1", "f": "hv2"}
"""The workloads of the one lab, and their hosts."""
FIRST_ADDRESS = 11
LINE = re.compile(r"(?P<src>\S+) -> (?P<dst>\S+) (?P<services>.+?)(?: v(?P<family>4|6|ll))?")
SAID = re.compile(r"(?P<verdict>allow|oneway|reject|drop)(?: by (?P<egress>\S+)(?: / (?P<ingress>\S+))?)?")
STREAM = re.compile(
    r"(?P<src>\w) -> (?P<dst>\w) (?P<protocol>tcp|udp) (?P<port>\d+) (?P<pushes>client|server)(?: v(?P<family>6))?"
)
ERROR = re.compile(r"(?P<src>\w) -> (?P<dst>\w) about (?P<about>.+)")


@dataclass(frozen=True, order=True)
class Service:
    """What is tried: ``tcp``, ``udp``, ``icmp``, ``sctp``, ``proto``, ``fragments`` or ``closed``, and a number."""

    kind: str
    number: int

    def __str__(self) -> str:
        return f"{self.kind} {self.number}"

    @property
    def portless(self) -> bool:
        """Whether connection trackers know one connection of it between two addresses, whoever opens it."""
        return self.kind in ("sctp", "proto")


@dataclass(frozen=True, order=True)
class Cell:
    """One entry of the truth table."""

    src: str
    dst: str
    service: Service
    family: Family

    def __str__(self) -> str:
        return f"{self.src} -> {self.dst} {self.service} v{self.family}"


@dataclass(frozen=True)
class Said:
    """What a cell must be, and the rules that decide at the sender's end and at the receiver's, where that is said."""

    verdict: Verdict
    egress: str | None = None
    ingress: str | None = None

    def __str__(self) -> str:
        return self.verdict + "".join(
            f" {word} {rule}" for word, rule in (("by", self.egress), ("/", self.ingress)) if rule
        )


@dataclass(frozen=True)
class Stream:
    """A connection that stays open; ``pushes`` says which end sends all the time."""

    name: str
    src: str
    dst: str
    protocol: str
    port: int
    pushes: str
    family: Family


@dataclass(frozen=True)
class Error:
    """An ICMP error (packet too big) from ``src`` to ``dst`` about a stream, or about a packet to a port that nobody
    ever sent."""

    src: str
    dst: str
    stream: str | None
    port: int
    arrives: bool


@dataclass(frozen=True)
class Step:
    """The model at one moment, and what must be true then."""

    vpc: Mapping[str, Any]
    cells: Mapping[Cell, Said]
    open: tuple[str, ...] = ()
    live: Mapping[str, bool] = field(default_factory=dict)
    errors: tuple[Error, ...] = ()
    about: str = ""


@dataclass(frozen=True)
class Scenario:
    """One file; ``kernel``: it is true of the kernel's datapath alone."""

    name: str
    about: str
    streams: Mapping[str, Stream]
    steps: tuple[Step, ...]
    kernel: bool = False


KEYS = {"about", "groups", "address_groups", "ports", "probes", "families", "expect", "otherwise", "streams", "then",
        "open", "live", "errors", "others", "kernel"}  # fmt: skip


def addresses(port: str) -> tuple[str, str]:
    """The IPv4 and the IPv6 address of a port of the table."""
    number = FIRST_ADDRESS + list(PORTS).index(port)
    return f"192.168.7.{number}", f"2001:db8:7::{number}"


def mac(port: str) -> str:
    """The MAC of a port of the table."""
    return f"02:00:00:00:07:{FIRST_ADDRESS + list(PORTS).index(port):02x}"


def address(port: str, family: Family) -> str:
    """The address of a port of the table in a family."""
    return str(link_local(mac(port))) if family == "ll" else addresses(port)[family == "6"]


def read(file: Path) -> Scenario:
    """The scenario in a file. Raises ValueError for a line that says nothing sensible."""
    text = yaml.safe_load(file.read_text())
    unknown = [key for one in (text, *text.get("then", ())) for key in one if key not in KEYS]
    if unknown:
        raise ValueError(f"{file.name}: {unknown[0]} is no word of a scenario")
    streams = {name: _stream(name, line) for name, line in text.get("streams", {}).items()}
    steps: list[Step] = []
    before: dict[str, dict[str, Any]] = {"groups": {}, "address_groups": {}, "ports": {}, "others": {}}
    inherited: dict[str, Any] = {}
    for one in (text, *text.get("then", ())):
        for key, had in before.items():
            had.update(one.get(key, {}))
        inherited |= {key: one[key] for key in ("probes", "families", "expect", "otherwise") if key in one}
        steps.append(_step(file.name, before, inherited, one, streams))
    return Scenario(file.stem, text["about"], streams, tuple(steps), text.get("kernel", False))


def _step(
    file: str, so_far: Mapping[str, Mapping[str, Any]], said: Mapping[str, Any], one: Mapping[str, Any],
    streams: Mapping[str, Stream],
) -> Step:  # fmt: skip
    ports = so_far["ports"]
    declared = {name: _port(name, ports.get(name, [])) for name in PORTS}
    groups = {name: group for name, group in so_far["groups"].items() if group is not None}
    vpc = {
        "networks": {"net": {"vni": 7007, "subnets": [{"cidr": "192.168.7.0/24"}, {"cidr": "2001:db8:7::/64"}]}},
        "security_groups": groups,
        "address_groups": {name: has for name, has in so_far["address_groups"].items() if has is not None},
        "ports": {**declared, **{name: port for name, port in so_far["others"].items() if port is not None}},
    }  # fmt: skip
    probes = [_service(file, text) for text in said.get("probes", ())]
    families: tuple[Family, ...] = tuple(str(each) for each in said.get("families", (4, 6)))  # type: ignore[misc]
    cells = _cells(file, tuple(ports), probes, families, said)
    errors = tuple(_error(file, line, verdict == "arrives", streams) for line, verdict in one.get("errors", {}).items())
    live = {name: {"flows": True, "stalls": False}[how] for name, how in one.get("live", {}).items()}
    return Step(vpc, cells, tuple(one.get("open", ())), live, errors, one.get("about", ""))


def _port(name: str, said: Any) -> dict[str, Any]:
    more = dict(said) if isinstance(said, dict) else {"security_groups": said}
    return {"network": "net", "host": PORTS[name], "mac": mac(name), "ips": list(addresses(name)), **more}


def _cells(
    file: str, ports: tuple[str, ...], probes: Iterable[Service], families: tuple[Family, ...], said: Mapping[str, Any]
) -> dict[Cell, Said]:
    cells = {
        Cell(src, dst, service, family): _said(file, said.get("otherwise", "drop"))
        for src in ports
        for dst in ports
        for service in probes
        for family in families
        if src != dst and _has(service, family)
    }
    for line, verdict in said.get("expect", {}).items():
        found = LINE.fullmatch(line)
        if found is None:
            raise ValueError(f"{file}: {line!r} is no FROM -> TO SERVICE")
        services = (
            set(probes) if found["services"] == "*" else {_service(file, s) for s in found["services"].split(", ")}
        )
        meant = [
            cell
            for cell in cells
            if _named(cell.src, found["src"]) and _named(cell.dst, found["dst"]) and cell.service in services
            and found["family"] in (None, cell.family)
        ]  # fmt: skip
        if not meant or services - set(probes):
            raise ValueError(f"{file}: {line!r} names no cell of the table")
        cells |= dict.fromkeys(meant, _said(file, verdict))
    return cells


def _named(name: str, wanted: str) -> bool:
    return wanted == "any" or name in wanted.split(",")


def _has(service: Service, family: Family) -> bool:
    """ICMP's types belong to one family: those of ICMPv6 that are probed are 128 and above."""
    return service.kind != "icmp" or (service.number >= 100) == (family != "4")


def _service(file: str, text: str) -> Service:
    kind, _, number = text.partition(" ")
    if kind not in {"tcp", "udp", "icmp", "sctp", "proto", "fragments", "closed"} or not number.isdigit():
        raise ValueError(f"{file}: {text!r} is no service")
    return Service(kind, int(number))


def _said(file: str, text: str) -> Said:
    found = SAID.fullmatch(text)
    if found is None:
        raise ValueError(f"{file}: {text!r} is no verdict")
    return Said(found["verdict"], found["egress"], found["ingress"])  # type: ignore[arg-type]


def _stream(name: str, line: str) -> Stream:
    found = STREAM.fullmatch(line)
    if found is None:
        raise ValueError(f"{line!r} is no stream")
    family: Family = "6" if found["family"] else "4"
    return Stream(name, found["src"], found["dst"], found["protocol"], int(found["port"]), found["pushes"], family)


def _error(file: str, line: str, arrives: bool, streams: Mapping[str, Stream]) -> Error:
    found = ERROR.fullmatch(line)
    if found is None:
        raise ValueError(f"{file}: {line!r} is no FROM -> TO about STREAM")
    stream = found["about"] if found["about"] in streams else None
    return Error(found["src"], found["dst"], stream, 0 if stream else int(found["about"].split()[1]), arrives)


def model_text(step: Step) -> str:
    """The whole model of a step, as a user would write it."""
    hosts = {"hv1": {"vtep": "10.0.0.11"}, "hv2": {"vtep": "10.0.0.12"}}
    return yaml.safe_dump({"version": 1, "name": "truth", "hosts": hosts, "vpcs": {"t": dict(step.vpc)}})


def model_of(step: Step, directory: Path) -> Any:
    """The model of a step, loaded and checked as a user's; ``directory`` holds the file. Raises ModelError."""
    file = directory / "model.yaml"
    file.write_text(model_text(step))
    return assign(load([file]), Lock())[0]


def named(name: str) -> Scenario:
    """One scenario, by its file's name without the suffix."""
    return read(SCENARIOS / f"{name}.yaml")


def all_scenarios() -> list[Scenario]:
    """Every scenario, by name."""
    return [read(file) for file in sorted(SCENARIOS.glob("*.yaml"))]
