"""What ``./demo`` shows: a cloud comes up, is what its model says, and stays so while an agent dies."""

from __future__ import annotations

import contextlib
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from ovsnet.errors import UserError
from ovsnet.lab.lab import Lab, down
from ovsnet.lab.ovs import OvsError
from ovsnet.lab.traffic import Traffic
from ovsnet.model import Lock, Model, assign, load
from ovsnet.pipeline.render import flow_text
from ovsnet.trace import Trace, places, trace

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
            self._say(
                f"   {hosts} hosts, each a namespace with its own Open vSwitch and agent; two tenants, red and blue, "
                f"with the very same\n   MAC and IP addresses on {ports} ports: up in {time.monotonic() - started:.1f} s."
            )
            self._matrix(lab)
            self._traces(self._model)
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
        self._say(
            "[bold]2. Who reaches whom[/bold]: real packets from every port to every other, counted where they arrive"
        )
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
        for line in [f"{e.pair.src} to {e.pair.dst}: {e.faults[0]}" for e in result.wrong][:5] + result.stray[:5]:
            self._say(f"     [red]{escape(line)}[/red]")

    def _traces(self, model: Model) -> None:
        compiled = places(model)
        self._say("[bold]3. One packet's way[/bold], red/web1 to red/web3 on another host, by table")
        found = trace(model, compiled, "red/web1", "red/web3")
        self._way(found)
        self._verdict(found.delivered, found.reason)
        self._say("[bold]4. A packet to the other tenant[/bold], red/web1 to blue/db1")
        found = trace(model, compiled, "red/web1", "blue/db1")
        self._way(found)
        self._verdict(not found.delivered and not found.reached, found.reason)

    def _way(self, found: Trace) -> None:
        for hop in found.hops[1:] or found.hops:
            for number, step in enumerate(hop.walk.steps):
                text = flow_text(step.flow.row).split(" ", 1)[1]
                text = text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
                self._say(f"   {hop.host if number == 0 else '':<4} {step.table.name:<14} [dim]{escape(text)}[/dim]")

    def _kill(self, lab: Lab) -> None:
        self._say("[bold]5. An agent dies under traffic[/bold]: 100 packets a second each way between hv1 and hv3")
        with Traffic(lab, [("red/web1", "red/web3"), ("red/web3", "red/web1")]) as traffic:
            time.sleep(0.5)
            lab.kill_agent("hv1")
            time.sleep(1.0)
            lab.start_agent("hv1")
            enforced = lab.wait_enforced(timeout=15.0)
            time.sleep(0.5)
        doubled = sum(one.doubled + one.elsewhere for one in traffic.counts.values())
        self._verdict(
            enforced and traffic.lost == 0 and doubled == 0,
            f"agent of hv1 killed and started again: {traffic.sent} packets sent, {traffic.lost} lost, {doubled} doubled",
        )

    def _keep(self) -> None:
        self._say("[bold]Now you[/bold]: keep a lab, edit one line, and see it happen")
        model = MODEL.relative_to(MODEL.parents[2])
        for line in (
            "sudo -s; source .venv/bin/activate",
            f"cp {model} /tmp/my.yaml; ovsnet lab up /tmp/my.yaml",
            "ovsnet lab exec red/web1 -- ping -c3 192.168.1.13",
            "sed -i 's/web3: {network: web/web3: {network: db/' /tmp/my.yaml   # or with your editor",
            "ovsnet plan /tmp/my.yaml; ovsnet lab up /tmp/my.yaml; ovsnet lab test; ovsnet lab down",
        ):
            self._say(f"   [cyan]{escape(line)}[/cyan]")


def clean_up(name: str) -> None:
    """Remove what a killed demo left; nothing there is fine."""
    with contextlib.suppress(UserError):
        down(name)


def main(name: str) -> int:
    """Tell the story; returns 0 if all was as declared, 1 if not, 2 for a mistake in how it was started."""
    console = Console(soft_wrap=True, highlight=False)
    started = time.monotonic()
    try:
        ok = Story(name, console).tell()
    except UserError as error:
        Console(stderr=True, soft_wrap=True).print(str(error), markup=False)
        return 2
    except OvsError as error:
        Console(stderr=True, soft_wrap=True).print(f"Open vSwitch: {error}", markup=False)
        return 1
    console.print(
        f"[bold]{'All as declared' if ok else 'NOT as declared'}[/bold] in {time.monotonic() - started:.0f} s."
    )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
