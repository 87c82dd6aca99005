"""What ``./demo`` shows: a cloud comes up, is what its model says, and stays so while an agent dies."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ovsnet.errors import UserError
from ovsnet.facts import Facts
from ovsnet.lab.host import INTEGRATION
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.traffic import Traffic
from ovsnet.model import Lock, assign, load
from ovsnet.pipeline.render import flow_text
from ovsnet.trace import Trace, agrees, places, questions, trace

MODEL = Path(__file__).resolve().parents[2] / "examples/models/demo.yaml"
_SHOWN = 70


class Story:
    """One run of the demo; ``ok`` turns false with the first thing that is not as declared."""

    def __init__(self, name: str, console: Console) -> None:
        self.name, self.console, self.ok = name, console, True
        self._model, _ = assign(load([MODEL]), Lock())

    def tell(self) -> bool:
        """Bring the lab up, show everything, take it down; returns whether all was as declared."""
        started = time.monotonic()
        self._say(f"[bold]1. A cloud on this machine[/bold], from {MODEL.relative_to(MODEL.parents[2])}")
        lab = Lab.up(self._model, self.name)
        try:
            hosts, ports = len(self._model.hosts), len(lab.topology.workloads)
            took = time.monotonic() - started
            self._say(
                f"   {hosts} hosts, each a namespace with its own Open vSwitch and agent; two tenants, red and blue,\n"
                f"   with the very same MAC and IP addresses on {ports} ports: up in {took:.1f} s."
            )
            self._matrix(lab)
            self._traces(lab)
            self._kill(lab)
        finally:
            lab.down()
        self._keep()
        return self.ok

    def _say(self, text: str) -> None:
        self.console.print(text)

    def _verdict(self, good: bool, text: str) -> None:
        self.ok &= good
        mark = "[green]✓[/green]" if good else "[bold red]✗[/bold red]"
        self._say(f"   {mark} {escape(text)}")

    def _matrix(self, lab: Lab) -> None:
        self._say("[bold]2. Who reaches whom[/bold]: packets from every port to every other, counted where they arrive")
        result = lab.test()
        total, good = len(result.entries), len(result.entries) - len(result.wrong)
        self._verdict(
            good == total > 0,
            f"{good} of {total} as declared, {result.allowed} allowed, {total - result.allowed} forbidden",
        )
        self._verdict(
            not result.stray, f"{result.nowhere} packets to undeclared destinations; arrived: {len(result.stray)}"
        )
        self._verdict(not result.unknown, f"unknown frames on the wire: {len(result.unknown)}")
        for line in [f"{e.pair.src} to {e.pair.dst}: {e.faults[0]}" for e in result.wrong][:5] + [
            *result.stray,
            *result.unknown,
        ][:5]:
            self._say(f"     [red]{escape(line)}[/red]")

    def _traces(self, lab: Lab) -> None:
        model, compiled = lab.model, places(lab.model, {name: _facts(lab, name) for name in lab.topology.hosts})
        self._say("[bold]3. One packet's way[/bold], red/web1 to red/web3 on another host, by the model's flows")
        found = trace(model, compiled, "red/web1", "red/web3")
        self._way(lab, found)
        self._verdict(found.delivered, found.reason)
        self._say("[bold]4. A packet to the other tenant[/bold], red/web1 to blue/db1")
        found = trace(model, compiled, "red/web1", "blue/db1")
        self._way(lab, found)
        self._verdict(not found.delivered and not found.reached, found.reason)

    def _way(self, lab: Lab, found: Trace) -> None:
        """Print the way by table, and ask every switch on it whether its own trace goes through the same flows."""
        for hop in found.hops[1:]:
            for number, step in enumerate(step for step in hop.walk.steps if step.flow.row.values):
                text = flow_text(step.flow.row).split(" ", 2)[2]
                text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
                self._say(f"   {hop.host if number == 0 else '':<4} {step.table.name:<14} [dim]{escape(text)}[/dim]")
            outputs = [lab.ovs(hop.host).appctl(*question) for question in questions(hop, INTEGRATION)]
            if not agrees(hop, outputs):
                self._verdict(False, "\n".join((f"ovs-vswitchd of {hop.host} takes another way:", *outputs)))

    def _kill(self, lab: Lab) -> None:
        self._say("[bold]5. An agent dies under traffic[/bold]: 100 packets a second, each way between hv1 and hv3")
        with Traffic(lab, [("red/web1", "red/web3"), ("red/web3", "red/web1")]) as traffic:
            time.sleep(0.5)
            lab.kill_agent("hv1")
            time.sleep(1.0)
            lab.start_agent("hv1")
            missing = lab.wait_enforced(timeout=15.0)
            time.sleep(0.5)
        doubled = sum(one.doubled + one.elsewhere for one in traffic.counts.values())
        counted = f"{traffic.sent} packets sent, {traffic.lost} lost, {doubled} doubled"
        good = not missing and traffic.lost == 0 and doubled == 0
        self._verdict(good, f"agent of hv1 killed and started again: {counted}")

    def _keep(self) -> None:
        self._say("[bold]Now you[/bold]: keep a lab, edit one line, and see it happen")
        model = MODEL.relative_to(MODEL.parents[2])
        for line in (
            f"cp {model} /tmp/my.yaml && sudo .venv/bin/ovsnet lab up /tmp/my.yaml",
            "sudo .venv/bin/ovsnet lab exec red/web1 -- ping 192.168.1.13        # leave it running",
            "sed -i '/web3:/s/host: hv3/host: hv1/' /tmp/my.yaml                 # elsewhere: web3 moves to hv1",
            "sudo .venv/bin/ovsnet lab up /tmp/my.yaml && sudo .venv/bin/ovsnet lab test",
            "sudo .venv/bin/ovsnet lab down",
        ):
            self._say(f"   [cyan]{escape(line)}[/cyan]")


def _facts(lab: Lab, host: str) -> Facts:
    """What the host's agent knows of its switch."""
    with lab.agent(host) as client:
        seen = client.host()
    return Facts(
        {port["id"]: port["ofport"] for port in seen["ports"] if port["bound"]},
        seen["tunnel_ofport"],
        zones={port["id"]: port["zone"] for port in seen["ports"] if port["zone"]},
    )


def clean_up(name: str) -> None:
    """Remove what a killed demo left; nothing there is fine."""
    with contextlib.suppress(UserError):
        down(name)


def main(name: str) -> int:
    """Tell the story; returns 0 if all was as declared, 1 if not, 2 or 3 for what stopped it, 130 for Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(soft_wrap=True, highlight=False)
    started = time.monotonic()
    try:
        ok = Story(name, console).tell()
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False)
        return error.exit_code
    except KeyboardInterrupt:
        Console(stderr=True).print("Interrupted: the lab is removed.")
        return 130
    console.print(
        f"[bold]{'All as declared' if ok else 'NOT as declared'}[/bold] in {time.monotonic() - started:.0f} s."
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
